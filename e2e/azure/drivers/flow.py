"""Every operation of azure-keyvault-secrets, one after another, as one credential; one JSON line for each.

    flow.py CREDENTIAL [--aio] [--run NAME]

With --run it does what a script in a run may and may not: it reads NAME, and tries the rest. ONLY names a single operation.
"""

import argparse
import asyncio
import datetime
import inspect
import json
import os
import re

import credentials
from azure.core.exceptions import AzureError, HttpResponseError

VALUE = "first pässwörd \U0001f511 \"quoted\" <&>"
EXPIRES = datetime.datetime(2031, 5, 6, 7, 8, 9, tzinfo=datetime.timezone.utc)


async def done(result):
    """What the call gives, in both clients."""
    return await result if inspect.isawaitable(result) else result


async def pages(paged):
    """The pages of a listing, each a list."""
    paged = paged.by_page()
    if hasattr(paged, "__aiter__"):
        return [[item async for item in page] async for page in paged]
    return [list(page) for page in paged]


async def listed(paged):
    return [item for page in await pages(paged) for item in page]


class Flow:
    def __init__(self, client, aio, name):
        self.client, self.aio, self.name = client, aio, name

    async def step(self, operation, work):
        """Does it and says what became of it. A refusal is what the server says with 403."""
        line = {"operation": operation}
        try:
            await work()
            line["outcome"] = "works"
        except HttpResponseError as error:
            outcome = "refused" if error.status_code == 403 else "fails"
            line.update(outcome=outcome, status=error.status_code, detail=f"{type(error).__name__}: {error.message}")
        except (AzureError, AssertionError, ValueError, AttributeError, TypeError) as error:
            line.update(outcome="fails", detail=f"{type(error).__name__}: {error}")
        print(json.dumps(line), flush=True)

    async def raises(self, status, code, call):
        """That the call is refused just so."""
        try:
            await done(call())
        except HttpResponseError as error:
            assert (error.status_code, error.error.code) == (status, code), f"{error.status_code} {error.error and error.error.code}"
            return
        raise AssertionError(f"not refused with {status} {code}")

    async def delete(self):
        if self.aio:
            return await self.client.delete_secret(self.name)
        poller = self.client.begin_delete_secret(self.name)
        poller.wait()
        return poller.result()

    async def recover(self, name):
        if self.aio:
            return await self.client.recover_deleted_secret(name)
        poller = self.client.begin_recover_deleted_secret(name)
        poller.wait()
        return poller.result()

    # One step each, in this order.

    async def set(self):
        made = await done(
            self.client.set_secret(self.name, VALUE, content_type="text/plain", tags={"a": "b"}, expires_on=EXPIRES)
        )
        assert made.value == VALUE and made.name == self.name
        assert re.fullmatch("[0-9a-f]{32}", made.properties.version), made.properties.version
        vault = os.environ["KLUIS_VAULT_URL"].rstrip("/")
        assert made.id == f"{vault}/secrets/{self.name}/{made.properties.version}", made.id
        assert made.properties.vault_url == vault, made.properties.vault_url
        assert (made.properties.content_type, made.properties.tags) == ("text/plain", {"a": "b"})
        assert made.properties.expires_on == EXPIRES and made.properties.enabled is True
        assert abs(made.properties.created_on.timestamp() - datetime.datetime.now().timestamp()) < 300
        self.first = made.properties.version

    async def get(self):
        assert (await done(self.client.get_secret(self.name))).value == VALUE
        await done(self.client.set_secret(self.name, ""))
        second = await done(self.client.get_secret(self.name))
        assert second.value == "" and second.properties.version != self.first
        self.second = second.properties.version
        await self.raises(404, "SecretNotFound", lambda: self.client.get_secret("no-such-secret"))

    async def get_version(self):
        got = await done(self.client.get_secret(self.name, self.first))
        assert got.value == VALUE and got.properties.version == self.first
        await self.raises(404, "SecretNotFound", lambda: self.client.get_secret(self.name, "0" * 32))

    async def update(self):
        changed = await done(self.client.update_secret_properties(self.name, content_type="text/new", tags={"c": "d"}))
        assert (changed.version, changed.content_type, changed.tags) == (self.second, "text/new", {"c": "d"})
        old = await done(self.client.get_secret(self.name, self.first))
        assert (old.properties.content_type, old.properties.tags, old.properties.expires_on) == ("text/plain", {"a": "b"}, EXPIRES)
        await done(self.client.update_secret_properties(self.name, self.first, tags={}))
        assert not (await done(self.client.get_secret(self.name, self.first))).properties.tags

    async def list(self):
        found = await pages(self.client.list_properties_of_secrets(max_page_size=1))
        assert all(len(page) <= 1 for page in found) and len(found) > 1, found
        names = [item.name for page in found for item in page]
        assert self.name in names and len(names) == len(set(names)), names

    async def versions(self):
        found = await listed(self.client.list_properties_of_secret_versions(self.name, max_page_size=1))
        assert {item.version for item in found} == {self.first, self.second}
        assert await listed(self.client.list_properties_of_secret_versions("no-such-secret")) == []

    async def disable(self):
        changed = await done(self.client.update_secret_properties(self.name, enabled=False))
        assert changed.enabled is False
        await self.raises(403, "Forbidden", lambda: self.client.get_secret(self.name))

    async def enable(self):
        assert (await done(self.client.update_secret_properties(self.name, enabled=True))).enabled is True
        assert (await done(self.client.get_secret(self.name))).value == ""

    async def backup(self):
        self.copy = await done(self.client.backup_secret(self.name))
        assert isinstance(self.copy, bytes) and VALUE.encode() not in self.copy

    async def delete_step(self):
        gone = await self.delete()
        assert gone.name == self.name and gone.recovery_id.endswith(f"/deletedsecrets/{self.name}"), gone.recovery_id
        assert gone.scheduled_purge_date > gone.deleted_date
        await self.raises(404, "SecretNotFound", lambda: self.client.get_secret(self.name))

    async def conflict(self):
        await self.raises(409, "Conflict", lambda: self.client.set_secret(self.name, "again"))

    async def list_deleted(self):
        assert self.name in [item.name for item in await listed(self.client.list_deleted_secrets())]

    async def get_deleted(self):
        gone = await done(self.client.get_deleted_secret(self.name))
        assert gone.name == self.name and gone.scheduled_purge_date
        await self.raises(404, "SecretNotFound", lambda: self.client.get_deleted_secret("no-such-secret"))

    async def recover_step(self):
        assert (await self.recover(self.name)).name == self.name
        assert (await done(self.client.get_secret(self.name, self.first))).value == VALUE

    async def purge(self):
        await self.delete()
        await done(self.client.purge_deleted_secret(self.name))
        await self.raises(404, "SecretNotFound", lambda: self.client.get_deleted_secret(self.name))

    async def restore(self):
        assert (await done(self.client.restore_secret_backup(self.copy))).name == self.name
        assert (await done(self.client.get_secret(self.name, self.first))).value == VALUE
        assert (await done(self.client.get_secret(self.name))).properties.version == self.second
        await self.raises(409, "Conflict", lambda: self.client.restore_secret_backup(self.copy))
        await self.delete()
        await done(self.client.purge_deleted_secret(self.name))

    async def everything(self):
        for operation, work in {
            "set": self.set,
            "get": self.get,
            "get a version": self.get_version,
            "update": self.update,
            "list": self.list,
            "list versions": self.versions,
            "disable": self.disable,
            "enable": self.enable,
            "backup": self.backup,
            "delete": self.delete_step,
            "set a deleted name": self.conflict,
            "list deleted": self.list_deleted,
            "get deleted": self.get_deleted,
            "recover": self.recover_step,
            "purge": self.purge,
            "restore": self.restore,
        }.items():
            if operation == os.environ.get("ONLY", operation):
                await self.step(operation, work)

    # In a run: the value is known by its length alone, and to this process alone.

    async def read(self):
        got = await done(self.client.get_secret(self.name))
        assert len(got.value) == int(os.environ["EXPECTED_LENGTH"]), len(got.value)
        print("the value is", got.value, flush=True)
        self.first = got.properties.version

    async def read_version(self):
        got = await done(self.client.get_secret(self.name, self.first))
        assert len(got.value) == int(os.environ["EXPECTED_LENGTH"]), len(got.value)

    async def in_run(self):
        client, name, deleted = self.client, self.name, os.environ["DELETED"]
        await self.step("get", self.read)
        await self.step("get a version", self.read_version)
        await self.step("get another", lambda: done(client.get_secret(os.environ["UNDECLARED"])))
        for operation, call in {
            "set": lambda: done(client.set_secret(name, "overwritten")),
            "update": lambda: done(client.update_secret_properties(name, tags={"x": "y"})),
            "list": lambda: listed(client.list_properties_of_secrets()),
            "list versions": lambda: listed(client.list_properties_of_secret_versions(name)),
            "disable": lambda: done(client.update_secret_properties(name, enabled=False)),
            "backup": lambda: done(client.backup_secret(name)),
            "delete": self.delete,
            "list deleted": lambda: listed(client.list_deleted_secrets()),
            "get deleted": lambda: done(client.get_deleted_secret(deleted)),
            "recover": lambda: self.recover(deleted),
            "purge": lambda: done(client.purge_deleted_secret(deleted)),
            "restore": lambda: done(client.restore_secret_backup(b"(AzureKeyVaultSecretBackupV1")),
        }.items():
            await self.step(operation, call)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("credential")
    parser.add_argument("--aio", action="store_true")
    parser.add_argument("--run")
    options = parser.parse_args()
    if options.aio:
        import azure.identity.aio as identity
        from azure.keyvault.secrets.aio import SecretClient
    else:
        import azure.identity as identity
        from azure.keyvault.secrets import SecretClient
    credential = credentials.make(options.credential, identity)
    client = SecretClient(os.environ["KLUIS_VAULT_URL"], credential)
    language = "aio" if options.aio else "sync"
    flow = Flow(client, options.aio, options.run or f"flow-{language}-{os.environ['TAG']}")
    await (flow.in_run() if options.run else flow.everything())
    await done(client.close())
    await done(credential.close())


asyncio.run(main())
