"""A line that all but stands still, that breaks off again and again, or that leads nowhere: when it is given up, and why."""

import socket
import ssl
import threading

import pytest

import wires
from s3reg.client.answers import Again
from s3reg.client.connection import BUDGET, TRIES, Access, Connection
from s3reg.client.flow import FLOOR, SLICE, Flow
from s3reg.client.pace import Pace
from s3reg.errors import AnswerInvalid, Interrupted, LinkRefused, RegistryUnreachable
from scripted import Hangup, Scripted, answers, breaks_off, resets

KIB = 1024
WAIT = 30
STALL = 0.2
LINK = "/bucket/packs/one?X-Amz-Credential=AKIA&X-Amz-Signature=c0ffee"
GOOD = answers(200, {"fine": True})


def connected(url, **more):
    return Connection(Access(url), **{"stall": STALL, "pause": lambda *_: None, **more})


class Trickle:
    """An answer that comes in pieces, each after so many seconds of a clock that stands still otherwise."""

    def __init__(self, *pieces):
        self.pieces, self.now = list(pieces), 0.0

    def clock(self):
        return self.now

    def read1(self, most, *, decode_content):
        assert decode_content is False
        if not self.pieces:
            return b""
        seconds, count = self.pieces.pop(0)
        self.now += seconds
        return bytes(min(count, most))


def received(answer, most=1 << 30, pace=None):
    """How much of it comes before it is given up, and whether it was."""
    came = 0
    try:
        for piece in Flow(pace or Pace(), threading.Event(), 60, clock=answer.clock).incoming(answer, most):
            came += len(piece)
    except Again as e:
        return came, str(e)
    return came, ""


class TestTheFloor:
    def test_a_trickle_without_silence_is_given_up(self):
        """openai/tart#1040: 1 % an hour from one CDN (peers 9)."""
        came, why = received(Trickle(*[(1, 100)] * 1000))
        assert came == 60 * 100
        assert why == "only 6000 bytes came in 60 seconds"

    def test_what_is_above_it_is_waited_for(self):
        assert received(Trickle(*[(1, FLOOR)] * 1000)) == (1000 * FLOOR, "")

    def test_a_line_that_becomes_a_trickle_is_given_up_all_the_same(self):
        came, why = received(Trickle((59, 1 << 20), (1, 10), *[(10, 50)] * 100))
        assert came == (1 << 20) + 10 + 6 * 50
        assert why

    def test_the_last_bytes_are_taken_however_late(self):
        assert received(Trickle((59, 10), (59, 10)), most=20) == (20, "")

    def test_the_time_that_a_limit_asks_for_is_not_the_line_s(self):
        trickle = Trickle(*[(0, 4096)] * 20)

        class Held(Pace):
            def hold_back(self, count, stop):
                trickle.now += count / self.limit_rate

        assert received(trickle, pace=Held(limit_rate=100)) == (20 * 4096, "")

    def test_a_trickle_is_asked_again_where_it_was(self):
        over = threading.Event()

        def drips(exchange):
            exchange.head(206, 3000)
            while not over.wait(0.02):
                exchange.send(b"x")

        with Scripted(drips, drips) as server:
            server.steps.append(lambda exchange: answers(206, b"y" * self.left(exchange))(exchange))
            found = connected(server.url).read(server.url + LINK, first=0, length=3000)
            over.set()
            drops = bytes(found).count(b"x")
            assert found == b"x" * drops + b"y" * (3000 - drops)
            assert 2 <= drops < 1000
            assert len(server.requests) == 3

    def left(self, exchange):
        first, last = exchange.request.headers["range"].removeprefix("bytes=").split("-")
        return int(last) - int(first) + 1


