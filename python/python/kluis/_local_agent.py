"""Running a submission on this machine: a detached ``kluis agent`` that serves this one run and then ends."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from typing import TYPE_CHECKING

from .exceptions import UserErrorException
from .workspace import _CREDENTIALS

if TYPE_CHECKING:
    from .workspace import Workspace


def executable() -> str:
    """The program ``kluis``: ``KLUIS_CLI``, else beside the interpreter, else on PATH."""
    named = os.environ.get("KLUIS_CLI")
    if named:
        found = shutil.which(named)
        if found is None:
            raise UserErrorException(f"KLUIS_CLI names {named}, which is not an executable file")
        return os.path.abspath(found)
    beside = [os.path.dirname(sys.executable)] if sys.executable else []
    for folder in [*beside, sysconfig.get_path("scripts")]:
        path = os.path.join(folder, "kluis")
        if os.access(path, os.X_OK):
            return path
    found = shutil.which("kluis")
    if found is None:
        raise UserErrorException(
            "a run on this machine needs the program `kluis`, which is neither beside the interpreter nor on PATH (a source "
            "build of the Python package does not bring it). Install the wheel, set KLUIS_CLI to its path, or name a "
            "compute_target"
        )
    return found


class LocalAgent:
    """The agent's process, which outlives this one."""

    def __init__(self, process: subprocess.Popen[bytes], log: str) -> None:
        self._process = process
        self._log = log

    def failure(self) -> str | None:
        """Why it ended, when it ended otherwise than well; ``None`` while it lives or after it served its run."""
        code = self._process.poll()
        if not code:
            return None
        try:
            with open(self._log, "rb") as log:
                said = log.read()[-2000:].decode(errors="replace").strip()
        except OSError:
            said = ""
        return f"the agent on this machine ended with code {code}: {said or 'it said nothing'} ({self._log})"


class _Detached(subprocess.Popen[bytes]):
    """Let go of, not forgotten: the agent goes on, and there is nothing to warn of."""

    def __del__(self) -> None:
        # The object's end asks once more, so that an agent that is done is no zombie.
        if getattr(self, "_child_created", False):
            self.poll()


def start(program: str, workspace: Workspace, run_id: str) -> LocalAgent:
    """Starts the agent of one run, in a session of its own, with a state folder of its own."""
    # The agent removes both, folder and log, when the run has ended well.
    state = os.path.join(_state_folder(), f"{workspace.name}_{run_id}")
    log = f"{state}.log"
    command = [program, "agent", "--compute", "local", "--run", f"{workspace.name}/{run_id}", "--state", state]
    try:
        os.makedirs(os.path.dirname(state), mode=0o700, exist_ok=True)
        with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as said:
            process = _Detached(
                command,
                cwd="/",
                env=_environment(workspace),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
    except OSError as error:
        raise UserErrorException(f"the run {run_id} waits for an agent: {program} could not be started ({error})") from None
    return LocalAgent(process, log)


def _state_folder() -> str:
    """Where `kluis run submit` keeps the state of such agents too."""
    xdg = os.environ.get("XDG_STATE_HOME", "")
    root = xdg if os.path.isabs(xdg) else os.path.expanduser("~/.local/state")
    return os.path.join(root, "kluis", "local")


def _environment(workspace: Workspace) -> dict[str, str]:
    environment = dict(os.environ)
    if "KLUIS_CONFIG_DIR" in environment:
        # It may be relative, and the agent starts elsewhere.
        environment["KLUIS_CONFIG_DIR"] = os.path.abspath(environment["KLUIS_CONFIG_DIR"])
    # Naming the address in the environment makes it one that a token from the environment is sent to. So that token goes
    # along only when it is what was used for this very address.
    login = workspace._found.get("login")
    if login is not None or not workspace._client.credential_from_environment:
        for name in _CREDENTIALS:
            environment.pop(name, None)
        # A login that was given in the call, and not by the environment, goes along the same way.
        environment.update(login or {})
    environment["KLUIS_ADDR"] = workspace.address
    environment["KLUIS_WORKSPACE"] = workspace.name
    environment["KLUIS_CA_SHA256"] = workspace._client.ca_sha256
    return environment
