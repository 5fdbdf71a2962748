"""The server's configuration: real promtool reads it, and targets get the labels that dashboards look for."""

import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

import helm


def relabel(configs, labels):
    """Prometheus' relabelling, as far as the chart uses it. None: dropped."""
    labels = dict(labels)
    for c in configs:
        value = c.get("separator", ";").join(labels.get(name, "") for name in c.get("source_labels", []))
        pattern = re.compile(str(c.get("regex", "(.*)")), re.DOTALL)
        action = c.get("action", "replace")
        if action == "labelmap":
            for name in list(labels):
                if found := pattern.fullmatch(name):
                    labels[found.expand(re.sub(r"\$\{?(\w+)\}?", r"\\g<\1>", c.get("replacement", "$1")))] = labels[name]
            continue
        found = pattern.fullmatch(value)
        if (action == "keep" and not found) or (action == "drop" and found):
            return None
        if action == "replace" and found:
            result = found.expand(re.sub(r"\$\{?(\w+)\}?", r"\\g<\1>", c.get("replacement", "$1")))
            labels[c["target_label"]] = result
            if not result:
                del labels[c["target_label"]]
    return labels


def target(config, meta):
    """The labels under which a target is stored."""
    start = {"job": config["job_name"], "__scheme__": config.get("scheme", "http"), "__metrics_path__": config.get("metrics_path", "/metrics"), **meta}
    labels = relabel(config.get("relabel_configs", []), start)
    if labels is None:
        return None
    labels.setdefault("instance", labels["__address__"])
    return {k: v for k, v in labels.items() if not k.startswith("__")}


def behind(service, namespace, port, pod=None, container=None, node=None, address="10.0.0.7:9000", **labels):
    """What discovery says of an address in an EndpointSlice."""
    meta = {
        "__address__": address,
        "__meta_kubernetes_namespace": namespace,
        "__meta_kubernetes_service_name": service,
        "__meta_kubernetes_endpointslice_port_name": port,
        **{"__meta_kubernetes_service_" + k: v for k, v in labels.items()},
    }
    if node:
        meta |= {"__meta_kubernetes_endpointslice_address_target_kind": "Node", "__meta_kubernetes_endpointslice_address_target_name": node}
    if pod:
        meta |= {"__meta_kubernetes_endpointslice_address_target_kind": "Pod", "__meta_kubernetes_endpointslice_address_target_name": pod,
                 "__meta_kubernetes_pod_name": pod, "__meta_kubernetes_pod_container_name": container, "__meta_kubernetes_pod_phase": "Running"}
    return meta


