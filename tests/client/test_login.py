"""What proves to a registry who asks: an API key by its login, a password, or nothing; and where it goes."""

import base64
import contextlib
import itertools
import json
import logging
import subprocess
import sys
import threading
import traceback

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

import machines
import sites
import tap
from s3reg.api import create_app
from s3reg.client.connection import Access, Connection
from s3reg.client.library import Library
from s3reg.client.login import EARLY, ApiKey, keepable
from s3reg.client.progress import Silent
from s3reg.client.pull import PullOptions, pull
from s3reg.client.push import PushOptions, push
from s3reg.errors import (
    AnswerInvalid,
    ApiKeyInvalid,
    CredentialRefused,
    Forbidden,
    Invalid,
    LocalDenied,
    RegistryUnreachable,
    S3regError,
    Unauthenticated,
)
from s3reg.settings import Settings
from s3reg.store.files import FilesStore
from scripted import Scripted, answers
from tap import UNAUTHENTICATED, Guard

WAIT = 30
HAND, SHAKE, STATUS = "/tap/v1/hand", "/tap/v1/shake", "/transfer/v1/status"
FINE = {"fine": True}


class Place:
    """A guarded registry, and lines to it whose pauses are noted and not made."""

    def __init__(self, guard, url, stack):
        self.guard, self.url, self.pauses = guard, url, []
        self._stack = stack

    def line(self, key_id=None, api_key=None, *, url=None, **more):
        access = Access(url or self.url, key_id=key_id, api_key=api_key, **more)
        made = Connection(access, tries=3, pause=lambda _, seconds: self.pauses.append(seconds))
        self._stack.callback(made.close)
        return made

    def with_password(self, userinfo):
        return self.line(url=self.url.replace("://", f"://{userinfo}@"))

    @property
    def paths(self):
        return [seen.path for seen in self.guard.seen]


@pytest.fixture
def place():
    """`place(**guard)`: a registry that says yes to whoever it knows."""
    with contextlib.ExitStack() as stack:

        def make(app=tap.fine, **more):
            guard = Guard(app, **more)
            return Place(guard, stack.enter_context(sites.serving(guard)), stack)

        yield make


def status(line):
    return line.call("GET", STATUS)


def at_once(count, act):
    """What `act` gives or raises in so many threads that begin together."""
    found, gate = [], threading.Barrier(count)

    def one():
        gate.wait(WAIT)
        try:
            found.append(act())
        except S3regError as e:
            found.append(e)

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    return found


def refused(line, match):
    with pytest.raises(CredentialRefused, match=match) as caught:
        status(line)
    return caught.value


