"""Every subcommand of `kluis secret`, through the real program."""

import json
import os
import shutil
import stat

import pytest

from kluis_server import KLUIS, canary


def put(server, name, value, *options):
    return server.json("secret", "set", name, "-", *options, stdin=value.encode())


def failed(done, code, *said):
    assert done.returncode == code, (done.returncode, done.stderr.decode())
    for text in said:
        assert text in done.stderr.decode(), done.stderr.decode()


def test_a_value_comes_back_as_it_was_set(server):
    value = canary()
    view = put(server, "roundtrip", value)
    assert view["name"] == "roundtrip" and len(view["version"]) == 32
    assert server.ok("secret", "get", "roundtrip") == value
    got = server.json("secret", "get", "secret://default/roundtrip")
    assert got["value"] == value
    assert server.ok("secret", "get", f"roundtrip@{view['version']}") == value
    assert server.ok("secret", "get", "roundtrip", "--version", view["version"]) == value
    failed(server.cli("secret", "get", f"roundtrip@{view['version']}", "--version", "0" * 32), 2, "another version")


def test_a_final_line_break_is_left_out_unless_exact(server):
    put(server, "trimmed", "value\n")
    assert server.ok("secret", "get", "trimmed") == "value"
    put(server, "trimmed", "value\n", "--exact")
    assert server.ok("secret", "get", "trimmed") == "value\n"


def test_values_come_from_files_and_variables(server, tmp_path):
    (tmp_path / "key").write_text("two\nlines\n")
    server.ok("secret", "set", "from-file", f"@{tmp_path / 'key'}")
    assert server.ok("secret", "get", "from-file") == "two\nlines\n"
    server.ok("secret", "set", "from-env", "--from-env", "GIVEN", env={"GIVEN": "given value"})
    assert server.ok("secret", "get", "from-env") == "given value"


@pytest.mark.parametrize("name, given", [("empty", b""), ("unexpanded", b"$(DbPassword)\n")])
def test_what_is_no_value_sets_nothing(server, name, given):
    failed(server.cli("secret", "set", name, "-", stdin=given), 1)
    failed(server.cli("secret", "get", name), 3)


def test_only_over_the_expected_version(server):
    first = put(server, "guarded", "first value", "--if-version", "none")
    failed(server.cli("secret", "set", "guarded", "-", "--if-version", "none", stdin=b"x"), 6)
    put(server, "guarded", "second value", "--if-version", first["version"])
    done = server.cli("secret", "set", "guarded", "-", "--if-version", first["version"], "--json", stdin=b"third")
    failed(done, 6)
    assert json.loads(done.stderr)["error"]["exit"] == 6
    assert server.ok("secret", "get", "guarded") == "second value"


def test_attributes_are_kept_and_listed(server):
    put(server, "described", "a described value", "--expires", "90d", "--content-type", "text/plain", "--tag", "team=ml")
    listed = {s["name"]: s for s in server.json("secret", "list")["items"]}["described"]
    text = json.dumps(listed)
    assert "text/plain" in text and '"team": "ml"' in text and "expires" in text
    assert "a described value" not in text
    assert "described" in server.ok("secret", "list")


def test_an_env_file_is_set_whole_or_not_at_all(server, tmp_path):
    path = tmp_path / "good.env"
    path.write_text("# comment\nexport one='first value'\ntwo=\"second\\nvalue\"\n")
    set_ = server.json("secret", "set", "--env-file", str(path), "--tag", "from=file")
    assert [s["name"] for s in set_["items"]] == ["one", "two"]
    listed = {s["name"]: s for s in server.json("secret", "list")["items"]}
    assert '"from": "file"' in json.dumps(listed["one"]) and '"from": "file"' in json.dumps(listed["two"])
    assert server.ok("secret", "get", "two") == "second\nvalue"
    path.write_text("three=third value\nfour=$(NotMapped)\n")
    failed(server.cli("secret", "import", str(path)), 1, "line 2")
    path.write_text("three=third value\nfour=\n")
    failed(server.cli("secret", "import", str(path)), 1, "line 2", "--allow-empty")
    failed(server.cli("secret", "get", "three"), 3)
    server.ok("secret", "import", str(path), "--allow-empty")
    assert server.ok("secret", "get", "three") == "third value" and server.ok("secret", "get", "four") == ""


