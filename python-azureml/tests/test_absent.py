"""What Kluis does not do can be imported, named and subclassed, and names the alternative when it is called."""

import importlib

import azureml.core
import pytest
from azureml.core import Dataset, Datastore, Environment, Image, Model, Webservice, Workspace
from azureml.core.authentication import AbstractAuthentication
from azureml.data import OutputFileDatasetConfig
from azureml.pipeline.core import Pipeline
from azureml.pipeline.core.graph import PipelineParameter
from azureml.pipeline.steps import PythonScriptStep
from azureml.train.automl import AutoMLConfig
from azureml.train.dnn import PyTorch
from azureml.train.hyperdrive import HyperDriveConfig
from azureml.widgets import RunDetails
from kluis.testing import fake_run

CALLS = {
    "Dataset.get_by_name": (lambda: Dataset.get_by_name(None, "d"), "where it lies"),
    "Dataset.Tabular.from_delimited_files": (lambda: Dataset.Tabular.from_delimited_files("p"), "where it lies"),
    "Datastore": (lambda: Datastore(None, "d"), "where it lies"),
    "OutputFileDatasetConfig": (OutputFileDatasetConfig, "where it lies"),
    "Model.register": (lambda: Model.register(None), "outputs"),
    "Image": (Image, "serving system"),
    "Webservice": (lambda: Webservice(None, "w"), "serving system"),
    "Pipeline": (lambda: Pipeline(None, []), "submits runs and waits"),
    "PipelineParameter": (PipelineParameter, "submits runs and waits"),
    "PythonScriptStep": (PythonScriptStep, "submits runs and waits"),
    "HyperDriveConfig": (HyperDriveConfig, "Optuna"),
    "AutoMLConfig": (AutoMLConfig, "Optuna"),
    "PyTorch": (PyTorch, "ScriptRunConfig"),
    "RunDetails": (lambda: RunDetails(None), "show_output=True"),
    "Environment.get": (lambda: Environment.get(None, "e"), "interpreter_path"),
    "AbstractAuthentication": (lambda: AbstractAuthentication()._login(), "azureml.core.authentication"),
}


@pytest.mark.parametrize("name", CALLS)
def test_calling_it_names_the_alternative(name):
    call, way_out = CALLS[name]
    with pytest.raises(NotImplementedError, match=way_out) as absent:
        call()
    assert str(absent.value).startswith(f"{name} is not part of Kluis: ")


def test_using_the_class_without_calling_it_is_fine():
    class Step(PythonScriptStep):
        pass

    assert not isinstance("path", Dataset) and issubclass(Step, PythonScriptStep)
    with pytest.raises(NotImplementedError):
        Step()
    with pytest.raises(AttributeError):
        Dataset.__wrapped__


def test_a_workspace_says_it_at_the_property(project):
    workspace = Workspace.from_config()
    for name in ("datasets", "datastores", "models", "images", "webservices", "environments", "linked_services", "private_endpoints"):
        with pytest.raises(NotImplementedError, match=f"workspace.{name} is not part of Kluis: "):
            getattr(workspace, name)
    with pytest.raises(NotImplementedError, match="kluis workspace delete"):
        workspace.delete()


def test_a_run_says_it():
    with fake_run() as fake:
        run = azureml.core.Run.get_context()
        for call in (
            lambda: run.register_model("m"),
            lambda: run.upload_file("f", "p", datastore_name="d"),
            lambda: run.log_confusion_matrix("c", {}),
            lambda: run.submit_child(None),
            lambda: run.input_datasets["d"],
        ):
            with pytest.raises(NotImplementedError, match="is not part of Kluis: "):
                call()
        assert fake.files == {}


def test_every_name_and_module_of_azureml_core_can_be_imported():
    for name in azureml.core.__all__:
        assert getattr(azureml.core, name) is not None
    modules = (
        "authentication compute compute_target conda_dependencies container_registry dataset datastore environment experiment image "
        "keyvault linked_service model private_endpoint profile resource_configuration run runconfig script_run script_run_config "
        "util webservice workspace"
    )
    for name in modules.split():
        assert importlib.import_module(f"azureml.core.{name}") is getattr(azureml.core, name)
    from azureml.core.compute import AksCompute, AmlCompute

    for call in (AmlCompute.provisioning_configuration, AksCompute.provisioning_configuration):
        with pytest.raises(NotImplementedError, match="kluis compute create"):
            call(vm_size="x")
    with pytest.raises(ImportError):
        from azureml.core import Nothing  # noqa: F401
    with azureml.core.diagnostic_log("path"):
        pass
