"""Whatever the values: every object is valid, finds what it names, and is as safe as it is meant to be."""

import json
import pathlib
import unittest

import helm
from variants import VARIANTS

try:
    import jsonschema_rs
    import kubernetes_validate
except ImportError as error:
    raise unittest.SkipTest(f"SKIPPED: {error}; pip install -r e2e/chart/requirements.txt")

# These are not Kubernetes' own, and no schema of them is at hand: their shape is checked by hand below.
CUSTOM = ("ServiceMonitor", "PrometheusRule", "HTTPRoute")


def paths_of_null(value, path=""):
    if value is None:
        yield path
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from paths_of_null(inner, f"{path}/{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from paths_of_null(inner, f"{path}/{index}")


def each(test):
    """Runs a test on every variant."""
    def run(self):
        for name, rendered in self.rendered.items():
            with self.subTest(name):
                test(self, name, rendered)
    return run


def validator(version, o, made={}):
    """Kubernetes' own schema of an object, in which nothing more may stand than it says."""
    group = o["apiVersion"].split("/")
    key = (version, o["kind"].lower(), "-".join([group[0].split(".")[0]] + group[1:]))
    if key not in made:
        folder = pathlib.Path(kubernetes_validate.__file__).parent / f"kubernetes-json-schema/v{version}.0-local-strict"
        text = (folder / f"{key[1]}-{key[2]}.json").read_text().replace('"/api/_definitions.json#/', '"#/')
        schema = {**json.loads(text), **json.loads((folder / "_definitions.json").read_text().replace('"/api/_definitions.json#/', '"#/'))}
        made[key] = jsonschema_rs.Draft202012Validator(schema)
    return made[key]


def matches(selector, labels):
    return all(labels.get(key) == value for key, value in selector.items())


class Objects(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.rendered = {name: helm.render(values) for name, values in VARIANTS.items()}

    def test_kubernetes_schemas(self):
        # The chart makes the same objects for 1.31 to 1.33 (asserted below), so these are rendered once.
        for rendered_as, versions in {"1.29": ["1.29"], "1.30": ["1.30"], "1.32": ["1.31", "1.32", "1.33"], "1.34": ["1.34"]}.items():
            seen = set()
            for name, values in VARIANTS.items():
                for o in helm.render(values, rendered_as).objects if rendered_as != "1.34" else self.rendered[name].objects:
                    text = json.dumps(o, sort_keys=True)
                    if o["kind"] in CUSTOM or text in seen:
                        continue
                    seen.add(text)
                    for version in versions:
                        with self.subTest(f"{name} {version} {o['kind']}/{o['metadata']['name']}"):
                            validator(version, o).validate(o)
            self.assertGreater(len(seen), 300)
        for version in ("1.31", "1.33"):
            self.assertEqual(helm.render(VARIANTS["stores"], version).objects, helm.render(VARIANTS["stores"], "1.32").objects)

    @each
    def test_custom_resources_by_hand(self, name, rendered):
        for o in rendered.find("ServiceMonitor"):
            self.assertEqual(o["apiVersion"], "monitoring.coreos.com/v1")
            self.assertLessEqual(set(o["spec"]), {"jobLabel", "namespaceSelector", "selector", "endpoints"})
            services = [s for s in rendered.find("Service") if matches(o["spec"]["selector"]["matchLabels"], s["metadata"]["labels"])]
            if "c" not in o["spec"]["selector"]["matchLabels"]:
                self.assertEqual(len(services), 1, "exactly one Service of a component is scraped")
            for endpoint in o["spec"]["endpoints"]:
                self.assertEqual(endpoint["port"], "http")
        for o in rendered.find("PrometheusRule"):
            for group in o["spec"]["groups"]:
                self.assertLessEqual(set(group), {"name", "rules", "interval"})
                for rule in group["rules"]:
                    self.assertLessEqual(set(rule), {"alert", "expr", "for", "labels", "annotations"})
        for o in rendered.find("HTTPRoute"):
            self.assertEqual(o["apiVersion"], "gateway.networking.k8s.io/v1")
            for rule in o["spec"]["rules"]:
                for backend in rule["backendRefs"]:
                    service = rendered.find("Service", backend["name"])
                    self.assertIn(backend["port"], [p["port"] for p in service["spec"]["ports"]])

    @each
    def test_nothing_is_null(self, name, rendered):
        for o in rendered.objects:
            self.assertEqual(list(paths_of_null(o)), [], o["metadata"]["name"])

    @each
    def test_names_are_unique_and_short(self, name, rendered):
        names = [(o["kind"], o["metadata"]["name"], o["metadata"].get("namespace")) for o in rendered.objects]
        self.assertEqual(len(names), len(set(names)), [n for n in names if names.count(n) > 1])
        self.assertTrue(all(len(n[1]) <= 63 for n in names))

    @each
    def test_services_find_pods_and_ports(self, name, rendered):
        pods = [(w["kind"], helm.pod_of(w)) for w in rendered.workloads() if w["kind"] != "CronJob"]
        for service in rendered.find("Service"):
            found = [p for _, p in pods if matches(service["spec"]["selector"], p["metadata"].get("labels", {}))]
            self.assertEqual(len(found), 1, service["metadata"]["name"])
            names = {port["name"] for c in found[0]["spec"]["containers"] for port in c.get("ports", [])}
            for port in service["spec"]["ports"]:
                if "targetPort" in port:
                    self.assertIn(port["targetPort"], names)

    @each
    def test_stateful_sets_have_their_headless_service(self, name, rendered):
        for o in rendered.find("StatefulSet"):
            service = rendered.find("Service", o["spec"]["serviceName"])
            self.assertIsNotNone(service, o["spec"]["serviceName"])

    @each
    def test_what_is_mounted_exists(self, name, rendered):
        given = {"thanos-objstore", "web-certificate", "n", "mine", "cm", "s"}
        kinds = {"configMap": {o["metadata"]["name"] for o in rendered.find("ConfigMap")},
                 "secret": {o["metadata"]["name"] for o in rendered.find("Secret")},
                 "persistentVolumeClaim": {o["metadata"]["name"] for o in rendered.find("PersistentVolumeClaim")}}
        for workload in rendered.workloads():
            spec = helm.pod_of(workload)["spec"]
            volumes = {v["name"] for v in spec.get("volumes", [])}
            volumes |= {t["metadata"]["name"] for t in workload["spec"].get("volumeClaimTemplates", [])}
            for container in spec["containers"]:
                mounts = [m["mountPath"] for m in container.get("volumeMounts", [])]
                self.assertEqual(len(mounts), len(set(mounts)), "one volume a place")
                for mount in container.get("volumeMounts", []):
                    self.assertIn(mount["name"], volumes, workload["metadata"]["name"])
            for volume in spec.get("volumes", []):
                sources = [volume] + volume.get("projected", {}).get("sources", [])
                for source in sources:
                    for kind, names in kinds.items():
                        if kind in source:
                            name = next(v for k, v in source[kind].items() if k in ("name", "secretName", "claimName"))
                            self.assertTrue(name in names or name in given, f"{kind} {name}")

    @each
    def test_an_autoscaler_owns_the_number_of_replicas(self, name, rendered):
        targets = {(h["spec"]["scaleTargetRef"]["kind"], h["spec"]["scaleTargetRef"]["name"]) for h in rendered.find("HorizontalPodAutoscaler")}
        for kind, name in targets:
            self.assertNotIn("replicas", rendered.find(kind, name)["spec"], name)
        for h in rendered.find("HorizontalPodAutoscaler"):
            self.assertEqual(h["apiVersion"], "autoscaling/v2")
            self.assertIn("scaleDown", h["spec"]["behavior"])
            for metric in h["spec"]["metrics"]:
                if metric["type"] == "ContainerResource":
                    pod = helm.pod_of(rendered.find(h["spec"]["scaleTargetRef"]["kind"], h["spec"]["scaleTargetRef"]["name"]))
                    self.assertIn(metric["containerResource"]["container"], [c["name"] for c in pod["spec"]["containers"]])

    @each
    def test_network_policies(self, name, rendered):
        pods = [helm.pod_of(w) for w in rendered.workloads()]
        for policy in rendered.find("NetworkPolicy"):
            selected = [p for p in pods if matches(policy["spec"]["podSelector"]["matchLabels"], p["metadata"].get("labels", {}))]
            self.assertEqual(len(selected), 1)
            open_ports = {p["containerPort"] for c in selected[0]["spec"]["containers"] for p in c.get("ports", [])}
            allowed = {p["port"] for rule in policy["spec"]["ingress"] for p in rule.get("ports", [])}
            self.assertLessEqual(open_ports, allowed)
            for rule in policy["spec"]["ingress"] + policy["spec"]["egress"]:
                for port in rule.get("ports", []):
                    self.assertIsInstance(port["port"], int)

    def test_closed_networks_let_the_release_talk(self):
        rendered = self.rendered["closed network"]
        pods = {w["metadata"]["labels"]["app.kubernetes.io/component"]: helm.pod_of(w) for w in rendered.workloads() if "component" in str(w["metadata"]["labels"])}

        def may(kind, source, target, port):
            policy = rendered.find("NetworkPolicy", f"thanos-{source if kind == 'egress' else target}")
            other = pods[target if kind == "egress" else source]["metadata"]["labels"]
            for rule in policy["spec"][kind]:
                peers = rule.get("to" if kind == "egress" else "from")
                if port not in [p["port"] for p in rule.get("ports", [{"port": port}])]:
                    continue
                if peers is None or any(matches(p.get("podSelector", {}).get("matchLabels", {"-": "-"}), other) for p in peers):
                    return True
            return False

        for source, target, port in [("query", "storegateway", 10901), ("query", "ruler", 10901), ("query", "server", 10901), ("ruler", "query", 10902),
                                     ("query-frontend", "query", 10902), ("server", "compactor", 10902)]:
            with self.subTest(f"{source} -> {target}:{port}"):
                self.assertTrue(may("egress", source, target, port) and may("ingress", source, target, port))
        self.assertFalse(may("egress", "compactor", "query", 10902))

    @each
    def test_pods_are_restricted(self, name, rendered):
        """Kubernetes' Pod Security Standard 'restricted', rule by rule."""
        if name in ("no probes, no accounts", "open registry", "pods"):
            return  # the first two switch security contexts off or leave them to OpenShift; the third brings containers of its own
        for workload in rendered.workloads():
            if workload["metadata"]["labels"].get("app.kubernetes.io/component") == "node-exporter":
                continue  # looks at its node, and the tutorial says so
            spec = helm.pod_of(workload)["spec"]
            for key in ("hostNetwork", "hostPID", "hostIPC"):
                self.assertFalse(spec.get(key))
            for volume in spec.get("volumes", []):
                self.assertNotIn("hostPath", volume)
            for container in spec["containers"] + spec.get("initContainers", []):
                if container["name"] == "proxy":
                    continue
                context = {**spec.get("securityContext", {}), **container["securityContext"]}
                self.assertIs(context["allowPrivilegeEscalation"], False)
                self.assertEqual(context["capabilities"]["drop"], ["ALL"])
                self.assertIs(context["runAsNonRoot"], True)
                self.assertNotEqual(context["runAsUser"], 0)
                self.assertEqual(context["seccompProfile"]["type"], "RuntimeDefault")
                self.assertIs(context["readOnlyRootFilesystem"], True)
                self.assertFalse(context.get("privileged"))

    @each
    def test_accounts_are_given_only_where_they_are_used(self, name, rendered):
        if name == "pods":
            return
        for workload in rendered.workloads():
            component = workload["metadata"]["labels"].get("app.kubernetes.io/component")
            mounts = helm.pod_of(workload)["spec"].get("automountServiceAccountToken", True)
            self.assertEqual(mounts, component in ("server", "kube-state-metrics"), component)

    @each
    def test_rights_are_least(self, name, rendered):
        """The server looks at what discovery needs and at metrics; it writes nothing and reads no Secret."""
        if name == "pods":
            return
        for role in rendered.find("ClusterRole") + rendered.find("Role"):
            for rule in role["rules"]:
                self.assertLessEqual(set(rule["verbs"]), {"get", "list", "watch"})
                self.assertNotIn("*", json.dumps(rule))
                self.assertFalse({"secrets", "configmaps", "nodes/proxy", "pods/exec"} & set(rule.get("resources", [])))
    def test_rights_are_least_by_name(self):
        role = self.rendered["default"].find("ClusterRole", "kube-monitoring-thanos-server")
        resources = sorted(r for rule in role["rules"] for r in rule.get("resources", rule.get("nonResourceURLs")))
        self.assertEqual(resources, ["/metrics", "endpointslices", "nodes", "nodes/metrics", "pods", "services"])
        spaces = self.rendered["server in two namespaces"]
        self.assertEqual(spaces.find("ClusterRole"), [])
        self.assertEqual(sorted(r["metadata"]["namespace"] for r in spaces.find("Role")), ["bank", "kube-monitoring", "shop"])

    @each
    def test_grace_covers_drain(self, name, rendered):
        for workload in rendered.workloads():
            spec = helm.pod_of(workload)["spec"]
            for container in spec["containers"]:
                for argument in container.get("args", []):
                    if "-grace-period=" in argument and name != "pods":
                        drain = int(argument.split("=")[1].removesuffix("s"))
                        sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
                        self.assertGreater(spec["terminationGracePeriodSeconds"], drain + sleep)

    def test_gauges_of_age(self):
        """Kubernetes 1.29 knows neither a sleep before the stop nor where traffic should go; later ones do."""
        old, new = helm.render({}, "1.29"), helm.render({}, "1.34")
        self.assertNotIn("lifecycle", helm.component(old, "query")[1])
        self.assertEqual(helm.component(new, "query")[1]["lifecycle"], {"preStop": {"sleep": {"seconds": 5}}})
        self.assertNotIn("trafficDistribution", old.find("Service", "thanos-query")["spec"])
        self.assertEqual(helm.render({}, "1.32").find("Service", "thanos-query")["spec"]["trafficDistribution"], "PreferClose")
        self.assertEqual(new.find("Service", "thanos-query")["spec"]["trafficDistribution"], "PreferSameZone")


if __name__ == "__main__":
    unittest.main()
