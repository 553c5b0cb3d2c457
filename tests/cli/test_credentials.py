"""What proves who asks, as people give it: options, addresses, the environment, and what `add` and `set` remember."""

import base64
import itertools
import ssl
import stat

import click
import pytest
import yaml

import machines
import sites
import tap
import wires
from machines import KIB
from s3reg.api import create_app
from s3reg.cli.main import SERVER_COMMANDS, program
from s3reg.settings import Settings
from s3reg.store.files import FilesStore

TOKEN = "c0ffee:@/%+token"
WRITTEN = "c0ffee%3A%40%2F%25%2Btoken"
UNAUTHENTICATED, MISUSED, LOCAL_REFUSAL = 4, 2, 11
ARGUMENTS = {
    ("add",): ["other", "URL"],
    ("groups", "deny"): ["team", "index"],
    ("groups", "grant"): ["team", "index"],
    ("keys", "change"): ["ci", "--ttl", "1d"],
    ("prune",): ["base", "--keep-last", "3"],
    ("push",): ["base", "-t", "v1"],
    ("rename",): ["base", "other"],
    ("revert",): ["base", "--yes"],
    ("sessions", "abort"): ["0" * 32],
    ("trash", "purge"): ["base", "--yes"],
}
"""Of commands that take something else than the name of a VM, or nothing."""
LOCAL = {"completion", "delete", "export", "import", "list-repos", "set", "shim", "vm"}
"""Commands that ask no registry; `set` asks where it changes something, as all the others are tried with it."""


def asking(group=program, before=()):
    """Every command that asks a registry, as the words that name it; those of the group `registry` are the same ones."""
    for name, command in group.commands.items():
        path = (*before, name)
        if isinstance(command, click.Group) and name not in {"registry", *LOCAL}:
            yield from asking(command, path)
        elif before or name not in {"registry", *LOCAL, *SERVER_COMMANDS}:
            yield path


def words_of(path, url):
    """The command, with what it has to be given."""
    command = program
    for name in path:
        command = command.commands[name]
    wanted = [param for param in command.params if isinstance(param, click.Argument) and param.required]
    return [url if word == "URL" else word for word in (*path, *ARGUMENTS.get(path, ["base"] * len(wanted)))]


@pytest.fixture
def guard(tmp_path):
    """A registry with one VM that knows an API key and root."""
    guard = tap.Guard(create_app(Settings(store=str(tmp_path / "store")), FilesStore(tmp_path / "store")), root=TOKEN)
    guard.admit("ci")
    with sites.serving(guard) as guard.url:
        yield guard


@pytest.fixture
def key():
    """The options that prove who asks."""
    return ["--api-key-id", "ci", "--api-key", tap.printed(tap.key())]


