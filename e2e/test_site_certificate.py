"""A site's own certificate authority: the first start, a second user, a run, a renewal."""

import datetime
import ipaddress
import json

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kluis_server import Server


def named(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(subject, key, issuer, issuer_key, *extensions):
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=30))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    return builder.sign(issuer_key, hashes.SHA256())


class Site:
    """A root, an intermediate, and certificates for servers."""

    def __init__(self):
        authority = x509.BasicConstraints(ca=True, path_length=None)
        self.root_key, self.key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        root, name = named("site root"), named("site intermediate")
        self.root = certificate(root, self.root_key, root, self.root_key, authority)
        self.intermediate = certificate(name, self.key, root, self.root_key, authority)

    @property
    def pin(self):
        return self.root.fingerprint(hashes.SHA256()).hex()

    def issue(self, folder, whole=True):
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("kluis.example.org")])
        leaf = certificate(named("server"), key, self.intermediate.subject, self.key, names, x509.BasicConstraints(False, None))
        chain = [leaf, self.intermediate, self.root] if whole else [leaf]
        pem = serialization.Encoding.PEM
        (folder / "key.pem").write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )  # fmt: skip
        (folder / "chain.pem").write_bytes(b"".join(c.public_bytes(pem) for c in chain))
        return ["--tls-cert", str(folder / "chain.pem"), "--tls-key", str(folder / "key.pem")]


def test_owner_second_user_and_runs_work_behind_a_sites_certificate(tmp_path):
    site = Site()
    with Server(tmp_path, options=site.issue(tmp_path)) as server:
        assert server.json("whoami")["principal"]["installation_owner"]
        said = server.log.read_text()
        assert f"--ca-sha256 {site.pin}" in said and "the root key is" in said and "owns this installation" in said
        assert json.loads((server.config / "config.json").read_text())["ca_sha256"] == site.pin

        noted = (tmp_path / "state/kluis/covered").read_text()
        assert json.dumps(str(tmp_path / "key.pem")) in noted, "runs do not see the key"

        code = server.ok("admin", "invite", "ann", "--role", "contributor").strip()
        ann = {"KLUIS_CONFIG_DIR": str(tmp_path / "ann")}
        server.ok("login", code, env=ann)
        assert server.json("whoami", env=ann)["principal"]["name"] == "ann"
        wrong = server.cli("whoami", "--addr", server.address, "--ca-sha256", "0" * 64, env={"KLUIS_TOKEN": server.token})
        assert wrong.returncode == 5, "another authority is not this server's"

        server.ok("secret", "set", "db", "-", stdin=b"behind the site's certificate")
        project = tmp_path / "project"
        project.mkdir()
        for compute in ("server", "local"):
            run = server.ok("run", "submit", "--compute", compute, "--secret-env", "DB=db", "--", "sh", "-c", "echo ${#DB}", cwd=project).strip()
            assert server.cli("run", "wait", run).returncode == 0, server.ok("run", "logs", "--system", run)
            assert server.ok("run", "logs", run) == "29\n"

        server.stop()
        # Renewed by the same authority, with another key, while it was stopped.
        site.issue(tmp_path)
        server.start()
        assert server.json("whoami", env=ann)


def test_a_certificate_that_no_client_could_use_makes_no_installation(tmp_path):
    site = Site()
    alone = Server(tmp_path, options=site.issue(tmp_path, whole=False))
    elsewhere = Server(tmp_path, listen="127.0.0.2:0", options=site.issue(tmp_path))
    for server, said in ((alone, "append the certificates"), (elsewhere, "--host")):
        if server is alone:
            site.issue(tmp_path, whole=False)
        else:
            site.issue(tmp_path)
        try:
            server.start()
            raise SystemExit("it started")
        except AssertionError as error:
            assert said in str(error), error
        assert not (server.data / "kluis.db").exists()
        assert not (server.config / "credentials.json").exists()
