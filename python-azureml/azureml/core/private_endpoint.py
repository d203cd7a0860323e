"""Private endpoints. Not part of Kluis; what is imported from here says so when it is used."""

from azureml._kluis.unsupported import NETWORK, absent

PrivateEndPoint = absent(__name__, "PrivateEndPoint", NETWORK)
PrivateEndPointConfig = absent(__name__, "PrivateEndPointConfig", NETWORK)
