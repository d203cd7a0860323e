"""Registered models. Not part of Kluis; what is imported from here says so when it is used."""

from azureml._kluis.unsupported import MODEL, absent

InferenceConfig = absent(__name__, "InferenceConfig", MODEL)
Model = absent(__name__, "Model", MODEL)
