"""From where a request comes, and which certificate it brings; only of proxies that are known is more believed."""

import contextlib
import logging
import socket
import ssl
import threading
import time
from ipaddress import ip_network
from urllib.parse import quote

import pytest
import urllib3

import pki
import running
from access_kit import Closed, through_nginx
from s3reg.api import create_app, peer
from s3reg.settings import Settings

PROXY, STRANGER = "10.0.0.7", "192.0.2.7"
PROXIES = (ip_network("10.0.0.0/24"), ip_network("fd00::/8"))


def told(store, remote, forwarded, proxies=PROXIES):
    """The client's address, for a connection from `remote` with this X-Forwarded-For."""
    app = create_app(Settings(proxies=proxies), store)
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    with app.test_request_context(headers=headers, environ_overrides={"REMOTE_ADDR": remote}):
        return peer.address()


@pytest.mark.parametrize(
    ("remote", "forwarded", "address"),
    [
        (STRANGER, None, STRANGER),
        (STRANGER, "10.9.9.9", STRANGER),
        (PROXY, None, PROXY),
        (PROXY, "", PROXY),
        (PROXY, "192.0.2.1", "192.0.2.1"),
        (PROXY, "1.1.1.1, 192.0.2.1", "192.0.2.1"),
        (PROXY, "1.1.1.1, 192.0.2.1, 10.0.0.8", "192.0.2.1"),
        (PROXY, "1.1.1.1,192.0.2.1 ,\t10.0.0.8,10.0.0.9", "192.0.2.1"),
        (PROXY, "10.0.0.8, 10.0.0.9", "10.0.0.8"),
        (PROXY, "192.0.2.1:51234", "192.0.2.1"),
        (PROXY, "2001:db8::1", "2001:db8::1"),
        (PROXY, "[2001:db8::1]", "2001:db8::1"),
        (PROXY, "[2001:DB8:0::1]:51234", "2001:db8::1"),
        (PROXY, "fe80::1%eth0", "fe80::1%eth0"),
        (PROXY, "::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:10.0.0.7", "192.0.2.1", "192.0.2.1"),
        ("fd00::5", "fd00::6, 192.0.2.1, fd00::7", "192.0.2.1"),
        ("::ffff:192.0.2.7", None, STRANGER),
        ("", "192.0.2.1", ""),
    ],
)
def test_the_address_is_the_first_from_the_right_that_is_no_proxy_of_ours(store, remote, forwarded, address):
    assert told(store, remote, forwarded) == address


@pytest.mark.parametrize(
    "garbage",
    [
        "unknown",
        "_hidden",
        "1.2.3",
        "1.2.3.4.5",
        "999.1.1.1",
        "[::1",
        "::1]:80",
        "1.2.3.4:x",
        "a" * 8000,
        "\xff",
        "-",
        "[]:80",
        "01.2.3.4",
    ],
)
def test_beyond_what_is_no_address_nothing_is_believed(store, garbage):
    assert told(store, PROXY, f"1.1.1.1, {garbage}") == PROXY
    assert told(store, PROXY, f"1.1.1.1, {garbage}, 10.0.0.9") == "10.0.0.9"
    assert told(store, PROXY, f"{garbage}, 192.0.2.1") == "192.0.2.1"


def test_a_long_list_of_proxies_is_looked_through_so_far_and_no_further(store):
    assert told(store, PROXY, ",".join(["1.1.1.1", *["10.0.0.9"] * (peer.MOST_HOPS - 1)])) == "1.1.1.1"
    assert told(store, PROXY, ",".join(["1.1.1.1", *["10.0.0.9"] * peer.MOST_HOPS])) == "10.0.0.9"


def test_without_proxies_nobody_is_believed(store):
    assert told(store, "127.0.0.1", "192.0.2.1", proxies=()) == "127.0.0.1"


# --- Certificates ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ca():
    return pki.Authority()


@pytest.fixture(scope="module")
def robot(ca):
    return ca.issue("robot", ou=["ci", "build machines"])


