from azureml.core import Run

run = Run.get_context()
password = run.get_secret(name="db-password")
run.log("characters", len(password))
