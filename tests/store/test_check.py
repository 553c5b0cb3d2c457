"""`store check` believes what it saw: MinIO keeps all, moto and stores that are bad on purpose are caught by name."""

import dataclasses

import pytest

import faults
import wires
from s3reg.errors import (
    BucketMissing,
    ObjectNotFound,
    PreconditionFailed,
    StoreDenied,
    StoreUnavailable,
    StoreUnsuitable,
)
from s3reg.store import ABSENT, Match, Object
from s3reg.store.check import MANY, PREFIX, check, over_http, require
from s3reg.store.files import FilesStore
from s3reg.store.s3 import S3Store

QUICK = {"many": 30, "rounds": 5}


@pytest.fixture
def files(tmp_path):
    return FilesStore(tmp_path / "store", secret=b"s" * 32)


def _broken(found):
    return {promise.name for promise in found if not promise.kept and not promise.advice}


def kept(store, **how):
    """What was found of a store that keeps all it must."""
    found = check(store, **how)
    require(found, store)
    return found


def test_minio_keeps_every_promise_and_nothing_stays_behind(minio, bucket):
    store = S3Store(bucket(minio), prefix="below", endpoint=minio.endpoint, region=minio.region)
    store.put("heads/a.json", b"mine")
    found = kept(store)
    assert _broken(found) == set()
    assert len(found) == 16
    assert [item.key for item in store.list("")] == ["heads/a.json"]


def test_what_moto_does_not_check_is_named(moto, bucket):
    store = S3Store(bucket(moto), endpoint=moto.endpoint)
    with pytest.raises(StoreUnsuitable) as caught:
        kept(store, **QUICK)
    for name in ("signed GET, altered", "signed GET, expired", "signed PUT, wrong bytes", "signed PUT, missing header"):
        assert name in str(caught.value)
    assert list(store.list("")) == []


def test_a_directory_keeps_every_promise_and_its_links_are_tried_only_with_an_opener(files):
    found = kept(files, **QUICK)
    assert _broken(found) == set()
    (links,) = [promise for promise in found if promise.name == "signed links"]
    assert "not tried" in links.reason
    assert list(files.list("")) == []


def test_links_that_begin_with_a_slash_go_to_the_opener(files):
    asked = []

    def refuses(method, url, headers, body):
        asked.append(url)
        return 403, {}, b""

    assert "signed GET" in _broken(check(files, opener=refuses, **QUICK))
    assert asked
    assert all(url.startswith("/") for url in asked)


def test_an_address_that_no_node_can_reach_is_told_without_the_link(minio, bucket):
    store = S3Store(bucket(minio), endpoint=minio.endpoint, signing_endpoint="http://127.0.0.1:1", region=minio.region)
    found = check(store, **QUICK)
    assert {name for name in _broken(found) if not name.startswith("signed")} == set()
    (read,) = [promise for promise in found if promise.name == "signed GET"]
    assert "does not answer" in read.reason
    assert "Signature" not in str(found)


class _BelievesEveryEtag(faults.Wrapped):
    def put(self, key, data, *, only_if=None):
        return super().put(key, data, only_if=None if isinstance(only_if, Match) else only_if)


class _ReplacesWhatIsThere(faults.Wrapped):
    def put(self, key, data, *, only_if=None):
        return super().put(key, data, only_if=None if only_if == ABSENT else only_if)


class _LooksBeforeItWrites(faults.Wrapped):
    """Preconditions are checked, but not in one step with the write."""

    def put(self, key, data, *, only_if=None):
        try:
            there = self.stat(key).etag
        except ObjectNotFound:
            there = None
        if only_if is not None and there != getattr(only_if, "etag", None):
            raise PreconditionFailed(key=key)
        return super().put(key, data)


class _MakesWhatIsAbsent(faults.Wrapped):
    def put(self, key, data, *, only_if=None):
        absent = isinstance(only_if, Match) and key not in {item.key for item in self.list(key)}
        return super().put(key, data, only_if=None if absent else only_if)


class _ListsTheFirstPageOnly(faults.Wrapped):
    def list(self, prefix, *, after=""):
        for number, item in enumerate(super().list(prefix, after=after)):
            if number == 20:
                return
            yield item


class _ListsInTheOrderOfWords(faults.Wrapped):
    def list(self, prefix, *, after=""):
        yield from sorted(super().list(prefix, after=after), key=lambda item: item.key.lower())


class _SkipsWhereStretchesMeet(faults.Wrapped):
    def relist(self, prefix, before=None):
        found = super().relist(prefix, before)
        return dataclasses.replace(found, stats=found.stats[1:]) if before else found


class _SendsAll(faults.Wrapped):
    def get(self, key, *, first=0, length=None):
        return super().get(key)


class _ShowsAnOldListing(faults.Wrapped):
    def delete(self, keys):
        super().delete(key for key in keys if "/seen/" not in key)


