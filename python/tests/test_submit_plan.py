"""What a submission becomes, and what is refused before anything is sent."""

import os
import pathlib
import sys
import types

import pytest

from kluis import Environment, Experiment, RunConfiguration, ScriptRunConfig, _submit
from kluis._resources import on_the_wire
from kluis.exceptions import InvalidName, UserErrorException
from kluis.testing import fake_run


@pytest.fixture(autouse=True)
def tree():
    pathlib.Path("src/sub").mkdir(parents=True)
    for name in ("src/train.py", "src/sub/other.py", "outside.py"):
        pathlib.Path(name).touch()


def plan(**keywords):
    return _submit.plan(ScriptRunConfig(source_directory="src", **{"script": "train.py", **keywords}))


def test_a_target_of_the_configuration_counts_where_nothing_is_said():
    say_nothing = ScriptRunConfig("src", "train.py")
    assert _submit.plan(say_nothing, "gpu-box")["compute"] == "gpu-box"
    assert _submit.plan(say_nothing, None)["compute"] == "local"
    for said in ({"compute_target": "local"}, {"run_config": RunConfiguration()}):
        assert _submit.plan(ScriptRunConfig("src", "train.py", **said), "gpu-box")["compute"] == "local"
    assert _submit.plan(ScriptRunConfig("src", "train.py", compute_target="other"), "gpu-box")["compute"] == "other"


def test_references_name_secrets_of_this_workspace():
    config = ScriptRunConfig(
        "src", "train.py", secrets=["secret://Team/Db", "db"], secret_env={"T": "secret://team/token"}, secret_files={"k": "secret://team/key"}
    )
    body = _submit.plan(config, None, "team")
    assert body["secrets"] == ["Db", "token", "key"]
    assert (body["secret_env"], body["secret_files"]) == ({"T": "token"}, {"k": "key"})


@pytest.mark.parametrize("bad", ["secret://other/hunter2", "secret://team/hunter2@" + "a" * 32, "secret://hunter2", "secret://team/", "secret:///hunter2"])
def test_other_references_are_refused_and_not_repeated(bad):
    for said in ({"secrets": [bad]}, {"secret_env": {"V": bad}}, {"secret_files": {"f": bad}}):
        with pytest.raises(UserErrorException) as refused:
            _submit.plan(ScriptRunConfig("src", "train.py", **said), None, "team")
        assert "hunter2" not in str(refused.value)


def test_a_script_with_its_arguments_as_text():
    body = plan(arguments=["--lr", 0.1, "--n", 3, pathlib.Path("p")])
    assert body["program"] == {"script": {"path": "train.py", "arguments": ["--lr", "0.1", "--n", "3", "p"]}}
    assert plan(script="sub/../sub/other.py")["program"]["script"]["path"] == "sub/other.py"


def test_no_target_is_this_machine_with_this_interpreter():
    for target in (None, "local", "LOCAL"):
        body = plan(compute_target=target)
        assert (body["compute"].lower(), body["python"]) == ("local", sys.executable)
    remote = plan(compute_target="cluster")
    assert remote["compute"] == "cluster" and "python" not in remote


def test_a_command_is_a_list_as_it_is_or_a_text_for_the_shell():
    assert plan(script=None, command=["echo", 1])["program"] == {"command": {"argv": ["echo", "1"]}}
    assert plan(script=None, command="a | b")["program"] == {"command": {"argv": ["sh", "-c", "a | b"]}}
    assert "python" not in plan(script=None, command=["x"])


def test_secrets_delivered_are_declared_and_names_count_once():
    body = plan(secrets=["Db"], secret_env={"PGPASSWORD": "db", "T": "token"}, secret_files={"k.pem": "key"})
    assert body["secrets"] == ["Db", "token", "key"]
    assert body["secret_env"] == {"PGPASSWORD": "db", "T": "token"} and body["secret_files"] == {"k.pem": "key"}
    assert plan(secrets=[])["secrets"] == []
    assert "secrets" not in plan()


