"""Which versions a revert takes: every spelling, in query and body, agreeing or not, against what the words mean."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from api.fuzzed import FIRST, SECOND, TAGS, anything, body
from push_calls import Push
from s3reg import wire
from s3reg.errors import NameInvalid
from s3reg.model import names

BY_TAG, BY_NUMBER = ["tag", "tag_name"], ["version", "number", "Version"]
SPELLINGS = [*BY_TAG, *BY_NUMBER]
HERE = TAGS[FIRST]
tag_values = st.sampled_from([*HERE, *HERE, "v9", "0", "latest"])
number_values = st.integers(0, len(HERE) - 1) | st.sampled_from([len(HERE), 99])
FRACTIONS = st.floats(allow_nan=False).filter(lambda x: x != int(x) if abs(x) < 1e300 else True)
WRONG = st.booleans() | FRACTIONS | st.lists(st.just("v1")) | st.just({"tag": "v1"})
"""What is neither a tag nor a number, nor nothing."""


@st.composite
def selectors(draw):
    """[(spelling, value)], mostly of one version, so that several of them agree often enough."""
    wanted = draw(st.integers(0, len(HERE) - 1))
    found = []
    for spelling in draw(st.lists(st.sampled_from(SPELLINGS), max_size=4)):
        agreeing, any_value = (HERE[wanted], tag_values) if spelling in BY_TAG else (wanted, number_values)
        found.append((spelling, draw(st.just(agreeing) | st.just(agreeing) | any_value)))
    return found


def meant(chosen):
    """How many versions are left, by what the selectors say; None: it must be refused."""
    if not chosen:
        return len(HERE) - 1
    found = set()
    for spelling, value in chosen:
        if spelling in BY_TAG:
            found.add(HERE.index(value) if value in HERE else None)
        else:
            found.add(value if value < len(HERE) else None)
    return found.pop() if len(found) == 1 else None


def check(place, answer, left, template=FIRST):
    """The versions that are left are the oldest so many; None: it was refused, and nothing was written."""
    if left is None:
        assert answer.status_code == 400, answer.text
        assert place.unchanged()
        return
    assert answer.status_code == 200, answer.text
    expected = {**TAGS, template: TAGS[template][:left]}
    assert place.tags() == {name: tags for name, tags in expected.items() if tags}


@given(selectors(), selectors(), st.booleans(), st.booleans())
def test_a_revert_takes_what_all_its_selectors_mean_or_nothing(place, asked, sent, id_in_query, as_text):
    place.begin()
    in_body = {spelling: str(value) if as_text else value for spelling, value in sent}
    sent = [(spelling, value) for spelling, value in dict(sent).items()]  # a body has each name once
    query = [(spelling, str(value)) for spelling, value in asked]
    if id_in_query:
        query.append(("id", FIRST))
    else:
        in_body["id"] = FIRST
    answer = place.ask("DELETE", "/registry/revert", query, body(in_body) if in_body else None)
    check(place, answer, meant([*asked, *sent]))


@given(st.sampled_from(SPELLINGS), WRONG)
def test_a_selector_of_another_type_is_refused(place, spelling, value):
    place.begin()
    check(place, place.ask("DELETE", "/registry/revert", [("id", FIRST)], body({spelling: value})), None)


NEARLY = st.sampled_from(["+1", "-1", "-0", " 1", "1 ", "1.0", "1e0", "0x1", "1_0", "\u0661", "\u00b9", "1\0", "1,2"])


@given(st.sampled_from(BY_NUMBER), st.sampled_from(["", "query"]), st.integers() | NEARLY | st.text(max_size=8))
def test_a_number_that_no_version_has_is_refused(place, spelling, where, value):
    place.begin()
    text = str(value)
    if not text.strip() or text in {str(number) for number in range(len(HERE))}:
        return
    if where:
        answer = place.ask("DELETE", "/registry/revert", [("id", FIRST), (spelling, text)], None)
    else:
        answer = place.ask("DELETE", "/registry/revert", [("id", FIRST)], body({spelling: value}))
    check(place, answer, None)


CHANGES = [("DELETE", "/registry/vm"), ("DELETE", "/registry/revert"), ("PUT", "/registry/vm/arch")]


@given(
    st.sampled_from(CHANGES),
    anything.filter(lambda x: x is not None and not isinstance(x, dict)).map(body) | st.just(b"{"),
)
def test_a_change_whose_body_is_no_object_is_refused(place, route, sent):
    place.begin()
    check(place, place.ask(*route, [("id", FIRST)], sent), None)


@given(st.sampled_from([FIRST, SECOND]), st.sampled_from([FIRST, SECOND, "", "other", None, 7, ["x"]]))
def test_two_ids_that_disagree_are_refused(place, here, there):
    place.begin()
    answer = place.ask("DELETE", "/registry/revert", [("id", here)], body({"id": there}))
    agrees = there in [here, "", None]
    check(place, answer, len(TAGS[here]) - 1 if agrees else None, here)


@given(st.data())
def test_the_native_revert_takes_what_is_meant_or_nothing(place, data):
    place.begin()
    chosen = data.draw(selectors())
    sent = {"operation": "b" * 32, "template": FIRST, **dict(chosen)}
    # Its own spellings are tag and number; what else is in a body, it does not know.
    known = [(name, value) for name, value in dict(chosen).items() if name in {"tag", "number"}]
    everything = data.draw(st.sampled_from([None, False, True]))
    if everything is not None:
        sent["everything"] = everything
    left = meant(known)
    if everything:
        left = None if known else 0
    answer = place.ask("POST", f"{wire.PREFIX}/revert", [], body(sent))
    if left is None:
        assert answer.status_code in {400, 404}, answer.text
        assert place.unchanged()
        return
    check(place, answer, left)
    told = SimpleNamespace(**answer.json)
    assert (told.removed, told.left, told.deleted) == (HERE[left:], left, left == 0)
    marks = place.marks()
    again = place.ask("POST", f"{wire.PREFIX}/revert", [], body(sent))
    assert (again.status_code, again.json["left"]) == (200, left)
    assert place.marks() == marks, "an operation that was done is not done again"


@given(st.text(max_size=30), st.sampled_from(BY_TAG), st.booleans())
def test_t2_any_tag_that_can_be_pushed_is_listed_and_reverted_by_its_own_name(place, tag, spelling, in_query):
    place.begin()
    try:
        spelled = names.tag(tag)
    except NameInvalid:
        return
    if spelled in HERE:
        return
    Push([place.http], template=FIRST, name="13.1-base", tag=tag, layers=[]).run()
    listed = place.http.get(f"/registry/v2/vm?id={FIRST}").json["body"]["versions"]
    assert [row["tag"] for row in listed] == [*HERE, spelled]
    query, sent = [("id", FIRST)], None
    if in_query:
        query.append((spelling, tag))
    else:
        sent = body({spelling: tag})
    assert place.ask("GET", "/registry/vm/info", [("id", FIRST), ("tag", tag)], None).status_code == 200
    check(place, place.ask("DELETE", "/registry/revert", query, sent), len(HERE))


@given(anything)
def test_the_native_revert_of_any_body_changes_nothing_that_it_does_not_name(place, sent):
    place.begin()
    answer = place.ask("POST", f"{wire.PREFIX}/revert", [], body(sent))
    assert answer.status_code == 400
    assert place.unchanged()
