"""A registry that is not to be reached, or not as it was said, and one that dies under a push and a pull and comes back."""

import contextlib
import threading

import pytest

import http_wires as faults
import machines
import running
import servers
import wired
import wires
from http_wires import Wire
from machines import KIB, MIB
from refusals import refused
from s3reg.client.connection import Access, Connection
from s3reg.errors import RegistryUnreachable

NOWHERE = "no-such-host.invalid"


def node_at(url, folder, **more):
    """A node that gives up soon."""
    line = Connection(Access(url, **more), tries=2, pause=lambda *_: None)
    return wired.Node(wired.Library(folder), line)


@pytest.fixture
def machine(tmp_path):
    return machines.make(tmp_path / "baker", sizes=(900 * KIB,), state_size=0)


def check_unreachable(act, machine, *words):
    with pytest.raises(RegistryUnreachable) as caught:
        act(machine)
    told = f"{caught.value}\n{caught.value.next_step}"
    for word in (*words, "check the address"):
        assert word in told
    assert "X-Amz" not in told
    assert caught.value.kind.exit_code == 10


# --- Names -----------------------------------------------------------------------------------------------------------


def test_a_registry_whose_name_nobody_knows_is_told_by_its_name(machine, tmp_path):
    node = node_at(f"http://{NOWHERE}:8089", tmp_path / "baker")
    for act in (node.push, node.pull):
        check_unreachable(act, machine, f"http://{NOWHERE}:8089 does not answer", "resolve")
    assert node.library.ledger.tags(machine.id) == {}


def test_a_store_that_only_the_registry_can_find_is_told_by_its_own_name(minio, machine, tmp_path):
    """As when links lead to an address inside of somebody's cluster."""
    with wired.wired(minio, tmp_path, links_to=f"http://{NOWHERE}:9000") as place:
        # Of two tries none may be lost to a busy machine.
        baker = place.node("baker", tries=2, stall=60)
        check_unreachable(baker.push, machine, f"http://{NOWHERE}:9000 does not answer", "resolve")
        assert place.tags(machine) == []


# --- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def registry(tmp_path):
    with running.serving(tmp_path, "--store", tmp_path / "store", "--workers", "1") as registry:
        yield registry


@pytest.mark.parametrize("command", [("list",), ("pull", "x"), ("push", "sequoia", "-t", "v1")])
def test_s27_a_certificate_of_an_unknown_authority_asks_for_it(command, registry, machine, tmp_path):
    context, ca = wires.certificate(tmp_path)
    with wires.Proxy(registry.url, tls=context) as proxy:
        node = running.Node(tmp_path / "baker", proxy.endpoint)
        told = refused(node.run(*command), 10)
        assert f"{proxy.endpoint} does not answer: its certificate is refused" in told
        assert "--cacert" in told
        node.done("--cacert", ca, "list")


def test_a_certificate_that_has_ended_is_no_matter_of_authorities(registry, tmp_path):
    context, ca = wires.certificate(tmp_path, days=-1)
    with wires.Proxy(registry.url, tls=context) as proxy:
        told = refused(running.Node(tmp_path / "node", proxy.endpoint).run("--cacert", ca, "list"), 10)
    assert "its certificate is refused (certificate has expired)" in told
    assert "--cacert" not in told


def test_tls_with_a_server_that_does_not_speak_it_is_told_at_once(registry, tmp_path):
    url = registry.url.replace("http://", "https://")
    told = refused(running.Node(tmp_path / "node", url).run("list"), 10)
    assert f"{url} does not answer: it does not speak TLS there; its address may begin with http://" in told


def test_a_server_that_speaks_only_tls_is_told(registry, machine, tmp_path):
    context, _ = wires.certificate(tmp_path)
    with wires.Proxy(registry.url, tls=context) as proxy:
        url = proxy.endpoint.replace("https://", "http://")
        node = node_at(url, tmp_path / "baker")
        check_unreachable(node.push, machine, f"{url} does not answer")


