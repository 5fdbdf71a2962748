"""The tutorial's load as processes on one machine: simulated, not a cluster.

Queriers run as the chart renders them, behind a small round-robin; a model of the HorizontalPodAutoscaler looks at the CPU they use and starts
and stops them: 15 s between looks, a lag of the metrics, 10 % of tolerance, pods that are not ready, five minutes of calm before going down,
and addresses that are forgotten only a while after a pod was asked to stop. Its clock runs SPEED times as fast as the wall's. One querier
becomes three and one again; every answer is compared with what the server itself says.

The container's limit of CPU is not enforced, and CPU is counted against a request that suits the machine: what is shown is that the formula,
the readiness and the drain lose no query, not how fast a querier is. EPIMETHEUS_STORY sets the number of queries (600 otherwise).
"""

import http.client
import json
import math
import os
import threading
import time
import unittest
import urllib.request

import helm
import test_start

QUERIES = int(os.environ.get("EPIMETHEUS_STORY", "600"))
SPEED = 30
TICK = os.sysconf("SC_CLK_TCK")


def desired(current, use, target, low, high, tolerance=0.1):
    """The autoscaler's formula over pods that are ready: CPU in use as a share of what was asked for, each."""
    if not use:
        return current
    ratio = sum(use) / len(use) / target
    if abs(ratio - 1) <= tolerance:
        return current
    return max(low, min(high, math.ceil(len(use) * ratio)))


def series(data):
    """The series of an answer, in an order of their own: that of PromQL is not promised here."""
    return sorted(data["result"], key=lambda s: json.dumps(s["metric"], sort_keys=True))


class Formula(unittest.TestCase):
    def test_it_is_the_autoscalers(self):
        self.assertEqual(desired(1, [167], 50, 1, 3), 3, "ceil(3.34), three at most")
        self.assertEqual(desired(1, [167], 50, 1, 9), 4)
        self.assertEqual(desired(3, [54, 54, 54], 50, 1, 9), 3, "within the tolerance")
        self.assertEqual(desired(3, [10, 10, 10], 50, 1, 9), 1)
        self.assertEqual(desired(2, [], 50, 1, 9), 2, "no metrics, no change")


class Cluster:
    """Queriers, their Service and their autoscaler."""

    def __init__(self, test, values, services):
        self.test, self.values, self.services = test, values, services
        hpa = helm.render(values).find("HorizontalPodAutoscaler", "thanos-query")["spec"]
        self.low, self.high = hpa["minReplicas"], hpa["maxReplicas"]
        self.target = next(m["resource"]["target"]["averageUtilization"] for m in hpa["metrics"] if m["resource"]["name"] == "cpu")
        down = hpa["behavior"]["scaleDown"]
        self.calm, self.step_down = down["stabilizationWindowSeconds"], down["policies"][0]["periodSeconds"]
        self.lock = threading.Lock()
        self.pods, self.endpoints, self.next = [], [], 0
        self.recommendations, self.last_down, self.cpu, self.sizes = [], 0.0, {}, [self.low]
        self.request = None
        self.start(self.low)

    def start(self, number):
        for _ in range(number):
            pod = self.test.from_chart(self.values, "query", self.services)  # waits until it is ready, as a Service does
            with self.lock:
                self.pods.append(pod)
                self.endpoints.append(pod)

    def pick(self):
        """The next address of the Service."""
        with self.lock:
            self.next += 1
            return self.endpoints[self.next % len(self.endpoints)].ports["http"]

    def stop_one(self):
        """Asks the newest to stop. The Service learns of it a moment later; the sleep before the stop covers that, as the chart's does."""
        with self.lock:
            pod = self.pods.pop()

        def going():
            time.sleep(1)  # until its address is forgotten
            with self.lock:
                self.endpoints.remove(pod)
            time.sleep(1)  # what remains of preStopSleepSeconds
            code = pod.stop()
            if code != 0:
                self.test.failures.append(f"a querier ended with {code}: {pod.words()}")

        thread = threading.Thread(target=going)
        thread.start()
        return thread

    def use(self):
        """CPU of each ready pod since the last look, in percent of the request."""
        used = []
        now = time.monotonic()
        for pod in list(self.pods):
            with open(f"/proc/{pod.process.pid}/stat") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            total = (int(fields[11]) + int(fields[12])) / TICK
            before = self.cpu.get(pod)
            self.cpu[pod] = (now, total)
            if before:
                used.append((total - before[1]) / (now - before[0]))
        return used

    def look(self, now):
        """One turn of the autoscaler, at a time of its own clock. Returns threads of pods that go."""
        used = self.use()
        if self.request is None:
            if not used or used[0] < 0.005:
                return []
            self.request = max(used) / 1.67  # the load that the tutorial speaks of: 167 % of what one querier asks for
        share = [u / self.request * 100 for u in used]
        want = desired(len(self.pods), share, self.target, self.low, self.high)
        self.recommendations.append((now, want))
        self.recommendations = [(t, w) for t, w in self.recommendations if t >= now - self.calm]
        threads = []
        if want > len(self.pods):
            self.start(want - len(self.pods))
        elif want < len(self.pods):
            calm = max(w for _, w in self.recommendations)
            if calm < len(self.pods) and now - self.last_down >= self.step_down:
                self.last_down = now
                threads.append(self.stop_one())
        self.sizes.append(len(self.pods))
        return threads


