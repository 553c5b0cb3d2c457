"""The file of settings: beside flags and environment, and nothing in it taken on trust, or told that may be a secret."""

import json
import os
import re
import secrets
from pathlib import Path

import hypothesis
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from s3reg import configuration, settings
from s3reg.errors import SettingInvalid
from s3reg.settings import Native

TOKEN = secrets.token_urlsafe()
ROWS = {row.name: row for row in settings.table()}
OPEN = {name: row for name, row in ROWS.items() if not row.is_secret}
SAMPLE = Path(__file__).parents[1] / "examples" / "s3reg.yaml"

SAID = {
    "store": "s3://bucket/prefix",
    "s3_endpoint": "https://minio:9000",
    "s3_signing_endpoint": "https://s3.example.com",
    "s3_path_style": "no",
    "s3_ca_bundle": "/etc/ca.pem",
    "s3_insecure": "yes",
    "listen": "[::1]:80",
    "no_auth": "true",
    "root_token_file": "/run/token",
    "root_token_secret": "registry/root",
    "root_token_parameter": "/registry/root",
    "authorization": "on",
    "login_seconds": "010",
    "login_secret_seconds": "20",
    "tls_cert": "/etc/tls.pem",
    "tls_key": "tls key.pem",
    "client_ca": "/etc/clients.pem",
    "client_crl": "/etc/crl.pem",
    "proxies": "10.0.0.7,10.1.0.0/16,fd00::/8",
    "proxy_certificates": "alb-verify",
    "link_seconds": "60",
    "session_bytes": "1048576",
    "trash_seconds": "0",
    "event_seconds": "86400",
    "sweep_seconds": "3600",
    "workers": "3",
    "threads": "8",
    "max_requests": "5000",
    "drain_seconds": "15",
    "metrics_listen": "0.0.0.0:9090",
    "traces": "http://collector:4318",
    "log_level": "Debug",
    "log_format": "json",
}
"""A value of each setting, as a variable spells it; none is the default."""


@pytest.fixture
def file(tmp_path):
    """`file(text)`: the path of a file of settings."""

    def write(text):
        path = tmp_path / "s3reg.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


def spelled(name, text):
    """A value as somebody who knows YAML writes it."""
    match OPEN[name].native:
        case Native.TEXT:
            return json.dumps(text)
        case Native.TEXTS:
            return f"[{', '.join(json.dumps(one) for one in text.split(','))}]"
    return text


def refused(path, **flags):
    """What is said of a file."""
    with pytest.raises(SettingInvalid) as e:
        configuration.read({}, config=path, **flags)
    assert TOKEN not in str(e.value) + e.value.next_step + repr(e.value.detail)
    return str(e.value)


# --- Three ways ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPEN)
def test_a_value_means_the_same_whichever_way_it_comes_and_each_way_has_its_rank(name, file):
    row, text = OPEN[name], SAID[name]
    path = file(f"{name}: {spelled(name, text)}\n")
    found = [
        configuration.read({}, **{name: text}),
        configuration.read({row.variable: text}),
        configuration.read({}, config=path),
        configuration.read({"S3REG_CONFIG": path}),
    ]
    assert [getattr(one, name) for one in found] == [row.parse(text)] * 4
    assert getattr(found[0], name) != row.default
    ways = {"--" + name.replace("_", "-"): ({}, {name: text}), row.variable: ({row.variable: text}, {})}
    for source, (environ, flags) in [*ways.items(), (f"{path}:1", ({}, {}))]:
        reading = configuration.gather(environ, config=path, **flags)
        assert (reading.source(name), reading.troubles) == (source, ())
    reading = configuration.gather({row.variable: text}, config=path, **{name: text})
    assert reading.source(name) == row.flag


def test_the_variable_wins_over_the_file_and_the_flag_over_both_each_setting_by_itself(file):
    path = file("threads: 1\nlogin_seconds: 11\nlink_seconds: 61\n")
    environ = {"S3REG_THREADS": "2", "S3REG_LOGIN_SECONDS": "12"}
    read = configuration.read(environ, config=path, threads="3")
    assert (read.threads, read.login_seconds, read.link_seconds) == (3, 12, 61)


