"""Runs SQL on a Flink cluster of its own: a job manager, a SQL gateway and a task manager with 2 slots on free ports, stopped at the end.

Usage: flink.py FOLDER < request.json; FOLDER is what setup.sh printed. The request is {"warm_up": [STATEMENT...] or null, "timed": [STATEMENT...]};
the last statement of each is the INSERT. The answer, on standard output, are the figures of the timed job. Standard library only.
"""
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

JOB_TIMEOUT = 1800


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def http(url, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise RuntimeError(error.read().decode()) from error


def wait_for(what, condition, timeout=90):
    end = time.time() + timeout
    while time.time() < end:
        try:
            if condition():
                return
        except (OSError, RuntimeError):
            pass
        time.sleep(0.1)
    raise RuntimeError("Flink: %s takes more than %d s" % (what, timeout))


def cpu_seconds(pid):
    """User and system time of a process with all its threads."""
    fields = open("/proc/%d/stat" % pid).read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_rss_mb(pid):
    for line in open("/proc/%d/status" % pid):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmHWM")


class Cluster:
    """Settings beside Flink's defaults: those of the comparison (RocksDB, incremental checkpoints, object reuse) and places and ports."""

    def __init__(self, folder, work):
        self.home, self.work = folder + "/home", work
        self.rest_port, self.gateway_port = free_port(), free_port()
        self.rest = "http://127.0.0.1:%d" % self.rest_port
        self.gateway = "http://127.0.0.1:%d/v1" % self.gateway_port
        self.environment = dict(os.environ, FLINK_HOME=self.home, FLINK_CONF_DIR=work + "/conf", FLINK_PID_DIR=work, FLINK_LOG_DIR=work + "/log")

    def configure(self):
        os.makedirs(self.work + "/log")
        os.makedirs(self.work + "/tmp")
        shutil.copytree(self.home + "/conf.stock", self.work + "/conf")
        settings = self.settings()
        with open(self.work + "/conf/config.yaml", "w") as file:
            file.writelines("%s: %s\n" % item for item in settings.items())

    def settings(self):
        stock = open(self.work + "/conf/config.yaml").read()
        # The stock file's options for Java 17 are needed; all else is written flat.
        java = next(line.split("all:", 1)[1].strip() for line in stock.splitlines() if line.strip().startswith("all:"))
        return {
            "env.java.opts.all": "%s -Djava.io.tmpdir=%s/tmp" % (java, self.work),
            "jobmanager.rpc.address": "localhost",
            "jobmanager.rpc.port": free_port(),
            "jobmanager.bind-host": "localhost",
            "jobmanager.memory.process.size": "1600m",
            "taskmanager.bind-host": "localhost",
            "taskmanager.host": "localhost",
            "taskmanager.memory.process.size": "6g",
            "taskmanager.numberOfTaskSlots": 2,
            "parallelism.default": 2,
            "rest.address": "localhost",
            "rest.bind-address": "localhost",
            "rest.port": self.rest_port,
            "sql-gateway.endpoint.rest.address": "localhost",
            "sql-gateway.endpoint.rest.port": self.gateway_port,
            "io.tmp.dirs": self.work + "/tmp",
            "state.backend.type": "rocksdb",
            "execution.checkpointing.incremental": "true",
            "execution.checkpointing.dir": "file://" + self.work + "/checkpoints",
            "execution.checkpointing.interval": "10 s",
            "pipeline.object-reuse": "true",
            "restart-strategy.type": "none",
            "table.local-time-zone": "UTC",
        }

    def start(self):
        self.configure()
        self.script("jobmanager.sh", "start")
        wait_for("the job manager's start", lambda: http(self.rest + "/overview"))
        self.script("sql-gateway.sh", "start")
        self.script("taskmanager.sh", "start")
        wait_for("the task manager's start", lambda: http(self.rest + "/overview")["slots-available"] == 2)
        wait_for("the SQL gateway's start", lambda: http(self.gateway + "/info"))

    def script(self, name, action):
        done = subprocess.run([self.home + "/bin/" + name, action], env=self.environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError("%s %s: %s" % (name, action, done.stdout + done.stderr))

    def pid(self, role):
        files = glob.glob("%s/*-%s.pid" % (self.work, role))
        return int(open(files[0]).read().split()[-1]) if files else None

    def stop(self):
        for role in ("taskexecutor", "sql-gateway", "standalonesession"):
            pid = self.pid(role)
            if pid:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    def execute(self, session, statement):
        url = "%s/sessions/%s" % (self.gateway, session)
        operation = url + "/operations/" + http(url + "/statements", {"statement": statement})["operationHandle"]
        while http(operation + "/status")["status"] not in ("FINISHED", "ERROR", "CANCELED", "CLOSED"):
            time.sleep(0.02)
        answer = http(operation + "/result/0?rowFormat=JSON")
        return answer.get("jobID")

    def run(self, statements):
        """Runs statements in a session of their own and waits until the job of the last one has finished; its URL and description."""
        session = http(self.gateway + "/sessions", {"properties": {}})["sessionHandle"]
        for statement in statements[:-1]:
            self.execute(session, statement)
        url = "%s/jobs/%s" % (self.rest, self.execute(session, statements[-1]))
        end = time.time() + JOB_TIMEOUT
        while time.time() < end:
            job = http(url)
            if job["state"] == "FINISHED":
                return url, job
            if job["state"] in ("FAILED", "CANCELED"):
                raise RuntimeError(http(url + "/exceptions").get("root-exception") or "the job is " + job["state"])
            time.sleep(0.1)
        raise RuntimeError("the job takes more than %d s" % JOB_TIMEOUT)

    def measure(self, statements):
        task_manager, job_manager = self.pid("taskexecutor"), self.pid("standalonesession")
        before = cpu_seconds(task_manager), cpu_seconds(job_manager)
        url, job = self.run(statements)
        after = cpu_seconds(task_manager), cpu_seconds(job_manager)
        checkpoints = [c for c in http(url + "/checkpoints")["history"] if c["status"] == "COMPLETED"]
        return {
            "seconds": (job["timestamps"]["FINISHED"] - job["timestamps"]["RUNNING"]) / 1000,
            "cpu_s": after[0] - before[0],
            "job_manager_cpu_s": after[1] - before[1],
            "peak_rss_mb": peak_rss_mb(task_manager),
            "state_mb": max([c["state_size"] for c in checkpoints], default=0) / 2**20,
            "checkpoints": len(checkpoints),
        }


def main():
    # A cluster that outlives its starter would disturb all later measurements.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    request = json.load(sys.stdin)
    work = tempfile.mkdtemp(prefix="flink-")
    cluster = Cluster(sys.argv[1], work)
    try:
        cluster.start()
        if request.get("warm_up"):
            cluster.run(request["warm_up"])
        print(json.dumps(cluster.measure(request["timed"])))
    except RuntimeError as error:
        causes = [line for line in str(error).replace("\\n", "\n").splitlines() if "Caused by" in line or "Exception" in line]
        sys.exit("Flink: " + ("\n".join(causes[-4:]) or str(error))[:2000])
    finally:
        cluster.stop()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
