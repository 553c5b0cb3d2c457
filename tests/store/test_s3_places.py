"""Where a bucket may be: in the path or the host name, below a prefix, behind TLS, a proxy or another address for links."""

import datetime as dt
import json
import os
import subprocess
import sys
import time
import warnings
from urllib.parse import parse_qsl, urlsplit

import pytest
import urllib3

import servers
import wires
from s3reg.errors import CredentialsExpired, KeyInvalid, StoreDenied, StoreUnavailable
from s3reg.store import ABSENT, Match
from s3reg.store.s3 import S3Store

_FORKING = """
import os, sys
from s3reg.store import ABSENT
from s3reg.store.s3 import S3Store
store = S3Store(sys.argv[1], endpoint=sys.argv[2], region=sys.argv[3])
for name in ("parent", "0", "1"):
    store.put(name, name.encode() * 1000, only_if=ABSENT)

def work(name):
    for number in range(50):
        # These are never repeated: an answer that another process took would show.
        etag = store.put(f"by-{name}/{number}", name.encode(), only_if=ABSENT)
        found = store.get(f"by-{name}/{number}")
        assert (found.data, found.stat.etag) == (name.encode(), etag)
        assert store.get(name).data == name.encode() * 1000
        assert [item.key for item in store.list(name)] == [name]

children = []
for name in ("0", "1"):
    child = os.fork()
    if not child:
        try:
            work(name)
        except BaseException:
            os._exit(1)
        os._exit(0)
    children.append(child)
work("parent")
sys.exit(max(os.waitpid(child, 0)[1] for child in children))
"""


def _works(store):
    """Every verb, once."""
    etag = store.put("dir/a", b"first", only_if=ABSENT)
    etag = store.put("dir/a", b"second", only_if=Match(etag))
    assert store.get("dir/a", first=-3).data == b"ond"
    assert store.stat("dir/a").etag == etag
    assert [(item.key, item.etag) for item in store.list("dir/")] == [("dir/a", etag)]
    assert [item.key for item in store.list("", after="dir/a")] == []
    store.delete(["dir/a"])
    assert list(store.list("")) == []


@pytest.fixture(scope="module")
def domain(tmp_path_factory):
    """A MinIO that knows buckets by host name."""
    with servers.minio(tmp_path_factory.mktemp("domain"), MINIO_DOMAIN="minio.test") as server:
        if not server.ours:
            pytest.skip("its names are its own")
        yield server


def test_s15_a_bucket_in_the_path_is_the_default_at_an_endpoint(minio, bucket):
    name = bucket(minio)
    store = S3Store(name, endpoint=f"{minio.endpoint}/", region=minio.region)
    _works(store)
    assert urlsplit(store.sign_get("k", seconds=60).url).path == f"/{name}/k"


def test_a_bucket_in_the_host_name_works_through_the_proxy_that_the_environment_names(domain, bucket, monkeypatch):
    # No name server knows minio.test: a server that is asked like a proxy is told the name in the request.
    monkeypatch.setenv("http_proxy", domain.endpoint)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    name = bucket(domain)
    store = S3Store(name, endpoint="http://minio.test", path_style=False)
    _works(store)
    store.put("k", b"linked")
    link = store.sign_get("k", seconds=60)
    assert link.url.startswith(f"http://{name}.minio.test/k?")
    with urllib3.ProxyManager(domain.endpoint) as http:
        assert http.request("GET", link.url).data == b"linked"


def test_without_an_endpoint_it_is_aws_in_the_region_asked_for():
    store = S3Store("bucket", region="eu-central-1")
    assert store.sign_get("k", seconds=60).url.startswith("https://bucket.s3.eu-central-1.amazonaws.com/k?")
    store = S3Store("bucket", region="us-east-1", path_style=True)
    assert store.sign_get("k", seconds=60).url.startswith("https://s3.us-east-1.amazonaws.com/bucket/k?")


def test_a_bucket_with_dots_is_never_in_the_host_name_where_no_certificate_would_fit():
    store = S3Store("my.bucket", region="eu-central-1")
    assert store.sign_get("k", seconds=60).url.startswith("https://s3.eu-central-1.amazonaws.com/my.bucket/k?")


def test_an_endpoint_of_the_environment_counts(minio, bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", minio.endpoint)
    _works(S3Store(bucket(minio), region=minio.region))


@pytest.mark.parametrize("prefix", ["one", "two/levels", "/with/slashes/"])
def test_stores_below_a_prefix_do_not_see_what_is_beside_it(minio, bucket, prefix):
    name = bucket(minio)
    root = S3Store(name, endpoint=minio.endpoint, region=minio.region)
    store = S3Store(name, prefix=prefix, endpoint=minio.endpoint, region=minio.region)
    beside = f"{prefix.strip('/')}-beside/x"
    root.put(beside, b"not yours")
    _works(store)
    store.put("k", b"below")
    assert root.get(f"{prefix.strip('/')}/k").data == b"below"
    assert prefix.strip("/") + "/k?" in store.sign_get("k", seconds=60).url
    store.delete([item.key for item in store.list("")])
    assert [item.key for item in root.list("")] == [beside]


def test_a_prefix_is_a_key():
    with pytest.raises(KeyInvalid):
        S3Store("bucket", prefix="a/../b")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "s3://bucket"),
        ({"prefix": "a/b/"}, "s3://bucket/a/b"),
        ({"endpoint": "https://S3.Example.com:443/"}, "s3://bucket at https://s3.example.com"),
        ({"endpoint": "http://[::1]:9000", "prefix": "a"}, "s3://bucket/a at http://[::1]:9000"),
    ],
    ids=str,
)
def test_it_says_where_it_is_in_one_spelling(settings, expected):
    store = S3Store("bucket", **settings)
    assert store.location == store.made_as == expected


