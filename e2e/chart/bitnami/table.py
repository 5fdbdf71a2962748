#!/usr/bin/env python3
"""Writes docs/bitnami-values.md: what became of every key of Bitnami's thanos chart (17.6.0)."""

import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
FILE = HERE.parent.parent.parent / "docs/bitnami-values.md"

SAME, MAPPED, NOTHING, REJECTED = "same", "mapped", "without effect", "rejected"

# The first pattern that matches a whole key decides.
RULES = [
    (r"(receive|receiveDistributor)\.enabled", REJECTED, "`true` is refused: receiving is not in this version"),
    (r"(receive|receiveDistributor)\..*", NOTHING, "taken while the component is off, so that a whole file can be handed over"),
    (r"storegateway\.sharded\.enabled", REJECTED, "`true` is refused: shards by hand; use one release a shard with `storegateway.extraFlags`"),
    (r"storegateway\.sharded\..*", NOTHING, "taken while `sharded.enabled` is off"),
    (r"volumePermissions\..*", NOTHING, "`fsGroup` gives volumes to the pods' user; no pod runs as root"),
    (r".*\.pspEnabled", NOTHING, "Kubernetes has no PodSecurityPolicy since 1.25"),
    (r".*\.ingress(\.grpc)?\.apiVersion", NOTHING, "always `networking.k8s.io/v1`"),
    (r".*\.additionalHeadless", NOTHING, "headless Services always stand beside gRPC, so that every pod is seen"),
    (r"global\.security\.allowInsecureImages", NOTHING, "any image may be named"),
    (r"minio\.console\.enabled", NOTHING, "the demo's S3 store has no console"),
    (r"minio\..*", MAPPED, "the S3 store of the demo, another program under the same names of objects and keys"),
    (r"(query|queryFrontend)\.rbac\.(create|rules)", MAPPED, "a Role of the component with these rules"),
    (r"query\.service\.headless\.annotations", NOTHING, "the querier's HTTP Service has no headless twin"),
    (r"metrics\.prometheusRule\.default\..*", MAPPED, "alerts of our own under the same names, one PrometheusRule for all; only for components that run"),
    (r"metrics\.prometheusRule\.runbookUrl", MAPPED, "put before the alert's name; empty by default"),
    (r"query\.replicaLabel", SAME, "default: `prometheus_replica`, `replica`, `rule_replica`"),
    (r"query\.dnsDiscovery\.sidecarsService", SAME, "also: where it is set, the chart's own server stays off (`server.enabled: auto`)"),
    (r"queryFrontend\.(config|existingConfigmap)", SAME, "the flag is passed; the frontend of this version passes queries on and does not cache yet"),
    (r"compactor\.restartPolicy", SAME, "for the CronJob; a Deployment knows only `Always`"),
    (r".*\.containerSecurityContext\.(runAsUser|runAsGroup)", SAME, "default: 65532"),
    (r".*\.podSecurityContext\.fsGroup", SAME, "default: 65532"),
    (r".*\.podSecurityContext\.fsGroupChangePolicy", SAME, "default: `OnRootMismatch`"),
    (r".*\.(livenessProbe|readinessProbe|startupProbe)\..*", SAME, "defaults without a delay: a start takes moments"),
    (r"[a-zA-Z]+\.automountServiceAccountToken", SAME, "default: `false`; only the server asks the API server"),
    (r".*\.podManagementPolicy", SAME, "default: `Parallel`"),
    (r".*\.topologySpreadConstraints", SAME, "default: over nodes and zones where possible"),
    (r".*\.autoscaling\.behavior", SAME, "default: up at once, down by one pod a minute after five minutes"),
    (r".*\.networkPolicy\..*", SAME, "without the ports of Services, which a policy does not see"),
    (r"image\.(registry|repository|tag)", SAME, "default: our image"),
    (r"global\.compatibility\..*", SAME, ""),
    (r"kubeVersion|nameOverride|fullnameOverride|clusterDomain|extraDeploy|common.*|global\..*|image\..*", SAME, ""),
    (r"(objstore|indexCache|bucketCache|http)Config|existing.*|https\..*|auth\..*|metrics\..*", SAME, ""),
    (r"(query|queryFrontend|bucketweb|compactor|storegateway|ruler)\..*", SAME, ""),
]


def keys():
    """Every key of Bitnami's values file with its default, as JSON text."""
    return [line.split("\t") for line in (HERE / "keys.tsv").read_text().splitlines()]


def verdict(key):
    """(class, remark) of a key; None if nobody has judged it."""
    for pattern, kind, remark in RULES:
        if re.fullmatch(pattern, key):
            return kind, remark
    return None


def main():
    target = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    rows = [(key, *verdict(key)) for key, _ in keys()]
    count = {kind: sum(1 for r in rows if r[1] == kind) for kind in (SAME, MAPPED, NOTHING, REJECTED)}
    lines = [
        "# Values of Bitnami's chart",
        "",
        "What became of every key of Bitnami's `thanos` chart, version 17.6.0. Made by `e2e/chart/bitnami/table.py`; tests hold it: each key is",
        "taken by our chart or refused as it says here, and changes what it says it changes.",
        "",
        f"- **same** ({count[SAME]}): the same name and the same effect. A remark says where the default differs.",
        f"- **mapped** ({count[MAPPED]}): the same name; the effect is that of our chart.",
        f"- **without effect** ({count[NOTHING]}): taken, does nothing. The notes after an installation say so where it matters.",
        f"- **rejected** ({count[REJECTED]}): switching it on is refused, with the reason and what to do.",
        "",
        "Our chart's own keys (`server`, `componentDefaults`, `dashboards`, `datasource`, `demo` and more) are in `charts/epimetheus/values.yaml`.",
        "",
    ]
    section = None
    for key, kind, remark in rows:
        top = key.split(".")[0]
        if top != section:
            section = top
            lines += ["", f"## `{top}`", "", "| key | what became of it | remark |", "|---|---|---|"]
        lines.append(f"| `{key}` | {kind} | {remark} |")
    target.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
