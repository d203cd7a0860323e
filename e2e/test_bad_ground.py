"""The ground gives way: a full disk, a read-only folder, a second server, a taken port, a wrong key. Clear errors, nothing lost."""

import os
import shutil
import socket
import subprocess

import pytest

from kluis_server import KLUIS, Refused, Server
from needs import need


def up(server, *options, data=None):
    return subprocess.run(
        [KLUIS, "up", "--data", str(data or server.data), *options],
        stdin=subprocess.DEVNULL, capture_output=True, env=server.environment(), timeout=30, check=False,
    )  # fmt: skip


def test_a_second_server_on_the_same_data_is_refused(server):
    done = up(server, "--listen", "127.0.0.1:0")
    assert done.returncode != 0 and not done.stdout
    assert "in use" in done.stderr.decode(), done.stderr.decode()
    assert server.cli("whoami").returncode == 0


def test_a_port_in_use_is_named(server, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = up(server, "--listen", f"127.0.0.1:{port}", data=tmp_path / "other")
    assert done.returncode != 0 and str(port) in done.stderr.decode()


def test_a_wrong_root_key_refuses_to_start_and_touches_nothing(tmp_path):
    server = Server(tmp_path)
    with server:
        server.ok("secret", "set", "kept", "-", stdin=b"the value")
    key = server.data / "root.key"
    right = key.read_bytes()
    os.rename(key, tmp_path / "right.key")
    other = Server(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    with other:
        pass
    shutil.copy(other.data / "root.key", key)
    os.chmod(key, 0o600)
    before = (server.data / "kluis.db").read_bytes()
    done = up(server, "--listen", "127.0.0.1:0")
    assert done.returncode != 0 and "root key" in done.stderr.decode()
    assert (server.data / "kluis.db").read_bytes() == before
    key.write_bytes(right)
    with Server(tmp_path) as again:
        assert again.ok("secret", "get", "kept") == "the value"


def test_a_root_key_that_others_can_read_is_refused(tmp_path):
    server = Server(tmp_path)
    with server:
        pass
    os.chmod(server.data / "root.key", 0o644)
    done = up(server, "--listen", "127.0.0.1:0")
    assert done.returncode != 0 and "600" in done.stderr.decode(), done.stderr.decode()


def test_a_read_only_folder_is_named(tmp_path):
    need(os.getuid() == 0, "root, for a read-only mount")
    folder = tmp_path / "read-only"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", str(folder)], check=True)
    try:
        done = up(Server(tmp_path), "--listen", "127.0.0.1:0", data=folder / "data")
        assert done.returncode != 0 and "read-only" in done.stderr.decode().lower(), done.stderr.decode()
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_refuses_writes_and_loses_nothing(tmp_path):
    need(os.getuid() == 0, "root, for a small file system")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=0700", "none", str(small)], check=True)
    try:
        server = Server(tmp_path)
        server.data = small / "data"
        with server:
            client = server.client()
            path = "/api/v1/workspaces/default/secrets"
            written = []
            with open(small / "ballast", "wb") as ballast:
                try:
                    while True:
                        ballast.write(b"x" * 65536)
                        ballast.flush()
                except OSError:
                    pass
            refusal = None
            for i in range(2000):
                try:
                    written.append(client.call("PUT", f"{path}/s{i}", {"value": "v" * 20000})["version"])
                except Refused as error:
                    refusal = error
                    break
            assert refusal is not None and refusal.code == "storage_full" and refusal.status == 507, refusal
            os.remove(small / "ballast")
            client.call("PUT", f"{path}/after", {"value": "there is room again"})
            there = {item["version"] for item in client.pages(path)}
            assert set(written) <= there
        with server:
            there = {item["version"] for item in server.client().pages(path)}
            assert set(written) <= there
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.parametrize("signal_name", ["terminate", "interrupt"])
def test_a_graceful_stop_exits_with_success(tmp_path, signal_name):
    import signal

    server = Server(tmp_path).start()
    assert server.process is not None
    server.process.send_signal(signal.SIGTERM if signal_name == "terminate" else signal.SIGINT)
    assert server.process.wait(timeout=20) == 0
