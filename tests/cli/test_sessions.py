"""`s3reg sessions`: the pushes under way, and an end to one of them."""

import time

import pytest

from push_calls import API, TEMPLATE
from s3reg.client.connection import Access, Connection
from s3reg.errors import SessionExpired

OTHER = "22222222-aaaa-4bbb-8ccc-000000000002"


@pytest.fixture
def http(registry):
    connection = Connection(Access(registry))
    yield connection
    connection.close()


@pytest.fixture
def opened(http):
    """The ids of two pushes under way: one to a template that there is, one that makes a template."""
    return [
        http.call("POST", f"{API}/sessions", {"template": template, "name": name, "tag": "v1"})["session"]
        for template, name in ((TEMPLATE, "base"), (OTHER, "new"))
    ]


def test_they_are_listed_for_people(s3reg, registry, opened):
    done = s3reg("sessions", "list", "-a", registry)
    assert (done.code, done.err) == (0, "")
    rows = [line.split("\t") for line in done.out.splitlines()]
    assert [(row[0], row[1], row[2], row[5]) for row in rows] == [
        (opened[0], TEMPLATE, "everyone", "0 bytes"),
        (opened[1], OTHER, "everyone", "0 bytes"),
    ]


def test_a_program_gets_all_that_is_known(s3reg, registry, opened, http):
    http.call(
        "POST", f"{API}/sessions/{opened[0]}/uploads", {"objects": [{"kind": "pack", "sha256": "a" * 64, "size": 7}]}
    )
    body = {one["session"]: one for one in s3reg("-j", "sessions", "list", "-a", registry).answer["body"]}
    assert list(body) == opened
    one = body[opened[0]]
    assert one["beat"] == pytest.approx(time.time(), abs=60)
    assert {name: one[name] for name in one if name not in {"beat", "opened", "until", "limit"}} == {
        "session": opened[0],
        "state": "open",
        "owner": "everyone",
        "uuid": TEMPLATE,
        "name": "",
        "domain": "main",
        "signed": 7,
        "damaged": None,
    }
    assert one["until"] == one["beat"] + 24 * 3600


def test_one_is_given_up_and_says_so_until_a_sweep_clears_it(s3reg, registry, opened, http, tmp_path):
    done = s3reg("sessions", "abort", opened[0], "-a", registry)
    assert (done.code, done.out) == (0, f"{opened[0]} given up\n")
    assert s3reg("-j", "sessions", "abort", opened[0], "-a", registry).answer["body"] == {"aborted": [opened[0]]}
    with pytest.raises(SessionExpired):
        http.call("POST", f"{API}/sessions/{opened[0]}/uploads", {"objects": []})
    rows = [line.split("\t") for line in s3reg("sessions", "list", "-a", registry).out.splitlines()]
    assert [row[-1] == "expired" for row in rows] == [True, False]
    assert s3reg("gc", tmp_path / "store").code == 0
    assert [one["session"] for one in s3reg("-j", "sessions", "list", "-a", registry).answer["body"]] == opened[1:]


def test_one_that_there_is_not_is_told(s3reg, registry):
    done = s3reg("sessions", "abort", "f" * 32, "-a", registry)
    assert (done.code, done.out) == (7, "")
    assert "f" * 32 in done.err
    assert s3reg("sessions", "abort", "x", "-a", registry).code == 2


def test_it_is_looked_for_before_anybody_is_asked(s3reg, registry, opened, http, terminal):
    terminal("y\n")
    done = s3reg("sessions", "abort", opened[0], "f" * 32, "-a", registry)
    assert (done.code, "Go on?" in done.err) == (7, False)
    http.call("POST", f"{API}/sessions/{opened[0]}/uploads", {"objects": []})
    done = s3reg("sessions", "abort", opened[0], "-a", registry)
    assert done.code == 0
    assert f"{opened[0]} (to {TEMPLATE}, by everyone) will be given up. Go on?" in done.err


def test_whoever_thinks_better_of_it_leaves_it(s3reg, registry, opened, http, terminal):
    terminal("n\n")
    done = s3reg("sessions", "abort", opened[0], "-a", registry)
    assert (done.code, done.out) == (1, "")
    assert done.err.endswith("nothing was given up\n")
    http.call("POST", f"{API}/sessions/{opened[0]}/uploads", {"objects": []})
