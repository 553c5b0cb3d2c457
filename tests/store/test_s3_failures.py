"""Whatever can be wrong with a store, said by name, on a real MinIO; and no secret in what is said."""

import contextlib
import datetime as dt
import hashlib
import time
import traceback

import botocore.auth
import pytest

import http_wires
import servers
import wires
from s3reg.errors import (
    BucketMissing,
    CredentialsMissing,
    ObjectNotFound,
    PreconditionFailed,
    PutUnsettled,
    RegionWrong,
    SettingInvalid,
    StoreClockWrong,
    StoreDenied,
    StoreUnavailable,
)
from s3reg.store import ABSENT, Match
from s3reg.store.s3 import S3Store

VERBS = {
    "get": lambda store: store.get("a"),
    "range": lambda store: store.get("a", first=-1),
    "stat": lambda store: store.stat("a"),
    "put": lambda store: store.put("a", b"new"),
    "create": lambda store: store.put("b", b"new", only_if=ABSENT),
    "replace": lambda store: store.put("a", b"new", only_if=Match("0" * 32)),
    "delete": lambda store: store.delete(["a"]),
    "list": lambda store: list(store.list("")),
}
every_verb = pytest.mark.parametrize("act", VERBS.values(), ids=VERBS.keys())


@pytest.fixture(scope="module")
def abroad(tmp_path_factory):
    """A MinIO in another region than the usual one."""
    with servers.minio(tmp_path_factory.mktemp("abroad"), MINIO_SITE_REGION="eu-west-1") as server:
        if not server.ours:
            pytest.skip("its region is its own")
        yield server


@contextlib.contextmanager
def raises(kind, *secrets):
    """As pytest.raises, and neither the error nor the traceback with its causes holds a secret or a signature."""
    with pytest.raises(kind) as caught:
        yield caught
    assert caught.type is kind
    shown = "".join(traceback.format_exception(caught.value)) + str(caught.value.as_dict())
    for secret in (servers.credentials()[1], "X-Amz-Signature", "Signature=", *secrets):
        assert secret not in shown


@every_verb
def test_a_wrong_key_is_denied(minio, bucket, monkeypatch, act):
    name = bucket(minio)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody-we-know")
    with raises(StoreDenied) as caught:
        act(S3Store(name, endpoint=minio.endpoint, region=minio.region))
    assert "AWS_ACCESS_KEY_ID" in caught.value.next_step


@every_verb
def test_a_wrong_secret_is_denied(minio, bucket, monkeypatch, act):
    name = bucket(minio)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-right-one")
    with raises(StoreDenied, "not-the-right-one"):
        act(S3Store(name, endpoint=minio.endpoint, region=minio.region))


@every_verb
def test_no_credentials_at_all_are_denied_before_anything_is_sent(monkeypatch, act):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with raises(CredentialsMissing) as caught:
        act(S3Store("bucket", endpoint="http://127.0.0.1:1"))
    assert "none were found" in str(caught.value)


