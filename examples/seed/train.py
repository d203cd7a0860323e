# Code in submitted run
from kluis import Run

run = Run.get_context()
secret_value = run.get_secret(name="mysecret")
