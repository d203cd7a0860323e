"""In a submitted run: what azureml-core can do there, and what a run may not."""

import os
import pathlib
import sys

sys.path.insert(0, os.environ["DRIVERS"])

from azureml.core import Run  # noqa: E402
from azureml.exceptions import ServiceException  # noqa: E402
from steps import raises, step  # noqa: E402

run = Run.get_context(allow_offline=False)


def get():
    value = run.get_secret("mysecret")
    assert len(value) == int(os.environ["EXPECTED_LENGTH"]), len(value)
    print("the value is", value, flush=True)


def missing():
    error = raises(ServiceException, "no-such-secret", lambda: run.get_secret("no-such-secret"))
    assert error.status_code == 404, error.status_code


def batch():
    got = run.get_secrets(["mysecret", "no-such-secret"])
    assert got["no-such-secret"] is None and len(got["mysecret"]) == int(os.environ["EXPECTED_LENGTH"]), list(got)


def metrics():
    run.log("accuracy", 0.5)
    run.log("accuracy", 0.75)
    run.log_list("many", [1, 2, 3])
    run.log_row("row", x=1, y=2.5)
    run.log_table("table", {"a": [1, 2], "b": [3, 4]})
    run.flush()


def read_metrics():
    assert run.get_metrics("accuracy")["accuracy"] in (0.75, [0.5, 0.75]), run.get_metrics("accuracy")


def tags():
    run.tag("stage", "test")
    run.set_tags({"more": "1"})
    assert run.get_tags()["stage"] == "test" and run.get_tags()["more"] == "1", run.get_tags()


def properties():
    run.add_properties({"author": "ada"})
    assert run.get_properties()["author"] == "ada", run.get_properties()


def details():
    assert run.get_status() == "Running", run.get_status()
    assert run.get_details()["runId"] == run.id == os.environ["KLUIS_RUN_ID"], run.get_details()
    assert run.experiment.name == os.environ["KLUIS_EXPERIMENT"], run.experiment.name


def children():
    child = run.child_run("part")
    child.log("loss", 1.0)
    child.complete()
    assert child.id in [c.id for c in run.get_children()], child.id
    assert child.get_status() == "Completed", child.get_status()


def files():
    pathlib.Path("note.txt").write_text("a note")
    run.upload_file("notes/note.txt", "note.txt")
    assert "notes/note.txt" in run.get_file_names(), run.get_file_names()


keyvault = run.experiment.workspace.get_default_keyvault()

step("Run.get_context", lambda: None)
step("Run.get_secret", get)
step("Run.get_secret, no such secret", missing)
step("Run.get_secrets", batch)
step("Run.log, log_list, log_row, log_table, flush", metrics)
step("Run.get_metrics", read_metrics)
step("Run.tag, set_tags, get_tags", tags)
step("Run.add_properties", properties)
step("Run.get_status, get_details", details)
step("Run.child_run, get_children", children)
step("Run.upload_file, get_file_names", files)
step("Keyvault.get_secret", lambda: keyvault.get_secret("mysecret"))
step("Keyvault.set_secret", lambda: keyvault.set_secret("mysecret", "overwritten"))
step("Keyvault.set_secrets", lambda: keyvault.set_secrets({"mysecret": "overwritten"}))
step("Keyvault.list_secrets", keyvault.list_secrets)
step("Keyvault.delete_secret", lambda: keyvault.delete_secret("mysecret"))
