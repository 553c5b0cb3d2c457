"""`keys`: who may log in, made, listed, changed and revoked by an administrator."""

import io
import shlex
import stat
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

import access_kit
import sites
import tap
import wires
from s3reg.client import keyfile
from s3reg.crypto import PublicKey

MISUSED, NOT_FOUND, FORBIDDEN, UNSUPPORTED, CONFLICT, REFUSED = 2, 3, 5, 9, 18, 4


@pytest.fixture
def now():
    """What the registry takes for the time: seconds beside this machine's."""
    return [0.0]


@pytest.fixture
def closed(tmp_path, monkeypatch, now):
    """A registry with access control; the environment has its root token."""
    made = access_kit.Closed(tmp_path / "store", authorization=True, clock=lambda: time.time() + now[0])
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("S3REG_REGISTRY_ROOT_TOKEN", made.token)
    with sites.serving(made.app) as made.url:
        monkeypatch.setenv("S3REG_REGISTRY", made.url)
        yield made


@pytest.fixture
def public(tmp_path):
    """A file with the public half of a key."""
    path = tmp_path / "public.pem"
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    path.write_bytes(tap.key().public_key().public_bytes(serialization.Encoding.PEM, spki))
    return path


def ids(closed):
    return [key.id for key in closed.gate.keys.all()]


def test_a_key_is_made_on_the_node_and_what_is_printed_makes_a_node_use_it(s3reg, closed, monkeypatch):
    closed.group("builders", "index", "list_vms")
    sent = []
    monkeypatch.setattr(closed.app, "wsgi_app", recording(closed.app.wsgi_app, sent))
    done = s3reg("keys", "create", "ci", "--group", "builders", "--ttl", "90d")
    assert done.code == 0, done.err
    file = Path("ci.pem").absolute()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    pem = file.read_bytes()
    assert pem.startswith(b"-----BEGIN RSA PRIVATE KEY-----\n")
    assert max(map(len, pem.splitlines())) <= 64
    key = serialization.load_pem_private_key(pem, None)
    made = closed.gate.keys.find("ci")
    assert made.public_key == access_kit.public_der(key)
    assert made.groups == ("builders",)
    assert made.expires - made.created == 90 * 86_400
    kept = pem.split(b"\n")[-6].decode()
    assert kept not in done.out + done.err
    assert kept.encode() not in b"".join(sent), "the registry is told the public half"
    told = done.out.splitlines()
    assert told[0].startswith("API key ci, in group builders, good until ")
    assert told[1] == f"it is in {file}, and nowhere else"
    monkeypatch.delenv("S3REG_REGISTRY_ROOT_TOKEN")
    assert s3reg("list").code == REFUSED
    assert s3reg(*shlex.split(told[-1])[1:]).code == 0
    assert s3reg("list").code == 0
    assert "key:ci" in s3reg("access", "whoami").out


def recording(app, sent):
    def wsgi(environ, start_response):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        sent.append(body)
        environ["wsgi.input"] = io.BytesIO(body)
        return app(environ, start_response)

    return wsgi


def test_a_program_is_told_what_was_made_and_where_the_key_lies(s3reg, closed, tmp_path):
    answer = s3reg("-j", "keys", "create", "ci", "--ttl", "never", "--out", tmp_path / "sub.key").answer
    key = answer["body"]
    assert answer["status"] == "OK"
    assert key["file"] == str(tmp_path / "sub.key")
    assert key["expires"] is None
    assert key["groups"] == []
    assert key["fingerprint"] == PublicKey(closed.gate.keys.find("ci").public_key).fingerprint
    assert "PRIVATE" not in str(answer)


@pytest.mark.parametrize("there", ["file", "link", "dangling link"])
def test_nothing_that_is_there_is_overwritten_by_a_key(there, s3reg, closed):
    if there == "file":
        Path("ci.pem").write_text("mine")
    else:
        Path("ci.pem").symlink_to("other")
        if there == "link":
            Path("other").write_text("mine")
    done = s3reg("keys", "create", "ci")
    assert done.code == CONFLICT
    assert "exists, and may be a key's" in done.err
    assert ids(closed) == []
    if there == "dangling link":
        assert not Path("other").exists()
    else:
        assert Path("ci.pem").read_text() == "mine"


def test_a_folder_that_takes_no_file_is_named_before_the_registry_is_told(s3reg, closed):
    done = s3reg("keys", "create", "ci", "--out", "nowhere/ci.pem")
    assert done.code == 11
    assert "nowhere/ci.pem" in done.err
    assert ids(closed) == []


@pytest.mark.parametrize("how", [[], ["--on-server"]], ids=["here", "on the server"])
def test_a_key_that_the_registry_refuses_leaves_no_file(how, s3reg, closed):
    closed.make("ci")
    done = s3reg("keys", "create", "ci", *how)
    assert done.code == CONFLICT
    assert "the API key 'ci' already exists" in done.err
    assert list(Path().iterdir()) == []


