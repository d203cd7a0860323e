# Code in submitted run
from azureml.core import Run

run = Run.get_context()
secret_value = run.get_secret(name="mysecret")

import sys
import time

print("the secret has", len(secret_value), "characters")
print("the secret is", secret_value)
run.log("characters", len(secret_value))
if sys.argv[1:] == ["fail"]:
    sys.exit("as told")
if sys.argv[1:] == ["slow"]:
    time.sleep(6)  # the package shows the log of a run that still runs when it first looks
if sys.argv[1:] == ["sleep"]:
    time.sleep(120)
run.complete()
