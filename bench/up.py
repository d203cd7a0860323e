#!/usr/bin/env python3
"""What a server costs: from its start to `ready`, on a data folder that exists, and its resident memory when idle.

Run it with an interpreter that has the wheel, or with KLUIS_BIN naming the program: `python bench/up.py [ROUNDS]`. Starts
alternate with `python -c pass`, so that what else the machine does falls on both. The budget is 100 ms on a quiet two-core
machine where the bare interpreter takes 9.1 ms, so the verdict is a ratio; the memory's budget is 30 MiB as it stands.
Exit code 1 when either is over.
"""

import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

#: 100 ms over the bare start that it was set against.
LIMIT = 100 / 9.1
IDLE_MIB = 30


def program() -> str:
    found = os.environ.get("KLUIS_BIN") or shutil.which("kluis", path=os.path.dirname(sys.executable)) or shutil.which("kluis")
    if found is None:
        sys.exit("kluis is not installed; set KLUIS_BIN to the program")
    return found


def resident_mib(pid: int) -> float:
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1]) / 1024


class Server:
    """One life of `kluis up` on a folder."""

    def __init__(self, home: str) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("KLUIS_")}
        environment.update(KLUIS_CONFIG_DIR=f"{home}/config", XDG_STATE_HOME=f"{home}/state")
        began = time.perf_counter()
        self.process = subprocess.Popen(
            [program(), "up", "--data", f"{home}/data", "--listen", "127.0.0.1:0"],
            env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.seconds = time.perf_counter() - began
        assert line.startswith(b"ready "), line

    def stop(self) -> None:
        assert self.process.stdout is not None
        self.process.terminate()
        self.process.wait(timeout=30)
        self.process.stdout.close()


def bare() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - began


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with tempfile.TemporaryDirectory(prefix="kluis-bench.") as home:
        first = Server(home)
        first.stop()
        starts, ratios = [], []
        for _ in range(rounds):
            base = bare()
            server = Server(home)
            server.stop()
            starts.append(server.seconds)
            ratios.append(server.seconds / base)
        idle = Server(home)
        time.sleep(3)
        memory = resident_mib(idle.process.pid)
        idle.stop()
    ratio = statistics.median(ratios)
    good = ratio <= LIMIT and memory <= IDLE_MIB
    result = {
        "bench": "up",
        "first_start_ms": round(first.seconds * 1000, 1),
        "median_ms": round(statistics.median(starts) * 1000, 1),
        "min_ms": round(min(starts) * 1000, 1),
        "ratio": round(ratio, 2),
        "limit": round(LIMIT, 2),
        "idle_mib": round(memory, 1),
        "idle_limit_mib": IDLE_MIB,
        "good": good,
    }
    print(json.dumps(result))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