@pytest.fixture
def known(tmp_path):
    """What is remembered of a registry."""
    return lambda name: yaml.safe_load((tmp_path / "remotes.yaml").read_text())["remotes"][name]


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A VM that may be pushed, and a folder to be in."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    machines.make(tmp_path / "library", sizes=(30 * KIB,), state_size=0, name="base")


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("path", sorted(asking()), ids=" ".join)
def test_c12_every_command_shows_its_credential_wherever_that_stands(path, s3reg, monkeypatch, tmp_path):
    guard = tap.Guard(root=TOKEN)
    guard.admit("ci")
    key_file = str(tap.kept(tap.key(), tmp_path))
    (tmp_path / "token").write_text(f"{TOKEN}\nthe one before\n")
    ways = {
        "Bearer": {"--api-key-id": "ci", "--api-key": key_file},
        "Basic": {"--root-token": f"@{tmp_path / 'token'}"},
    }
    variables = {
        "Bearer": {"S3REG_REGISTRY_API_KEY_ID": "ci", "S3REG_REGISTRY_API_KEY": key_file},
        "Basic": {"S3REG_REGISTRY_ROOT_TOKEN": TOKEN},
    }

    def shown(*words):
        """The scheme of the credential with which the registry was asked, or the refusal to answer without one."""
        guard.seen.clear()
        done = s3reg(*words)
        proofs = {seen.proof.split()[0] for seen in guard.seen if seen.proof}
        if done.code == UNAUTHENTICATED and not proofs:
            assert done.err.startswith("s3reg: Authentication Required\n       give --api-key-id and --api-key, or")
            return "refused"
        assert done.code != UNAUTHENTICATED
        assert len(proofs) == 1
        return proofs.pop()

    with sites.serving(guard) as url:
        words = words_of(path, url)
        s3reg("add", "known", url, "-f")
        assert shown(*words) == "refused"
        for scheme, options in ways.items():
            given = list(itertools.chain(*options.items()))
            assert shown(*given[:2], *words, *given[2:]) == scheme
            with monkeypatch.context() as patch:
                for name, value in variables[scheme].items():
                    patch.setenv(name, value)
                assert shown(*words) == scheme
            if path[0] != "add":
                assert shown("set", "known", *given) == scheme
                assert shown(*words) == scheme
                s3reg("set", "known", "-f", *(word if word in options else "" for word in given))


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("path", sorted(asking()), ids=" ".join)
def test_c12_every_command_shows_its_certificate_and_checks_the_registry_s(path, s3reg, monkeypatch, tmp_path):
    context, ca = wires.certificate(tmp_path)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(ca)
    leaf, key = tmp_path / "leaf.pem", tmp_path / "key.pem"
    presented = []

    def look(environ, start_response):
        presented.append(environ.get("SSL_CLIENT_CERT"))
        return tap.fine(environ, start_response)

    def shown(*words):
        """Whether the registry was asked, and with the certificate."""
        presented.clear()
        s3reg(*words)
        assert set(presented) in ({leaf.read_text()}, {None}, set())
        return None if not presented else presented[0] is not None

    with sites.serving(look, context) as url:
        words = words_of(path, url)
        s3reg("add", "known", url, "-f")
        assert shown(*words) is None, "nobody vouches for the registry"
        assert shown(*words, "--insecure") is False
        assert shown("--cacert", ca, "--cert", leaf, *words, "--key", key) is True
        with monkeypatch.context() as patch:
            patch.setenv("S3REG_CA_BUNDLE", str(ca))
            patch.setenv("S3REG_REGISTRY_CERT", str(leaf))
            patch.setenv("S3REG_REGISTRY_KEY", str(key))
            assert shown(*words) is True
        if path[0] != "add":
            assert shown("set", "known", "--cacert", ca, "--cert", leaf, "--key", key) is True
            assert shown(*words) is True


def test_c12_add_and_set_remember_a_key_s_text(s3reg, guard, key, known, tmp_path):
    assert s3reg("add", "here", guard.url).code == UNAUTHENTICATED
    assert s3reg("add", "here", guard.url, *key).code == 0
    assert s3reg("list").code == 0
    assert known("here")["api_key"] == key[-1]
    assert stat.S_IMODE((tmp_path / "remotes.yaml").stat().st_mode) == 0o600
    assert s3reg("add", "--insecure", "open", guard.url, "-f").code == 0
    assert s3reg("list").code == UNAUTHENTICATED
    assert s3reg("set", "open", *key).code == 0
    assert s3reg("list").code == 0


def test_c12_set_forgets_what_is_given_as_an_empty_text(s3reg, guard, key, known, tmp_path):
    s3reg("add", "here", guard.url, "-f", "--cert", "c.pem", "--key", "k.pem", "--cacert", "ca.pem", "--insecure", *key)
    assert set(known("here")) == {"url", "ca_bundle", "certificate", "key", "key_id", "api_key", "insecure"}
    s3reg("set", "here", "-f", "--api-key-id", "")
    assert set(known("here")) == {"url", "ca_bundle", "certificate", "key", "insecure"}, "half a key is none"
    s3reg("set", "here", "-f", "--key", "")
    assert set(known("here")) == {"url", "ca_bundle", "certificate", "insecure"}
    s3reg("set", "here", "-f", "--key", "k.pem")
    s3reg("set", "here", "-f", "--cert", "", "--no-insecure", "--cacert", "")
    assert known("here") == {"url": guard.url, "insecure": False}
    s3reg("set", "here", "-f", "--root-token", TOKEN)
    assert known("here") == {"url": guard.url, "user": "root", "password": TOKEN, "insecure": False}
    s3reg("set", "here", "-f", *key)
    assert set(known("here")) == {"url", "key_id", "api_key", "insecure"}, "one credential takes the other's place"
    s3reg("set", "here", "-f", "--root-token", TOKEN)
    s3reg("set", "here", "-f", "--root-token", "")
    assert known("here") == {"url": guard.url, "insecure": False}


