"""What secrets and logins are made of: that ours are taken in whatever way they come back, and nothing else ever is."""

import base64
import dataclasses
import json
import re
import textwrap

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from auth.replicas import SECRET, bearer, data
from clocks import Clock
from s3reg import crypto
from s3reg.auth.tap import LARGEST_DATA, SKEW_SECONDS, Tap
from s3reg.errors import Unauthenticated
from s3reg.model.access import ApiKey

KEY = ApiKey("ci — ü", "5" * 32, b"", (), 0.0, None)
AGAIN = dataclasses.replace(KEY, serial="6" * 32)
OTHER = dataclasses.replace(KEY, id="cj")


def made(clock, secret=SECRET, **more):
    return Tap(lambda: secret, clock, **{"login_seconds": 300, "secret_seconds": 10} | more)


@pytest.fixture
def tap(clock):
    return made(clock)


def is_secret(tap, text, key=KEY):
    try:
        return tap.proves(tap.read_secret(text, key.id), key)
    except Unauthenticated:
        return False


def is_login(tap, sent, key=KEY):
    try:
        found = tap.read_bearer(sent)
    except Unauthenticated:
        return False
    return found.user == key.id and tap.proves(found, key)


# --- Secrets ---------------------------------------------------------------------------------------------------------


def test_a_secret_is_64_characters_that_a_shell_may_paste_into_json(tap):
    secrets = {tap.new_secret(KEY) for _ in range(100)}
    assert len(secrets) == 100
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{64}", secret) for secret in secrets)
    assert len({tap.read_secret(secret, KEY.id).nonce for secret in secrets}) == 100


def test_a_secret_opens_its_own_key_for_ten_seconds(tap, clock):
    secret = tap.new_secret(KEY)
    clock.now += 9.99
    assert is_secret(tap, secret)
    clock.now += 0.01
    assert not is_secret(tap, secret)


def test_a_secret_opens_no_other_key_and_none_that_was_made_again_under_its_id(tap):
    secret = tap.new_secret(KEY)
    assert is_secret(tap, secret)
    assert not is_secret(tap, secret, OTHER)
    assert not is_secret(tap, secret, AGAIN)


def test_a_secret_that_is_not_ours_is_refused_before_anybody_knows_the_key(tap, clock):
    for secret in (
        made(clock, SECRET[::-1]).new_secret(KEY),
        tap.new_secret(OTHER),
        tap.new_secret(KEY)[:-44] + "A" * 44,
    ):
        with pytest.raises(Unauthenticated):
            tap.read_secret(secret, KEY.id)


def test_replicas_may_differ_by_a_minute_and_a_secret_from_further_ahead_is_none(clock):
    ahead = Clock(clock.now + SKEW_SECONDS)
    secret = made(ahead).new_secret(KEY)
    assert is_secret(made(clock), secret)
    ahead.now += 0.01
    assert not is_secret(made(clock), made(ahead).new_secret(KEY))
    assert not is_secret(made(clock), made(clock, secret_seconds=3600).new_secret(KEY))


def test_a_secret_that_is_used_again_has_the_same_name_and_hour_wherever_it_is_read(tap, clock):
    secret = tap.new_secret(KEY)
    first = tap.read_secret(secret, KEY.id)
    clock.now += 5
    assert made(clock).read_secret(secret, KEY.id) == first
    assert first.end == pytest.approx(clock.now + 5, abs=0.001)


# --- Logins ----------------------------------------------------------------------------------------------------------


def test_a_login_looks_as_ankas_do(tap):
    login = tap.login(KEY)
    assert (login.user, login.ttl) == (KEY.id, 300)
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", login.session)
    assert re.fullmatch(r"[A-Za-z0-9_-]{54}", login.token)
    other = tap.login(KEY)
    assert other.session != login.session
    assert other.token != login.token


def test_what_a_login_is_made_of_is_in_no_repr(tap):
    login, secret = tap.login(KEY), tap.new_secret(KEY)
    said = repr((login, tap.read_bearer(bearer(login)), tap.read_secret(secret, KEY.id)))
    for part in (login.session, login.token, login.token[11:], secret, secret[21:]):
        assert part not in said