def test_no_link_is_signed_without_credentials(monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    store = S3Store("bucket", endpoint="http://127.0.0.1:1")
    with raises(CredentialsMissing):
        store.sign_get("a", seconds=60)
    with raises(CredentialsMissing):
        store.sign_put("a", size=0, sha256="0" * 64, seconds=60)


@every_verb
def test_a_profile_that_does_not_exist_is_denied(monkeypatch, act):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with raises(CredentialsMissing) as caught:
        act(S3Store("bucket", endpoint="http://127.0.0.1:1"))
    assert "AWS_PROFILE" in str(caught.value)


@every_verb
def test_a_missing_bucket_is_named(minio, act):
    with raises(BucketMissing) as caught:
        act(S3Store("s3reg-nobody-made-this-one", endpoint=minio.endpoint, region=minio.region))
    assert "s3reg-nobody-made-this-one" in str(caught.value)


@every_verb
def test_a_wrong_region_is_named_and_the_right_one_told(abroad, bucket, act):
    with raises(RegionWrong) as caught:
        act(S3Store(bucket(abroad), endpoint=abroad.endpoint, region="ap-south-1"))
    if act not in {VERBS["stat"], VERBS["delete"]}:  # MinIO answers to these without a word on its region
        assert str(caught.value).endswith("is not in region 'ap-south-1'; it says eu-west-1")


def test_the_region_comes_from_the_environment(abroad, bucket, monkeypatch):
    name = bucket(abroad)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    store = S3Store(name, endpoint=abroad.endpoint)
    store.put("a", b"x")
    assert [item.key for item in store.list("")] == ["a"]
    assert "eu-west-1" in store.sign_get("a", seconds=60).url


@every_verb
def test_a_store_that_is_not_there_is_unavailable_and_no_put_is_in_doubt(act):
    store = S3Store("bucket", endpoint=f"http://127.0.0.1:{servers.free_port()}")
    with raises(StoreUnavailable):
        act(store)


def test_a_conditional_put_without_an_answer_is_unsettled():
    with wires.silent_port() as endpoint:
        store = S3Store("bucket", endpoint=endpoint, read_seconds=0.2)
        for condition in (ABSENT, Match("0" * 32)):
            with raises(PutUnsettled):
                store.put("a", b"new", only_if=condition)


@pytest.mark.parametrize("name", ["get", "stat", "put", "list", "delete"])
def test_what_may_be_repeated_ends_as_unavailable(name):
    with wires.silent_port() as endpoint, raises(StoreUnavailable):
        VERBS[name](S3Store("bucket", endpoint=endpoint, read_seconds=0.2))


@pytest.mark.parametrize("condition", ["create", "replace"])
def test_a_put_that_landed_and_whose_answer_was_lost_is_unsettled_and_not_refused(minio, bucket, condition):
    name = bucket(minio)
    straight = S3Store(name, endpoint=minio.endpoint, region=minio.region)
    only_if = ABSENT if condition == "create" else Match(straight.put("a", b"old"))
    with wires.Proxy(minio.endpoint, loses=lambda data: data.startswith(b"PUT")) as proxy:
        store = S3Store(name, endpoint=proxy.endpoint, region=minio.region)
        with raises(PutUnsettled):
            store.put("a", b"new", only_if=only_if)
        assert proxy.lost == 1
    assert straight.get("a").data == b"new"


@pytest.mark.parametrize("status", [500, 520, 524])
def test_a_put_that_landed_and_of_which_a_proxy_says_no_status_of_s3s_is_unsettled(minio, bucket, status):
    name = bucket(minio)
    with http_wires.Wire(minio.endpoint) as wire:
        wire.rule = lambda _: http_wires.done_but(status)
        with raises(PutUnsettled):
            S3Store(name, endpoint=wire.endpoint, region=minio.region).put("a", b"new", only_if=ABSENT)
    assert S3Store(name, endpoint=minio.endpoint, region=minio.region).get("a").data == b"new"


def test_reads_and_unconditional_puts_survive_a_lost_answer(minio, bucket):
    lost = {b"GET": False, b"PUT": False, b"HEAD": False, b"POST": False}

    def once_each(data):
        method = data.split(b" ", 1)[0]
        first = lost.get(method) is False
        lost[method] = True
        return first

    with wires.Proxy(minio.endpoint, loses=once_each) as proxy:
        store = S3Store(bucket(minio), endpoint=proxy.endpoint, region=minio.region)
        store.put("a", b"new")
        assert store.get("a").data == b"new"
        assert store.stat("a").size == 3
        lost[b"GET"] = False
        assert [item.key for item in store.list("")] == ["a"]
        store.delete(["a"])
        assert proxy.lost == 5
        with pytest.raises(ObjectNotFound):
            store.get("a")


def test_a_body_that_ends_too_early_is_read_again(minio, bucket):
    name, data = bucket(minio), bytes(8 << 20)
    S3Store(name, endpoint=minio.endpoint, region=minio.region).put("a", data)
    with wires.Proxy(minio.endpoint, cuts_after=1 << 20) as proxy:
        store = S3Store(name, endpoint=proxy.endpoint, region=minio.region)
        assert store.get("a").data == data
        assert proxy.lost == 1


def test_a_body_that_always_ends_too_early_is_unavailable(minio, bucket):
    name = bucket(minio)
    S3Store(name, endpoint=minio.endpoint, region=minio.region).put("a", bytes(8 << 20))
    with wires.Proxy(minio.endpoint, cuts_after=1 << 20, cuts=100) as proxy, raises(StoreUnavailable):
        S3Store(name, endpoint=proxy.endpoint, region=minio.region).get("a")


def test_a_refused_precondition_says_so_and_nothing_else(minio, bucket):
    store = S3Store(bucket(minio), endpoint=minio.endpoint, region=minio.region)
    store.put("a", b"old")
    with raises(PreconditionFailed):
        store.put("a", b"new", only_if=ABSENT)
    with raises(PreconditionFailed):
        store.put("a", b"new", only_if=Match(hashlib.md5(b"other").hexdigest()))
    with raises(PreconditionFailed):
        store.put("b", b"new", only_if=Match(hashlib.md5(b"old").hexdigest()))


@pytest.mark.parametrize(
    "settings",
    [
        {"bucket": "no/bucket"},
        {"bucket": ""},
        {"bucket": "bucket", "endpoint": "s3.example.com:9000"},
        {"bucket": "bucket", "endpoint": "ftp://s3.example.com"},
        {"bucket": "bucket", "endpoint": "https://s3.example.com:port"},
        {"bucket": "bucket", "endpoint": "https://key:hidden@s3.example.com"},
        {"bucket": "bucket", "signing_endpoint": "https://key:hidden@s3.example.com"},
        {"bucket": "bucket", "ca_bundle": "there-is-no-such-file.pem"},
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused_at_once_without_telling_a_credential(settings):
    with raises(SettingInvalid, "hidden"):
        S3Store(**settings)


@pytest.mark.parametrize("verb", VERBS)
def test_a_page_that_somebody_on_the_way_answers_with_is_no_answer(minio, bucket, verb):
    """A portal, or a proxy that is not set up, says 200 to all."""
    name = bucket(minio)
    with http_wires.Wire(minio.endpoint) as wire:
        wire.rule = lambda _: http_wires.page
        with raises(PutUnsettled if verb in {"create", "replace"} else StoreUnavailable):
            VERBS[verb](S3Store(name, endpoint=wire.endpoint, region=minio.region))
        assert wire.passed


@every_verb
@pytest.mark.parametrize("minutes", [20, -20])
def test_a_clock_that_is_wrong_is_named_by_every_verb(minio, bucket, monkeypatch, act, minutes):
    name, wrong = bucket(minio), dt.timedelta(minutes=minutes)
    right = botocore.auth.get_current_datetime
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda *a, **k: right(*a, **k) + wrong)
    ours = time.time() + wrong.total_seconds()
    store = S3Store(name, endpoint=minio.endpoint, region=minio.region, clock=lambda: ours)
    with raises(StoreClockWrong) as caught:
        act(store)
    assert "clock" in caught.value.next_step


def test_a_refusal_without_a_word_is_no_wrong_clock_where_the_clocks_agree(minio, bucket, monkeypatch):
    """That of a HEAD has none."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-right-one")
    with raises(StoreDenied):
        S3Store(bucket(minio), endpoint=minio.endpoint, region=minio.region).stat("a")