def test_an_empty_text_stands_for_none_in_one_call_too(s3reg, guard, key, monkeypatch):
    s3reg("add", "here", guard.url, *key)
    monkeypatch.setenv("S3REG_REGISTRY_API_KEY_ID", "ci")
    assert s3reg("list").code == 0
    assert s3reg("list", "--api-key", "").code == UNAUTHENTICATED
    assert s3reg("list").code == 0


def test_a_certificate_s_key_goes_with_it(s3reg, guard, known, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    s3reg("add", "here", guard.url, "-f", "--cert", "old.pem", "--key", "old.key")
    s3reg("set", "here", "-f", "--cert", "both.pem")
    assert known("here") == {"url": guard.url, "certificate": str(tmp_path / "both.pem"), "insecure": False}


def test_c12_a_relative_key_path_works_from_everywhere(s3reg, guard, known, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = tap.kept(tap.key(), tmp_path).name
    assert s3reg("add", "here", guard.url, "--api-key-id", "ci", "--api-key", name).code == 0
    assert known("here")["api_key"] == str(tmp_path / name)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert s3reg("list").code == 0


@pytest.mark.parametrize("whose", ["S3REG", "ANKA"])
def test_a_key_of_the_environment_is_used_and_not_remembered(whose, *, s3reg, guard, key, known, monkeypatch):
    monkeypatch.setenv(f"{whose}_REGISTRY_API_KEY_ID", key[1])
    monkeypatch.setenv(f"{whose}_REGISTRY_API_KEY", key[3])
    assert s3reg("add", "here", guard.url).code == 0
    assert set(known("here")) == {"url", "insecure"}
    assert s3reg("list").code == 0
    assert s3reg("list", "-a", guard.url).code == 0
    monkeypatch.setenv(f"{whose}_REGISTRY", guard.url)
    assert s3reg("list").code == 0
    assert s3reg("registry", "--default", "list").code == 0


def test_an_option_s_key_goes_before_the_environment_s_and_that_before_the_remembered_one(
    s3reg, guard, key, monkeypatch
):
    other = tap.printed(tap.key("another"))
    assert s3reg("add", "here", guard.url, "--api-key-id", "ci", "--api-key", other, "-f").code == 0
    assert s3reg("list").code == UNAUTHENTICATED
    monkeypatch.setenv("S3REG_REGISTRY_API_KEY", key[3])
    assert s3reg("list").code == 0, "the id is remembered, the key is the environment's"
    monkeypatch.setenv("S3REG_REGISTRY_API_KEY", other)
    assert s3reg("list").code == UNAUTHENTICATED
    assert s3reg("list", *key).code == 0
    assert s3reg("list", "-a", guard.url.replace("://", f"://root:{WRITTEN}@")).code == 0


def test_s26_roots_token_stands_in_the_address_as_curl_takes_it(s3reg, guard, known, monkeypatch):
    address = guard.url.replace("://", f"://root:{WRITTEN}@")
    assert s3reg("list", "-a", address).code == 0
    assert s3reg("-r", address, "list").code == 0
    assert s3reg("add", "here", address).code == 0
    assert s3reg("list").code == 0
    assert s3reg("list", "-a", guard.url).code == 0, "it is that registry's"
    assert known("here") == {"url": guard.url, "user": "root", "password": TOKEN, "insecure": False}
    monkeypatch.setenv("ANKA_REGISTRY", address)
    assert s3reg("list").code == 0
    assert guard.of("/tap/v1/hand") == []


def test_root_s_token_and_a_key_are_two_credentials(s3reg, guard, key, monkeypatch):
    done = s3reg("list", "-a", guard.url, "--root-token", TOKEN, *key)
    assert done.code == MISUSED
    assert "--root-token and --api-key are two credentials" in done.err
    monkeypatch.setenv("S3REG_REGISTRY_ROOT_TOKEN", TOKEN)
    assert s3reg("list", "-a", guard.url, *key).code == 0
    assert guard.seen[-1].proof.startswith("Bearer"), "an option goes before the environment"
    monkeypatch.setenv("S3REG_REGISTRY_API_KEY_ID", key[1])
    monkeypatch.setenv("S3REG_REGISTRY_API_KEY", key[3])
    assert s3reg("list", "-a", guard.url).code == 0
    assert guard.seen[-1].proof.startswith("Bearer"), "of the environment's two, the key"
    assert s3reg("list", "-a", guard.url, "--root-token", TOKEN).code == 0
    assert guard.seen[-1].proof.startswith("Basic")
    assert s3reg("list", "-a", guard.url.replace("://", f"://root:{WRITTEN}@")).code == 0
    assert guard.seen[-1].proof.startswith("Basic"), "what stands in the address too"


@pytest.mark.parametrize(
    ("held", "why"),
    [(None, "No such file or directory"), (b"\n", "it is empty"), (b"x" * 5000, "it is longer")],
    ids=["none", "empty", "long"],
)
def test_a_file_without_a_root_token_is_named(held, why, s3reg, guard, tmp_path):
    if held is not None:
        (tmp_path / "token").write_bytes(held)
    done = s3reg("list", "-a", guard.url, "--root-token", f"@{tmp_path / 'token'}")
    assert done.code == LOCAL_REFUSAL
    assert f"{str(tmp_path / 'token')!r} cannot be used: it should hold the root token ({why}" in done.err


def test_s26_roots_token_may_be_bytes_that_are_no_text(s3reg, guard, tmp_path):
    odd = b"\xff\xfe:token"
    guard.before = lambda seen: (200, b"{}") if base64.b64decode(seen.proof.split()[1]) == b"root:" + odd else None
    (tmp_path / "token").write_bytes(odd + b"\r\n")
    assert s3reg("add", "here", guard.url, "--root-token", f"@{tmp_path / 'token'}").code == 0
    assert s3reg("list").code not in {0, UNAUTHENTICATED}, "the answer is none, and the token was the one"


def test_no_credential_is_shown(s3reg, guard, key):
    address = guard.url.replace("://", f"://root:{WRITTEN}@")
    shown = []
    for words in (
        ["add", "here", guard.url, *key],
        ["add", "there", address],
        ["add", "there", address.replace("c0ffee", "c0ffee2")],
        ["add", "here", "http://elsewhere", "-f"],
        ["add", "odd", address + "/?x=1"],
        ["add", address, "odd"],
        ["list", "-r", address.removeprefix("http://")],
        ["delete", address.removeprefix("http://")],
        ["list-repos"],
        ["list", *key[:2], "--api-key", key[3][:-50]],
        ["add", "away", "http://root:c0ffee@127.0.0.1:9"],
        ["add", "rooted", guard.url, "--root-token", TOKEN],
        ["list-repos", "rooted"],
        ["list", "-a", guard.url, "--root-token", "c0ffee-is-wrong"],
        ["list", "-a", guard.url.replace("://", "://root:c0ffee@")],
        ["list", "-a", guard.url, "--api-key", key[3]],
        ["describe", "nothing", *key],
    ):
        for more in (["-j"], ["--debug"]):
            done = s3reg(*words, *more)
            shown.append(done.out + done.err)
    everything = "\n".join(shown)
    for secret in ("c0ffee", key[3][100:120], "Bearer", "Basic", guard.sessions[-1]["token"][:20]):
        assert secret not in everything
    assert "the API key given as text is not usable" in everything


def test_half_a_key_is_said(s3reg, guard, key):
    done = s3reg("list", "-a", guard.url, *key[:2])
    assert done.code == MISUSED
    assert "an API key and its id belong together" in done.err


def test_an_encrypted_key_is_said(s3reg, guard, tmp_path):
    path = tmp_path / "key.pem"
    path.write_bytes(tap.pem(tap.key(), password=b"x"))
    done = s3reg("list", "-a", guard.url, "--api-key-id", "ci", "--api-key", path)
    assert done.code == MISUSED
    assert f"the API key {str(path)!r} is not usable: it is encrypted" in done.err
