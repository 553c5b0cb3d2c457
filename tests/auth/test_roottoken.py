"""Root tokens: which passwords are one, from the environment and from a file that changes."""

import logging
import os
import secrets
from pathlib import Path

import pytest

from s3reg.auth.reread import MOST_BYTES, Reread
from s3reg.auth.roottoken import RootTokens
from s3reg.errors import RootTokenUnreadable, SettingInvalid

OLD, NEW = secrets.token_urlsafe(12), secrets.token_urlsafe(12)
LONG_AGO = (1_600_000_000, 1_600_000_000)
STRANGE = [
    ':@/%+"' + secrets.token_urlsafe(4),
    "  two blanks before, one behind ",
    "пароль-日本語-é",
    "\t'$(id)`\\\x01\x7f",
    '{"a": "json"}',
    "root:" + OLD,
    "=" * 10,
    "x" * 4096,
]


def of_file(path):
    return RootTokens.named(file=str(path))


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def held(roots, *tokens):
    return [roots.holds(token.encode()) for token in tokens]


@pytest.fixture
def file(tmp_path):
    return written(tmp_path / "root-token", OLD)


@pytest.mark.parametrize("token", STRANGE, ids=range(len(STRANGE)))
def test_s26_a_token_of_any_characters_is_held_as_it_is_and_nothing_else(token, file):
    written(file, token)
    for roots in (RootTokens.fixed(token), of_file(file)):
        assert held(roots, token) == [True]
        near = [token[:-1], token + " ", token + "\n", " " + token, token.swapcase() + "x", token.encode().hex(), ""]
        assert held(roots, *near) == [False] * len(near)


def test_s26_bytes_count_and_not_what_they_look_like():
    composed, decomposed = "ключ-caf\u00e9-1", "ключ-cafe\u0301-1"
    assert held(RootTokens.fixed(composed), composed, decomposed) == [True, False]
    assert not RootTokens.fixed("caf\u00e9-caf\u00e9-1").holds("caf\u00e9-caf\u00e9-1".encode("latin-1"))
    not_text = b"\xff\xfe-not-utf-8"
    assert RootTokens.fixed(os.fsdecode(not_text)).holds(not_text)


def test_two_of_the_environment_are_valid_at_a_time():
    roots = RootTokens.named(token=NEW, previous=OLD)
    assert held(roots, NEW, OLD, NEW + OLD, "") == [True, True, False, False]


def test_replicas_started_one_by_one_with_the_old_token_the_both_and_the_new_one_refuse_neither_in_between():
    def started(token, previous=None):
        return RootTokens.named(token=token, previous=previous)

    first, second = started(OLD), started(OLD)
    for step, replicas in [
        (OLD, (started(NEW, OLD), second)),
        (OLD, (started(NEW, OLD), started(NEW, OLD))),
        (NEW, (started(NEW, OLD), started(NEW))),
        (NEW, (started(NEW), started(NEW))),
    ]:
        assert all(one.holds(step.encode()) for one in (*replicas,))
    assert held(first, NEW) == [False]


@pytest.mark.parametrize(
    ("token", "previous"), [("short", None), (NEW, "123456789"), ("äöüäöüäöü", None)], ids=range(3)
)
def test_one_that_is_too_short_is_refused_without_being_told(token, previous):
    name = "S3REG_ROOT_TOKEN:" if previous is None else "S3REG_ROOT_TOKEN_PREVIOUS:"
    with pytest.raises(SettingInvalid, match=f"{name} .* at least 10 characters") as e:
        RootTokens.named(token=token, previous=previous)
    assert (previous or token) not in str(e.value)


def test_every_source_is_looked_at_before_there_is_an_answer():
    asked = []

    def source(name, *tokens):
        def tokens_of():
            asked.append(name)
            return [token.encode() for token in tokens]

        return tokens_of

    roots = RootTokens(source("first", OLD), source("second", NEW))
    assert held(roots, OLD) == [True]
    assert asked == ["first", "second"]


@pytest.mark.parametrize(
    "text", [f"{NEW}\n{OLD}", f"{NEW}\n{OLD}\n", f"{NEW}\r\n{OLD}\r\n", f"{OLD}\n{NEW}\n"], ids=range(4)
)
def test_a_file_has_two_lines_whose_ends_are_no_part_of_them(text, file):
    written(file, text)
    assert held(of_file(file), NEW, OLD, f"{NEW}\r", f"{OLD}\n", f"{NEW}\n{OLD}") == [True, True, False, False, False]