def test_s15_s27_a_store_whose_certificate_is_refused_is_told_by_its_own_address(minio, machine, tmp_path):
    context, ca = wires.certificate(tmp_path)
    with (
        wires.Proxy(minio.endpoint, tls=context) as proxy,
        wired.wired(minio, tmp_path, links_to=proxy.endpoint) as place,
    ):
        baker = place.node("baker")
        check_unreachable(baker.push, machine, f"{proxy.endpoint} does not answer: its certificate", "--cacert")
        assert place.tags(machine) == []
        trusting = place.node("baker", access={"ca_bundle": str(ca)})
        trusting.push(machine)
        runner = place.node("runner", access={"ca_bundle": str(ca)})
        runner.pull(machine)
        assert runner.bytes_of(machine) == trusting.bytes_of(machine)


# --- Death -----------------------------------------------------------------------------------------------------------


class Mortal:
    """A registry on a port of its own that can be killed and comes back."""

    def __init__(self, folder, stack):
        self._folder, self._stack = folder, stack
        self._listen = f"127.0.0.1:{servers.free_port()}"
        self.url = f"http://{self._listen}"
        self.deaths = 0
        self._lock = threading.Lock()
        self.live()

    def live(self):
        arguments = ("--store", self._folder / "store", "--workers", "1")
        self._process = self._stack.enter_context(running.serving(self._folder, *arguments, listen=self._listen))

    def die(self):
        """kill -9; somebody who asks now finds nobody, until it is back."""
        with self._lock:
            self._process.kill()
            self.deaths += 1
            self.live()


def dies(mortal, moment):
    """What becomes of a request at which the registry dies: before it hears of it, in the middle, or when it has done it."""

    def fault(passage):
        if moment == "after":
            with passage.forwarded() as answer:
                answer.read()
        elif moment == "amid":
            # Half of what there is to send or to receive goes by before.
            with contextlib.suppress(faults.Ended):
                (faults.takes(0.5) if passage.method == "PUT" else faults.gives(0.5, faults.ends))(passage)
        mortal.die()
        passage.reset()

    return fault


MOMENTS = [
    ("POST", "sessions", "after"),
    ("POST", "uploads", "before"),
    ("PUT", "packs", "amid"),
    ("PUT", "maps", "after"),
    ("POST", "commit", "after"),
    ("GET", "plan", "before"),
    ("GET", "packs", "amid"),
]


def test_s1_a_registry_that_dies_at_each_step_and_comes_back_costs_nothing(tmp_path):
    with contextlib.ExitStack() as stack:
        mortal = Mortal(tmp_path, stack)
        wire = stack.enter_context(Wire(mortal.url))
        left = list(MOMENTS)
        lock = threading.Lock()

        def rule(passage):
            with lock:
                here = next((row for row in left if row[:2] == (passage.method, passage.kind)), None)
                if here is None:
                    return None
                left.remove(here)
            return dies(mortal, here[2])

        baker, runner = (running.Node(tmp_path / name, wire.endpoint) for name in ("baker", "runner"))
        machine = machines.make(baker.library, sizes=(2 * MIB,), state_size=0)
        wire.rule = rule
        baker.done("push", machine.name, "-t", "v1")
        runner.done("pull", machine.name)
        assert left == []
        assert mortal.deaths == len(MOMENTS)
        assert machines.contents(runner.library, machine) == machines.contents(baker.library, machine)
        versions = runner.done("-j", "describe", machine.name).answer["body"]["versions"]
        assert [version["tag"] for version in versions] == ["v1"]


def test_s5_c8_a_commit_whose_answer_takes_long_is_waited_for(minio, machine, tmp_path):
    """All bytes are acknowledged, and then somebody on the way has enough: the version is there, and is there once."""
    with wired.wired(minio, tmp_path) as place:
        baker = place.node("baker")
        place.api.rule = wired.first_of_each(faults.done_but_silent, "POST", "commit")
        baker.push(machine)
        assert len(place.api.of("POST", "commit")) == 2
        assert place.tags(machine) == ["v1"]