class TestTheLogin:
    def test_hand_shake_and_a_bearer_of_all_that_came_back(self, place):
        here = place()
        line = here.line("ci", tap.printed(here.guard.admit("ci")))
        assert status(line) == status(line) == FINE
        assert here.paths == [HAND, SHAKE, STATUS, STATUS]
        hand, shake, *calls = here.guard.seen
        assert json.loads(hand.body) == {"id": "ci"}
        assert json.loads(shake.body).keys() == {"id", "secret"}
        assert hand.proof is None
        assert shake.proof is None
        session = here.guard.sessions[0]
        assert [json.loads(base64.b64decode(call.proof.removeprefix("Bearer "))) for call in calls] == [session] * 2

    @pytest.mark.parametrize(
        "form", ["as it is printed", "wrapped", "PEM", "PKCS 8", "PEM file", "DER file", "text file"]
    )
    def test_a_key_is_taken_in_every_form_that_it_comes_in(self, form, place, tmp_path):
        here = place()
        known = here.guard.admit("ci")
        text = tap.printed(known)
        files = {"PEM file": tap.pem(known), "DER file": tap.der(known), "text file": text.encode() + b"\n"}
        given = {
            "as it is printed": text,
            "wrapped": "\n".join(text[at : at + 64] for at in range(0, len(text), 64)) + "\n",
            "PEM": tap.pem(known).decode(),
            "PKCS 8": tap.pem(known, form="PKCS8").decode(),
        }.get(form)
        if given is None:
            path = tmp_path / "key"
            path.write_bytes(files[form])
            given = str(path)
        assert status(here.line("ci", given)) == FINE

    def test_a_long_key_is_taken_too(self, place):
        here = place()
        known = here.guard.admit("ci", tap.rsa.generate_private_key(public_exponent=65537, key_size=3072))
        assert status(here.line("ci", tap.printed(known))) == FINE

    def test_what_the_registry_seals_may_be_written_as_its_documents_say(self, place):
        here = place()
        line = here.line("ci", tap.printed(here.guard.admit("ci")))

        def url_safe(seen):
            if seen.path == HAND:
                given, sealed = here.guard._hand(json.loads(seen.body))
                return given, base64.urlsafe_b64encode(base64.b64decode(sealed)) + b"\n"
            return None

        here.guard.before = url_safe
        assert status(line) == FINE

    def test_all_threads_share_one_login(self, place):
        here = place()
        line = here.line("ci", tap.printed(here.guard.admit("ci")))
        assert at_once(12, lambda: status(line)) == [FINE] * 12
        assert len(here.guard.of(HAND)) == len(here.guard.of(SHAKE)) == 1

    def test_all_who_meet_the_end_of_a_session_share_one_login(self, place):
        here = place()
        line = here.line("ci", tap.printed(here.guard.admit("ci")))
        status(line)
        here.guard.end_sessions()
        together = threading.Barrier(12)

        def all_are_refused_before_one_logs_in(seen):
            if seen.path == STATUS and not here.guard.sessions:
                together.wait(WAIT)

        here.guard.before = all_are_refused_before_one_logs_in
        assert at_once(12, lambda: status(line)) == [FINE] * 12
        assert len(here.guard.of(HAND)) == 2
        assert here.pauses == []

    def test_the_next_session_s_end_is_met_as_the_first_one_s(self, place):
        here = place()
        line = here.line("ci", tap.printed(here.guard.admit("ci")))
        for _ in range(3):
            assert status(line) == FINE
            here.guard.end_sessions()
        assert here.paths == [HAND, SHAKE, STATUS, *[STATUS, HAND, SHAKE, STATUS] * 2]

    def test_a_registry_without_such_logins_is_asked_as_it_is(self, place):
        here = place()
        here.guard.before = lambda seen: (404, b"{}") if seen.path == HAND else (200, b'{"open": true}')
        line = here.line("ci", tap.printed(tap.key()))
        assert status(line) == status(line) == {"open": True}
        assert here.paths == [HAND, STATUS, STATUS]
        assert here.guard.of(STATUS)[0].proof is None

    def test_s25_each_step_may_go_to_another_replica(self):
        one, two = Guard(), Guard()
        two.keys, two.secrets, two.sessions = one.keys, one.secrets, one.sessions
        turns = itertools.cycle([one, two])

        def in_turns(*asked):
            return next(turns)(*asked)

        with sites.serving(in_turns) as url:
            access = Access(url, key_id="ci", api_key=tap.printed(one.admit("ci")))
            with contextlib.closing(Connection(access)) as line:
                assert status(line) == status(line) == FINE
        assert [seen.path for seen in one.seen] == [HAND, STATUS]
        assert [seen.path for seen in two.seen] == [SHAKE, STATUS]


class TestItsEnd:
    """By the counter of the node that asked."""

    @pytest.fixture
    def logins(self, place):
        """`logins(ttl)`: the proofs of calls at these seconds, and the guard."""

        def make(ttl, *seconds):
            here = place(ttl=ttl)
            now = [1000.0]
            line = here.line()
            key = ApiKey("ci", tap.printed(here.guard.admit("ci")), here.url, line._post, clock=lambda: now[0])
            proofs = []
            for at in seconds:
                now[0] = 1000.0 + at
                proofs.append(key.used(lambda headers: headers["authorization"]))
            return [proofs.index(proof) for proof in proofs], here.guard

        return make

    def test_a_session_is_made_anew_before_it_ends(self, logins):
        same, guard = logins(300, 0, 200, 299 - EARLY, 301 - EARLY, 302, 599 - 2 * EARLY)
        assert same == [0, 0, 0, 3, 3, 3]
        assert len(guard.of(HAND)) == 2

    def test_a_short_one_is_used_for_most_of_its_time(self, logins):
        assert logins(10, 0, 7.9, 8.1)[0] == [0, 0, 2]

    @pytest.mark.parametrize("ttl", [None, "300", 0, -5, True, float("nan"), [], {}])
    def test_an_end_that_is_none_is_waited_for(self, ttl, logins):
        assert logins(ttl, 0, 10**9)[0] == [0, 0]


