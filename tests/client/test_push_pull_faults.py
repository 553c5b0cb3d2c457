"""Whole pushes and pulls against a registry that is served over HTTP, while lines, links, stores and VMs misbehave."""

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
from werkzeug.serving import WSGIRequestHandler, make_server

import machines
import wires
from machines import KIB, MIB
from s3reg import wire
from s3reg.api import create_app
from s3reg.client.connection import Access, Connection
from s3reg.client.library import Library
from s3reg.client.progress import Silent
from s3reg.client.pull import PullOptions, pull
from s3reg.client.push import PushOptions, push
from s3reg.errors import (
    Busy,
    CommitInvalid,
    FileChanged,
    LinkRefused,
    RegistryUnreachable,
    S3regError,
    SessionExpired,
    StoreUnavailable,
    TagTaken,
)
from s3reg.settings import Settings
from s3reg.store.files import FilesStore

WAIT = 30
SIZES = (3 * MIB + 1234, 700 * KIB)


VERBS = (b"GET ", b"PUT ", b"POST ")


class Killed(BaseException):
    """Stands for kill -9: nobody catches it."""


class Quiet(WSGIRequestHandler):
    def log(self, *_):
        pass


class Moody(FilesStore):
    """A store in a directory whose links may have ended before they are used, and whose records may not be written."""

    def __init__(self, root):
        super().__init__(root)
        self.stale = 0
        """Of so many links the first one given for a key has ended already."""
        self.refuses = lambda _verb, _key: False
        self._given = set()
        self._counting = threading.Lock()

    def _seconds(self, verb, key, seconds):
        with self._counting:
            ended = self.stale > 0 and (verb, key) not in self._given
            self._given.add((verb, key))
            self.stale -= ended
        return -10 if ended else seconds

    def sign_get(self, key, *, seconds):
        return super().sign_get(key, seconds=self._seconds("get", key, seconds))

    def sign_put(self, key, *, size, sha256, seconds):
        return super().sign_put(key, size=size, sha256=sha256, seconds=self._seconds("put", key, seconds))

    def put(self, key, data, *, only_if=None):
        if self.refuses("put", key):
            raise StoreUnavailable(store="a directory", reason="it is in a mood")
        return super().put(key, data, only_if=only_if)

    def delete(self, keys):
        keys = list(keys)
        if any(self.refuses("delete", key) for key in keys):
            raise StoreUnavailable(store="a directory", reason="it is in a mood")
        super().delete(keys)


class Site:
    """A registry, served."""

    def __init__(self, folder):
        self.store = Moody(folder / "store")
        self.app = create_app(Settings(store=str(folder / "store")), self.store)
        self.spoils = lambda _environ: False
        """Which requests are answered with 503."""
        self.server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=Quiet)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def _answer(self, environ, start):
        if self.spoils(environ):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start("503 Service Unavailable", [("Retry-After", "1"), ("Content-Length", "0")])
            return [b""]
        return self.app(environ, start)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


@pytest.fixture
def site(tmp_path):
    with Site(tmp_path) as site:
        yield site


class Line(Connection):
    """A connection that a test can do something on; it does not wait between two tries."""

    def __init__(self, url, *, tries=7):
        super().__init__(Access(url), tries=tries, pause=lambda *_: time.sleep(0.001))
        self.before = lambda _method, _path: None
        self.after = lambda _method, _path: None
        self.reading = lambda _link: None

    def call(self, method, path, body=None, query=None):
        self.before(method, path)
        answer = super().call(method, path, body, query)
        self.after(method, path)
        return answer

    def read(self, link, **more):
        self.reading(link)
        return super().read(link, **more)