@pytest.fixture
def behind(tmp_path, ca):
    """`behind("alb-verify")`: a registry behind proxies of this kind."""

    def make(kind, **settings):
        more = {"proxies": PROXIES, "proxy_certificates": kind} if kind else {"tls_cert": "elsewhere"}
        return Closed(tmp_path / "store", client_ca=str(ca.write(tmp_path / "ca.pem")), **more, **settings)

    return make


def whoami(closed, headers, remote=PROXY, **environ):
    return closed.http.get("/transfer/v1/whoami", headers=headers, environ_base={"REMOTE_ADDR": remote, **environ})


def test_nginx_says_whose_certificate_it_has_seen(behind, robot):
    answer = whoami(behind("nginx"), through_nginx(robot.pem))
    assert answer.status_code == 200
    assert (answer.json["name"], answer.json["groups"]) == ("cert:robot", ["ci", "build machines"])


@pytest.mark.parametrize("verified", ["NONE", "", "FAILED:unable to verify", "success", "SUCCESS "])
def test_a_certificate_that_nginx_has_not_verified_is_none(behind, robot, verified):
    assert whoami(behind("nginx"), through_nginx(robot.pem, verified)).status_code == 401


def test_the_certificate_in_a_header_is_checked_by_us_whatever_nginx_says(behind):
    """Our client is told what is wrong with it; Anka's compare the words."""
    closed, another = behind("nginx"), through_nginx(pki.Authority("Another CA").issue("robot").pem)
    answer = whoami(closed, another)
    assert (answer.status_code, answer.json["error"]["code"]) == (401, "certificate-refused")
    assert "Another CA" in answer.json["error"]["message"]
    answer = closed.http.get("/registry/vm", headers=another, environ_base={"REMOTE_ADDR": PROXY})
    assert (answer.status_code, answer.data) == (401, b'{"status":"FAIL","message":"Authentication Required"}')


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "-----BEGIN CERTIFICATE-----",
        "%",
        "%zz",
        "\xff" * 100,
        quote("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    ],
)
@pytest.mark.parametrize("kind", ["nginx", "alb-passthrough"])
def test_a_header_that_is_no_certificate_is_refused(behind, kind, text):
    headers = {"Ssl-Client-Verify": "SUCCESS", "Ssl-Client-Cert": text, "X-Amzn-Mtls-Clientcert": text}
    assert whoami(behind(kind), headers).status_code == 401


def amazon(pem):
    """As an Application Load Balancer encodes it: `+`, `=` and `/` stay as they are."""
    return quote(pem.decode(), safe="+=/")


def test_an_alb_says_the_leaf_or_the_chain_as_its_mode_is_and_a_plus_in_it_is_no_blank(behind, tmp_path, ca):
    middle = pki.Authority("Middle CA", parent=ca)
    closed = behind("alb-passthrough")
    while "+" not in (robot := middle.issue("robot", ou=["ci"])).pem.decode():
        pass
    chain = amazon(robot.pem + middle.pem)
    assert "+" in chain
    assert whoami(closed, {"X-Amzn-Mtls-Clientcert": chain}).json["name"] == "cert:robot"
    assert whoami(closed, {"X-Amzn-Mtls-Clientcert": amazon(robot.pem)}).status_code == 401
    verifying, leaf = behind("alb-verify"), {"X-Amzn-Mtls-Clientcert-Leaf": amazon(ca.issue("leaf").pem)}
    assert whoami(verifying, leaf).json["name"] == "cert:leaf"
    assert whoami(closed, leaf).status_code == 401
    assert whoami(verifying, {"X-Amzn-Mtls-Clientcert": chain}).status_code == 401


def test_each_kind_of_proxy_is_believed_its_own_headers_only(behind, robot):
    assert whoami(behind("alb-verify"), through_nginx(robot.pem)).status_code == 401
    for name in ("X-Amzn-Mtls-Clientcert", "X-Amzn-Mtls-Clientcert-Leaf"):
        assert whoami(behind("nginx"), {name: amazon(robot.pem), "Ssl-Client-Verify": "SUCCESS"}).status_code == 401