class TestWhatGoesWrongOnTheWay:
    @pytest.mark.parametrize("step", [HAND, SHAKE])
    def test_a_login_that_the_registry_has_no_time_for_is_begun_anew(self, step, place):
        here = place()
        line = here.line("ci", tap.printed(here.guard.admit("ci")))
        here.guard.before = lambda seen: (503, b"") if seen.path == step and len(here.guard.of(step)) == 1 else None
        assert status(line) == FINE
        assert len(here.guard.of(HAND)) == 2
        assert len(here.pauses) == 1

    def test_a_secret_whose_time_is_over_is_asked_for_anew_once(self, place):
        here = place()
        line = here.line("ci", tap.printed(here.guard.admit("ci")))

        def too_late(seen):
            if seen.path == SHAKE and len(here.guard.of(SHAKE)) == 1:
                here.guard.secrets.clear()

        here.guard.before = too_late
        assert status(line) == FINE
        assert here.pauses == []

    def test_a_failure_is_everyone_s_and_the_next_try_is_one_again(self, place):
        here = place()
        line = here.line("ci", tap.printed(here.guard.admit("ci")))
        here.guard.before = lambda seen: (503, b"") if seen.path == HAND else None
        found = at_once(6, lambda: status(line))
        assert [type(error) for error in found] == [RegistryUnreachable] * 6
        here.guard.before = lambda _: None
        assert status(line) == FINE

    @pytest.mark.parametrize(
        ("step", "said"),
        [
            (HAND, b"<html>hello</html>"),
            (SHAKE, b"<html>"),
            (SHAKE, b"[]"),
            (SHAKE, b"{}"),
            (SHAKE, b'{"data": []}'),
            (SHAKE, b'{"data": "x"}'),
            (SHAKE, b"[" * 60_000),
            (SHAKE, json.dumps({"data": {"token": "x" * 5000}}).encode()),
        ],
        ids=["no secret", "html", "a list", "nothing", "no object", "text", "deep", "large"],
    )
    def test_an_answer_that_is_none_of_a_login_is_said(self, step, said, place):
        here = place()
        line = here.line("ci", tap.printed(here.guard.admit("ci")))
        here.guard.before = lambda seen: (200, said) if seen.path == step else None
        with pytest.raises(AnswerInvalid, match="login"):
            status(line)
        assert here.guard.of(STATUS) == []

    def test_a_login_is_not_led_elsewhere(self, place):
        here = place()
        line = here.line("ci", tap.printed(here.guard.admit("ci")))
        here.guard.before = lambda seen: (307, b"") if seen.path == HAND else None
        with pytest.raises(AnswerInvalid, match="its login says 307"):
            status(line)


class TestRefusals:
    """Said at once, with what to do; never tried until it works."""

    def test_an_id_that_is_not_known(self, place):
        here = place()
        error = refused(here.line("ci", tap.printed(tap.key())), "the API key 'ci': it does not know the id")
        assert "--" not in error.next_step or "check" in error.next_step
        assert here.paths == [HAND]
        assert here.pauses == []

    def test_a_key_of_somebody_else(self, place):
        here = place()
        here.guard.admit("ci", tap.key("another"))
        refused(here.line("ci", tap.printed(tap.key())), "not the key that it knows")
        assert here.paths == [HAND]

    def test_a_key_that_is_deleted_meanwhile(self, place):
        here = place()
        line = here.line("ci", tap.printed(here.guard.admit("ci")))
        status(line)
        here.guard.keys.clear()
        here.guard.end_sessions()
        refused(line, "the API key 'ci': the key was revoked, or has ended, since the login before")
        assert here.paths == [HAND, SHAKE, STATUS, STATUS, HAND]

    def test_a_secret_that_is_never_taken(self, place):
        here = place()
        line = here.line("ci", tap.printed(here.guard.admit("ci")))
        here.guard.before = lambda seen: (401, UNAUTHENTICATED) if seen.path == SHAKE else None
        refused(line, "the login is not taken")
        assert here.paths == [HAND, SHAKE] * 2

    def test_a_session_that_is_refused_as_soon_as_it_is_made(self, place):
        here = place()
        line = here.line("ci", tap.printed(here.guard.admit("ci")))
        here.guard.before = lambda seen: (401, UNAUTHENTICATED) if seen.path == STATUS else None
        refused(line, "just given")
        assert here.paths == [HAND, SHAKE, STATUS] * 2

    def test_a_registry_without_such_logins_that_asks_for_something(self, place):
        here = place()
        line = here.line("ci", tap.printed(tap.key()))
        here.guard.before = lambda seen: (404, b"") if seen.path == HAND else None
        refused(line, "it has no login for API keys")
        assert here.paths == [HAND, STATUS]

    def test_nobody_is_told_what_to_give(self, place):
        here = place()
        with pytest.raises(Unauthenticated, match=r"^Authentication Required$") as caught:
            status(here.line())
        assert "--api-key-id" in caught.value.next_step
        assert here.paths == [STATUS]

    @pytest.mark.parametrize("half", [{"key_id": "ci"}, {"api_key": "key.pem"}])
    def test_half_a_key_is_none(self, half):
        with pytest.raises(Invalid, match="belong together"):
            Connection(Access("http://registry", **half))

    def test_s23_not_allowed_is_something_else_than_not_known(self, place):
        here = place(root="token")
        here.guard.before = lambda seen: (403, b'{"status":"FAIL","message":"no"}') if seen.path == STATUS else None
        line = here.with_password("root:token")
        with pytest.raises(Forbidden):
            status(line)
        assert here.paths == [STATUS]


