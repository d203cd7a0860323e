"""What the path to a secret loads. Its time is measured in bench/python_start.py; this is what keeps it short."""

import json
import subprocess
import sys

import kluis
from kluis.testing import fake_run

HEAVY = {"asyncio", "dataclasses", "enum", "json", "logging", "re", "socket", "ssl", "threading", "typing", "uuid"}


def loaded(code: str) -> set:
    script = f"import sys; before = set(sys.modules)\n{code}\nprint(*sorted(set(sys.modules) - before))"
    # -I -S: without it site may have loaded something itself, and hidden what we load.
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, check=True, text=True)
    return set(done.stdout.split())


def path_to_package() -> str:
    return f"sys.path.append({json.dumps(kluis.__path__[0].rsplit('/', 1)[0])})\n"


def test_importing_the_package_imports_nothing_else():
    assert loaded(path_to_package() + "import kluis") == {"kluis"}


def test_a_secret_is_read_with_four_modules_of_ours_and_nothing_heavy():
    with fake_run(secrets={"a": "1"}) as fake:
        socket = json.dumps(fake.run._broker.socket if isinstance(fake.run._broker.socket, str) else str(fake.run._broker.socket))
        modules = loaded(
            path_to_package()
            + f"import os; os.environ['KLUIS_RUN_SOCKET'] = {socket}\n"
            + "from kluis import Run; assert Run.get_context().get_secret('a') == '1'"
        )
    ours = {m for m in modules if m.split(".")[0] == "kluis"}
    assert ours == {"kluis", "kluis.run", "kluis._submitted", "kluis._native"}
    assert not HEAVY & modules, HEAVY & modules


def test_every_name_is_there_and_an_unknown_one_is_an_attribute_error():
    for name in kluis.__all__:
        assert getattr(kluis, name) is not None
        assert name in dir(kluis)
    for module in kluis._MODULES:
        assert getattr(kluis, module).__name__ == f"kluis.{module}"
    try:
        kluis.Dataset
    except AttributeError as error:
        assert "Dataset" in str(error)
    else:
        raise AssertionError("kluis.Dataset does not exist")


def test_star_import_gives_the_documented_names():
    names: dict = {}
    exec("from kluis import *", names)
    assert set(kluis.__all__) <= set(names)