class Node:
    """A library and a line to the registry."""

    def __init__(self, folder, url, **more):
        self.library = Library(folder)
        self.line = Line(url, **more)

    def push(self, machine, tag="v1", **more):
        return push(self.line, self.library, self.library.find(machine.id), PushOptions(tag=tag, **more), Silent())

    def pull(self, machine, tag="v1", **more):
        return pull(self.line, self.library, machine.id, PullOptions(tag=tag, **more), Silent())

    def versions(self, machine):
        answer = self.line.ask(wire.TemplateEntrySchema, "GET", "/transfer/v1/template", query={"ref": machine.id})
        return [version.tag for version in answer.versions]

    def log(self, machine):
        return self.library.own / "push" / f"{machine.id}.jsonl"


@pytest.fixture
def node(site, tmp_path):
    """`node(name)` makes a node; `node(name, url=…)` one that goes over a proxy."""
    with contextlib.ExitStack() as stack:

        def make(name, url=None, **more):
            made = Node(tmp_path / name, url or site.url, **more)
            stack.callback(made.line.close)
            return made

        yield make


@pytest.fixture
def baker(node):
    return node("baker")


@pytest.fixture
def machine(baker):
    return machines.make(baker.library.root, sizes=SIZES)


@pytest.fixture
def runner(node):
    return node("runner")


def check(node, machine, tag, expected):
    """The version comes back byte for byte into a library that has nothing."""
    fresh = Node(node.library.root.with_name(f"fresh-{random.random()}"), node.line.url)
    fresh.pull(machine, tag)
    assert machines.contents(fresh.library.root, machine) == expected
    fresh.line.close()
    shutil.rmtree(fresh.library.root)


def bytes_of(node, machine):
    return machines.contents(node.library.root, machine)


def check_closed(node, before):
    """No thread of a transfer and no file of it is left."""
    node.line.close()
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith(("crew", "line", "fetch"))]
    assert left == []
    assert own_files() <= before


def own_files():
    """Paths that this process has open; sockets and pipes come and go with the server's threads."""
    found = set()
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(str(fd.readlink()))
    return {path for path in found if "/img_lib/" in path or "/staging/" in path or "/state_lib/" in path}


def every(number):
    """True at every n-th call."""
    count, lock = itertools.count(1), threading.Lock()

    def happens(*_):
        with lock:
            return next(count) % number == 0

    return happens


class TestLines:
    @pytest.mark.parametrize("number", [3, 5])
    def test_a_store_and_a_registry_that_say_not_now_cost_only_time(self, number, site, baker, runner, machine):
        site.spoils = every(number)
        baker.push(machine)
        runner.pull(machine)
        assert bytes_of(runner, machine) == bytes_of(baker, machine)
        assert baker.versions(machine) == ["v1"]

    @pytest.mark.parametrize("number", [4, 7])
    def test_answers_that_get_lost_cost_only_time(self, number, site, node, machine):
        happens = every(number)
        with wires.Proxy(site.url, loses=lambda data: data.startswith(VERBS) and happens()) as proxy:
            baker, runner = (node(name, proxy.endpoint, tries=20) for name in ("baker", "runner"))
            baker.push(machine)
            runner.pull(machine)
            assert proxy.lost >= 2
        assert bytes_of(runner, machine) == bytes_of(baker, machine)

    def test_connections_that_end_in_the_middle_cost_only_time(self, site, node, baker, machine):
        baker.push(machine)
        with wires.Proxy(site.url, cuts_after=150_000, cuts=6) as proxy:
            runner = node("runner", proxy.endpoint)
            runner.pull(machine)
            assert proxy.lost == 6
        assert bytes_of(runner, machine) == bytes_of(baker, machine)

    def test_a_line_that_is_dead_is_said_and_repeating_goes_on(self, site, baker, runner, machine):
        before = own_files()
        site.spoils = lambda environ: "/objects/packs" in environ["PATH_INFO"]
        with pytest.raises(RegistryUnreachable):
            baker.push(machine)
        check_closed(baker, before)
        site.spoils = lambda _: False
        baker.push(machine)
        site.spoils = lambda environ: "/objects/packs" in environ["PATH_INFO"]
        with pytest.raises(RegistryUnreachable):
            runner.pull(machine)
        check_closed(runner, before)
        assert runner.library.vms() == []
        site.spoils = lambda _: False
        runner.pull(machine)
        assert bytes_of(runner, machine) == bytes_of(baker, machine)

    def test_a_pull_that_nobody_hears_of_succeeds(self, site, baker, runner, machine):
        baker.push(machine)
        site.spoils = lambda environ: environ["PATH_INFO"].endswith("/pulls")
        runner.pull(machine)
        assert bytes_of(runner, machine) == bytes_of(baker, machine)


