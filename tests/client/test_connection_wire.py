"""A line on which nothing goes on, or which never ends: how long one waits, and how much one takes."""

import threading

import pytest

from s3reg.client.connection import Access, Connection
from s3reg.errors import Interrupted, LinkRefused, RegistryUnreachable
from scripted import Scripted, answers, pours

MIB = 1024**2
WAIT = 30
STALL = 0.2
LINK = "/bucket/packs/one?X-Amz-Credential=AKIA&X-Amz-Signature=c0ffee"


@pytest.fixture
def over():
    """Set when the test is over, for servers that wait."""
    over = threading.Event()
    yield over
    over.set()


@pytest.fixture
def line():
    """`line(server)`: a connection that takes silence for a fifth of a second, and does not wait between two tries."""
    made = []

    def make(server, **more):
        made.append(Connection(Access(server.url), **{"stall": STALL, "pause": lambda *_: None, **more}))
        return made[-1]

    yield make
    for connection in made:
        connection.close()


def then_silent(over, status=None, body=b"", claimed=100):
    """So much of an answer, and then nothing."""

    def step(exchange):
        if status is not None:
            exchange.head(status, claimed)
            exchange.send(body)
        over.wait(WAIT)

    return step


@pytest.mark.parametrize(
    ("status", "body"), [(None, b""), (206, b""), (206, b"x" * 60)], ids=["no answer", "no body", "half a body"]
)
def test_an_answer_that_does_not_go_on_is_asked_for_anew(status, body, over, line):
    with Scripted(then_silent(over, status, body), answers(206, b"y" * 100)) as server:
        found = line(server).read(server.url + LINK, first=0, length=100)
        assert len(found) == 100
        assert found[len(body) :] == b"y" * (100 - len(body)) or found == b"y" * 100
        assert {request.connection for request in server.requests} == {1, 2}


def test_a_body_that_nobody_takes_is_sent_anew(over, line):
    """It is larger than what sockets hold."""
    with Scripted(then_silent(over), unread=True) as server:
        with pytest.raises(RegistryUnreachable, match=f"{server.url} does not answer") as caught:
            line(server, tries=3).send(server.url + LINK, {}, memoryview(bytes(24 * MIB)))
        assert "X-Amz" not in str(caught.value)
        assert [request.connection for request in server.requests] == [1, 2, 3]


def test_s31_a_registry_that_says_nothing_is_said(over, line):
    with Scripted(then_silent(over)) as server:
        with pytest.raises(RegistryUnreachable, match="timed out"):
            line(server, tries=2).call("GET", "/transfer/v1/status")
        assert len(server.requests) == 2


def test_what_comes_slowly_but_comes_is_waited_for(over, line):
    """Each pause is shorter than what is given up, all of them together are longer."""

    def drips(exchange):
        exchange.head(206, 2400)
        for _ in range(12):
            exchange.send(b"x" * 200)
            over.wait(0.1)

    with Scripted(drips) as server:
        assert line(server, stall=1).read(server.url + LINK, first=0, length=2400) == b"x" * 2400
        assert len(server.requests) == 1


@pytest.mark.parametrize(("first", "status"), [(None, 200), (0, 206)])
def test_of_an_answer_without_an_end_only_what_was_asked_for_is_taken(first, status, line):
    with Scripted(pours(status)) as server:
        found = line(server).read(server.url + LINK, first=first, length=1000)
        assert found == bytes(1000)
    assert server.poured < 64 * MIB


def test_an_object_that_is_shorter_than_it_should_be_is_read_again(line):
    with Scripted(answers(200, b"x" * 60), answers(200, b"y" * 100)) as server:
        assert line(server).read(server.url + LINK, length=100) == b"y" * 100


def test_a_refusal_without_an_end_is_a_refusal(line):
    with Scripted(pours(403)) as server:
        with pytest.raises(LinkRefused):
            line(server).read(server.url + LINK, first=0, length=100)
        with pytest.raises(LinkRefused):
            line(server).send(server.url + LINK, {}, memoryview(b"pack"))
    assert server.poured < 64 * MIB


def test_who_is_given_up_does_not_wait_for_the_silence_to_end(over, line):
    asked, stop = threading.Event(), threading.Event()

    def silent(_):
        asked.set()
        over.wait(WAIT)

    with Scripted(silent) as server:
        connection = line(server, stall=10 * WAIT)
        caught = []

        def read():
            with pytest.raises(Interrupted) as found:
                connection.read(server.url + LINK, first=0, length=9, stop=stop)
            caught.append(found.value)

        reading = threading.Thread(target=read)
        reading.start()
        assert asked.wait(WAIT)
        stop.set()
        connection.hang_up()
        reading.join(WAIT)
        assert caught


def test_the_one_who_does_not_answer_is_named(line):
    """Not the registry before it: the store is elsewhere."""
    with Scripted(answers(200)) as registry, Scripted(answers(503, b"<Code>SlowDown</Code>")) as store:
        connection = line(registry, tries=2)
        for act in (
            lambda: connection.read(store.url + LINK),
            lambda: connection.send(store.url + LINK, {}, memoryview(b"pack")),
        ):
            with pytest.raises(RegistryUnreachable, match=f"{store.url} does not answer: the store answered 503"):
                act()
    assert registry.requests == []
