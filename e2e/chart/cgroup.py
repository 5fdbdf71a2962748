"""A container's limits of CPU and memory as a cgroup of this machine, where this user may make one."""

import os
import pathlib
import re
import time

ROOT = pathlib.Path("/sys/fs/cgroup")
PERIOD = 100_000  # microseconds, as the kubelet has it
SIZES = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


def cpus(text):
    """CPUs of a quantity: 0.15 for 150m."""
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def size(text):
    """Bytes of a quantity: 1048576 for 1Mi."""
    number, unit = re.fullmatch(r"(\d+)(\w*)", text).groups()
    return int(number) * SIZES[unit]


class Group:
    """A cgroup with a container's limits; without the right to make one, `enforced` says why and the limits are numbers only."""

    def __init__(self, limits):
        self.cpu, self.memory, self.enforced = cpus(limits["cpu"]), size(limits["memory"]), None
        name = f"epimetheus-test-{os.getpid()}-{time.monotonic_ns()}"
        quota = int(self.cpu * PERIOD)
        if (ROOT / "cgroup.controllers").exists():
            self.wanted = [(ROOT / name, {"cpu.max": f"{quota} {PERIOD}", "memory.max": str(self.memory), "memory.swap.max": "0"})]
        else:
            self.wanted = [(ROOT / "cpu" / name, {"cpu.cfs_period_us": str(PERIOD), "cpu.cfs_quota_us": str(quota)}),
                           (ROOT / "memory" / name, {"memory.limit_in_bytes": str(self.memory)})]
        try:
            for folder, files in self.wanted:
                folder.mkdir()
                for file, text in files.items():
                    if file != "memory.swap.max" or (folder / file).exists():
                        (folder / file).write_text(text)
        except OSError as error:
            self.enforced = f"the limits are not enforced: {error}"
            self.remove()
            self.wanted = []

    def enter(self):
        """Called in the child, before it becomes the program."""
        for folder, _ in self.wanted:
            (folder / "cgroup.procs").write_text(str(os.getpid()))

    def remove(self):
        for folder, _ in self.wanted:
            for _ in range(50):
                try:
                    folder.rmdir()
                    break
                except FileNotFoundError:
                    break
                except OSError:  # the last process is still going
                    time.sleep(0.1)
