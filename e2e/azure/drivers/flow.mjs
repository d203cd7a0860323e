// Every operation of @azure/keyvault-secrets, one after another, as one credential; one JSON line for each. The same steps as
// flow.py.
//
//   flow.mjs CREDENTIAL [NAME]
//
// With a NAME it does what a script in a run may and may not: it reads that secret, and tries the rest.

import assert from "node:assert/strict";
import { SecretClient } from "@azure/keyvault-secrets";
import { make } from "./credentials.mjs";

const VALUE = 'first pässwörd \u{1f511} "quoted" <&>';
const EXPIRES = new Date("2031-05-06T07:08:09Z");
const env = process.env;
const [credential, declared] = process.argv.slice(2);
const name = declared ?? `flow-js-${env.TAG}`;
const client = new SecretClient(env.KLUIS_VAULT_URL, make(credential));
let first, second, copy;

// A refusal is what the server says with 403.
async function step(operation, work) {
  const line = { operation };
  try {
    await work();
    line.outcome = "works";
  } catch (error) {
    line.outcome = error.statusCode === 403 ? "refused" : "fails";
    line.status = error.statusCode;
    line.detail = `${error.name}: ${error.message}`;
  }
  console.log(JSON.stringify(line));
}

async function raises(statusCode, code, call) {
  await assert.rejects(call, (error) => {
    assert.deepEqual([error.statusCode, error.code], [statusCode, code]);
    return true;
  });
}

async function listed(iterator) {
  const all = [];
  for await (const item of iterator) all.push(item);
  return all;
}

const remove = async () => (await client.beginDeleteSecret(name)).pollUntilDone();
const recover = async (deleted) => (await client.beginRecoverDeletedSecret(deleted)).pollUntilDone();

