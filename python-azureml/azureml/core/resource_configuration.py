"""Resources of served models. Not part of Kluis; what is imported from here says so when it is used."""

from azureml._kluis.unsupported import SERVING, absent

ResourceConfiguration = absent(__name__, "ResourceConfiguration", SERVING)
