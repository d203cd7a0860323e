"""Runs in a run: each client as each credential, one after another, with a line before each that says which."""

import json
import subprocess
import sys

clients = json.loads(sys.argv[1])
for client, words in clients.items():
    for credential in ("managed-identity", "default"):
        print(json.dumps({"client": client, "credential": credential}), flush=True)
        end = [credential, "--run", "declared"] if client != "javascript" else [credential, "declared"]
        subprocess.run([*words, *end], check=False)
