"""What proves who asks, as people give it: options, addresses, the environment, and what `add` and `set` remember."""

import stat

import pytest
import yaml

import sites
import tap
from s3reg.api import create_app
from s3reg.settings import Settings
from s3reg.store.files import FilesStore

TOKEN = "c0ffee:@/%+token"
WRITTEN = "c0ffee%3A%40%2F%25%2Btoken"
UNAUTHENTICATED, MISUSED = 4, 2
COMMANDS = (
    "push base -t",
    "list",
    "describe base",
    "show base",
    "check-download-size base",
    "pull base",
    "revert base --yes",
)


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


@pytest.mark.parametrize("command", COMMANDS)
def test_c12_every_command_logs_in_wherever_the_key_stands(command, s3reg, guard, key, disk):
    s3reg("import", "base", "--disk", disk)
    s3reg("add", "here", guard.url, "-f")
    assert s3reg(*key, "push", "base", "-t", "v1").code == 0

    def run(tag, *before, after=()):
        words = command.split()
        return s3reg(*before, *words, *([tag] if words[0] == "push" else []), *after)

    refused = run("v2")
    assert refused.code == UNAUTHENTICATED
    assert refused.err.startswith("s3reg: Authentication Required\n       give --api-key-id and --api-key, or")
    assert run("v2", *key[:2], after=key[2:]).code == 0
    s3reg(*key, "push", "base", "-t", "v3")
    guard.end_sessions()
    assert run("v4", "registry", *key[2:], after=key[:2]).code == 0


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
