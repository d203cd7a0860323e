"""One client that lives on: reads NAME whenever a line comes in, and says how that went.

    long_lived.py CREDENTIAL NAME
"""

import json
import os
import sys

import azure.identity
import credentials
from azure.core.exceptions import AzureError
from azure.keyvault.secrets import SecretClient

client = SecretClient(os.environ["KLUIS_VAULT_URL"], credentials.make(sys.argv[1], azure.identity))
for _ in sys.stdin:
    try:
        said = {"value": client.get_secret(sys.argv[2]).value}
    except AzureError as error:
        said = {"status": getattr(error, "status_code", None), "error": f"{type(error).__name__}: {error}"}
    print(json.dumps(said), flush=True)
