"""Credentials that rotate, from services that are away, slow or out of their minds; real sessions, on a real MinIO."""

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
import urllib3

import http_wires
from metadata import Metadata, Session, wait_for
from s3reg.errors import CredentialsExpired, CredentialsMissing
from s3reg.store import ABSENT
from s3reg.store.s3 import S3Store

SERVICES = ["machine", "container", "sts"]
HOUR = 3600


@pytest.fixture(scope="module")
def sessions(minio):
    """`sessions()`: key, secret and token of a fresh session at MinIO."""
    root = {"aws_access_key_id": minio.access_key, "aws_secret_access_key": minio.secret_key}
    sts = boto3.session.Session().client("sts", endpoint_url=minio.endpoint, region_name=minio.region, **root)
    made = [
        sts.assume_role(RoleArn="arn:aws:iam::1:role/any", RoleSessionName=f"n{n}")["Credentials"] for n in range(3)
    ]
    given = itertools.cycle([(one["AccessKeyId"], one["SecretAccessKey"], one["SessionToken"]) for one in made])
    return lambda: next(given)


class Place:
    """A store whose credentials come from a service, at a time that the test decides on."""

    def __init__(self, minio, name, service, sessions):
        self.service = service
        self.seconds = 14 * 60  # botocore asks for fresh ones from the fifteenth minute before the end on
        self.later = 0.0
        self.sessions = sessions
        service.give = lambda: Session(*sessions(), self.seconds)
        self.store = S3Store(name, endpoint=minio.endpoint, region=minio.region, clock=self.now)

    def now(self):
        return time.time() + self.later

    def key(self):
        """Of the credentials that a link is signed with now."""
        asked = parse_qs(urlsplit(self.store.sign_get("a", seconds=HOUR).url).query)
        return asked["X-Amz-Credential"][0].split("/")[0]

    def works(self):
        etag = self.store.put(f"k{time.monotonic_ns()}", b"x", only_if=ABSENT)
        self.store.put("a", b"here")
        assert self.store.get("a").data == b"here"
        assert self.store.stat("a").size == 4
        link = self.store.sign_get("a", seconds=HOUR)
        assert urllib3.request("GET", link.url).data == b"here"
        return etag


@pytest.fixture
def place(minio, bucket, sessions, monkeypatch, tmp_path):
    """`place(service)`."""
    with Metadata(lambda: None) as service:

        def make(kind="container"):
            monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
            for name, value in service.environment(kind, tmp_path).items():
                monkeypatch.setenv(name, value)
            return Place(minio, bucket(minio), service, sessions)

        yield make


@pytest.mark.parametrize("service", SERVICES)
def test_a_store_is_used_with_what_a_service_gives_and_asks_once(place, service):
    here = place(service)
    here.seconds = HOUR
    for _ in range(3):
        here.works()
    assert here.service.asked == 1


@pytest.mark.parametrize("service", SERVICES)
def test_fresh_ones_are_asked_for_before_the_end_and_nobody_waits_for_them(place, service, monkeypatch):
    monkeypatch.setattr("s3reg.store.credentials.WAIT_SECONDS", 3600)
    here = place(service)
    old = here.key()
    here.later = 31
    here.service.fails = slow = threading.Event()
    lets_go = threading.Timer(30, slow.set)
    lets_go.start()
    here.service.asking.clear()
    assert here.key() == old
    assert here.service.asking.wait(60)
    here.works()
    assert here.key() == old
    assert not slow.is_set()  # else somebody waited until it was
    lets_go.cancel()
    here.service.fails = None
    slow.set()
    here.later = 62
    wait_for(lambda: here.key() != old)
    here.works()


@pytest.mark.parametrize("service", SERVICES)
def test_a_link_never_outlives_the_credentials_that_signed_it(place, service):
    here = place(service)
    real = time.time() + here.seconds
    assert here.store.sign_get("a", seconds=24 * HOUR).expires <= real + 10 - 60  # however slow this machine is
    for later in (0, 60, 4 * 60, 8 * 60, 12 * 60):
        here.later = later
        link = here.store.sign_get("a", seconds=24 * HOUR)
        _, end = here.store._line.signers._credentials.now()
        assert link.expires <= end - 60
        asked = parse_qs(urlsplit(link.url).query)
        assert int(asked["X-Amz-Expires"][0]) <= end - here.now()


@pytest.mark.parametrize(
    ("service", "fails"),
    [
        *(("machine", fails) for fails in (500, "<html>", '{"Code": "Success"}', "null", 404)),
        ("container", 500),  # botocore asks this one thrice, with a second between
    ],
    ids=str,
)
def test_a_service_out_of_its_mind_stops_nothing_while_the_old_are_good(place, service, fails):
    here = place(service)
    here.seconds = 9 * 60  # in the last ten botocore itself would fail with its service
    old = here.key()
    here.service.fails = fails
    asked = here.service.asked
    here.later = 31
    here.works()
    wait_for(lambda: here.service.asked > asked)
    assert here.key() == old
    here.service.fails = None
    here.later = 4 * 60
    wait_for(lambda: here.key() != old)


def test_a_service_that_is_away_is_asked_every_half_minute_however_many_sign(place):
    here = place("machine")
    here.key()
    here.service.fails = 404
    before = here.service.asked
    for half_minute in range(1, 4):
        here.later = half_minute * 30
        for _ in range(10):
            here.key()
            wait_for(lambda: here.store._line.signers._credentials._asking is None)
        assert here.service.asked == before + half_minute


def test_credentials_that_ended_are_named_so_with_the_next_step_and_nothing_is_sent(place):
    here = place("machine")
    here.works()
    here.service.fails = 404
    here.later = 15 * 60
    acts = [
        lambda: here.store.get("a"),
        lambda: here.store.stat("a"),
        lambda: here.store.put("a", b""),
        lambda: here.store.put("b", b"", only_if=ABSENT),
        lambda: here.store.delete(["a"]),
        lambda: list(here.store.list("")),
        lambda: here.store.sign_get("a", seconds=60),
    ]
    for act in acts:
        with pytest.raises(CredentialsExpired) as caught:
            act()
        assert "metadata" in caught.value.next_step
        assert "hidden" not in str(caught.value)
    here.later = 0
    here.works()


def test_a_service_that_says_nothing_holds_nobody_for_long_who_has_none(place, monkeypatch):
    monkeypatch.setattr("s3reg.store.credentials.WAIT_SECONDS", 0.2)
    here = place()
    here.service.fails = threading.Event()

    def ask(_):
        with pytest.raises(CredentialsMissing):
            here.store.get("a")

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(64)))
    assert here.service.asked <= 3  # botocore's own tries of one question
    here.service.fails.set()
    here.service.fails = None
    here.later += 5
    wait_for(lambda: not failing(here))
    here.works()


def failing(here):
    try:
        here.key()
    except CredentialsMissing:
        here.later += 1
        return True
    return False


def test_a_store_that_says_they_have_expired_is_believed(minio, bucket):
    with http_wires.Wire(minio.endpoint) as wire:
        store = S3Store(bucket(minio), endpoint=wire.endpoint, region=minio.region)
        wire.rule = lambda _: http_wires.says(400, "ExpiredToken")
        with pytest.raises(CredentialsExpired, match="ExpiredToken"):
            store.get("a")
        with pytest.raises(CredentialsExpired):
            store.put("a", b"", only_if=ABSENT)
        wire.mend()
        store.put("a", b"")
