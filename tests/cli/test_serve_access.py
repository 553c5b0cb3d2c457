"""`s3reg serve` and who may ask: what it needs before it serves, what it says of it, and root tokens that change."""

import base64
import secrets
import socket

import pytest

import pki
from s3reg.api import create_app
from s3reg.cli import exposure
from s3reg.errors import ListenFailed, Unguarded
from s3reg.settings import Settings
from s3reg.store.files import FilesStore

OLD, NEW = secrets.token_urlsafe(12), secrets.token_urlsafe(12)
LIST = "/registry/v2/vm"
OUTSIDE = ["0.0.0.0", "::", "192.0.2.7", "::ffff:192.0.2.7"]


# --- Other machines --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", OUTSIDE)
def test_other_machines_are_served_only_if_they_are_asked_who_they_are_or_that_was_said(host, caplog):
    def check(**told):
        exposure.check_exposure(Settings(listen=f"[{host}]:1", **told))

    with pytest.raises(Unguarded, match=host) as e:
        check()
    assert e.value.next_step.startswith("set S3REG_ROOT_TOKEN")
    check(no_auth=True)
    check(root_token=OLD, tls_cert="cert.pem")
    check(root_token=OLD, proxies=(exposure.ipaddress.ip_network("10.0.0.7"),))
    assert caplog.text == ""


def test_a_host_of_which_one_address_is_reached_from_outside_is_not_this_machine(monkeypatch):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, 0)) for address in ("127.0.0.1", "192.0.2.7")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
    with pytest.raises(Unguarded):
        exposure.check_exposure(Settings(listen="both:1"))


@pytest.mark.parametrize("source", ["root_token", "root_token_file", "root_token_secret"])
def test_tokens_that_cross_the_line_in_clear_are_warned_of(source, caplog):
    exposure.check_exposure(Settings(listen="0.0.0.0:8089", **{source: OLD}))
    (line,) = [record.getMessage() for record in caplog.records]
    assert "credentials-in-clear" in line
    assert "S3REG_TLS_CERT" in line
    assert OLD not in line


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_this_machine_is_served_whatever_is_asked(host, caplog):
    for told in ({}, {"root_token": OLD}, {"no_auth": True}):
        exposure.check_exposure(Settings(listen=f"[{host}]:8089", **told))
    assert caplog.text == ""


def test_a_host_that_there_is_not_is_told():
    with pytest.raises(ListenFailed, match=r"no\.such\.host"):
        exposure.check_exposure(Settings(listen="no.such.host.invalid:1"))


# --- What it needs before it serves ----------------------------------------------------------------------------------


@pytest.fixture
def serve(s3reg, tmp_path, monkeypatch):
    """`serve(*options, **variables)`: what a registry says that cannot start."""

    def start(*options, **variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))
        done = s3reg("serve", "--listen", "127.0.0.1:0", "--store", tmp_path / "store", *options)
        assert done.out == ""
        assert len(done.err.splitlines()) == 2, done.err  # what is wrong, and what to do
        assert OLD not in done.err
        assert not (tmp_path / "store" / "format.json").exists()
        return done.code, done.err

    return start


@pytest.mark.parametrize("name", ["S3REG_ROOT_TOKEN", "S3REG_ROOT_TOKEN_PREVIOUS"])
def test_a_root_token_that_is_too_short_is_refused(serve, name):
    code, told = serve(**{"S3REG_ROOT_TOKEN": OLD, name: "ninechars"})
    assert (code, "at least 10 characters" in told, name in told, "ninechars" in told) == (2, True, True, False)


def test_settings_that_contradict_each_other_are_refused(serve):
    code, told = serve("--no-auth", S3REG_ROOT_TOKEN=OLD)
    assert (code, "--no-auth: access control is on" in told) == (2, True)


@pytest.mark.parametrize(
    ("text", "reason"), [(None, "No such file"), ("", "it is empty"), ("ninechars\n", "at least 10 characters")]
)
def test_a_file_without_a_root_token_is_refused(serve, tmp_path, text, reason):
    if text is not None:
        (tmp_path / "token").write_text(text)
    code, told = serve("--root-token-file", tmp_path / "token")
    assert (code, reason in told, str(tmp_path / "token") in told, "ninechars" in told) == (10, True, True, False)


