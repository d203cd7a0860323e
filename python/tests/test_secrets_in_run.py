"""Reading secrets inside a run, through a launcher's socket."""

import asyncio
import os
import pathlib
import re
import socket
import threading
import time

import pytest

from kluis import Run
from kluis.exceptions import (
    Forbidden,
    InvalidName,
    NotFound,
    SecretNotFound,
    SecretUndeclared,
    ServiceException,
    UnexpectedAnswer,
    UserErrorException,
    VaultUnavailable,
)
from kluis.testing import fake_run

CANARY = "s3cret-ünïcode-\U0001f510\n"


def test_the_seeds_second_block_runs_as_it_stands():
    with fake_run(secrets={"mysecret": CANARY}):
        block = "from kluis import Run\n\nrun = Run.get_context()\nsecret_value = run.get_secret(name=\"mysecret\")\n"
        names: dict = {}
        exec(block, names)
        assert names["secret_value"] == CANARY
        assert type(names["secret_value"]) is str


def test_the_context_is_the_same_object_every_time():
    with fake_run() as fake:
        assert Run.get_context() is Run.get_context(allow_offline=False) is fake.run
        assert fake.run.id == fake.id


def test_two_runs_one_after_the_other_are_not_confused():
    with fake_run(secrets={"a": "1"}) as first:
        assert first.run.get_secret("a") == "1"
    with fake_run(secrets={"a": "2"}) as second:
        assert second.run.get_secret("a") == "2"


def test_names_ignore_case_and_a_batch_answers_as_asked():
    with fake_run(secrets={"Db-Password": "x"}) as fake:
        assert fake.run.get_secret("DB-PASSWORD") == "x"
        assert fake.run.get_secrets(["no", "dB-password", "Db-Password"]) == {"no": None, "dB-password": "x", "Db-Password": "x"}
        assert list(fake.run.get_secrets(["no", "Db-Password"])) == ["no", "Db-Password"]
        assert fake.run.get_secrets([]) == {}


def test_missing_is_secret_not_found_with_azures_status():
    with fake_run() as fake, pytest.raises(SecretNotFound) as refused:
        fake.run.get_secret("nope")
    assert type(refused.value) is SecretNotFound and issubclass(SecretNotFound, NotFound)
    assert isinstance(refused.value, ServiceException)
    assert refused.value.status_code == 404 and refused.value.code == "secret_not_found"
    assert "nope" in refused.value.message and str(refused.value) == refused.value.message


def test_undeclared_is_an_error_in_a_batch_too_and_nothing_is_handed_out():
    with fake_run(secrets={"a": "1", "b": "2"}, declared=["A"]) as fake:
        assert fake.run.get_secret("a") == "1"
        with pytest.raises(SecretUndeclared) as refused:
            fake.run.get_secrets(["a", "b"])
        assert type(refused.value) is SecretUndeclared and issubclass(SecretUndeclared, Forbidden)
        assert refused.value.status_code == 403
        assert [name for name, _, _ in fake.reads] == ["a"]


@pytest.mark.parametrize("name", ["", "a/b", "a b", "ä", "x" * 128, "a\0", "\udcff"])
def test_what_is_no_name_is_refused_before_anything_is_sent(name):
    with fake_run() as fake:
        with pytest.raises(InvalidName) as refused:
            fake.run.get_secret(name)
        assert type(refused.value) is InvalidName
        assert isinstance(refused.value, ValueError) and isinstance(refused.value, UserErrorException)
        assert fake.reads == []


@pytest.mark.parametrize("wrong", [None, 7, b"bytes"])
def test_a_name_of_another_type_is_a_type_error(wrong):
    with fake_run() as fake, pytest.raises(TypeError):
        fake.run.get_secret(wrong)


def test_a_text_in_place_of_a_list_is_not_taken_apart():
    with fake_run(secrets={"a": "1", "b": "2"}) as fake, pytest.raises(TypeError, match="list of names"):
        fake.run.get_secrets("ab")