def test_what_is_exported_is_private_and_imported_again(server, tmp_path):
    value = 'a "quoted" $value\\ with\nlines'
    put(server, "exported", value)
    path = tmp_path / "backup.env"
    assert server.json("secret", "export", str(path), "exported")["done"] == "exported"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    failed(server.cli("secret", "export", str(path), "exported"), 1)
    put(server, "exported", "another value")
    server.ok("secret", "import", str(path))
    assert server.ok("secret", "get", "exported") == value
    assert server.ok("secret", "export", "-", "secret://default/exported") == path.read_text()
    failed(server.cli("secret", "export", "-", "secret://elsewhere/exported"), 2, "elsewhere")


def test_a_generated_value_has_its_length_and_is_not_shown(server):
    done = server.cli("secret", "generate", "generated", "--length", "48", "--json")
    assert done.returncode == 0
    value = server.ok("secret", "get", "generated")
    assert len(value) == 48 and value not in done.stdout.decode() + done.stderr.decode()


def test_versions_are_listed_disabled_and_enabled(server):
    first = put(server, "versioned", "first value")["version"]
    second = put(server, "versioned", "second value")["version"]
    listed = server.json("secret", "versions", "versioned")["items"]
    assert {v["version"] for v in listed} == {first, second}
    assert [v["version"] for v in listed if v["current"]] == [second]
    server.json("secret", "disable", f"versioned@{first}")
    assert server.cli("secret", "get", f"versioned@{first}").returncode in (1, 4)
    assert server.ok("secret", "get", "versioned") == "second value"
    server.json("secret", "enable", f"versioned@{first}")
    assert server.ok("secret", "get", f"versioned@{first}") == "first value"
    failed(server.cli("secret", "versions", f"versioned@{first}"), 2)


def test_a_secret_is_deleted_recovered_and_purged(server):
    version = put(server, "mortal", "a mortal value")["version"]
    for command in (["delete"], ["recover"], ["purge", "--yes"]):
        failed(server.cli("secret", *command, f"mortal@{version}"), 2, "version")
    assert server.ok("secret", "get", "mortal") == "a mortal value", "a version in the name deleted nothing"
    assert server.json("secret", "delete", "mortal")["name"] == "mortal"
    assert server.cli("secret", "get", "mortal").returncode in (3, 6)
    assert "mortal" in [s["name"] for s in server.json("secret", "list", "--deleted")["items"]]
    server.json("secret", "recover", "mortal")
    assert server.ok("secret", "get", "mortal") == "a mortal value"
    server.ok("secret", "delete", "mortal")
    failed(server.cli("secret", "purge", "mortal"), 2, "--yes")
    assert server.json("secret", "purge", "mortal", "--yes") == {"done": "purged", "name": "mortal", "workspace": "default"}
    failed(server.cli("secret", "recover", "mortal"), 3)


def test_a_run_reads_by_name_and_by_reference_to_its_own_workspace(server, tmp_path):
    put(server, "in-run", "the value in the run")
    script = (
        'kluis="$1"; "$kluis" secret get in-run > outputs/plain; '
        '"$kluis" secret get secret://default/in-run > outputs/reference; '
        '"$kluis" secret get secret://elsewhere/in-run; echo $? > outputs/elsewhere; '
        '"$kluis" secret get undeclared; echo $? > outputs/undeclared'
    )
    put(server, "undeclared", "not for this run")
    run = server.ok(
        "run", "submit", "--secret", "secret://default/in-run", "--", "sh", "-c", script, "sh", os.path.abspath(shutil.which(KLUIS)), cwd=tmp_path
    ).strip()  # fmt: skip
    assert server.cli("run", "wait", run).returncode == 0
    to = tmp_path / "got"
    server.ok("run", "download", run, "--to", str(to))
    read = lambda name: (to / "outputs" / name).read_text().strip()  # noqa: E731
    assert read("plain") == read("reference") == "the value in the run"
    assert read("elsewhere") == "2" and read("undeclared") == "4"


def test_references_to_what_a_run_can_not_use_are_refused_before_anything_is_sent(server, tmp_path):
    before = len(server.json("run", "list")["items"])
    failed(server.cli("run", "submit", "--secret", "secret://elsewhere/x", "--", "true", cwd=tmp_path), 2, "elsewhere")
    failed(server.cli("run", "submit", "--secret-env", f"A=x@{'0' * 32}", "--", "true", cwd=tmp_path), 2, "version")
    assert len(server.json("run", "list")["items"]) == before
