#!/bin/sh
# The tutorial on a true cluster (kind, minikube or any other): KUBECONFIG names it, IMAGE an image that its nodes can have.
#   IMAGE=epimetheus:dev e2e/kube.sh [arguments for helm, such as --set server.resourcesPreset=nano]
# Installs into a namespace of its own, waits for the pods, queries, load, three queriers and one again, and removes everything.
set -eu
cd "$(dirname "$0")/.."
: "${KUBECONFIG:?names the cluster to use}"
image=${IMAGE:?names the image, as repository:tag}
namespace=${NAMESPACE:-epimetheus-e2e}
k() { kubectl --namespace "$namespace" "$@"; }
say() { printf '=== %s\n' "$*"; }
client=$(mktemp)
finish() {
  rm -f "$client"
  helm uninstall thanos --namespace "$namespace" >/dev/null 2>&1 || true
  kubectl delete namespace "$namespace" --wait=false >/dev/null 2>&1 || true
}
trap finish EXIT
replicas() { k get deployment thanos-query -o 'jsonpath={.status.readyReplicas}'; }
wait_for() { # wait_for SECONDS REPLICAS
  for _ in $(seq "$1"); do [ "$(replicas)" = "$2" ] && return 0; sleep 1; done
  k get hpa,pods
  echo "not $2 queriers after $1 s"
  return 1
}
answered() { # answered COUNTS: every query has got its answer
  say "$1"
  [ -n "$1" ] || { echo "no query was counted"; return 1; }
  if printf '%s\n' "$1" | grep -qv '^ *[0-9]* 200$'; then echo "some queries failed"; return 1; fi
}
ask() { k exec deploy/thanos-kubectl-curl -- curl -sf -m 20 --data-urlencode "query=$1" http://thanos-query:9090/api/v1/query; }

say install
helm install thanos charts/epimetheus --namespace "$namespace" --create-namespace --wait --timeout 10m -f charts/epimetheus/ci/demo-values.yaml \
  --set image.registry= --set image.repository="${image%:*}" --set-string image.tag="${image##*:}" --set demo.load.enabled=false "$@"
say "no pod has restarted"
restarts=$(k get pods -o 'jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[*].restartCount}{"\n"}{end}')
say "$restarts"
if printf '%s\n' "$restarts" | awk '{ for (i = 2; i <= NF; i++) if ($i > 0) bad = 1 } END { exit !bad }'; then echo "a pod has restarted"; exit 1; fi
helm test thanos --namespace "$namespace" --timeout 5m
k create deployment thanos-kubectl-curl --image=docker.io/curlimages/curl:8.12.1 -- sleep 3600
k rollout status deployment/thanos-kubectl-curl --timeout=2m
say "up{container=\"querier\"}"
for _ in $(seq 120); do ask 'up{container="querier"}' | grep -q '"value"' && break; sleep 1; done
ask 'up{container="querier"}'; echo
say "load: one querier becomes three"
helm upgrade thanos charts/epimetheus --namespace "$namespace" --reuse-values --set demo.load.enabled=true --set demo.load.duration=300
wait_for 240 3
for _ in $(seq 120); do ask 'count(up{container="querier"} == 1) == 3' | grep -q '"value"' && break; sleep 1; done
ask 'count(up{container="querier"} == 1) == 3' | grep '"value"' # it is scraped, too
k wait --for=condition=complete job/thanos-load --timeout=10m
answered "$(k logs job/thanos-load)"
say "quiet: three become one, and a client that goes on asking does not notice"
k exec deploy/thanos-kubectl-curl -- sh -c '
  while [ ! -e /tmp/stop ]; do
    curl -s -m 20 -o /dev/null -w "%{http_code}\n" --data-urlencode "query=up" http://thanos-query:9090/api/v1/query
    sleep 0.2
  done | sort | uniq -c' >"$client" &
asking=$!
wait_for 900 1
sleep 30 # the last to go may still be going
k exec deploy/thanos-kubectl-curl -- touch /tmp/stop
wait "$asking"
answered "$(cat "$client")"
say "Alertmanager has Watchdog, and not PrometheusDown"
alerts=$(k exec deploy/thanos-kubectl-curl -- curl -sf -m 20 http://thanos-alertmanager:9093/api/v2/alerts)
if ! printf '%s' "$alerts" | grep -q '"alertname":"Watchdog"' || printf '%s' "$alerts" | grep -q '"alertname":"PrometheusDown"'; then
  echo "$alerts"
  exit 1
fi
say "done: $(k get hpa thanos-query --no-headers)"
