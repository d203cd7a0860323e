"""Every snippet of the README that can run, run as it stands, in its order."""

import os
import pathlib
import re
import subprocess

from kluis_server import KLUIS, Server, wait_for

README = pathlib.Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"^```(?P<language>bash|python) ?(?P<what>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_readme_does_what_it_says(tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    binaries = str(pathlib.Path(KLUIS).parent)
    blocks = list(BLOCK.finditer(README.read_text()))
    assert [b["what"] for b in blocks].count("server") == 1, "the README starts one server"
    with Server(tmp_path, listen="127.0.0.1:0") as server:
        # `kluis up` as it stands would listen on the default port; every other line runs to the letter.
        env = server.environment(
            PATH=f"{binaries}:{os.environ['PATH']}", MY_SECRET="the value from outside", KLUIS_ADDR=server.address
        )
        output = ""
        for block in blocks:
            if block["what"] == "server":
                assert block["text"].strip() == "kluis up"
            elif block["what"].startswith("file="):
                (project / block["what"].removeprefix("file=")).write_text(block["text"])
            else:
                done = subprocess.run(
                    ["bash", "-euo", "pipefail", "-c", block["text"]], cwd=project, env=env, capture_output=True, timeout=120, check=False
                )  # fmt: skip
                assert done.returncode == 0, (block["text"], done.stderr.decode())
                output += done.stdout.decode()
        assert output.count("the secret is ***") == 2, output
        assert "the value from outside" not in output
        assert "secret.delivered" in output
        assert "{'characters': 22}" in output
        wait_for("both runs to have ended", lambda: all(r["status"] == "completed" for r in server.json("run", "list")["items"]))


def test_links_in_the_documents_lead_somewhere():
    root = README.parent
    broken = []
    for page in [*root.glob("*.md"), *root.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            if not (page.parent / target).exists():
                broken.append(f"{page.relative_to(root)}: {target}")
    assert not broken, broken