def test_whoever_may_not_make_keys_is_told_what_is_missing_and_keeps_no_file(s3reg, closed, monkeypatch, tmp_path):
    closed.make("helper", [closed.group("helpers", "index")])
    monkeypatch.delenv("S3REG_REGISTRY_ROOT_TOKEN")
    who = ["--api-key-id", "helper", "--api-key", tap.kept(tap.key(), tmp_path)]
    done = s3reg("keys", "create", "ci", *who)
    assert done.code == FORBIDDEN
    assert "key:helper lacks the permission update_permission_groups" in done.err
    assert "s3reg access explain KEY TEMPLATE" in done.err
    assert list(Path().iterdir()) == []


def test_an_open_registry_has_no_keys_and_no_file_is_left(s3reg, registry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in (["list"], ["create", "ci"], ["revoke", "ci"], ["change", "ci", "--ttl", "1d"]):
        done = s3reg("keys", *words, "-a", registry)
        assert done.code == UNSUPPORTED
        assert "access control is off\n       set S3REG_ROOT_TOKEN" in done.err
    assert not Path("ci.pem").exists()


def test_a_lost_answer_costs_no_key(s3reg, closed):
    with wires.Proxy(closed.url, loses=First(b"POST /transfer/v1/keys ")) as line:
        done = s3reg("keys", "create", "ci", "-a", line.endpoint)
        assert line.lost == 1
    assert done.code == 0, done.err
    assert ids(closed) == ["ci"]
    assert s3reg("list", "--root-token", "", "--api-key-id", "ci", "--api-key", "ci.pem").code == FORBIDDEN


class First:
    """Loses the answer to the first request that begins so."""

    def __init__(self, begins):
        self.begins, self.met = begins, False

    def __call__(self, request):
        met, self.met = self.met, self.met or request.startswith(self.begins)
        return request.startswith(self.begins) and not met


def test_the_registry_may_make_the_pair_and_a_node_may_bring_its_own(s3reg, closed, public):
    closed.group("builders", "list_vms")
    assert s3reg("keys", "create", "theirs", "--on-server", "-g", "builders").code == 0
    assert stat.S_IMODE(Path("theirs.pem").stat().st_mode) == 0o600
    done = s3reg("keys", "create", "ours", "--public-key", public, "-g", "builders")
    assert done.code == 0
    assert done.out.endswith("--api-key-id ours --api-key FILE\n")
    assert list(Path().iterdir()) == [Path("theirs.pem")]
    own = tap.kept(tap.key(), public.parent)
    for name, file in (("theirs", "theirs.pem"), ("ours", own)):
        assert s3reg("list", "--api-key-id", name, "--api-key", file).code == 0


@pytest.mark.parametrize(
    ("held", "why"),
    [
        (lambda: tap.pem(tap.key()), "it is a private one; openssl rsa -pubout makes the public half of it"),
        (lambda: b"hello", "it is no public key in PEM"),
        (lambda: b"x" * 100_000, "it is larger than any public key"),
    ],
    ids=["private", "garbage", "large"],
)
def test_a_file_without_a_public_key_is_told_from_one_that_has_it(held, why, s3reg, closed, tmp_path):
    (tmp_path / "odd").write_bytes(held())
    done = s3reg("keys", "create", "ci", "--public-key", tmp_path / "odd")
    assert done.code == MISUSED
    assert f"the public key {str(tmp_path / 'odd')!r} is not usable: {why}" in done.err
    assert s3reg("keys", "create", "ci", "--public-key", tmp_path / "nowhere").code == 11
    assert ids(closed) == []


@pytest.mark.parametrize(
    ("key_id", "name"),
    [
        ("ci", "ci.pem"),
        ("build@mac-12.local", "build@mac-12.local.pem"),
        ("../../etc/passwd", "_.._etc_passwd.pem"),
        ("-rf", "rf.pem"),
        ("näh 1", "n_h_1.pem"),
        ("...", "api-key.pem"),
        ("x" * 128, "x" * 100 + ".pem"),
    ],
)
def test_a_key_s_file_is_named_for_it_and_lies_where_one_is(key_id, name):
    assert keyfile.name_for(key_id) == name


@pytest.mark.parametrize("key_id", ["", "root", "everyone", "a\nb", "x" * 129])
def test_an_id_that_is_none_is_refused_before_there_is_a_file(key_id, s3reg, closed):
    assert s3reg("keys", "create", key_id).code == MISUSED
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("60", 60),
        ("60s", 60),
        ("90m", 5400),
        ("12h", 43_200),
        ("90d", 7_776_000),
        ("2W", 1_209_600),
        ("1 y", 31_536_000),
    ],
)
def test_how_long_a_key_is_good_for_is_said_as_people_say_it(text, seconds, s3reg, closed, public):
    assert s3reg("keys", "create", "ci", "--public-key", public, "--ttl", text).code == 0
    key = closed.gate.keys.find("ci")
    assert key.expires - key.created == seconds


