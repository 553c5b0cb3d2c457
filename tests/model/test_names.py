"""Names from outside: what is taken, in which spelling, and what is refused."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3reg.errors import NameInvalid
from s3reg.model import names

UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"
HOSTILE_FILE_NAMES = [
    "", ".", "..", "/", "//", "/etc/passwd", "../x", "a/b", "a\\b", "\\", "..\\x", "a/", "a\0b", "\0", "a\nb", "a\r",
    "\x1b[2J", "\x7f", "\x85", "a\u2028b", "a\u2029b", ".DS_Store", ".s3reg", "...", " a", "a ", "a\t", "\u00a0a", "a\u3000",
    "é" * 128,
    "x" * 256, "e\u0301", "\ud800", "a\udfff", "\u212b", "\u1112\u1161\u11ab",
    None, 1, True, b"a", ["a"], {}, 1.5,
]  # fmt: skip
GOOD_FILE_NAMES = [
    "a", "disk.ank", "x" * 255, "é" * 127, "a b", "a.b.c", "-rf", "~", "%2e%2e", "a:b", "\u00e9", "한", "👩‍🔧.img", "CON",
    "a*?", "$(id)", "'", '"', "<a>",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE_FILE_NAMES)
def test_a_hostile_file_name_is_refused(name):
    with pytest.raises(NameInvalid) as refused:
        names.file_name(name)
    assert len(str(refused.value)) < 400
    str(refused.value).encode()


@pytest.mark.parametrize("name", GOOD_FILE_NAMES)
def test_a_file_name_that_any_library_can_hold_is_taken_as_it_is(name):
    assert names.file_name(name) == name


@given(st.text())
def test_a_file_name_that_is_taken_is_one_path_component(text):
    try:
        name = names.file_name(text)
    except NameInvalid:
        return
    assert name == text == unicodedata.normalize("NFC", text)
    assert 0 < len(name.encode()) <= 255
    assert not set(name) & {"/", "\\", "\0", "\n"}
    assert not name.startswith(".")


@pytest.mark.parametrize(
    "spelling",
    [UUID, UUID.upper(), UUID.replace("-", ""), f"{{{UUID}}}", f"urn:uuid:{UUID}", UUID.replace("-", "").upper()],
)
def test_a_template_id_is_taken_in_its_usual_spellings_and_given_in_one(spelling):
    assert names.template_id(spelling) == UUID
    assert names.is_template_id(spelling)


@pytest.mark.parametrize(
    "text",
    [
        "", "x", UUID[:-1], UUID + "0", UUID + "\n", " " + UUID, UUID.replace("0", "g"), "../" + UUID, None, 7, b"x" * 16,
        # What int(text, 16) takes besides digits must not become another template's id.
        "+1234567812341234123412345678123", " 123456781234123412341234567812 ", "0x345678123412341234123456781234",
        "1_345678123412341234123456781234", "\u06612345678123412341234123456781234", "-".join(UUID.replace("-", "")),
        "{" + UUID, UUID + "}", "{{" + UUID + "}}", "urn:urn:uuid:" + UUID,
        "{0f8fad5bd9cb-469f-a165-70867728950e-}", "0f8fad5bd9cb-469f-a165-70867728950e",
    ],
)  # fmt: skip
def test_what_is_no_uuid_is_no_template_id(text):
    with pytest.raises(NameInvalid):
        names.template_id(text)
    if isinstance(text, str):
        assert not names.is_template_id(text)


def test_new_template_ids_are_ids_and_differ():
    one, other = names.new_template_id(), names.new_template_id()
    assert one != other
    assert names.template_id(one) == one


@pytest.mark.parametrize(("parse", "length"), [(names.version_id, 32), (names.session_id, 32), (names.digest, 64)])
def test_ids_and_digests_are_lower_case_hex_of_one_length(parse, length):
    good = ("0123456789abcdef" * 4)[:length]
    assert parse(good) == good
    bad = [good[:-1], good + "0", good.upper(), good[:-1] + "g", good[:-1] + "\n", good + "\n", "", "0x" + good[2:]]
    for text in (*bad, "\u0660" * length, None, 5, good.encode(), [good]):
        with pytest.raises(NameInvalid):
            parse(text)


@pytest.mark.parametrize("text", ["main", "a", "0", "team-1", "a" * 63])
def test_a_domain_is_taken(text):
    assert names.domain(text) == text


@pytest.mark.parametrize("text", ["", "A", "-a", "a_b", "a/b", "..", "a" * 64, "a\n", "ä", None, 1])
def test_what_is_no_domain_is_refused(text):
    with pytest.raises(NameInvalid):
        names.domain(text)


@pytest.mark.parametrize("parse", [names.template_name, names.tag])
def test_labels_come_out_in_one_spelling(parse):
    assert parse("e\u0301") == "\u00e9"
    assert parse("macOS 14.5 👩‍🔧") == "macOS 14.5 👩‍🔧"
    assert parse("e\u0301" * 255) == "\u00e9" * 255
    assert parse("x" * 255) == "x" * 255


@pytest.mark.parametrize("parse", [names.template_name, names.tag])
@pytest.mark.parametrize(
    "text",
    ["", " ", " a", "a ", "a\nb", "a\tb", "\0", "\x1b", "\x7f", "\u2028", "\ud800", "x" * 256, "\n", None, 3, b"a", []],
)
def test_what_is_no_label_is_refused(parse, text):
    with pytest.raises(NameInvalid) as refused:
        parse(text)
    str(refused.value).encode()


@pytest.mark.parametrize("text", ["a/b", "/", ".", "..", "../a"])
def test_a_template_name_is_no_path_but_a_tag_may_look_like_one(text):
    with pytest.raises(NameInvalid):
        names.template_name(text)
    assert names.tag(text) == text


@given(st.text(max_size=300))
def test_what_a_gate_gives_passes_it_again_unchanged(text):
    for parse in (names.template_name, names.tag, names.description, names.file_name):
        try:
            name = parse(text)
        except NameInvalid:
            continue
        assert parse(name) == name
        name.encode()


def test_a_description_may_have_lines_and_nothing_worse():
    assert names.description("") == ""
    assert names.description("one\n\ttwo") == "one\n\ttwo"
    assert names.description("x" * 4096) == "x" * 4096
    for text in ("x" * 4097, "\r", "\0", "\x1b[0m", "\ud800", "\u2028", None, 1):
        with pytest.raises(NameInvalid):
            names.description(text)


def test_an_architecture_is_one_of_three():
    assert [names.arch(text) for text in ("", "arm64", "amd64")] == ["", "arm64", "amd64"]
    for text in ("x86_64", "ARM64", "arm64 ", None, 0, [], b""):
        with pytest.raises(NameInvalid):
            names.arch(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a", "A"),
        ("É", "e\u0301"),
        ("ß", "SS"),
        ("\u212a", "k"),
        ("ǆ", "ǅ"),
        ("ﬁ", "FI"),
        ("Σ", "ς"),
        ("\u0345", "\u03b9"),
    ],
)
def test_names_that_a_mac_takes_for_one_fold_alike(one, other):
    assert names.folded(one) == names.folded(other)


def test_different_names_fold_apart():
    assert len({names.folded(name) for name in ("a", "b", "ä", "a ", "a.", "i", "\u0131")}) == 7


@given(st.text())
def test_folding_is_the_same_for_every_spelling_and_stable(text):
    folded = names.folded(text)
    assert (
        folded == names.folded(unicodedata.normalize("NFD", text)) == names.folded(unicodedata.normalize("NFC", text))
    )
    assert names.folded(folded) == folded
