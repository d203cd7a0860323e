"""Datastores. Not part of Kluis; what is imported from here says so when it is used."""

from azureml._kluis.unsupported import DATA, absent

Datastore = absent(__name__, "Datastore", DATA)
