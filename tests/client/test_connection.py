"""The line to a registry and its store, against a server that does as it is told: what is tried again, and what is said."""

import socket
import ssl
import threading
import tracemalloc

import pytest

import pki
import wires
from s3reg import errors, wire
from s3reg.client.connection import BUDGET, LONGEST_PAUSE, SLICE, TRIES, Access, Connection
from s3reg.errors import (
    AnswerInvalid,
    CertificateRefused,
    ChecksumMismatch,
    Interrupted,
    LinkRefused,
    LocalDenied,
    ObjectNotFound,
    RegistryUnreachable,
    S3regError,
    StoreFull,
    StoreUnavailable,
    StoreUnsuitable,
    TagTaken,
)
from scripted import Scripted, answers, breaks_off, pours, refuses_early, resets

KIB, MIB = 1024, 1024**2
WAIT = 30
SECRET = "c0ffee5ec2e7"
LINK = f"/bucket/pack?X-Amz-Credential=AKIA&X-Amz-Signature={SECRET}"
XML = (
    b"<?xml version='1.0'?><Error><Code>%s</Code><Message>see /bucket/pack?X-Amz-Signature="
    + SECRET.encode()
    + b"</Message></Error>"
)


class Line:
    """A connection to a scripted server; its pauses are noted, not made."""

    def __init__(self, *steps, tries=TRIES, tls=None, unread=False, **access):
        self.server = Scripted(*steps, tls=tls, unread=unread)
        self.pauses = []
        self.connection = Connection(
            Access(self.server.url, **access), tries=tries, pause=lambda _, seconds: self.pauses.append(seconds)
        )

    def __enter__(self):
        self.server.__enter__()
        return self

    def __exit__(self, *_):
        self.connection.close()
        self.server.__exit__()

    @property
    def link(self):
        return self.server.url + LINK

    def call(self):
        return self.connection.call("GET", "/transfer/v1/status")

    def send(self, body=b"pack" * 1000, **more):
        self.connection.send(self.link, {"x-amz-checksum-sha256": "abc="}, memoryview(body), **more)


def fails(expected, act, *arguments, **named):
    """The error that `act` raises; nothing of the link shows in it, nor in what led to it."""
    with pytest.raises(expected) as caught:
        act(*arguments, **named)
    error = caught.value
    while error is not None:
        assert SECRET not in f"{error} {error!r} {getattr(error, 'detail', '')}"
        assert "Signature" not in f"{error}"
        error = error.__cause__
    return caught.value


def told(error, status=None):
    return answers(status or error.kind.status, {"error": error.as_dict()})


def fault(code, status):
    return answers(status, XML % code.encode())


GOOD = answers(200, {"fine": True})
STORED = answers(200, ETag='"1"')