class TestCtrlC:
    """While every worker waits for a store that took the request and says nothing."""

    @pytest.fixture
    def silent(self, site):
        """Packs are neither taken nor given; the first that tries has Ctrl-C pressed on this process."""
        over, pressed, outlasted = threading.Event(), itertools.count(), []

        def spoils(environ):
            if "/objects/packs" in environ["PATH_INFO"]:
                if next(pressed) == 0:
                    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
                if not over.wait(WAIT):
                    outlasted.append(environ["PATH_INFO"])
            return False

        yield lambda: setattr(site, "spoils", spoils)
        over.set()
        assert outlasted == [], "somebody waited for the store"

    def test_a_push_ends_at_once(self, silent, site, baker, machine):
        before = own_files()
        silent()
        with pytest.raises(KeyboardInterrupt):
            baker.push(machine)
        check_closed(baker, before)
        site.spoils = lambda _: False
        baker.push(machine)
        check(baker, machine, "v1", bytes_of(baker, machine))

    def test_a_pull_ends_at_once(self, silent, site, baker, runner, machine):
        baker.push(machine)
        before = own_files()
        silent()
        with pytest.raises(KeyboardInterrupt):
            runner.pull(machine)
        check_closed(runner, before)
        site.spoils = lambda _: False
        runner.pull(machine)
        assert bytes_of(runner, machine) == bytes_of(baker, machine)


class TestLinksThatEnd:
    def test_every_first_link_has_ended(self, site, baker, runner, machine):
        site.store.stale = 10**6
        baker.push(machine)
        machines.scatter(machine.disk(), 3)
        baker.push(machine, "v2")  # reads maps of the base
        runner.pull(machine, "v1")
        runner.pull(machine, "v2")
        assert bytes_of(runner, machine) == bytes_of(baker, machine)

    def test_a_pull_keeps_to_its_version_when_it_asks_for_links_again(self, site, baker, runner, machine):
        baker.push(machine)
        old = bytes_of(baker, machine)
        machines.scatter(machine.disk(), 3)
        moved = []

        def retag(link):
            if "/packs/" in link and not moved:
                moved.append(True)
                baker.push(machine, "v1", force=True)
                raise LinkRefused(reason="its time is over")

        runner.line.reading = retag
        with pytest.raises(S3regError, match="another version"):
            runner.pull(machine)
        assert runner.library.vms() == []
        runner.pull(machine)
        assert bytes_of(runner, machine) == bytes_of(baker, machine) != old


