"""A listing is read as servers spell it, and what is no listing is never taken for an empty one."""

import pytest

from s3reg.errors import StoreDenied, StoreUnavailable
from s3reg.store.s3_list import read_page, walk

_ENTRY = (
    "<Contents><Size>3</Size><Key>{}</Key>"
    "<LastModified>2026-01-02T03:04:05.678Z</LastModified><ETag>{}</ETag></Contents>"
)


def _listing(inside, space=' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'):
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult{space}>{inside}</ListBucketResult>'.encode()


@pytest.mark.parametrize("space", ["", ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'])
@pytest.mark.parametrize("etag", ["&quot;abc-1&quot;", '"abc-1"', "abc-1"])
def test_a_page_is_read_whatever_its_namespace_and_quotes(space, etag):
    entry = _ENTRY.format("a%2Bb+c%C3%A4%25", etag)
    page = read_page(_listing(f"<EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>{entry}", space))
    (stat,) = page.stats
    assert (stat.key, stat.etag, stat.size, stat.modified) == ("a+b cä%", "abc-1", 3, 1767323045.678)
    assert page.token is None


def test_keys_are_taken_as_they_are_where_the_server_did_not_encode_them():
    (stat,) = read_page(_listing(_ENTRY.format("a%2B+&amp;", "e"))).stats
    assert stat.key == "a%2B+&"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not XML",
        _listing(_ENTRY.format("k", "e"))[:-20],
        _listing("<IsTruncated>true</IsTruncated>"),
        _listing("<Contents><Key>k</Key></Contents>"),
        b"<Error><Code>SlowDown</Code></Error>",
        b'<!DOCTYPE a [<!ENTITY b "boom">]>' + _listing("&b;"),
        _listing("<IsTruncated>false</IsTruncated>").decode().encode("utf-16"),
        b"\xff\xfe\xfd",
    ],
    ids=["empty", "text", "cut", "no token", "no fields", "error", "entities", "utf-16", "bytes"],
)
def test_what_is_no_whole_page_is_never_taken_for_an_empty_one(body):
    with pytest.raises(ValueError):
        read_page(body)


def _answers(*answers):
    """What `walk` asks, and what it is given, in turn; errors are raised."""
    left, asked = list(answers), []

    def ask(query):
        asked.append(dict(query))
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return ask, asked


def _page(key, token=None):
    more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    return _listing(_ENTRY.format(key, "e") + more)


def test_pages_follow_each_other_and_are_asked_for_when_they_are_needed():
    ask, asked = _answers(_page("p/a", "to+ken"), _page("p/b"))
    found = walk(ask, "p/", "p/0", attempts=3, store="here")
    assert next(found).key == "p/a"
    assert len(asked) == 1
    assert [item.key for item in found] == ["p/b"]
    assert asked[0] == {
        "list-type": "2",
        "encoding-type": "url",
        "max-keys": "1000",
        "prefix": "p/",
        "start-after": "p/0",
    }
    assert asked[1] == asked[0] | {"continuation-token": "to+ken"}


def test_an_empty_last_page_ends_the_listing():
    ask, _ = _answers(_page("a", "more"), _listing("<IsTruncated>false</IsTruncated>"))
    assert [item.key for item in walk(ask, "", "", attempts=3, store="here")] == ["a"]


def test_a_page_that_fails_or_is_none_is_asked_for_again_and_no_key_comes_twice():
    busy = StoreUnavailable(store="here", reason="busy")
    ask, asked = _answers(_page("a", "more"), busy, b"<html>", _page("b"))
    assert [item.key for item in walk(ask, "", "", attempts=3, store="here")] == ["a", "b"]
    assert [query.get("continuation-token") for query in asked] == [None, "more", "more", "more"]


@pytest.mark.parametrize("answer", [StoreUnavailable(store="here", reason="busy"), b"<html>"], ids=["busy", "html"])
def test_a_page_that_stays_away_ends_the_listing_with_an_error(answer):
    ask, _ = _answers(_page("a", "more"), answer, answer, answer)
    found = walk(ask, "", "", attempts=3, store="here")
    assert next(found).key == "a"
    with pytest.raises(StoreUnavailable):
        next(found)


def test_a_refusal_is_not_asked_again():
    ask, asked = _answers(StoreDenied(store="here", reason="no"))
    with pytest.raises(StoreDenied):
        next(walk(ask, "", "", attempts=3, store="here"))
    assert len(asked) == 1
