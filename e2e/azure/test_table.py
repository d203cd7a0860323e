"""The tables in the guide say what the other tests found: no more, no less. Collected last; with KLUIS_ACCEPT=1 it writes them."""

import os

import pytest

import found as page
import test_azureml
import test_key_vault
import test_key_vault_in_run

COLUMNS = {
    **{
        heading: [test_key_vault.CREDENTIALS[credential] for credential in test_key_vault.credentials_of(client)]
        for client, heading in test_key_vault.CLIENTS.items()
    },
    **{heading: list(test_key_vault_in_run.CREDENTIALS.values()) for heading in test_key_vault_in_run.IN_RUN.values()},
    test_azureml.IN_RUN: list(test_azureml.PYTHONS.values()),
    test_azureml.LAPTOP: list(test_azureml.LAPTOP_CREDENTIALS.values()),
}


def test_the_guide_shows_what_was_found(found):
    missing = [f"{heading}: {column}" for heading, columns in COLUMNS.items() for column in columns if not found.has(heading, column)]
    if missing and not os.environ.get("CI"):
        pytest.skip("not everything was tried: " + "; ".join(missing))
    assert not missing
    tables = found.tables(COLUMNS)
    if os.environ.get("KLUIS_ACCEPT"):
        page.write(tables)
    assert page.checked_in() == tables, "docs/guide/azure-compatibility.md: look at the difference, then accept it with KLUIS_ACCEPT=1"