def test_a_login_ends_after_five_minutes_or_with_its_key(tap, clock):
    for ends, key in ((300, KEY), (60, dataclasses.replace(KEY, expires=clock.now + 60))):
        now = clock.now
        login = tap.login(key)
        assert login.ttl == ends
        clock.now = now + ends - 0.01
        assert is_login(tap, bearer(login))
        clock.now = now + ends
        assert not is_login(tap, bearer(login))
        clock.now = now
    assert tap.login(dataclasses.replace(KEY, expires=clock.now + 0.25)).ttl == 1


def test_a_login_is_of_its_own_key_and_none_that_was_made_again_under_its_id(tap):
    assert is_login(tap, bearer(tap.login(KEY)))
    assert not is_login(tap, bearer(tap.login(KEY)), AGAIN)
    assert not is_login(tap, bearer({**data(tap.login(KEY)), "userName": OTHER.id}), OTHER)


def test_a_login_that_is_not_ours_is_refused_before_anybody_knows_the_key(tap, clock):
    ours, theirs = data(tap.login(KEY)), data(made(clock, SECRET[::-1]).login(KEY))
    for sent in (theirs, ours | {"sessionId": theirs["sessionId"]}, ours | {"userName": "cj"}):
        with pytest.raises(Unauthenticated):
            tap.read_bearer(bearer(sent))
    end = data(made(Clock(clock.now + 60)).login(KEY))["token"][:11]
    with pytest.raises(Unauthenticated):
        tap.read_bearer(bearer(ours | {"token": end + ours["token"][11:]}))


# As clients send it: jq prints it over lines, Go compact and sorted, Java in any order and with what else there was.
WRITTEN = {
    "as it came": json.dumps,
    "printed by jq": lambda told: json.dumps(told, indent=2) + "\n",
    "compact and sorted": lambda told: json.dumps(told, sort_keys=True, separators=(",", ":")),
    "in another order": lambda told: json.dumps(dict(reversed(told.items()))),
    "as UTF-8": lambda told: json.dumps(told, ensure_ascii=False),
    "with more": lambda told: json.dumps({"later": [{"a": None}]} | told | {"exp": 1e300, "groups": ["root"]}),
    "of bytes that the alphabets spell each in its way": lambda told: json.dumps(told | {"x": "?~>" * 9}),
    "twice": lambda told: '{"userName":"root","token":7,' + json.dumps(told)[1:],
    "deep": lambda told: json.dumps(told)[:-1] + ',"x":' + "[" * 300 + "]" * 300 + "}",
}
SENT = {
    "standard": base64.b64encode,
    "URL-safe": base64.urlsafe_b64encode,
    "without padding": lambda text: base64.b64encode(text).rstrip(b"="),
    "URL-safe without padding": lambda text: base64.urlsafe_b64encode(text).rstrip(b"="),
    "over lines": base64.encodebytes,
    "over lines of Windows": lambda text: "\r\n".join(textwrap.wrap(base64.b64encode(text).decode(), 60)).encode(),
    "between blanks": lambda text: b"  \t" + base64.b64encode(text) + b" \n",
    "with too much padding": lambda text: base64.b64encode(text) + b"==",
}


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("sent", SENT)
def test_a_login_is_taken_however_it_is_written_and_sent(tap, written, sent):
    assert is_login(tap, SENT[sent](WRITTEN[written](data(tap.login(KEY))).encode()))


def test_the_alphabets_differ_in_what_is_sent():
    written = WRITTEN["of bytes that the alphabets spell each in its way"]({"userName": "ci"}).encode()
    assert SENT["standard"](written) != SENT["URL-safe"](written)


def test_of_a_field_that_comes_twice_the_last_counts(tap):
    told = json.dumps(data(tap.login(KEY)))
    assert not is_login(tap, base64.b64encode((told[:-1] + ',"userName":"cj"}').encode()), OTHER)


def test_a_login_of_more_than_4_kib_is_none(tap):
    told = data(tap.login(KEY))
    room = LARGEST_DATA - len(json.dumps(told | {"x": ""}))
    assert is_login(tap, bearer(told | {"x": "y" * room}))
    assert not is_login(tap, bearer(told | {"x": "y" * (room + 1)}))
    assert not is_login(tap, b" " * 1_000_000 + bearer(told))