const everything = {
  set: async () => {
    const made = await client.setSecret(name, VALUE, { contentType: "text/plain", tags: { a: "b" }, expiresOn: EXPIRES });
    assert.deepEqual([made.value, made.name], [VALUE, name]);
    assert.match(made.properties.version, /^[0-9a-f]{32}$/);
    const vault = env.KLUIS_VAULT_URL.replace(/\/$/, "");
    assert.equal(made.properties.id, `${vault}/secrets/${name}/${made.properties.version}`);
    assert.equal(made.properties.vaultUrl, vault);
    assert.deepEqual([made.properties.contentType, made.properties.tags], ["text/plain", { a: "b" }]);
    assert.equal(made.properties.expiresOn.getTime(), EXPIRES.getTime());
    assert.equal(made.properties.enabled, true);
    assert(Math.abs(made.properties.createdOn.getTime() - Date.now()) < 300e3);
    first = made.properties.version;
  },
  get: async () => {
    assert.equal((await client.getSecret(name)).value, VALUE);
    await client.setSecret(name, "");
    const got = await client.getSecret(name);
    assert.equal(got.value, "");
    second = got.properties.version;
    assert.notEqual(second, first);
    await raises(404, "SecretNotFound", () => client.getSecret("no-such-secret"));
  },
  "get a version": async () => {
    const got = await client.getSecret(name, { version: first });
    assert.deepEqual([got.value, got.properties.version], [VALUE, first]);
    await raises(404, "SecretNotFound", () => client.getSecret(name, { version: "0".repeat(32) }));
  },
  update: async () => {
    const changed = await client.updateSecretProperties(name, second, { contentType: "text/new", tags: { c: "d" } });
    assert.deepEqual([changed.version, changed.contentType, changed.tags], [second, "text/new", { c: "d" }]);
    const old = (await client.getSecret(name, { version: first })).properties;
    assert.deepEqual([old.contentType, old.tags, old.expiresOn.getTime()], ["text/plain", { a: "b" }, EXPIRES.getTime()]);
    await client.updateSecretProperties(name, first, { tags: {} });
    assert.deepEqual((await client.getSecret(name, { version: first })).properties.tags ?? {}, {});
  },
  list: async () => {
    const names = [];
    let pages = 0;
    for await (const page of client.listPropertiesOfSecrets().byPage({ maxPageSize: 1 })) {
      assert(page.length <= 1);
      pages += 1;
      names.push(...page.map((item) => item.name));
    }
    assert(pages > 1 && names.includes(name), `${pages} ${names}`);
    assert.equal(new Set(names).size, names.length);
  },
  "list versions": async () => {
    const found = await listed(client.listPropertiesOfSecretVersions(name));
    assert.deepEqual(new Set(found.map((item) => item.version)), new Set([first, second]));
    assert.deepEqual(await listed(client.listPropertiesOfSecretVersions("no-such-secret")), []);
  },
  disable: async () => {
    assert.equal((await client.updateSecretProperties(name, second, { enabled: false })).enabled, false);
    await raises(403, "Forbidden", () => client.getSecret(name));
  },
  enable: async () => {
    assert.equal((await client.updateSecretProperties(name, second, { enabled: true })).enabled, true);
    assert.equal((await client.getSecret(name)).value, "");
  },
  backup: async () => {
    copy = await client.backupSecret(name);
    assert(copy instanceof Uint8Array && !Buffer.from(copy).includes(VALUE));
  },
  delete: async () => {
    const gone = await remove();
    assert.equal(gone.name, name);
    assert(gone.properties.recoveryId.endsWith(`/deletedsecrets/${name}`), gone.properties.recoveryId);
    assert(gone.properties.scheduledPurgeDate > gone.properties.deletedOn);
    await raises(404, "SecretNotFound", () => client.getSecret(name));
  },
  "set a deleted name": () => raises(409, "Conflict", () => client.setSecret(name, "again")),
  "list deleted": async () => {
    assert((await listed(client.listDeletedSecrets())).some((item) => item.name === name));
  },
  "get deleted": async () => {
    const gone = await client.getDeletedSecret(name);
    assert(gone.name === name && gone.properties.scheduledPurgeDate);
    await raises(404, "SecretNotFound", () => client.getDeletedSecret("no-such-secret"));
  },
  recover: async () => {
    assert.equal((await recover(name)).name, name);
    assert.equal((await client.getSecret(name, { version: first })).value, VALUE);
  },
  purge: async () => {
    await remove();
    await client.purgeDeletedSecret(name);
    await raises(404, "SecretNotFound", () => client.getDeletedSecret(name));
  },
  restore: async () => {
    assert.equal((await client.restoreSecretBackup(copy)).name, name);
    assert.equal((await client.getSecret(name, { version: first })).value, VALUE);
    assert.equal((await client.getSecret(name)).properties.version, second);
    await raises(409, "Conflict", () => client.restoreSecretBackup(copy));
    await remove();
    await client.purgeDeletedSecret(name);
  },
};

// In a run: the value is known by its length alone, and to this process alone.
const inRun = {
  get: async () => {
    const got = await client.getSecret(name);
    assert.equal([...got.value].length, Number(env.EXPECTED_LENGTH));
    console.log("the value is", got.value);
    first = got.properties.version;
  },
  "get a version": async () => {
    const got = await client.getSecret(name, { version: first });
    assert.equal([...got.value].length, Number(env.EXPECTED_LENGTH));
  },
  "get another": () => client.getSecret(env.UNDECLARED),
  set: () => client.setSecret(name, "overwritten"),
  update: () => client.updateSecretProperties(name, first, { tags: { x: "y" } }),
  list: () => listed(client.listPropertiesOfSecrets()),
  "list versions": () => listed(client.listPropertiesOfSecretVersions(name)),
  disable: () => client.updateSecretProperties(name, first, { enabled: false }),
  backup: () => client.backupSecret(name),
  delete: remove,
  "list deleted": () => listed(client.listDeletedSecrets()),
  "get deleted": () => client.getDeletedSecret(env.DELETED),
  recover: () => recover(env.DELETED),
  purge: () => client.purgeDeletedSecret(env.DELETED),
  restore: () => client.restoreSecretBackup(Buffer.from("(AzureKeyVaultSecretBackupV1")),
};

for (const [operation, work] of Object.entries(declared ? inRun : everything)) {
  if (operation === (env.ONLY ?? operation)) await step(operation, work);
}
