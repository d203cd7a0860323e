"""Web services. Not part of Kluis; what is imported from here says so when it is used."""

from azureml._kluis.unsupported import SERVING, absent

AciWebservice = absent(__name__, "AciWebservice", SERVING)
AksWebservice = absent(__name__, "AksWebservice", SERVING)
LocalWebservice = absent(__name__, "LocalWebservice", SERVING)
Webservice = absent(__name__, "Webservice", SERVING)
