"""Our signed URLs are botocore's, byte for byte: parameter order and signature included."""

import datetime as dt
import hashlib
import threading

import botocore.auth
import botocore.awsrequest
import botocore.compat
import botocore.config
import botocore.credentials
import botocore.session
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3reg.store import signing

SHA256 = hashlib.sha256(b"the bytes").hexdigest()
NOW = 1_795_240_000.75
ACCESS, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

ENDPOINTS = [
    "https://s3.eu-west-1.amazonaws.com",
    "https://s3.example.com:9000",
    "http://s3.example.com:80",
    "https://s3.example.com:443",
    "http://s3.example.com:443",
    "http://127.0.0.1:9000",
    "http://[::1]:9000",
    "https://gateway.example.com/s3/",
]
KEYS = ["a", "packs/main/00ff/ab", "with space+plus~tilde", "ä/ö ü/漢字", "a%2Fb%20c", "(x)!*'&=?#;:@,$", "=start", "."]
KEYS += ["a+b", "a@b"]
TOKENS = [None, "plain", "IQoJb3JpZ2luX2VjE/+=="]


@pytest.fixture(scope="module", autouse=True)
def _clock_stands_still():
    """botocore asks a function of its own for the time, in two of its modules."""

    def moment(*, remove_tzinfo=True):
        here = dt.datetime.fromtimestamp(NOW, dt.UTC)
        return here.replace(tzinfo=None) if remove_tzinfo else here

    with pytest.MonkeyPatch.context() as patch:
        for module in (botocore.auth, botocore.compat):
            patch.setattr(module, "get_current_datetime", moment)
        yield


_clients = {}


def _botocore(endpoint, style, token, region):
    """A botocore client; making one is slow, so each is made once."""
    found = _clients.get((endpoint, style, token, region))
    if found is None:
        found = _clients[endpoint, style, token, region] = botocore.session.get_session().create_client(
            "s3",
            endpoint_url=endpoint,
            region_name=region,
            aws_access_key_id=ACCESS,
            aws_secret_access_key=SECRET,
            aws_session_token=token,
            config=botocore.config.Config(signature_version="s3v4", s3={"addressing_style": style}),
        )
    return found


def _ours(endpoint, style, token, region, bucket="bucket"):
    where = signing.target(endpoint, bucket, path_style=style == "path")
    return signing.Signer(signing.Credentials(ACCESS, SECRET, token), where, region)


@pytest.mark.parametrize("token", TOKENS, ids=["no-token", "plain-token", "quoted-token"])
@pytest.mark.parametrize(
    ("endpoint", "style"),
    [(e, "path") for e in ENDPOINTS] + [(e, "virtual") for e in ENDPOINTS if ".com" in e],
)
def test_signed_urls_equal_those_of_botocore(endpoint, style, token):
    theirs, ours = _botocore(endpoint, style, token, "eu-west-1"), _ours(endpoint, style, token, "eu-west-1")
    for key in KEYS:
        for seconds in (1, 3600, 604_800):
            read = theirs.generate_presigned_url(
                "get_object", Params={"Bucket": "bucket", "Key": key}, ExpiresIn=seconds
            )
            assert ours.get(key, seconds=seconds, now=NOW) == read
            assert ours.put(key, size=9, sha256=SHA256, seconds=seconds, now=NOW) == _their_put(theirs, key, 9, seconds)


@pytest.mark.parametrize("token", TOKENS)
def test_many_links_signed_together_are_those_signed_one_by_one(token):
    signer = _ours(ENDPOINTS[1], "path", token, "eu-west-1")
    for keys, seconds, now in (
        (KEYS, 60, NOW),
        (KEYS, 9, NOW),
        (KEYS, 9, NOW + 1),
        (KEYS[1:], 9, NOW + 1),
        ([], 9, NOW + 1),
    ):
        links = signer.gets(tuple(keys), seconds=seconds, now=now)
        assert [link.url for link in links] == [signer.get(key, seconds=seconds, now=now) for key in keys]
        assert {link.expires for link in links} <= {int(now) + seconds}


def test_links_asked_for_again_within_their_second_are_the_same_list():
    signer, keys = _ours(ENDPOINTS[1], "path", None, "eu-west-1"), tuple(KEYS)
    links = signer.gets(keys, seconds=60, now=int(NOW))
    assert signer.gets(tuple(KEYS), seconds=60, now=int(NOW) + 0.99) is links
    assert signer.gets(keys, seconds=60, now=int(NOW) + 1) is not links


