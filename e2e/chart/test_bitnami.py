"""Values files of Bitnami's thanos chart carry over: every key is judged, and does what its judgement says."""

import filecmp
import json
import os
import pathlib
import re
import sys
import tempfile
import unittest

import helm

sys.path.insert(0, str(pathlib.Path(__file__).parent / "bitnami"))
import table  # noqa: E402
from changes import BASE, CHANGES, ON_PURPOSE, OURS  # noqa: E402
from diff import change  # noqa: E402

BASE_OURS = helm.overlay(BASE, OURS)
OWN = helm.load_yaml((helm.CHART / "values.yaml").read_text())

# Another value for a key, by its name; by its default otherwise.
OTHER = {
    "type": "NodePort", "externalTrafficPolicy": "Local", "pathType": "Prefix", "pullPolicy": "Always", "logLevel": "debug", "logFormat": "json",
    "resourcesPreset": "large", "podAffinityPreset": "hard", "podAntiAffinityPreset": "hard", "fsGroupChangePolicy": "Always",
    "ipFamilyPolicy": "PreferDualStack", "whenScaled": "Delete", "whenDeleted": "Delete", "concurrencyPolicy": "Allow", "clientAuthType": "RequestClientCert",
    "podManagementPolicy": "OrderedReady", "adaptSecurityContext": "force", "extraHosts": [{"name": "h"}], "extraTls": [{"hosts": ["h"], "secretName": "s"}],
    "secrets": [{"name": "s", "certificate": "c", "key": "k"}], "imagePullSecrets": ["s"], "pullSecrets": ["s"], "basicAuthUsers": {"u": "p"},
    "targetPodMetrics": [{"name": "m", "averageValue": "1"}], "behavior": {"scaleDown": {"stabilizationWindowSeconds": 7}},
    "existingObjstoreSecretItems": [{"key": "k", "path": "objstore.yml"}], "retentionResolutionRaw": "1d", "retentionResolution5m": "1d",
    "retentionResolution1h": "1d", "consistencyDelay": "1d", "evalInterval": "1d", "schedule": "1 1 1 1 1", "size": "1Gi", "resources": {"requests": {"cpu": "7"}},
    "existingSecret": "s", "minAvailable": 2, "maxUnavailable": 2, "nodePorts.http": 30001, "http": 30002, "grpc": 30003,
    "extraDeploy": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}], "affinity": {"nodeAffinity": {"x": 1}},
    "clusterIP": "10.1.1.1", "loadBalancerIP": "10.1.1.1", "timeZone": "UTC", "disabled": {"ThanosQueryIsDown": True}, "groups": [{"name": "g", "rules": []}],
    "kubeVersion": "v1.29.0", "defaultBuckets": "other", "timeouts": {"request": "1s"}, "alertmanagersConfig": {"a": "b"}, "ipFamilies": ["IPv6"],
    "labelSelectorsOverride": {"a": "b"}, "dnsConfig": {"nameservers": ["1.1.1.1"]}, "hostnames": ["other.example.com"], "matches": [{"path": {"value": "/x"}}],
    "updateStrategy.type": "OnDelete", "nodeAffinityPreset.type": "hard", "scrapeTimeout": "3s", "seccompProfile.type": "Unconfined", "drop": ["NET_RAW"], "replicaLabel": "other", "alertmanagers": ["http://other"],
}

