"""Our client at a registry with access control: its login lasts for a push, and what ends it is told and made good."""

import contextlib
import random
import threading
import time
from itertools import count

import pytest

import access_kit
import machines
import sites
import tap
from machines import MIB
from s3reg.cli import permissions
from s3reg.client.connection import Access, Connection
from s3reg.client.library import Library
from s3reg.client.login import EARLY, ApiKey
from s3reg.client.progress import Silent
from s3reg.client.pull import PullOptions, pull
from s3reg.client.push import PushOptions, push
from s3reg.errors import CredentialRefused, Forbidden, TooManyFailures

WAIT = 30
PACKS = 26 * MIB
"""Of a disk: three of the smallest packs, and a little."""
HAND, SHAKE = "/tap/v1/hand", "/tap/v1/shake"


class Registry(access_kit.Closed):
    """One with access control, whose time goes on when a test says so, and that tells what it was asked."""

    def __init__(self, folder, **settings):
        self.now = time.time()
        self.asked = []
        self.refused = []
        self.before = lambda path: None
        self.has_a_pack = threading.Event()
        super().__init__(folder, authorization=True, clock=lambda: self.now, **settings)

    def __call__(self, environ, start_response):
        path = environ["PATH_INFO"]
        self.asked.append(path)
        self.before(path)

        def start(status, headers, *more):
            if status.startswith(("401", "403", "429")):
                self.refused.append((status[:3], path))
            return start_response(status, headers, *more)

        answer = self.app(environ, start)
        if environ["REQUEST_METHOD"] == "PUT" and path.startswith("/objects/packs/"):
            self.has_a_pack.set()
        return answer


@pytest.fixture
def closed(tmp_path):
    registry = Registry(tmp_path / "store", login_seconds=300)
    with sites.serving(registry) as registry.url:
        yield registry


@pytest.fixture
def line(closed):
    """`line(**who)`: a connection, whose pauses let the registry's time go on and are kept in `waits`."""
    with contextlib.ExitStack() as stack:

        def make(**who):
            waits = []

            def wait(stop, seconds):
                del stop
                waits.append(seconds)
                closed.now += seconds

            made = Connection(Access(closed.url, **who), pause=wait)
            made.waits = waits
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture
def ci():
    """How to log in with the API key `ci`."""
    return {"key_id": "ci", "api_key": tap.printed(tap.key())}


@pytest.fixture
def pusher(closed):
    """The key `ci`, which may push and pull."""
    closed.make("ci", [closed.group("builders", *permissions.ROLES["push"])], of=tap.key())


@pytest.fixture
def machine(tmp_path):
    return machines.make(tmp_path / "baker", sizes=(PACKS,), state_size=0)


def pushed(connection, folder, machine, tag="v1"):
    library = Library(folder)
    return push(connection, library, library.find(machine.id), PushOptions(tag=tag), Silent())


