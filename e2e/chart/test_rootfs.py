"""The image's files, put together without a container engine: the binary runs in them as a stranger, with nothing to write to but /data.

Needs root and Linux' namespaces (unshare). EPIMETHEUS_BIN names the binary, target/debug/epimetheus otherwise.
"""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

import helm
from test_start import BINARY, PATIENCE, free_port, get

# Mounts the folder read-only upon itself, with an empty place for data, and starts the command there as somebody.
ENTER = """
set -e
mount --make-rprivate /
mount --bind "$ROOT" "$ROOT"
mount -t tmpfs tmpfs "$ROOT/data"
chmod 1777 "$ROOT/data"
mount -o remount,bind,ro "$ROOT"
exec chroot --userspec="$WHO" "$ROOT" "$@"
"""


class RootFs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not BINARY.exists():
            raise unittest.SkipTest(f"SKIPPED: no binary at {BINARY}; build it or set EPIMETHEUS_BIN")
        if os.geteuid() or not shutil.which("unshare") or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
            raise unittest.SkipTest("SKIPPED: needs root and mount namespaces")
        cls.root = pathlib.Path(tempfile.mkdtemp(prefix="epimetheus-rootfs-"))
        cls.addClassCleanup(shutil.rmtree, cls.root)
        cls.root.chmod(0o755)
        subprocess.run([helm.REPO / "image/rootfs", BINARY, cls.root], check=True)
        # What distroless/cc brings: libc and its kin, and a place for certificates.
        linked = subprocess.run(["ldd", BINARY], capture_output=True, text=True, check=True).stdout
        cls.libraries = re.findall(r"/\S+", linked)
        for library in cls.libraries:
            place = cls.root / library.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, place)

    def command(self, *args):
        return ["unshare", "-m", "sh", "-c", ENTER, "sh", *args]

    def environment(self, who):
        return {"PATH": os.environ["PATH"], "ROOT": str(self.root), "WHO": f"{who}:{who}"}

    def test_needs_only_what_distroless_cc_has(self):
        names = {pathlib.Path(library).name for library in self.libraries}
        self.assertLessEqual(names, {"libgcc_s.so.1", "libm.so.6", "libc.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1",
                                     "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"})

    def test_links(self):
        for name in ("prometheus", "promtool", "thanos"):
            self.assertEqual(os.readlink(self.root / "bin" / name), "epimetheus")
            done = subprocess.run(self.command(f"/bin/{name}", "--version"), env=self.environment(65532), capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 0, done.stderr)
            if not done.stdout.startswith(name):
                self.skipTest(f"NOT IN THIS BINARY: it answers as {done.stdout.split()[0]} when it is called {name}")

    def test_serves_as_anybody_on_a_read_only_root(self):
        for who in (65532, 1001):
            with self.subTest(who):
                port = free_port()
                log = tempfile.TemporaryFile("w+")
                process = subprocess.Popen(self.command("/bin/epimetheus", "all-in-one", "--data-dir=/data", f"--web.listen-address=127.0.0.1:{port}"),
                                           env=self.environment(who), stdout=log, stderr=subprocess.STDOUT)
                try:
                    end = time.monotonic() + PATIENCE
                    while get(f"http://127.0.0.1:{port}/-/ready") != 200:
                        log.seek(0)
                        self.assertIsNone(process.poll(), log.read())
                        self.assertLess(time.monotonic(), end)
                        time.sleep(0.1)
                    self.assertEqual(get(f"http://127.0.0.1:{port}/"), 200)
                    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
                    self.assertIn(f"Uid:\t{who}\t{who}", status)
                    root = pathlib.Path(f"/proc/{process.pid}/mountinfo").read_text()
                    self.assertRegex(root, r" / / ro,| \S+ / ro,")
                    process.send_signal(signal.SIGTERM)
                    self.assertEqual(process.wait(PATIENCE), 0)
                finally:
                    process.kill()
                    process.wait()
                    log.close()


if __name__ == "__main__":
    unittest.main()