def test_links_carry_the_address_that_nodes_use(minio, bucket):
    with wires.Proxy(minio.endpoint) as proxy:
        store = S3Store(bucket(minio), endpoint=proxy.endpoint, signing_endpoint=minio.endpoint, region=minio.region)
        _works(store)
        store.put("k", b"linked")
        link = store.sign_get("k", seconds=60)
    assert link.url.startswith(f"{minio.endpoint}/")
    with urllib3.PoolManager() as http:
        assert http.request("GET", link.url).data == b"linked"


def test_s15_s27_a_certificate_is_trusted_by_its_own_ca_only(minio, bucket, tmp_path):
    context, ca_file = wires.certificate(tmp_path)
    name = bucket(minio)
    with wires.Proxy(minio.endpoint, tls=context) as proxy:
        _works(S3Store(name, endpoint=proxy.endpoint, region=minio.region, ca_bundle=str(ca_file)))
        stranger = S3Store(name, endpoint=proxy.endpoint, region=minio.region)
        for act in (
            lambda: stranger.get("k"),
            lambda: stranger.put("k", b"", only_if=ABSENT),
            lambda: list(stranger.list("")),
        ):
            with pytest.raises(StoreUnavailable, match="certificate is not trusted"):
                act()


def test_s15_certificates_need_not_be_verified_where_somebody_says_so(minio, bucket, tmp_path):
    context, _ = wires.certificate(tmp_path)
    with wires.Proxy(minio.endpoint, tls=context) as proxy, warnings.catch_warnings():
        warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)
        _works(S3Store(bucket(minio), endpoint=proxy.endpoint, region=minio.region, verify=False))


def test_the_ca_bundle_of_the_environment_counts(minio, bucket, tmp_path, monkeypatch):
    context, ca_file = wires.certificate(tmp_path)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(ca_file))
    with wires.Proxy(minio.endpoint, tls=context) as proxy:
        _works(S3Store(bucket(minio), endpoint=proxy.endpoint, region=minio.region))


def test_a_forked_process_does_not_get_its_parents_answers(minio, bucket):
    done = subprocess.run(
        [sys.executable, "-c", _FORKING, bucket(minio), minio.endpoint, minio.region],
        env={**os.environ, **minio.environment()},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0


# --- Credentials that end --------------------------------------------------------------------------------------------


@pytest.fixture
def session_credentials(tmp_path, monkeypatch):
    """`session_credentials(seconds)`: boto3's chain gives a session that ends so soon, through a program of the profile."""

    def begin(seconds):
        end = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
        given = {"Version": 1, "AccessKeyId": "SESSION", "SecretAccessKey": "hidden", "SessionToken": "hidden-too"}
        (tmp_path / "given.json").write_text(json.dumps({**given, "Expiration": end.isoformat()}))
        (tmp_path / "config").write_text(f"[default]\ncredential_process = /bin/cat {tmp_path / 'given.json'}\n")
        return end.timestamp()

    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    return begin


def test_a_link_does_not_outlive_the_credentials_that_signed_it(session_credentials):
    end = session_credentials(20 * 60)
    store = S3Store("bucket", endpoint="http://127.0.0.1:1")
    for link in (store.sign_get("k", seconds=3600), store.sign_put("k", size=0, sha256="0" * 64, seconds=3600)):
        assert end - 62 <= link.expires <= end - 60
        asked = dict(parse_qsl(urlsplit(link.url).query))
        signed = dt.datetime.strptime(asked["X-Amz-Date"], "%Y%m%dT%H%M%S%z").timestamp()
        assert signed + int(asked["X-Amz-Expires"]) == link.expires
        assert "X-Amz-Security-Token=hidden-too" in link.url
    assert store.sign_get("k", seconds=60).expires <= time.time() + 60


def test_credentials_about_to_end_are_replaced_by_fresh_ones(session_credentials):
    later = 0
    session_credentials(5 * 60)
    store = S3Store("bucket", endpoint="http://127.0.0.1:1", clock=lambda: time.time() + later)
    assert store.sign_get("k", seconds=3600).expires < time.time() + 5 * 60
    end = session_credentials(3600)
    later = 4.5 * 60  # too late for a link of the old ones
    assert end - 62 <= store.sign_get("k", seconds=7200).expires <= end - 60


def test_nothing_is_signed_with_credentials_that_end_within_a_minute(session_credentials):
    session_credentials(50)
    with pytest.raises(StoreDenied, match="end within a minute"):
        S3Store("bucket", endpoint="http://127.0.0.1:1").sign_get("k", seconds=3600)


def test_fresh_credentials_that_are_expired_already_are_no_credentials(session_credentials):
    later = 0
    session_credentials(300)
    store = S3Store("bucket", endpoint="http://127.0.0.1:1", clock=lambda: time.time() + later)
    store.sign_get("k", seconds=60)
    session_credentials(-300)
    later = 301
    with pytest.raises(CredentialsExpired):
        store.sign_get("k", seconds=60)