def _their_put(client, key, size, seconds):
    headers = signing.put_headers(size, SHA256)
    params = {
        "Bucket": "bucket",
        "Key": key,
        "ContentLength": size,
        "ChecksumSHA256": headers["x-amz-checksum-sha256"],
        "IfNoneMatch": headers["If-None-Match"],
    }
    return client.generate_presigned_url("put_object", Params=params, ExpiresIn=seconds)


@settings(max_examples=200, deadline=None)
@given(
    key=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40),
    size=st.integers(0, 1 << 40),
    seconds=st.integers(1, 604_800),
    signer=st.tuples(
        st.just(ENDPOINTS[1]),
        st.sampled_from(["path", "virtual"]),
        st.sampled_from(TOKENS),
        st.sampled_from(["us-east-1", "eu-central-1", "cn-north-1"]),
    ),
)
def test_any_key_is_signed_as_botocore_signs_it(key, size, seconds, signer):
    theirs, ours = _botocore(*signer), _ours(*signer)
    read = theirs.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": key}, ExpiresIn=seconds)
    assert ours.get(key, seconds=seconds, now=NOW) == read
    assert ours.put(key, size=size, sha256=SHA256, seconds=seconds, now=NOW) == _their_put(theirs, key, size, seconds)


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("style", ["path", "virtual"])
def test_a_listing_carries_the_headers_that_botocore_would_send(style, token):
    query = {
        "list-type": "2",
        "prefix": "ä +/~",
        "max-keys": "1000",
        "encoding-type": "url",
        "continuation-token": "a/b==",
    }
    url, headers = _ours(ENDPOINTS[1], style, token, "eu-west-1").request("", query, now=NOW)
    request = botocore.awsrequest.AWSRequest(method="GET", url=url, headers={})
    credentials = botocore.credentials.Credentials(ACCESS, SECRET, token)
    botocore.auth.S3SigV4Auth(credentials, "s3", "eu-west-1").add_auth(request)
    theirs = {name.lower(): value for name, value in request.headers.items()}
    assert theirs == {name: value for name, value in headers.items() if name != "host"}


def test_the_key_of_a_day_is_not_used_on_the_next():
    signer = _ours(ENDPOINTS[1], "path", None, "eu-west-1")
    today = signer.get("k", seconds=60, now=NOW)
    tomorrow = signer.get("k", seconds=60, now=NOW + 86_400)
    fresh = _ours(ENDPOINTS[1], "path", None, "eu-west-1")
    assert tomorrow == fresh.get("k", seconds=60, now=NOW + 86_400) != today
    assert signer.get("k", seconds=60, now=NOW) == today


def test_threads_that_cross_midnight_together_sign_alike():
    midnight = (int(NOW) // 86_400 + 1) * 86_400
    moments = [midnight + (i % 2) - 1 for i in range(400)]
    expected = {
        moment: _ours(ENDPOINTS[1], "path", None, "eu-west-1").get("k", seconds=60, now=moment)
        for moment in set(moments)
    }
    signer, wrong = _ours(ENDPOINTS[1], "path", None, "eu-west-1"), []

    def sign():
        wrong.extend(m for m in moments if signer.get("k", seconds=60, now=m) != expected[m])

    threads = [threading.Thread(target=sign) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_url_ends_a_minute_before_its_credentials():
    assert signing.lifetime(3600, now=NOW, credentials_end=None) == 3600
    assert signing.lifetime(3600, now=NOW, credentials_end=NOW + 7200) == 3600
    assert signing.lifetime(3600, now=NOW, credentials_end=NOW + 600) == 540
    assert signing.lifetime(3600, now=NOW, credentials_end=NOW + 59) == 0
    assert signing.lifetime(3600, now=NOW, credentials_end=NOW - 5) == 0


def test_a_url_asks_for_no_more_than_seven_days():
    assert signing.lifetime(10**9, now=NOW, credentials_end=None) == 604_800


def test_credentials_do_not_show_their_secrets():
    shown = repr(signing.Credentials(ACCESS, SECRET, "token-text"))
    assert SECRET not in shown
    assert "token-text" not in shown
