"""In a run, and a run as seen from where it was submitted."""

import pytest
from azureml.core import (
    ComputeTarget, Environment, Experiment, Run, RunConfiguration, ScriptRun, ScriptRunConfig, Workspace, get_run,
)  # fmt: skip
from azureml.core.conda_dependencies import CondaDependencies
from azureml.core.run import _SubmittedRun
from azureml.exceptions import ActivityFailedException, ComputeTargetException, ServiceException, UserErrorException
from kluis.testing import fake_run


def test_a_submitted_run_is_one_object_and_reads_by_name():
    with fake_run(secrets={"db-password": "hunter2", "n": "1"}) as fake:
        run = Run.get_context()
        assert type(run) is _SubmittedRun and isinstance(run, Run)
        assert Run.get_context(allow_offline=False) is run and Run.get_submitted_run() is run
        assert run.id == fake.id
        assert run.get_secret(name="db-password") == "hunter2"
        assert run.get_secrets(["DB-password", "nope"]) == {"DB-password": "hunter2", "nope": None}
        assert run.get_secrets(secrets="n") == {"n": "1"}
        with pytest.raises(ServiceException) as missing:
            run.get_secret("nope")
        assert (missing.value.status_code, missing.value.message) == (404, "(UserError) Secret nope not found.")


def test_an_undeclared_secret_is_none_in_a_batch_and_a_warning(caplog):
    with fake_run(secrets={"a": "1", "b": "2"}, declared=["a"]) as fake:
        run = Run.get_context()
        assert run.get_secrets(["a", "b", "nope"]) == {"a": "1", "b": None, "nope": None}
        assert [r.getMessage() for r in caplog.records if "did not declare the secret b" in r.getMessage()]
        assert {name for name, _, _ in fake.reads} == {"a"}
        with pytest.raises(UserErrorException) as refused:
            run.get_secret("b")
        assert not isinstance(refused.value, ServiceException)


def test_a_server_that_is_away_is_503():
    with fake_run(secrets={"a": "1"}) as fake:
        fake.available = False
        for read in (lambda r: r.get_secret("a"), lambda r: r.get_secrets(["a"])):
            with pytest.raises(ServiceException) as away:
                read(Run.get_context())
            assert away.value.status_code == 503


def test_metrics_tags_files_and_children(tmp_path):
    (tmp_path / "model.txt").write_text("weights")
    with fake_run() as fake:
        run = Run.get_context()
        run.log("acc", 0.5)
        run.log("acc", 0.6, step=1)
        run.log_list("l", [1, 2])
        run.log_row("row", a=1)
        run.log_table("t", {"x": [1, 2]})
        run.tag("k", "v")
        run.set_tags({"a": "b"})
        run.add_properties({"p": 1})
        run.upload_file("model", "model.txt")
        run.upload_files(["m1"], ["model.txt"])
        with run.child_run(name="fold") as child:
            child.log("acc", 1)
            assert type(child) is Run and child.parent == run
        run.create_children(tag_key="seed", tag_values=["1", "2"])
        run.complete()
        run.fail("why", "code")
        run.flush()
        assert fake.metrics["acc"] == [0.5, 0.6] and fake.tags == {"k": "v", "a": "b"} and fake.properties == {"p": "1"}
        assert fake.files["model"] == b"weights" and len(fake.children) == 3
        assert fake.status == "running" and fake.children[child.id].status == "completed"
        assert [c.id for c in run.get_children(tags={"seed": "2"})] and run.get_tags()["a"] == "b"
        assert run.experiment.name == "fake" and run.experiment.workspace.name == "fake"


def test_cancel_inside_only_warns(caplog):
    with fake_run() as fake:
        Run.get_context().cancel()
        assert fake.status == "running"
    assert "cancel() inside the run changes nothing" in caplog.text


def test_kluis_is_underneath():
    with fake_run(secrets={"a": "1"}) as fake:
        run = Run.get_context()
        assert run.get_secret("a") == "1"
        fake.rotate("a", "2")
        assert run.get_secret("a") == "1" and run.kluis.get_secret("a", refresh=True) == "2"


@pytest.fixture
def experiment(project) -> Experiment:
    return Experiment(Workspace.from_config(), "churn")


def script(tmp_path, text: str, **more) -> ScriptRunConfig:
    source = tmp_path / "source"
    source.mkdir(exist_ok=True)
    (source / "train.py").write_text(text)
    return ScriptRunConfig(source_directory=str(source), script="train.py", **more)


