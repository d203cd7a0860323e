#!/usr/bin/env python3
"""What a secret costs a script written for Azure ML: from process start to value in hand, and in memory, with azureml-core and
with kluis-azureml. The same script, the same server, the same run, the same interpreter; rounds alternate.

    python bench/azureml_start.py AZUREML_PYTHON DROPIN_PYTHON [ROUNDS]

The first interpreter is of an environment that has azureml-core, the second of one that has kluis and kluis-azureml; bench/run
makes both. The server is started here; the rounds run inside `kluis exec`, whose launcher answers both clients. The verdict is
a ratio of times, what is resident above a bare interpreter, and what `from azureml.core import Run` costs above `import kluis`
(5 ms where the bare interpreter takes 9.1, so a share of that). Exit code 1 when one misses its budget, or when one of the two
clients can not read the secret.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

#: How many times faster than azureml-core.
FASTER = 50
#: What may be resident above a bare interpreter with the secret in hand.
MIB = 8
#: What importing may take above `import kluis`, in starts of the bare interpreter.
IMPORT = 5 / 9.1

SECRET = "hunter2-of-the-bench"
_RESIDENT = "print(next(l.split()[1] for l in open('/proc/self/status') if l.startswith('VmRSS:')), flush=True)\n"
SCRIPT = (
    "from azureml.core import Run\nrun = Run.get_context(allow_offline=False)\nsecret_value = run.get_secret(name='db-password')\n"
    f"assert secret_value == {SECRET!r}\n"
) + _RESIDENT


def once(python: str, code: str) -> tuple:
    """Seconds until the script has its secret and says so, and its resident KiB then."""
    began = time.perf_counter()
    process = subprocess.Popen([python, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    line = process.stdout.readline()
    seconds = time.perf_counter() - began
    _, said = process.communicate(timeout=120)
    if process.returncode != 0 or not line:
        lines = said.decode(errors="replace").strip().splitlines()
        # The error itself, without where it was raised.
        last = max((i for i, text in enumerate(lines) if text[:1].isalpha()), default=0)
        raise RuntimeError(" ".join(lines[last:])[:300] or "it said nothing")
    return seconds, int(line)


def inside(real: str, dropin: str, rounds: int) -> int:
    """In the run."""
    cases = {
        "bare": (dropin, _RESIDENT),
        "import kluis": (dropin, "import kluis\n" + _RESIDENT),
        "from azureml.core import Run": (dropin, "from azureml.core import Run\n" + _RESIDENT),
        "kluis-azureml": (dropin, SCRIPT),
        "azureml-core": (real, SCRIPT),
    }
    seen: dict = {name: [] for name in cases}
    failed = {}
    for turn in range(rounds + 1):
        for name, (python, code) in cases.items():
            if name in failed:
                continue
            try:
                result = once(python, code)
            except RuntimeError as error:
                failed[name] = str(error)
                continue
            if turn > 0:  # the first is for byte code and page cache
                seen[name].append(result)
    if "azureml-core" in failed and "AZUREML_RUN_TOKEN" not in os.environ:
        failed["azureml-core"] = f"the launcher tells azureml-core of no run (no AZUREML_RUN_TOKEN). {failed['azureml-core']}"
    for name, results in seen.items():
        if results:
            times, memory = zip(*results)
            line = {"case": name, "median_ms": round(statistics.median(times) * 1000, 1), "min_ms": round(min(times) * 1000, 1)}
            print(json.dumps({**line, "resident_mib": round(statistics.median(memory) / 1024, 1)}))
    for name, why in failed.items():
        print(json.dumps({"case": name, "failed": why}))

    def above(name: str) -> float:
        return statistics.median((a[1] - b[1]) / 1024 for a, b in zip(seen[name], seen["bare"]))

    result: dict = {"bench": "azureml_start", "at_least": FASTER, "limit_mib": MIB, "import_limit": round(IMPORT, 2), "good": False}
    if not set(failed) - {"azureml-core"}:
        imports = zip(seen["from azureml.core import Run"], seen["import kluis"], seen["bare"])
        result["import"] = round(statistics.median((a[0] - b[0]) / bare[0] for a, b, bare in imports), 2)
        result["above_bare_mib"] = round(above("kluis-azureml"), 2)
        result["above_bare_ms"] = round(statistics.median((a[0] - b[0]) * 1000 for a, b in zip(seen["kluis-azureml"], seen["bare"])), 2)
        if "azureml-core" not in failed:
            result["azureml_core_above_bare_mib"] = round(above("azureml-core"), 1)
            result["faster"] = round(statistics.median(a[0] / b[0] for a, b in zip(seen["azureml-core"], seen["kluis-azureml"])), 1)
            within = result["above_bare_mib"] <= MIB and result["import"] <= IMPORT
            result["good"] = within and result["faster"] >= FASTER
    print(json.dumps(result))
    return 0 if result["good"] else 1


def outside(real: str, dropin: str, rounds: str) -> int:
    """A server, a secret, and a run in which the rounds take place."""
    kluis = os.environ.get("KLUIS_BIN") or os.path.join(os.path.dirname(dropin), "kluis")
    with tempfile.TemporaryDirectory(prefix="kluis-bench.") as home:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("KLUIS_", "AZUREML_"))}
        environment.update(KLUIS_CONFIG_DIR=f"{home}/config", XDG_STATE_HOME=f"{home}/state", BENCH_SECRET=SECRET)
        server = subprocess.Popen(
            [kluis, "up", "--data", f"{home}/data", "--listen", "127.0.0.1:0"],
            env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            assert server.stdout.readline().startswith(b"ready ")
            setting = [kluis, "secret", "set", "db-password", "--from-env", "BENCH_SECRET"]
            subprocess.run(setting, env=environment, check=True, capture_output=True)
            command = [dropin, os.path.abspath(__file__), "--inside", real, dropin, rounds]
            run = [kluis, "exec", "--secret", "db-password", "--", *command]
            return subprocess.run(run, env=environment, stdin=subprocess.DEVNULL, check=False, cwd=pathlib.Path(__file__).parent).returncode
        finally:
            server.terminate()
            server.wait(timeout=30)
            server.stdout.close()


def main() -> int:
    arguments = sys.argv[1:]
    if arguments[:1] == ["--inside"]:
        return inside(arguments[1], arguments[2], int(arguments[3]))
    if not arguments:
        # As bench/run calls every benchmark: with the environments that it made beside its own.
        here = pathlib.Path(sys.prefix).parent
        arguments = [str(here / "bench-azureml" / "bin" / "python"), str(here / "bench-dropin" / "bin" / "python")]
    if not all(os.access(python, os.X_OK) for python in arguments[:2]) or len(arguments) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    return outside(arguments[0], arguments[1], arguments[2] if len(arguments) > 2 else "15")


if __name__ == "__main__":
    sys.exit(main())
