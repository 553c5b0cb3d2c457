"""`s3reg store check`: every promise by name, and a refusal that names those which are not kept."""

import pytest

import servers
from s3reg.store import check

TRIED = {*check._OF_OBJECTS, *check._OF_LINKS}


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """No store in the environment."""
    monkeypatch.delenv("S3REG_STORE", raising=False)


def rows(out):
    return {name: mark for mark, name, _ in (line.split("\t") for line in out.splitlines())}


def test_a_directory_keeps_every_promise_and_nothing_stays_in_it(s3reg, tmp_path):
    done = s3reg("store", "check", tmp_path / "store")
    assert (done.code, done.err) == (0, "")
    assert rows(done.out) == dict.fromkeys(TRIED, "✓")
    assert {path.name for path in (tmp_path / "store").iterdir()} <= {".tmp", ".locks"}
    assert not list((tmp_path / "store" / ".tmp").iterdir())


def test_a_program_is_answered_in_json(s3reg, tmp_path, monkeypatch):
    monkeypatch.setenv("S3REG_STORE", str(tmp_path / "store"))
    done = s3reg("-j", "store", "check")
    assert {promise["name"]: promise["kept"] for promise in done.answer["body"]} == dict.fromkeys(TRIED, True)


def test_a_store_that_lacks_promises_is_refused_by_their_names(s3reg, monkeypatch):
    with servers.moto() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        where = f"s3://{server.new_bucket()}/some/prefix"
        done = s3reg("store", "check", where, "--s3-endpoint", server.endpoint)
        assert done.code == 9
        told = rows(done.out)
        assert told["create-only put"] == told["listing in order, beyond a page"] == told["signed GET"] == "✓"
        broken = {name for name, mark in told.items() if mark == "✗"}
        assert "signed PUT, wrong bytes" in broken
        assert all(name in done.err for name in broken)
        done = s3reg("-j", "store", "check", where, "--s3-endpoint", server.endpoint)
        assert (done.code, done.answer["status"], done.answer["code"]) == (9, "ERROR", 9)


@pytest.mark.parametrize("arguments", [(), ("--store", "ftp://x"), ("s3://",)])
def test_without_a_store_it_says_what_to_give(s3reg, arguments):
    done = s3reg("store", "check", *arguments)
    assert done.code == 2
    assert "--store" in done.err


def test_a_store_that_does_not_answer_is_told_as_such(s3reg, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    nobody = f"http://127.0.0.1:{servers.free_port()}"
    done = s3reg("store", "check", "s3://bucket", "--s3-endpoint", nobody)
    assert done.code == 10
    assert nobody in done.err


def in_place(monkeypatch, server):
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    return ["s3://s3reg-nobody-made-this", "--s3-endpoint", server.endpoint]


def wrong_key(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody-we-know")


def wrong_secret(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-right-one")


def no_keys(monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")


def ended_session(monkeypatch):
    """MinIO knows no such session any more."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ASIAENDED")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-yesterday")


@pytest.mark.parametrize(
    "row",
    [
        (lambda _: None, "does not exist", "create it first"),
        (wrong_key, "refuses our credentials", "AWS_ACCESS_KEY_ID"),
        (wrong_secret, "refuses our credentials", "AWS_SECRET_ACCESS_KEY"),
        (no_keys, "there are no credentials", "give the machine or task a role"),
        (ended_session, "refuses our credentials", "whether AWS_SESSION_TOKEN has ended"),
    ],
    ids=["bucket", "key", "secret", "no keys", "session"],
)
def test_what_keeps_a_store_from_being_used_is_told_with_the_next_step(s3reg, monkeypatch, minio, row):
    wrong, says, step = row
    arguments = in_place(monkeypatch, minio)
    wrong(monkeypatch)
    done = s3reg("store", "check", *arguments)
    assert done.code == 10
    told = " ".join(done.err.split())
    assert says in told
    assert step in told
    assert done.out == ""
    assert "not-the-right-one" not in told
