"""The release before and this one, side by side on one bucket, and a store that is of a release to come."""

import contextlib
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import urllib3

import machines
import running
import servers
from campaign.forks import forks
from rolling.replicas import Forked, behind_nginx
from secrets_seen import keep

HOME = Path(__file__).parents[2]
BEFORE = "7678b5992ebbacea97adf65f4ffb2dd7ce926720"
"""The release before: what runs when an upgrade to this one begins."""
TOKEN = "a-root-token-for-an-hour"


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """Commands of the release before, on today's libraries."""
    folder = tmp_path_factory.mktemp("before")
    packed = subprocess.run(["git", "-C", str(HOME), "archive", BEFORE, "src"], capture_output=True, check=False)
    if packed.returncode:
        servers.lacking("the release before beside this one (git fetch --unshallow)")
    subprocess.run(["tar", "-x", "-C", str(folder)], input=packed.stdout, check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder / "src"))
        where = subprocess.run(
            [sys.executable, "-P", "-c", "import s3reg; print(s3reg.__file__)"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert where.stdout.startswith(str(folder))
        with forks() as start:
            yield start


class Site:
    """A registry of each release behind nginx, over one bucket; a node of each, with a VM of its own."""

    def __init__(self, releases, minio, bucket, folder):
        keep(TOKEN)
        self.folder, self.releases = folder, releases
        self.at = (f"s3://{bucket}/reg", "--s3-endpoint", minio.endpoint)
        self.settings = minio.environment()
        told = {**self.settings, "S3REG_WORKERS": "1", "S3REG_ROOT_TOKEN": TOKEN}
        store = ["--store", *self.at]
        self.replicas = [Forked(launch, folder, store, told) for launch in releases]
        self.vms = [
            machines.make(folder / str(n), sizes=(machines.MIB,), state_size=70_000, name=f"vm-{n}", seed=n)
            for n in (0, 1)
        ]

    @contextlib.contextmanager
    def served(self):
        with contextlib.ExitStack() as stack:
            for one in self.replicas:
                one.start()
                stack.callback(one.stop)
            three = [*self.replicas, self.replicas[0]]
            self.url = stack.enter_context(behind_nginx(self.folder, three))
            yield self

    def node(self, release, *arguments, library=None, at=None):
        """A command of this release's node, at nginx, or `at` a registry of that release; its answer."""
        library = library or self.folder / str(release)
        url = self.url if at is None else self.replicas[at].url
        where = ("--library", library, "-r", url, "--root-token", TOKEN, "-j")
        return self.releases[release](*where, *arguments).done().answer["body"]

    def on_store(self, release, *arguments):
        """A command of this release on the bucket itself."""
        return self.releases[release](*arguments[:1], *self.at, *arguments[1:], **self.settings).done()

    def check_pulled(self, vm, by, tag):
        """The node of the other release, in a fresh library, gets every byte."""
        library = self.folder / f"{vm.name}-{tag}-{by}"
        self.node(by, "pull", vm.name, "-t", tag, library=library)
        assert machines.contents(library, vm) == machines.contents(vm.library, vm)
        return library

    def tags(self, vm, at):
        """As the registry of that release tells them."""
        headers = urllib3.make_headers(basic_auth=f"root:{TOKEN}")
        with urllib3.PoolManager(retries=False, timeout=running.SECONDS) as http:
            told = http.request("GET", f"{self.replicas[at].url}/registry/vm", fields={"id": vm.id}, headers=headers)
        return [row["tag"] for row in told.json()["body"]["versions"]]


def test_a_release_and_the_one_before_it_serve_one_bucket_side_by_side(earlier, launch, minio, bucket, tmp_path):
    with Site((earlier, launch), minio, bucket(minio), tmp_path).served() as site:
        for release, vm in enumerate(site.vms):
            other = 1 - release
            site.node(release, "push", vm.name, "-t", "v1")
            library = site.check_pulled(vm, other, "v1")
            # Each builds upon what the other has pushed.
            machines.scatter(library / "img_lib" / vm.drives[0], 5)
            site.node(other, "push", vm.name, "-t", "v2", library=library)
            site.node(release, "pull", vm.name, "-t", "v2")
            assert machines.contents(vm.library, vm) == machines.contents(library, vm)

            # What one takes out, the other puts back: a version, and the template.
            site.node(release, "untag", vm.name, "v1", at=release)
            assert site.tags(vm, at=other) == ["v2"]
            site.node(other, "trash", "restore", vm.name, at=other)
            site.node(other, "revert", vm.name, "--all", at=other)
            site.node(release, "trash", "restore", vm.name, at=release)
            assert site.tags(vm, at=0) == site.tags(vm, at=1) == ["v1", "v2"]

            # Who may do what.
            site.node(release, "groups", "create", f"group-{release}", "--role", "pull", at=release)
            pem = tmp_path / f"key-{release}.pem"
            site.node(release, "keys", "create", f"key-{release}", "-g", f"group-{release}", "--out", pem, at=release)
            key = ("--api-key-id", f"key-{release}", "--api-key", pem)
            listed = site.releases[other]("-r", site.replicas[other].url, *key, "-j", "list").done().answer["body"]
            assert {row["name"] for row in listed} >= {vm.name}

        for release, vm in enumerate(site.vms):
            site.on_store(release, "gc")
            site.on_store(release, "fsck", "--read-data")
            site.check_pulled(vm, 1 - release, "v2")


def everything(folder):
    """The names and bytes below a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def store(tmp_path_factory, launch):
    """A directory with a template in it."""
    folder = tmp_path_factory.mktemp("store")
    machine = machines.make(folder / "node", sizes=(300_000,), state_size=0)
    one = Forked(launch, folder, ["--store", folder / "store"], {"S3REG_WORKERS": "1"})
    one.start()
    try:
        launch("--library", machine.library, "-r", one.url, "push", machine.name, "-t", "v1").done()
    finally:
        one.stop()
    return folder / "store"


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        ({"format": 9}, ("serve", "gc", "fsck")),
        ({"features": {"read": ["dreams"], "write": [], "sweep": []}}, ("serve", "gc", "fsck")),
        ({"features": {"read": [], "write": ["dreams"], "sweep": []}}, ("serve", "gc")),
        ({"features": {"read": [], "write": [], "sweep": ["dreams"]}}, ("gc",)),
    ],
    ids=["format", "to read", "to write", "to sweep"],
)
def test_a_store_of_a_release_to_come_is_refused_by_name_and_left_as_it_is(store, launch, change, refused):
    written = json.loads((store / "format.json").read_bytes())
    (store / "format.json").write_text(json.dumps({**written, "format": 1, **change}))
    before = everything(store)
    for command in refused:
        listen = ("--listen", "127.0.0.1:0") if command == "serve" else ()
        done = launch(command, "--store", store, *listen).outcome()
        assert done.code != 0
        assert ("dreams" if "features" in change else "9") in done.err
        assert "a newer release" in done.err
    assert everything(store) == before
