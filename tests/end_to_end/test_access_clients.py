"""How public clients of Anka's registries log in, step by step as each of them does, and as strictly.

Two replicas over one directory take turns at every connection, so no two steps of a login meet the same one.
"""

import base64
import itertools
import json
import os
import re
import shutil
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import pytest
import urllib3
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key

import running
import servers
import sites
import tap
from access_kit import Closed
from push_calls import Push

REFUSED = "Authentication Required"
TOKEN = """p@ss:w/o+rd%41"'$&?#=;~ é 1"""
"""Of root: every character that means something to somebody on the way."""
WATCHES = ("index", "list_vms", "get_disk_info")
AS_ON_A_MAC = """#!/bin/sh
case $1 in
    "") exec {base64} -w 0 ;;
    *) exec {base64} "$@" ;;
esac
"""
"""`base64` there breaks no lines."""
CLOUD_CONNECT = r"""
set -eo pipefail
log_in() {
  echo -n $(curl -s ${URL}/tap/v1/hand -d "{\"id\": \"${KEY_ID}\"}") | base64 -d >"$HOME/sealed"
  openssl pkeyutl -decrypt -inkey "$1" -in "$HOME/sealed" -out "$HOME/secret" \
    -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256
  said=$(curl -s ${URL}/tap/v1/shake -d "{\"id\": \"${KEY_ID}\", \"secret\": \"$(cat "$HOME/secret")\" }")
  token=$(echo "${said}" | jq -r '.data' | base64)
  [[ $(curl -s -o /dev/null -w "%{http_code}" -H "Authorization: Bearer ${token}" ${URL}/api/v1/status) == "200" ]]
  [[ $(curl -s -o /dev/null -w "%{http_code}" -H "Authorization: Bearer ${token}" ${URL}/registry/status) == "200" ]]
  proof="-H 'Authorization: Bearer ${token}'"
}
ask() {
  eval curl "$@"
}
case $KEY_AS in
  file) log_in "$KEY_FILE" ;;
  text)
    echo "$KEY_TEXT" | base64 --decode >"$HOME/key.der"
    openssl rsa -in "$HOME/key.der" --out "$HOME/key.pem"
    log_in "$HOME/key.pem" ;;
  root) proof="-u 'root:${ROOT_TOKEN}'" ;;
esac
registry=$(ask -s "$proof" "$URL/api/v1/status" | jq -r '.body.registry_address')
ask -s "$proof" "$registry/registry/vm" | jq -r '.body[] | keys[]'
ask -s "$proof" "$registry/registry/vm" | jq -r '.body[] | values[]'
ask -s -o /dev/null -w "%{http_code}" "$proof" "$registry/log" -d "'{\"service\": \"connect\", \"content\": \"joined\"}'"
"""
"""What a node in a cloud runs when it starts: `cloud-connect.bash`, without what joins a controller."""


