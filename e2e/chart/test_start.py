"""Every container that charts and operators make, started for real: its command, arguments, ports, probes and volumes.

EPIMETHEUS_BIN names the binary (target/debug/epimetheus otherwise). What a cluster would give is given by folders and free ports: paths of
mounts are put below a temporary folder, ports are replaced by free ones, and names of Services by the address of the process that stands
for them. A role that the binary does not have is reported as such and skipped; EPIMETHEUS_ALL_ROLES=1 makes that a failure.
EPIMETHEUS_S3_BIN names an S3 server (target/debug/s3kit otherwise); without one the bucket is a folder only.
"""

import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request

import cgroup
import helm
from variants import STORES

BINARY = pathlib.Path(os.environ.get("EPIMETHEUS_BIN", helm.REPO / "target/debug/epimetheus"))
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
PATIENCE = 60  # seconds; the machine may be busy


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


UNVERIFIED = ssl._create_unverified_context()  # certificates are made anew for each rendering


def get(url):
    """Status of a page, or None if nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5, context=UNVERIFIED) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def missing_role(args):
    """Why the binary cannot play this role, or None."""
    done = subprocess.run([BINARY, *args[:3 if args[0] == "tools" else 1], "--help"], capture_output=True, text=True, timeout=60)
    text = done.stdout + done.stderr
    if "not in this version" in text.split("\n\n")[0] or done.returncode != 0:
        return text.strip().splitlines()[0]
    return None


def missing_program(name):
    """Why the binary does not answer to the name of another program, or None."""
    with tempfile.TemporaryDirectory() as folder:
        link = pathlib.Path(folder) / name
        link.symlink_to(BINARY)
        text = subprocess.run([link, "--version"], capture_output=True, text=True, timeout=60).stdout
    return None if text.startswith(name) else f"called so it answers as {text.split()[0] if text else 'nobody'}"


class Pod:
    """A container as a process, in a folder of its own."""

    def __init__(self, folder, container, volumes, files, services):
        self.folder = pathlib.Path(folder)
        self.container = container
        self.group = None  # a cgroup.Group to run in
        self.ports = {p["name"]: free_port() for p in container["ports"]}
        by_number = {p["containerPort"]: self.ports[p["name"]] for p in container["ports"]}
        roots = {}
        for mount in sorted(container.get("volumeMounts", []), key=lambda m: m["mountPath"]):
            place = self.folder / mount["mountPath"].lstrip("/")
            place.mkdir(parents=True, exist_ok=True)
            roots[mount["mountPath"]] = place
            for name, text in volumes[mount["name"]].items():
                (place / name).write_text(self.local(text, roots, by_number, services))
        if container.get("account"):
            roots[ACCOUNT] = self.folder / "account"
            roots[ACCOUNT].mkdir()
            (roots[ACCOUNT] / "token").write_text("token")
            (roots[ACCOUNT] / "ca.crt").write_text(container["account"])
            config = self.folder / "conf/prometheus/prometheus.yml"
            config.write_text(self.local(config.read_text(), roots, {}, {}))
        for path, text in files.items():
            place = self.folder / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        self.env = {"POD_NAME": "pod-0", "OBJSTORE_CONFIG": f"type: FILESYSTEM\nconfig: {{directory: {self.folder}/bucket}}", **os.environ}
        for e in container.get("env", []):
            self.env[e["name"]] = e.get("value", "pod-0")
        self.program = BINARY
        if "binary" in container:  # the image has links by these names
            self.program = self.folder / container["binary"]
            self.program.symlink_to(BINARY)
        self.args = []
        for argument in container["args"]:
            argument = re.sub(r"\$\((\w+)\)", lambda m: self.env[m.group(1)], argument)
            self.args.append(self.local(argument, roots, by_number, services))
        self.log = (self.folder / "log").open("w+")
        self.process = None

    def local(self, text, roots, ports, services):
        """What the text says inside the cluster, said on this machine."""
        for path, place in sorted(roots.items(), key=lambda r: -len(r[0])):
            text = re.sub(rf"(?<![\w/]){re.escape(path)}(?=[/\s\"']|$)", str(place), text)
        text = re.sub(r"(?<![\w/])/(data|conf)(?=[/\s\"']|$)", rf"{self.folder}/\1", text)
        for port, local in ports.items():
            text = text.replace(f"0.0.0.0:{port}", f"127.0.0.1:{local}").replace(f"localhost:{port}", f"localhost:{local}")
        for name, address in services.items():
            text = re.sub(rf"dnssrv\+_\w+\._tcp\.{name}\.[\w.-]+", address, text)
            text = re.sub(rf"//{name}(\.[\w.-]+)?:\d+", f"//{address}", text)
        return text

    def start(self):
        enter = self.group.enter if self.group else None
        self.process = subprocess.Popen([self.program, *self.args], cwd=self.folder, env=self.env, stdout=self.log, stderr=subprocess.STDOUT, preexec_fn=enter)

    def words(self):
        return (self.folder / "log").read_text()[-3000:]

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise
        self.log.close()
        return self.process.returncode if self.process else None


class Start(unittest.TestCase):
    def setUp(self):
        if not BINARY.exists():
            self.skipTest(f"SKIPPED: no binary at {BINARY}; build it or set EPIMETHEUS_BIN")
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="epimetheus-start-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.bucket = self.folder / "bucket"
        self.bucket.mkdir()

    def run_pod(self, container, volumes, files=None, services=None, not_ready=None, wait=True, limited=False):
        """Starts it and asks its probes. `limited`: within the container's own limits, where a cgroup may be made."""
        why = missing_program(container["binary"]) if "binary" in container else missing_role(container["args"])
        if why:
            words = f"NOT IN THIS BINARY: {container.get('binary', container['args'][0])}: {why}"
            if os.environ.get("EPIMETHEUS_ALL_ROLES"):
                self.fail(words)
            self.skipTest(words)
        folder = self.folder / f"{container['name']}-{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        pod = Pod(folder, container, volumes, files or {}, services or {})
        if limited:
            pod.group = cgroup.Group(container["resources"]["limits"])
            self.addCleanup(pod.group.remove)
        pod.start()
        self.addCleanup(pod.kill)
        if not wait:
            return pod
        scheme = container.get("readinessProbe", {}).get("httpGet", {}).get("scheme", "http").lower()
        page = f"{scheme}://127.0.0.1:{pod.ports['http']}"
        probes = {p: container.get(p, {}).get("httpGet", {}).get("path") for p in ("startupProbe", "readinessProbe", "livenessProbe")}
        end = time.monotonic() + PATIENCE
        ready, wanted = probes["readinessProbe"] or "/-/ready", (503,) if not_ready else (200,)
        while get(page + ready) not in wanted:
            self.assertIsNone(pod.process.poll(), f"{container['name']} ended:\n{' '.join(pod.args)}\n{pod.words()}")
            self.assertLess(time.monotonic(), end, f"{container['name']} is not ready:\n{' '.join(pod.args)}\n{pod.words()}")
            time.sleep(0.1)
        if not not_ready:
            for name, path in probes.items():
                if path:
                    self.assertEqual(get(page + path), 200, name)
        self.assertEqual(get(page + "/-/healthy"), 200)
        self.assertEqual(get(page + "/metrics"), 200)
        for name, port in pod.ports.items():
            if name != "http":
                socket.create_connection(("127.0.0.1", port), 5).close()
        return pod

    def ended(self, pod):
        self.assertEqual(pod.stop(), 0, pod.words())

    def objstore(self):
        return f"type: FILESYSTEM\nconfig: {{directory: {self.bucket}}}"

    def from_chart(self, values, name, services=None, wait=True, limited=False):
        """Runs the container of a component of our chart."""
        import base64

        rendered = helm.render(values)
        workload, container = helm.component(rendered, name)
        if helm.pod_of(workload)["spec"]["automountServiceAccountToken"]:
            made = helm.render({"https": {"enabled": True, "autoGenerated": True}}).find("Secret", "thanos-http-certs-secret")
            container["account"] = base64.b64decode(made["data"]["ca.crt"]).decode()
        volumes = {t["metadata"]["name"]: {} for t in workload["spec"].get("volumeClaimTemplates", [])}
        for v in helm.pod_of(workload)["spec"].get("volumes", []):
            if "secret" in v:
                secret = rendered.find("Secret", v["secret"]["secretName"])
                volumes[v["name"]] = {k: base64.b64decode(t).decode() for k, t in secret.get("data", {}).items()} | secret.get("stringData", {})
            elif "configMap" in v:
                volumes[v["name"]] = rendered.find("ConfigMap", v["configMap"]["name"])["data"]
            else:
                volumes[v["name"]] = {}
        return self.run_pod(container, volumes, services=services, wait=wait, limited=limited)

    def values(self):
        return helm.overlay(STORES, {"objstoreConfig": self.objstore()})

    def component(self, name, values=None):
        self.ended(self.from_chart(self.values() if values is None else values, name))

    def test_server(self):
        self.component("server")

    def test_server_without_an_object_store(self):
        self.component("server", {})

    def test_query(self):
        self.component("query")

    def test_storegateway(self):
        self.component("storegateway")

    def test_ruler(self):
        self.component("ruler")

    def test_compactor(self):
        self.component("compactor")

    def test_bucketweb(self):
        self.component("bucketweb")

    def test_query_frontend(self):
        query = self.from_chart(self.values(), "query")
        try:
            self.ended(self.from_chart(self.values(), "query-frontend", {"thanos-query": f"127.0.0.1:{query.ports['http']}"}))
        finally:
            self.ended(query)

    def test_certificates_within_the_release(self):
        """With https, frontend and ruler reach the querier, whose certificate nobody vouches for."""
        rules = {"groups": [{"name": "g", "interval": "1s", "rules": [{"record": "a", "expr": "vector(1)"}]}]}
        values = helm.overlay(self.values(), {"https": {"enabled": True, "autoGenerated": True}, "ruler": {"config": helm.yaml.safe_dump(rules)}})
        pods = [self.from_chart(values, "query")]
        services = {"thanos-query": f"127.0.0.1:{pods[0].ports['http']}"}
        pods.append(self.from_chart(values, "query-frontend", services))
        pods.append(self.from_chart(values, "ruler", services))
        end, health = time.monotonic() + PATIENCE, None
        while health != "ok":
            self.assertLess(time.monotonic(), end, pods[2].words())
            time.sleep(0.2)
            with urllib.request.urlopen(f"https://127.0.0.1:{pods[2].ports['http']}/api/v1/rules", timeout=10, context=UNVERIFIED) as r:
                health = json.load(r)["data"]["groups"][0]["rules"][0]["health"]
            self.assertNotEqual(health, "err", pods[2].words())
        for pod in reversed(pods):
            self.ended(pod)

    def test_the_release_answers(self):
        """Server, store gateway and querier together: what the server scrapes of itself comes back from the querier, once."""
        values = helm.overlay(self.values(), {"server": {"kubernetes": {"enabled": False}, "scrapeInterval": "1s"}, "ruler": {"enabled": False}})
        rendered = helm.render(values)
        port = rendered.find("StatefulSet", "thanos-server")["spec"]["template"]["spec"]["containers"][0]["ports"]
        self.assertTrue(port)
        pods = [self.from_chart(values, "server"), self.from_chart(values, "storegateway")]
        services = {f"thanos-{n}-headless": f"127.0.0.1:{p.ports['grpc']}" for n, p in zip(("server", "storegateway"), pods)}
        pods.append(self.from_chart(values, "query", services))
        base = f"http://127.0.0.1:{pods[2].ports['http']}/api/v1"
        end, answer = time.monotonic() + PATIENCE, []
        while not answer:
            self.assertLess(time.monotonic(), end, pods[0].words() + pods[2].words())
            time.sleep(0.5)
            with urllib.request.urlopen(f"{base}/query?query=up", timeout=10) as r:
                answer = json.load(r)["data"]["result"]
        self.assertEqual(len(answer), 1)
        self.assertEqual((answer[0]["metric"]["job"], answer[0]["metric"]["prometheus"]), ("thanos-server", "kube-monitoring/thanos"))
        self.assertNotIn("prometheus_replica", answer[0]["metric"], "replicas are deduplicated")
        with urllib.request.urlopen(f"{base}/stores", timeout=10) as r:
            stores = json.load(r)["data"]
        self.assertEqual(sum(len(s) for s in stores.values()), 2, stores)
        # What `helm test` runs, and the load of the demo.
        script = helm.pod_of(rendered.find("Pod", "thanos-test"))["spec"]["containers"][0]["args"][0]
        job = helm.render(helm.overlay(values, {"demo": {"load": {"enabled": True, "duration": 2, "concurrency": 3}}})).find("Job", "thanos-load")
        load = helm.pod_of(job)["spec"]["containers"][0]
        addresses = {f"thanos-{n}:9090": f"127.0.0.1:{p.ports['http']}" for n, p in zip(("server", "storegateway", "query"), pods)}
        if shutil.which("curl"):
            for text, env in ((script, {}), (load["args"][0], {e["name"]: e["value"] for e in load["env"]})):
                lines = [line for line in text.splitlines() if not re.search(r"thanos-(compactor|bucketweb|query-frontend)", line)]
                text = "\n".join(lines)
                for name, address in addresses.items():
                    text = text.replace(name, address)
                done = subprocess.run(["sh", "-ec", text], env={**os.environ, **env}, capture_output=True, text=True, timeout=120)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertRegex(done.stdout, r"^\s*\d+ 200\n$", "every query of the load is answered")
        for pod in reversed(pods):
            self.ended(pod)

    def test_no_bucket_yet(self):
        """While the bucket is being made nobody gives up: RESTARTS stays 0."""
        config = f"type: S3\nconfig: {{bucket: b, endpoint: '127.0.0.1:{free_port()}', access_key: a, secret_key: s, insecure: true}}"
        for name in ("server", "storegateway", "ruler", "compactor", "bucketweb"):
            with self.subTest(name):
                pod = self.from_chart(helm.overlay(STORES, {"objstoreConfig": config}), name, wait=False)
                time.sleep(4)
                self.assertIsNone(pod.process.poll(), pod.words())
                pod.stop()

    def s3(self):
        """The address of an S3 server with the bucket "thanos"."""
        program = os.environ.get("EPIMETHEUS_S3_BIN", helm.REPO / "target/debug/s3kit")
        if not pathlib.Path(program).exists():
            self.skipTest(f"SKIPPED: no S3 server at {program}; a folder stood for the bucket")
        server = subprocess.Popen([program, "--listen", "127.0.0.1:0", "--bucket", "thanos", "--access-key", "minio", "--secret-key", "minio123"],
                                  stdout=subprocess.PIPE, text=True)

        def end():
            server.kill()
            server.wait()
            server.stdout.close()

        self.addCleanup(end)
        return re.search(r"127\.0\.0\.1:\d+", server.stdout.readline()).group()

    def test_a_bucket_in_s3(self):
        config = f"type: S3\nconfig: {{bucket: thanos, endpoint: '{self.s3()}', access_key: minio, secret_key: minio123, insecure: true}}"
        for name in ("server", "storegateway", "compactor", "bucketweb", "ruler"):
            with self.subTest(name):
                self.component(name, helm.overlay(STORES, {"objstoreConfig": config}))

    def test_the_demo_makes_its_buckets(self):
        if not shutil.which("curl"):
            self.skipTest("SKIPPED: curl is not installed")
        address = self.s3()
        values = {"minio": {"enabled": True, "auth": {"rootUser": "minio", "rootPassword": "minio123"}, "defaultBuckets": "one-more, thanos"}}
        job = next(o for o in helm.render(values).find("Job") if "buckets" in o["metadata"]["name"])
        script = helm.pod_of(job)["spec"]["containers"][0]["args"][0].replace("thanos-minio:9000", address)
        for password, code in (("minio123", 0), ("minio123", 0), ("wrong-word", 1)):
            done = subprocess.run(["sh", "-ec", script], env={**os.environ, "USER_NAME": "minio", "PASSWORD": password}, capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, code, done.stdout + done.stderr)


