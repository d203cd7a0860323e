"""Here for what scripts import from it: :mod:`azureml._restclient.exceptions`."""
