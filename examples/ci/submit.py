from azureml.core import Experiment, ScriptRunConfig, Workspace

ws = Workspace.from_config()
config = ScriptRunConfig(source_directory=".", script="train.py", compute_target="gpu-box", secrets=["db-password"])
run = Experiment(workspace=ws, name="nightly").submit(config)
run.wait_for_completion(show_output=True)
