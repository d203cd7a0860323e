"""Each way to sign in that Azure ML's authentication notebook shows, with the secrets that it then sets and reads."""

import io
import sys

import pytest
from azureml.core import Experiment, Run, ScriptRunConfig, Workspace
from azureml.core.authentication import (
    ArmTokenAuthentication,
    Audience,
    AzureCliAuthentication,
    AzureMLTokenAuthentication,
    InteractiveLoginAuthentication,
    MsiAuthentication,
    ServicePrincipalAuthentication,
    TokenAuthentication,
)
from azureml.exceptions import AuthenticationException, UserErrorException, WorkspaceException
from kluis import _native
from kluis.testing import fake_run

OWNER, PRINCIPAL = "owner", "contributor"


def opened(name: str, auth=None) -> Workspace:
    return Workspace(subscription_id="my-subscription-id", resource_group="my-ml-rg", workspace_name=name, auth=auth)


def role(workspace: Workspace) -> str:
    return workspace.get_details()["role"]


def owners_token(up) -> str:
    import json
    import pathlib

    stored = json.loads(pathlib.Path(up.variables["KLUIS_CONFIG_DIR"], "credentials.json").read_text())
    return stored["credentials"][0]["token"]


def uses_its_vault(workspace: Workspace) -> None:
    keyvault = workspace.get_default_keyvault()
    keyvault.set_secret(name="secret-name", value="a value from outside")
    assert keyvault.list_secrets() == [{"name": "secret-name"}]
    assert keyvault.get_secret(name="secret-name") == "a value from outside"


def test_by_default_it_is_the_stored_login(project):
    for workspace in (Workspace.from_config(), opened(project)):
        assert (workspace.name, role(workspace)) == (project, OWNER)
        uses_its_vault(workspace)


@pytest.mark.parametrize("auth", [InteractiveLoginAuthentication(tenant_id="my-tenant-id"), AzureCliAuthentication()], ids=repr)
def test_interactive_and_cli_are_the_stored_login_whatever_the_environment_holds(project, principal, monkeypatch, auth):
    monkeypatch.setenv("KLUIS_CLIENT_ID", principal.id)
    monkeypatch.setenv("KLUIS_CLIENT_SECRET", principal.secret)
    workspace = opened(project, auth)
    assert f"Found workspace {workspace.name} at location {workspace.location}" == f"Found workspace {project} at location kluis"
    assert role(workspace) == OWNER
    assert role(opened(project)) == PRINCIPAL
    uses_its_vault(workspace)


@pytest.mark.parametrize("auth", [InteractiveLoginAuthentication(), AzureCliAuthentication()], ids=repr)
@pytest.mark.parametrize("server_is_known", [True, False])
def test_with_no_stored_login_the_way_to_one_is_named(project, principal, monkeypatch, tmp_path, auth, server_is_known):
    monkeypatch.setenv("KLUIS_CONFIG_DIR", str(tmp_path / "nothing"))
    if not server_is_known:
        monkeypatch.delenv("KLUIS_ADDR")
        monkeypatch.delenv("KLUIS_CA_SHA256")
    with pytest.raises(AuthenticationException, match="stored on this machine: .*kluis login") as refused:
        opened(project, auth)
    assert isinstance(refused.value, UserErrorException)


class Terminal(io.StringIO):
    """Standard error as a person sees it, who does what it says."""

    def __init__(self, answer: str, up) -> None:
        super().__init__()
        self.answer, self.up = answer, up

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if "kluis login approve" in text:
            self.up.cli("login", "approve", text.split()[-1], self.answer)
        return super().write(text)


def test_with_no_stored_login_a_person_is_shown_a_code(project, principal, monkeypatch, tmp_path, signed_in):
    monkeypatch.setenv("KLUIS_CONFIG_DIR", str(tmp_path / "laptop"))
    monkeypatch.setattr(sys, "stderr", Terminal("--deny", signed_in))
    with pytest.raises(AuthenticationException, match="stored on this machine"):
        opened(project, InteractiveLoginAuthentication())
    monkeypatch.setattr(sys, "stderr", Terminal("--yes", signed_in))
    assert role(opened(project, InteractiveLoginAuthentication())) == OWNER
    monkeypatch.setattr(sys, "stderr", sys.__stderr__)
    assert role(opened(project, InteractiveLoginAuthentication())) == OWNER, "it is stored"


def test_a_service_principal(project, principal):
    auth = ServicePrincipalAuthentication(
        tenant_id="my-tenant-id", service_principal_id=principal.id, service_principal_password=principal.secret
    )
    workspace = opened(project, auth)
    assert role(workspace) == PRINCIPAL
    uses_its_vault(workspace)
    assert list(Workspace.list("my-subscription-id", auth=auth)) == [project]


def test_a_wrong_password_is_refused_and_not_shown(project, principal):
    with pytest.raises(AuthenticationException) as refused:
        opened(project, ServicePrincipalAuthentication("t", principal.id, principal.secret[:-6] + "canary"))
    assert "canary" not in str(refused.value)


