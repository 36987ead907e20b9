"""A Flink cluster whose task managers are killed and replaced by order: a job manager, a SQL gateway, and task managers with 1 slot each.

Usage: recovery.py FOLDER; FOLDER is what setup.sh printed. The first line on standard input is
{"task_managers": N, "parallelism": N, "settings": {KEY: VALUE}, "statements": [STATEMENT...]}, the last statement an INSERT; it is answered when all its tasks run.
Then each line is a command, answered by a line of JSON: "checkpoint" gives the newest completed one, "kill INDEX" kills a task manager with
SIGKILL, starts another in its place, and gives the time of the kill, "rescale N" has the job's tasks run N times. The end of the input stops everything. Standard library only.
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

from flink import Cluster, free_port, http, wait_for


class Recovering(Cluster):
    """Each task manager keeps its resource id and its working folder over the restart of its process: local recovery needs both."""

    def __init__(self, folder, work, request):
        super().__init__(folder, work)
        self.request = request
        self.task_managers = [None] * request["task_managers"]
        self.ports = [free_port() for _ in self.task_managers]
        self.job = None

    def settings(self):
        common = {
            # The stock size.
            "taskmanager.memory.process.size": "1728m",
            "taskmanager.numberOfTaskSlots": 1,
            "parallelism.default": self.request["parallelism"],
            "execution.checkpointing.local-backup.enabled": "true",
            "execution.state-recovery.from-local": "true",
            # A sequence of datagen lies in each checkpoint, number by number: more than the default lets through.
            "pekko.framesize": "268435456b",
            "execution.checkpointing.tolerable-failed-checkpoints": 1000,
        }
        return {**super().settings(), **common, **self.request["settings"]}

    def start(self):
        self.configure()
        self.script("jobmanager.sh", "start")
        wait_for("the job manager's start", lambda: http(self.rest + "/overview"))
        self.script("sql-gateway.sh", "start")
        for index in range(len(self.task_managers)):
            self.start_task_manager(index)
        count = len(self.task_managers)
        wait_for("the task managers' start", lambda: http(self.rest + "/overview")["slots-available"] == count)
        wait_for("the SQL gateway's start", lambda: http(self.gateway + "/info"))

    def start_task_manager(self, index):
        folder = "%s/tm-%d" % (self.work, index)
        os.makedirs(folder + "/log", exist_ok=True)
        options = {
            "taskmanager.resource-id": "tm-%d" % index,
            "taskmanager.rpc.port": self.ports[index],
            "process.taskmanager.working-dir": folder,
        }
        # A process id file of its own: the script of another one would find this one's.
        environment = dict(self.environment, FLINK_PID_DIR=folder, FLINK_LOG_DIR=folder + "/log")
        command = [self.home + "/bin/taskmanager.sh", "start-foreground"] + ["-D%s=%s" % item for item in options.items()]
        with open(folder + "/log/out", "a") as out:
            self.task_managers[index] = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def submit(self):
        session = http(self.gateway + "/sessions", {"properties": {}})["sessionHandle"]
        for statement in self.request["statements"]:
            job = self.execute(session, statement)
        self.job = "%s/jobs/%s" % (self.rest, job)

        def all_run():
            described = http(self.job)
            if described["state"] == "FAILED":
                raise SystemExit("Flink: " + http(self.job + "/exceptions").get("root-exception", "the job has failed")[:2000])
            return all(vertex["status"] in ("RUNNING", "FINISHED") for vertex in described["vertices"])

        wait_for("the job's start", all_run)

    def checkpoint(self):
        newest = http(self.job + "/checkpoints")["latest"]["completed"]
        if not newest:
            return None
        return {"id": newest["id"], "state_bytes": newest["state_size"]}

    def kill(self, index):
        process = self.task_managers[index]
        killed_us = int(time.time() * 1_000_000)
        process.kill()
        process.wait()
        self.start_task_manager(index)
        return {"killed_us": killed_us}

    def rescale(self, parallelism):
        """Sources that have ended are not deployed any more; all others are asked to follow."""
        wanted = http(self.job + "/resource-requirements")
        for vertex in wanted.values():
            vertex["parallelism"] = {"lowerBound": 1, "upperBound": parallelism}
        body = json.dumps(wanted).encode()
        request = urllib.request.Request(self.job + "/resource-requirements", body, {"Content-Type": "application/json"}, method="PUT")
        with urllib.request.urlopen(request, timeout=60):
            pass

        def is_so():
            described = http(self.job)
            busy = [vertex for vertex in described["vertices"] if vertex["status"] != "FINISHED"]
            return all(vertex["parallelism"] == parallelism and vertex["status"] == "RUNNING" for vertex in busy)

        wait_for("the job's rescale", is_so, 300)
        return {}

    def stop(self):
        for process in self.task_managers:
            if process:
                process.kill()
                process.wait()
        super().stop()


def answer(value):
    print(json.dumps(value), flush=True)


def main():
    # A cluster that outlives its starter would disturb all later measurements.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    request = json.loads(sys.stdin.readline())
    work = tempfile.mkdtemp(prefix="flink-")
    cluster = Recovering(sys.argv[1], work, request)
    try:
        cluster.start()
        cluster.submit()
        answer({"folder": work})
        for line in sys.stdin:
            command = line.split()
            if command[0] == "kill":
                answer(cluster.kill(int(command[1])))
            elif command[0] == "rescale":
                answer(cluster.rescale(int(command[1])))
            else:
                answer(cluster.checkpoint())
    except RuntimeError as error:
        sys.exit("Flink: " + str(error)[:2000])
    finally:
        cluster.stop()
        if os.environ.get("KEEP_LOGS"):
            print("Flink's files are kept in %s" % work, file=sys.stderr)
        else:
            shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
