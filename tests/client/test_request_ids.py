"""A command's calls are numbered under one id, and what fails says which of them it was."""

import contextlib
import re
import threading

import pytest

import http_wires
import loglines
import machines
import sites
from s3reg import __version__, errors
from s3reg.api import create_app
from s3reg.client import Node, PushOptions
from s3reg.client.connection import Access, Connection
from s3reg.client.requestids import RequestIds
from s3reg.settings import Settings
from scripted import Scripted, answers, resets

LINK = "/bucket/pack?X-Amz-Signature=c0ffee5ec2e7"
STATUS = "/transfer/v1/status"
REFUSAL = errors.TagTaken(template="x", tag="v1").as_dict()


@contextlib.contextmanager
def line(*steps, **more):
    """A server that does these steps, and a connection to it that does not pause."""
    with Scripted(*steps) as server:
        connection = Connection(Access(server.url), pause=lambda *_: None, **more)
        with contextlib.closing(connection):
            yield server, connection


def named(server):
    return [request.headers.get("x-request-id") for request in server.requests]


def test_each_try_has_a_number_of_its_own_under_the_command_s_id():
    ids = RequestIds()
    with line(answers(503), answers(200, {}), answers(200, {}), ids=ids) as (server, connection):
        connection.call("GET", STATUS)
        connection.call("GET", STATUS)
    assert named(server) == [f"{ids.command}-{number}" for number in (1, 2, 3)]
    assert re.fullmatch("[0-9a-f]{16}", ids.command)


def test_threads_never_share_a_number():
    ids, taken = RequestIds(), []
    threads = [threading.Thread(target=lambda: taken.extend(ids.following() for _ in range(1000))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(taken)) == len(taken) == 8000


@pytest.mark.parametrize(("told", "expected"), [("seen-9", "seen-9"), ("no id\t", None), (None, None)])
def test_an_error_says_how_the_registry_calls_the_request_or_we_do(told, expected):
    ids = RequestIds()
    headers = {} if told is None else {"X_Request_Id": told}
    refused = answers(409, {"error": REFUSAL}, **headers)
    with line(refused, ids=ids) as (_, connection), pytest.raises(errors.TagTaken) as caught:
        connection.call("GET", STATUS)
    assert caught.value.request_id == (expected or f"{ids.command}-1")


def test_what_a_store_refuses_has_the_id_that_the_store_s_log_has_as_the_user_agent():
    ids = RequestIds()
    refused = answers(403, b"<Code>AccessDenied</Code>")
    with line(refused, ids=ids) as (server, connection), pytest.raises(errors.LinkRefused) as caught:
        connection.read(server.url.replace("127.0.0.1", "localhost") + LINK)
    assert caught.value.request_id == f"{ids.command}-1"
    assert server.requests[0].headers["user-agent"].endswith(f" id/{ids.command}-1")


def test_an_interruption_is_nobody_s_answer():
    stop = threading.Event()
    with line(answers(503), tries=2) as (server, connection):
        connection._pause = lambda *_: stop.set()
        with pytest.raises(errors.Interrupted) as caught:
            connection.read(server.url + LINK, stop=stop)
    assert caught.value.request_id is None


def test_what_no_registry_answered_has_no_id():
    steps = [answers(503), resets(), resets()]
    with line(*steps, tries=2) as (_, connection), pytest.raises(errors.RegistryUnreachable) as caught:
        connection.call("GET", STATUS)
    assert caught.value.request_id is None


@pytest.mark.parametrize(
    ("step", "error"),
    [
        (answers(503), errors.RegistryUnreachable),
        (answers(200, b"<html>"), errors.AnswerInvalid),
        (answers(401, {}), errors.S3regError),
    ],
)
def test_an_answer_that_says_nothing_has_one(step, error):
    ids = RequestIds()
    with line(*[step] * 3, tries=3, ids=ids) as (server, connection), pytest.raises(error) as caught:
        connection.call("GET", STATUS)
    assert caught.value.request_id == named(server)[-1]


def test_a_login_s_refusal_has_the_id_of_what_was_refused():
    with Scripted(answers(401, {})) as server:
        connection = Connection(Access(server.url, user="root", password="not-the-right-one"))
        with contextlib.closing(connection), pytest.raises(errors.CredentialRefused) as caught:
            connection.call("GET", STATUS)
    assert caught.value.request_id == named(server)[0]


def test_a_push_can_be_found_in_all_logs_it_passed_by(minio, bucket, tmp_path):
    lines = loglines.taken()
    with http_wires.Wire(minio.endpoint) as ours, http_wires.Wire(minio.endpoint) as nodes:
        told = {"s3_endpoint": ours.endpoint, "s3_signing_endpoint": nodes.endpoint}
        app = create_app(Settings(store=f"s3://{bucket(minio)}", **told))
        app.extensions["s3reg"].registry()
        ours.mend()
        machine = machines.make(tmp_path / "library")
        with sites.serving(app) as url, Node(machine.library, url) as node:
            node.push(machine.name, PushOptions(tag="v1"))
        app.extensions["s3reg"].finish(60)
        at_s3 = {passage.headers["user-agent"] for passage in ours.passed}
        transfers = list(nodes.passed)
    called = [told["request"] for told in lines("request")]
    command = called[0].partition("-")[0]
    assert all(re.fullmatch(rf"{command}-\d+", one) for one in called)
    assert len(set(called)) == len(called) > 2
    # Events that wait for the store are of many requests.
    assert at_s3 <= {f"s3reg/{__version__}", *(f"s3reg/{__version__} id/{one}" for one in called)}
    assert len(at_s3) > 3
    assert transfers
    for passage in transfers:
        assert re.fullmatch(rf"s3reg/{re.escape(__version__)} id/{command}-\d+", passage.headers["user-agent"])
        assert "x-request-id" not in passage.headers