def test_submit_wait_and_look(experiment, tmp_path, capfd):
    code = "import sys\nfrom azureml.core import Run\nrun = Run.get_context()\nrun.log('n', len(sys.argv))\nprint('said', *sys.argv[1:])\n"
    run = experiment.submit(script(tmp_path, code, arguments=["--n", 3]), tags={"try": "1"})
    assert type(run) is ScriptRun
    details = run.wait_for_completion(show_output=True)
    assert details["runId"] == run.id and run.get_status() == "Completed"
    assert "said --n 3" in capfd.readouterr().out
    assert run.get_metrics() == {"n": 3} and run.get_tags() == {"try": "1"}
    assert [r.id for r in experiment.get_runs(tags={"try": "1"})] == [run.id] == [r.id for r in Run.list(experiment, status="Completed")]
    assert Run.get(experiment.workspace, run.id) == get_run(experiment, run.id) == experiment.workspace.get_run(run.id) == run
    assert any("said" in text for text in run.get_details_with_logs()["logFiles"].values())
    assert [e.name for e in Experiment.list(experiment.workspace)] == ["churn"]
    assert run.get_detailed_status() == {"status": "Completed", "details": []}
    assert run.number == 1 and run.experiment.name == "churn" and run.get_snapshot_id()
    with pytest.raises(UserErrorException):
        run.log("late", 1)
    with pytest.raises(ServiceException) as missing:
        Run.get(experiment.workspace, "nope")
    assert missing.value.status_code == 404


def test_a_failed_run_raises_activity_failed(experiment, tmp_path):
    run = experiment.submit(script(tmp_path, "raise SystemExit(3)"))
    with pytest.raises(ActivityFailedException) as failed:
        run.wait_for_completion()
    assert failed.value.message.startswith("Activity Failed:\n{") and "exit code 3" in failed.value.message
    assert run.wait_for_completion(raise_on_error=False)["status"] == "Failed"
    assert run.get_detailed_status()["details"][0]["blame"] == "script"


def test_declared_secrets_narrow_the_run(experiment, tmp_path):
    experiment.workspace.get_default_keyvault().set_secrets({"a": "value-of-a", "b": "value-of-b"})
    code = (
        "import os\nfrom azureml.core import Run\n"
        "assert Run.get_context().get_secrets(['a', 'b']) == {'a': 'value-of-a', 'b': None}\n"
        "assert os.environ['A'] == 'value-of-a'\n"
    )
    run = experiment.submit(script(tmp_path, code, secret_env={"A": "a"}))
    assert run.wait_for_completion()["status"] == "Completed"
    with pytest.raises((ServiceException, UserErrorException)):
        experiment.submit(script(tmp_path, code, secrets=["nope"]))


def test_run_configurations(experiment, tmp_path, caplog):
    shared = RunConfiguration()
    shared.environment_variables["FROM"] = "run_config"
    shared.environment.environment_variables = {"FROM": "environment", "ALSO": "environment"}
    shared.target = "local"
    code = "import os\nassert (os.environ['FROM'], os.environ['ALSO']) == ('run_config', 'environment')\n"
    config = script(tmp_path, code, run_config=shared, compute_target="ignored")
    assert config.run_config is shared and "If 'run_config' is specified" in caplog.text
    assert experiment.submit(config).wait_for_completion()["status"] == "Completed"


@pytest.mark.parametrize(
    "change, way_out",
    [
        (lambda e: e.python.conda_dependencies.add_pip_package("torch"), "interpreter_path"),
        (lambda e: setattr(e.python, "conda_dependencies", CondaDependencies.create(conda_packages=["numpy"])), "interpreter_path"),
        (lambda e: setattr(e.docker, "base_image", "an/image"), "no engine runs containers"),
        (lambda e: setattr(e.docker, "enabled", True), "no engine runs containers"),
    ],
)
def test_what_would_have_to_be_built_is_refused_with_the_way_out(experiment, tmp_path, change, way_out):
    environment = Environment("e")
    change(environment)
    with pytest.raises(UserErrorException, match=way_out):
        experiment.submit(script(tmp_path, "pass", environment=environment))


def test_packages_that_the_user_manages_do_not_count(tmp_path):
    environment = Environment("e")
    environment.python.conda_dependencies = CondaDependencies.create(pip_packages=["torch"])
    environment.python.user_managed_dependencies = True
    assert environment._for_kluis({})._what_is_unbuilt() is None
    copy = environment.clone("f")
    copy.environment_variables["x"] = "y"
    assert copy.name == "f" and environment.environment_variables == {}


def test_compute_targets(experiment):
    workspace = experiment.workspace
    target = ComputeTarget(workspace=workspace, name="server")
    assert target.name == "server" and target.get_status()["queued"] == 0
    target.wait_for_completion(show_output=True)
    with pytest.raises(ComputeTargetException, match="kluis compute create"):
        ComputeTarget(workspace, "cpu-cluster")
    assert ScriptRunConfig(".", script="t.py", compute_target=target).run_config.target == "server"


def test_experiment_names(project):
    workspace = Workspace.from_config()
    for bad in ("", "-a", "a b", "a" * 256):
        with pytest.raises(UserErrorException):
            Experiment(workspace, bad)
    with pytest.raises(NotImplementedError, match="kluis exec"):
        Experiment(workspace, "e").start_logging()


def test_what_submit_takes(experiment):
    with pytest.raises(NotImplementedError, match="submitting a str is not part of Kluis: ScriptRunConfig"):
        experiment.submit("config")
