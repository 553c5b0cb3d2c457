"""What infra/terraform/permissions.json gives is what a registry and its sweep need: both have credentials of just that, and
all their calls to the store are noted.
"""

import io
import json
import random
import re
import subprocess
from urllib.parse import unquote

import pytest
import urllib3

import machines
import roles
import running
from http_wires import Wire
from s3reg.api.wiring import open_store
from s3reg.settings import Settings
from s3reg.store import check

TOKEN = "0123456789abcdef"


@pytest.fixture
def place(minio, bucket):
    return bucket(minio)


@pytest.fixture
def role(minio, place):
    return lambda name: roles.credentials(minio, roles.policy(place, name))


@pytest.fixture
def on_store(minio, place):
    """`on_store(environment, command…)`: a command on the store itself, as `s3reg -j` answers it."""

    def run(environment, *command, endpoint=minio.endpoint):
        words = [*running.PROGRAM, "-j", *command, f"s3://{place}", "--s3-endpoint", endpoint]
        told = running.environment(**environment)
        done = subprocess.run(words, env=told, capture_output=True, text=True, timeout=running.SECONDS, check=False)
        return done.returncode, json.loads(done.stdout.splitlines()[-1])

    return run


def live(registry, folder):
    """All that a registry does: logins, pushes, pulls, changes; and a key by which a node came in."""
    root = ("--root-token", TOKEN)
    baker, runner = (running.Node(folder / name, registry.url) for name in ("baker", "runner"))
    machine = machines.make(baker.library, sizes=(machines.MIB,), state_size=0)
    baker.done("groups", "create", "nodes", *root)
    baker.done("keys", "create", "node", "--out", folder / "node.pem", *root)
    key = ("--api-key-id", "node", "--api-key", folder / "node.pem")
    baker.done("push", machine.name, "-t", "v1", *key)
    machines.fill(machine.disk(), machines.MIB, random.Random(2))
    baker.done("push", machine.name, "-t", "v2", *key)
    runner.done("pull", machine.name, "-t", "v1", *key)
    runner.done("pull", machine.name, "-t", "v2", *key)
    baker.done("retag", machine.name, "v1", "v0", *key)
    baker.done("untag", machine.name, "v0", *key)
    baker.done("trash", "restore", machine.name, *key)
    baker.done("revert", machine.name, *key)
    baker.done("trash", "purge", machine.name, "--yes", *root)
    baker.done("du", *root)
    baker.done("events", *root)
    baker.done("keys", "revoke", "node", "--yes", *root)
    told = urllib3.request("GET", f"{registry.url}/metrics", headers=urllib3.make_headers(basic_auth=f"root:{TOKEN}"))
    assert b"\nanka_registry_template_count 1" in told.data


class Noted(Wire):
    """What of its permissions a role used: (action, keys), as the file has them."""

    def __init__(self, minio, place):
        super().__init__(minio.endpoint)
        self._place, self.used, self.role = place, {role: set() for role in roles.PERMISSIONS}, "web"
        self.rule = self._note

    def _note(self, passage):
        key = unquote(passage.path).removeprefix(f"/{self._place}").removeprefix("/")
        if key:
            action = {"GET": "Get", "HEAD": "Get", "PUT": "Put", "DELETE": "Delete"}[passage.method]
            self.used[self.role].add((f"s3:{action}Object", self._entry(action, key)))
        elif passage.method == "POST":
            body = passage.stream.read(int(passage.headers["content-length"]))
            passage.stream = io.BytesIO(body)
            for name in re.findall(rb"<Key>(.+?)</Key>", body):
                self.used[self.role].add(("s3:DeleteObject", self._entry("Delete", name.decode())))

    def _entry(self, action, key):
        """As the file names the keys among which this one is."""
        entries = roles.PERMISSIONS[self.role][f"s3:{action}Object"]
        return next((one for one in entries if one == key or (one.endswith("*") and key.startswith(one[:-1]))), key)


UNSEEN = {
    # A push is given up when nothing was heard of it for a day.
    ("gc", "s3:GetObject", "sessions/*"),
    ("gc", "s3:PutObject", "sessions/*"),
    ("gc", "s3:DeleteObject", "sessions/*"),
    ("gc", "s3:PutObject", "heads/*"),
    # A key loses its public half a month after it ended.
    ("gc", "s3:PutObject", "auth/*"),
    # There is a marker as long as a sweep removes.
    ("web", "s3:GetObject", "gc/*"),
}
"""What is given, and needs more than a test's time or luck to be seen."""


def leftovers(minio, place):
    """Of years ago, what a sweep clears: a login's secret, events, a note of damage in a pack that nobody needs."""

    def one_of(prefix):
        return minio.client.list_objects_v2(Bucket=place, Prefix=prefix, MaxKeys=1)["Contents"][0]["Key"]

    spent, event, pack = map(one_of, ("auth/spent/", "events/", "packs/"))
    old = [
        re.sub(r"/\d{10}/", "/2020010100/", spent),
        re.sub(r"/.+/\d{6}-", "/2020/01/01/000000-", event),
        f"damaged/{pack.split('/')[2]}/{'0' * 64}",
    ]
    for key in old:
        minio.client.put_object(Bucket=place, Key=key, Body=b"")


def test_a_registry_and_its_sweep_do_all_they_do_with_what_their_roles_give(
    minio, place, role, *, on_store, tmp_path, monkeypatch
):
    with Noted(minio, place) as wire:
        store = ["--store", f"s3://{place}", "--s3-endpoint", wire.endpoint]
        with running.serving(tmp_path, *store, S3REG_ROOT_TOKEN=TOKEN, **role("web")) as registry:
            live(registry, tmp_path)
        assert "denied" not in registry.log.read_text().lower()
        with monkeypatch.context() as patch:
            for name, value in role("web").items():
                patch.setenv(name, value)
            opened = open_store(Settings(store=f"s3://{place}", s3_endpoint=wire.endpoint))
        found = check.check(opened, opener=check.over_http(), many=3, rounds=1)
        assert not [one for one in found if not one.kept and not one.advice]
        leftovers(minio, place)
        wire.role = "gc"
        code, told = on_store(role("gc"), "gc", endpoint=wire.endpoint)
        assert (code, told["status"]) == (0, "OK"), told
        assert told["body"]["removed"]["objects"] > 0
    given = {(name, action, keys) for name, one in roles.PERMISSIONS.items() for action in one for keys in one[action]}
    used = {(name, *one) for name, those in wire.used.items() for one in those}
    assert used - given == set()
    assert given - used == UNSEEN


def test_a_registry_may_remove_no_pack(minio, place, role, on_store, tmp_path):
    store = ["--store", f"s3://{place}", "--s3-endpoint", minio.endpoint]
    with running.serving(tmp_path, *store, **role("web")) as registry:
        baker = running.Node(tmp_path / "baker", registry.url)
        machine = machines.make(baker.library, sizes=(machines.MIB,), state_size=0)
        baker.done("push", machine.name, "-t", "v1")
        baker.done("revert", machine.name)
        baker.done("trash", "purge", machine.name, "--yes")
    before = {one["Key"] for one in minio.client.list_objects_v2(Bucket=place, Prefix="packs/")["Contents"]}
    code, told = on_store(role("web"), "gc")
    assert code != 0
    assert told["status"] == "ERROR"
    assert {one["Key"] for one in minio.client.list_objects_v2(Bucket=place, Prefix="packs/")["Contents"]} == before
