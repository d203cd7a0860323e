"""Runs in a run: each client as each credential, one after another, with a line before each that says which. Scripts that know no
other identity than that of a machine of Azure ML are tried by taking App Service's variables away, which clients look at first."""

import json
import os
import subprocess
import sys

APP_SERVICE = ("IDENTITY_ENDPOINT", "IDENTITY_HEADER")

for client, words in json.loads(sys.argv[1]).items():
    for credential in ("managed-identity-app-service", "managed-identity", "default"):
        print(json.dumps({"client": client, "credential": credential}), flush=True)
        env = {k: v for k, v in os.environ.items() if credential != "managed-identity" or k not in APP_SERVICE}
        declared = ["declared"] if client == "javascript" else ["--run", "declared"]
        subprocess.run([*words, credential.removesuffix("-app-service"), *declared], env=env, check=False)
