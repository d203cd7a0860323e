"""Outside a run: a real object that prints what Azure ML's prints, and says how to get at secrets."""

import re

import pytest

from kluis import Run
from kluis.exceptions import RunEnvironmentException, UserErrorException


def test_outside_a_run_the_context_is_an_offline_run_with_azures_id():
    run = Run.get_context()
    assert re.fullmatch(r"OfflineRun_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", run.id)
    assert isinstance(run, Run)
    assert Run.get_context() is run
    assert run.get_status() == "Running" and run.number == 0 and run.parent is None


def test_allow_offline_false_raises():
    with pytest.raises(RunEnvironmentException, match="Could not load a submitted run"):
        Run.get_context(allow_offline=False)


@pytest.mark.parametrize(
    ("act", "printed"),
    [
        (lambda r: r.log("acc", 0.5), "Attempted to log scalar metric acc:\n0.5\n"),
        (lambda r: r.log_list("l", [1, 2]), "Attempted to log list metric l:\n[1, 2]\n"),
        (lambda r: r.log_row("row", a=1), "Attempted to log row metric row:\n{'a': 1}\n"),
        (lambda r: r.log_table("t", {"a": [1]}), "Attempted to log table metric t:\n{'a': [1]}\n"),
        (lambda r: r.log_image("img", path="p.png"), "Attempted to log image metric img:\np.png\n"),
        (lambda r: r.tag("k", "v"), "Attempted to add tag k with value v\n"),
        (lambda r: r.set_tags({"a": "b"}), "Attempted to set tags {'a': 'b'}\n"),
        (lambda r: r.upload_file("n", "p"), "Attempted to track file n at p\n"),
        (lambda r: r.fail("d", "c"), "Run failed with error code c:\nd\n"),
        (lambda r: r.complete(), ""),
        (lambda r: r.cancel(), ""),
    ],
)
def test_it_prints_what_azures_offline_run_prints(capsys, act, printed):
    act(Run.get_context())
    assert capsys.readouterr().out == printed


def test_flush_prints_the_id_and_a_with_block_its_start_and_stop(capsys):
    run = Run.get_context()
    run.flush()
    with run.child_run("c") as child:
        pass
    assert child.id == f"{run.id}.c" and child.parent is run
    assert capsys.readouterr().out == (
        f"Attempted to flush run with id {run.id}\n[START] Run {child.id} context\n[STOP] Run {child.id} context\n"
    )


def test_tags_and_properties_are_kept_for_the_script_to_read_back(capsys):
    run = Run.get_context().child_run()
    run.tag("k", "v")
    run.set_tags({"n": 1})
    run.add_properties({"p": 2})
    assert run.get_tags() == {"k": "v", "n": "1"}
    assert run.get_properties() == {"p": "2"}


@pytest.mark.parametrize("read", [lambda r: r.get_secret("s"), lambda r: r.get_secrets(["s"])])
def test_a_secret_is_refused_with_every_way_out_named(read):
    with pytest.raises(RunEnvironmentException) as refused:
        read(Run.get_context())
    for way in ("kluis run submit", "KLUIS_OFFLINE_SECRETS=1", "kluis.testing.fake_run"):
        assert way in str(refused.value)


def test_offline_secrets_need_a_login(monkeypatch):
    monkeypatch.setenv("KLUIS_OFFLINE_SECRETS", "1")
    with pytest.raises(UserErrorException, match="kluis login"):
        Run.get_context().get_secret("s")


def test_only_the_value_1_turns_offline_secrets_on(monkeypatch):
    monkeypatch.setenv("KLUIS_OFFLINE_SECRETS", "0")
    with pytest.raises(RunEnvironmentException):
        Run.get_context().get_secret("s")


@pytest.mark.parametrize(
    "look", [lambda r: r.get_metrics(), lambda r: r.get_file_names(), lambda r: r.wait_for_completion(), lambda r: list(r.get_children())]
)
def test_what_was_never_kept_is_not_invented(look):
    with pytest.raises(UserErrorException, match="kept nowhere"):
        look(Run.get_context())