def test_an_unset_password_is_named(project):
    with pytest.raises(AuthenticationException, match="service_principal_password is empty"):
        opened(project, ServicePrincipalAuthentication("t", "0" * 32, None))


def test_a_service_principal_is_never_replaced_by_the_stored_login(project, principal, monkeypatch):
    # Without an address of the caller's the credential goes nowhere, and nobody else's stands in for it.
    monkeypatch.delenv("KLUIS_ADDR")
    monkeypatch.delenv("KLUIS_CA_SHA256")
    with pytest.raises(AuthenticationException, match="KLUIS_ADDR"):
        opened(project, ServicePrincipalAuthentication("t", principal.id, principal.secret))


def test_tokens(project, principal, up):
    token = owners_token(up)
    asked = []
    by_function = TokenAuthentication(lambda audience: asked.append(audience) or token)
    for auth in (by_function, ArmTokenAuthentication(token), AzureMLTokenAuthentication(token)):
        workspace = opened(project, auth)
        assert role(workspace) == OWNER
        assert auth.get_authentication_header() == {"Authorization": f"Bearer {token}"}
    uses_its_vault(workspace)
    assert len(asked) == 2 and by_function.get_token(Audience.AZUREML) == token
    with pytest.raises(ValueError, match="Unsupported audience"):
        by_function.get_token("elsewhere")


def test_a_token_of_somebody_else_is_refused_and_not_shown(project, principal):
    auth = ArmTokenAuthentication("kls_usr_canary")
    with pytest.raises(AuthenticationException) as refused:
        opened(project, auth)
    assert "canary" not in str(refused.value)
    assert "canary" not in repr(auth)


def test_msi_is_the_workloads_identity(project, principal, monkeypatch):
    with pytest.raises(AuthenticationException, match="not part of a run"):
        opened(project, MsiAuthentication())
    monkeypatch.setenv("KLUIS_CLIENT_ID", principal.id)
    monkeypatch.setenv("KLUIS_CLIENT_SECRET", principal.secret)
    workspace = opened(project, MsiAuthentication())
    assert role(workspace) == PRINCIPAL
    uses_its_vault(workspace)


def test_msi_in_a_run_is_the_run():
    with fake_run(secrets={"db-password": "hunter2"}, workspace="team") as fake:
        workspace = opened("team", MsiAuthentication())
        assert workspace.get_default_keyvault().get_secret("db-password") == "hunter2"
        with pytest.raises(UserErrorException):
            workspace.get_default_keyvault().set_secret("db-password", "other")
        with pytest.raises(UserErrorException, match="its own workspace team only"):
            opened("other", MsiAuthentication())
        assert [name for name, _, _ in fake.reads] == ["db-password"]


def test_a_run_that_opens_its_workspace(signed_in, project, tmp_path):
    Workspace.from_config().get_default_keyvault().set_secrets({"secret-name": "a value from outside"})
    (tmp_path / "get_secret.py").write_text(
        "from azureml.core import Run, Workspace\n"
        "from azureml.core.authentication import MsiAuthentication\n"
        "run = Run.get_context()\n"
        'value = run.get_secret(name="secret-name")\n'
        f'ws = Workspace("s", "g", "{project}", auth=MsiAuthentication())\n'
        'assert ws.get_default_keyvault().get_secret("secret-name") == value\n'
        'assert run.experiment.workspace.get_default_keyvault().get_secrets(["secret-name", "nope"])["nope"] is None\n'
        'print("Got secret value {} , but don\'t write it out!".format(len(value) * "*"))\n'
    )
    experiment = Experiment(workspace=Workspace.from_config(), name="try-secret")
    run = experiment.submit(ScriptRunConfig(source_directory=".", script="get_secret.py"))
    assert run.wait_for_completion(show_output=True)["status"] == "Completed"
    assert isinstance(run, Run)


def test_what_a_service_principal_submits_to_this_machine_runs_as_it(project, principal, tmp_path):
    (tmp_path / "train.py").write_text("from azureml.core import Run\nRun.get_context().log('ok', 1)\n")
    auth = ServicePrincipalAuthentication("t", principal.id, principal.secret)
    run = Experiment(Workspace.from_config(auth=auth), "e").submit(ScriptRunConfig(".", "train.py"))
    assert run.wait_for_completion()["submittedBy"] == principal.name


def test_nobody_is_asked_before_a_workspace_is_opened(monkeypatch):
    monkeypatch.setattr(_native, "connect", lambda *_, **__: pytest.fail("asked"))
    for auth in (InteractiveLoginAuthentication(force=True), AzureCliAuthentication(), MsiAuthentication()):
        assert repr(auth) == f"{type(auth).__name__}()"
    with pytest.raises(NotImplementedError, match="client-secret"):
        AzureCliAuthentication().get_authentication_header()


def test_a_workspace_that_is_not_there(signed_in):
    with pytest.raises(WorkspaceException, match="nowhere"):
        opened("nowhere")
    with pytest.raises(UserErrorException, match="auth is a str"):
        opened("nowhere", "a token")