class Scrape(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.rendered = helm.render(helm.values_file("demo"))
        cls.files = cls.rendered.find("ConfigMap", "thanos-server")["data"]
        cls.config = helm.load_yaml(cls.files["prometheus.yml"])
        cls.jobs = {j["job_name"]: j for j in cls.config["scrape_configs"]}

    def test_jobs(self):
        self.assertEqual(sorted(self.jobs), sorted([
            "thanos", "apiserver", "kubelet", "kubelet/cadvisor", "kubelet/probes", "coredns", "kube-state-metrics", "node-exporter",
            "kubernetes-service-endpoints", "kubernetes-pods"]))

    def test_external_labels(self):
        self.assertEqual(self.config["global"]["external_labels"], {"prometheus": "kube-monitoring/thanos", "prometheus_replica": "${POD_NAME}"})
        _, query = helm.component(self.rendered, "query")
        for label in ("prometheus_replica", "replica", "rule_replica"):
            self.assertIn(f"--query.replica-label={label}", query["args"])

    def test_the_querier_is_found(self):
        """up{container="querier"} of the tutorial, label by label."""
        service = self.rendered.find("Service", "thanos-query")
        labels = {"label_" + re.sub(r"\W", "_", k): v for k, v in service["metadata"]["labels"].items()}
        _, container = helm.component(self.rendered, "query")
        meta = behind("thanos-query", "kube-monitoring", "http", "thanos-query-7d-x", container["name"], address="10.0.0.7:10902", **labels)
        self.assertEqual(target(self.jobs["thanos"], meta), {
            "container": "querier", "endpoint": "http", "instance": "10.0.0.7:10902", "job": "thanos-query", "namespace": "kube-monitoring",
            "pod": "thanos-query-7d-x", "service": "thanos-query"})
        for other in ("thanos-query-grpc", "thanos-query-grpc-headless", "thanos-server-headless"):
            labels = {"label_" + re.sub(r"\W", "_", k): v for k, v in self.rendered.find("Service", other)["metadata"]["labels"].items()}
            self.assertIsNone(target(self.jobs["thanos"], behind(other, "kube-monitoring", "http", "p", "c", **labels)), "scraped once")

    def test_every_component_is_scraped_once(self):
        jobs = set()
        for service in self.rendered.find("Service"):
            labels = {"label_" + re.sub(r"\W", "_", k): v for k, v in service["metadata"]["labels"].items()}
            for port in service["spec"]["ports"]:
                if found := target(self.jobs["thanos"], behind(service["metadata"]["name"], "kube-monitoring", port["name"], "p", "c", **labels)):
                    self.assertNotIn(found["job"], jobs)
                    jobs.add(found["job"])
        self.assertEqual(jobs, {f"thanos-{n}" for n in ("server", "query", "query-frontend", "storegateway", "ruler", "compactor", "bucketweb",
                                                        "alertmanager", "grafana")})

    def test_kubelet(self):
        meta = {"__address__": "10.0.0.1:10250", "__meta_kubernetes_node_name": "minikube", "instance": "minikube"}
        paths = set()
        for name in ("kubelet", "kubelet/cadvisor", "kubelet/probes"):
            found = target(self.jobs[name], {k: v for k, v in meta.items() if k != "instance"})
            paths.add(found.pop("metrics_path"))
            self.assertEqual(found, {"job": "kubelet", "endpoint": "https-metrics", "instance": "10.0.0.1:10250", "namespace": "kube-system",
                                     "node": "minikube", "service": "kubelet"})
        self.assertEqual(paths, {"/metrics", "/metrics/cadvisor", "/metrics/probes"})

    def test_apiserver_and_coredns(self):
        meta = behind("kubernetes", "default", "https", address="10.0.0.1:8443")
        self.assertEqual(target(self.jobs["apiserver"], meta), {
            "job": "apiserver", "endpoint": "https", "instance": "10.0.0.1:8443", "namespace": "default", "service": "kubernetes"})
        self.assertIsNone(target(self.jobs["apiserver"], behind("other", "default", "https")))
        meta = behind("kube-dns", "kube-system", "metrics", "coredns-x", "coredns", address="10.0.0.2:9153", label_k8s_app="kube-dns")
        self.assertEqual(target(self.jobs["coredns"], meta), {
            "job": "coredns", "endpoint": "metrics", "instance": "10.0.0.2:9153", "namespace": "kube-system", "service": "kube-dns",
            "pod": "coredns-x", "container": "coredns"})
        self.assertIsNone(target(self.jobs["coredns"], behind("kube-dns", "kube-system", "dns", "p", "c", label_k8s_app="kube-dns")))

    def test_exporters(self):
        for job, service in {"kube-state-metrics": "thanos-kube-state-metrics", "node-exporter": "thanos-node-exporter"}.items():
            o = self.rendered.find("Service", service)
            labels = {"label_" + re.sub(r"\W", "_", k): v for k, v in o["metadata"]["labels"].items()}
            found = target(self.jobs[job], behind(service, "kube-monitoring", o["spec"]["ports"][0]["name"], "p", job, **labels))
            self.assertEqual((found["job"], found["container"], found["service"]), (job, job, service))
        self.assertTrue(self.jobs["kube-state-metrics"]["honor_labels"])

    def test_annotations(self):
        pod = {"__address__": "10.0.0.3", "__meta_kubernetes_namespace": "shop", "__meta_kubernetes_pod_name": "web-0", "__meta_kubernetes_pod_phase": "Running",
               "__meta_kubernetes_pod_container_name": "web", "__meta_kubernetes_pod_annotation_prometheus_io_scrape": "true",
               "__meta_kubernetes_pod_annotation_prometheus_io_port": "8080", "__meta_kubernetes_pod_annotation_prometheus_io_path": "/m"}
        self.assertEqual(target(self.jobs["kubernetes-pods"], pod), {
            "job": "kubernetes-pods", "instance": "10.0.0.3:8080", "namespace": "shop", "pod": "web-0"})
        without_port = {k: v for k, v in pod.items() if not k.endswith("io_port")}
        self.assertEqual(target(self.jobs["kubernetes-pods"], without_port)["container"], "web")
        labels = relabel(self.jobs["kubernetes-pods"]["relabel_configs"], pod)
        self.assertEqual(labels["__metrics_path__"], "/m")
        self.assertIsNone(target(self.jobs["kubernetes-pods"], {**pod, "__meta_kubernetes_pod_annotation_prometheus_io_scrape": "false"}))
        self.assertIsNone(target(self.jobs["kubernetes-pods"], {**pod, "__meta_kubernetes_pod_phase": "Succeeded"}))
        service = behind("web", "shop", "metrics", "web-0", "web", address="10.0.0.3:9100", annotation_prometheus_io_scrape="true",
                         annotation_prometheus_io_port="8080")
        found = target(self.jobs["kubernetes-service-endpoints"], service)
        self.assertEqual((found["job"], found["instance"]), ("web", "10.0.0.3:8080"))

    def test_annotated_is_scraped_once(self):
        """Equal labels are one target: discovery knows one for each port of each container."""
        on = {"annotation_prometheus_io_scrape": "true"}
        ports = [("http", "web"), ("admin", "web"), ("envoy", "proxy")]
        job = self.jobs["kubernetes-service-endpoints"]
        found = [target(job, behind("web", "shop", port, "web-0", container, annotation_prometheus_io_port="8080", **on)) for port, container in ports]
        self.assertEqual(found, [{"job": "web", "service": "web", "namespace": "shop", "pod": "web-0", "instance": "10.0.0.7:8080"}] * 3)
        self.assertEqual({target(job, behind("web", "shop", port, "web-0", container, **on))["endpoint"] for port, container in ports},
                         {"http", "admin", "envoy"})
        pods = [{"__address__": f"10.0.0.3:{number}", "__meta_kubernetes_pod_name": "web-0", "__meta_kubernetes_pod_container_name": container,
                 "__meta_kubernetes_pod_container_port_name": port, "__meta_kubernetes_pod_annotation_prometheus_io_scrape": "true",
                 "__meta_kubernetes_pod_annotation_prometheus_io_port": "8080"} for number, (port, container) in enumerate(ports)]
        self.assertEqual([target(self.jobs["kubernetes-pods"], pod) for pod in pods],
                         [{"job": "kubernetes-pods", "pod": "web-0", "instance": "10.0.0.3:8080"}] * 3)
        # Who has a job of its own is often annotated as well.
        others = {("kube-dns", "kube-system"): {"label_k8s_app": "kube-dns"}, ("ksm", "monitoring"): {"label_app_kubernetes_io_name": "kube-state-metrics"},
                  ("nodes", "monitoring"): {"label_app_kubernetes_io_name": "prometheus-node-exporter"}}
        for (service, namespace), labels in others.items():
            meta = behind(service, namespace, "metrics", "p", "c", **labels, **on)
            self.assertIsNone(target(job, meta))
        off = helm.render({"server": {"kubernetes": {"coredns": False, "kubeStateMetrics": False, "nodeExporter": False}}})
        config = helm.load_yaml(off.find("ConfigMap", "thanos-server")["data"]["prometheus.yml"])
        job = next(j for j in config["scrape_configs"] if j["job_name"] == "kubernetes-service-endpoints")
        for (service, namespace), labels in others.items():
            self.assertIsNotNone(target(job, behind(service, namespace, "metrics", "p", "c", **labels, **on)))

    def promtool(self, *args, **files):
        tool = shutil.which("promtool")
        if not tool:
            self.skipTest("SKIPPED: promtool is not installed")
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                (pathlib.Path(folder) / name).write_text(text)
            done = subprocess.run([tool, *args], cwd=folder, capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            return done.stdout

    def test_promtool_reads_configuration_and_rules(self):
        config = helm.load_yaml(self.files["prometheus.yml"])
        config["rule_files"] = ["*.rules.yml"]
        for job in config["scrape_configs"]:  # Debian's promtool 2.42 is older than this key, and built without discovery in Kubernetes
            job.pop("track_timestamps_staleness", None)
            job["static_configs"] = [{"targets": ["a:1"]} for _ in job.pop("kubernetes_sd_configs")]
        text = helm.yaml.safe_dump(config).replace("/var/run/secrets/kubernetes.io/serviceaccount/", "")
        rules = {name: text for name, text in self.files.items() if name.endswith(".rules.yml")}
        self.assertIn("mixin.rules.yml", rules)
        out = self.promtool("check", "config", "prometheus.yml", **{"prometheus.yml": text, "token": "t", "ca.crt": ""}, **rules)
        self.assertIn("SUCCESS", out)
        self.assertIn("Watchdog", rules["mixin.rules.yml"])

    def test_promtool_reads_every_panel(self):
        import json
        exprs = []
        for file in sorted((helm.CHART / "files/dashboards").iterdir()):
            for panel in json.loads(file.read_text())["panels"]:
                exprs += [t["expr"] for t in panel.get("targets", [])]
        self.assertGreater(len(exprs), 30)
        rules = [{"record": f"panel:{i}", "expr": e.replace("$__rate_interval", "5m").replace("$job", ".+")} for i, e in enumerate(exprs)]
        self.promtool("check", "rules", "panels.yml", **{"panels.yml": helm.yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]})})

    def test_promtool_reads_the_mixin(self):
        for file in sorted((helm.REPO / "mixin/rules").iterdir()):
            self.assertIn("SUCCESS", self.promtool("check", "rules", "r.yml", **{"r.yml": file.read_text()}))


if __name__ == "__main__":
    unittest.main()
