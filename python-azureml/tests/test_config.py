"""Configuration files: both of Azure ML's shapes, in its places and order, behind Kluis's own."""

import json
import pathlib

import pytest
from azureml._kluis.connect import AzureNames, find_config
from azureml.core import Workspace
from azureml.exceptions import UserErrorException

SCOPE = "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.MachineLearningServices/workspaces/{}"


def flat(name: str) -> dict:
    return {"subscription_id": "s", "resource_group": "g", "workspace_name": name}


def scope(name: str) -> dict:
    return {"Id": None, "Scope": SCOPE.format("s", "g", name)}


def write(path: str, content) -> str:
    file = pathlib.Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(file.resolve())


@pytest.mark.parametrize("shape", [flat, scope], ids=["flat", "scope"])
@pytest.mark.parametrize("place", [".azureml/config.json", "aml_config/config.json", "config.json", ".azureml/project.json"])
def test_both_shapes_are_found_from_below(shape, place, tmp_path):
    path = write(place, shape("team"))
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert find_config("a/b", None) == AzureNames("s", "g", "team")
    assert find_config(path, None) == AzureNames("s", "g", "team")


def test_the_places_in_azures_order(tmp_path):
    for place in ("config.json", "aml_config/project.json", "aml_config/config.json", ".azureml/project.json", ".azureml/config.json"):
        write(place, flat(place.replace("/", "-").replace(".", "-")))
        found = find_config(None, None)
        assert isinstance(found, AzureNames) and found.workspace_name == place.replace("/", "-").replace(".", "-")
    nearer = write("a/config.json", scope("nearer"))
    assert find_config("a", None).workspace_name == "nearer" and nearer


def test_scope_wins_over_what_stands_beside_it(tmp_path):
    write("config.json", {**flat("flat"), **scope("scoped")})
    assert find_config(None, None).workspace_name == "scoped"


def test_our_own_file_wins_wherever_it_lies_above(tmp_path):
    ours = write(".kluis/config.json", {"address": "https://127.0.0.1:9", "workspace": "ours"})
    write("a/.azureml/config.json", flat("theirs"))
    assert find_config("a", None) == ours


def test_another_programs_config_json_is_passed_over(tmp_path):
    write("config.json", flat("team"))
    write("a/config.json", {"model_type": "bert"})
    write("a/b/config.json", "not json")
    assert find_config("a/b", None).workspace_name == "team"


@pytest.mark.parametrize(
    "content, message",
    [("{", "is not JSON"), ({"a": 1}, "neither `workspace_name` nor `Scope`"), ({"Scope": "/elsewhere"}, "not the path of a workspace")],
)
def test_a_wrong_file_is_named(content, message, tmp_path):
    path = write(".azureml/config.json", content)
    with pytest.raises(UserErrorException, match=message) as refused:
        find_config(None, None)
    assert path in str(refused.value)


def test_a_file_by_name(tmp_path):
    write("aml_config/mine.json", scope("mine"))
    (tmp_path / "a").mkdir()
    assert find_config("a", "mine.json").workspace_name == "mine"
    with pytest.raises(UserErrorException, match="The workspace configuration file other.json, could not be found in"):
        Workspace.from_config(_file_name="other.json")
    with pytest.raises(UserErrorException, match="neither a folder nor a configuration file"):
        Workspace.from_config("nowhere")


def test_nothing_that_names_a_workspace(signed_in, tmp_path, monkeypatch):
    # The user's own file names one after `kluis up`; another has none.
    workspace = Workspace.from_config()
    assert (workspace.name, workspace.subscription_id) == ("default", "00000000-0000-0000-0000-000000000000")


def test_the_written_file_is_azures_and_is_read_back(project, tmp_path):
    workspace = Workspace.from_config()
    assert (workspace.subscription_id, workspace.resource_group) == ("my-subscription-id", "my-ml-rg")
    (tmp_path / "elsewhere").mkdir()
    assert workspace.write_config("elsewhere") is None
    written = json.loads((tmp_path / "elsewhere" / ".azureml" / "config.json").read_text())
    assert written == {"Id": None, "Scope": SCOPE.format("my-subscription-id", "my-ml-rg", project)}
    again = Workspace.from_config("elsewhere")
    assert again == workspace and again.resource_group == "my-ml-rg"
    # Also where such a file is only in the way.
    (tmp_path / "config.json").unlink()
    (tmp_path / "elsewhere" / ".azureml").rename(tmp_path / ".azureml")
    assert Workspace("x", "y", project) == workspace
    assert Workspace.get(project).name == project
    with pytest.raises(ValueError, match="not a file's name"):
        workspace.write_config("elsewhere", "../x.json")


def test_the_environment_wins_over_azures_file(project, monkeypatch):
    monkeypatch.setenv("KLUIS_WORKSPACE", "default")
    assert Workspace.from_config().name == "default"


def test_what_a_workspace_says_of_itself(project):
    workspace = Workspace.from_config()
    details = workspace.get_details()
    assert details["id"] == SCOPE.format("my-subscription-id", "my-ml-rg", project)
    assert (details["name"], details["location"], details["role"]) == (project, "kluis", "owner")
    assert [w.name for w in Workspace.list("s")[project]] == [project]
    assert Workspace.create(project, exist_ok=True) == workspace
    assert "server" in workspace.compute_targets and workspace.experiments == {}
