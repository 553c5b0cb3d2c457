"""What clients of an Anka registry remove and set: every spelling that is meant, and nothing that is not."""

import json
from dataclasses import replace

import pytest

from push_calls import TEMPLATE
from refusals import anka
from registry.material import change_head, read_head

OTHER = "22222222-aaaa-4bbb-8ccc-000000000009"
REVERT = "/registry/revert"
AT = f"{REVERT}?id={TEMPLATE}"
NOT_FOUND = "Did not find any versions with tag "


def done(answer):
    assert answer.status_code == 200, answer.text
    assert answer.json == {"status": "OK", "body": None, "message": ""}


def tags(http):
    """The tags that the template has; None if there is no template."""
    answer = http.get(f"/registry/v2/vm?id={TEMPLATE}")
    if answer.status_code == 400:
        assert http.get("/registry/v2/vm").json["body"] == []
        return None
    return [version["tag"] for version in answer.json["body"]["versions"]]


def revert(http, body=None, query=""):
    """As curl asks: the body is JSON, the header says something else."""
    data = json.dumps(body) if isinstance(body, dict | list | int) else body
    return http.delete(AT + query, data=data, content_type="application/x-www-form-urlencoded")


BY_TAG = [(None, "&tag=b"), (None, "&tag_name=b"), ({"tag": "b"}, ""), ({"tag_name": "b"}, ""), ({"Tag": "b"}, "")]
BY_NUMBER = [
    (body, query)
    for name in ("version", "number", "Version", "Number")
    for body, query in ((None, f"&{name}=1"), ({name: 1}, ""), ({name: "1"}, ""))
]
SAME_TWICE = [
    ({"tag": "b"}, "&tag=b&tag_name=b"),
    ({"number": 1, "tag": "b", "id": TEMPLATE}, "&version=1&Version=01"),
    ({"tag": "b", "version": None}, "&number="),
    ({"tag": "b", "reason": "old"}, "&force=true"),
]


@pytest.mark.parametrize(("body", "query"), [*BY_TAG, *BY_NUMBER, *SAME_TWICE])
@pytest.mark.usefixtures("three")
def test_a_revert_takes_every_spelling_in_query_and_body(http, body, query):
    done(revert(http, body, query))
    assert tags(http) == ["a"]


@pytest.mark.parametrize(
    ("body", "query"),
    [
        (None, ""),
        ("", ""),
        ({}, "&apiVer=v1"),
        ("null", ""),
        ({"id": TEMPLATE}, ""),
        ({"id": TEMPLATE, "tag": None}, ""),
    ],
)
@pytest.mark.usefixtures("three")
def test_a_revert_without_a_selector_takes_the_newest(http, body, query):
    done(revert(http, body, query))
    assert tags(http) == ["a", "b"]


@pytest.mark.usefixtures("three")
def test_an_id_in_the_body_is_enough(http):
    done(http.delete(REVERT, data=json.dumps({"id": TEMPLATE, "tag": "c"})))
    assert tags(http) == ["a", "b"]
    done(http.delete("/registry/vm", data=json.dumps({"id": TEMPLATE})))
    assert tags(http) is None


@pytest.mark.parametrize("query", ["&tag=a", "&number=0"])
@pytest.mark.usefixtures("three")
def test_reverting_version_0_takes_the_template(http, query):
    done(revert(http, query=query))
    assert tags(http) is None


