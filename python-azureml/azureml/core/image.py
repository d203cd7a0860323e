"""Images for serving. Not part of Kluis; what is imported from here says so when it is used."""

from azureml._kluis.unsupported import SERVING, absent

ContainerImage = absent(__name__, "ContainerImage", SERVING)
Image = absent(__name__, "Image", SERVING)