class TestUnderALimit:
    def test_pieces_and_slices_are_small_and_add_up(self):
        held = []

        class Held(Pace):
            def hold_back(self, count, stop):
                held.append(count)

        pace, stop = Held(limit_rate=50_000), threading.Event()
        slices = [bytes(part) for part in Flow(pace, stop, 60).outgoing(memoryview(bytes(range(256)) * 100))]
        assert b"".join(slices) == bytes(range(256)) * 100
        assert held == [len(part) for part in slices]
        assert max(held) == 5000
        held.clear()
        trickle = Trickle((0, 300), (0, 10**6), (0, 1), (0, 10**6), (0, 10**6))
        assert received(trickle, most=12_000, pace=pace)[0] == 12_000
        assert sum(held) == 12_000
        assert max(held) == 5000

    def test_what_is_not_wanted_any_more_is_not_sent(self):
        stop = threading.Event()
        slices = Flow(Pace(), stop, 60).outgoing(memoryview(bytes(3 * SLICE)))
        assert len(next(slices)) == SLICE
        stop.set()
        with pytest.raises(Interrupted):
            next(slices)


class TestProgress:
    """What brought bytes is no failure of a line that is bad now and then."""

    def test_a_range_that_goes_on_piece_by_piece_is_read_to_its_end(self):
        with Scripted(breaks_off(206, b"x" * 10, 1000)) as server:
            assert connected(server.url, tries=2).read(server.url + LINK, first=0, length=500) == b"x" * 500
            assert len(server.requests) == 50

    def test_tries_without_progress_are_counted(self):
        steps = [breaks_off(206, b"x" * 10, 1000), resets(), breaks_off(206, b"x" * 10, 1000), resets()]
        with Scripted(*steps) as server:
            with pytest.raises(RegistryUnreachable):
                connected(server.url).read(server.url + LINK, first=0, length=500)
            assert len(server.requests) == 2 + TRIES

    def test_the_budget_is_what_it_was(self):
        with Scripted(breaks_off(206, b"x", 1000)) as server:
            with pytest.raises(RegistryUnreachable):
                connected(server.url).read(server.url + LINK, first=0, length=1000)
            assert len(server.requests) == BUDGET + 1

    def test_what_begins_anew_each_time_makes_none(self):
        with Scripted(breaks_off(200, b"x" * 500, 1000)) as server:
            with pytest.raises(RegistryUnreachable):
                connected(server.url, tries=3).read(server.url + LINK)
            assert len(server.requests) == 3


class TestNames:
    @pytest.fixture
    def names(self, monkeypatch):
        """`names(*errors)`: what the name service answers from now on, the last for ever; 0 is an answer. Its look-ups."""
        asked, real = [], socket.getaddrinfo

        def make(*errors):
            def look_up(host, *arguments, **named):
                asked.append(host)
                error = errors[min(len(asked), len(errors)) - 1]
                if error:
                    raise socket.gaierror(error, "the name service says no")
                return real("127.0.0.1", *arguments, **named)

            monkeypatch.setattr(socket, "getaddrinfo", look_up)
            return asked

        return make

    @pytest.mark.parametrize("act", [lambda c: c.call("GET", "/x"), lambda c: c.read("http://nobody:1/x?sig=secret")])
    def test_one_that_nobody_has_is_said_after_a_second_look(self, act, names):
        asked = names(socket.EAI_NONAME)
        with pytest.raises(RegistryUnreachable, match="http://nobody:1 does not answer: Failed to resolve"):
            act(connected("http://nobody:1"))
        assert asked == ["nobody"] * 2

    def test_a_name_service_that_does_not_answer_is_asked_as_often_as_anybody(self, names):
        asked = names(socket.EAI_AGAIN)
        with pytest.raises(RegistryUnreachable, match="resolve"):
            connected("http://nobody:1").call("GET", "/x")
        assert len(asked) == TRIES

    @pytest.mark.parametrize("error", [socket.EAI_NONAME, socket.EAI_AGAIN])
    def test_a_name_that_answered_before_is_looked_for_as_often_as_anybody(self, error, names):
        asked = names(0, *[error] * (TRIES - 1), 0)
        with Scripted(answers(200, {"fine": True}, connection="close")) as server:
            connection = connected(server.url.replace("127.0.0.1", "somebody"))
            connection.call("GET", "/x")
            connection.close()
            assert connection.call("GET", "/x") == {"fine": True}
        assert len(asked) == 1 + TRIES

    def test_what_can_be_no_name_is_said_at_once(self):
        pauses = []
        connection = connected(f"http://{'x' * 64}.example", pause=lambda *_: pauses.append(1))
        with pytest.raises(RegistryUnreachable, match="none that a host can have"):
            connection.call("GET", "/x")
        assert pauses == []


