"""Two replicas behind one nginx, over each kind of store that can have them: access control as its clients meet it there.

nginx is set up as docs/howto/access.md says, and connects from an address of its own; whoever talks to a replica directly
does not.
"""

import base64
import contextlib
import json
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import urllib3

import access_kit
import http_wires
import machines
import nginx
import pki
import running
import servers
import tap
from http_wires import Wire
from rolling.replicas import Replica

HOWTO = Path(__file__).parents[2] / "docs" / "howto" / "access.md"
API = "/transfer/v1"
PLAIN = "server {{ listen 127.0.0.1:{port}; client_max_body_size 0; location / {{ proxy_pass http://registry; }} }}"
"""Without TLS, so that a test can stand on the line."""
EVERYTHING = ("index", "list_vms", "head_push_vm", "push_vm", "pull_vm", "download_vm")


class Site:
    """The replicas, nginx before them, and what proves who somebody is."""

    def __init__(self, folder, arguments, settings):
        self.folder = folder
        self.clients, servers_of = pki.Authority("clients"), pki.Authority("servers")
        self.clients_file = str(self.clients.write(folder / "clients-ca.pem"))
        self.servers_file = str(servers_of.write(folder / "servers-ca.pem"))
        self.certificate = servers_of.server("127.0.0.1").write(folder / "server")
        self.token = secrets.token_urlsafe(24)
        self.token_file = folder / "root-token"
        self.token_file.write_text(self.token + "\n")
        more = {
            "S3REG_ROOT_TOKEN_FILE": str(self.token_file),
            "S3REG_AUTHORIZATION": "on",
            "S3REG_CLIENT_CA": self.clients_file,
            "S3REG_PROXIES": nginx.SOURCE,
            "S3REG_PROXY_CERTIFICATES": "nginx",
            "S3REG_LOG_FORMAT": "json",
            "S3REG_WORKERS": "1",
        }
        self.replicas = [Replica(folder, arguments, settings | more) for _ in range(2)]

    @contextlib.contextmanager
    def served(self):
        port, plain = servers.free_port(), servers.free_port()
        self.url, self.plain = f"https://127.0.0.1:{port}", f"http://127.0.0.1:{plain}"
        inner = nginx.snippet(
            HOWTO,
            listen=f"127.0.0.1:{port} ssl",
            ssl_certificate=self.certificate[0],
            ssl_certificate_key=self.certificate[1],
            ssl_client_certificate=self.clients_file,
        )
        here = dict(zip(("10.0.0.11:8089", "10.0.0.12:8089"), (one.address for one in self.replicas), strict=True))
        inner = nginx.upstream(inner, HOWTO.name, here) + PLAIN.format(port=plain)
        with contextlib.ExitStack() as stack:
            for one in self.replicas:
                one.start()
                stack.callback(one.stop)
            stack.enter_context(nginx.running(self.folder / "nginx", inner, port))
            yield self

    @property
    def root(self):
        return access_kit.basic(self.token)

    def ask(self, path, at=None, method="GET", *, certificate=None, source=None, **more):
        """A request through nginx, or `at` one of the replicas, over a connection of its own."""
        tls = {}
        if at is None:
            tls = {"ca_certs": self.servers_file}
            if certificate is not None:
                tls |= dict(zip(("cert_file", "key_file"), certificate.write(self.folder / "client"), strict=True))
        address = {"source_address": (source, 0)} if source else {}
        url = (self.url if at is None else self.replicas[at].url) + path
        with urllib3.PoolManager(retries=False, timeout=running.SECONDS, **tls, **address) as http:
            return http.request(method, url, **more)

    def group(self, name, *permissions, at=0, gen=None, **more):
        """Write a group at one of the replicas; gives it."""
        told = {"name": name, "permissions": list(permissions), "templates": None, "domains": [], "gen": gen, **more}
        answer = self.ask(f"{API}/groups", at, "POST", json=told, headers=self.root)
        assert answer.status in {200, 201}, answer.data
        return answer.json()

    def key(self, key_id, *groups, at=0):
        """Make an API key at one of the replicas; gives its id."""
        public = base64.b64encode(access_kit.public_der(tap.key())).decode()
        told = {"id": key_id, "ttl": None, "groups": list(groups), "public_key": public}
        answer = self.ask(f"{API}/keys", at, "POST", json=told, headers=self.root)
        assert answer.status == 201, answer.data
        return key_id

    def secret(self, key_id, at=None):
        sealed = self.ask("/tap/v1/hand", at, "POST", json={"id": key_id})
        assert sealed.status == 200, sealed.data
        return tap.key().decrypt(base64.b64decode(sealed.data, validate=True), tap.OAEP).decode()

    def shake(self, key_id, secret, at=None):
        return self.ask("/tap/v1/shake", at, "POST", json={"id": key_id, "secret": secret})

    def login(self, key_id, hand=None, shake=None):
        """The headers of a login, of which each step may go to another replica."""
        answer = self.shake(key_id, self.secret(key_id, hand), shake)
        assert answer.status == 200, answer.data
        return access_kit.bearer(answer.json()["data"])