@pytest.mark.parametrize(
    ("body", "query", "told"),
    [
        (None, "&tag=nix", NOT_FOUND + "nix"),
        ({"tag_name": "nix"}, "", NOT_FOUND + "nix"),
        (None, "&tag=A", NOT_FOUND + "A"),
        (None, "&tag=latest", NOT_FOUND + "latest"),
        (None, "&version=3", NOT_FOUND + "3"),
        ({"number": 999999999}, "", NOT_FOUND + "999999999"),
    ],
)
def test_s11_a_revert_of_an_unknown_version_removes_nothing(standing, body, query, told):
    assert anka(revert(standing, body, query), 400) == told
    assert tags(standing) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("body", "query"),
    [
        (None, "&tag=a&tag=b"),
        (None, "&tag=b&tag_name=c"),
        (None, "&tag=b&number=2"),
        (None, "&version=1&number=2"),
        ({"tag": "b"}, "&tag=c"),
        ({"Version": 1}, "&version=2"),
        ({"number": 0, "version": 1}, ""),
        ({"id": OTHER}, ""),
        ({"tag": "b", "number": 7}, ""),
    ],
)
def test_selectors_that_disagree_remove_nothing(standing, body, query):
    assert "not the same" in anka(revert(standing, body, query), 400)
    assert tags(standing) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("body", "query"),
    [
        (None, "&version=one"),
        (None, "&version=-1"),
        (None, "&number=1e0"),
        (None, "&number=" + "1" * 5000),
        (None, "&tag="),
        (None, "&version="),
        ({"tag": ""}, ""),
        (None, "&tagname=b"),
        ({"tga": "b"}, ""),
        ({"tag": 1}, ""),
        ({"tag": ["b"]}, ""),
        ({"tag": {"b": 1}}, ""),
        ({"version": True}, ""),
        ({"version": 1.0}, ""),
        ({"version": []}, ""),
        ('{"tag": "b", "tag": "c"}', ""),
        ({"tga": "b"}, "&number="),
        (["b"], ""),
        (1, ""),
        ("tag=b", ""),
        ("{", ""),
        (b"\xff\xfe", ""),
        ("[" * 100_000, ""),
    ],
)
def test_a_selector_that_is_none_removes_nothing(standing, body, query):
    anka(revert(standing, body, query), 400)
    assert tags(standing) == ["a", "b", "c"]


@pytest.mark.usefixtures("three")
def test_a_body_whose_length_is_none_removes_nothing(http):
    """Some servers hand it on: taken for no length, it would be no body, and a revert of the newest."""
    for length in ("abc", "-12", "+12", "12, 13", "12.0", " ", "\xb2"):
        told = {"CONTENT_LENGTH": length}
        anka(http.delete(AT, data='{"tag": "b"}', environ_overrides=told), 400)
    assert tags(http) == ["a", "b", "c"]


@pytest.mark.parametrize("path", [REVERT, "/registry/vm"])
@pytest.mark.parametrize("query", ["", "?id=", f"?id={OTHER}", "?id=nix", "?id=../format", "?id=%00"])
def test_an_unknown_or_missing_id_is_400_on_removals_too(standing, path, query):
    assert anka(standing.delete(path + query), 400)
    assert tags(standing) == ["a", "b", "c"]


@pytest.mark.usefixtures("three")
def test_a_deleted_template_is_gone_and_a_push_brings_it_back(http, push):
    done(http.delete(f"/registry/vm?id={TEMPLATE}"))
    assert tags(http) is None
    anka(http.delete(f"/registry/vm?id={TEMPLATE}"), 400)
    anka(http.delete(AT), 400)
    push(tag="a", name="renamed")
    told = http.get(f"/registry/v2/vm?id={TEMPLATE}").json["body"]
    assert (told["name"], [(one["tag"], one["number"]) for one in told["versions"]]) == ("renamed", [("a", 0)])


@pytest.mark.parametrize("query", ["&tag=b", "&version=1", "&number=0"])
def test_a_delete_that_names_a_version_removes_nothing(standing, query):
    anka(standing.delete(f"/registry/vm?id={TEMPLATE}{query}"), 400)
    assert tags(standing) == ["a", "b", "c"]


ODD_TAGS = [
    "a b",
    "a+b",
    "a%2Bb",
    "os-deps:uni-apps:6cores",
    "x/y",
    "ünïcödé",
    "虚拟机",
    "\"q'",
    "100%",
    "a&b=c",
    "latest",
]


@pytest.fixture
def tagged(three):
    """`tagged("x", "y", "z")` gives the three versions these tags."""

    def change(*tags):
        versions = read_head(three, TEMPLATE).versions
        changed = tuple(replace(entry, tag=tag) for entry, tag in zip(versions, tags, strict=True))
        change_head(three, TEMPLATE, versions=changed)

    return change


@pytest.mark.parametrize("tag", ODD_TAGS)
@pytest.mark.parametrize("place", ["query_string", "json"])
def test_t2_t3_t5_odd_tags_are_tags_like_others(http, tagged, tag, place):
    tagged("first", tag, "newest")
    asked = {"id": TEMPLATE, "tag": tag}
    assert http.get("/registry/vm/info", query_string=asked).status_code == 200
    done(http.delete(REVERT, **{place: asked}))
    assert tags(http) == ["first"]


