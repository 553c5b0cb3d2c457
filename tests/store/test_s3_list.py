"""A listing is read as servers spell it, and what is no listing is never taken for an empty one."""

from html import escape
from urllib.parse import quote_plus

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from s3reg.errors import StoreDenied, StoreUnavailable
from s3reg.store.repeats import Repeats
from s3reg.store.s3_list import Bucket, read_page

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


def walk(ask, prefix, after):
    return Bucket(ask, "", repeats=Repeats(sleep=lambda _: None), store="here").walk(prefix, after)


def _page(key, token=None):
    more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    return _listing(_ENTRY.format(key, "e") + more)


def test_pages_follow_each_other_and_are_asked_for_when_they_are_needed():
    ask, asked = _answers(_page("p/a", "to+ken"), _page("p/b"))
    found = walk(ask, "p/", "p/0")
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
    assert [item.key for item in walk(ask, "", "")] == ["a"]


def test_a_page_that_fails_or_is_none_is_asked_for_again_and_no_key_comes_twice():
    busy = StoreUnavailable(store="here", reason="busy")
    ask, asked = _answers(_page("a", "more"), busy, b"<html>", _page("b"))
    assert [item.key for item in walk(ask, "", "")] == ["a", "b"]
    assert [query.get("continuation-token") for query in asked] == [None, "more", "more", "more"]


@pytest.mark.parametrize("answer", [StoreUnavailable(store="here", reason="busy"), b"<html>"], ids=["busy", "html"])
def test_a_page_that_stays_away_ends_the_listing_with_an_error(answer):
    ask, _ = _answers(_page("a", "more"), answer, answer, answer)
    found = walk(ask, "", "")
    assert next(found).key == "a"
    with pytest.raises(StoreUnavailable):
        next(found)


def test_a_refusal_is_not_asked_again():
    ask, asked = _answers(StoreDenied(store="here", reason="no"))
    with pytest.raises(StoreDenied):
        next(walk(ask, "", ""))
    assert len(asked) == 1


# --- A listing that is asked for again -------------------------------------------------------------------------------


class Server:
    """A bucket that answers ListObjectsV2 as AWS does: as many keys as are asked for, or fewer; no token comes twice."""

    def __init__(self, objects=()):
        self.objects = dict(objects)
        self.most = 1000
        self.asked = []

    def __call__(self, query):
        self.asked.append(query)
        after = max(query.get("start-after", ""), query.get("continuation-token", "").partition("!")[0])
        found = sorted(key for key in self.objects if key.startswith(query["prefix"]) and key > after)
        given = found[: min(int(query["max-keys"]), self.most)]
        entries = "".join(_ENTRY.format(quote_plus(key, safe="/"), escape(self.objects[key])) for key in given)
        more = len(given) < len(found)
        token = f"<NextContinuationToken>{given[-1]}!{len(self.asked)}</NextContinuationToken>" if more else ""
        truncated = f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        return _listing(f"<EncodingType>url</EncodingType>{truncated}{token}{entries}")

    def rounds(self):
        """How many requests there were since this was asked."""
        count = len(self.asked)
        self.asked.clear()
        return count


PAGE = 20


def bucket(server, root=""):
    return Bucket(server, root, repeats=Repeats(attempts=1), store="here", page=PAGE)


def told(listing):
    return [(stat.key, stat.etag) for stat in listing.stats]


def full(count):
    return {f"heads/{number:04}": "e" for number in range(count)}


@pytest.mark.parametrize(("count", "requests"), [(0, 1), (1, 1), (18, 1), (19, 2), (180, 10), (1000, 56)])
def test_a_listing_is_asked_for_again_in_as_many_requests_as_it_has_pages_and_read_only_where_it_changed(
    count, requests
):
    server = Server(full(count))
    listing = bucket(server).again("heads/", None)
    listing = bucket(server).again("heads/", listing)
    server.rounds()

    again = bucket(server).again("heads/", listing)

    assert server.rounds() == requests
    assert told(again) == sorted(server.objects.items())
    assert again.stats is listing.stats
    if count:
        server.objects["heads/0000"] = "f"
        changed = bucket(server).again("heads/", again)
        assert server.rounds() == requests
        assert told(changed) == sorted(server.objects.items())
        assert all(one is other for one, other in zip(changed.stats[18:], again.stats[18:], strict=True))