class TestCommits:
    @pytest.mark.parametrize("again", ["same", "changed, same tag", "changed, new tag", "same, forced"])
    @pytest.mark.parametrize("session", ["gone", "left behind"])
    def test_a_commit_whose_answer_nobody_heard(self, again, session, site, node, machine):
        baker = node("baker")
        first = bytes_of(baker, machine)
        if session == "left behind":
            site.store.refuses = lambda verb, key: verb == "delete" and key.startswith("sessions/")
        with wires.Proxy(site.url, loses=lambda data: b"/commit HTTP" in data) as proxy:
            deaf = node("baker", proxy.endpoint, tries=2)
            deaf.log(machine)
            with pytest.raises(RegistryUnreachable):
                deaf.push(machine)
        self.as_if_to(site, baker, machine)
        assert baker.versions(machine) == ["v1"]
        if again.startswith("changed"):
            machines.scatter(machine.disk(), 2)
        second = bytes_of(baker, machine)
        if again == "same":
            assert baker.push(machine).already
        elif again == "same, forced":
            assert baker.push(machine, force=True).answer.tag == "v1"
        elif again == "changed, same tag":
            for _ in range(2):
                with pytest.raises(TagTaken):
                    baker.push(machine)
        else:
            assert baker.push(machine, "v2").answer.tag == "v2"
            check(baker, machine, "v2", second)
            assert baker.versions(machine) == ["v1", "v2"]
        check(baker, machine, "v1", first)
        assert len(set(baker.versions(machine))) == len(baker.versions(machine))

    def as_if_to(self, site, baker, machine):
        """A log tells registries apart by their address, and the proxy had another."""
        log = baker.log(machine)
        first, _, rest = log.read_bytes().partition(b"\n")
        log.write_bytes(json.dumps(json.loads(first) | {"registry": site.url}).encode() + b"\n" + rest)

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_a_push_killed_at_the_commit_is_repeated(self, when, baker, machine):
        def die(_, path):
            if path.endswith("/commit"):
                raise Killed

        setattr(baker.line, when, die)
        before = own_files()
        with pytest.raises(Killed):
            baker.push(machine)
        check_closed(baker, before)
        setattr(baker.line, when, lambda *_: None)
        pushed = baker.push(machine)
        assert pushed.already == (when == "after")
        assert pushed.stored_raw == 0 or when == "before"
        assert baker.versions(machine) == ["v1"]
        assert not baker.log(machine).exists()
        check(baker, machine, "v1", bytes_of(baker, machine))

    @pytest.mark.parametrize(("asked", "goes_to"), [("one", "one"), (None, "one"), ("two", "two")])
    def test_a_killed_push_goes_on_unless_another_domain_is_asked_for_now(self, asked, goes_to, site, baker, machine):
        def die(_, path):
            if path.endswith("/commit"):
                raise Killed

        baker.line.before = die
        with pytest.raises(Killed):
            baker.push(machine, domain="one")
        baker.line.before = lambda *_: None
        baker.push(machine, domain=asked)
        assert {stat.key.split("/")[1] for stat in site.store.list("maps/")} == {"one", goes_to}
        found = baker.line.ask(wire.TemplateEntrySchema, "GET", "/transfer/v1/template", query={"ref": machine.id})
        assert found.domain == goes_to
        check(baker, machine, "v1", bytes_of(baker, machine))

    def test_what_the_registry_had_committed_meanwhile_is_not_taken_for_what_is_pushed_now(self, site, baker, machine):
        """The first run's commit was still on its way when the second looked."""
        first = bytes_of(baker, machine)
        site.store.refuses = lambda verb, key: verb == "delete" and key.startswith("sessions/")
        held = []

        def hold(method, path):
            if path.endswith("/commit"):
                held.append((method, path))
                raise Killed

        baker.line.before = hold
        real = Connection.call
        bodies = []
        baker.line.call = lambda method, path, body=None, query=None: (
            bodies.append(body) if path.endswith("/commit") else None,
            hold(method, path),
            real(baker.line, method, path, body, query),
        )[2]
        with pytest.raises(Killed):
            baker.push(machine)
        del baker.line.call
        baker.line.before = lambda *_: None
        machines.scatter(machine.disk(), 2)

        def land(_, path):
            if path.endswith("/bases"):
                real(baker.line, *held[0], bodies[0])

        baker.line.after = land
        with pytest.raises(S3regError):
            baker.push(machine)
        baker.line.after = lambda *_: None
        assert baker.library.ledger.tags(machine.id) == {}
        with pytest.raises(TagTaken):
            baker.push(machine)
        baker.push(machine, "v2")
        check(baker, machine, "v1", first)
        check(baker, machine, "v2", bytes_of(baker, machine))

    def test_a_version_that_was_written_and_not_named_blocks_nobody(self, site, baker, machine):
        """The head could not be replaced; then the VM changed. The session takes no other files, the next one does."""
        site.store.refuses = lambda verb, key: verb == "put" and key.startswith("heads/")
        baker.line._tries = 2
        with pytest.raises(S3regError, match="mood"):
            baker.push(machine)
        site.store.refuses = lambda *_: False
        baker.line._tries = 7
        machines.scatter(machine.disk(), 2)
        with pytest.raises(CommitInvalid):
            baker.push(machine)
        baker.push(machine)
        check(baker, machine, "v1", bytes_of(baker, machine))

    def test_a_version_that_was_written_and_not_named_is_named_by_the_next_try(self, site, baker, machine):
        site.store.refuses = lambda verb, key: verb == "put" and key.startswith("heads/")
        baker.line._tries = 2
        with pytest.raises(S3regError, match="mood"):
            baker.push(machine)
        site.store.refuses = lambda *_: False
        assert baker.push(machine).sent < 100_000
        check(baker, machine, "v1", bytes_of(baker, machine))


