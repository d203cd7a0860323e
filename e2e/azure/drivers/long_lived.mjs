// One client that lives on: reads NAME whenever a line comes in, and says how that went.
//
//   long_lived.mjs CREDENTIAL NAME

import readline from "node:readline";
import { SecretClient } from "@azure/keyvault-secrets";
import { make } from "./credentials.mjs";

const [credential, name] = process.argv.slice(2);
const client = new SecretClient(process.env.KLUIS_VAULT_URL, make(credential));
for await (const _ of readline.createInterface({ input: process.stdin })) {
  try {
    console.log(JSON.stringify({ value: (await client.getSecret(name)).value }));
  } catch (error) {
    console.log(JSON.stringify({ status: error.statusCode, error: `${error.name}: ${error.message}` }));
  }
}