class TestPasswords:
    @pytest.mark.parametrize("user", ["root", ""])
    def test_a_user_and_a_password_of_the_address_are_for_basic(self, user, place):
        here = place(root="0123456789")
        assert status(here.with_password(f"{user}:0123456789")) == FINE
        assert here.paths == [STATUS]

    @pytest.mark.parametrize(
        "written", ["a%3Ab%40c%2Fd%25e+f%22g", "a:b@c%2Fd%25e+f%22g"], ids=["as curl wants it", "as people write it"]
    )
    def test_s26_a_token_may_have_any_characters(self, written, place):
        here = place(root='a:b@c/d%e+f"g')
        assert status(here.with_password(f"root:{written}")) == FINE

    def test_one_that_is_refused_is_said_once(self, place):
        here = place(root="0123456789")
        line = here.with_password("root:hunter2hunter2")
        assert "hunter2" not in f"{refused(line, 'the root token')} {line.url}"
        assert here.paths == [STATUS]

    def test_a_key_goes_before_a_password(self, place):
        here = place(root="0123456789")
        line = here.line("ci", tap.printed(here.guard.admit("ci")), user="root", password="0123456789")
        assert status(line) == FINE
        assert here.guard.of(STATUS)[0].proof.startswith("Bearer ")


class TestWhereItGoes:
    @pytest.mark.parametrize("by", ["key", "password"])
    def test_to_the_registry_and_not_to_the_store(self, by, place):
        here = place(root="0123456789")
        known = tap.printed(here.guard.admit("ci"))
        line = here.line("ci", known) if by == "key" else here.with_password("root:0123456789")
        status(line)
        link = "/bucket/packs/x?X-Amz-Signature=abc"
        with Scripted(answers(200, b"data"), answers(206, b"data"), answers(200, ETag="1")) as store:
            line.read(store.url + link)
            line.read(store.url + link, first=0, length=4)
            line.send(store.url + link, {}, memoryview(b"pack"))
            assert [set(request.headers) & {"authorization", "cookie"} for request in store.requests] == [set()] * 3

    def test_an_answer_that_leads_elsewhere_is_not_followed_with_it(self, place):
        with Scripted(answers(200, {})) as elsewhere:
            here = place(
                lambda _, start: (
                    start("302 Found", [("Location", elsewhere.url + STATUS), ("Content-Length", "0")]) and []
                )
            )
            line = here.line("ci", tap.printed(here.guard.admit("ci")))
            with pytest.raises(AnswerInvalid):
                status(line)
            assert elsewhere.requests == []

    def test_a_push_and_a_pull_outlive_their_sessions_and_links_bring_their_own_proof(self, place, tmp_path):
        app = create_app(Settings(store=str(tmp_path / "store")), FilesStore(tmp_path / "store"))
        here = place(app)
        line = here.line("ci", tap.printed(here.guard.admit("ci")))
        machine = machines.make(tmp_path / "baker")
        baker, runner = Library(tmp_path / "baker"), Library(tmp_path / "runner")
        wanted = machines.contents(baker.root, machine)

        def each_session_is_good_for_two_calls(seen):
            if seen.proof is not None and sum(one.proof == seen.proof for one in here.guard.seen) > 2:
                here.guard.end_sessions()

        here.guard.before = each_session_is_good_for_two_calls
        push(line, baker, baker.find(machine.id), PushOptions(tag="v1"), Silent())
        logins = len(here.guard.of(HAND))
        pull(line, runner, machine.id, PullOptions(), Silent())
        assert machines.contents(runner.root, machine) == wanted
        assert 1 < logins < len(here.guard.of(HAND))
        assert here.pauses == []
        links = [seen for seen in here.guard.seen if seen.path.startswith("/objects/")]
        assert links
        assert {seen.proof for seen in links} == {None}