class _HasNoSize(faults.Wrapped):
    def get(self, key, *, first=0, length=None):
        found = super().get(key, first=first, length=length)
        return Object(found.data, dataclasses.replace(found.stat, size=len(found.data)))


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (_BelievesEveryEtag, {"put if unchanged", "put if unchanged, on an absent key", "put if unchanged, raced"}),
        (_ReplacesWhatIsThere, {"create-only put", "create-only put, raced"}),
        (_LooksBeforeItWrites, {"create-only put, raced", "put if unchanged, raced"}),
        (_MakesWhatIsAbsent, {"put if unchanged, on an absent key"}),
        (_ListsTheFirstPageOnly, {"listing in order, beyond a page"}),
        (_ListsInTheOrderOfWords, {"listing in order, beyond a page"}),
        (_SkipsWhereStretchesMeet, {"listing in order, beyond a page"}),
        (_SendsAll, {"ranges"}),
        (_HasNoSize, {"ranges"}),
        (_ShowsAnOldListing, {"read, list and delete seen at once"}),
    ],
)
def test_a_store_that_breaks_a_promise_is_caught_by_its_name(files, bad, named):
    assert _broken(check(bad(files), **QUICK)) == named
    with pytest.raises(StoreUnsuitable) as caught:
        kept(bad(files), **QUICK)
    assert all(name in str(caught.value) for name in named)


def test_more_keys_are_listed_than_a_server_gives_at_once():
    assert MANY > 1000


def test_what_a_killed_check_left_goes_with_the_next_one_but_not_what_is_fresh(files):
    class Aged(faults.Wrapped):
        def list(self, prefix, *, after=""):
            for item in super().list(prefix, after=after):
                old = 90_000 if item.key.startswith(f"{PREFIX}old") else 0
                yield dataclasses.replace(item, modified=item.modified - old)

    files.put(f"{PREFIX}old/x", b"")
    files.put(f"{PREFIX}now/x", b"")
    check(Aged(files), **QUICK)
    assert [item.key for item in files.list("")] == [f"{PREFIX}now/x"]


def test_a_store_that_cannot_be_used_at_all_is_no_finding(minio, monkeypatch):
    with pytest.raises(StoreUnavailable):
        check(S3Store("bucket", endpoint="http://127.0.0.1:1"), **QUICK)
    with pytest.raises(BucketMissing):
        check(S3Store("s3reg-nobody-made-this-one", endpoint=minio.endpoint, region=minio.region), **QUICK)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-right-one")
    with pytest.raises(StoreDenied):
        check(S3Store("bucket", endpoint=minio.endpoint, region=minio.region), **QUICK)


def test_an_opener_takes_its_own_certificates(tmp_path, minio, bucket):
    context, ca_file = wires.certificate(tmp_path)
    with wires.Proxy(minio.endpoint, tls=context) as proxy:
        store = S3Store(bucket(minio), endpoint=proxy.endpoint, region=minio.region, ca_bundle=str(ca_file))
        assert _broken(check(store, opener=over_http(ca_bundle=str(ca_file)), **QUICK)) == set()


# --- Settings of a bucket --------------------------------------------------------------------------------------------


def _advice(store):
    return [promise.reason for promise in check(store, **QUICK) if promise.advice]


def test_versioning_is_told_and_is_no_reason_to_refuse(minio, bucket):
    name = bucket(minio)
    minio.client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    store = S3Store(name, endpoint=minio.endpoint, region=minio.region)
    (told,) = _advice(store)
    assert told.startswith("versioning is on")
    kept(store, **QUICK)


def test_object_lock_is_told(minio, bucket):
    name = bucket(minio, ObjectLockEnabledForBucket=True)
    told = _advice(S3Store(name, endpoint=minio.endpoint, region=minio.region))
    assert [text.split(":")[0] for text in told] == [
        "versioning is on",
        "Object Lock is on, without a default retention",
    ]


@pytest.mark.parametrize(
    ("rule", "prefix", "told"),
    [
        ({"Filter": {"Prefix": ""}, "Expiration": {"Days": 30}}, "", True),
        ({"Filter": {"Prefix": "packs/"}, "Expiration": {"Days": 30}}, "", True),
        ({"Filter": {"Prefix": "vms/packs/"}, "Expiration": {"Days": 30}}, "vms", True),
        ({"Filter": {"Prefix": "vms"}, "Expiration": {"Days": 30}}, "vms", True),
        ({"Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 30}}, "vms", False),
        ({"Filter": {"Tag": {"Key": "a", "Value": "b"}}, "Expiration": {"Days": 30}}, "", False),
        ({"Filter": {"Prefix": ""}, "Expiration": {"Days": 30}, "Status": "Disabled"}, "", False),
        ({"Filter": {"Prefix": ""}, "NoncurrentVersionExpiration": {"NoncurrentDays": 1}}, "", False),
    ],
    ids=str,
)
def test_lifecycle_rules_are_told_that_would_delete_what_is_ours(minio, bucket, rule, prefix, told):
    name = bucket(minio)
    rules = [{"ID": "tidy", "Status": "Enabled", **rule}]
    minio.client.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": rules})
    store = S3Store(name, prefix=prefix, endpoint=minio.endpoint, region=minio.region)
    found = store.settings_that_hurt()
    assert [text.split(" deletes")[0] for text in found] == (["lifecycle rule 'tidy'"] if told else [])