# What must stand beside a key for it to matter: (pattern of the key, values with % for the component).
BESIDE = [
    (r"(\w+)\.autoscaling\.(?!enabled).*", {"%.autoscaling": {"enabled": True, "targetCPU": 5, "minReplicas": 1, "maxReplicas": 3}}),
    (r"(\w+)\.autoscaling\.enabled", {"%.autoscaling": {"targetCPU": 5}}),
    (r"(\w+)\.ingress\.grpc\.(?!enabled).*", {"%.ingress.grpc": {"enabled": True}}),
    (r"(\w+)\.ingress\.grpc\.(tls|secretName|selfSigned)", {"%.ingress.grpc": {"tls": True, "selfSigned": True}}),
    (r"(\w+)\.ingress\.(?!enabled|grpc).*", {"%.ingress": {"enabled": True}}),
    (r"(\w+)\.ingress\.(tls|secretName|selfSigned)", {"%.ingress": {"tls": True, "selfSigned": True}}),
    (r"(\w+)\.httpRoute\.(?!enabled).*", {"%.httpRoute.enabled": True}),
    (r"(\w+)\.networkPolicy\.(extraEgress)", {"%.networkPolicy.allowExternalEgress": False}),
    (r"(\w+)\.networkPolicy\.(ingressNS.*)", {"%.networkPolicy": {"allowExternal": False, "ingressNSMatchLabels": {"x": "y"}}}),
    (r"(\w+)\.(service|serviceGrpc)\.(loadBalancer.*|externalTrafficPolicy|nodePorts.*)", {"%.service.type": "LoadBalancer", "query.serviceGrpc.type": "LoadBalancer"}),
    (r"(\w+)\.startupProbe\..*", {"%.startupProbe.enabled": True}),
    (r"(\w+)\.nodeAffinityPreset\..*", {"%.nodeAffinityPreset": {"type": "soft", "key": "k", "values": ["v"]}}),
    (r"(\w+)\.rbac\..*", {"%.rbac": {"create": True, "rules": [{"apiGroups": ["x"], "resources": ["y"], "verbs": ["get"]}]}}),
    (r"(\w+)\.persistentVolumeClaimRetentionPolicy\.(when.*)", {"%.persistentVolumeClaimRetentionPolicy.enabled": True}),
    (r"compactor\.cronJob\.(?!enabled).*|compactor\.restartPolicy", {"compactor.cronJob.enabled": True}),
    (r"compactor\.persistence\.ephemeral", {"compactor.persistence.enabled": True}),
    (r"compactor\.persistence\.defaultEmptyDir", {"compactor.persistence.enabled": False}),
    (r"(\w+)\.grpc\.server\.tls\.(?!enabled|existingSecret).*", {"%.grpc.server.tls": {"enabled": True, "cert": "c", "key": "k", "ca": "a"}}),
    (r"(\w+)\.grpc\.server\.tls\.(enabled|existingSecret)", {"%.grpc.server.tls": {"enabled": True, "existingSecret": {"name": "n"}}}),
    (r"(\w+)\.grpc\.client\.tls\.(?!enabled|existingSecret).*", {"%.grpc.client.tls": {"enabled": True, "cert": "c", "key": "k", "ca": "a"}}),
    (r"(\w+)\.grpc\.client\.tls\.(enabled|existingSecret)", {"%.grpc.client.tls": {"enabled": True, "existingSecret": {"name": "n"}}}),
    (r"query\.enabled", {"queryFrontend.enabled": False}),
    (r"https\..*", {"https": {"enabled": True, "cert": "c", "key": "k", "ca": "a", "clientAuthType": "x"}}),
    (r"metrics\..*", {"metrics": {"enabled": True, "serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True, "groups": [{"name": "given", "rules": []}], "default": {"create": True}}},
                      "query.dnsDiscovery": {"sidecarsService": "s", "sidecarsNamespace": "n"}}),
    (r"minio\.(?!enabled).*", {"minio": {"enabled": True, "auth": {"rootPassword": "p"}}, "objstoreConfig": ""}),
    (r"query\.dnsDiscovery\.sidecars.*", {"query.dnsDiscovery": {"sidecarsService": "s", "sidecarsNamespace": "n"}}),
    (r"existingObjstoreSecretItems", {"existingObjstoreSecret": "s"}),
    (r"ruler\.alertmanagersConfig", {"ruler.alertmanagers": [], "ruler.alertmanagersConfig": {"x": "y"}}),
    (r"queryFrontend\.ingress\.overrideAlertQueryURL", {"queryFrontend.ingress.enabled": True}),
    (r"(\w+)\.podAntiAffinityPresetTopologyKey", {}),
    (r"(\w+)\.containerSecurityContext\.privileged", {}),
    (r"global\.defaultStorageClass", {}),
]


def current(key, values):
    """What a key is when these values are given to our chart."""
    parts = key.split(".")
    for where, path in ((values, parts), (OWN, parts), (OWN["componentDefaults"], parts[1:])):
        for part in path:
            where = where.get(part) if isinstance(where, dict) else None
        if where is not None:
            return where
    return None


def other(key, default, values):
    """A value that is not the one it has."""
    parts = key.split(".")
    if isinstance(now := current(key, values), bool):
        return not now
    for name in (".".join(parts[-2:]), parts[-1]):
        if name in OTHER:
            return OTHER[name]
    default = json.loads(default)
    if isinstance(default, bool):
        return not default
    if isinstance(default, int):
        return default + 7
    if isinstance(default, list):
        if parts[-1] in ("values", "supplementalGroups"):
            return ["w"] if parts[-1] == "values" else [7]
        if parts[-1] in ("extraFlags", "args", "command", "stores", "loadBalancerSourceRanges", "accessModes"):
            return ["other"]
        return [{"name": "other", "mountPath": "/other", "host": "other"}]
    if isinstance(default, dict):
        return {"other": "value"}
    if re.search(r"(Replicas|target|Limit|Seconds|shards|nodePorts)[A-Za-z]*$|nodePorts", key) and default == "":
        return 9
    if parts[-1] == "suspend":
        return True
    if default.endswith(("m", "d", "y")) and default[:-1].isdigit():
        return "7d"
    return "other"


def beside(key):
    values = {}
    for pattern, needs in BESIDE:
        if re.fullmatch(pattern, key):
            for path, value in needs.items():
                values = helm.overlay(values, helm.nested(path.replace("%", key.split(".")[0]), value))
    return values


class Bitnami(unittest.TestCase):
    def test_every_key_is_judged(self):
        keys = [key for key, _ in table.keys()]
        self.assertGreater(len(keys), 1200)
        self.assertEqual(len(keys), len(set(keys)))
        self.assertEqual([key for key in keys if table.verdict(key) is None], [])
        for pattern, kind, remark in table.RULES:
            self.assertTrue(remark or kind == table.SAME, pattern)

    def test_the_page_is_up_to_date(self):
        with tempfile.TemporaryDirectory() as folder:
            sys.argv[1:], before = [f"{folder}/page.md"], sys.argv[1:]
            try:
                table.main()
            finally:
                sys.argv[1:] = before
            self.assertTrue(filecmp.cmp(f"{folder}/page.md", table.FILE, shallow=False), "run e2e/chart/bitnami/table.py")

    def test_the_whole_file_is_taken(self):
        values = {}
        for key, default in table.keys():
            values = helm.overlay(values, helm.nested(key, json.loads(default)))
        self.assertTrue(helm.render(values).find("Deployment", "thanos-query"))

    def test_rejected_keys_are_rejected(self):
        for key, _ in table.keys():
            if table.verdict(key)[0] == table.REJECTED:
                with self.assertRaises(helm.HelmError, msg=key) as caught:
                    helm.render(helm.overlay(BASE, helm.nested(key, True)))
                self.assertIn("not in this version", str(caught.exception))

    def test_keys_do_what_the_page_says(self):
        """Keys that every component has are tried on one component each, in turn (EPIMETHEUS_ALL_KEYS: on all); the others all."""
        shared, turn, tried = {}, 0, 0
        for key, default in table.keys():
            top, _, rest = key.partition(".")
            if top in ("query", "queryFrontend", "bucketweb", "compactor", "storegateway", "ruler"):
                shared.setdefault(rest, []).append((key, default))
            else:
                shared.setdefault(key, []).append((key, default))
        chosen = []
        for choices in shared.values():
            turn += 1
            chosen += choices if os.environ.get("EPIMETHEUS_ALL_KEYS") else [choices[turn % len(choices)]]
        bases = {}
        for key, default in chosen:
            kind = table.verdict(key)[0]
            if kind == table.REJECTED:
                continue
            around = helm.overlay({k: v for k, v in BASE_OURS.items() if k != "componentDefaults"}, beside(key))
            text = json.dumps(around, sort_keys=True)
            with self.subTest(key):
                if text not in bases:
                    bases[text] = helm.render(around)
                values = helm.overlay(around, helm.nested(key, other(key, default, around)))
                version = {"version": "1.29"} if key == "kubeVersion" else {}
                changed = change(bases[text].objects, helm.render(values, **version).objects)
                changed = [c for c in changed if not c[2].startswith(("/data", "/stringData")) or kind != table.NOTHING]
                self.assertEqual(bool(changed), kind != table.NOTHING, f"{key} is '{kind}' and changes {changed[:3]}")
                tried += 1
        self.assertGreater(tried, 300)

    def test_changes_are_those_of_bitnamis_chart(self):
        """changes.json was recorded from Bitnami's chart by record.py; with a copy of the chart at hand it is checked against that too."""
        recorded = json.loads((table.HERE / "changes.json").read_text())
        self.assertGreater(len(recorded), 60)
        self.assertEqual([[r["key"], r["value"]] for r in recorded], [list(c) for c in json.loads(json.dumps(CHANGES))])
        base = helm.render(BASE_OURS).objects
        for r in recorded:
            with self.subTest(f"{r['key']}={json.dumps(r['value'])}"):
                self.assertTrue(r["change"])
                ours = change(base, helm.render(helm.overlay(BASE_OURS, helm.nested(r["key"], r["value"]))).objects)
                missing = []
                for name, changes in r["change"].items():
                    for op, path, value in changes:
                        on_purpose = any(name.startswith(o) and path.startswith(p) and (v is None or value in v) for o, p, v, _ in ON_PURPOSE)
                        if [op, name, path, value] not in ours and not on_purpose:
                            missing.append([op, name, path, value])
                self.assertEqual(missing, [])

    def test_the_record_is_true(self):
        folder = os.environ.get("EPIMETHEUS_BITNAMI_CHART")
        if not folder:
            self.skipTest("SKIPPED: EPIMETHEUS_BITNAMI_CHART names no copy of Bitnami's chart")
        chart = helm.chart(pathlib.Path(folder))
        base = helm.Rendered(chart.render(BASE, name="thanos", namespace="kube-monitoring")).objects
        for r in json.loads((table.HERE / "changes.json").read_text()):
            objects = helm.Rendered(chart.render(helm.overlay(BASE, helm.nested(r["key"], r["value"])), name="thanos", namespace="kube-monitoring")).objects
            found = [c for c in change(base, objects) if "http-config" not in c[1]]
            self.assertEqual(found, sorted([op, name, path, value] for name, cs in r["change"].items() for op, path, value in cs if "http-config" not in name))


if __name__ == "__main__":
    unittest.main()
