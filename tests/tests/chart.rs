//! The Helm chart: rendered with its defaults and with everything set, checked against the API's schemas, and its configuration file read by
//! the code that will read it. No cluster is needed; `make chart-install-test` is the one with a real API server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::Value;
use weir_common::config::Config;
use weir_tests::cluster::free_port;
use weir_tests::process::{run, weir};

/// Installed by the scripts when they are missing: minutes on the first run, nothing later.
static HELM: LazyLock<PathBuf> = LazyLock::new(|| installed("helm.sh"));
static VALIDATE: LazyLock<PathBuf> = LazyLock::new(|| installed("kubernetes-validate.sh"));

const FULL: [&str; 2] = ["--values", "ci/full-values.yaml"];

fn installed(script: &str) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("services")
        .join(script);
    let output = Command::new(&script).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/helm/weir")
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Helm in the chart's folder. Its caches are kept away from the user's.
fn helm(arguments: &[&str]) -> Output {
    let home = tempfile::tempdir().unwrap();
    Command::new(&*HELM)
        .args(arguments)
        .current_dir(chart())
        .env("HELM_CONFIG_HOME", home.path())
        .env("HELM_CACHE_HOME", home.path())
        .env("HELM_DATA_HOME", home.path())
        .output()
        .unwrap()
}

fn template(values: &[&str]) -> String {
    let mut arguments = vec!["template", "weir", ".", "--namespace", "streams"];
    arguments.extend(values);
    let output = helm(&arguments);
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The documents of a YAML file, read by the Python that kubernetes-validate brings.
fn yaml(path: &Path) -> Vec<Value> {
    let to_json = "import json, sys, yaml\n\
                   print(json.dumps([d for d in yaml.safe_load_all(open(sys.argv[1])) if d]))";
    let output = Command::new(VALIDATE.with_file_name("python"))
        .args(["-c", to_json])
        .arg(path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The rendered objects by kind and name.
fn objects(values: &[&str]) -> BTreeMap<(String, String), Value> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rendered.yaml");
    std::fs::write(&path, template(values)).unwrap();
    let name = |value: &Value| value.as_str().unwrap().to_owned();
    yaml(&path)
        .into_iter()
        .map(|object| {
            let key = (name(&object["kind"]), name(&object["metadata"]["name"]));
            (key, object)
        })
        .collect()
}

fn object<'a>(objects: &'a BTreeMap<(String, String), Value>, kind: &str, name: &str) -> &'a Value {
    objects
        .get(&(kind.to_owned(), name.to_owned()))
        .unwrap_or_else(|| panic!("no {kind} {name} in {:?}", objects.keys()))
}

/// The configuration file in the ConfigMap, written into a folder.
fn configuration(dir: &Path, values: &[&str], name: &str) -> PathBuf {
    let objects = objects(values);
    let yaml = &object(&objects, "ConfigMap", name)["data"]["weir.yaml"];
    let path = dir.join("weir.yaml");
    std::fs::write(&path, yaml.as_str().unwrap()).unwrap();
    path
}

#[test]
fn it_passes_helm_lint() {
    for values in [&[][..], &FULL] {
        let mut arguments = vec!["lint", "--strict", "."];
        arguments.extend(values);
        let output = helm(&arguments);
        assert!(output.status.success(), "{}", text(&output));
    }
}

#[test]
fn what_it_renders_is_what_the_api_takes() {
    let dir = tempfile::tempdir().unwrap();
    for values in [&[][..], &FULL, &["--set", "jobmanager.replicas=1"]] {
        let rendered = template(values);
        // Of the operator's own kinds there is no schema here.
        let known: Vec<&str> = rendered
            .split("\n---\n")
            .filter(|document| !document.contains("kind: ServiceMonitor"))
            .collect();
        let path = dir.path().join("rendered.yaml");
        std::fs::write(&path, known.join("\n---\n")).unwrap();
        let output = Command::new(&*VALIDATE)
            .args(["--strict", "--kubernetes-version", "1.37"])
            .arg(&path)
            .output()
            .unwrap();
        let shown = text(&output);
        assert!(output.status.success(), "{shown}");
        assert!(shown.contains("passed for resource statefulset"), "{shown}");
        assert!(!shown.contains("WARN"), "{shown}");
    }
}