@dataclass
class Place:
    """Two replicas, one address before them, and what is in the registry."""

    closed: Closed
    url: str
    urls: list[str]
    template: str
    name: str
    ahead: list[float]
    """Seconds that the replicas' clocks are ahead."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    ahead = [0.0]
    store = tmp_path_factory.mktemp("clients") / "store"
    closed = Closed(store, token=TOKEN, authorization=True, clock=lambda: time.time() + ahead[0])
    closed.group("watchers", *WATCHES, "send_log_event")
    closed.group("nobody", templates={})
    http = closed.app.test_client()
    http.environ_base["HTTP_AUTHORIZATION"] = closed.root["Authorization"]
    pushed = Push([http])
    pushed.run()
    with ExitStack() as stack:
        urls = [stack.enter_context(sites.serving(one.app)) for one in (closed, closed.replica())]
        url = stack.enter_context(running.taking_turns(urls))
        yield Place(closed, url, urls, pushed.template, pushed.name, ahead)


@pytest.fixture
def key_id(place, request):
    """An API key of a group that may look, and not more."""
    key_id = request.node.name
    place.closed.make(key_id, ["watchers"])
    return key_id


def ask(url, method="GET", **more):
    """A request over a connection of its own; the answer, whatever it is."""
    return urllib3.request(method, url, retries=False, timeout=running.SECONDS, **more)


def secret_of(sealed, key=None):
    return (key or tap.key()).decrypt(sealed, tap.OAEP).decode()


@dataclass
class Exporter:
    """anka-prometheus-exporter (Go). It asks without any credential first, and counts on being refused in these words."""

    url: str
    key_id: str
    logins: int = 0
    _bearer: str = field(default="", repr=False)

    def __post_init__(self):
        self.renew()

    def renew(self):
        trouble = self.test_connection()
        assert trouble is not None, "where nothing is wrong it asks a nil error what it says, and ends"
        if trouble == REFUSED:
            self._bearer = self.log_in()
        assert self.test_connection() is None

    def log_in(self):
        self.logins += 1
        sealed = self.post("hand", f'{{"id": "{self.key_id}"}}')
        # StdEncoding passes over line ends, and over nothing else.
        secret = secret_of(base64.b64decode(sealed.translate(None, b"\r\n"), validate=True))
        said = json.loads(self.post("shake", f'{{"id": "{self.key_id}", "secret": "{secret}"}}'))
        compact = json.dumps(said["data"], sort_keys=True, separators=(",", ":"))
        return base64.b64encode(compact.encode()).decode()

    def post(self, step, body):
        headers = {"Content-Type": "application/json"}
        return ask(f"{self.url}/tap/v1/{step}", "POST", body=body.encode(), headers=headers).data

    def test_connection(self):
        """What is wrong, or None."""
        told = self.get("/api/v1/status")
        return None if told["status"] == "OK" else told["message"]

    def get(self, path):
        headers = {"Authorization": f"Bearer {self._bearer}"} if self._bearer else {}
        return json.loads(ask(self.url + path, headers=headers).data)

    def data(self, path):
        told = self.get(path)
        for _ in range(2):
            if told["status"] != "OK" and told["message"] == REFUSED:
                self.renew()
                told = self.get(path)
        assert told["status"] == "OK", told["message"]
        return told["body"]


@dataclass
class Jenkins:
    """The plugin anka-build (Java): another login for every request, which goes to the next of several addresses."""

    urls: list[str]
    key_id: str

    def __post_init__(self):
        self._turns = itertools.cycle(self.urls)

    def get(self, path):
        return ask(next(self._turns) + path, headers=self.authorization())

    def authorization(self):
        sealed = self.post("hand", {"id": self.key_id})
        # The basic decoder of java.util takes nothing but the alphabet: no line end, not even the last one.
        secret = secret_of(base64.b64decode(sealed, validate=True))
        data = json.loads(self.post("shake", {"id": self.key_id, "secret": secret}))["data"]
        another_order = dict(reversed(data.items()))
        return {"Authorization": "Bearer " + base64.b64encode(json.dumps(another_order).encode()).decode()}

    def post(self, step, body):
        answer = ask(f"{next(self._turns)}/tap/v1/{step}", "POST", json=body)
        assert answer.status == 200, answer.data
        return answer.data


def test_s25_the_exporter_logs_in_once_and_its_steps_meet_different_replicas(place, key_id):
    exporter = Exporter(place.url, key_id)
    for _ in range(3):
        (row,) = exporter.data("/api/v1/registry/vm")
        assert (row["id"], row["name"], type(row["size"])) == (place.template, place.name, int)
        assert exporter.data(f"/api/v1/registry/vm?id={row['id']}")["versions"][0]["tag"]
        assert exporter.data("/api/v1/registry/disk")["total"] > 0
    assert exporter.logins == 1


def test_the_exporter_logs_in_anew_when_its_login_has_ended(place, key_id):
    exporter = Exporter(place.url, key_id)
    before = exporter.data("/api/v1/registry/vm")
    place.ahead[0] += 301
    assert exporter.data("/api/v1/registry/vm") == before
    assert exporter.logins == 2


def test_s25_jenkins_logs_in_for_every_request_at_replicas_in_turn(place, key_id):
    jenkins = Jenkins(place.urls, key_id)
    for _ in range(4):
        answer = jenkins.get("/api/v1/registry/vm")
        assert (answer.status, answer.json()["body"][0]["name"]) == (200, place.name)


def connected(place, folder, **settings):
    """Runs the script of a node in a cloud; what it prints."""
    for program in ("curl", "jq", "openssl", "bash"):
        servers.needs(program)
    shims = folder / "bin"
    shims.mkdir()
    (shims / "base64").write_text(AS_ON_A_MAC.format(base64=shutil.which("base64")))
    (shims / "base64").chmod(0o755)
    environment = running.environment(
        PATH=f"{shims}:{os.environ['PATH']}", HOME=str(folder), URL=place.url, no_proxy="*", **settings
    )
    done = subprocess.run(
        ["bash", "-c", CLOUD_CONNECT], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("form", ["file", "text"])
def test_s25_a_node_in_a_cloud_logs_in_with_curl_openssl_and_jq(form, place, key_id, tmp_path):
    key = {"KEY_FILE": str(tap.kept(tap.key(), tmp_path)), "KEY_TEXT": tap.printed(tap.key())}
    printed = connected(place, tmp_path, KEY_AS=form, KEY_ID=key_id, **key)
    assert printed == [place.template, place.name, "200"]


def test_a_node_in_a_cloud_shows_the_root_token(place, tmp_path):
    closed = Closed(place.closed.folder, token="1111111111")  # its shell would expand others
    with sites.serving(closed.app) as url:
        here = replace(place, closed=closed, url=url)
        assert connected(here, tmp_path, KEY_AS="root", ROOT_TOKEN=closed.token) == [place.template, place.name, "200"]


def test_a_client_in_python_logs_in_with_cryptography(place, key_id, tmp_path):
    """As a script of one's own: a key in a file or as text, and the bearer in the other alphabet of base64."""
    by_file = load_pem_private_key(tap.kept(tap.key(), tmp_path).read_bytes(), None)
    by_text = load_der_private_key(base64.b64decode(tap.printed(tap.key())), None)
    oaep = padding.OAEP(mgf=padding.MGF1(algorithm=hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
    for key in (by_file, by_text):
        sealed = ask(f"{place.url}/tap/v1/hand", "POST", json={"id": key_id}).data
        secret = key.decrypt(base64.standard_b64decode(sealed), oaep).decode()
        data = ask(f"{place.url}/tap/v1/shake", "POST", json={"id": key_id, "secret": secret}).json()["data"]
        proof = base64.urlsafe_b64encode(json.dumps(data, indent=2).encode()).decode().rstrip("=")
        answer = ask(f"{place.url}/registry/v2/vm", headers={"Authorization": f"Bearer {proof}"})
        assert [row["name"] for row in answer.json()["body"]] == [place.name]


def test_what_a_login_gives_looks_as_anka_s_does(place, key_id):
    sealed = ask(f"{place.url}/tap/v1/hand", "POST", body=json.dumps({"id": key_id}).encode())
    assert re.fullmatch(rb"[A-Za-z0-9+/]{342}==", sealed.data)
    secret = secret_of(base64.b64decode(sealed.data, validate=True))
    assert re.fullmatch(r"[A-Za-z0-9_-]{64}", secret)
    said = ask(f"{place.url}/tap/v1/shake", "POST", json={"id": key_id, "secret": secret}).json()
    assert said["id"] == said["data"]["userName"] == key_id
    assert set(said["data"]) == {"userName", "sessionId", "token"}
    assert re.fullmatch(r"[A-Za-z0-9_-]{54}", said["data"]["token"])


def test_s26_root_s_token_is_taken_with_any_characters_and_with_or_without_a_user(place):
    """curl, a script with Python, and anka-actions, whose user is empty."""
    for user in ("root", ""):
        proof = base64.b64encode(f"{user}:{TOKEN}".encode()).decode()
        answer = ask(f"{place.url}/v1/apikey", headers={"Authorization": f"Basic {proof}"})
        assert (answer.status, answer.json()["status"]) == (200, "OK")
    typed = [servers.needs("curl"), "-sS", "-u", f"root:{TOKEN}", f"{place.url}/registry/vm"]
    done = subprocess.run(typed, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["body"] == [{place.template: place.name}]


@pytest.mark.parametrize("user", ["admin", "Root", "root "])
def test_root_s_token_belongs_to_no_other_user(user, place):
    proof = base64.b64encode(f"{user}:{TOKEN}".encode()).decode()
    answer = ask(f"{place.url}/registry/vm", headers={"Authorization": f"Basic {proof}"})
    assert (answer.status, answer.data) == (401, b'{"status":"FAIL","message":"Authentication Required"}')


def test_s23_who_may_not_is_told_what_is_missing_and_who_is_nobody_that_a_credential_is(place):
    answer = ask(f"{place.url}/registry/vm", headers=place.closed.key("without", ["nobody"]))
    assert (answer.status, answer.json()["status"]) == (403, "FAIL")
    assert "list_vms" in answer.json()["message"]
    answer = ask(f"{place.url}/registry/vm")
    assert (answer.status, answer.json()) == (401, {"status": "FAIL", "message": REFUSED})
