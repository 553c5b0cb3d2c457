"""Attacks on the login of API keys: secrets and bearers replayed, altered, from elsewhere, or older than they may be."""

import base64
import json
import string
import threading

import pytest

import tap
from access.refusal import knock, refused
from access_kit import Closed, basic, bearer
from s3reg.errors import NameInvalid

CHARACTERS = string.ascii_letters + string.digits + "-_"
OVER = 2.001
"""Seconds after which what was taken away counts on every replica."""


def others(character):
    """Characters that may stand in its place: the next one in the alphabet differs in bits that a decoder may drop."""
    place = CHARACTERS.find(character)
    return {CHARACTERS[(place + step) % 64] for step in (1, -1, 32)} - {character}


# --- Secrets ---------------------------------------------------------------------------------------------------------


def test_a_secret_that_was_used_is_worth_nothing_on_any_replica(closed):
    other = closed.replica()
    closed.make("ci")
    secret = closed.secret("ci")
    assert closed.shake("ci", secret).status_code == 200
    assert refused(closed.shake("ci", secret))
    assert refused(other.shake("ci", secret))
    assert refused(closed.shake("ci", secret)), "nor after others were refused"


def test_of_replicas_that_are_given_one_secret_at_once_one_says_yes(closed):
    replicas = [closed, closed.replica(), closed.replica()]
    closed.make("ci")
    for replica in replicas:
        replica.login("ci")
    for _ in range(5):
        secret = closed.secret("ci")
        start = threading.Barrier(2 * len(replicas))
        found = []

        def shake(replica, secret=secret, start=start, found=found):
            start.wait()
            found.append(replica.shake("ci", secret).status_code)

        threads = [threading.Thread(target=shake, args=(replica,)) for replica in replicas for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(found) == [200, *[401] * 5]


def test_a_secret_opens_no_other_key_and_none_that_is_written_like_its_own(closed):
    for key_id in ("ci", "cj", "CI", "c i", "ci2"):
        closed.make(key_id)
    secret = closed.secret("ci")
    for key_id in (
        "cj",
        "CI",
        "c i",
        "ci ",
        "ci2",
        "c",
        "",
        "ci\n",
        "ci\0",
        "\N{FULLWIDTH LATIN SMALL LETTER C}i",
        "nobody",
    ):
        answer = closed.shake(key_id, secret)
        assert answer.status_code in {400, 401}, key_id
    assert closed.shake("ci", secret).status_code == 200, "what others tried has not used it up"


def test_no_character_of_a_secret_may_be_another_one(closed):
    closed.make("ci")
    secret = closed.secret("ci")
    assert len(secret) == 64
    assert set(secret) <= set(CHARACTERS)
    for place, character in enumerate(secret):
        for other in others(character):
            assert refused(closed.shake("ci", secret[:place] + other + secret[place + 1 :])), place
    assert closed.shake("ci", secret).status_code == 200


@pytest.mark.parametrize("spoil", [str.upper, str.lower, str.swapcase, lambda text: text[::-1]])
def test_a_secret_is_what_it_is_letter_by_letter(closed, spoil):
    closed.make("ci")
    assert refused(closed.shake("ci", spoil(closed.secret("ci"))))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:-1],
        lambda text: text[1:],
        lambda text: text + "A",
        lambda text: text + "=",
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text + text,
        lambda text: "",
        lambda text: "A" * 64,
        lambda text: "A" * 10_000,
        lambda text: "\N{FULLWIDTH LATIN SMALL LETTER A}" * 64,
        lambda text: "\ud800" * 64,
        lambda text: text[:32] + "\0" + text[33:],
        lambda text: base64.b64encode(text.encode()).decode(),
        lambda text: None,
        lambda text: [text],
        lambda text: {"secret": text},
        lambda text: 5,
        lambda text: True,
    ],
)
def test_what_is_no_secret_is_refused_and_uses_none_up(closed, spoil):
    closed.make("ci")
    secret = closed.secret("ci")
    answer = closed.shake("ci", spoil(secret))
    assert answer.status_code in {400, 401}, answer.text
    assert closed.shake("ci", secret).status_code == 200