class TestKeysThatAreNone:
    @pytest.fixture
    def unusable(self, tmp_path):
        known = tap.key()
        spki = serialization.PublicFormat.SubjectPublicKeyInfo
        made = {
            "encrypted": tap.pem(known, password=b"x"),
            "encrypted, PKCS 8": tap.pem(known, form="PKCS8", password=b"x"),
            "public": known.public_key().public_bytes(serialization.Encoding.PEM, spki),
            "EC": tap.pem(ec.generate_private_key(ec.SECP256R1())),
            "garbage": b"\x00\xff" * 100,
            "empty": b"",
            "cut": tap.pem(known)[:-200],
        }

        def file(kind):
            path = tmp_path / "key.pem"
            path.write_bytes(made[kind])
            return path

        return file

    @pytest.mark.parametrize(
        ("kind", "why"),
        [("encrypted", "encrypted"), ("encrypted, PKCS 8", "encrypted"), ("public", "no private key"), ("EC", "no RSA key"),
         ("garbage", "no private key"), ("empty", "no private key"), ("cut", "no private key")],
    )  # fmt: skip
    def test_a_file_that_holds_none_is_named_with_the_reason(self, kind, why, unusable):
        path = unusable(kind)
        line = Connection(Access("http://127.0.0.1:9", key_id="ci", api_key=str(path)))
        with pytest.raises(ApiKeyInvalid, match=why) as caught:
            status(line)
        assert str(path) in str(caught.value)

    def test_a_text_that_is_none_is_not_repeated(self):
        text = tap.printed(tap.key())
        for given in (text[:-40], text[40:], tap.pem(tap.key()).decode()[:-100]):
            with pytest.raises(ApiKeyInvalid, match="the API key given as text is not usable") as caught:
                status(Connection(Access("http://127.0.0.1:9", key_id="ci", api_key=given)))
            shown = "".join(traceback.format_exception(caught.value))
            assert not any(given[at : at + 16] in shown for at in range(0, len(given) - 16, 16))

    @pytest.mark.parametrize("name", ["nowhere.pem", ".", "a\0b", "~nobody-of-this-name/key.pem"])
    def test_a_file_that_cannot_be_read_is_named(self, name):
        with pytest.raises(LocalDenied, match="it should hold an API key"):
            status(Connection(Access("http://127.0.0.1:9", key_id="ci", api_key=name)))


def test_c12_a_file_s_name_is_kept_whole_and_a_text_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    text = tap.printed(tap.key())
    assert keepable("key.pem") == str(tmp_path / "key.pem")
    assert keepable("~/key.pem") == str(tmp_path / "home" / "key.pem")
    assert keepable(text) == text
    assert keepable(tap.pem(tap.key()).decode()) == tap.pem(tap.key()).decode()
    long = tmp_path / ("a" * 100)
    long.write_bytes(tap.pem(tap.key()))
    assert keepable(long.name) == str(long)


def test_nothing_that_proves_who_asks_is_ever_written(place, caplog):
    caplog.set_level(logging.DEBUG)
    here = place(root="hunter2hunter2")
    text = tap.printed(here.guard.admit("ci"))
    secrets, shown = [text[100:140], "hunter2"], []
    spoilt = [None, (401, UNAUTHENTICATED), (503, b""), (200, b"?")]
    by_password = here.with_password("root:hunter2hunter2")
    for step in (HAND, SHAKE, STATUS):
        for answer in spoilt:
            here.guard.before = lambda seen, step=step, answer=answer: answer if seen.path == step else None
            for line in (here.line("ci", text), by_password):
                with contextlib.suppress(S3regError):
                    status(line)
                try:
                    status(line)
                except S3regError as e:
                    shown.append("".join(traceback.format_exception(e)) + str(e.as_dict()))
                shown.append(repr(line))
            secrets += [session["token"] for session in here.guard.sessions] + list(here.guard.secrets)
    shown += [repr(Access(here.url, key_id="ci", api_key=text, user="root", password="hunter2")), caplog.text]
    assert len(secrets) > 10
    for secret in secrets:
        assert secret not in "\n".join(shown)
        assert base64.b64encode(secret.encode()).decode().rstrip("=")[:-2] not in "\n".join(shown)


def test_a_command_without_a_key_does_not_wait_for_the_library_that_reads_keys():
    program = "import sys, s3reg.cli.main; sys.exit('cryptography' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