class TestSessions:
    def expire(self, baker, at):
        """End the session at its n-th request for links."""
        number = itertools.count(1)

        def end(_, path):
            if path.endswith("/uploads") and next(number) == at:
                Connection.call(baker.line, "DELETE", path.removesuffix("/uploads"))

        baker.line.before = end

    @pytest.mark.parametrize("at", [1, 2, 3])
    def test_one_that_ends_in_the_middle_is_said_and_repeating_works(self, at, baker, machine):
        before = own_files()
        self.expire(baker, at)
        with pytest.raises(SessionExpired, match="expired"):
            baker.push(machine)
        check_closed(baker, before)
        baker.line.before = lambda *_: None
        assert not baker.push(machine).already
        check(baker, machine, "v1", bytes_of(baker, machine))

    def test_one_that_ended_before_the_commit_is_said_and_repeating_works(self, baker, machine):
        def end(_, path):
            if path.endswith("/commit"):
                Connection.call(baker.line, "DELETE", path.removesuffix("/commit"))

        baker.line.before = end
        with pytest.raises(SessionExpired):
            baker.push(machine)
        baker.line.before = lambda *_: None
        baker.push(machine)
        check(baker, machine, "v1", bytes_of(baker, machine))

    @pytest.mark.parametrize("line", [0, 1, -1])
    def test_a_log_with_a_bad_line_costs_at_most_its_pack(self, line, baker, machine):
        baker.line.before = lambda _, path: (_ for _ in ()).throw(Killed) if path.endswith("/commit") else None
        with pytest.raises(Killed):
            baker.push(machine)
        baker.line.before = lambda *_: None
        rows = baker.log(machine).read_bytes().split()
        rows[line] = rows[line][: len(rows[line]) // 2]
        baker.log(machine).write_bytes(b"\n".join(rows))
        baker.push(machine)
        check(baker, machine, "v1", bytes_of(baker, machine))

    def test_two_vms_for_one_template_do_not_share_a_log_at_one_time(self, baker, machine):
        baker.push(machine)
        other = machines.make(baker.library.root, sizes=SIZES, name="other", seed=5)
        third = machines.make(baker.library.root, sizes=SIZES, name="third", seed=6)
        seen = []

        def meanwhile(_, path):
            if path.endswith("/uploads") and not seen:
                seen.append(True)
                second = Node(baker.library.root, baker.line.url)
                with pytest.raises(Busy):
                    second.push(third, "v3", remote_vm=machine.id)
                second.line.close()

        baker.line.before = meanwhile
        baker.push(other, "v2", remote_vm=machine.id)
        assert seen
        assert baker.versions(machine) == ["v1", "v2"]


class TestFilesThatChange:
    def test_a_file_that_is_not_what_its_record_says_is_read_by_the_next_push(self, baker, machine):
        """Its size and its times are as recorded: only the chunks that are sent tell."""
        baker.push(machine)
        old = bytes_of(baker, machine)
        disk = machine.disk()
        before = disk.stat()
        with disk.open("r+b") as file:
            for at in range(0, SIZES[0], 256 * KIB):
                file.seek(at)
                file.write(random.Random(at).randbytes(1000))
        os.utime(disk, ns=(before.st_atime_ns, before.st_mtime_ns))
        # In a domain that has other chunks of the disk: some are reused, and the rest is read.
        seed = machines.Machine(baker.library.root, name="seed", drives=["seed.img"])
        (seed.library / "img_lib" / "seed.img").write_bytes(old[f"img_lib/{machine.drives[0]}"][: 8 * 256 * KIB])
        seed.write_config()
        baker.push(seed, domain="elsewhere")
        copy = self.renamed(baker, machine)
        with pytest.raises(FileChanged):
            baker.push(copy, domain="elsewhere", bases=(seed.id,))
        baker.push(copy, domain="elsewhere", bases=(seed.id,))
        check(baker, copy, "v1", bytes_of(baker, copy))
        check(baker, machine, "v1", old)

    def renamed(self, baker, machine):
        copy = machines.Machine(baker.library.root, name="copy", drives=machine.drives, state=machine.state)
        copy.write_config()
        for name in ("nvram", "policy.json"):
            shutil.copy(machine.folder / name, copy.folder / name)
        return copy

    def test_a_vm_that_starts_during_the_push_is_noticed(self, baker, machine):
        def start(_, path):
            if path.endswith("/uploads"):
                machines.scatter(machine.disk(), 1, seed=random.randrange(1000))

        baker.line.after = start
        with pytest.raises(FileChanged):
            baker.push(machine)
        baker.line.after = lambda *_: None
        baker.push(machine)
        check(baker, machine, "v1", bytes_of(baker, machine))


class TestPulls:
    def killed(self, runner, machine, at, tag="v1"):
        """A pull that dies at its n-th read of a pack."""
        number = itertools.count(1)

        def die(link):
            if "/packs/" in link and next(number) == at:
                raise Killed

        runner.line.reading = die
        with pytest.raises(Killed):
            runner.pull(machine, tag)
        runner.line.reading = lambda _: None

    def test_one_that_is_killed_shows_nothing_and_goes_on(self, baker, runner, machine):
        baker.push(machine)
        before = own_files()
        self.killed(runner, machine, 1)
        check_closed(runner, before)
        assert runner.library.vms() == []
        runner.pull(machine)
        assert bytes_of(runner, machine) == bytes_of(baker, machine)

    def test_two_files_with_the_same_bytes_do_not_vouch_for_each_other(self, baker, runner):
        """Killed before anything came; then a base appears, which fills the one file before the other is looked at."""
        twins = machines.make(baker.library.root, sizes=(2 * MIB, 2 * MIB), state_size=0, name="twins")
        shutil.copyfile(twins.disk(0), twins.disk(1))
        single = machines.Machine(baker.library.root, name="single", drives=["single.img"])
        shutil.copyfile(twins.disk(0), single.disk(0))
        single.write_config()
        baker.push(twins)
        baker.push(single, "v1")
        self.killed(runner, twins, 1)
        runner.pull(single)
        runner.pull(twins)
        assert bytes_of(runner, twins) == bytes_of(baker, twins)

    def test_a_full_disk_is_said_with_the_library_s_folder(self, baker, runner, machine):
        baker.push(machine)
        runner.library.create()
        (runner.library.own / "staging").write_text("not a folder")
        with pytest.raises(S3regError, match="runner"):
            runner.pull(machine)

    def test_every_file_is_durable_before_the_vm_is_shown(self, baker, runner, machine, monkeypatch):
        """Watched at the system call: what of the VM was synced while its folder was not there yet."""
        baker.push(machine)
        synced, real = set(), os.fdatasync

        def watched(fd):
            if not (runner.library.vm_lib / machine.id).exists():
                synced.add(Path(f"/proc/self/fd/{fd}").readlink().name)
            real(fd)

        monkeypatch.setattr(os, "fdatasync", watched)
        runner.pull(machine)
        assert {"config.yaml", "nvram", "policy.json", *machine.drives, machine.state} <= synced