@pytest.mark.parametrize("spelled", ["a+b", "a%2Bb"])
def test_t1_a_plus_in_a_query_is_a_plus_where_no_tag_has_a_blank(http, tagged, spelled):
    tagged("first", "a+b", "ab")
    assert http.get(f"/registry/vm/info?id={TEMPLATE}&tag={spelled}").status_code == 200
    done(revert(http, query=f"&tag={spelled}"))
    assert tags(http) == ["first"]


def test_t1_a_plus_in_a_query_is_a_blank_where_a_tag_has_one(http, tagged):
    tagged("first", "ab", "a b")
    done(revert(http, query="&tag=a+b"))
    assert tags(http) == ["first", "ab"]


@pytest.mark.parametrize(("query", "left"), [("a%20b", ["first", "a+b"]), ("a%2Bb", ["first"])])
def test_t1_a_plus_in_a_query_that_may_be_either_of_two_tags_removes_neither(http, tagged, query, left):
    tagged("first", "a+b", "a b")
    assert http.get(f"/registry/vm/info?id={TEMPLATE}&tag=a+b").status_code == 200
    assert "%2B" in anka(revert(http, query="&tag=a+b"), 400)
    assert tags(http) == ["first", "a+b", "a b"]
    done(revert(http, query=f"&tag={query}"))
    assert tags(http) == left


def test_t1_what_a_body_says_tells_which_tag_a_query_means(http, tagged):
    tagged("first", "a+b", "a b")
    done(revert(http, {"tag": "a+b"}, "&tag=a+b"))
    assert tags(http) == ["first"]


def test_t1_a_plus_in_a_body_is_a_plus(http, tagged):
    tagged("first", "a b", "ab")
    anka(revert(http, {"tag": "a+b"}), 400)
    assert tags(http) == ["first", "a b", "ab"]


@pytest.mark.parametrize("arch", ["arm64", "amd64"])
@pytest.mark.usefixtures("three")
def test_the_architecture_is_set_as_asked_and_of_the_template_only(http, arch):
    done(http.put("/registry/vm/arch", data=json.dumps({"id": TEMPLATE, "arch": arch})))
    told = http.get(f"/registry/v2/vm?id={TEMPLATE}").json["body"]
    assert (told["arch"], told["versions"][0]["arch"]) == (arch, "")


@pytest.mark.parametrize(
    "body",
    [
        None, "", {}, {"id": TEMPLATE}, {"arch": "arm64"}, {"id": TEMPLATE, "arch": ""}, {"id": TEMPLATE, "arch": "ARM64"},
        {"id": TEMPLATE, "arch": "x86_64"}, {"id": TEMPLATE, "arch": 64}, {"id": TEMPLATE, "arch": None},
        {"id": OTHER, "arch": "arm64"}, {"id": [TEMPLATE], "arch": "arm64"},
    ],
)  # fmt: skip
def test_no_other_architecture_is_taken(standing, body):
    anka(standing.put("/registry/vm/arch", data=json.dumps(body) if isinstance(body, dict) else body), 400)
    assert standing.get(f"/registry/v2/vm?id={TEMPLATE}").json["body"]["arch"] == ""


@pytest.mark.parametrize("name", ["11.6", OTHER])
def test_t4_a_name_that_looks_like_a_number_or_an_id_removes_too(http, three, name):
    change_head(three, TEMPLATE, name=name)
    done(http.delete("/registry/vm", query_string={"id": name}))
    assert tags(http) is None


def test_a_name_with_two_templates_removes_neither(http, push, three):
    push(template=OTHER, name="twin")
    change_head(three, OTHER, name="13.1-base")
    told = anka(http.delete("/registry/vm?id=13.1-base"), 400)
    assert TEMPLATE in told
    assert OTHER in told
    assert len(http.get("/registry/vm").json["body"]) == 2


@pytest.mark.usefixtures("three")
def test_s31_naively_joined_paths_of_removals_are_taken_as_they_are_meant(http):
    for path, left in (("//registry//revert/", ["a", "b"]), ("/registry/vm/", None)):
        done(http.delete("/", query_string={"id": TEMPLATE}, environ_overrides={"PATH_INFO": path}))
        assert tags(http) == left
