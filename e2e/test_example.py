"""The main job: a model trained from a real PostgreSQL whose password only the vault knows."""

import json
import os
import pathlib
import secrets
import shutil
import subprocess
import sys
import tempfile

import pytest

from kluis_server import free_port
from needs import need

EXAMPLE = pathlib.Path(__file__).parent.parent / "examples" / "train_from_postgres"


def postgres_bin() -> pathlib.Path:
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    path = str(found[-1]) if found else shutil.which("initdb")
    need(path is not None, "PostgreSQL")
    return pathlib.Path(path).parent


class Postgres:
    """A real server on loopback with SCRAM, its password known to nobody else."""

    def __init__(self, listen: str = "127.0.0.1") -> None:
        self.listen, self.port = listen, free_port()
        self.password = secrets.token_urlsafe(24)
        self.bin = postgres_bin()
        self.data = pathlib.Path(tempfile.mkdtemp(prefix="kluis-e2e-pg."))
        if os.getuid() == 0:
            shutil.chown(self.data, "postgres", "postgres")
        # A pipe of PostgreSQL's own user: it may not open another's.
        self.run("bash", "-c", 'exec "$@" --pwfile=<(cat)', "-", self.bin / "initdb", "-D", self.data, "-U", "trainer", "--auth=scram-sha-256", "--no-sync", stdin=self.password)  # fmt: skip
        with open(self.data / "pg_hba.conf", "a") as rules:
            rules.write("host all all samenet scram-sha-256\n")
        self.run("pg_ctl", "-D", self.data, "-w", "-l", self.data / "log", "-o", f"-c listen_addresses={listen} -p {self.port} -c unix_socket_directories= -c fsync=off", "start")  # fmt: skip

    def run(self, program: str, *args: object, stdin: str = "") -> None:
        command = [program if program == "bash" else str(self.bin / program), *map(str, args)]
        if os.getuid() == 0:
            command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--", *command]
        done = subprocess.run(command, input=stdin.encode(), cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        assert done.returncode == 0, done.stderr.decode()

    def load(self) -> None:
        subprocess.run(
            [sys.executable, str(EXAMPLE / "load_data.py"), *self.arguments],
            env={**os.environ, "PGPASSWORD": self.password},
            check=True,
            stdout=subprocess.DEVNULL,
        )

    @property
    def arguments(self) -> list[str]:
        return ["--host", self.listen, "--port", str(self.port), "--user", "trainer", "--database", "postgres"]

    def stop(self) -> None:
        self.run("pg_ctl", "-D", self.data, "-m", "fast", "stop")
        shutil.rmtree(self.data)


@pytest.fixture(scope="module")
def postgres():
    database = Postgres()
    try:
        database.load()
        yield database
    finally:
        database.stop()


@pytest.mark.parametrize("compute", ["server", "local"])
def test_a_model_is_trained_with_a_password_from_the_vault(server, postgres, tmp_path, compute):
    server.ok("secret", "set", "db-password", "--from-env", "DB", env={"DB": postgres.password})
    run = server.ok(
        "run", "submit", "--compute", compute, "--source", str(EXAMPLE), "--experiment", "breast-cancer",
        "--secret", "db-password", "--python", sys.executable, "train.py", *postgres.arguments,
    ).strip()  # fmt: skip
    waited = server.cli("run", "wait", run, timeout=240)
    log = server.ok("run", "logs", run)
    assert waited.returncode == 0, log + server.ok("run", "logs", "--system", run)
    assert postgres.password not in log
    metrics = {m["name"]: m["value"] for m in server.json("run", "metrics", run)["items"]}
    assert metrics["accuracy"] > 0.9
    server.ok("run", "download", run, "--outputs", "--to", str(tmp_path))
    assert next(tmp_path.rglob("model.pkl")).stat().st_size > 1000
    records = [json.loads(line) for line in server.ok("audit", "tail", "--run", run, "--no-follow", "--json").splitlines()]
    actions = [record["action"] for record in records]
    assert actions.index("secret.delivered") < actions.index("secret.read") < actions.index("run.ended")