def test_a_file_is_rotated_without_a_moment_in_which_somebody_is_refused(file):
    roots = of_file(file)
    assert held(roots, OLD, NEW) == [True, False]
    written(file, f"{NEW}\n{OLD}\n")
    assert held(roots, OLD, NEW) == [True, True]
    written(file, f"{NEW}\n")
    assert held(roots, OLD, NEW) == [False, True]


def test_a_file_that_is_put_in_anothers_place_is_noticed(file, tmp_path):
    os.utime(file, LONG_AGO)
    roots = of_file(file)
    assert held(roots, OLD, NEW) == [True, False]
    other = written(tmp_path / "other", NEW)
    os.utime(other, LONG_AGO)
    other.replace(file)
    assert held(roots, OLD, NEW) == [False, True]


def test_a_link_that_leads_elsewhere_is_noticed(tmp_path, file):
    os.utime(file, LONG_AGO)
    (tmp_path / "link").symlink_to(file)
    roots = of_file(tmp_path / "link")
    assert held(roots, OLD) == [True]
    os.utime(written(tmp_path / "other", NEW), LONG_AGO)
    (tmp_path / "new-link").symlink_to(tmp_path / "other")
    (tmp_path / "new-link").replace(tmp_path / "link")
    assert held(roots, OLD, NEW) == [False, True]


def test_two_changes_within_one_step_of_the_file_systems_clock_are_both_noticed(file):
    roots = of_file(file)
    at = file.stat().st_mtime_ns
    for token in (NEW, OLD, NEW):
        written(file, token)
        os.utime(file, ns=(at, at))
        assert held(roots, token) == [True]


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "\n",
        "\r\n",
        "  \n\n",
        "too-short",
        f"{NEW}\nshort",
        f"{NEW}\n\n",
        f"{NEW}\n{OLD}\n{NEW}",
        "x" * 4097,
        None,
    ],
    ids=range(10),
)
def test_a_file_that_went_bad_leaves_the_token_it_had_and_is_told_once_without_what_is_in_it(bad, file, caplog):
    roots = of_file(file)
    assert held(roots, OLD) == [True]
    if bad is None:
        file.unlink()
    else:
        written(file, bad)
    for _ in range(3):
        assert held(roots, OLD, NEW) == [True, False]
    (line,) = [one.getMessage() for one in caplog.records]
    assert "file-not-usable" in line
    assert str(file) in line
    assert not [secret for secret in (OLD, NEW, "short", "xxx") if secret in line.replace("too short", "")]
    written(file, NEW)
    assert held(roots, OLD, NEW) == [False, True]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"", "it is empty"),
        (b"short\n", "at least 10 characters"),
        (f"{NEW}\n{OLD}\n{NEW}\n".encode(), "3 lines"),
        (None, "No such file"),
    ],
    ids=range(4),
)
def test_a_file_that_was_never_good_is_said_and_nobody_is_refused_for_it(bad, reason, tmp_path):
    path = tmp_path / "root-token"
    if bad is not None:
        written(path, bad)
    roots = of_file(path)
    for call in (roots.check, lambda: roots.holds(NEW.encode())):
        with pytest.raises(RootTokenUnreadable, match=reason) as e:
            call()
        assert str(path) in str(e.value)
        assert NEW not in str(e.value)
    written(path, NEW)
    roots.check()
    assert held(roots, NEW) == [True]


def test_a_file_that_looks_as_it_did_is_not_read_again(file):
    kept = Reread(bytes, file)
    os.utime(file, LONG_AGO)
    assert kept.look() == (OLD.encode(), None)
    written(file, NEW)
    os.utime(file, LONG_AGO)
    assert kept.look() == (OLD.encode(), None)
    os.utime(file, (LONG_AGO[0] + 1, LONG_AGO[1] + 1))
    assert kept.look() == (NEW.encode(), None)


def test_what_was_read_and_is_the_same_is_not_made_again(file):
    made = []
    kept = Reread(made.append, file)
    for seconds in range(3):
        os.utime(file, (LONG_AGO[0], LONG_AGO[1] + seconds))
        kept.look()
    assert made == [OLD.encode()]


def test_a_file_without_an_end_is_not_read_to_it(file):
    kept = Reread(bytes, file)
    os.truncate(file, MOST_BYTES + 1)
    assert kept.look() == (None, "it is too large")


def test_no_token_shows_in_what_a_debugger_prints(file, caplog):
    caplog.set_level(logging.DEBUG)
    for roots in (RootTokens.fixed(OLD), of_file(file)):
        assert held(roots, OLD) == [True]
        assert OLD not in repr(roots) + repr(vars(roots))
    assert OLD not in caplog.text
