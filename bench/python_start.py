#!/usr/bin/env python3
"""What a secret costs a script: from interpreter start to value in hand, against `python -c pass` in the same run.

Run it with an interpreter that has the wheel: `python bench/python_start.py [ROUNDS]`. The launcher is a pretended one in
this process. The budget is 5 ms above a bare start of 9.1 ms, on a quiet two-core machine; a busy or slower one stretches
both, so the verdict is a ratio: a script with its secret in hand may have taken at most LIMIT times the bare interpreter.
Exit code 1 when it took more.
"""

import json
import statistics
import subprocess
import sys
import time

from kluis.testing import fake_run

#: (9.1 ms + 5 ms) / 9.1 ms: the budget over the bare start that it was set against.
LIMIT = 1.55

CASES = {
    "pass": "pass",
    "import kluis": "import kluis",
    "from kluis import Run": "from kluis import Run",
    "get_secret": "from kluis import Run; Run.get_context().get_secret('db-password')",
    "100 get_secret": "from kluis import Run; r = Run.get_context()\nfor _ in range(100): r.get_secret('db-password')",
    "import json, socket": "import json, socket",
}


def once(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - began


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    taken: dict = {name: [] for name in CASES}
    with fake_run(secrets={"db-password": "hunter2"}):
        for name, code in CASES.items():
            once(code)  # byte code and page cache
        for _ in range(rounds):
            # Alternating, so that what else the machine does falls on all of them.
            for name, code in CASES.items():
                taken[name].append(once(code) * 1000)
    bare = statistics.median(taken["pass"])
    for name, times in taken.items():
        middle = statistics.median(times)
        # Each against the bare start of the same round.
        ratio = statistics.median(t / b for t, b in zip(times, taken["pass"]))
        print(
            json.dumps(
                {
                    "case": name,
                    "median_ms": round(middle, 2),
                    "min_ms": round(min(times), 2),
                    "above_bare_ms": round(middle - bare, 2),
                    "ratio": round(ratio, 3),
                }
            )
        )
    ratio = statistics.median(t / b for t, b in zip(taken["get_secret"], taken["pass"]))
    good = ratio <= LIMIT
    print(json.dumps({"bench": "python_start", "ratio": round(ratio, 3), "limit": LIMIT, "good": good}))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
