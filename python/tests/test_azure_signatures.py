"""What a script written for Azure ML's SDK passes lands where it was meant: its parameters stand at the same places here."""

import inspect

import pytest

from kluis import Environment, Experiment, Keyvault, Run, RunConfiguration, ScriptRunConfig, Workspace
from kluis._offline import _OfflineRun
from kluis._submitted import _SubmittedRun
from kluis.exceptions import UserErrorException
from kluis.testing import fake_run

#: azureml-core 1.61: the parameters in order. `...` at the end: it takes further ones that are not listed here.
AZURE = {
    Workspace.__init__: "self subscription_id resource_group workspace_name auth _location _disable_service_check _workspace_id sku tags _cloud",
    Workspace.from_config: "path auth _logger _file_name",
    Workspace.get: "name auth subscription_id resource_group location cloud id",
    Workspace.list: "subscription_id auth resource_group",
    Workspace.create: "name auth subscription_id resource_group location create_resource_group sku tags friendly_name ...",
    Workspace.write_config: "self path file_name",
    Workspace.get_run: "self run_id",
    Keyvault.__init__: "self workspace",
    Keyvault.set_secret: "self name value content_type",
    Keyvault.set_secrets: "self secrets_batch",
    Keyvault.get_secret: "self name",
    Keyvault.get_secrets: "self secrets",
    Keyvault.get_secret_content_type: "self name",
    Keyvault.delete_secret: "self name",
    Keyvault.delete_secrets: "self secrets",
    Experiment.__init__: "self workspace name _skip_name_validation _id _archived_time _create_in_cloud _experiment_dto",
    Experiment.submit: "self config tags",
    Experiment.get_runs: "self type tags properties include_children",
    Experiment.list: "workspace experiment_name view_type tags",
    Run.__init__: "self experiment run_id outputs",
    Run.get: "workspace run_id",
    Run.list: "experiment type tags properties status include_children _rehydrate_runs",
    Run.get_context: "allow_offline used_for_context_manager",
    Run.get_secret: "self name",
    Run.get_secrets: "self secrets",
    Run.log: "self name value description step",
    Run.log_list: "self name value description",
    Run.log_row: "self name description",
    Run.log_table: "self name value description",
    Run.log_image: "self name path plot description",
    Run.tag: "self key value",
    Run.set_tags: "self tags",
    Run.remove_tags: "self tags",
    Run.add_properties: "self properties",
    Run.upload_file: "self name path_or_stream datastore_name",
    Run.upload_files: "self names paths return_artifacts timeout_seconds datastore_name",
    Run.upload_folder: "self name path datastore_name",
    Run.flush: "self timeout_seconds",
    Run.child_run: "self name run_id outputs",
    Run.create_children: "self count tag_key tag_values",
    Run.complete: "self _set_status",
    Run.fail: "self error_details error_code _set_status",
    Run.wait_for_completion: "self show_output wait_post_processing raise_on_error",
    Run.get_metrics: "self name recursive run_type populate",
    Run.get_children: "self recursive tags properties type status _rehydrate_runs",
    Run.download_file: "self name output_file_path _validate_checksum",
    Run.download_files: "self prefix output_directory output_paths batch_size append_prefix timeout_seconds",
    Run.get_all_logs: "self destination",
    ScriptRunConfig.__init__: (
        "self source_directory script arguments run_config _telemetry_values compute_target environment "
        "distributed_job_config resume_from max_run_duration_seconds command docker_runtime_config"
    ),
    RunConfiguration.__init__: (
        "self script arguments framework communicator conda_dependencies _history_enabled _path _name command"
    ),
    Environment.__init__: "self name",
    Environment.clone: "self new_name",
    Environment.from_conda_specification: "name file_path",
    Environment.from_docker_build_context: "name docker_build_context",
    Environment.from_docker_image: "name image container_registry conda_specification pip_requirements",
    Environment.from_dockerfile: "name dockerfile conda_specification pip_requirements",
    Environment.from_existing_conda_environment: "name conda_environment_name",
    Environment.from_pip_requirements: "name file_path pip_version",
}


@pytest.mark.parametrize("function", AZURE, ids=lambda f: f.__qualname__)
def test_parameters_stand_at_azures_places(function):
    theirs = [name for name in AZURE[function].split() if name != "..."]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    ours = [p.name for p in inspect.signature(function).parameters.values() if p.kind in positional]
    assert ours[: len(theirs)] == theirs


OVERRIDES = [
    function
    for subclass in (_OfflineRun, _SubmittedRun)
    for name, function in vars(subclass).items()
    if not name.startswith("_") and inspect.isfunction(function) and hasattr(Run, name)
]


@pytest.mark.parametrize("function", OVERRIDES, ids=lambda f: f.__qualname__)
def test_a_run_takes_the_same_wherever_it_is(function):
    base = getattr(Run, function.__name__)
    here, there = inspect.signature(function).parameters, inspect.signature(base).parameters
    assert list(here) == list(there)
    assert [p.default for p in here.values()] == [p.default for p in there.values()]


def test_what_submit_does_not_know_is_ignored_aloud(monkeypatch, caplog):
    monkeypatch.setattr("kluis._submit.submit", lambda experiment, config, tags: (config, tags))
    with fake_run() as fake:
        experiment = Experiment(fake.run.experiment.workspace, "e", _create_in_cloud=False)
        assert experiment.submit("config", {"a": "b"}, regenerate_outputs=True) == ("config", {"a": "b"})
    assert "submit ignores regenerate_outputs" in caplog.text


def test_interactive_runs_are_refused_with_the_alternatives():
    with fake_run() as fake, pytest.raises(UserErrorException, match="kluis exec"):
        fake.run.experiment.start_logging(snapshot_directory=None)


def test_the_submitted_run_by_its_old_name():
    with fake_run() as fake:
        assert Run.get_submitted_run() is fake.run


def test_a_workspace_is_not_made_of_nothing():
    with pytest.raises(TypeError, match="workspace_name"):
        Workspace("subscription", "group")
