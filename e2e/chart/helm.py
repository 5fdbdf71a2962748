"""Renders charts with Helm's own engine, and finds things in what came out."""

import copy
import pathlib
import unittest

REPO = pathlib.Path(__file__).resolve().parent.parent.parent
CHART = REPO / "charts/epimetheus"
VERSIONS = ["1.29", "1.30", "1.31", "1.32", "1.33", "1.34"]

try:
    import yaml
    from helm_python.chart import Chart, lint
    from helm_python.errors import HelmError
except ImportError as error:  # said once, by every test that needs it
    raise unittest.SkipTest(f"SKIPPED: {error}; pip install -r e2e/chart/requirements.txt")


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """As Helm reads it: no dates, and `on` is a word only in YAML 1.1, which Helm's reader keeps to as well."""


def load_yaml(text):
    return yaml.load(text, Loader)


def values_file(name):
    return load_yaml((CHART / f"ci/{name}-values.yaml").read_text()) if name != "default" else {}


def overlay(under, over):
    """Map upon map, as Helm lays values over a chart's own."""
    result = copy.deepcopy(under)
    for key, value in over.items():
        result[key] = overlay(result[key], value) if isinstance(value, dict) and isinstance(result.get(key), dict) else copy.deepcopy(value)
    return result


def nested(path, value):
    """{"a": {"b": value}} for "a.b"; a dot inside a key is written as \\."""
    for key in reversed(path.replace("\\.", "\0").split(".")):
        value = {key.replace("\0", "."): value}
    return value


class Rendered:
    """The objects of one rendering, and its notes."""

    def __init__(self, files):
        self.notes = next((text for path, text in files.items() if path.endswith("NOTES.txt")), "")
        self.objects = []
        for path, text in sorted(files.items()):
            if path.endswith((".txt", ".tpl")):
                continue
            self.objects += [o for o in yaml.load_all(text, Loader) if o]

    def find(self, kind, name=None):
        found = [o for o in self.objects if o["kind"] == kind and (name is None or o["metadata"]["name"] == name)]
        return found if name is None else found[0] if found else None

    def workloads(self):
        return [o for o in self.objects if o["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "Pod")]


def pod_of(workload):
    """The pod that a workload makes: its metadata and spec."""
    if workload["kind"] == "Pod":
        return workload
    spec = workload["spec"]
    return (spec["jobTemplate"]["spec"] if workload["kind"] == "CronJob" else spec)["template"]


_loaded = {}


def chart(path=CHART):
    if path not in _loaded:
        _loaded[path] = Chart.load(str(path))
    return _loaded[path]


def render(values=None, version="1.34", name="thanos", namespace="kube-monitoring", path=CHART):
    """Renders with a claimed version of Kubernetes; raises HelmError where Helm would refuse, the schema included."""
    values = {"kubeVersion": f"v{version}.0", **(values or {})}
    return Rendered(chart(path).render(values, name=name, namespace=namespace))


def component(rendered, name):
    """The workload of a component, and its own container."""
    workload = next(w for w in rendered.workloads() if w["metadata"]["labels"].get("app.kubernetes.io/component") == name)
    return workload, pod_of(workload)["spec"]["containers"][-1]
