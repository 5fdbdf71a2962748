"""mixin/metrics.tsv is true: what it says a role exposes, the role exposes."""

import re
import time
import unittest
import urllib.parse
import urllib.request

import helm
import test_start

ROWS = [line.split("\t") for line in (helm.REPO / "mixin/metrics.tsv").read_text().splitlines() if not line.startswith("#")]
# The component of the chart that plays a role. A sidecar needs a Prometheus, a frontend a querier: they are left out here.
ROLES = {"server": "server", "store": "storegateway", "query": "query"}


class Mixin(test_start.Start):
    def test_roles_expose_what_the_list_says(self):
        for role, component in ROLES.items():
            wanted = {metric for _, metric, _, who in ROWS if role in who.split(",")}
            with self.subTest(role):
                pod = self.from_chart(self.values(), component)
                with urllib.request.urlopen(f"http://127.0.0.1:{pod.ports['http']}/metrics", timeout=10) as answer:
                    found = {line.split()[2] for line in answer.read().decode().splitlines() if line.startswith("# TYPE ")}
                self.ended(pod)
                # Families with labels show once there is a first series: those of calls, rules, remotes and Alertmanagers wait for one.
                quiet = {m for m in wanted if m.startswith(("grpc_", "prometheus_rule_", "prometheus_target_interval", "prometheus_remote_storage_", "prometheus_notifications_", "thanos_store_nodes"))}
                self.assertEqual(sorted(wanted - found - quiet), [])

    def test_roles_expose_the_signals_of_the_docs(self):
        """The table of docs/kubernetes.md that says what an autoscaler may look at."""
        table = (helm.REPO / "docs/kubernetes.md").read_text().split("| role | signals it exposes |\n|---|---|\n")[1].split("\n\n")[0]
        signals = {role: re.findall(r"`(\w+)`", text) for role, text in re.findall(r"^\| ([\w-]+) \| (.*) \|$", table, re.MULTILINE)}
        everywhere = signals.pop("all")
        rule = "groups: [{name: g, interval: 1s, rules: [{record: one, expr: vector(1)}]}]"
        values = helm.overlay(self.values(), {"ruler": {"config": rule}})
        query = self.from_chart(values, "query")
        services = {"thanos-query": f"127.0.0.1:{query.ports['http']}"}
        for role, names in signals.items():
            with self.subTest(role):
                pod = query if role == "query" else self.from_chart(values, role, services)
                # Families with labels show once there is a first series.
                test_start.get(f"http://127.0.0.1:{pod.ports['http']}/api/v1/query?query=up")
                end, missing = time.monotonic() + test_start.PATIENCE, names
                while missing and time.monotonic() < end:
                    with urllib.request.urlopen(f"http://127.0.0.1:{pod.ports['http']}/metrics", timeout=10) as answer:
                        found = {line.split()[2] for line in answer.read().decode().splitlines() if line.startswith("# TYPE ")}
                    missing = sorted({*everywhere, *names} - found)
                    time.sleep(0.2)
                self.assertEqual(missing, [])
                if pod is not query:
                    self.ended(pod)
        self.ended(query)

    def test_our_alerts_are_evaluated(self):
        """On a server that scrapes itself no expression fails, equal labels from several names included."""
        values = helm.overlay(self.values(), {"server": {"kubernetes": {"enabled": False}, "scrapeInterval": "1s"}})
        pod = self.from_chart(values, "server")
        time.sleep(5)
        for file in sorted((helm.REPO / "mixin/rules").iterdir()):
            for group in helm.load_yaml(file.read_text())["groups"]:
                for rule in group["rules"]:
                    expr = re.sub(r'job=~"[^"]*"', 'job=~".+"', rule["expr"])
                    url = f"http://127.0.0.1:{pod.ports['http']}/api/v1/query?query=" + urllib.parse.quote(expr)
                    self.assertEqual(test_start.get(url), 200, f"{rule['alert']}: {expr}")
        self.ended(pod)

    def test_our_alerts_ask_for_known_metrics(self):
        known = {metric for _, metric, _, _ in ROWS}
        for file in sorted((helm.REPO / "mixin/rules").iterdir()):
            for group in helm.load_yaml(file.read_text())["groups"]:
                for rule in group["rules"]:
                    for name in re.findall(r"\b((?:thanos|prometheus|grpc)_\w+)\b(?=\{|\[| !=| >)", rule["expr"]):
                        base = re.sub(r"_(bucket|sum|count)$", "", name)
                        self.assertTrue({name, base} & known or name.startswith(("prometheus_t", "thanos_query_endpoints", "thanos_bucket_store_series_gate_queries")), f"{rule['alert']}: {name}")


for _name in [n for n in dir(test_start.Start) if n.startswith("test_")]:
    setattr(Mixin, _name, None)


if __name__ == "__main__":
    unittest.main()
