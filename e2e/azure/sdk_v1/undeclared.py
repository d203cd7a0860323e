"""In a run that declared the secret `mysecret`: what it may not read."""

import os
import sys

sys.path.insert(0, os.environ["DRIVERS"])

from azureml.core import Run  # noqa: E402
from steps import step  # noqa: E402

run = Run.get_context(allow_offline=False)
run.get_secret("mysecret")
step("Run.get_secret, not declared", lambda: run.get_secret("undeclared"))
step("Run.get_secrets, not declared", lambda: run.get_secrets(["mysecret", "undeclared"]))