#[test]
fn a_wrong_field_does_not_pass_the_validation() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rendered.yaml");
    let broken = template(&[]).replace("serviceName:", "serviceNames:");
    std::fs::write(&path, broken).unwrap();
    let output = Command::new(&*VALIDATE)
        .arg("--strict")
        .arg(&path)
        .output()
        .unwrap();
    assert!(!output.status.success(), "{}", text(&output));
}

#[test]
fn wrong_values_are_refused_by_name() {
    let wrong = [
        ("jobmanager.replicas=2", "/jobmanager/replicas"),
        ("jobmanager.replica=3", "replica"),
        ("taskmanager.slots=0", "/taskmanager/slots"),
        ("taskmanager.storage.size=10GB", "/taskmanager/storage/size"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("metrics.port=70000", "/metrics/port"),
        ("tls.enabled=true", "enabled"),
        ("s3.secretAccessKey=hunter2", "secretAccessKey"),
        (
            "config.s3.secret_access_key=hunter2",
            "/config/s3/secret_access_key",
        ),
        ("jobDefaults.parallelism=4", "/jobDefaults/parallelism"),
        ("fullnameOverride=Streams", "/fullnameOverride"),
    ];
    for (value, named) in wrong {
        let output = helm(&["template", "weir", ".", "--set", value]);
        let shown = text(&output);
        assert!(!output.status.success(), "{value} is taken");
        assert!(shown.contains(named), "{value}: {shown}");
    }
}

/// Dotted paths to everything that a values file sets.
fn paths(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    if let Value::Object(map) = value {
        for (key, value) in map {
            let path = format!("{path}.{key}");
            paths(value, &path, found);
            found.insert(path);
        }
    }
}

#[test]
fn the_full_set_sets_every_value() {
    let [mut defaults, mut full] = [BTreeSet::new(), BTreeSet::new()];
    paths(&yaml(&chart().join("values.yaml"))[0], "", &mut defaults);
    paths(&yaml(&chart().join(FULL[1]))[0], "", &mut full);
    let missing: Vec<&String> = defaults.difference(&full).collect();
    // The first has no effect beside fullnameOverride; the security contexts are Kubernetes' own and taken as a whole.
    assert_eq!(
        missing,
        [".nameOverride", ".podSecurityContext.fsGroupChangePolicy"]
    );
}

#[test]
fn the_configuration_file_is_read_by_weir() {
    let dir = tempfile::tempdir().unwrap();
    let path = configuration(dir.path(), &[], "weir");
    let config = Config::load(Some(&path), &[]).unwrap();
    let peer = |id: u32| {
        format!("weir-jobmanager-{id}.weir-jobmanager-headless.streams.svc.cluster.local:6123")
    };
    assert_eq!(config.jobmanager.peers, [peer(1), peer(2), peer(3)]);
    assert_eq!(config.taskmanager.jobmanagers, config.jobmanager.peers);
    assert!(config.jobmanager.bind.ip().is_unspecified());
    assert!(config.taskmanager.bind.ip().is_unspecified());
    assert!(config.metrics_address.unwrap().ip().is_unspecified());
    assert_eq!(config.cluster_id, "streams-weir");
    assert_eq!(config.tls, None);
    // Of the grace period, which is 90 s.
    assert_eq!(config.taskmanager.drain_timeout_ms, 75_000);

    let path = configuration(dir.path(), &FULL, "streams");
    let config = Config::load(Some(&path), &[]).unwrap();
    assert_eq!(
        config.tls.unwrap().server_name.unwrap(),
        "streams.example.com"
    );
    assert_eq!(config.s3.endpoint.unwrap(), "http://minio.storage:9000");
    assert_eq!(config.job_defaults["parallelism.default"], "4");
    assert_eq!(config.jobmanager.slot_timeout_ms, 120_000);
    // From `config`, over the chart's own value, and not as 6.8e10.
    assert_eq!(config.taskmanager.memory_bytes, 64 << 30);
}

#[test]
fn pods_get_their_ids_and_names() {
    let objects = objects(&[]);
    let jobs = &object(&objects, "StatefulSet", "weir-jobmanager")["spec"];
    assert_eq!(jobs["replicas"], 3);
    assert_eq!(jobs["ordinals"]["start"], 1);
    let tasks = &object(&objects, "StatefulSet", "weir-taskmanager")["spec"];
    for (spec, variable, port) in [
        (jobs, "WEIR_JOBMANAGER__ID", 6123),
        (tasks, "WEIR_TASKMANAGER__ADVERTISE", 6122),
    ] {
        let pod = &spec["template"]["spec"];
        // Kubernetes would set WEIR_JOBMANAGER_PORT and the like.
        assert_eq!(pod["enableServiceLinks"], false);
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        let container = &pod["containers"][0];
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        assert_eq!(container["readinessProbe"]["grpc"]["port"], port);
        let environment = container["env"].as_array().unwrap();
        assert!(environment.iter().any(|entry| entry["name"] == variable));
        let service = spec["serviceName"].as_str().unwrap();
        let headless = object(&objects, "Service", service);
        assert_eq!(headless["spec"]["clusterIP"], "None");
        assert_eq!(headless["spec"]["publishNotReadyAddresses"], true);
    }
    let budget = object(&objects, "PodDisruptionBudget", "weir-jobmanager");
    assert_eq!(budget["spec"]["minAvailable"], 2);
}

#[test]
fn secrets_come_by_reference_only() {
    let objects = objects(&FULL);
    assert!(!objects.keys().any(|(kind, _)| kind == "Secret"));
    for name in ["streams-jobmanager", "streams-taskmanager"] {
        let pod = &object(&objects, "StatefulSet", name)["spec"]["template"]["spec"];
        let environment = pod["containers"][0]["env"].as_array().unwrap();
        for (variable, key) in [
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
        ] {
            let entry = environment
                .iter()
                .find(|entry| entry["name"] == variable)
                .unwrap();
            let reference = &entry["valueFrom"]["secretKeyRef"];
            assert_eq!(reference["name"], "streams-s3");
            assert_eq!(reference["key"], key);
        }
        let volumes = pod["volumes"].as_array().unwrap();
        let tls = volumes.iter().find(|volume| volume["name"] == "tls");
        assert_eq!(tls.unwrap()["secret"]["secretName"], "streams-tls");
    }
}

/// The binary with the chart's file and a pod's environment: an id that nobody has is the first thing that it complains about, so
/// everything before was understood.
#[test]
fn the_binary_starts_with_a_pods_environment() {
    let dir = tempfile::tempdir().unwrap();
    let path = configuration(dir.path(), &[], "weir");
    let mut command = weir();
    command
        .arg("jobmanager")
        .env("WEIR_CONFIG", &path)
        .env(
            "WEIR_JOBMANAGER_ADDRESS",
            "weir-jobmanager.streams.svc:6123",
        )
        .env("WEIR_JOBMANAGER__ID", "0")
        .env(
            "WEIR_TASKMANAGER__ADVERTISE",
            "weir-taskmanager-0.weir-taskmanager-headless.streams.svc:6122",
        )
        .env("WEIR_JOBMANAGER__BIND", "127.0.0.1:0")
        .env("WEIR_JOBMANAGER__DATA_DIR", dir.path().join("data"))
        .env("WEIR_METRICS_ADDRESS", format!("127.0.0.1:{}", free_port()));
    let output = run(&mut command, Duration::from_secs(30)).unwrap();
    let shown = text(&output);
    assert!(!output.status.success(), "{shown}");
    assert!(shown.contains("jobmanager.id is 0"), "{shown}");
}