def test_what_the_call_says_wins_over_the_shared_configuration():
    shared = RunConfiguration(script="train.py", arguments=["a"])
    shared.target = "cluster"
    shared.max_run_duration_seconds = 60
    shared.environment_variables = {"A": "1", "B": "1"}
    body = plan(script=None, run_config=shared)
    assert body["program"]["script"]["arguments"] == ["a"]
    assert (body["compute"], body["resources"], body["environment"]) == ("cluster", {"time_seconds": 60}, {"A": "1", "B": "1"})
    environment = Environment("e")
    environment.environment_variables = {"B": 2}
    body = plan(arguments=[], compute_target="other", environment=environment, max_run_duration_seconds=5, run_config=shared)
    assert body["program"]["script"]["arguments"] == []
    assert (body["compute"], body["resources"]["time_seconds"], body["environment"]) == ("other", 5, {"A": "1", "B": "2"})


def test_interpreter_image_and_conda_environment():
    environment = Environment("e")
    environment.python.interpreter_path = "/opt/venv/bin/python"
    assert plan(environment=environment)["python"] == "/opt/venv/bin/python"
    conda = Environment.from_existing_conda_environment("c", "torch")
    with pytest.raises(UserErrorException, match="no conda environment torch"):
        plan(environment=conda)
    elsewhere = Environment.from_existing_conda_environment("c", "/opt/conda/envs/torch")
    assert plan(environment=elsewhere, compute_target="box")["python"] == "/opt/conda/envs/torch/bin/python"


def old_docker() -> Environment:
    environment = Environment("d")
    environment.docker.enabled = True
    return environment


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"environment": Environment.from_docker_image("i", "registry/image:1")}, "no engine runs containers.*interpreter_path"),
        ({"environment": old_docker()}, "no engine runs containers.*interpreter_path"),
        ({"docker_runtime_config": types.SimpleNamespace(use_docker=True)}, "no engine runs containers.*interpreter_path"),
        ({"engine_options": {"partition": "gpu"}}, "partition, which no engine takes.*takes are: none.*resources"),
        ({"engine_options": {"image": "x"}}, "image, which no engine takes"),
    ],
)
@pytest.mark.parametrize("target", ["local", "server", "box"])
def test_what_no_engine_can_honour_is_refused_with_the_alternative(keywords, said, target):
    with pytest.raises(UserErrorException, match=said):
        plan(compute_target=target, **keywords)


def test_a_conda_environment_of_another_machine_needs_its_path():
    conda = Environment.from_existing_conda_environment("c", "torch")
    with pytest.raises(UserErrorException, match="give its path there"):
        plan(environment=conda, compute_target="server")


def test_no_docker_and_no_options_change_nothing():
    config = types.SimpleNamespace(use_docker=False)
    assert plan(docker_runtime_config=config, engine_options={})["engine_options"] == {}


def test_a_conda_environment_of_this_machine_is_found(tmp_path, monkeypatch):
    prefix = tmp_path / "conda" / "envs" / "torch"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin" / "python").touch()
    conda = Environment.from_existing_conda_environment("c", "torch")
    monkeypatch.setenv("CONDA_EXE", str(tmp_path / "conda" / "bin" / "conda"))
    assert plan(environment=conda)["python"] == str(prefix / "bin" / "python")
    monkeypatch.delenv("CONDA_EXE")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".conda").mkdir()
    (tmp_path / ".conda" / "environments.txt").write_text(f"/elsewhere\n{prefix}\n")
    assert plan(environment=conda)["python"] == str(prefix / "bin" / "python")


@pytest.mark.parametrize(
    "environment",
    [
        Environment.from_pip_requirements("p", "requirements.txt"),
        Environment.from_conda_specification("c", "env.yml"),
        Environment.from_dockerfile("d", "Dockerfile"),
        Environment.from_docker_build_context("b", object()),
        Environment.from_docker_image("i", "image", None, "env.yml"),
        Environment.from_pip_requirements("p", "requirements.txt").clone("q"),
    ],
)
def test_what_would_have_to_be_built_is_refused_with_the_alternative(environment):
    with pytest.raises(UserErrorException, match="interpreter_path"):
        plan(environment=environment)


