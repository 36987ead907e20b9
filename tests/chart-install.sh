#!/usr/bin/env bash
# Installs the Helm chart on a real API server (tests/services/kube.sh; its pods are played, no container runs), upgrades it and removes it.
# Skipped if that server's binaries are not there: they take ten minutes to build. `tests/services/kube.sh install` builds them.
set -euo pipefail
cd "$(dirname "$0")"
chart=../deploy/helm/weir
cache="$(realpath -m "${WEIR_CACHE:-$HOME/.cache/weir}")"
run="$(realpath -m "${WEIR_RUN:-$cache/run}")"
binaries="${KUBE_BIN:-$cache/kube-${KUBE_VERSION:-v1.37.2}}"
for need in "$binaries/kube-apiserver" "$binaries/kwok" "$(command -v etcd || echo etcd)" "$(command -v kubectl || echo kubectl)"; do
  if [ ! -x "$need" ]; then
    echo "skipped: $need is not there; tests/services/kube.sh install builds the API server, etcd and kubectl are packages"
    exit 0
  fi
done

fail() { echo "chart-install: $*" >&2; kubectl get all,pdb,pvc -n streams -o wide >&2 || true; exit 1; }
check() { # check WHAT EXPECTED COMMAND... ; controllers take a moment
  local what=$1 expected=$2 found end=$((SECONDS + 30)); shift 2
  until found=$("$@") && [ "$found" = "$expected" ]; do
    [ $SECONDS -lt $end ] || fail "$what: expected '$expected', found '$found'"
    sleep 0.5
  done
  echo "ok: $what"
}
get() { kubectl get -n streams "$1" -o "jsonpath=$2"; }

helm=$(services/helm.sh)
export WEIR_INSTANCE="chart-$$" WEIR_FRESH=1 KUBE_PORT="${KUBE_PORT:-16443}"
data="$run/kube-$WEIR_INSTANCE.data"
homes=$(mktemp -d)
export HELM_CONFIG_HOME="$homes" HELM_CACHE_HOME="$homes" HELM_DATA_HOME="$homes" KUBECONFIG="$data/kubeconfig"
trap 'services/kube.sh stop; rm -rf "$homes" "$data" "$run/kube-$WEIR_INSTANCE.log"' EXIT
services/kube.sh start

# No provisioner runs there: volumes that the claims can bind to.
for number in 1 2 3; do
  kubectl apply -f - <<V
apiVersion: v1
kind: PersistentVolume
metadata: {name: "volume-$number"}
spec: {capacity: {storage: 10Gi}, accessModes: [ReadWriteOnce], storageClassName: standard, hostPath: {path: "/volumes/$number"}}
V
done
kubectl create namespace streams

wait=(--namespace streams --wait --timeout 180s)
storage=(--set jobmanager.storage.storageClassName=standard)
"$helm" install weir "$chart" "${wait[@]}" "${storage[@]}"
check "three job managers are ready" 3 get statefulset/weir-jobmanager '{.status.readyReplicas}'
check "two task managers are ready" 2 get statefulset/weir-taskmanager '{.status.readyReplicas}'
check "a pod's index is its id" 1,2,3, get pods "{range .items[?(@.metadata.labels.app\.kubernetes\.io/component=='jobmanager')]}{.metadata.labels.apps\.kubernetes\.io/pod-index},{end}"
check "one job manager may be drained" 1 get pdb/weir-jobmanager '{.status.disruptionsAllowed}'

"$helm" upgrade weir "$chart" "${wait[@]}" "${storage[@]}" --set taskmanager.replicas=3 --set log.filter=debug
check "the upgrade scales the task managers" 3 get statefulset/weir-taskmanager '{.status.readyReplicas}'
check "and all job managers are of the new revision" 3 get statefulset/weir-jobmanager '{.status.updatedReplicas}'
check "with the new configuration" 1 sh -c "kubectl get -n streams configmap/weir -o 'jsonpath={.data}' | grep -c 'filter: debug'"

"$helm" uninstall weir "${wait[@]}"
check "nothing is left but the Raft data" "" kubectl get -n streams statefulsets,services,configmaps,pdb -l app.kubernetes.io/instance=weir -o name
check "which are kept" 3 sh -c "kubectl get -n streams pvc -o name | wc -l"

# Everything set, but for the monitor: its kind is the operator's.
"$helm" template streams "$chart" --namespace streams --values "$chart/ci/full-values.yaml" --set metrics.serviceMonitor.enabled=false |
  kubectl apply -n streams --dry-run=server -f - || fail "the server refuses the full set of values"
echo "ok: the server takes the full set of values"
echo "chart-install: passed"