def test_a_file_of_cas_or_of_lists_that_cannot_be_used_is_refused(serve, tmp_path):
    server, ca = pki.Authority().server(), pki.Authority()
    certificate, key = server.write(tmp_path / "server")
    given = ("--tls-cert", certificate, "--tls-key", key, "--client-ca", ca.write(tmp_path / "ca.pem"))
    (tmp_path / "crl.pem").write_text("no list")
    code, told = serve(*given, "--client-crl", tmp_path / "crl.pem", S3REG_ROOT_TOKEN=OLD)
    assert (code, "--client-crl" in told, "crl.pem: it holds no CRL" in told) == (2, True, True)
    (tmp_path / "ca.pem").write_bytes(ca.issued.key_pem())
    code, told = serve(*given, S3REG_ROOT_TOKEN=OLD)
    assert (code, "--client-ca" in told) == (2, True)
    behind = ("--proxies", "10.0.0.7", "--proxy-certificates", "alb-verify", "--client-ca", tmp_path / "ca.pem")
    code, told = serve(*behind, S3REG_ROOT_TOKEN=OLD)
    assert (code, "--client-ca" in told, "ca.pem: it holds no certificate" in told, "PRIVATE" in told) == (
        2,
        True,
        True,
        False,
    )


def test_a_key_of_another_certificate_is_refused(serve, tmp_path):
    certificate, _ = pki.Authority().server().write(tmp_path / "one")
    _, key = pki.Authority().server().write(tmp_path / "other")
    code, told = serve("--tls-cert", certificate, "--tls-key", key)
    assert (code, "the key does not belong to the certificate" in told) == (2, True)


def test_the_help_names_every_setting_and_gives_a_secret_no_option(s3reg):
    told = " ".join(s3reg("serve", "--help").out.split())
    assert "--root-token-file" in told
    assert "S3REG_ROOT_TOKEN: The root token" in told
    assert "S3REG_ROOT_TOKEN_PREVIOUS: " in told
    assert "--root-token " not in told
    assert "--root-token-previous" not in told
    assert s3reg("serve", "--root-token", OLD).code == 2


# --- Root tokens that change while it serves -------------------------------------------------------------------------


@pytest.fixture
def ask(tmp_path):
    """`ask(settings)`: asks a registry, and gives the status of the answer for each token."""

    def of(**told):
        store = FilesStore(tmp_path / "store")
        http = create_app(Settings(store=str(tmp_path / "store"), **told), store).test_client()

        def statuses(*tokens):
            proofs = ["Basic " + base64.b64encode(f"root:{token}".encode()).decode() for token in tokens]
            return [http.get(LIST, headers={"Authorization": proof}).status_code for proof in proofs]

        return statuses

    return of


def test_s26_a_token_of_any_characters_opens_the_registry(ask):
    token = ' :@/%+" ключ-é-日本 '
    assert ask(root_token=token)(token, token.strip()) == [200, 401]


def test_a_token_rotated_by_restarts_is_refused_by_no_replica(ask):
    before, between, after = ask(root_token=OLD), ask(root_token=NEW, root_token_previous=OLD), ask(root_token=NEW)
    assert [one(OLD, NEW) for one in (before, between, after)] == [[200, 401], [200, 200], [401, 200]]


def test_a_token_rotated_in_its_file_is_never_refused(ask, tmp_path):
    file = tmp_path / "token"
    file.write_text(f"{OLD}\n")
    registry = ask(root_token_file=str(file))
    assert registry(OLD, NEW) == [200, 401]
    file.write_text(f"{NEW}\n{OLD}\n")
    assert registry(OLD, NEW) == [200, 200]
    file.write_text("")
    assert registry(OLD, NEW) == [200, 200]
    file.write_text(f"{NEW}\n")
    assert registry(OLD, NEW) == [401, 200]


def test_a_file_that_a_process_finds_bad_at_its_start_is_a_503_and_no_401(ask, tmp_path):
    file = tmp_path / "token"
    file.write_text("")
    registry = ask(root_token_file=str(file))
    assert registry(OLD) == [503]
    file.write_text(OLD)
    assert registry(OLD, NEW) == [200, 401]