@pytest.mark.parametrize("kind", ["nginx", "alb-verify", "alb-passthrough", None])
def test_of_a_stranger_such_headers_are_ignored_and_that_is_logged_now_and_then(behind, robot, kind, caplog):
    now = [0.0]
    closed = behind(kind, clock=lambda: time.time() + now[0])
    headers = {**through_nginx(robot.pem), "X-Amzn-Mtls-Clientcert-Leaf": amazon(robot.pem), "X-Forwarded-For": PROXY}
    told = []
    for now[0] in (1.0, 2.0, 50.0, 70.0, 71.0):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            assert whoami(closed, headers, STRANGER).status_code == 401
        told.append(["certificate-header-ignored" in caplog.text, STRANGER in caplog.text])
    assert [line for line, _ in told] == [True, False, False, True, False]
    assert told[0][1]
    assert robot.pem.decode().splitlines()[1] not in caplog.text
    assert whoami(closed, {**headers, **closed.root}, STRANGER).status_code == 200


@contextlib.contextmanager
def tls(ca, folder, client):
    """The server's end of a connection on which `client` has shown its certificate."""
    server_files, client_files = ca.server().write(folder / "server"), client and client.write(folder / "client")
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(*server_files)
    serving.load_verify_locations(folder / "ca.pem")
    serving.verify_mode = ssl.CERT_OPTIONAL
    asking = ssl.create_default_context(cafile=folder / "ca.pem")
    if client:
        asking.load_cert_chain(*client_files)
    ours, theirs = socket.socketpair()
    with contextlib.ExitStack() as stack:
        ended = threading.Event()

        def ask():
            with asking.wrap_socket(theirs, server_hostname="localhost") as line:
                line.recv(1)  # with TLS 1.3 the client is done before its certificate was looked at
                ended.wait(60)

        thread = threading.Thread(target=ask)
        thread.start()
        stack.callback(thread.join)
        stack.callback(ended.set)
        sock = stack.enter_context(serving.wrap_socket(ours, server_side=True))
        sock.sendall(b"x")
        yield {"gunicorn.socket": sock}


def test_a_certificate_shown_to_tls_itself_is_the_askers(behind, ca, robot, tmp_path):
    closed = behind(None)
    with tls(ca, tmp_path, robot) as environ:
        assert whoami(closed, {}, **environ).json["name"] == "cert:robot"
    with tls(ca, tmp_path, None) as environ:
        assert whoami(closed, {}, **environ).status_code == 401
        assert whoami(closed, closed.root, **environ).json["name"] == "root"


def test_a_proxys_own_certificate_is_nobodys_who_asks_through_it(behind, ca, robot, tmp_path):
    closed = behind("nginx")
    with tls(ca, tmp_path, ca.issue("the proxy itself")) as environ:
        assert whoami(closed, {}, **environ).status_code == 401
        assert whoami(closed, {"Ssl-Client-Verify": "NONE"}, **environ).status_code == 401
        assert whoami(closed, through_nginx(robot.pem), **environ).json["name"] == "cert:robot"
        assert whoami(closed, {}, STRANGER, **environ).json["name"] == "cert:the proxy itself"


def test_certificates_are_nobodys_where_no_ca_is_known(tmp_path, robot):
    closed = Closed(tmp_path / "store", proxies=PROXIES, proxy_certificates="nginx")
    assert whoami(closed, through_nginx(robot.pem)).status_code == 401


def test_a_header_with_a_long_chain_gets_through_the_server_too(tmp_path, ca):
    middle = pki.Authority("Middle CA", parent=ca)
    others = [pki.Authority(f"CA number {n}").pem for n in range(20)]
    chain = amazon(b"".join([middle.issue("robot").pem, *others, middle.pem]))
    assert 8190 < len(chain) < 30_000
    settings = {
        "S3REG_ROOT_TOKEN": "a-token-for-this-test",
        "S3REG_CLIENT_CA": str(ca.write(tmp_path / "ca.pem")),
        "S3REG_PROXIES": "127.0.0.1",
        "S3REG_PROXY_CERTIFICATES": "alb-passthrough",
    }
    with running.serving(tmp_path, "--store", tmp_path / "store", "--workers", "1", **settings) as registry:
        url = f"{registry.url}/transfer/v1/whoami"
        told = urllib3.request("GET", url, headers={"X-Amzn-Mtls-Clientcert": chain}, retries=False)
    assert (told.status, told.json().get("name")) == (200, "cert:robot")