def test_an_error_that_is_found_later_names_the_setting_as_whoever_said_it_did(file):
    path = file("tls_cert: cert.pem\nclient_ca: ca.pem\n")
    environ = {"S3REG_S3_CA_BUNDLE": "ca.pem", "S3REG_CLIENT_CA": "other.pem"}
    reading = configuration.gather(environ, config=str(path), store="s3://bucket")
    named = {
        "S3REG_TLS_CERT": f"tls_cert in {path}:1",
        "S3REG_CLIENT_CA": "S3REG_CLIENT_CA",
        "ca_bundle": "S3REG_S3_CA_BUNDLE",
        "store": "--store",
        "S3REG_CLIENT_CRL": "S3REG_CLIENT_CRL",  # nobody said it
        "--cert": "--cert",  # none of ours
    }
    for name, by in named.items():
        with pytest.raises(SettingInvalid) as e, reading.renaming():
            raise SettingInvalid(name=name, reason="why")
        assert str(e.value) == f"setting {by}: why"


def test_the_flag_names_another_file_than_the_variable(file, tmp_path):
    (tmp_path / "other.yaml").write_text("threads: 7")
    read = configuration.read({"S3REG_CONFIG": file("threads: 8")}, config=str(tmp_path / "other.yaml"))
    assert read.threads == 7


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n...\n", "threads:\n", "threads: ''\n", "proxies: []\n"])
def test_what_the_file_leaves_empty_has_its_default(text, file):
    if text == "threads: ''\n":
        assert "whole number" in refused(file(text))
    else:
        assert configuration.read({}, config=file(text)) == settings.Settings()


def test_an_empty_variable_leaves_the_word_to_the_file(file):
    assert configuration.read({"S3REG_THREADS": ""}, config=file("threads: 5")).threads == 5


@pytest.mark.parametrize("name", sorted(settings.CLOSING & set(OPEN)))
def test_a_line_that_would_close_the_registry_is_not_left_empty(name, file):
    assert f"{name} in " in refused(file(f"# first\n{name}:\n"))


@pytest.mark.parametrize(("environ", "flags"), [({"S3REG_CONFIG": ""}, {}), ({}, {"config": ""})])
def test_no_file_at_all_is_not_what_an_empty_name_of_one_means(environ, flags):
    """It may be the file that closes the registry."""
    with pytest.raises(SettingInvalid, match="names no file"):
        configuration.read(environ, **flags)


def test_the_sample_is_read_and_fits_together():
    read = configuration.read({}, config=str(SAMPLE))
    settings.check(read)
    assert (read.guarded, read.authorization, len(read.proxies), read.drain_seconds) == (True, True, 2, 20)
    # One port for metrics, in whatever people begin with.
    (port,) = re.findall(r"metrics_port = (\d+)", (SAMPLE.parents[1] / "infra/terraform/locals.tf").read_text())
    assert read.metrics_listen == f"0.0.0.0:{port}"
    for line in SAMPLE.read_text().splitlines():
        if line.startswith("# ") and line.removeprefix("# ").removeprefix("or: ").partition(":")[0] in ROWS:
            shown = yaml.safe_load(line.removeprefix("# ").removeprefix("or: "))
            assert all(row.parse(shown[name]) for name, row in OPEN.items() if name in shown)