class Foreign(Start):
    """Containers of other charts and of Prometheus' operator, as their projects render them."""


class Ready(http.server.BaseHTTPRequestHandler):
    """Stands for a querier that is ready."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def foreign(case):
    def run(self):
        querier = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ready)
        threading.Thread(target=querier.serve_forever, daemon=True).start()
        self.addCleanup(querier.server_close)
        self.addCleanup(querier.shutdown)
        services = {"thanos-query": f"127.0.0.1:{querier.server_port}"}
        conf = {"objstore.yml": self.objstore()}
        container = {**case, "ports": [{"name": n, "containerPort": p} for n, p in case["ports"].items()],
                     "volumeMounts": [{"name": "conf", "mountPath": "/conf"}, {"name": "rule-conf", "mountPath": "/conf/objstore"}, {"name": "data", "mountPath": "/data"}]}
        self.ended(self.run_pod(container, {"conf": conf, "rule-conf": conf, "data": {}}, case.get("files"), services, case.get("not ready")))
    run.__doc__ = f"{case['who']}: {case['name']}"
    return run


for _name in [n for n in dir(Start) if n.startswith("test_")]:
    setattr(Foreign, _name, None)
for _case in json.loads((pathlib.Path(__file__).parent / "foreign.json").read_text()):
    setattr(Foreign, "test_" + re.sub(r"\W+", "_", f"{_case['who']} {_case['name']}").lower(), foreign(_case))


if __name__ == "__main__":
    unittest.main()