def test_the_version_is_pinned_until_refresh():
    with fake_run(secrets={"a": "old"}) as fake:
        assert fake.run.get_secret("a") == "old"
        fake.rotate("a", "new")
        assert fake.run.get_secret("a") == "old"
        assert fake.run.get_secret("a", refresh=True) == "new"
        assert fake.run.get_secret("a") == "new"
        assert len({version for _, version, _ in fake.reads}) == 2


def test_the_rank_is_what_the_ranks_own_launcher_says_else_the_nodes_number(monkeypatch):
    with fake_run(secrets={"a": "1"}) as fake:
        # A launcher of ours tells every process of its node the node's number.
        assert os.environ["KLUIS_RANK"] == "0"
        fake.run.get_secret("a")
        for variable, rank in (
            ("KLUIS_RANK", "1"),
            ("SLURM_PROCID", "2"),
            ("PMI_RANK", "3"),
            ("OMPI_COMM_WORLD_RANK", "4"),
            ("RANK", "5"),
        ):
            monkeypatch.setenv(variable, rank)
            fake.run.get_secret("a")
            assert fake.run.rank == int(rank)
        monkeypatch.setenv("RANK", "no number")
        fake.run.get_secret("a")
        assert [rank for _, _, rank in fake.reads] == [0, 1, 2, 3, 4, 5, 4]


def test_a_fake_run_sets_what_a_launcher_sets():
    launcher = pathlib.Path(__file__).parents[2] / "crates" / "launch" / "src" / "environment.rs"
    names = set(re.findall(r'self\.set\("(KLUIS_\w+)"', launcher.read_text()))
    assert len(names) > 5
    with fake_run(workspace="team", experiment="churn") as fake:
        ours = {name: value for name, value in os.environ.items() if name.startswith("KLUIS_")}
        assert set(ours) >= names and all(ours[name] for name in names)
        assert (ours["KLUIS_WORKSPACE"], ours["KLUIS_EXPERIMENT"], ours["KLUIS_RUN_ID"]) == ("team", "churn", fake.id)
        assert os.path.isdir(ours["KLUIS_RUN_DIR"])
    assert not names & set(os.environ)


def test_a_server_that_is_away_is_vault_unavailable():
    with fake_run(secrets={"a": "1"}) as fake:
        fake.available = False
        with pytest.raises(VaultUnavailable) as refused:
            fake.run.get_secret("a", timeout=0.1)
        assert refused.value.status_code == 503
        fake.available = True
        assert fake.run.get_secret("a") == "1"


def test_a_launcher_that_is_gone_is_vault_unavailable(monkeypatch, tmp_path):
    monkeypatch.setenv("KLUIS_RUN_SOCKET", str(tmp_path / "gone"))
    with pytest.raises(VaultUnavailable, match="has the run ended"):
        Run.get_context().get_secret("a")


def test_the_async_twins_leave_the_loop_free():
    async def main(run):
        beats = 0

        async def beat():
            nonlocal beats
            while True:
                beats += 1
                await asyncio.sleep(0.005)

        beating = asyncio.ensure_future(beat())
        values = await asyncio.gather(*(run.aget_secret("a") for _ in range(10)), run.aget_secrets(["a", "no"]))
        beating.cancel()
        return values

    with fake_run(secrets={"a": "1"}) as fake:
        assert asyncio.run(main(fake.run)) == ["1"] * 10 + [{"a": "1", "no": None}]


