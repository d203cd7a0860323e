"""Linked services. Not part of Kluis; what is imported from here says so when it is used."""

from azureml._kluis.unsupported import DATA, absent

LinkedService = absent(__name__, "LinkedService", DATA)
SynapseWorkspaceLinkedServiceConfiguration = absent(__name__, "SynapseWorkspaceLinkedServiceConfiguration", DATA)
