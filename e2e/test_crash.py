"""Nothing acknowledged is lost: the server is killed 200 times at random moments under load.

A ledger holds what was acknowledged. Afterwards every acknowledged write is there, every delivered value is in the audit log, no
run was given a value after its end was acknowledged, and a run that was healthy all along ends well.
"""

from __future__ import annotations

import collections
import os
import random
import threading
import time

from kluis_server import Client, Refused, Server, away, free_port, wait_for
from launcher import Launcher

KILLS = int(os.environ.get("KLUIS_KILLS", "200"))
WORKSPACE = "/api/v1/workspaces/default"

HEALTHY = """
import os, time
from kluis import Run

run = Run.get_context()
reads = 0
while not os.path.exists(os.environ["STOP_FILE"]):
    run.get_secret("steady", refresh=True, timeout=120)
    reads += 1
    time.sleep(0.1)
run.log("reads", reads)
print("survived")
"""


class Ledger:
    """What the server acknowledged."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.written: dict[str, list[str]] = collections.defaultdict(list)
        self.delivered: collections.Counter[str] = collections.Counter()
        self.run_deliveries: collections.Counter[str] = collections.Counter()
        self.ended = 0
        self.read_after_end: list[str] = []
        self.surprises: list[str] = []


def until(stop: threading.Event, ledger: Ledger, client: Client, work) -> None:
    """Repeats `work`; a server that is away is expected, anything else is noted."""
    while not stop.is_set():
        try:
            work(client)
        except Exception as error:  # noqa: BLE001
            if not away(error):
                ledger.surprises.append(f"{type(error).__name__}: {error}")
            time.sleep(0.005)
    client.close()


def write(ledger: Ledger, name: str):
    counter = 0

    def work(client: Client) -> None:
        nonlocal counter
        counter += 1
        answer = client.call("PUT", f"{WORKSPACE}/secrets/{name}", {"value": f"{name} {counter}"})
        with ledger.lock:
            ledger.written[name].append(answer["version"])

    return work


def read(ledger: Ledger, name: str):
    def work(client: Client) -> None:
        answer = client.call("GET", f"{WORKSPACE}/secrets/{name}")
        with ledger.lock:
            ledger.delivered[answer["version"]] += 1

    return work


def short_runs(ledger: Ledger, server: Server):
    """A run from submission to end, by hand, and then a read that must be refused for ever."""

    def work(client: Client) -> None:
        run = client.call(
            "POST",
            f"{WORKSPACE}/runs",
            {
                "experiment": "short",
                "program": {"command": {"argv": ["true"]}},
                "compute": "local",
                "secrets": ["steady"],
            },
        )["id"]
        launcher = Launcher(server.address, "default", run)
        launcher.lease(client)
        launcher.redeem()
        version = launcher.read("steady")["items"][0]["version"]
        with ledger.lock:
            ledger.run_deliveries[version] += 1
        launcher.end()
        with ledger.lock:
            ledger.ended += 1
        try:
            launcher.read("steady")
        except Refused:
            return
        ledger.read_after_end.append(run)

    return work


def test_two_hundred_kills_lose_nothing(tmp_path, capsys):
    ledger = Ledger()
    server = Server(tmp_path, listen=f"127.0.0.1:{free_port()}")
    with server:
        server.ok("secret", "set", "steady", "-", stdin=b"steady value")
        for name in ("read-me", "a", "b"):
            server.ok("secret", "set", name, "-", stdin=b"first")
        project = tmp_path / "project"
        project.mkdir()
        (project / "healthy.py").write_text(HEALTHY)
        stop_file = tmp_path / "stop"
        healthy = server.ok(
            "run", "submit", "--compute", "server", "--secret", "steady", "--env", f"STOP_FILE={stop_file}",
            "healthy.py", cwd=project,
        ).strip()  # fmt: skip
        wait_for("the healthy run to start", lambda: server.json("run", "show", healthy)["status"] == "running")

        stop = threading.Event()
        workers = [
            threading.Thread(target=until, args=(stop, ledger, server.client(), work), daemon=True)
            for work in (
                write(ledger, "a"),
                write(ledger, "b"),
                read(ledger, "read-me"),
                read(ledger, "a"),
                short_runs(ledger, server),
            )
        ]
        for worker in workers:
            worker.start()
        chance = random.Random(20261124)
        slowest = 0.0
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.0, 0.15))
            server.kill()
            begun = time.monotonic()
            server.start()
            slowest = max(slowest, time.monotonic() - begun)
        time.sleep(1)
        stop.set()
        for worker in workers:
            worker.join(timeout=60)
            assert not worker.is_alive()

        assert not ledger.surprises, ledger.surprises[:5]
        assert not ledger.read_after_end
        assert ledger.ended > 0 and sum(ledger.delivered.values()) > KILLS and len(ledger.written["a"]) > KILLS

        client = server.client()
        for name, versions in ledger.written.items():
            there = {item["version"] for item in client.pages(f"{WORKSPACE}/secrets/{name}/versions")}
            assert set(versions) <= there, f"{name}: acknowledged versions are missing"
        records = list(client.pages("/api/v1/audit"))
        assert [record["seq"] for record in records] == list(range(len(records))), "the log has gaps"
        logged = collections.Counter(r["version"] for r in records if r["action"] == "secret.delivered")
        for version, count in (ledger.delivered + ledger.run_deliveries).items():
            assert logged[version] >= count, f"{version}: {count} delivered, {logged[version]} on record"

        stop_file.touch()
        shown = wait_for(
            "the healthy run to end",
            lambda: (s := server.json("run", "show", healthy))["status"] not in ("running", "unresponsive", "starting") and s,
            120,
        )
        assert shown["status"] == "completed", shown
        assert shown["attempt"] == 1
        assert "survived" in server.ok("run", "logs", healthy)
    with capsys.disabled():
        print(
            f"\n{KILLS} kills: {sum(map(len, ledger.written.values()))} writes and "
            f"{sum(ledger.delivered.values())} reads acknowledged, {ledger.ended} runs ended, none lost; "
            f"slowest start {slowest * 1000:.0f} ms"
        )
