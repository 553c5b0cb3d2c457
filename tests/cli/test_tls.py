"""TLS as `s3reg serve` speaks it: certificates of servers and clients, good and bad, with curl and with our own client."""

import contextlib
import datetime as dt
import http.client
import json
import secrets
import socket
import ssl
import subprocess
import time
import warnings
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

import pki
import running
import servers
import tap
from s3reg.cli.tls import Tls
from s3reg.client.connection import Access, Connection
from s3reg.errors import CertificateRefused, RegistryUnreachable, SettingInvalid, Unauthenticated
from s3reg.settings import Settings

NOBODY = "unauthenticated"
WHO = "/transfer/v1/whoami"
TOKEN = secrets.token_urlsafe(12)
SECONDS = 60


class Served:
    """A registry that asks for certificates, and its files; `files` has those that it reads again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.web = pki.Authority("Web CA")
        self.web.write(folder / "web.pem")
        self.clients = pki.Authority("Clients' CA")
        self.build = pki.Authority("Build CA", parent=self.clients)
        self.clients.write(folder / "clients.pem")
        self.certify(self.web.server())
        self.revoke()

    def certify(self, server: pki.Issued) -> None:
        """Give it this certificate from here on."""
        server.write(self.folder / "server")

    def revoke(self, *revoked: pki.Issued) -> None:
        (self.folder / "crl.pem").write_bytes(self.clients.crl(*revoked) + self.build.crl())

    @contextlib.contextmanager
    def serving(self):
        at = {name: self.folder / file for name, file in (
            ("store", "store"), ("tls-cert", "server.pem"), ("tls-key", "server.key"),
            ("client-ca", "clients.pem"), ("client-crl", "crl.pem"),
        )}  # fmt: skip
        options = [part for name, file in at.items() for part in (f"--{name}", file)]
        with running.serving(self.folder, *options, "--workers", 1, "--threads", 2, S3REG_ROOT_TOKEN=TOKEN) as registry:
            self.url, self.log = registry.url, registry.log
            assert self.url.startswith("https://127.0.0.1:")
            yield self

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("https://").partition(":")
        return host, int(port)

    def client(self, cn="robot", *, of=None, **more) -> dict[str, str]:
        """A client's certificate as our own client takes it."""
        issuer = of or self.clients
        chain = () if issuer is self.clients else (issuer,)
        return self.kept(issuer.issue(cn, **more), *chain)

    def kept(self, issued, *chain) -> dict[str, str]:
        certificate, key = issued.write(self.folder / secrets.token_hex(4), *chain)
        return {"certificate": certificate, "key": key}

    def ask(self, **access):
        """Who our own client is, to the registry."""
        known = {"ca_bundle": str(self.folder / "web.pem"), **access}
        with contextlib.closing(Connection(Access(self.url, **known), tries=1)) as connection:
            return connection.call("GET", WHO)

    def curl(self, *arguments):
        """Who curl is, to the registry, or the error's code; what curl says, if it fails."""
        done = subprocess.run(
            [servers.needs("curl"), "-sS", "--noproxy", "*", *map(str, arguments), self.url + WHO],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        if done.returncode != 0:
            return done.stderr
        found = json.loads(done.stdout)
        return found["name"] if "name" in found else found["error"]["code"]

    def context(self, certificate=None, key=None) -> ssl.SSLContext:
        """Of a client that takes everything that it is offered, old things too."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            made.set_ciphers("DEFAULT:@SECLEVEL=0")
            made.minimum_version = ssl.TLSVersion.TLSv1
        made.load_verify_locations(self.folder / "web.pem")
        if certificate:
            made.load_cert_chain(certificate, key)
        return made

    def line(self, context) -> http.client.HTTPSConnection:
        """A connection that stays."""
        return http.client.HTTPSConnection(*self.address, timeout=SECONDS, context=context)

    def logged(self, *words, least=0) -> list[str]:
        """The lines of the log that have these words, once there are so many: a client knows sooner than the log."""
        ends = time.monotonic() + SECONDS
        while True:
            found = [line for line in self.log.read_text().splitlines() if all(word in line for word in words)]
            if len(found) >= least or time.monotonic() > ends:
                return found
            time.sleep(0.01)


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with Served(tmp_path_factory.mktemp("tls")).serving() as served:
        yield served


@pytest.fixture
def served(registry):
    """The registry, with good files before and after."""
    yield registry
    registry.certify(registry.web.server())
    registry.clients.write(registry.folder / "clients.pem")
    registry.revoke()


def who(line):
    line.request("GET", WHO)
    answer = line.getresponse()
    body = json.loads(answer.read())
    return body["name"] if answer.status == 200 else answer.status


# --- The server's certificate ----------------------------------------------------------------------------------------


def test_s27_a_registry_whose_ca_is_named_is_trusted_and_says_who_asks(served):
    assert served.curl("--cacert", served.folder / "web.pem") == NOBODY
    with pytest.raises(Unauthenticated):
        served.ask()
    assert served.curl("--cacert", served.folder / "web.pem", "-u", f"root:{TOKEN}") == "root"
    assert served.ask(user="root", password=TOKEN)["name"] == "root"


def test_s27_a_certificate_that_signed_itself_is_trusted_by_name_and_not_otherwise(served):
    own = pki.Authority("localhost", extensions=[pki.alternative()])
    served.certify(own.issued)
    own.write(served.folder / "own.pem")
    assert served.curl("--cacert", served.folder / "own.pem") == NOBODY
    assert served.ask(ca_bundle=str(served.folder / "own.pem"), user="root", password=TOKEN)["name"] == "root"
    assert "certificate" in served.curl("--cacert", served.folder / "web.pem")


def test_s27_insecure_takes_any_certificate(served):
    assert served.curl("--insecure", "-u", f"root:{TOKEN}") == "root"
    assert served.ask(ca_bundle=None, insecure=True, user="root", password=TOKEN)["name"] == "root"


def test_s27_a_registry_of_another_ca_is_refused_by_both_clients_and_the_log_says_so(served):
    pki.Authority("Other CA").write(served.folder / "stranger.pem")
    assert "certificate" in served.curl("--cacert", served.folder / "stranger.pem")
    with pytest.raises(RegistryUnreachable, match="certificate is refused"):
        served.ask(ca_bundle=str(served.folder / "stranger.pem"), user="root", password=TOKEN)
    assert served.logged("tls-refused", "peer=127.0.0.1", "alert", least=1)


def test_s27_an_expired_certificate_of_the_server_is_refused_and_a_renewed_one_served_without_a_restart(served):
    past = dt.datetime.now(dt.UTC) - 3 * pki.DAY
    served.certify(served.web.server(now=past, ends=past + pki.DAY))
    assert "certificate has expired" in served.curl("--cacert", served.folder / "web.pem")
    with pytest.raises(RegistryUnreachable, match="certificate is refused"):
        served.ask(user="root", password=TOKEN)
    served.certify(served.web.server())
    assert served.curl("--cacert", served.folder / "web.pem") == NOBODY
    assert served.ask(user="root", password=TOKEN)["name"] == "root"


def test_a_connection_outlives_the_certificate_that_it_began_with(served):
    with contextlib.closing(served.line(served.context())) as line:
        assert who(line) == 401
        served.certify(pki.Authority("Another").server())
        assert who(line) == 401
    with contextlib.closing(served.line(served.context())) as line, pytest.raises(ssl.SSLCertVerificationError):
        who(line)


@pytest.mark.parametrize("highest", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_s27_tls_before_1_2_is_refused(served, highest):
    context = served.context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.maximum_version = highest
    with contextlib.closing(served.line(context)) as line, pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        who(line)


# --- Clients' certificates -------------------------------------------------------------------------------------------


def test_s27_a_client_with_a_certificate_is_whom_it_names_in_both_clients(served):
    shown = served.client("robot 7", ou=["ci", "qa"])
    found = served.ask(**shown)
    assert (found["name"], found["groups"]) == ("cert:robot 7", ["ci", "qa"])
    files = ("--cert", shown["certificate"], "--key", shown["key"])
    assert served.curl("--cacert", served.folder / "web.pem", *files) == "cert:robot 7"


def test_s27_a_client_shows_the_intermediates_that_lead_to_the_ca(served):
    assert served.ask(**served.client("robot", of=served.build))["name"] == "cert:robot"
    alone = served.kept(served.build.issue("robot"))
    with pytest.raises((CertificateRefused, RegistryUnreachable)):  # the alert, or a connection that ended before it
        served.ask(**alone)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_that_is_resumed_brings_the_intermediates_too(served, version):
    context = served.context(**served.client("robot", of=served.build))
    context.minimum_version = context.maximum_version = version
    with contextlib.closing(served.line(context)) as line:
        assert who(line) == "cert:robot"
        session = line.sock.session
    with contextlib.closing(served.line(context)) as line:
        raw = socket.create_connection(served.address, SECONDS)
        line.sock = context.wrap_socket(raw, server_hostname="127.0.0.1", session=session)
        assert who(line) == "cert:robot"


def refused(served, reason, **shown):
    """TLS itself does, and the log says why."""
    before = len(served.logged("tls-refused", reason))
    refusal = pytest.raises((ssl.SSLError, ConnectionResetError))
    with contextlib.closing(served.line(served.context(**shown))) as line, refusal:
        who(line)
    assert len(served.logged("tls-refused", "peer=127.0.0.1", reason, least=before + 1)) == before + 1
    assert not served.logged("Traceback")


def test_s27_a_client_certificate_of_another_ca_is_refused(served):
    refused(served, "local issuer certificate", **served.kept(pki.Authority("Other CA").issue("robot")))
    refused(served, "peer=", **served.kept(pki.Authority("Clients' CA").issue("robot")))
    refused(served, "self-signed", **served.kept(pki.Authority("robot", extensions=[]).issued))


def test_s27_an_expired_client_certificate_is_refused(served):
    past = dt.datetime.now(dt.UTC) - 3 * pki.DAY
    refused(served, "expired", **served.client(now=past, ends=past + pki.DAY))


def test_s27_a_client_certificate_signed_with_sha_1_is_refused(served):
    refused(served, "too weak", **served.kept(served.clients.by_openssl(served.folder, "/CN=robot", "-sha1")))


def test_a_servers_certificate_is_none_of_a_client(served):
    refused(served, "certificate purpose", **served.client("robot", extensions=[(pki.SERVERS, False)]))


def test_a_connection_does_not_outlive_a_revocation_nor_its_ca(served):
    robot = served.clients.issue("robot")
    kept = served.kept(robot)
    with contextlib.closing(served.line(served.context(**kept))) as line:
        assert who(line) == "cert:robot"
        served.revoke(robot)
        assert who(line) == 401
        with pytest.raises(CertificateRefused, match="'CN=robot' is revoked"):
            served.ask(**kept)
        assert served.logged("certificate-refused", "'CN=robot' is revoked")
        served.revoke()
        assert who(line) == "cert:robot"
        (served.folder / "crl.pem").write_text("")
        assert who(line) == 401
        assert served.logged("certificate-refused", "CRL file cannot be used: it is empty")
        served.revoke()
        served.build.write(served.folder / "clients.pem")
        assert who(line) == 401
        assert served.logged("certificate-refused", "none of the CAs")


def test_a_ca_that_is_added_counts_at_the_next_connection(served):
    other = pki.Authority("Other CA")
    shown = served.kept(other.issue("robot"))
    refused(served, "local issuer certificate", **shown)
    served.clients.write(served.folder / "clients.pem", other)
    (served.folder / "crl.pem").write_bytes(other.crl())
    assert served.ask(**shown)["name"] == "cert:robot"
    served.build.write(served.folder / "clients.pem")
    served.revoke()
    assert served.ask(**served.client("robot", of=served.build))["name"] == "cert:robot", "whoever is above it"


# --- Those who do not shake hands ------------------------------------------------------------------------------------


def test_many_who_begin_a_handshake_and_say_nothing_more_are_in_nobodys_way(served):
    with contextlib.ExitStack() as stack:
        for begun in (b"", b"\x16", b"\x16\x03\x01\x02\x00\x01") * 10:
            sock = stack.enter_context(socket.create_connection(served.address, SECONDS))
            sock.sendall(begun)
        for _ in range(3):
            assert served.curl("--cacert", served.folder / "web.pem") == NOBODY


def test_who_speaks_no_tls_is_told_of_in_one_line_and_a_look_whether_somebody_listens_in_none(served):
    for said in (b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\0" * 100, secrets.token_bytes(2000)):
        with socket.create_connection(served.address, SECONDS) as sock:
            before = len(served.logged("tls-refused"))
            sock.sendall(said)
            sock.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                while sock.recv(4096):
                    pass
            assert len(served.logged("tls-refused", least=before + bool(said))) == before + bool(said)
    assert not served.logged("Traceback")
    assert not served.logged("gunicorn")


# --- Files of which nothing can be made ------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    """`files(certificate, key, ca)`: TLS of files with these contents; of None there is none."""

    def write(certificate, key=None, ca=None):
        named = {"tls_cert": certificate, "tls_key": key, "client_ca": ca}
        for name, data in named.items():
            if data is not None:
                (tmp_path / name).write_bytes(data)
        told = {name: str(tmp_path / name) for name, data in named.items() if data is not None}
        return Tls.named(Settings(**told))

    return write


@pytest.fixture(scope="module")
def server():
    return pki.Authority("Web CA").server()


def served_by(tls):
    """The certificate that the next connection is shown."""
    ends = [ssl.MemoryBIO() for _ in range(2)]
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    client = trusting.wrap_bio(*ends)
    for side in (client, tls.context().wrap_bio(*reversed(ends), server_side=True), client):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return client.getpeercert(binary_form=True)


def test_without_a_certificate_there_is_no_tls():
    assert Tls.named(Settings()) is None


def test_certificate_and_key_may_lie_in_one_file(files, server):
    assert served_by(files(server.key_pem() + server.pem)) == server.der


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (("pem", "other"), "TLS_CERT: .*the key does not belong to the certificate"),
        (("pem", "rsa"), "TLS_CERT: .*the key does not belong to the certificate"),
        (("pem", "sealed"), r"TLS_KEY: .*tls_key: the key is encrypted"),
        (("pem", "empty"), r"TLS_KEY: .*tls_key: it is empty"),
        (("pem", "pem"), r"TLS_KEY: .*tls_key: it holds no private key in PEM"),
        (("pem",), r"TLS_CERT: .*tls_cert: it holds no private key in PEM"),
        (("empty", "key"), r"TLS_CERT: .*tls_cert: it is empty"),
        (("key", "key"), r"TLS_CERT: .*tls_cert: it holds no certificate in PEM"),
        (("der", "key"), r"TLS_CERT: .*tls_cert: it holds no certificate in PEM"),
        (("broken", "key"), r"TLS_CERT: .*tls_cert, .*tls_key: "),
        (("pem", "key", "key"), r"CLIENT_CA: .*client_ca: it holds no certificate in PEM"),
        (("pem", "key", "broken"), r"CLIENT_CA: .*client_ca: "),
        (("small", "small-key"), "TLS_CERT: .*the certificate's key is too short"),
        (("sha1", "sha1-key"), "TLS_CERT: .*signed with SHA-1"),
    ],
)
def test_files_of_which_nothing_can_be_made_are_said_by_name(files, contents, given, reason):
    with pytest.raises(SettingInvalid, match=f"(?s)setting S3REG_{reason}") as e:
        files(*(contents[one] for one in given))
    assert "PRIVATE" not in str(e.value)


@pytest.fixture(scope="module")
def contents(server, tmp_path_factory):
    """Of files, good and bad."""
    small = pki.Authority().issue("server", key=rsa.generate_private_key(65537, 1024))
    forged = pki.Authority().by_openssl(tmp_path_factory.mktemp("forged"), "/CN=server", "-sha1")
    return {
        "pem": server.pem,
        "der": server.der,
        "key": server.key_pem(),
        "other": pki.Authority().issued.key_pem(),
        "rsa": tap.pem(tap.key()),
        "sealed": server.key_pem(b"password"),
        "empty": b"\n",
        "broken": server.pem.replace(b"\nM", b"\nA"),
        "small": small.pem,
        "small-key": small.key_pem(),
        "sha1": forged.pem,
        "sha1-key": forged.key_pem(),
    }


def test_a_file_that_is_not_there_is_said_by_name(tmp_path):
    with pytest.raises(SettingInvalid, match=r"none\.pem: No such file"):
        Tls.named(Settings(tls_cert=str(tmp_path / "none.pem")))


def test_a_pair_that_is_half_written_leaves_the_one_before_and_is_told_once(files, server, tmp_path, caplog):
    tls = files(server.pem, server.key_pem())
    renewed = pki.Authority("Web CA").server()
    (tmp_path / "tls_cert").write_bytes(renewed.pem)
    for _ in range(3):
        assert served_by(tls) == server.der
    (line,) = [record.getMessage() for record in caplog.records]
    assert "file-not-usable" in line
    assert "the key does not belong to the certificate" in line
    (tmp_path / "tls_key").write_bytes(renewed.key_pem())
    assert served_by(tls) == renewed.der
    (tmp_path / "tls_key").unlink()
    assert served_by(tls) == renewed.der
