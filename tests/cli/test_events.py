"""`s3reg events`: what a registry noted and what machines reported, for people and for programs."""

import json
import signal
import subprocess
import time

import pytest

import running
from s3reg.cli import events
from s3reg.registry import Registry
from s3reg.store.files import FilesStore
from s3reg.wire.events import MOST_EVENTS, EventEntry


@pytest.fixture
def noted(registry, tmp_path):
    """`noted(deed="push", …)` writes such an event of the audit to the registry's store, `by` somebody, at a time."""
    made = []

    def note(by="root", at=None, **said):
        made.append(Registry(FilesStore(tmp_path / "store"), clock=lambda: time.time() if at is None else at))
        made[-1].note(by, {"deed": "push", "status": 200, **said})
        made[-1].finish(60)

    yield note
    for one in made:
        one.finish(60)


def told(done):
    """The rows of a table, without their times."""
    assert done.code == 0, done.err
    return [line.split("\t")[1:] for line in done.out.splitlines()]


def test_it_shows_who_did_what_with_what_how_it_ended_and_from_where(s3reg, registry, noted):
    noted("key:ci", template="t-1", name="base", tag="v1", address="10.0.0.7")
    noted("nobody", deed="login", key="ci", status=401, code="unauthenticated", address="10.0.0.8")
    noted("nobody", deed="refused", more=7, status=429)
    noted("root", deed="delete", template="t-1", name="base", removed="v1, v2")
    rows = [
        ["key:ci", "push", "base:v1", "200", "10.0.0.7"],
        ["nobody", "login", "ci", "401 unauthenticated", "10.0.0.8"],
        ["nobody", "refused", "", "7 more", ""],
        ["root", "delete", "base:v1, v2", "200", ""],
    ]
    assert sorted(told(s3reg("events", "-a", registry))) == sorted(rows)


def test_a_program_gets_all_that_is_known(s3reg, registry, noted):
    noted("key:ci", at=time.time() - 60, name="base")
    noted("key:ci", name="other")
    answer = s3reg("events", "-a", registry, "-j").answer
    assert [event["said"] for event in answer["body"]] == [
        {"deed": "push", "status": 200, "name": "base"},
        {"deed": "push", "status": 200, "name": "other"},
    ]
    assert {name for event in answer["body"] for name in event} == {"id", "time", "kind", "by", "said"}


def test_what_is_asked_for_is_what_comes(s3reg, registry, noted):
    now = time.time()
    noted("root", at=now - 3 * 3600, name="old")
    noted("key:ci", at=now - 600, template="t-1", name="base")
    noted("root", at=now, name="new")

    def names(*arguments):
        return [row[2] for row in told(s3reg("events", "-a", registry, *arguments))]

    assert names() == ["old", "base", "new"]
    assert names("-n", "2") == ["base", "new"]
    assert names("--since", "2h") == ["base", "new"]
    assert names("--until", "5m") == ["old", "base"]
    assert names("--by", "key:ci") == names("--template", "base") == names("--template", "t-1") == ["base"]
    assert names("--kind", "report") == []
    assert names("--since", time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(now - 700)), "--until", "1m") == ["base"]


@pytest.mark.parametrize(
    "arguments",
    [("--since", "yesterday"), ("--until", "2h", "-f"), ("--kind", "x"), ("-n", "0"), ("--since", "2026-02-31")],
)
def test_what_makes_no_sense_is_told(s3reg, registry, arguments):
    done = s3reg("events", "-a", registry, *arguments)
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == 2


class Pages:
    """A registry that has an event a second, some seconds with many."""

    def __init__(self, times):
        self.all = [EventEntry(f"{number:x}", time, "audit", "root", {}) for number, time in enumerate(sorted(times))]
        self.asked = 0

    def ask(self, schema, method, path, body=None, query=None):
        self.asked += 1
        assert query["limit"] <= MOST_EVENTS
        assert self.asked < 100  # it ends
        until = query["until"]
        fit = [one for one in self.all if until is None or one.time <= until]
        return schema.makes(tuple(fit[-query["limit"] :]))


def test_more_than_a_page_is_asked_for_page_by_page_without_a_gap():
    pages = Pages(range(2 * MOST_EVENTS + 10))
    assert events._newest(pages, 2 * MOST_EVENTS, {}) == pages.all[10:]
    assert events._newest(pages, 10 * MOST_EVENTS, {}) == pages.all
    full_second = Pages([*range(5), *[5] * MOST_EVENTS, 6])
    assert events._newest(full_second, 5000, {}) == full_second.all


def test_it_follows_what_comes_until_it_is_interrupted(registry, noted, tmp_path):
    noted(name="before", at=time.time() - 60)
    with subprocess.Popen(
        [*running.PROGRAM, "events", "-a", registry, "-f", "-j"],
        env=running.environment(HOME=str(tmp_path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert json.loads(process.stdout.readline())["said"]["name"] == "before"
        noted(name="then")
        assert json.loads(process.stdout.readline())["said"]["name"] == "then"
        noted(name="late", at=time.time() - 30)
        assert json.loads(process.stdout.readline())["said"]["name"] == "late"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