@pytest.mark.usefixtures("pusher")
def test_one_login_serves_a_push_a_pull_and_hundreds_of_calls(closed, line, ci, machine, tmp_path):
    connection = line(**ci)
    pushed(connection, tmp_path / "baker", machine)
    pull(connection, Library(tmp_path / "runner"), machine.id, PullOptions(), Silent())
    threads = [
        threading.Thread(target=lambda: [connection.call("GET", "/transfer/v1/whoami") for _ in range(40)])
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert closed.asked.count("/transfer/v1/whoami") == 240
    assert closed.asked.count(HAND) == closed.asked.count(SHAKE) == 1
    assert machines.contents(tmp_path / "runner", machine) == machines.contents(tmp_path / "baker", machine)


@pytest.mark.usefixtures("pusher")
def test_a_push_that_outlives_its_logins_notices_nothing(closed, line, ci, machine, tmp_path):
    """Each call comes after the time of the login before, by the registry's clock; the node's says nothing of it."""
    seen = count()

    def later(path):
        if path.startswith("/transfer/") and next(seen) % 2 == 0:
            closed.now += 301

    closed.before = later
    connection = line(**ci)
    pushed(connection, tmp_path / "baker", machine)
    assert closed.asked.count(SHAKE) > 2
    assert {path for _, path in closed.refused} == {path for path in closed.asked if path.startswith("/transfer/")}
    assert connection.waits == []
    pull(connection, Library(tmp_path / "runner"), machine.id, PullOptions(), Silent())
    assert machines.contents(tmp_path / "runner", machine) == machines.contents(tmp_path / "baker", machine)


@pytest.mark.usefixtures("pusher")
def test_a_login_is_made_anew_before_it_ends_as_the_registry_says_when_that_is(closed, line, ci):
    began = closed.now
    key = ApiKey("ci", ci["api_key"], closed.url, line()._post, clock=lambda: closed.now)
    asked = []
    for seconds in (0, 100, 299 - EARLY, 301 - EARLY, 400, 599 - EARLY):
        closed.now = began + seconds
        headers = key.used(lambda headers: headers)
        assert closed.http.get("/transfer/v1/whoami", headers=headers).status_code == 200
        asked.append(closed.asked.count(SHAKE))
    assert asked == [1, 1, 1, 2, 2, 3]


@pytest.mark.usefixtures("pusher")
def test_s25_a_push_goes_through_replicas_that_take_turns(closed, ci, machine, tmp_path):
    replicas = [closed.app, closed.replica().app, closed.replica().app]
    turns = count()

    def in_turns(environ, start_response):
        return replicas[next(turns) % 3](environ, start_response)

    with sites.serving(in_turns) as url, contextlib.closing(Connection(Access(url, **ci))) as connection:
        done = pushed(connection, tmp_path / "baker", machine)
        pull(connection, Library(tmp_path / "runner"), machine.id, PullOptions(), Silent())
    assert done.answer.tag == "v1"
    assert machines.contents(tmp_path / "runner", machine) == machines.contents(tmp_path / "baker", machine)


class TestAKeyThatIsRevokedInTheMidstOfAPush:
    @pytest.fixture
    def broken_off(self, closed, line, ci, *, machine, tmp_path, pusher):
        """A push of several packs, whose key was revoked when the first one had come; gives what it ended with."""
        machine.disk(0).write_bytes(random.Random(6).randbytes(PACKS))
        uploads = count()

        def revoke(path):
            if path.endswith("/uploads") and next(uploads) == 1:
                assert closed.has_a_pack.wait(WAIT)
                closed.gate.keys.delete("ci")

        closed.before = revoke
        with pytest.raises(CredentialRefused) as caught:
            pushed(line(**ci), tmp_path / "baker", machine)
        return caught.value

    def test_it_ends_with_what_happened_and_what_can_be_done(self, broken_off, closed):
        assert str(broken_off) == (
            f"{closed.url} refuses the API key 'ci': the key was revoked, or has ended, since the login before; "
            "what was begun with it can go on with a new one under the same id"
        )
        assert closed.refused[-1] == ("401", HAND)

    def test_with_a_new_key_under_its_id_it_goes_on_where_it_was(self, broken_off, closed, line, machine, tmp_path):
        there = set(store_has(closed))
        closed.make("ci", ["builders"], of=tap.key("another"))
        connection = line(key_id="ci", api_key=tap.printed(tap.key("another")))
        done = pushed(connection, tmp_path / "baker", machine)
        assert done.sent < done.answer.stored
        assert there < set(store_has(closed))
        assert closed.asked.count("/transfer/v1/sessions") == 1, "it is the session that there was"
        pull(connection, Library(tmp_path / "runner"), machine.id, PullOptions(), Silent())
        assert machines.contents(tmp_path / "runner", machine) == machines.contents(tmp_path / "baker", machine)

    def test_another_key_begins_a_push_of_its_own(self, broken_off, closed, line, machine, tmp_path):
        closed.make("other", ["builders"])
        connection = line(key_id="other", api_key=tap.printed(tap.key()))
        done = pushed(connection, tmp_path / "baker", machine)
        assert done.sent > done.answer.stored
        assert closed.asked.count("/transfer/v1/sessions") == 2


def store_has(closed):
    return [stat.key for stat in closed.store.list("packs/")]


class TestTooManyFailures:
    @pytest.fixture
    def crowded(self, closed):
        """From this address came more wrong root tokens than are looked at."""
        wrong = access_kit.basic("not the root token")
        answers = (closed.http.get("/transfer/v1/whoami", headers=wrong).status_code for _ in range(100))
        assert 429 in answers

    @pytest.mark.parametrize("path", ["/transfer/v1/whoami", "/registry/status"])
    def test_a_right_token_waits_as_long_as_it_is_told(self, path, crowded, closed, line):
        closed.refused.clear()
        connection = line(user="root", password=closed.token)
        began, allowed = closed.now, connection.pace.allowed
        assert connection.call("GET", path)
        assert {status for status, _ in closed.refused} == {"429"}
        assert 1 <= connection.waits[0] < 30
        assert closed.now - began == pytest.approx(sum(connection.waits))
        assert connection.pace.allowed == allowed, "it says nothing of the line"

    def test_a_login_that_is_there_and_a_key_that_is_known_do_not_wait(self, closed, line, ci, pusher, request):
        connection = line(**ci)
        connection.call("GET", "/transfer/v1/whoami")
        request.getfixturevalue("crowded")
        connection.call("GET", "/transfer/v1/whoami")
        assert line(**ci).call("GET", "/transfer/v1/whoami")["name"] == "key:ci"
        assert connection.waits == []

    def test_whoever_gives_up_is_told_what_it_was(self, crowded, closed, ci):
        for who in ({"user": "root", "password": closed.token}, {**ci, "key_id": "unknown"}):
            connection = Connection(Access(closed.url, **who), tries=2, pause=lambda *_: None)
            with (
                contextlib.closing(connection),
                pytest.raises(TooManyFailures, match=r"^too many failed logins; try again in \d+ s$"),
            ):
                connection.call("GET", "/transfer/v1/whoami")


def test_s23_what_is_missing_is_named_by_whichever_route_refuses_it(closed, line, ci, machine, tmp_path):
    closed.make("ci", [closed.group("builders", "index")])
    for path, permission in (
        ("/transfer/v1/templates", "list_vms"),
        ("/registry/v2/vm", "list_vms"),
        ("/transfer/v1/keys", "view_permissions"),
        ("/registry/disk", "get_disk_info"),
    ):
        with pytest.raises(Forbidden, match=rf"^not allowed: key:ci lacks the permission {permission}$") as caught:
            line(**ci).call("GET", path)
        assert "s3reg access explain KEY TEMPLATE" in caught.value.next_step
    with pytest.raises(Forbidden, match="head_push_vm"):
        pushed(line(**ci), tmp_path / "baker", machine)
