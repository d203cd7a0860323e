"""The pipelines of examples/ci: read as their systems read them, their steps run against a real server by a service principal."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys
import typing

import pytest
import yaml

from kluis_server import KLUIS

CI = pathlib.Path(__file__).parents[1] / "examples" / "ci"
PASSWORD = "canary-of-the-pipeline-4711"
BIN = os.path.dirname(sys.executable)


class Step(typing.NamedTuple):
    script: str
    variables: dict[str, str]


def filled(value: str, secrets: dict[str, str]) -> str:
    """A variable as Azure DevOps or GitHub fills it in."""
    return re.sub(r"\$\((\w+)\)|\$\{\{ secrets\.(\w+) \}\}", lambda found: secrets[found[1] or found[2]], value)


def mapped(step: dict, secrets: dict[str, str]) -> dict[str, str]:
    """The variables that a step asks for."""
    return {name: filled(value, secrets) for name, value in step.get("env", {}).items()}


def azure(content: dict, secrets: dict[str, str]) -> list[Step]:
    for step in content["steps"]:
        assert set(step) <= {"task", "inputs", "script", "displayName", "env"}
    scripts = [step for step in content["steps"] if "script" in step]
    return [Step(step["script"], {**content["variables"], **mapped(step, secrets)}) for step in scripts]


def github(content: dict, secrets: dict[str, str]) -> list[Step]:
    # YAML takes the key `on` for true.
    assert set(content) == {"name", True, "permissions", "env", "jobs"}
    scripts = [step for job in content["jobs"].values() for step in job["steps"] if "run" in step]
    return [Step(step["run"], {**content["env"], **mapped(step, secrets)}) for step in scripts]


def gitlab(content: dict, secrets: dict[str, str]) -> list[Step]:
    return [Step(line, {**content["variables"], **secrets}) for line in content["train"]["script"]]


SYSTEMS = {"azure-pipelines.yml": azure, "github-actions.yml": github, "gitlab-ci.yml": gitlab}


@pytest.fixture(scope="module")
def site(server, tmp_path_factory):
    """What the README of the examples has the owner do, and an agent on the compute target. The pipelines' variables."""
    server.ok("workspace", "create", "team")
    server.ok("admin", "principal", "create", "ci")
    server.ok("workspace", "member", "add", "ci", "--role", "contributor", "--workspace", "team")
    secret = server.json("admin", "client-secret", "create", "ci")
    server.ok("compute", "create", "gpu-box")
    code = server.ok("admin", "invite", "--agent", "gpu-agent", "--compute", "gpu-box").split()[-1]
    home = tmp_path_factory.mktemp("agent")
    environment = server.environment(KLUIS_CONFIG_DIR=str(home / "config"), XDG_STATE_HOME=str(home / "state"))
    subprocess.run([KLUIS, "agent", "enroll", code], env=environment, check=True, capture_output=True, timeout=60)
    with open(home / "agent.log", "wb") as log:
        agent = subprocess.Popen(
            [KLUIS, "agent", "--compute", "gpu-box", "--python", sys.executable], env=environment, stdout=log, stderr=log
        )
    pin = re.search(r'"ca_sha256": ?"([0-9a-f]{64})"', (server.config / "credentials.json").read_text())
    yield {
        "KLUIS_ADDR": server.address,
        "KLUIS_CA_SHA256": pin[1],
        "KLUIS_WORKSPACE": "team",
        "KLUIS_CLIENT_ID": secret["client_id"],
    }, {"KLUIS_CLIENT_SECRET": secret["client_secret"], "DB_PASSWORD": PASSWORD}
    agent.terminate()
    agent.wait(timeout=60)


@pytest.mark.parametrize("file", SYSTEMS)
def test_a_pipeline_runs_as_it_stands(file, site, server, tmp_path):
    plain, secrets = site
    for name in ("submit.py", "train.py"):
        shutil.copy(CI / name, tmp_path)
    steps = SYSTEMS[file](yaml.safe_load((CI / file).read_text()), secrets)
    assert len(steps) == 4
    # Nothing of the machine's own: no login, no home.
    clean = {"PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path / "home"), "PIP_NO_INDEX": "1"}
    said = ""
    for step in steps:
        # The example's own address, pin and id are this server's; everything else is as it stands in the file.
        assert set(plain) <= set(step.variables)
        environment = {**clean, **step.variables, **plain}
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", step.script],
            cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False,
        )  # fmt: skip
        said += done.stdout.decode() + done.stderr.decode()
        assert done.returncode == 0, f"{step.script}\n{said}"
    assert PASSWORD not in said and secrets["KLUIS_CLIENT_SECRET"] not in said
    runs = server.json("run", "list", "--workspace", "team")["items"]
    assert [run["status"] for run in runs[:2]] == ["completed", "completed"] and all(run["submitter"] == "ci" for run in runs[:2])
    assert server.json("run", "metrics", runs[0]["id"], "--workspace", "team")["items"][0]["value"] == len(PASSWORD)


def test_a_variable_that_the_pipeline_does_not_know_is_refused(site, tmp_path):
    plain, secrets = site
    environment = {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(tmp_path), **plain, **secrets, "DB_PASSWORD": "$(DB_PASSWORD)"}
    done = subprocess.run(
        [KLUIS, "secret", "set", "other", "--from-env", "DB_PASSWORD"],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode != 0 and b"DB_PASSWORD" in done.stderr