class Story(test_start.Start):
    def test_one_three_one(self):
        self.failures = []
        values = helm.overlay(self.values(), {
            "server": {"kubernetes": {"enabled": False}, "scrapeInterval": "1s", "rules": {}}, "ruler": {"enabled": False},
            "query": {"autoscaling": {"enabled": True, "minReplicas": 1, "maxReplicas": 3, "targetCPU": 50}}})
        server = self.from_chart(values, "server")
        oracle = f"http://127.0.0.1:{server.ports['http']}/api/v1"
        end = time.monotonic() + test_start.PATIENCE
        while not self.answer(oracle + "/query?query=up")["result"]:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.2)
        time.sleep(2)
        moment = int(time.time()) - 1
        path = f"/query?time={moment}&query=count%20by%20(__name__)%20(%7Bjob%3D~%22.%2B%22%7D)"
        expected = series(self.answer(oracle + path))
        self.assertTrue(expected)
        cluster = Cluster(self, values, {"thanos-server-headless": f"127.0.0.1:{server.ports['grpc']}"})
        end = time.monotonic() + test_start.PATIENCE
        while (found := series(self.answer(f"http://127.0.0.1:{cluster.pick()}/api/v1{path}"))) != expected:
            self.assertLess(time.monotonic(), end, f"the querier says otherwise: {found[:3]} and not {expected[:3]}")
            time.sleep(0.2)
        served, quiet, over = [0], threading.Event(), threading.Event()

        def ask():
            while not over.is_set():
                if quiet.is_set():
                    time.sleep(1.5)  # somebody still looks at a dashboard
                connection = http.client.HTTPConnection("127.0.0.1", cluster.pick(), timeout=30)
                try:
                    connection.request("GET", "/api/v1" + path)
                    answer = connection.getresponse()
                    body = json.loads(answer.read())
                    if answer.status != 200 or series(body["data"]) != expected or body.get("warnings"):
                        self.failures.append(f"{answer.status} {str(body)[:300]}")
                except OSError as error:
                    self.failures.append(f"{type(error).__name__}: {error}")
                finally:
                    connection.close()
                served[0] += 1

        clients = [threading.Thread(target=ask) for _ in range(6)]
        for client in clients:
            client.start()
        began, going, highest = time.monotonic(), [], 1
        try:
            while time.monotonic() - began < 600 and not self.failures:
                time.sleep(15 / SPEED)
                going += cluster.look((time.monotonic() - began) * SPEED)
                highest = max(highest, len(cluster.pods))
                if highest == 3 and served[0] >= QUERIES:
                    quiet.set()
                if quiet.is_set() and len(cluster.pods) == 1:
                    break
        finally:
            over.set()
            for thread in clients + going:
                thread.join()
        self.assertEqual(self.failures[:3], [])
        self.assertEqual((highest, len(cluster.pods)), (3, 1), cluster.sizes)
        self.assertGreaterEqual(served[0], QUERIES)
        print(f"simulated: {served[0]} queries through {' -> '.join(str(n) for i, n in enumerate(cluster.sizes) if i == 0 or cluster.sizes[i - 1] != n)} queriers, none failed")
        for pod in cluster.pods + [server]:
            self.ended(pod)

    def answer(self, url):
        with urllib.request.urlopen(url, timeout=20) as answer:
            return json.load(answer)["data"]


for _name in [n for n in dir(test_start.Start) if n.startswith("test_")]:
    setattr(Story, _name, None)


if __name__ == "__main__":
    unittest.main()