def test_what_a_hand_sealed_opens_with_its_own_key_only_and_is_no_secret_itself(closed):
    own, other = tap.key(), tap.key("another")
    closed.make("ci", of=own)
    closed.make("cj", of=other)
    sealed = closed.hand("ci").data
    with pytest.raises(ValueError, match="Decryption failed"):
        other.decrypt(base64.b64decode(sealed), tap.OAEP)
    for key_id in ("ci", "cj"):
        assert refused(closed.shake(key_id, sealed.decode()))
    assert refused(closed.shake("cj", closed.secret("ci", own)))


def test_a_secret_lives_ten_seconds(closed, clock):
    other = closed.replica()
    closed.make("ci")
    fresh, late = closed.secret("ci"), closed.secret("ci")
    clock.ahead += 9
    assert other.shake("ci", fresh).status_code == 200
    clock.ahead += 1.5
    assert refused(closed.shake("ci", late))
    assert refused(other.shake("ci", late))


def test_a_secret_that_ended_is_refused_though_the_clock_goes_back_after_it_was_used(closed, clock):
    closed.make("ci")
    secret = closed.secret("ci")
    assert closed.shake("ci", secret).status_code == 200
    clock.ahead -= 5
    assert refused(closed.shake("ci", secret))


def test_a_secret_of_a_key_that_was_deleted_or_made_again_is_worth_nothing(closed, clock):
    closed.make("ci")
    deleted, again = closed.secret("ci"), closed.secret("ci")
    closed.gate.keys.delete("ci")
    assert refused(closed.shake("ci", deleted))
    closed.make("ci")
    assert refused(closed.shake("ci", again))
    clock.ahead += OVER
    assert refused(closed.replica().shake("ci", again))


def test_a_hand_for_nobody_and_one_for_a_key_that_ended_are_the_same_refusal(closed, clock):
    closed.make("ended", ttl=60)
    clock.ahead += 61
    first, second = closed.hand("ended"), closed.hand("nobody")
    assert refused(first)
    assert refused(second)
    of_this_request = {"X-Request-Id"}
    assert {*first.headers.keys()} == {*second.headers.keys()}
    told = ([one for one in answer.headers if one[0] not in of_this_request] for answer in (first, second))
    assert sorted(next(told)) == sorted(next(told))


# --- Bearers ---------------------------------------------------------------------------------------------------------


def test_a_login_ends_after_five_minutes_on_every_replica(closed, clock):
    other = closed.replica()
    headers = closed.key("ci")
    clock.ahead += 290
    assert (knock(closed, headers), knock(other, headers)) == (200, 200)
    clock.ahead += 15
    assert (knock(closed, headers), knock(other, headers)) == (401, 401)


def test_a_login_ends_with_its_key(closed, clock):
    headers = closed.key("ci", ttl=60)
    clock.ahead += 59
    assert knock(closed, headers) == 200
    clock.ahead += 2
    assert knock(closed, headers) == 401


def test_a_login_of_a_key_that_is_to_end_sooner_ends_sooner(closed, clock):
    headers = closed.key("ci")
    closed.gate.keys.change("ci", ttl=60)
    clock.ahead += 61
    assert knock(closed, headers) == 401
    assert knock(closed.replica(), headers) == 401


def test_a_login_ends_when_its_key_is_deleted_and_comes_back_with_none_of_the_same_id(closed, clock):
    other = closed.replica()
    headers = closed.key("ci")
    assert knock(other, headers) == 200
    closed.gate.keys.delete("ci")
    clock.ahead += OVER
    assert (knock(closed, headers), knock(other, headers)) == (401, 401)
    closed.make("ci")
    clock.ahead += OVER
    assert (knock(closed, headers), knock(other, headers)) == (401, 401)
    assert knock(other, closed.login("ci")) == 200


def test_a_login_has_the_groups_that_its_key_has_now(strict, clock):
    other = strict.replica()
    strict.group("readers", "list_vms")
    strict.group("nothing")
    headers = strict.key("ci", ["readers"])
    assert knock(other, headers) == 200
    strict.gate.keys.change("ci", groups=("nothing",))
    clock.ahead += OVER
    assert (knock(strict, headers), knock(other, headers)) == (403, 403)
    strict.gate.keys.change("ci", groups=("readers",))
    assert (knock(strict, headers), knock(other, headers)) == (200, 200), "what is granted counts at once"


