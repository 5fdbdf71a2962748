"""Too much of everything, within the limits of the smallest preset: 150m of a CPU and 192Mi.

A query over far too many series, bodies that are huge or say that they are, and a room full of dashboards: each is answered or refused with a
clear code, the probes stay 200, the process stays the same, and memory falls back. Where a cgroup may be made the limits are enforced, so that
what takes more is killed; everywhere the memory that the process holds is read. EPIMETHEUS_DASHBOARDS sets the number of dashboards' queries.
"""

import concurrent.futures
import http.client
import http.server
import json
import os
import threading
import time
import unittest
import urllib.parse

import helm
import test_start

DASHBOARDS = int(os.environ.get("EPIMETHEUS_DASHBOARDS", "200"))
TARGETS, SERIES = 4, 2_500
SMALL = {"resourcesPreset": "nano"}


class Exporter(http.server.BaseHTTPRequestHandler):
    """A target with many series."""

    TEXT = "".join(f'load{{i="{i}",shard="{i % 50}"}} {i}\n' for i in range(SERIES)).encode()

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(self.TEXT)

    def log_message(self, *_):
        pass


def held(pod):
    """Bytes of memory that a process holds of its own: not the pages of its program, which can be read again."""
    with open(f"/proc/{pod.process.pid}/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("RssAnon"))


def ask(port, path, query=None, timeout=120, **parameters):
    """Status and text of an answer."""
    if query is not None:
        path += "?" + urllib.parse.urlencode({"query": query, **parameters})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


class Watch(threading.Thread):
    """Asks the probes all the time, as patiently as the kubelet would, and reads the memory held."""

    def __init__(self, pods):
        super().__init__(daemon=True)
        self.pods, self.over, self.peak, self.failed, self.asked = pods, threading.Event(), {p: 0 for p in pods}, [], 0

    def run(self):
        while not self.over.wait(0.2):
            for pod in self.pods:
                for probe in ("livenessProbe", "readinessProbe"):
                    probe = pod.container[probe]
                    path = probe["httpGet"]["path"]
                    try:
                        status, _ = ask(pod.ports["http"], path, timeout=probe["timeoutSeconds"])
                    except OSError as error:
                        status = error
                    self.asked += 1
                    if status != 200:
                        self.failed.append(f"{pod.folder.name}{path}: {status}")
                self.peak[pod] = max(self.peak[pod], held(pod))

    def end(self):
        self.over.set()
        self.join()


class Overload(test_start.Start):
    def setUp(self):
        super().setUp()
        target = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Exporter)
        threading.Thread(target=target.serve_forever, daemon=True).start()
        self.addCleanup(target.server_close)
        self.addCleanup(target.shutdown)
        jobs = [{"job_name": f"load-{i}", "scrape_interval": "5s", "static_configs": [{"targets": [f"127.0.0.1:{target.server_port}"]}]} for i in range(TARGETS)]
        values = helm.overlay(self.values(), {
            "server": {**SMALL, "kubernetes": {"enabled": False}, "extraScrapeConfigs": jobs, "rules": {}, "extraFlags": ["--web.enable-remote-write-receiver"]},
            "query": SMALL, "ruler": {"enabled": False}})
        self.server = self.from_chart(values, "server", limited=True)
        self.query = self.from_chart(values, "query", {"thanos-server-headless": f"127.0.0.1:{self.server.ports['grpc']}"}, limited=True)
        self.pods = (self.server, self.query)
        if self.server.group.enforced:
            print(self.server.group.enforced)
        end = time.monotonic() + test_start.PATIENCE
        for pod in self.pods:
            while not self.count(pod) >= TARGETS * SERIES:
                self.assertLess(time.monotonic(), end, pod.words())
                time.sleep(0.5)

    def count(self, pod):
        status, text = ask(pod.ports["http"], "/api/v1/query", "count(load)")
        result = json.loads(text)["data"]["result"] if status == 200 else []
        return int(result[0]["value"][1]) if result else 0

    def test_too_much(self):
        watch = Watch(self.pods)
        watch.start()
        try:
            for what in (self.queries, self.bodies, self.dashboards):
                with self.subTest(what.__name__):
                    what()
                    for pod in self.pods:
                        self.assertIsNone(pod.process.poll(), f"{what.__name__} ended it:\n{pod.words()}")
                        self.assertGreaterEqual(self.count(pod), TARGETS * SERIES, "it still answers")
        finally:
            watch.end()
        self.assertEqual(watch.failed[:5], [], f"of {watch.asked} probes")
        limit = self.server.group.memory
        for pod in self.pods:
            self.assertLess(watch.peak[pod], limit, pod.folder.name)
            end = time.monotonic() + test_start.PATIENCE
            while held(pod) > limit / 2:
                self.assertLess(time.monotonic(), end, f"{pod.folder.name} keeps {held(pod) >> 20} MiB")
                time.sleep(1)
            self.ended(pod)

    def queries(self):
        """Over their budget they fail alone, with words; so do several at once."""
        now = time.time()
        wide = {"start": now - 36_000, "end": now, "step": 4}
        heavy = ["load", "load * on(i, job) group_left() load + load", 'label_replace(load, "a", "$1", "i", "(.*)")']

        def one(pod, query):
            status, text = ask(pod.ports["http"], "/api/v1/query_range", query, **wide)
            return pod, query, status, text[:500]

        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            asked = [pool.submit(one, pod, query) for pod in self.pods for query in heavy * 4]
            for future in asked:
                pod, query, status, text = future.result()
                where = f"{pod.folder.name}: {query}: {status} {text}"
                self.assertIn(status, (200, 422, 503), where)
                if status != 200:
                    said = json.loads(text)
                    self.assertEqual(said["status"], "error", where)
                    self.assertTrue(said["error"], where)
        status, text = ask(self.server.ports["http"], "/api/v1/query_range", "load", start=now - 36_000, end=now, step=1)
        self.assertEqual(status, 400, text)
        self.assertIn("exceeded maximum resolution of 11,000 points per timeseries", text)

    def bodies(self):
        """Remote write: a body that says it becomes 4 GiB, one that is noise, one that never ends."""
        huge = bytes([0xFF, 0xFF, 0xFF, 0xFF, 0x0F]) + b"\0" * 100
        for body in (huge, os.urandom(1 << 20)):
            self.assertIn(self.write(len(body), [body]), (400, 413))
        status = self.write(1 << 30, (bytes(1 << 16) for _ in range(1 << 14)))
        self.assertIn(status, (400, 413, None), "refused, or the connection is cut")

    def write(self, length, chunks):
        """Status of a remote write, or None if the connection is cut while the body is sent."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.ports["http"], timeout=120)
        connection.putrequest("POST", "/api/v1/write")
        for name, value in (("Content-Length", str(length)), ("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf")):
            connection.putheader(name, value)
        try:
            connection.endheaders()
            for chunk in chunks:
                connection.send(chunk)
        except OSError:
            pass  # it may have answered before it read all
        try:
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def dashboards(self):
        """Many at once: each is answered, if late, or told that there are too many."""
        panels = ["sum by (shard) (load)", "topk(5, load)", "avg(rate(load[1m]))", "count by (job) (load > 100)"]
        statuses = {}

        def one(i):
            pod = self.pods[i % 2]
            now = time.time()
            status, text = ask(pod.ports["http"], "/api/v1/query_range", panels[i % 4], start=now - 300, end=now, step=15)
            return status, text[:300]

        with concurrent.futures.ThreadPoolExecutor(100) as pool:
            for status, text in pool.map(one, range(DASHBOARDS)):
                statuses[status] = statuses.get(status, 0) + 1
                self.assertIn(status, (200, 422, 429, 503), text)
        print(f"dashboards: {statuses}")
        self.assertGreater(statuses.get(200, 0), 0)


for _name in [n for n in dir(test_start.Start) if n.startswith("test_")]:
    setattr(Overload, _name, None)


if __name__ == "__main__":
    unittest.main()