@pytest.mark.parametrize("how", ["wait_for", "cancel"])
def test_a_read_that_is_cancelled_holds_up_nothing(monkeypatch, tmp_path, how):
    path = str(tmp_path / "s")
    silent = threading.Event()

    async def main():
        run = Run.get_context()
        reading = asyncio.ensure_future(run.aget_secret("a", timeout=60))
        if how == "wait_for":
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(reading, 0.2)
        else:
            await asyncio.sleep(0.2)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading

    with Listener(path, lambda c: silent.wait(30)):
        monkeypatch.setenv("KLUIS_RUN_SOCKET", path)
        began = time.monotonic()
        asyncio.run(main())
        assert time.monotonic() - began < 3
        # The thread that read has ended too, so that it does not hold up the interpreter's end.
        deadline = time.monotonic() + 3
        while any(t.name == "kluis-async" for t in threading.enumerate()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        silent.set()


def test_an_async_read_raises_what_the_other_raises_and_many_wait_their_turn():
    async def main(run):
        with pytest.raises(SecretNotFound):
            await run.aget_secret("no")
        with pytest.raises(TypeError):
            await run.aget_secret(7)
        return await asyncio.gather(*(run.aget_secret("a") for _ in range(200)))

    with fake_run(secrets={"a": "1"}) as fake:
        assert asyncio.run(main(fake.run)) == ["1"] * 200


def test_the_vault_has_async_twins_in_the_run_too():
    async def main(vault):
        return await vault.aget_secret("a"), await vault.aget_secrets(["a", "b"])

    with fake_run(secrets={"a": "1"}) as fake:
        vault = fake.run.experiment.workspace.get_default_keyvault()
        assert asyncio.run(main(vault)) == ("1", {"a": "1", "b": None})


class Listener:
    """A launcher that misbehaves: each connection is handled by `behave`."""

    def __init__(self, path, behave):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(path)
        self.socket.listen()
        self.behave = behave
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                self.behave(connection)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join()


def answer(connection, body: bytes) -> None:
    connection.sendall(len(body).to_bytes(4, "big") + body)


@pytest.mark.parametrize(
    "body", [b"not json", b'{"answer":"secrets"}', b'{"answer":"hunter2"}', b'{"answer":"done"}', b"[]", b""]
)
def test_nonsense_from_the_socket_is_an_error_that_repeats_none_of_it(monkeypatch, tmp_path, body):
    path = str(tmp_path / "s")
    with Listener(path, lambda c: (c.recv(65536), answer(c, body))):
        monkeypatch.setenv("KLUIS_RUN_SOCKET", path)
        with pytest.raises(UnexpectedAnswer) as refused:
            Run.get_context().get_secret("a")
        assert "hunter2" not in str(refused.value)


def test_an_unknown_refusal_keeps_its_code(monkeypatch, tmp_path):
    path = str(tmp_path / "s")
    with Listener(path, lambda c: (c.recv(65536), answer(c, b'{"answer":"error","code":"brand_new","detail":"d"}'))):
        monkeypatch.setenv("KLUIS_RUN_SOCKET", path)
        with pytest.raises(ServiceException) as refused:
            Run.get_context().get_secret("a")
        assert (type(refused.value), refused.value.code, str(refused.value)) == (ServiceException, "brand_new", "d")


def test_a_connection_that_the_launcher_closed_is_made_anew(monkeypatch, tmp_path):
    path = str(tmp_path / "s")
    value = b'{"answer":"secrets","items":[{"name":"a","version":"' + b"0" * 32 + b'","value":"1"}],"missing":[]}'
    with Listener(path, lambda c: (c.recv(65536), answer(c, value))):
        monkeypatch.setenv("KLUIS_RUN_SOCKET", path)
        run = Run.get_context()
        assert [run.get_secret("a") for _ in range(3)] == ["1"] * 3


def test_ctrl_c_is_heard_while_the_launcher_tries(monkeypatch, tmp_path):
    import signal

    path = str(tmp_path / "s")
    with Listener(path, lambda c: time.sleep(1.5)):
        monkeypatch.setenv("KLUIS_RUN_SOCKET", path)
        timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            Run.get_context().get_secret("a")
        assert time.monotonic() - began < 1.2
        timer.join()


def test_the_workspaces_vault_is_the_runs_own_and_only_reads():
    with fake_run(secrets={"a": "1"}, workspace="team", experiment="churn") as fake:
        experiment = fake.run.experiment
        assert (experiment.name, experiment.workspace.name) == ("churn", "team")
        vault = experiment.workspace.get_default_keyvault()
        assert vault.get_secret("a") == "1"
        assert vault.get_secrets(["a", "b"]) == {"a": "1", "b": None}
        for act in (lambda: vault.set_secret("b", "2"), vault.list_secrets, lambda: vault.delete_secret("a")):
            with pytest.raises(Forbidden, match="where it was submitted"):
                act()
