"""The settings: one table, read from the environment and the flags, and nothing taken on trust."""

import dataclasses
import ipaddress
import secrets

import pytest

from s3reg import configuration, settings
from s3reg.errors import SettingInvalid

TOKEN, PREVIOUS = secrets.token_urlsafe(), secrets.token_urlsafe()


def test_without_anything_every_setting_has_its_default():
    read = configuration.read({})
    assert read == settings.Settings()
    assert (read.listen, read.link_seconds, read.workers, read.s3_path_style) == ("127.0.0.1:8089", 3600, None, None)


def test_the_environment_spells_every_setting():
    spelled = {
        "S3REG_STORE": "s3://bucket/prefix",
        "S3REG_S3_ENDPOINT": "https://minio:9000/",
        "S3REG_S3_SIGNING_ENDPOINT": "https://s3.example.com",
        "S3REG_S3_PATH_STYLE": "No",
        "S3REG_S3_CA_BUNDLE": "/etc/ca.pem",
        "S3REG_S3_INSECURE": "1",
        "S3REG_LISTEN": "[::1]:80",
        "S3REG_NO_AUTH": "true",
        "S3REG_ROOT_TOKEN": TOKEN,
        "S3REG_ROOT_TOKEN_PREVIOUS": PREVIOUS,
        "S3REG_ROOT_TOKEN_FILE": "/run/token",
        "S3REG_ROOT_TOKEN_SECRET": "registry/root",
        "S3REG_ROOT_TOKEN_PARAMETER": "/registry/root",
        "S3REG_AUTHORIZATION": "on",
        "S3REG_LOGIN_SECONDS": "600",
        "S3REG_LOGIN_SECRET_SECONDS": "20",
        "S3REG_TLS_CERT": "/etc/tls.pem",
        "S3REG_TLS_KEY": "/etc/tls.key",
        "S3REG_CLIENT_CA": "/etc/clients.pem",
        "S3REG_CLIENT_CRL": "/etc/crl.pem",
        "S3REG_PROXIES": "10.0.0.7, 10.1.0.0/16,fd00::/8",
        "S3REG_PROXY_CERTIFICATES": "ALB-Verify",
        "S3REG_LINK_SECONDS": "60",
        "S3REG_SESSION_BYTES": "1048576",
        "S3REG_TRASH_SECONDS": "0",
        "S3REG_EVENT_SECONDS": "86400",
        "S3REG_SWEEP_SECONDS": "3600",
        "S3REG_WORKERS": "3",
        "S3REG_THREADS": "8",
        "S3REG_MAX_REQUESTS": "5000",
        "S3REG_DRAIN_SECONDS": "15",
        "S3REG_METRICS_LISTEN": "0.0.0.0:9090",
        "S3REG_TRACES": "http://collector:4318",
        "S3REG_LOG_LEVEL": "DEBUG",
        "S3REG_LOG_FORMAT": "json",
    }
    assert set(spelled) == {row.variable for row in settings.table()}
    assert dataclasses.astuple(configuration.read(spelled)) == (
        "s3://bucket/prefix", "https://minio:9000", "https://s3.example.com", False, "/etc/ca.pem", True, "[::1]:80", True,
        TOKEN, PREVIOUS, "/run/token", "registry/root", "/registry/root", True, 600, 20,
        "/etc/tls.pem", "/etc/tls.key", "/etc/clients.pem", "/etc/crl.pem",
        tuple(map(ipaddress.ip_network, ("10.0.0.7/32", "10.1.0.0/16", "fd00::/8"))), "alb-verify",
        60, 1048576, 0, 86_400, 3600, 3, 8, 5000, 15, "0.0.0.0:9090", "http://collector:4318", "debug", "json",
    )  # fmt: skip


def test_a_flag_wins_over_the_environment():
    assert configuration.read({"S3REG_STORE": "/env"}, store="/flag").store == "/flag"
    assert configuration.read({"S3REG_STORE": "/env"}, store=None).store == "/env"


def test_an_empty_variable_counts_as_absent():
    assert configuration.read({"S3REG_S3_ENDPOINT": "", "S3REG_THREADS": ""}) == settings.Settings()


@pytest.mark.parametrize("name", sorted(settings.CLOSING))
def test_a_setting_that_closes_the_registry_is_not_left_empty(name):
    """As by a shell that found no such secret: else the registry would be open, and nobody would know."""
    with pytest.raises(SettingInvalid, match="S3REG_" + name.upper()):
        configuration.read({"S3REG_" + name.upper(): ""})
    if name != "root_token":
        with pytest.raises(SettingInvalid, match="--" + name.replace("_", "-")):
            configuration.read({}, **{name: ""})


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("S3REG_ENDPOINT", "S3REG_S3_ENDPOINT"),
        ("S3REG_STORES", "S3REG_STORE"),
        ("S3REG_LINK_SECOND", "S3REG_LINK_SECONDS"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest_name(name, near):
    with pytest.raises(SettingInvalid) as e:
        configuration.read({name: "x"})
    assert name in str(e.value)
    assert near in str(e.value)


def test_what_other_parts_and_the_tests_read_is_let_be():
    others = {"S3REG_LIBRARY": "/lib", "S3REG_REGISTRY": "http://r", "S3REG_TEST_S3": "x", "S3REG_MINIO": "/bin/minio"}
    assert configuration.read({**others, "HOME": "/root"}) == settings.Settings()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("link_seconds", "soon"),
        ("link_seconds", "59"),
        ("link_seconds", "604801"),
        ("link_seconds", "3600.0"),
        ("link_seconds", "-60"),
        ("link_seconds", "٣٦٠٠"),
        ("link_seconds", "9" * 5000),
        ("threads", "0"),
        ("listen", "8089"),
        ("listen", ":8089"),
        ("listen", "::1:8089"),
        ("listen", "127.0.0.1:65536"),
        ("listen", "127.0.0.1:http"),
        ("listen", "127.0.0.1:" + "8" * 5000),
        ("metrics_listen", "localhost"),
        ("no_auth", "perhaps"),
        ("s3_endpoint", "minio:9000"),
        ("s3_endpoint", "ftp://minio"),
        ("s3_endpoint", "https://user:pass@minio"),
        ("login_seconds", "9"),
        ("login_secret_seconds", "601"),
        ("authorization", "maybe"),
        ("proxies", "nginx.example.com"),
        ("proxies", "10.0.0.7,"),
        ("proxies", "10.0.0.7/8"),
        ("proxy_certificates", "haproxy"),
        ("log_level", "loud"),
        ("log_format", "xml"),
    ],
)
def test_a_value_that_is_not_of_its_kind_is_refused_by_name(name, text):
    with pytest.raises(SettingInvalid) as e:
        configuration.read({f"S3REG_{name.upper()}": text})
    assert f"S3REG_{name.upper()}" in str(e.value)
    with pytest.raises(SettingInvalid) as e:
        configuration.read({}, **{name: text})
    assert f"--{name.replace('_', '-')}" in str(e.value)