@pytest.mark.parametrize("text", ["", "0", "-1d", "1.5d", "soon", "1month", "9" * 20])
def test_a_time_that_is_none_is_refused_with_what_to_write(text, s3reg, closed):
    done = s3reg("keys", "create", "ci", f"--ttl={text}")
    assert done.code == MISUSED
    assert "write 90d, 12h, 1y, a number of seconds, or never" in done.err
    assert list(Path().iterdir()) == []


def test_the_list_tells_who_is_in_which_group_for_how_long_and_who_has_ended(s3reg, closed, now):
    now[0] = -10_000.0
    closed.make("past", ["a", "b"], ttl=60)
    now[0] = 0.0
    closed.make("always")
    for name, ttl in (("days", 90 * 86_400), ("hours", 86_400), ("minutes", 600), ("seconds", 100)):
        closed.make(name, ["a"], ttl=ttl)
    rows = [line.split("\t") for line in s3reg("keys", "list").out.splitlines()]
    assert [row[0] for row in rows] == sorted(ids(closed))
    found = {row[0]: row[1:] for row in rows}
    assert found["past"][:2] == ["a, b", "ended"]
    assert found["always"][:2] == ["", "never"]
    assert [found[name][1] for name in ("days", "hours", "minutes")] == ["in 90 d", "in 24 h", "in 10 min"]
    assert found["seconds"][1].removeprefix("in ").removesuffix(" s").isdecimal()
    assert found["days"][3] == PublicKey(access_kit.public_der(tap.key())).fingerprint[:16]
    told = {key["id"]: key for key in s3reg("-j", "keys", "list").answer["body"]}
    assert told["past"]["ended"] is True
    assert told["past"]["groups"] == ["a", "b"]
    assert told["always"] == {**told["always"], "ended": False, "expires": None}


def test_s24_a_key_that_is_changed_has_it_at_once_and_one_that_ended_lives_again(s3reg, closed, now):
    now[0] = -10_000.0
    closed.make("ci", ["a"], ttl=60)
    now[0] = 0.0
    closed.group("a", "list_vms")
    closed.group("b", "index")
    assert closed.hand("ci").status_code == 401
    done = s3reg("keys", "change", "ci", "--ttl", "1d")
    assert done.out.startswith("API key ci, in group a, good until ")
    login = closed.login("ci")
    assert closed.http.get("/registry/vm", headers=login).status_code == 200
    assert s3reg("keys", "change", "ci", "-g", "b", "-g", "c,d").out == (
        s3reg("keys", "change", "ci", "-g", "b,c,d").out
    )
    assert closed.gate.keys.find("ci").groups == ("b", "c", "d")
    assert closed.http.get("/registry/vm", headers=login).status_code == 403
    assert closed.http.get("/registry/status", headers=login).status_code == 200
    assert s3reg("keys", "change", "ci", "--ttl", "never").code == 0
    assert closed.gate.keys.find("ci").expires is None
    assert s3reg("keys", "change", "ci", "--no-groups").out.splitlines() == [
        "API key ci, in no group, good for ever",
        "without a group it may do nothing: s3reg keys change ci --group GROUP",
    ]
    assert s3reg("keys", "change", "nobody", "--ttl", "1d").code == NOT_FOUND


def test_a_group_that_there_is_not_is_said(s3reg, closed, public):
    closed.group("a")
    done = s3reg("keys", "create", "ci", "--public-key", public, "-g", "a", "-g", "b c")
    assert "there is no group b c yet: s3reg groups create 'b c' --role pull" in done.out
    assert "no group a" not in done.out


@pytest.mark.parametrize("words", [[], ["-g", "a", "--no-groups"]])
def test_a_change_of_nothing_or_of_two_things_at_once_is_refused(words, s3reg, closed):
    closed.make("ci", ["b"])
    assert s3reg("keys", "change", "ci", *words).code == MISUSED
    assert closed.gate.keys.find("ci").groups == ("b",)


def test_keys_are_revoked_all_or_none_and_their_logins_with_them(s3reg, closed):
    login = closed.key("one", [closed.group("a", "list_vms")])
    closed.make("two")
    assert s3reg("keys", "revoke", "one", "nobody").code == NOT_FOUND
    assert closed.http.get("/registry/vm", headers=login).status_code == 200
    assert s3reg("keys", "revoke", "one", "two", "one").out == "one, two revoked\n"
    assert closed.http.get("/registry/vm", headers=login).status_code == 401
    assert s3reg("-j", "keys", "list").answer["body"] == []


def test_a_person_at_a_terminal_may_think_better_of_it(s3reg, closed, monkeypatch):
    closed.make("one")
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    done = s3reg("keys", "revoke", "one")
    assert done.code == 1
    assert "one will be revoked. Go on? [y/N]:" in done.err
    assert ids(closed) == ["one"]
    assert s3reg("keys", "revoke", "one", "--yes").code == 0
    assert ids(closed) == []
