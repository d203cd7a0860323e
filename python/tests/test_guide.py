"""The guide's snippets run. Those that need a server run against one in test_with_server.py; these need none."""

import pathlib
import re

from kluis import Run
from kluis.testing import fake_run

GUIDE = pathlib.Path(__file__).parents[2] / "docs" / "guide" / "python.md"


def blocks() -> list:
    return re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)


def test_every_block_is_python():
    found = blocks()
    assert len(found) == 4
    for block in found:
        compile(block, str(GUIDE), "exec")


def test_the_blocks_of_the_run_run():
    _, read, report, _ = blocks()
    names: dict = {}
    with fake_run(secrets={"db-password": "hunter2"}) as fake:
        exec(read + report, names)
        assert names["password"] == "hunter2"
        assert fake.metrics["confusion"] == {"tp": 40, "fp": 2, "fn": 1, "tn": 57}
        assert [child.metrics for child in fake.children.values()] == [{"accuracy": 0.9}]


def test_the_block_for_tests_runs():
    exec(blocks()[3], {})
    assert Run.get_context().id.startswith("OfflineRun_")
