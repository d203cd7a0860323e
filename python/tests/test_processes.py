"""Threads and processes: what training code does to a library."""

import multiprocessing
import os
import subprocess
import sys
import threading
import warnings

import pytest

from kluis import Run
from kluis.testing import fake_run

WORKERS = 8


def read(name: str) -> str:
    return Run.get_context().get_secret(name)


def read_as(rank: int) -> str:
    os.environ["RANK"] = str(rank)
    return Run.get_context().get_secret("a")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_worker_processes_read_for_themselves(method):
    with fake_run(secrets={"a": "value"}) as fake:
        # The parent has read already, so that a forked child inherits a connection that it must not use.
        assert read("a") == "value"
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert pool.map(read_as, range(1, 5)) == ["value"] * 4
        assert read("a") == "value"
        assert sorted(rank for _, _, rank in fake.reads) == [0, 0, 1, 2, 3, 4]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forking_while_threads_read_neither_hangs_nor_mixes_answers():
    secrets = {f"s{i}": f"value-{i}" for i in range(WORKERS)}
    with fake_run(secrets=secrets) as fake:
        stop = threading.Event()
        wrong = []

        def hammer(i: int) -> None:
            while not stop.is_set():
                if fake.run.get_secret(f"s{i}") != f"value-{i}":
                    wrong.append(i)

        threads = [threading.Thread(target=hammer, args=(i,)) for i in range(WORKERS)]
        for thread in threads:
            thread.start()
        try:
            for i in range(12):
                child = os.fork()
                if child == 0:
                    # Several reads, so that an answer meant for the parent would be caught.
                    good = all(fake.run.get_secret(f"s{i % WORKERS}") == f"value-{i % WORKERS}" for _ in range(5))
                    os._exit(0 if good else 1)
                assert os.waitpid(child, 0)[1] == 0
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert wrong == []


def test_threads_share_one_run():
    with fake_run(secrets={"a": "value"}) as fake:
        values = []
        threads = [threading.Thread(target=lambda: values.append(read("a"))) for _ in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert values == ["value"] * 32
        assert len(fake.reads) == 32


def test_a_waiting_read_leaves_the_interpreter_to_others():
    with fake_run(secrets={"a": "value"}) as fake:
        with fake._changed:  # the fake launcher can not answer while this is held
            reader = threading.Thread(target=read, args=("a",))
            reader.start()
            # If the reader held the interpreter, this thread would never get here again.
            reader.join(timeout=0.3)
            assert reader.is_alive()
        reader.join()


def test_a_script_in_a_process_of_its_own_is_part_of_the_run(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "from kluis import Run\nrun = Run.get_context(allow_offline=False)\nrun.log('n', len(run.get_secret('a')))\n"
    )
    with fake_run(secrets={"a": "value"}) as fake:
        subprocess.run([sys.executable, str(script)], check=True)
        assert fake.metrics == {"n": 5}


def test_the_interpreter_ends_while_a_rotation_is_waited_for(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "import time\n"
        "from kluis import Run\nrun = Run.get_context()\nrun.get_secret('a')\nrun.on_rotate(print)\ntime.sleep(0.2)\n"
    )
    with fake_run(secrets={"a": "value"}), warnings.catch_warnings():
        for _ in range(3):
            done = subprocess.run([sys.executable, str(script)], capture_output=True, timeout=20, check=False)
            assert (done.returncode, done.stderr) == (0, b"")