# --- As the first release made them ---------------------------------------------------------------------------------
# Replicas of two releases serve side by side while one is upgraded.

END = 1_700_000_010_250


def test_a_secret_is_made_as_in_the_first_release(tap):
    end, nonce = base64.urlsafe_b64encode(END.to_bytes(6, "big")).decode(), "AAAAAAAA"
    first = crypto.mac(SECRET, "s3reg login secret 1, first", end, nonce, KEY.id)[:5]
    mac = crypto.mac(SECRET, "s3reg login secret 1", end, nonce, KEY.id, KEY.serial)
    found = tap.read_secret(end + nonce + first + mac, KEY.id)
    assert tap.proves(found, KEY)
    assert (found.end, found.nonce) == (END / 1000, f"{END:012x}{0:012x}")


def test_a_login_is_made_as_in_the_first_release(tap):
    end, nonce = base64.urlsafe_b64encode(END.to_bytes(8, "big")).rstrip(b"=").decode(), "0123456789abcdef"
    first = base64.urlsafe_b64decode(crypto.mac(SECRET, "s3reg login 1, first", end, nonce, KEY.id) + "=")[:8].hex()
    session = f"01234567-89ab-cdef-{first[:4]}-{first[4:]}"
    token = end + crypto.mac(SECRET, "s3reg login 1", end, KEY.id, session, KEY.serial)
    assert is_login(tap, bearer({"userName": KEY.id, "sessionId": session, "token": token}))


# --- Whatever else comes ---------------------------------------------------------------------------------------------

STILL = made(Clock())
LOGIN = data(STILL.login(KEY))
HANDED = STILL.new_secret(KEY)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=60),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.binary(max_size=400))
@example(b"[" * 4096)
@example(b'{"a":' * 800)
@example(b"1" * 4096)
@example("{}".encode("utf-16"))
@example(b'{"userName":"ci","sessionId":"\\ud800","token":"\\ud800"}')
@example(b"\xef\xbb\xbf{}")
def test_no_bytes_make_reading_a_bearer_fail_otherwise(content):
    for sent in (content, base64.b64encode(content)):
        with pytest.raises(Unauthenticated):
            STILL.read_bearer(sent)


@given(st.sampled_from(["userName", "sessionId", "token"]), values)
def test_no_value_of_a_field_makes_reading_a_bearer_fail_otherwise(field, value):
    if value != LOGIN[field]:
        with pytest.raises(Unauthenticated):
            STILL.read_bearer(bearer(LOGIN | {field: value}))
    with pytest.raises(Unauthenticated):
        STILL.read_bearer(bearer({name: known for name, known in LOGIN.items() if name != field}))


@given(st.sampled_from(["sessionId", "token"]), st.integers(0, 53), st.characters(min_codepoint=1, max_codepoint=0x2FF))
def test_no_character_of_a_login_may_be_another(field, at, character):
    text = LOGIN[field]
    at %= len(text)
    altered = text[:at] + character + text[at + 1 :]
    assert is_login(STILL, bearer(LOGIN | {field: altered})) == (altered == text)


@given(st.integers(0, 63), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=+/ é\n"))
def test_no_character_of_a_secret_may_be_another(at, character):
    altered = HANDED[:at] + character + HANDED[at + 1 :]
    assert is_secret(STILL, altered) == (altered == HANDED)


@given(st.text(max_size=80))
@example("A" * 64)
@example("_" * 64)
@example("é" * 64)
@example("\ud800" * 64)
@example("")
def test_no_text_makes_reading_a_secret_fail_otherwise(text):
    for key_id in (KEY.id, text):
        with pytest.raises(Unauthenticated):
            STILL.read_secret(text, key_id)


def test_no_part_of_one_thing_passes_for_a_part_of_another(tap):
    secret, login = tap.new_secret(KEY), data(tap.login(KEY))
    token = login["token"]
    for text in (
        token[-43:],
        secret[-43:],
        "A" * 11 + secret[-43:],
        token[:11] + secret[-43:],
        secret[:54],
        secret[-54:],
    ):
        assert not is_login(tap, bearer(login | {"token": text}))
    for text in (secret[:21] + token[-43:], token + token[:10], token[-21:] + secret[-43:]):
        assert not is_secret(tap, text)