class TestPlainToAPortThatSpeaksTls:
    def told(self, error, act):
        with pytest.raises(error, match="it speaks TLS there; its address may begin with https://") as caught:
            act()
        assert "X-Amz" not in str(caught.value)

    def test_one_that_ends_the_connection_is_tried(self, tmp_path):
        context, _ = wires.certificate(tmp_path)
        with Scripted(GOOD, tls=context) as server:
            url = server.url.replace("https", "http")
            connection = connected(url, tries=2)
            self.told(RegistryUnreachable, lambda: connection.call("GET", "/x"))
            self.told(RegistryUnreachable, lambda: connection.read(url + LINK))
            assert server.requests == []

    def test_one_that_says_so_in_tls_is_believed_at_once(self):
        def alert(exchange):
            exchange.send(b"\x15\x03\x01\x00\x02\x02\x46")
            raise Hangup

        with Scripted(alert) as server:
            self.told(RegistryUnreachable, lambda: connected(server.url).call("GET", "/x"))
            assert len(server.requests) == 1

    @pytest.mark.parametrize(
        "body",
        [
            b"<html><center>The plain HTTP request was sent to HTTPS port</center></html>",
            b"Client sent an HTTP request to an HTTPS server.\n",
            b"You're speaking plain HTTP to an SSL-enabled server port.<br />\n Instead use the HTTPS scheme",
        ],
        ids=["nginx", "Go", "Apache"],
    )
    def test_one_that_says_so_in_words_is_believed_at_once(self, body):
        with Scripted(answers(400, body)) as server:
            connection = connected(server.url)
            self.told(AnswerInvalid, lambda: connection.call("GET", "/x"))
            self.told(LinkRefused, lambda: connection.read(server.url + LINK))

    def test_one_that_is_merely_broken_is_not(self, monkeypatch):
        def refuse(*_, **__):
            raise ssl.SSLError("no TLS")

        monkeypatch.setattr(ssl.SSLContext, "wrap_socket", refuse)
        words = "does not answer: Connection reset"
        with Scripted(resets()) as server, pytest.raises(RegistryUnreachable, match=words):
            connected(server.url, tries=2).call("GET", "/x")

    def test_one_that_answered_before_is_not_tried(self):
        with Scripted(GOOD, resets()) as server:
            connection = connected(server.url, tries=2)
            connection.call("GET", "/x")
            with pytest.raises(RegistryUnreachable, match="does not answer"):
                connection.call("GET", "/x")
            assert len(server.requests) == 3
            assert server.connections == 2


class TestHangingUp:
    def test_a_connection_that_is_on_its_way_is_ended_too(self, tmp_path):
        """In the middle of a handshake that does not go on."""
        stop, ends = threading.Event(), []
        with socket.create_server(("127.0.0.1", 0)) as listening:
            url = f"https://127.0.0.1:{listening.getsockname()[1]}"
            connection = connected(url, stall=10 * WAIT)

            def read():
                with pytest.raises(Interrupted) as caught:
                    connection.read(url + LINK, stop=stop)
                ends.append(caught.value)

            reading = threading.Thread(target=read, daemon=True)
            reading.start()
            accepted, _ = listening.accept()
            with accepted:
                assert accepted.recv(1)  # its greeting
                stop.set()
                connection.hang_up()
                # Sooner than the handshake would be given up; and while the other end stays.
                reading.join(WAIT / 2)
                assert ends

    def test_it_is_no_sign_that_the_line_is_bad(self):
        asked, over, stop = threading.Event(), threading.Event(), threading.Event()

        def silent(_):
            asked.set()
            over.wait(WAIT)

        with Scripted(silent) as server:
            connection = connected(server.url, stall=WAIT, pace=Pace(jobs=6))

            def read():
                with pytest.raises(Interrupted):
                    connection.read(server.url + LINK, stop=stop)

            reading = threading.Thread(target=read, daemon=True)
            reading.start()
            assert asked.wait(WAIT)
            stop.set()
            connection.hang_up()
            reading.join(WAIT)
            over.set()
        assert connection.pace.allowed == 6
