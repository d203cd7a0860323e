"""The package ``azureml`` as Kluis provides it: :mod:`azureml.core`, and what scripts import beside it.

Importing costs next to nothing; each module is loaded when it is first used.
"""

import os as _os
import sys as _sys

# A folder that the real azureml-core has and this distribution has not, wherever a package `azureml` is looked for.
if any(_os.path.isdir(f"{_entry or _os.curdir}/azureml/_base_sdk_common") for _entry in _sys.path):
    from azureml._kluis.beside import check as _check

    _check(__path__)
