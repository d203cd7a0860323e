"""Outside a run: azureml-core's object, its lines, and what it has not. Better only when asked for."""

import pytest
from azureml.core import Run
from azureml.core.run import _OfflineRun
from azureml.exceptions import RunEnvironmentException

#: What azureml-core's own offline run has, besides underscored names.
NAMES = (
    "DELIM add_properties cancel child_run complete fail flush id identity log log_accuracy_table log_confusion_matrix "
    "log_image log_list log_predictions log_residuals log_row log_table set_tags tag upload_file upload_files upload_folder"
)


def test_it_is_theirs_by_name_and_by_what_it_has():
    run = Run.get_context()
    assert type(run) is _OfflineRun and not isinstance(run, Run)
    assert run.id.startswith("OfflineRun_") and len(run.id) == len("OfflineRun_") + 36
    assert [name for name in dir(run) if not name.startswith("_")] == NAMES.split()
    assert Run.get_context().id != run.id


@pytest.mark.parametrize("name", ["get_secret", "get_secrets", "experiment", "get_status", "get_details"])
def test_what_it_has_not_is_an_attribute_error(name):
    with pytest.raises(AttributeError, match=f"'_OfflineRun' object has no attribute '{name}'"):
        getattr(Run.get_context(), name)


def test_it_prints_the_same_lines(capsys):
    run = Run.get_context()
    run.log("acc", 0.5)
    run.log_list("l", [1, 2])
    run.log_row("row", a=1)
    run.tag("k", "v")
    run.upload_file("n", "p")
    run.flush()
    run.set_tags({"a": "b"})
    run.fail("d", "c")
    run.log_image("img", "p.png")
    run.complete()
    run.cancel()
    with run.child_run("c") as child:
        print(child.id)
    run.log_table("t", {"a": [1]})
    run.upload_folder("f", "p")
    run.upload_files(["a"], ["b"])
    run.add_properties({"a": 1})
    assert capsys.readouterr().out == f"""\
Attempted to log scalar metric acc:
0.5
Attempted to log list metric l:
[1, 2]
Attempted to log row metric row:
{{'a': 1}}
Attempted to add tag k with value v
Attempted to track file n at p
Attempted to flush run with id {run.id}
Attempted to set tags {{'a': 'b'}}
Run failed with error code c:
d
Attempted to log image metric img:
p.png
[START] Run {run.id}.c context
{run.id}.c
[STOP] Run {run.id}.c context
Attempted to log table metric t:
{{'a': [1]}}
Attempted to track folder f at p
Attempted to track files ['a'] at ['b'] with timeout Nones
Attempted to add properties {{'a': 1}}
"""


def test_without_offline_runs_it_is_their_exception():
    for ask in (lambda: Run.get_context(allow_offline=False), Run.get_submitted_run):
        with pytest.raises(RunEnvironmentException) as refused:
            ask()
        assert refused.value.message == (
            "Could not load a submitted run, if outside of an execution context, use experiment.start_logging to initialize an "
            "azureml.core.Run."
        )


def test_secrets_only_when_asked_for(project, monkeypatch):
    monkeypatch.setenv("KLUIS_OFFLINE_SECRETS", "1")
    from azureml.core import Workspace

    Workspace.from_config().get_default_keyvault().set_secret("s", "hunter2")
    run = Run.get_context()
    assert isinstance(run, _OfflineRun)
    assert run.get_secret(name="s") == "hunter2"
    assert run.get_secrets(["s", "nope"]) == {"s": "hunter2", "nope": None}
    assert run.child_run("c").get_secret("s") == "hunter2"
    monkeypatch.setenv("KLUIS_OFFLINE_SECRETS", "0")
    assert not hasattr(Run.get_context(), "get_secret")
