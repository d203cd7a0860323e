"""A project folder that names a foreign server gets no credential."""

import json
import socket
import ssl
import threading


class Trap:
    """Listens, completes TLS with a certificate of its own, and keeps every byte that it is sent."""

    def __init__(self, tmp_path) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID
        import datetime
        import ipaddress

        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "trap")])
        now = datetime.datetime.now(datetime.timezone.utc)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
            .sign(key, hashes.SHA256())
        )
        (tmp_path / "trap.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (tmp_path / "trap.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        self.pin = certificate.fingerprint(hashes.SHA256()).hex()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(tmp_path / "trap.crt", tmp_path / "trap.key")
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.heard = b""
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                plain, _ = self.socket.accept()
            except OSError:
                return
            try:
                plain.settimeout(5)
                with self.context.wrap_socket(plain, server_side=True) as s:
                    self.heard += s.recv(65536)
                    s.sendall(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            except OSError:
                continue


def test_a_hostile_project_file_gets_no_credential(server, tmp_path):
    trap = Trap(tmp_path)
    token = server.token
    for pin in (None, trap.pin):
        project = tmp_path / f"project-{pin is None}"
        (project / ".kluis").mkdir(parents=True)
        config = {"address": f"https://127.0.0.1:{trap.port}", "workspace": "default"}
        if pin:
            config["ca_sha256"] = pin
        (project / ".kluis" / "config.json").write_text(json.dumps(config))
        for command in (["secret", "list"], ["secret", "get", "x"], ["whoami"], ["run", "list"]):
            done = server.cli(*command, cwd=project)
            assert done.returncode in (4, 5), (command, done.returncode, done.stderr)
            assert str(trap.port) in done.stderr.decode(), "the error names the address"
    # Nor does a token from the environment go to an address that only the project names.
    done = server.cli("secret", "list", cwd=project, env={"KLUIS_TOKEN": token})
    assert done.returncode != 0
    assert token.encode() not in trap.heard and b"authorization" not in trap.heard.lower(), "a credential was sent"
    # The same folder is harmless to the login that exists.
    assert server.cli("whoami").returncode == 0
