"""The package ``azureml`` as Kluis provides it: :mod:`azureml.core`, and what scripts import beside it.

Importing costs next to nothing; each module is loaded when it is first used.
"""

from azureml._kluis.beside import check as _check

_check(__path__)
