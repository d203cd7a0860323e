"""One JSON line for what became of each step; shared by the scripts beside it."""

import json

from azureml.exceptions import ServiceException, UserErrorException


def step(operation, work):
    """Does it and says what became of it. A refusal is what the server says with 403, which this client turns into its own words."""
    line = {"operation": operation}
    try:
        work()
        line["outcome"] = "works"
    except UserErrorException as error:
        refused = "Forbidden" in str(error)
        line.update(outcome="refused" if refused else "fails", detail=str(error)[:2000])
    except ServiceException as error:
        line.update(outcome="refused" if error.status_code == 403 else "fails", status=error.status_code, detail=str(error)[:2000])
    except Exception as error:  # whatever the package makes of it
        line.update(outcome="fails", detail=f"{type(error).__name__}: {error}"[:2000])
    print(json.dumps(line), flush=True)


def raises(kind, text, work):
    """That the call is refused with this exception and these words in it."""
    try:
        work()
    except kind as error:
        assert text in str(error), str(error)
        return error
    raise AssertionError(f"no {kind.__name__}")