@pytest.mark.parametrize("name", ["root_token", "root_token_previous"])
def test_a_secret_has_no_flag_and_is_shown_nowhere(name):
    (row,) = [row for row in settings.table() if row.name == name]
    assert row.flag is None
    read = configuration.read({row.variable: TOKEN})
    assert getattr(read, name) == TOKEN
    assert TOKEN not in repr(read) + str(read)


@pytest.mark.parametrize("token", [':@/%+"' * 2, " blanks around ", "пароль-é-日本語", "\udcff" * 10])
def test_s26_a_token_of_any_characters_is_taken_as_it_is(token):
    assert configuration.read({"S3REG_ROOT_TOKEN": token}).root_token == token


@pytest.mark.parametrize("name", ["root_token", "root_token_file", "root_token_secret"])
def test_a_root_token_from_anywhere_turns_access_control_on(name):
    read = settings.Settings(**{name: TOKEN})
    settings.check(read)
    assert read.guarded
    assert not settings.Settings(root_token_previous=TOKEN).guarded


ROOT = {"root_token": TOKEN}
CA = {**ROOT, "client_ca": "ca.pem"}
PROXIES = {"proxies": (ipaddress.ip_network("10.0.0.7"),)}


@pytest.mark.parametrize(
    "fine",
    [
        {},
        {"no_auth": True},
        {"tls_cert": "cert.pem"},
        {"tls_cert": "cert.pem", "tls_key": "key.pem"},
        PROXIES,
        {**ROOT, "root_token_previous": PREVIOUS, "authorization": True},
        {**CA, "tls_cert": "cert.pem", "client_crl": "crl.pem"},
        {**CA, **PROXIES, "proxy_certificates": "nginx"},
        {**CA, **PROXIES, "proxy_certificates": "alb-verify", "tls_cert": "cert.pem", "client_crl": "crl.pem"},
    ],
    ids=" ".join,
)
def test_settings_that_fit_together_pass(fine):
    settings.check(settings.Settings(**fine))


@pytest.mark.parametrize(
    ("told", "name", "reason"),
    [
        ({**ROOT, "root_token_file": "f"}, "root_token", "S3REG_ROOT_TOKEN and S3REG_ROOT_TOKEN_FILE"),
        ({"root_token_file": "f", "root_token_secret": "s"}, "root_token", "_FILE and S3REG_ROOT_TOKEN_SECRET"),
        ({"root_token_previous": PREVIOUS}, "root_token_previous", "it goes with S3REG_ROOT_TOKEN"),
        ({"root_token_previous": PREVIOUS, "root_token_file": "f"}, "root_token_previous", "second line"),
        ({**ROOT, "no_auth": True}, "no_auth", "S3REG_ROOT_TOKEN is set"),
        ({"root_token_secret": "s", "no_auth": True}, "no_auth", "S3REG_ROOT_TOKEN_SECRET is set"),
        ({"authorization": True}, "authorization", "turned on by a root token"),
        ({"client_ca": "ca.pem", "tls_cert": "cert.pem"}, "client_ca", "turned on by a root token"),
        ({**PROXIES, "proxy_certificates": "alb-verify"}, "proxy_certificates", "turned on by a root token"),
        ({"tls_key": "key.pem"}, "tls_key", "S3REG_TLS_CERT"),
        (CA, "client_ca", "S3REG_TLS_CERT, or S3REG_PROXY_CERTIFICATES"),
        ({**ROOT, "client_crl": "crl.pem"}, "client_crl", "S3REG_CLIENT_CA"),
        ({**CA, "proxy_certificates": "alb-verify"}, "proxy_certificates", "S3REG_PROXIES"),
        ({**ROOT, **PROXIES, "proxy_certificates": "alb-verify"}, "proxy_certificates", "S3REG_CLIENT_CA"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_with_what_to_do(told, name, reason):
    with pytest.raises(SettingInvalid) as e:
        settings.check(settings.Settings(**told))
    assert f"S3REG_{name.upper()}:" in str(e.value)
    assert reason in str(e.value)
    assert TOKEN not in str(e.value)
    assert PREVIOUS not in str(e.value)


def test_every_setting_has_a_meaning_and_a_unit():
    for row in settings.table():
        assert row.meaning.endswith("."), row.name
        assert row.unit
        assert row.variable == f"S3REG_{row.name.upper()}"