class TestWhatIsTriedAgain:
    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
    def test_a_passing_failure_is_tried_again(self, status):
        with Line(answers(status, b"<html>sorry</html>"), GOOD) as line:
            assert line.call() == {"fine": True}
            assert len(line.pauses) == 1

    def test_the_pause_is_at_least_what_retry_after_asks_for(self):
        with Line(answers(503, Retry_After="7"), GOOD) as line:
            line.call()
            assert 7 <= line.pauses[0] < 8

    @pytest.mark.parametrize("asked", ["86400", "inf"])
    def test_nobody_makes_us_wait_for_a_day(self, asked):
        with Line(answers(503, Retry_After=asked), GOOD) as line:
            line.call()
            assert line.pauses[0] <= LONGEST_PAUSE + 1

    @pytest.mark.parametrize("asked", ["Wed, 21 Oct 2026 07:28:00 GMT", "soon", "-5", "nan", ""])
    def test_a_retry_after_that_gives_no_seconds_counts_as_none(self, asked):
        with Line(answers(503, Retry_After=asked), GOOD) as line:
            line.call()
            assert 0 <= line.pauses[0] <= 0.5

    def test_pauses_grow(self):
        with Line(answers(503)) as line:
            fails(RegistryUnreachable, line.call)
            assert len(line.pauses) == TRIES - 1
            assert all(pause <= 0.25 * 2 ** (n + 1) for n, pause in enumerate(line.pauses))

    @pytest.mark.parametrize(
        "step",
        [resets(), resets(200, b'{"fi', 100), breaks_off(200, b'{"fine"', 100), breaks_off(200, b"", 100)],
        ids=["reset", "reset in the body", "short body", "no body"],
    )
    def test_an_answer_that_breaks_off_is_asked_for_again(self, step):
        with Line(step, step, GOOD) as line:
            assert line.call() == {"fine": True}
            assert len(line.server.requests) == 3

    @pytest.mark.parametrize("kind", [resets, breaks_off])
    def test_an_object_that_breaks_off_is_read_again(self, kind):
        with Line(kind(200, b"x" * 60, 100), answers(200, b"y" * 100)) as line:
            assert line.connection.read(line.link) == b"y" * 100

    @pytest.mark.parametrize("cut", [breaks_off(206, b"x" * 60, 100), answers(206, b"x" * 60)])
    def test_of_a_range_that_breaks_off_only_the_rest_is_read(self, cut):
        with Line(cut, breaks_off(206, b"y" * 30, 40), answers(206, b"z" * 10)) as line:
            found = line.connection.read(line.link, first=1000, length=100, into=bytearray(200))
            assert found == b"x" * 60 + b"y" * 30 + b"z" * 10
            asked = [request.headers["range"] for request in line.server.requests]
            assert asked == ["bytes=1000-1099", "bytes=1060-1099", "bytes=1090-1099"]

    def test_what_follows_a_range_is_not_taken_for_the_next_answer(self):
        with Line(answers(206, b"x" * 100 + b"HTTP/1.1 206 Evil\r\n" * 20), answers(206, b"y" * 100)) as line:
            assert line.connection.read(line.link, first=0, length=100) == b"x" * 100
            assert line.connection.read(line.link, first=0, length=100) == b"y" * 100
            assert line.pauses == []
            assert [request.connection for request in line.server.requests] == [1, 2]

    def test_a_connection_is_used_again(self):
        steps = [GOOD, answers(206, b"x" * 9), STORED, fault("SlowDown", 503), answers(200, b"x" * 9)]
        with Line(*steps) as line:
            line.call()
            line.connection.read(line.link, first=3, length=9)
            line.send()
            line.connection.read(line.link)
            assert {request.connection for request in line.server.requests} == {1}

    def test_a_server_that_is_not_there_is_unreachable(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        connection = Connection(Access(f"http://127.0.0.1:{port}"), tries=3, pause=lambda *_: None)
        error = fails(RegistryUnreachable, connection.call, "GET", "/x", query={"sig": SECRET})
        assert "refused" in str(error)

    def test_a_connection_has_only_so_many_retries_in_all(self):
        with Line(answers(503), tries=10 * BUDGET) as line:
            fails(RegistryUnreachable, line.call)
            assert len(line.server.requests) == BUDGET + 1
            fails(RegistryUnreachable, line.call)
            assert len(line.server.requests) == BUDGET + 2

    def test_successes_bring_retries_back(self):
        with Line(answers(503), tries=10 * BUDGET) as line:
            fails(RegistryUnreachable, line.call)
            line.server.steps = [GOOD]
            for _ in range(15):
                line.call()
            line.server.steps = [answers(503)]
            seen = len(line.server.requests)
            fails(RegistryUnreachable, line.call)
            assert len(line.server.requests) == seen + 2

    def test_the_errors_of_an_unavailable_registry_are_its_own_words_in_the_end(self):
        with Line(told(StoreUnavailable(store="s3://b", reason="it is away")), tries=3) as line:
            assert "it is away" in str(fails(StoreUnavailable, line.call))
            assert len(line.server.requests) == 3

    def test_what_somebody_has_to_mend_is_said_at_once(self):
        with Line(told(StoreFull(store="directory /x"))) as line:
            fails(StoreFull, line.call)
            fails(StoreFull, line.send)
            assert line.pauses == []


class TestWhatAnAnswerMeans:
    def test_an_error_of_the_registry_is_raised_as_itself_at_once(self):
        with Line(told(TagTaken(template="base", tag="v1"))) as line:
            error = fails(TagTaken, line.call)
            assert error.detail == {"template": "base", "tag": "v1"}
            assert line.pauses == []

    def test_a_newer_registry_s_error_keeps_its_message(self):
        body = {"error": {"code": "from-the-future", "message": "wait for the moon", "detail": {}}}
        with Line(answers(409, body)) as line:
            assert "wait for the moon" in str(fails(S3regError, line.call))

    @pytest.mark.parametrize(
        "body",
        [b"<html>hello</html>", b"[1]", b"null", b"\xff\xfe", b"[" * 100_000, b"{", b'"text"'],
        ids=["html", "list", "null", "bytes", "deep", "cut", "text"],
    )
    @pytest.mark.parametrize("status", [200, 404])
    def test_what_is_no_json_object_is_no_registry(self, body, status):
        with Line(answers(status, body)) as line:
            fails(AnswerInvalid, line.call)
            assert line.pauses == []

    @pytest.mark.parametrize(
        "error",
        [
            "text", [], None, 7, {}, {"code": 5}, {"code": "tag-taken"}, {"code": "tag-taken", "detail": {"self": 1}},
            {"code": "tag-taken", "detail": []}, {"code": ["x"], "detail": {"": 1}},
            {"code": "link-refused", "detail": {"reason": {"a": [1]}}},
        ],
    )  # fmt: skip
    def test_an_error_of_a_strange_shape_is_an_error_all_the_same(self, error):
        with Line(answers(418, {"error": error})) as line:
            fails(S3regError, line.call)
            fails(S3regError, line.connection.read, line.link)

    @pytest.mark.parametrize("body", [b"{}", b"[]", b'{"error": {}}', b"[" * 4000, b'{"error":"x"}', b"", b"\xff"])
    def test_a_store_s_refusal_without_a_code_is_a_refused_link(self, body):
        with Line(answers(403, body)) as line:
            fails(LinkRefused, line.connection.read, line.link)
            fails(LinkRefused, line.send)

    def test_a_redirect_is_not_followed(self):
        with Scripted(GOOD) as elsewhere, Line(answers(307, Location=elsewhere.url + LINK)) as line:
            fails(AnswerInvalid, line.call)
            fails(LinkRefused, line.connection.read, line.link)
            fails(LinkRefused, line.send)
            assert elsewhere.requests == []

    def test_a_value_is_read_with_its_schema_or_refused(self):
        with Line(answers(200, {"links": [{"url": 5}]})) as line:
            fails(AnswerInvalid, line.connection.ask, wire.UploadsAnswerSchema, "POST", "/x", {})

    def test_an_empty_answer_has_no_fields(self):
        with Line(answers(204)) as line:
            assert line.call() == {}

    def test_what_is_asked_is_sent_as_json_and_a_query(self):
        with Line(GOOD) as line:
            line.connection.call("POST", "/x", {"a": "ü"}, {"ref": "a b/ü&c", "none": None})
            request = line.server.requests[0]
            assert (request.method, request.target) == ("POST", "/x?ref=a+b%2F%C3%BC%26c")
            assert request.body == b'{"a": "\\u00fc"}'
            assert request.headers["user-agent"].startswith("s3reg/")
            assert request.headers["accept-encoding"] == "identity"


class TestReading:
    def test_all_of_an_object(self):
        data = bytes(range(256)) * 20_000
        with Line(answers(200, data)) as line:
            assert line.connection.read(line.link) == data
            assert "range" not in line.server.requests[0].headers

    def test_one_range_of_it(self):
        with Line(answers(206, b"x" * 70)) as line:
            line.connection.read(line.link, first=30, length=70)
            assert line.server.requests[0].headers["range"] == "bytes=30-99"

    def test_a_store_that_ignores_ranges_is_refused_without_reading_what_it_sends(self):
        with Line(pours(200)) as line:
            error = fails(StoreUnsuitable, line.connection.read, line.link, first=0, length=100)
            assert "127.0.0.1" in str(error)
            assert len(line.server.requests) == 1
        assert line.server.poured < 64 * MIB  # what sockets hold; the answer claims a TiB

    def test_a_refused_link_says_the_store_s_code_and_no_more(self):
        with Line(fault("AccessDenied", 403)) as line:
            error = fails(LinkRefused, line.connection.read, line.link)
            assert str(error) == "the signed link is refused: 403 AccessDenied"
            assert line.pauses == []

    def test_a_code_that_is_none_is_not_repeated(self):
        with Line(answers(403, f"<Code>http://x/?sig={SECRET}</Code>".encode())) as line:
            fails(LinkRefused, line.connection.read, line.link)

    def test_a_store_in_a_directory_answers_in_the_registry_s_name(self):
        with Line(told(LinkRefused(reason="its time is over"))) as line:
            assert "its time is over" in str(fails(LinkRefused, line.connection.read, line.link))
        with Line(told(ObjectNotFound(key="packs/x"), 404)) as line:
            fails(ObjectNotFound, line.connection.read, line.link)

    def test_a_range_outside_the_object_is_said(self):
        with Line(answers(416)) as line:
            assert "outside" in str(fails(LinkRefused, line.connection.read, line.link, first=0, length=9))

    def test_a_link_without_a_host_is_the_registry_s_own(self):
        with Line(answers(200, b"data")) as line:
            assert line.connection.read("/objects/packs/x?sig=1") == b"data"
            assert line.server.requests[0].target == "/objects/packs/x?sig=1"
            at_path = Connection(Access(line.server.url + "/behind/a/proxy/"))
            assert at_path.read("/objects/x") == b"data"
            assert line.server.requests[1].target == "/behind/a/proxy/objects/x"
            at_path.close()

    def test_somebody_else_s_encoding_is_not_undone(self):
        with Line(answers(206, b"\x1f\x8bwhatever", Content_Encoding="gzip")) as line:
            assert line.connection.read(line.link, first=0, length=10) == b"\x1f\x8bwhatever"

    def test_a_range_takes_memory_for_itself_and_little_more(self):
        with Line(answers(206, bytes(8 * MIB))) as line:
            tracemalloc.start()
            line.connection.read(line.link, first=0, length=8 * MIB)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 20 * MIB


class TestSending:
    def test_a_body_is_sent_with_its_length_and_the_headers_of_its_link(self):
        body = b"0123456789" * 20_000
        with Line(STORED) as line:
            line.send(body)
            request = line.server.requests[0]
            assert request.body == body
            assert request.headers["content-length"] == str(len(body))
            assert request.headers["x-amz-checksum-sha256"] == "abc="
            assert "transfer-encoding" not in request.headers

    @pytest.mark.parametrize("step", [answers(503), resets(), fault("BadDigest", 400), fault("IncompleteBody", 400),
                                      fault("RequestTimeout", 400), fault("ConditionalRequestConflict", 409),
                                      told(ChecksumMismatch(key="k", reason="r"))])  # fmt: skip
    def test_a_retry_sends_the_whole_body(self, step):
        body = b"0123456789" * 20_000
        with Line(step, STORED) as line:
            line.send(body)
            assert [len(request.body) for request in line.server.requests] == [len(body)] * 2
            assert line.server.requests[1].body == body

    def test_a_page_in_the_stores_place_is_no_store(self):
        body = b"0123456789" * 20_000
        with Line(answers(200, b"<html>Please sign in.</html>"), STORED) as line:
            line.send(body)
            assert line.server.requests[1].body == body

    def test_a_body_that_arrives_wrong_again_and_again_is_given_up(self):
        with Line(fault("BadDigest", 400), tries=3) as line:
            assert "BadDigest" in str(fails(RegistryUnreachable, line.send))
            assert len(line.server.requests) == 3

    def test_a_key_that_is_taken_is_done(self):
        with Line(fault("PreconditionFailed", 412)) as line:
            line.send()
            assert line.pauses == []

    def test_a_put_whose_answer_was_lost_is_done_when_its_key_turns_out_taken(self):
        with Line(resets(), answers(412)) as line:
            line.send()
            assert len(line.server.requests) == 2

    @pytest.mark.parametrize(("status", "code"), [(412, b"PreconditionFailed"), (403, b"AccessDenied")])
    def test_an_answer_before_the_body_was_read_counts(self, status, code):
        with Line(refuses_early(status, XML % code), unread=True) as line:
            if status == 412:
                line.send(bytes(16 * MIB))
            else:
                fails(LinkRefused, line.send, bytes(16 * MIB))
            assert len(line.server.requests) == 1

    def test_a_link_that_is_refused_is_not_tried_again(self):
        with Line(fault("RequestTimeTooSkewed", 403)) as line:
            fails(LinkRefused, line.send)
            assert len(line.server.requests) == 1


class TestGivingUp:
    def test_what_is_not_wanted_any_more_is_not_begun(self):
        stop = threading.Event()
        stop.set()
        with Line(GOOD) as line:
            fails(Interrupted, line.connection.read, line.link, stop=stop)
            fails(Interrupted, line.send, stop=stop)
            assert line.server.requests == []

    def test_a_pause_ends_with_what_it_is_made_for(self):
        with Scripted(answers(503, Retry_After="29")) as server:
            stop = threading.Event()
            connection = Connection(Access(server.url))
            threading.Timer(0.2, stop.set).start()
            fails(Interrupted, connection.read, server.url + LINK, stop=stop)
            assert len(server.requests) == 1
            connection.close()

    def test_a_long_answer_is_not_taken_to_its_end(self):
        stop = threading.Event()
        with Line(pours(206)) as line:
            threading.Timer(0.2, stop.set).start()
            fails(Interrupted, line.connection.read, line.link, first=0, length=1 << 30, stop=stop)

    def test_a_long_body_is_not_sent_to_its_end(self):
        stop = threading.Event()

        class Watched(bytearray):
            pass

        with Line(answers(200), unread=True) as line:
            line.server.steps = [lambda _: stop.wait(30)]
            threading.Timer(0.2, stop.set).start()
            fails(Interrupted, line.send, Watched(64 * MIB), stop=stop)
            assert line.pauses == []

    @pytest.mark.parametrize("encrypted", [False, True])
    def test_who_waits_for_a_silent_server_is_called_off(self, encrypted, tmp_path):
        context, ca = wires.certificate(tmp_path) if encrypted else (None, None)
        asked, over, stop = threading.Semaphore(0), threading.Event(), threading.Event()
        ends = []

        def silent(_):
            asked.release()
            over.wait(WAIT)

        def wait_for(act, *arguments, **named):
            with pytest.raises(Interrupted) as caught:
                act(*arguments, **named)
            ends.append(caught.value)

        with Line(silent, tls=context, ca_bundle=ca and str(ca)) as line:
            waiting = [
                threading.Thread(target=wait_for, args=(line.connection.read, line.link), kwargs={"stop": stop}),
                threading.Thread(target=wait_for, args=(line.send,), kwargs={"stop": stop}),
            ]
            for thread in waiting:
                thread.start()
                assert asked.acquire(timeout=WAIT)
            stop.set()
            line.connection.hang_up()
            for thread in waiting:
                thread.join(WAIT)
            over.set()
        assert len(ends) == 2

    def test_who_is_still_wanted_when_a_connection_is_hung_up_tries_again(self):
        asked, over = threading.Event(), threading.Event()

        def silent(_):
            asked.set()
            over.wait(WAIT)

        with Line(silent, answers(200, b"data")) as line:
            found = []
            reading = threading.Thread(target=lambda: found.append(line.connection.read(line.link)))
            reading.start()
            assert asked.wait(WAIT)
            line.connection.hang_up()
            reading.join(WAIT)
            over.set()
            assert found == [b"data"]

    def test_slices_are_small_enough_to_notice(self):
        assert SLICE <= 256 * KIB


class TestTheAddress:
    @pytest.mark.parametrize("url", ["http://me:pa55word@HOST", "me:pa55word@HOST"])
    def test_a_user_and_a_password_in_it_are_in_no_url(self, url):
        with Scripted(answers(404, b"who?")) as server:
            access = Access(url.replace("HOST", server.url.removeprefix("http://")))
            connection = Connection(access)
            error = fails(AnswerInvalid, connection.call, "GET", "/x")
            connection.close()
            assert connection.url == server.url
            assert "pa55word" not in f"{error} {access!r} {connection!r}"
            assert server.requests[0].target == "/x"
            assert "pa55word" not in f"{server.requests[0].headers}"


class TestCertificates:
    def test_s27_a_registry_behind_our_own_ca_answers(self, tmp_path):
        context, ca = wires.certificate(tmp_path)
        with Line(GOOD, tls=context, ca_bundle=str(ca)) as line:
            assert line.call() == {"fine": True}

    def test_a_ca_that_nobody_knows_is_said_at_once_and_what_to_do(self, tmp_path):
        context, _ = wires.certificate(tmp_path)
        with Line(GOOD, tls=context) as line:
            for act in (line.call, lambda: line.connection.read(line.link), line.send):
                error = fails(RegistryUnreachable, act)
                assert "certificate is refused" in str(error)
                assert "--cacert" in str(error)
            assert line.pauses == []

    def test_another_host_s_certificate_is_refused(self, tmp_path):
        context, ca = wires.certificate(tmp_path)
        with Line(GOOD, tls=context) as line:
            other = line.server.url.replace("127.0.0.1", "localhost")
            connection = Connection(Access(other, ca_bundle=str(ca)), pause=lambda *_: None)
            assert "certificate is refused" in str(fails(RegistryUnreachable, connection.call, "GET", "/x"))
            connection.close()

    def test_s27_a_client_certificate_that_tls_refuses_is_said_at_once(self, tmp_path):
        context, ca = wires.certificate(tmp_path)
        context.verify_mode = ssl.CERT_REQUIRED
        # In TLS 1.3 the client has begun to speak when it is refused, and may see a broken connection first.
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(ca)
        shown, key = pki.Authority("Another CA").issue("robot").write(tmp_path / "robot")
        with Line(GOOD, tls=context, ca_bundle=str(ca), certificate=shown, key=key) as line:
            for act in (line.call, lambda: line.connection.read(line.link)):
                assert str(fails(CertificateRefused, act)).endswith(
                    f"{line.server.url} ends TLS because of it (unknown ca)"
                )
            assert line.pauses == []

    def test_s27_unchecked_means_unchecked(self, tmp_path):
        context, _ = wires.certificate(tmp_path)
        with Line(GOOD, tls=context, insecure=True) as line:
            assert line.call() == {"fine": True}

    def test_a_server_that_speaks_no_tls_is_not_a_matter_of_certificates(self, tmp_path):
        with Scripted(GOOD) as server:
            connection = Connection(Access(server.url.replace("http", "https")), tries=2, pause=lambda *_: None)
            error = fails(RegistryUnreachable, connection.call, "GET", "/x")
            assert "--cacert" not in str(error)
            connection.close()

    def test_the_file_that_cannot_be_used_is_the_one_that_is_named(self, tmp_path):
        _, ca = wires.certificate(tmp_path)
        garbage = tmp_path / "garbage.pem"
        garbage.write_text("no certificate")
        for files in ({"ca_bundle": str(garbage)}, {"ca_bundle": str(ca), "certificate": str(garbage)},
                      {"ca_bundle": str(garbage), "certificate": str(tmp_path / "leaf.pem"),
                       "key": str(tmp_path / "key.pem")}):  # fmt: skip
            assert fails(LocalDenied, Connection, Access("https://h", **files)).detail["file"] == str(garbage)
        shown, _ = pki.Authority("Another CA").issue("robot").write(tmp_path / "robot")
        for key, why in (
            (None, "lacks a certificate, or its key"),
            (str(tmp_path / "key.pem"), "the key is of another one"),
        ):
            mixed = fails(LocalDenied, Connection, Access("https://h", certificate=shown, key=key))
            assert why in str(mixed)
        missing = fails(LocalDenied, Connection, Access("https://h", ca_bundle=str(tmp_path / "none.pem")))
        assert "No such file" in str(missing)


def test_every_error_of_the_line_has_a_class_of_its_own():
    """What a script can tell apart by its code."""
    known = errors.by_code()
    for code in ("registry-unreachable", "answer-invalid", "link-refused", "store-unsuitable", "interrupted"):
        assert known[code].code == code