# --- What is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "near"),
    [
        ("s3_endpont: https://minio", "s3_endpoint"),
        ("S3REG_STORE: /var", "store"),
        ("tls-cert: x.pem", "tls_cert"),
        ("root_tokens: x", "root_token_secret"),
        ("<<: {store: /var}", ""),
        ("1: 2", ""),
    ],
)
def test_an_unknown_name_is_refused_with_its_line_and_the_nearest_that_there_is(line, near, file):
    told = refused(path := file(f"# settings\n\n{line}\n"))
    assert f"{path}:3: there is no such setting; {near}" in told


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("threads: '8'", "a whole number, without quotes"),
        ("threads: 8.0", "a whole number, without quotes"),
        ("threads: [8]", "a whole number"),
        ("threads: 0x10", "from 1 to 1024"),
        ("link_seconds: 1:30", "from 60 to 604800"),
        ("threads: 0", "from 1 to 1024"),
        (f"threads: {'9' * 5000}", "from 1 to 1024"),
        ("authorization: 1", "true or false"),
        ("authorization: 'yes'", "true or false"),
        ("authorization: perhaps", "true or false"),
        ("store: 2026-01-02", "a text, in quotes"),
        ("store: 5", "a text, in quotes"),
        ("store: no", "a text, in quotes"),
        ("store: {a: b}", "a text, in quotes"),
        ("store: [a]", "a text, in quotes"),
        ("store: !!binary aGFsbG8=", "a text, in quotes"),
        ("store: !!python/object/apply:os.system [id]", "a text, in quotes"),
        ("proxies: 10", "a list of texts"),
        ("proxies: {10.0.0.7: 10.0.0.8}", "a list of texts"),
        ("proxies: [[10.0.0.7]]", "a list of texts"),
        ("proxies: [10.0.0.7, 5]", "a list of texts"),
        ("proxies: ['10.0.0.7,10.0.0.8']", "a list of texts"),
        ("proxies: [10.0.0.7, ~]", "a list of texts"),
        ("proxies: [nginx.example.com]", "write addresses and networks"),
        ("s3_endpoint: minio:9000", "write an address like"),
    ],
)
def test_a_value_of_another_sort_is_refused_with_its_line(line, reason, file):
    told = refused(path := file(f"event_seconds: 5\n{line}\n"))
    assert f"{line.partition(':')[0]} in {path}:2: " in told
    assert reason in told


@pytest.mark.parametrize("text", ["none", "0"])
def test_a_line_is_looked_at_also_if_another_way_wins_over_it(text, file):
    path = file(f"threads: {text}\n")
    assert f"threads in {path}:1" in refused(path, threads="3")


def test_of_a_value_without_end_only_its_beginning_is_repeated(file):
    assert len(refused(file(f"threads: {'9' * 5000}"))) < 500


def test_a_name_that_is_there_twice_is_refused_with_both_lines(file):
    told = refused(path := file("store: /a\nthreads: 3\nstore: /b\n"))
    assert f"store in {path}:3: line 1 has it already" in told


@pytest.mark.parametrize(
    ("text", "reason", "line"),
    [
        (f"threads: 3\nstore: [{TOKEN}\n", "this is no YAML: expected ',' or ']'", 3),
        (f"a: b\n\tstore: {TOKEN}\n", r"this is no YAML: found character '\t' that", 2),
        (f"a: b\nstore: *{TOKEN}\n", "this is no YAML: found undefined alias", 2),
        (f"a: b\nstore: !{TOKEN}!x y\n", "this is no YAML", 2),
        (f'a: b\nstore: "\\q{TOKEN}"\n', "this is no YAML", 2),
        (f"a: &{TOKEN} b\nstore: c\n---\nstore: d\n", "this is no YAML", 3),
        (f"%{TOKEN}\n", "this is no YAML", 2),
        (f"a: b\nstore: \x01{TOKEN}\n", "a character", 2),
        (f"a: b\nstore: é{TOKEN}\n".encode("latin-1"), "UTF-8", 2),
        (f"store: {TOKEN}\n".encode("utf-16"), "UTF-8", 1),
        (f"- {TOKEN}\n", "NAME: VALUE", 1),
        (TOKEN, "NAME: VALUE", 1),
        (f"[{TOKEN}]: x\n", "NAME: VALUE", 1),
        ("proxies: " + "[" * 1_000, "nested too deep", 1),
        (f"# {TOKEN}\n" * 50_000, "at most", None),
    ],
    ids=range(15),
)
def test_what_is_no_file_of_settings_is_refused_with_its_line_and_none_of_its_words(text, reason, line, file):
    told = refused(path := file(text))
    assert f"--config: {path}{'' if line is None else f':{line}'}: " in told
    assert reason in told


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    assert "no-such.yaml: No such file" in refused(str(tmp_path / "no-such.yaml"))
    assert "Is a directory" in refused(str(tmp_path))
    with pytest.raises(SettingInvalid, match=r"S3REG_CONFIG: .*No such file"):
        configuration.read({"S3REG_CONFIG": str(tmp_path / "no-such.yaml")})