def test_a_login_says_nothing_of_groups_that_anybody_believes(strict):
    strict.group("all", *["list_vms"])
    strict.make("ci")
    data = strict.data("ci")
    for more in ({"groups": ["all"]}, {"Groups": ["all"]}, {"name": "root"}, {"userName": "root"}, {"user": "root"}):
        assert knock(strict, bearer({**data, **more})) in {401, 403}, more


@pytest.mark.parametrize("field", ["userName", "sessionId", "token"])
def test_no_character_of_a_login_may_be_another_one(closed, field):
    closed.make("ci")
    data = closed.data("ci")
    assert knock(closed, bearer(data)) == 200
    for place, character in enumerate(data[field]):
        for other in others(character) | {"\N{FULLWIDTH LATIN SMALL LETTER A}"}:
            altered = {**data, field: data[field][:place] + other + data[field][place + 1 :]}
            assert knock(closed, bearer(altered)) == 401, altered[field]


@pytest.mark.parametrize("field", ["userName", "sessionId", "token"])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:-1],
        lambda text: text + "=",
        lambda text: text + " ",
        lambda text: text + "\0",
        lambda text: text.swapcase(),
        lambda text: "",
        lambda text: None,
        lambda text: [text],
        lambda text: {"": text},
        lambda text: 0,
        lambda text: True,
        lambda text: 1e999,
        lambda text: "\ud800",
        lambda text: text * 1000,
    ],
)
def test_a_login_lacking_or_spoiling_a_field_is_none(closed, field, spoil):
    closed.make("ci")
    data = closed.data("ci")
    assert knock(closed, bearer({**data, field: spoil(data[field])})) == 401
    assert knock(closed, bearer({name: value for name, value in data.items() if name != field})) == 401


def test_the_fields_of_two_logins_do_not_mix(closed):
    closed.make("ci")
    closed.make("cj")
    logins = [closed.data("ci"), closed.data("ci"), closed.data("cj")]
    for field in ("userName", "sessionId", "token"):
        for one in logins:
            for other in logins:
                mixed = {**one, field: other[field]}
                assert knock(closed, bearer(mixed)) == (200 if mixed in logins else 401)


def test_of_a_field_that_comes_twice_no_reading_makes_another_login(closed):
    closed.make("ci")
    closed.make("admin")
    data = closed.data("ci")
    whole = json.dumps(data)
    for name in ("admin", "root"):
        for text in (whole[:-1] + f', "userName": "{name}"}}', f'{{"userName": "{name}", ' + whole[1:]):
            answer = closed.http.get("/transfer/v1/whoami", headers=bearer(text))
            assert answer.status_code == 401 or answer.json["name"] == "key:ci"


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{}", "0", '""', "[" * 100_000, '{"a":' * 50_000, "{", "\0", "\ud800", "NaN", "x" * 60_000],
)
def test_what_is_no_login_at_all_is_refused(closed, text):
    data = base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()
    assert refused(closed.http.get("/registry/vm", headers={"Authorization": f"Bearer {data}"}))


@pytest.mark.parametrize(
    "header",
    ["Bearer", "Bearer ", "Bearer !!!!", "bearer", "Basic", "Basic ", "Basic !", "Basic cm9vdA==", "Negotiate x", "", " ",
     "Bearer \xff\xfe", "Basic \xff", "Bearer ====", "Bearer A", "Basic " + "A" * 8000, "Bearer " + "A" * 8000],
)  # fmt: skip
def test_a_header_that_is_none_is_refused(closed, header):
    assert refused(closed.http.get("/registry/vm", headers={"Authorization": header}))


def test_a_login_of_another_registry_is_none_here(closed, tmp_path):
    other = Closed(tmp_path / "other", token=closed.token)
    for registry in (closed, other):
        registry.make("ci")
    data, secret = other.data("ci"), other.secret("ci")
    assert knock(other, bearer(data)) == 200
    assert knock(closed, bearer(data)) == 401
    assert refused(closed.shake("ci", secret))


def test_a_login_is_none_of_a_certificate_or_the_root_of_the_same_name(closed):
    for key_id in ("Root", "cert:ci", "key:ci", "cert:root", "key:root"):
        headers = closed.key(key_id)
        assert closed.http.get("/transfer/v1/whoami", headers=headers).json["name"] == f"key:{key_id}"
    for name in ("root", "everyone"):
        with pytest.raises(NameInvalid):
            closed.make(name)
    assert knock(closed, basic("x" * 20, "key:ci")) == 401
