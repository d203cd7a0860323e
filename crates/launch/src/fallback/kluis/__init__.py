"""The run side of Kluis in one file, for interpreters that have no `kluis` installed.

The launcher puts this folder at the end of `PYTHONPATH`. It speaks to the launcher's socket (four bytes of length, then
JSON) and imports next to nothing. A real installation that the path also offers takes this module's place.
"""

import sys


def _defer():
    """Becomes the installed `kluis`, when there is one: `PYTHONPATH` comes before what is installed."""
    own = __file__.rsplit("/", 2)[0]
    rest = [entry for entry in sys.path if entry != own]
    spec = sys.modules["_frozen_importlib_external"].PathFinder.find_spec("kluis", rest)
    if spec is None or spec.loader is None or spec.origin == __file__:
        return False
    module = sys.modules[__name__]
    module.__spec__, module.__file__, module.__path__ = spec, spec.origin, spec.submodule_search_locations
    module.__loader__ = spec.loader
    spec.loader.exec_module(module)
    return True


if not _defer():
    import os
    from _socket import AF_UNIX, SOCK_STREAM, socket

    __version__ = "0+fallback"
    __all__ = ["KluisException", "Run", "RunEnvironmentException", "ServiceException", "VaultUnavailable"]

    class KluisException(Exception):
        """The base of every error here. `code` is stable, `message` is for people; no value is ever in it."""

        code = "error"

        def __init__(self, message="", code=None):
            Exception.__init__(self, message)
            self.message = message
            if code is not None:
                self.code = code

    class RunEnvironmentException(KluisException):
        """This process is not part of a run."""

        code = "not_in_a_run"

    class ServiceException(KluisException):
        """The server, or the run's launcher, refused or failed."""

        code = "service_error"

    class VaultUnavailable(ServiceException):
        """The server could not be reached in time."""

        code = "unavailable"

    def _numbers(value):
        """What JSON has no number for becomes a text; numpy's numbers become Python's."""
        if isinstance(value, dict):
            return {str(k): _numbers(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [_numbers(v) for v in value]
        if not isinstance(value, (bool, int, float, str, type(None))):
            value = value.tolist() if hasattr(value, "tolist") else str(value)
            return _numbers(value) if isinstance(value, list) else value
        if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
            return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
        return value

    class _Launcher:
        """The connection to the launcher: one for each process and thread."""

        def __init__(self, path):
            self.path, self.connections = path, {}

        def call(self, op, **request):
            import json

            request["op"] = op
            body = json.dumps({k: v for k, v in request.items() if v is not None}, allow_nan=False).encode()
            from _thread import get_ident

            owner = (os.getpid(), get_ident())
            connection = self.connections.get(owner)
            try:
                if connection is None:
                    connection = socket(AF_UNIX, SOCK_STREAM)
                    connection.connect(self.path)
                    self.connections[owner] = connection
                connection.sendall(len(body).to_bytes(4, "big") + body)
                answer = json.loads(self._exactly(connection, int.from_bytes(self._exactly(connection, 4), "big")))
            except BaseException as error:
                # Broken off (by Ctrl-C too), it would answer the next question with this one's answer.
                self.connections.pop(owner, None)
                if connection is not None:
                    connection.close()
                if not isinstance(error, OSError):
                    raise
                raise ServiceException("the run's launcher can not be reached (%s); has the run ended?" % error) from None
            if answer["answer"] == "error":
                kind = VaultUnavailable if answer["code"] == "unavailable" else ServiceException
                raise kind(answer["detail"], answer["code"])
            return answer

        @staticmethod
        def _exactly(connection, length):
            pieces = bytearray()
            while len(pieces) < length:
                piece = connection.recv(length - len(pieces))
                if not piece:
                    raise OSError("the connection was closed")
                pieces += piece
            return bytes(pieces)

    def _rank():
        # Ours is the node's number: whoever starts one process per device knows better.
        for variable in ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID", "KLUIS_RANK"):
            text = os.environ.get(variable, "")
            if text.isdigit():
                return int(text)
        return 0

    def _now():
        import time

        seconds = time.time()
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + ".%03dZ" % (seconds % 1 * 1000)

    class Run:
        """The run that this process is part of, or a child run of it."""

        _current = None

        def __init__(self, launcher, child=None, number=None):
            self._launcher, self._child, self._number = launcher, child, number
            self._ended = False

        @classmethod
        def get_context(cls, allow_offline=True, **_unused):
            """The run; outside one this small client has nothing to offer."""
            path = os.environ.get("KLUIS_RUN_SOCKET")
            if not path:
                raise RunEnvironmentException("this process was not started by Kluis; install kluis for offline runs")
            if cls._current is None or cls._current._launcher.path != path:
                cls._current = cls(_Launcher(path))
            return cls._current

        @property
        def id(self):
            return self._child or os.environ.get("KLUIS_RUN_ID") or self._launcher.call("context")["run"]

        @property
        def number(self):
            return self._number if self._child else self._launcher.call("context")["number"]

        def get_secret(self, name, refresh=False, timeout=None):
            """A secret's value, as text."""
            value = self.get_secrets([name], refresh, timeout)[name]
            if value is None:
                raise ServiceException("secret `%s` does not exist in the run's workspace" % name, "secret_not_found")
            return value

        def get_secrets(self, secrets, refresh=False, timeout=None):
            """Name, as asked, to value; a missing one is None."""
            if isinstance(secrets, str):
                raise TypeError("get_secrets takes a list of names; for one secret use get_secret")
            names = list(secrets)
            patience = None if timeout is None else max(0, int(timeout * 1000))
            answer = self._launcher.call("get_secrets", names=names, refresh=refresh, rank=_rank(), timeout_ms=patience)
            found = {item["name"].lower(): item["value"] for item in answer["items"]}
            return {name: found.get(name.lower()) for name in names}

        def _metric(self, name, value, kind, step=None):
            metric = {"name": name, "value": _numbers(value), "kind": kind, "time": _now()}
            if step is not None:
                metric["step"] = int(step)
            self._launcher.call("log_metrics", run=self._child, metrics=[metric])

        def log(self, name, value, description="", step=None):
            self._metric(name, value, "scalar", step)

        def log_list(self, name, value, description=""):
            self._metric(name, list(value), "list")

        def log_row(self, name, description=None, **kwargs):
            self._metric(name, kwargs, "row")

        def log_table(self, name, value, description=""):
            self._metric(name, dict(value), "table")

        def _change(self, **change):
            self._launcher.call("change", run=self._child, change=change)

        def tag(self, key, value=None):
            self.set_tags({key: value})

        def set_tags(self, tags):
            self._change(tags={str(k): "" if v is None else str(v) for k, v in tags.items()})

        def get_tags(self):
            return self._launcher.call("status")["tags"]

        def add_properties(self, properties):
            self._change(properties={str(k): str(v) for k, v in properties.items()})

        def upload_file(self, name, path_or_stream, datastore_name=None):
            """Uploads a file; a stream goes by way of a temporary one."""
            if not hasattr(path_or_stream, "read"):
                path = os.path.abspath(os.fspath(path_or_stream))
                self._launcher.call("upload", run=self._child, name=name, path=path)
                return
            import tempfile

            with tempfile.NamedTemporaryFile() as file:
                data = path_or_stream.read()
                file.write(data.encode() if isinstance(data, str) else data)
                file.flush()
                self._launcher.call("upload", run=self._child, name=name, path=file.name)

        def upload_folder(self, name, path, datastore_name=None):
            self.upload_file(name, path)

        def flush(self, timeout_seconds=300):
            self._launcher.call("flush")

        def get_status(self):
            return self._launcher.call("status")["status"].capitalize()

        def child_run(self, name=None, run_id=None, outputs=None):
            answer = self._launcher.call("create_child", run=run_id, display_name=name)
            return Run(self._launcher, answer["run"], answer["number"])

        def complete(self, _set_status=True):
            self._end("completed", None)

        def fail(self, error_details=None, error_code=None, _set_status=True):
            parts = [str(part) for part in (error_code, error_details) if part]
            self._end("failed", ": ".join(parts) or None)

        def _end(self, status, reason):
            self.flush()
            if self._child and not self._ended:
                end = {"status": status} if reason is None else {"status": status, "reason": reason}
                self._launcher.call("end_child", run=self._child, end=end)
                self._ended = True

        def __enter__(self):
            return self

        def __exit__(self, kind, error, trace):
            self.complete() if kind is None else self.fail(kind.__name__)