def test_an_alias_is_no_way_to_make_much_of_little(file):
    lines = [
        "a0: &a0 [x, x]",
        *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)),
        "proxies: *a29",
    ]
    assert "there is no such setting" in refused(file("\n".join(lines)))


def test_all_that_is_wrong_is_found_at_once(file):
    path = file(f"stor: /x\nevent_seconds: 0x10\nthreads: many\nroot_token: {TOKEN}\nlisten: 127.0.0.1:1\n")
    reading = configuration.gather({"S3REG_STOR": "/x", "S3REG_LINK_SECONDS": "1"}, config=path, log_level="loud")
    told = [str(one) for one in reading.troubles]
    assert [one.split()[1].strip(":") for one in told] == [
        "S3REG_STOR", "stor", "event_seconds", "threads", "root_token", "S3REG_LINK_SECONDS", "--log-level",
    ]  # fmt: skip
    assert {"event_seconds", "threads", "link_seconds", "log_level"} <= reading.wrong
    assert "listen" not in reading.wrong
    assert (reading.known().listen, reading.known().threads) == ("127.0.0.1:1", 32)


# --- Secrets ---------------------------------------------------------------------------------------------------------

SECRETS = [name for name, row in ROWS.items() if row.is_secret]
_quoted = st.text(st.characters(exclude_categories=["Cs"]), min_size=8, max_size=30).map(json.dumps)
_plain = st.text("*&!%@`|>[]{}#-?:, '\"\\abcXYZ", max_size=6).map(lambda odd: odd + TOKEN)


@pytest.mark.parametrize("name", SECRETS)
@hypothesis.settings(max_examples=40)
@given(value=st.one_of(_quoted, _plain))
def test_a_secret_in_the_file_is_refused_and_not_repeated(tmp_path_factory, name, value):
    path = tmp_path_factory.getbasetemp() / "secret.yaml"
    path.write_text(f"# first\n{name}: {value}\n", "utf-8")
    reading = configuration.gather({}, config=str(path))
    assert reading.troubles
    for one in reading.troubles:
        assert TOKEN not in f"{one} {one.detail!r} {one.next_step}"
        assert not value.startswith('"') or value[1:-1] not in str(one)


def test_where_a_secret_lies_is_said_instead(file):
    told = refused(path := file(f"root_token: {TOKEN}\n"))
    assert f"root_token in {path}:1: a secret is not for this file; set S3REG_ROOT_TOKEN" in told
    assert "root_token_file, root_token_secret, root_token_parameter" in told


@pytest.mark.parametrize("name", ["s3_endpoint", "traces"])
def test_a_password_in_an_address_is_not_repeated(name, file):
    address = f"https://user:{TOKEN}@example.com"
    assert "without a user or password" in refused(file(f"{name}: {address}"))
    assert "without a user or password" in refused(None, **{name: address})


@pytest.mark.parametrize("name", SECRETS)
def test_what_was_read_of_a_secret_is_in_no_repr(name):
    reading = configuration.gather({ROWS[name].variable: TOKEN})
    assert getattr(reading.settings(), name) == TOKEN
    assert TOKEN not in repr(reading) + repr(reading.settings())


def test_a_pipe_is_read_as_a_file_is():
    """As a shell's <(…) hands one over."""
    ours, theirs = os.pipe()
    os.write(theirs, b"threads: 9\n")
    os.close(theirs)
    try:
        assert configuration.read({}, config=f"/dev/fd/{ours}").threads == 9
    finally:
        os.close(ours)