@pytest.fixture(scope="module", params=["directory", "minio"])
def site(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    with contextlib.ExitStack() as stack:
        if request.param == "directory":
            arguments, settings = ["--store", folder / "store"], {}
        else:
            server = request.getfixturevalue("minio")
            bucket = stack.enter_context(servers.buckets())(server)
            arguments = ["--store", f"s3://{bucket}/reg", "--s3-endpoint", server.endpoint]
            settings = server.environment()
        yield stack.enter_context(Site(folder, arguments, settings).served())


@pytest.fixture
def name(request):
    """A name for this test's group and key; short enough for a certificate."""
    return request.node.originalname[-64:]


def until(found, what):
    """Ask until it is so."""
    deadline = time.monotonic() + running.SECONDS
    while not found():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.mark.parametrize(("hand", "shake", "call"), [(0, 1, 0), (1, 0, 1)])
def test_s25_a_login_whose_steps_go_to_different_replicas(hand, shake, call, site, name):
    key_id = site.key(f"{name}-{hand}", site.group(f"{name}-{hand}", "list_vms")["name"], at=hand)
    headers = site.login(key_id, hand, shake)
    for at in (call, 1 - call, None):
        assert site.ask("/registry/vm", at, headers=headers).status == 200


def test_s25_of_two_replicas_that_are_given_one_secret_at_once_one_gives_a_login(site, name):
    site.key(name)
    with ThreadPoolExecutor(2) as callers:
        for _ in range(5):
            secret = site.secret(name)
            answers = list(callers.map(lambda at, secret=secret: site.shake(name, secret, at).status, (0, 1)))
            assert sorted(answers) == [200, 401]
            assert {site.shake(name, secret, at).status for at in (0, 1)} == {401}


def test_s24_a_key_revoked_at_one_replica_is_refused_at_the_other(site, name):
    site.key(name, site.group(name, "list_vms")["name"])
    headers = site.login(name)
    assert {site.ask("/registry/vm", at, headers=headers).status for at in (0, 1)} == {200}
    revoked = site.ask(f"{API}/keys/revoke", 0, "POST", json={"id": name}, headers=site.root)
    assert revoked.status < 300, revoked.data
    until(lambda: site.ask("/registry/vm", 1, headers=headers).status == 401, "a revoked key goes on")
    assert site.ask("/tap/v1/hand", 1, "POST", json={"id": name}).status == 401
    # And a key made again under that id takes no login of the one before.
    site.key(name, name, at=1)
    assert {site.ask("/registry/vm", at, headers=headers).status for at in (0, 1)} == {401}


def test_s24_what_a_group_is_given_at_one_replica_counts_at_the_other_at_once_and_what_it_loses_soon(site, name):
    group = site.group(name, "index")
    headers = site.login(site.key(name, name))
    assert {site.ask("/registry/vm", at, headers=headers).status for at in (0, 1)} == {403}
    given = site.group(name, "index", "list_vms", gen=group["gen"])
    assert {site.ask("/registry/vm", at, headers=headers).status for at in (1, 0)} == {200}
    site.group(name, "index", at=1, gen=given["gen"])
    for at in (0, 1):
        until(lambda at=at: site.ask("/registry/vm", at, headers=headers).status == 403, "a group keeps what it lost")
    answer = site.ask("/registry/vm", 0, headers=headers)
    assert "list_vms" in answer.json()["message"]


def test_the_root_token_is_changed_by_its_file_while_both_replicas_serve(site):
    old, new = site.token, secrets.token_urlsafe(24)

    def status(token, at):
        return site.ask("/v1/apikey", at, headers=access_kit.basic(token)).status

    def write(*tokens):
        fresh = site.folder / "fresh"
        fresh.write_text("".join(f"{token}\n" for token in tokens))
        fresh.replace(site.token_file)

    write(new, old)
    for at in (0, 1):
        until(lambda at=at: status(new, at) == 200, "a new root token is not taken")
        assert status(old, at) == 200
    write(new)
    site.token = new
    for at in (0, 1):
        until(lambda at=at: status(old, at) == 401, "an old root token is still taken")
        assert status(new, at) == 200


def test_s27_nginx_hands_on_who_showed_which_certificate(site, name):
    site.group("builders", "list_vms")
    certificate = site.clients.issue(name, ou=("builders", "more"))
    who = site.ask(f"{API}/whoami", certificate=certificate).json()
    assert (who["name"], who["groups"], who["permissions"]) == (f"cert:{name}", ["builders", "more"], ["list_vms"])
    assert site.ask("/registry/vm", certificate=certificate).status == 200
    assert site.ask("/registry/vm").status == 401


def test_s27_a_certificate_of_another_ca_is_refused_by_nginx_and_by_whom_it_is_handed_to(site, name):
    other = pki.Authority("clients").issue(name)
    assert site.ask("/registry/vm", certificate=other).status == 400
    headers = access_kit.through_nginx(other.pem)
    answer = site.ask("/registry/vm", 0, source=nginx.SOURCE, headers=headers)
    assert (answer.status, answer.data) == (401, tap.UNAUTHENTICATED)


def test_headers_of_a_stranger_are_overwritten_by_nginx_and_ignored_by_the_replicas_around_it(site, name):
    site.group(name, "list_vms")
    certificate = site.clients.issue("somebody", ou=(name,))
    stolen = access_kit.through_nginx(certificate.pem)
    aws = {"X-Amzn-Mtls-Clientcert-Leaf": stolen["Ssl-Client-Cert"]}
    for forged in (stolen, aws, stolen | aws | {"X-Forwarded-For": nginx.SOURCE}):
        for at in (None, 0, 1):
            assert site.ask("/registry/vm", at, headers=forged).status == 401
    # It is the address that is believed, not the header.
    assert site.ask("/registry/vm", 0, source=nginx.SOURCE, headers=stolen).status == 200
    # A proxy may hand on what a stranger wrote under a name that WSGI takes for the same (PEP 3333).
    alike = {name.replace("-", "_"): value for name, value in stolen.items()}
    for forged in (alike, alike | {"Ssl-Client-Verify": "SUCCESS"}):
        assert site.ask("/registry/vm", 0, source=nginx.SOURCE, headers=forged).status == 401
    own = site.clients.issue("me", ou=(name,))
    assert site.ask(f"{API}/whoami", certificate=own, headers=stolen).json()["name"] == "cert:me"


def test_the_log_has_the_client_s_address_and_not_what_it_says_of_itself(site, name):
    forged = {"X-Forwarded-For": "203.0.113.7, 127.0.0.2"}
    headers = site.login(site.key(name)) | forged
    assert site.ask("/v1/apikey", source="127.0.0.9", headers=headers).status == 403  # through nginx
    assert site.ask("/v1/apikey", 0, source="127.0.0.8", headers=headers).status == 403
    told = [
        line
        for one in site.replicas
        for log in one.logs
        for line in map(json.loads, log.read_text().splitlines())
        if line.get("by") == f"key:{name}" and line["status"] == 403
    ]
    assert {line["address"] for line in told} == {"127.0.0.9", "127.0.0.8"}


def test_the_address_that_clients_are_told_is_nginx_s_and_not_what_a_stranger_says(site):
    def told(at=None, **headers):
        return site.ask("/api/v1/status", at, headers=site.root | headers).json()["body"]["registry_address"]

    assert told() == site.url
    assert told(0, **{"X-Forwarded-Proto": "https"}) == site.replicas[0].url


@pytest.mark.parametrize("site", ["directory"], indirect=True)
def test_s27_a_node_with_a_certificate_pushes_and_pulls_through_nginx(site, name, tmp_path):
    """Chunks too: where the store is a directory, signed links lead to nginx."""
    site.group(name, *EVERYTHING)
    certificate, key = site.clients.issue("mac", ou=(name,)).write(tmp_path / "mac")
    proof = ["--cacert", site.servers_file, "--cert", certificate, "--key", key]
    baker, runner = (running.Node(tmp_path / one, site.url) for one in ("baker", "runner"))
    machine = machines.make(baker.library, name=f"vm-{tmp_path.name}")
    baker.done("push", machine.name, "-t", "v1", *proof)
    runner.done("pull", machine.name, *proof)
    assert machines.contents(runner.library, machine) == machines.contents(baker.library, machine)


def test_a_push_with_an_api_key_goes_on_when_a_replica_is_killed_in_the_middle(site, name, tmp_path):
    key_id = site.key(name, site.group(name, *EVERYTHING)["name"])
    proof = ["--api-key-id", key_id, "--api-key", tap.kept(tap.key(), tmp_path)]
    with Wire(site.plain) as wire:
        baker, runner = (running.Node(tmp_path / one, wire.endpoint) for one in ("baker", "runner"))
        machine = machines.make(baker.library, name=f"vm-{tmp_path.name}")
        reached, released = threading.Event(), threading.Event()

        def hold(passage):
            reached.set()
            released.wait(running.SECONDS)
            http_wires.passes(passage)

        wire.rule = lambda passage: (
            hold if (passage.method, passage.kind) == ("POST", "uploads") and not reached.is_set() else None
        )
        with baker.start("push", machine.name, "-t", "v1", *proof) as push:
            try:
                assert reached.wait(running.SECONDS)
                site.replicas[0].kill()
            finally:
                released.set()
            out, err = push.communicate(timeout=running.SECONDS)
        try:
            assert push.returncode == 0, err + out
            runner.done("pull", machine.name, *proof)
        finally:
            site.replicas[0].start()
        assert machines.contents(runner.library, machine) == machines.contents(baker.library, machine)


@pytest.mark.parametrize("site", ["directory"], indirect=True)
def test_nobody_notices_that_the_replicas_are_started_anew_one_by_one(site, name):
    headers = site.login(site.key(name, site.group(name, "list_vms")["name"]))
    over, seen = threading.Event(), []

    def work():
        while not over.is_set():
            seen.append(site.ask("/registry/vm", headers=headers).status)

    with ThreadPoolExecutor(2) as callers:
        working = [callers.submit(work) for _ in range(2)]
        try:
            for one in site.replicas:
                one.stop()
                one.start()
        finally:
            over.set()
        for each in working:
            each.result()
    assert set(seen) == {200}
