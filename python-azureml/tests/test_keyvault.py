"""The vault's answers, as scripts written for azureml-core know them."""

import pytest
from azureml._restclient import exceptions as restclient
from azureml._restclient.models.credential_enums import KeyVaultContentType
from azureml.core import Keyvault, Workspace
from azureml.exceptions import ServiceException, UserErrorException


@pytest.fixture
def keyvault(project) -> Keyvault:
    return Workspace.from_config().get_default_keyvault()


def test_a_name_that_is_there_is_updated(keyvault):
    assert keyvault.set_secret("s", "one") is None
    keyvault.set_secret(name="s", value="two")
    assert keyvault.get_secret("s") == "two"
    assert type(keyvault.get_secret(name="s")) is str


def test_batches(keyvault):
    assert keyvault.set_secrets({"a": "1", "b": 2}) is None
    assert keyvault.get_secrets(["b", "nope", "A"]) == {"b": "2", "nope": None, "A": "1"}
    # As azureml-core does: a text is its letters.
    assert keyvault.get_secrets("ab") == {"a": "1", "b": "2"}
    assert keyvault.get_secrets([]) == {}
    assert sorted(s["name"] for s in keyvault.list_secrets()) == ["a", "b"]
    assert keyvault.delete_secrets(["a", "b"]) is None
    assert keyvault.list_secrets() == []
    # What is deleted, Azure ML's scripts know as not there.
    assert keyvault.get_secrets(["a"]) == {"a": None}


def test_an_int_becomes_text_and_none_is_refused(keyvault):
    keyvault.set_secret("number", 5432)
    assert keyvault.get_secret("number") == "5432"
    with pytest.raises(ValueError, match=r"value is None; is the environment variable set\?"):
        keyvault.set_secret("number", None)
    with pytest.raises(ValueError, match="value of 'b' is None"):
        keyvault.set_secrets({"number": "x", "b": None})
    with pytest.raises(TypeError, match="not a bytes"):
        keyvault.set_secret("number", b"canary")
    assert keyvault.get_secret("number") == "5432"


@pytest.mark.parametrize("kind", [ServiceException, restclient.ServiceException, restclient.ErrorResponseException])
def test_a_missing_secret_is_a_service_exception_with_404(keyvault, kind):
    for read in (keyvault.get_secret, keyvault.get_secret_content_type, keyvault.delete_secret):
        with pytest.raises(kind) as missing:
            read("nope")
        assert missing.value.status_code == 404
        assert missing.value.message == "(UserError) Secret nope not found."
        assert "\tCode: 404\n\tMessage: (UserError) Secret nope not found.\n" in str(missing.value)
    # Kluis's own words stay visible behind it.
    assert "nope" in str(missing.value.__cause__) or missing.value.__cause__ is not None


def test_a_deleted_secret_is_not_found_either(keyvault):
    keyvault.set_secret("s", "one")
    keyvault.delete_secret("s")
    with pytest.raises(ServiceException) as missing:
        keyvault.get_secret("s")
    assert (missing.value.status_code, missing.value.message) == (404, "(UserError) Secret s not found.")


def test_what_can_be_no_name_is_a_400(keyvault):
    with pytest.raises(ServiceException) as refused:
        keyvault.get_secret("a b")
    assert refused.value.status_code == 400


def test_content_types(keyvault):
    keyvault.set_secret("plain", "x")
    keyvault.set_secret("pem", "x", content_type=KeyVaultContentType.pem_file)
    keyvault.set_secret("own", "x", "text/x-own")
    kinds = [keyvault.get_secret_content_type(name) for name in ("plain", "pem", "own")]
    assert kinds == ["application/NotProvided", "application/x-pem-file", "text/x-own"]
    assert all(type(kind) is str for kind in kinds)


def test_a_member_without_the_permission_gets_a_user_error(project, principal, signed_in):
    from azureml.core.authentication import ServicePrincipalAuthentication

    signed_in.cli("workspace", "member", "remove", principal.name, "--workspace", project)
    signed_in.cli("workspace", "member", "add", principal.name, "--role", "reader", "--workspace", project)
    auth = ServicePrincipalAuthentication("t", principal.id, principal.secret)
    keyvault = Workspace.from_config(auth=auth).get_default_keyvault()
    with pytest.raises(UserErrorException) as refused:
        keyvault.set_secret("s", "canary")
    assert not isinstance(refused.value, ServiceException) and "canary" not in str(refused.value)


def test_a_server_that_is_away_is_a_service_exception(project, monkeypatch):
    keyvault = Workspace.from_config().get_default_keyvault()
    from kluis.exceptions import VaultUnavailable

    def away(*_: object) -> None:
        raise VaultUnavailable("the server could not be reached")

    monkeypatch.setattr("kluis.keyvault.Keyvault.get_secret", away)
    with pytest.raises(ServiceException) as refused:
        keyvault.get_secret("s")
    assert (refused.value.status_code, refused.value.message) == (503, "(ServiceError) the server could not be reached")
