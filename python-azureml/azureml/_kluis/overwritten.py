"""For when the real azureml-core was installed over this distribution. Its own files are then what gets imported; it
imports this module as one of its extensions, and shows what that raises.
"""

from azureml._kluis.beside import BOTH

raise ImportError(BOTH)