def test_keys_before_between_and_behind_all_others_are_listed_again_too():
    server = Server(full(100))
    listing = bucket(server).again("heads/", None)
    for key in ("heads/.DS_Store", "heads/A", "heads/0050x", "heads/z", "heads/~"):
        server.objects[key] = "e"
        listing = bucket(server).again("heads/", listing)
        assert told(listing) == sorted(server.objects.items())


def test_a_page_that_is_full_now_is_not_taken_for_the_last_because_it_was():
    server = Server(full(20))
    listing = bucket(server).again("heads/", None)
    server.objects.pop("heads/0019")
    listing = bucket(server).again("heads/", bucket(server).again("heads/", listing))
    for number in range(19, 60):
        server.objects[f"heads/{number:04}"] = "e"
        listing = bucket(server).again("heads/", listing)
        assert told(listing) == sorted(server.objects.items())


def test_a_page_like_the_last_one_that_goes_on_now_is_gone_on_with():
    server = Server(full(10))
    listing = bucket(server).again("heads/", bucket(server).again("heads/", None))
    server.most = 10
    server.objects |= full(15)
    assert told(bucket(server).again("heads/", listing)) == sorted(server.objects.items())


def test_a_first_page_like_that_of_two_does_not_stand_for_the_second():
    server = Server(full(40))
    listing = bucket(server).again("heads/", None)
    for change in (
        lambda: [server.objects.pop(key) for key in full(8)],
        lambda: server.objects.update(
            {f"heads/0016{tail}": "e" for tail in "xyz"}
        ),  # more than what is asked for spare
        lambda: [server.objects.pop(key) for key in list(server.objects) if key > "heads/0016y"],
    ):
        change()
        listing = bucket(server).again("heads/", listing)
        assert told(listing) == sorted(server.objects.items())


def test_stretches_that_emptied_are_drawn_anew():
    server = Server(full(1000))
    listing = bucket(server).again("heads/", None)
    server.objects = {key: etag for key, etag in server.objects.items() if key.endswith("00")}
    for _ in range(2):
        listing = bucket(server).again("heads/", listing)
    server.rounds()
    assert told(bucket(server).again("heads/", listing)) == sorted(server.objects.items())
    assert server.rounds() == 1


def test_a_stretch_that_fails_fails_the_listing():
    server = Server(full(100))
    listing = bucket(server).again("heads/", None)

    def ask(query):
        if query.get("start-after") == "heads/0035":
            return b"<html>"
        return server(query)

    with pytest.raises(StoreUnavailable):
        bucket(ask).again("heads/", listing)


KEYS = st.builds(
    lambda number, tail: f"heads/{number:02}{tail}", st.integers(0, 99), st.sampled_from(["", "x", "+ä", "Z"])
)


class ListedAgain(RuleBasedStateMachine):
    """Whatever came and went in between, a listing shows what there is."""

    def __init__(self):
        super().__init__()
        self.server = Server({"other": "e", "root/heads": "e", "root/heads0": "e", "root/i": "e"})
        self.listing = None

    @initialize(count=st.integers(0, 100))
    def begin(self, count):
        self.server.objects |= {f"root/heads/{number:02}": "e" for number in range(count)}

    @rule(keys=st.lists(KEYS, max_size=40), etag=st.sampled_from(["e", "f", "&<>"]))
    def put(self, keys, etag):
        self.server.objects |= {f"root/{key}": etag for key in keys}

    @rule(first=KEYS, last=KEYS)
    def delete(self, first, last):
        objects = self.server.objects.items()
        self.server.objects = {key: etag for key, etag in objects if not f"root/{first}" <= key <= f"root/{last}"}

    @invariant()
    def is_shown(self):
        self.listing = bucket(self.server, "root/").again("heads/", self.listing)
        there = {key.removeprefix("root/"): etag for key, etag in self.server.objects.items()}
        assert told(self.listing) == sorted((key, etag) for key, etag in there.items() if key.startswith("heads/"))


ListedAgain.TestCase.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
TestListedAgain = ListedAgain.TestCase