def test_conda_dependencies_on_the_shared_configuration_are_refused_too():
    with pytest.raises(UserErrorException, match="conda_dependencies"):
        plan(run_config=RunConfiguration(conda_dependencies=object()))


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"script": "missing.py"}, "there is no script missing.py"),
        ({"script": "../outside.py"}, "outside of source_directory"),
        ({"script": "sub"}, "there is no script sub"),
        ({"script": None}, "a script or a command"),
        ({"command": ["x"]}, "a script or a command"),
        ({"script": None, "command": []}, "empty"),
        ({"script": None, "command": "  "}, "empty"),
        ({"script": None, "command": ["x"], "arguments": ["y"]}, "carries its own"),
        ({"arguments": "--lr 0.1"}, "must be a list"),
        ({"arguments": [object()]}, r"arguments\[0\] is a object"),
        ({"secrets": "db"}, "list of names"),
        ({"resources": {"gpu": 1}}, "no 'gpu'"),
        ({"max_run_duration_seconds": 0}, "more than 0"),
        ({"distributed_job_config": object()}, "torchrun"),
        ({"resume_from": object()}, "download_files"),
    ],
)
def test_refused_before_anything_is_sent(keywords, said):
    with pytest.raises(UserErrorException, match=said):
        plan(**keywords)


def test_what_the_engine_must_do_is_refused_with_the_alternative():
    for change, said in (
        ({"communicator": "Mpi"}, "torchrun"),
        ({"node_count": 2}, "node_count"),
        ({"framework": "PySpark"}, "command="),
    ):
        shared = RunConfiguration(script="train.py")
        shared.__dict__.update(change)
        with pytest.raises(UserErrorException, match=said):
            plan(run_config=shared)


@pytest.mark.parametrize(
    ("resources", "wire"),
    [
        ({"gpus": 1, "cpus": "4"}, {"gpus": 1, "cpus": 4}),
        ({"memory": "16GiB"}, {"memory_bytes": 16 * 1024**3}),
        ({"memory": "1.5 gb"}, {"memory_bytes": 1_500_000_000}),
        ({"memory": 1024}, {"memory_bytes": 1024}),
        ({"time": "2h"}, {"time_seconds": 7200}),
        ({"time": "90"}, {"time_seconds": 90}),
        ({"time": "1.5h"}, {"time_seconds": 5400}),
    ],
)
def test_resources_as_people_write_them(resources, wire):
    assert on_the_wire(resources, None) == wire


def test_a_finite_duration_wins_over_time():
    assert on_the_wire({"time": "2h"}, 60) == {"time_seconds": 60}
    assert on_the_wire({"time": "2h"}, float("inf")) == {"time_seconds": 7200}


@pytest.mark.parametrize("resources", [{"memory": "16 cubits"}, {"cpus": 1.5}, {"cpus": 0}, {"cpus": -1}, {"gpus": True}, {"time": ""}])
def test_resources_that_are_not_understood(resources):
    with pytest.raises(UserErrorException, match="write it like"):
        on_the_wire(resources, None)


def test_an_experiments_name_is_checked_where_it_is_written():
    with fake_run() as fake:
        workspace = fake.run.experiment.workspace
        assert Experiment(workspace, "churn-2_x").name == "churn-2_x"
        for name in ("", "-x", "a b", "x" * 256):
            with pytest.raises(InvalidName):
                Experiment(workspace, name)


def test_only_a_script_run_config_is_submitted():
    with fake_run() as fake, pytest.raises(TypeError, match="ScriptRunConfig, not a str"):
        fake.run.experiment.submit("train.py")
    assert "train.py" in repr(ScriptRunConfig(pathlib.Path("src"), "train.py")) and os.path.exists("src")
