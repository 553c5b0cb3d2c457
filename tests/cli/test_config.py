"""`s3reg config`: what a registry is told and by whom; and all that is in the way of a start, of which none takes place."""

import contextlib
import json
import os
import secrets
import socket

import pytest

import pki
import servers
from s3reg import settings
from s3reg.cli.completion import answer
from s3reg.cli.main import program

TOKEN = secrets.token_urlsafe()
ROWS = {row.name: row for row in settings.table()}


@pytest.fixture
def config(s3reg, tmp_path, monkeypatch):
    """`config(command, *options, **variables)`, with a file of settings where there is a `file`."""

    def run(command, *options, file=None, **variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))
        if file is not None:
            (tmp_path / "s3reg.yaml").write_text(file)
            options = ("--config", tmp_path / "s3reg.yaml", *options)
        done = s3reg("config", command, *options)
        assert TOKEN not in done.out + done.err
        return done

    return run


@pytest.fixture
def check(config, tmp_path):
    """`check(*options, **more)`: the exit code, and the steps of a start over an empty directory, by name."""

    def run(*options, **more):
        more = {"S3REG_LISTEN": "127.0.0.1:0", "S3REG_STORE": tmp_path / "store", **more}
        done = config("check", "-j", *options, **more)
        assert not os.path.exists(tmp_path / "store")  # noqa: PTH110 - also to whom the folder is closed
        steps = {}
        for one in done.answer["body"]:
            steps.setdefault(one["step"], []).append(one)
        assert done.answer["code"] == done.code
        return done.code, steps

    return run


def wrong(steps):
    """What stands in the way, in order: step, words, next step."""
    found = [one for many in steps.values() for one in many if not one["ok"] and not one["advice"]]
    assert all(one["remedy"] for one in found)
    return [(one["step"], one["said"]) for one in found]


# --- show ------------------------------------------------------------------------------------------------------------


def test_every_setting_is_shown_with_its_value_and_who_said_it(config, tmp_path):
    file = "threads: 8\nlog_format: json\nproxies: [10.0.0.7, 10.1.0.0/16]\nauthorization: true\n"
    done = config("show", "--store", "/flag", "-j", file=file, S3REG_THREADS="9")
    shown = {name: (one["value"], one["source"]) for name, one in done.answer["body"].items()}
    path = tmp_path / "s3reg.yaml"
    assert list(shown) == list(ROWS)
    assert {name: one for name, one in shown.items() if one[1] != "default"} == {
        "store": ("/flag", "--store"),
        "threads": (9, "S3REG_THREADS"),
        "log_format": ("json", f"{path}:2"),
        "proxies": (["10.0.0.7/32", "10.1.0.0/16"], f"{path}:3"),
        "authorization": (True, f"{path}:4"),
    }
    lines = [line.split("\t") for line in config("show", "--store", "/flag").out.splitlines()]
    assert ["threads", "9", "S3REG_THREADS"] in lines
    assert ["proxies", "10.0.0.7/32, 10.1.0.0/16", f"{path}:3"] not in lines, "no file was named"
    assert ["authorization", "false", "default"] in lines
    assert ["workers", "", "default"] in lines


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.is_secret])
def test_of_a_secret_it_is_shown_that_there_is_one(config, name):
    done = config("show", "-j", **{ROWS[name].variable: TOKEN})
    assert done.answer["body"][name] == {"value": "[withheld]", "source": ROWS[name].variable}
    assert f"{name}\t[withheld]\t{ROWS[name].variable}\n" in config("show").out


@pytest.mark.parametrize("name", settings.ROOT_TOKEN_SOURCES[1:])
def test_of_a_root_token_that_lies_elsewhere_it_is_shown_where(config, tmp_path, name):
    (tmp_path / "token").write_text(TOKEN)
    body = config("show", "-j", **{ROWS[name].variable: tmp_path / "token"}).answer["body"]
    assert body["root_token"] == {"value": None, "source": name}
    assert body[name] == {"value": str(tmp_path / "token"), "source": ROWS[name].variable}


def test_a_password_in_an_address_is_not_shown(config):
    assert "[withheld]@example.com" in config("show", S3REG_STORE=f"http://user:{TOKEN}@example.com").out


@pytest.mark.parametrize("command", ["show", "check"])
def test_a_secret_in_the_file_is_refused_by_line_and_not_shown(config, tmp_path, command):
    done = config(command, file=f"# first\nroot_token: {TOKEN}\n")
    assert done.code == 2
    assert f"root_token in {tmp_path / 's3reg.yaml'}:2: a secret is not for this file" in done.out + done.err


def test_a_file_that_is_wrong_is_told_instead_of_shown(config, tmp_path):
    done = config("show", file="threads: none\n")
    assert (done.code, done.out) == (2, "")
    assert f"threads in {tmp_path / 's3reg.yaml'}:1: write a whole number" in done.err


# --- check -----------------------------------------------------------------------------------------------------------


def test_what_could_start_is_said_to_and_nothing_is_started_or_written(check, config, tmp_path):
    code, steps = check()
    assert (code, wrong(steps)) == (0, [])
    assert [*steps] == [
        "settings", "together", "TLS", "listen", "metrics", "traces", "root token", "client certificates", "store",
    ]  # fmt: skip
    assert "a start makes a store of it" in steps["store"][0]["said"]
    text = config("check", "--store", tmp_path / "store").out
    assert text.endswith("a registry could start with these settings\n")
    assert not (tmp_path / "store").exists()


def test_all_that_is_in_the_way_is_named_not_only_the_first(check, tmp_path):
    """TLS, two tokens, CAs, lists, addresses and the store at once, each with its next step."""
    (tmp_path / "cert.pem").write_text("none")
    (tmp_path / "ca.pem").write_text("none")
    (tmp_path / "crl.pem").write_text("none")
    (tmp_path / "file").write_text("")
    code, steps = check(
        *(
            "--tls-cert",
            tmp_path / "cert.pem",
            "--client-ca",
            tmp_path / "ca.pem",
            "--client-crl",
            tmp_path / "crl.pem",
        ),
        *("--no-auth", "--metrics-listen", "192.0.2.1:1", "--store", tmp_path / "file", "--listen", "192.0.2.1:0"),
        file="theads: 3\n",
        S3REG_ROOT_TOKEN="short",
        S3REG_ROOT_TOKEN_PREVIOUS="short too",
        S3REG_LOGIN_SECOND="5",
    )
    told = wrong(steps)
    assert code == 2
    assert [step for step, _ in told] == [
        *("settings", "settings", "together", "TLS", "listen", "metrics", "root token", "root token"),
        *("client certificates", "client certificates", "store"),
    ]
    named = [
        *("S3REG_LOGIN_SECOND: there is no such setting", "theads in ", "--no-auth", "--tls-cert: "),
        *(
            "cannot listen on 192.0.2.1:0",
            "cannot listen on 192.0.2.1:1",
            "S3REG_ROOT_TOKEN: ",
            "S3REG_ROOT_TOKEN_PREVIOUS",
        ),
        *("--client-ca: ", "--client-crl: ", "is a file, not a directory"),
    ]
    assert all(words in said for words, (_, said) in zip(named, told, strict=True)), told


def test_what_needs_a_setting_that_is_wrong_is_not_tried(check):
    code, steps = check(
        S3REG_STORE="s3://bucket", S3REG_S3_ENDPOINT="minio:9000", S3REG_PROXIES="x", S3REG_ROOT_TOKEN=""
    )
    assert code == 2
    assert [step for step, _ in wrong(steps)] == ["settings"] * 3
    assert steps["store"][0]["said"] == "not tried: s3_endpoint"
    assert steps["together"][0]["said"] == "not tried: proxies, root_token"
    assert steps["TLS"][0]["ok"]


def test_of_a_file_that_is_none_nothing_else_is_guessed(check, tmp_path):
    code, steps = check("--config", tmp_path / "no-such.yaml")
    assert (code, len(wrong(steps))) == (2, 1)
    assert {one["said"].partition(":")[0] for name in [*steps][1:] for one in steps[name]} == {"not tried"}


def test_a_key_that_does_not_belong_to_the_certificate_is_named(check, tmp_path):
    certificate, key = pki.Authority().server().write(tmp_path / "one")
    _, other = pki.Authority().server().write(tmp_path / "other")
    assert check("--tls-cert", certificate, "--tls-key", key)[0] == 0
    code, steps = check("--tls-cert", certificate, "--tls-key", other)
    ((step, said),) = wrong(steps)
    assert (code, step, "the key does not belong to the certificate" in said) == (2, "TLS", True)


@pytest.mark.parametrize("way", ["flag", "variable", "file"])
def test_what_is_found_wrong_later_is_named_as_whoever_said_it_calls_it(check, s3reg, tmp_path, way):
    (tmp_path / "cert.pem").write_text("none")
    wrong_ones = {"client_crl": tmp_path / "crl.pem", "tls_cert": tmp_path / "cert.pem"}
    rows = [ROWS[name] for name in wrong_ones]
    text = "".join(f"{name}: {path}\n" for name, path in wrong_ones.items())
    flags = [part for row in rows for part in (row.flag, wrong_ones[row.name])] if way == "flag" else []
    variables = {row.variable: wrong_ones[row.name] for row in rows} if way == "variable" else {}
    _, steps = check(*flags, file=text if way == "file" else None, **variables)
    names = {
        "flag": ["--client-crl", "--tls-cert"],
        "variable": ["S3REG_CLIENT_CRL", "S3REG_TLS_CERT"],
        "file": [f"{name} in {tmp_path / 's3reg.yaml'}:{number}" for number, name in enumerate(wrong_ones, 1)],
    }[way]
    assert [said.split(": ")[0] for _, said in wrong(steps)] == [f"setting {name}" for name in names]
    config = ["--config", tmp_path / "s3reg.yaml"] if way == "file" else []
    assert f"setting {names[0]}: revoked by whom?" in s3reg("serve", *flags, *config).err


def test_an_address_at_which_somebody_listens_is_told_and_is_no_failure(check):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, steps = check(S3REG_LISTEN=address)
    assert (code, steps["listen"][0]["advice"]) == (0, True)
    assert "somebody listens there" in steps["listen"][0]["said"]


def test_one_address_for_the_api_and_for_metrics_is_refused(check):
    address = f"127.0.0.1:{servers.free_port()}"
    code, steps = check(S3REG_LISTEN=address, S3REG_METRICS_LISTEN=address)
    assert (code, [step for step, _ in wrong(steps)]) == (2, ["together"])


def test_an_open_registry_for_everybody_is_named_and_tokens_in_clear_are_advised_against(check):
    code, steps = check(S3REG_LISTEN="0.0.0.0:0")
    assert (code, [step for step, _ in wrong(steps)]) == (2, ["listen"])
    code, steps = check(S3REG_LISTEN="0.0.0.0:0", S3REG_ROOT_TOKEN=TOKEN)
    assert (code, steps["listen"][0]["advice"], "S3REG_TLS_CERT" in steps["listen"][0]["said"]) == (0, True, True)


@pytest.mark.parametrize(
    "text", [TOKEN, f"{TOKEN}\n{TOKEN}\n{TOKEN}", "ninechars", None], ids=["one", "three", "too short", "none"]
)
def test_a_file_of_the_root_token_is_read(check, tmp_path, text):
    if text is not None:
        (tmp_path / "token").write_text(text)
    code, steps = check("--root-token-file", tmp_path / "token")
    assert (code, [step for step, _ in wrong(steps)]) == ((0, []) if text == TOKEN else (10, ["root token"]))
    assert str(tmp_path / "token") in steps["root token"][0]["said"] or text == TOKEN


def test_a_parameter_of_aws_is_asked_for(check, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", f"http://127.0.0.1:{servers.free_port()}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", TOKEN)
    code, steps = check(S3REG_ROOT_TOKEN_PARAMETER="arn:aws:ssm:eu-central-1:123456789012:parameter/root")
    ((step, said),) = wrong(steps)
    assert (code, step, "Systems Manager cannot be asked" in said) == (10, "root token", True)


# --- The store -------------------------------------------------------------------------------------------------------


def test_a_store_that_is_there_is_looked_at_and_left_as_it_is(s3reg, config, registry, tmp_path):
    assert s3reg("-a", registry, "list").code == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")}
    at = ("--store", tmp_path / "store", "--listen", "127.0.0.1:0")
    assert "its format is known" in config("check", *at).out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")} == before
    record = tmp_path / "store" / "format.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "format": 2}))
    done = config("check", *at)
    assert (done.code, "1 thing in the way of a start" in done.out) == (9, True)


def test_a_folder_that_no_store_can_be_made_in_is_named(check, tmp_path):
    (tmp_path / "file").write_text("")
    code, steps = check(S3REG_STORE=tmp_path / "file" / "below")
    assert (code, [step for step, _ in wrong(steps)]) == (2, ["store"])
    (tmp_path / "closed").mkdir(0)
    with _nobody():
        for folder in ("closed", "closed/below/that"):
            code, steps = check(S3REG_STORE=tmp_path / folder)
            assert (code, [step for step, _ in wrong(steps)]) == (10, ["store"])


@contextlib.contextmanager
def _nobody():
    """Somebody who may not do everything."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_bucket_is_asked_and_not_written_to(check, moto, monkeypatch):
    for name, value in moto.environment().items():
        monkeypatch.setenv(name, value)
    bucket = moto.new_bucket()
    code, steps = check(S3REG_STORE=f"s3://{bucket}", S3REG_S3_ENDPOINT=moto.endpoint)
    assert (code, "is empty: a start makes a store of it" in steps["store"][0]["said"]) == (0, True)
    assert "Contents" not in moto.client.list_objects_v2(Bucket=bucket)
    code, steps = check(S3REG_STORE="s3://no-such-bucket-of-ours")
    assert (code != 0, [step for step, _ in wrong(steps)]) == (True, ["store"])


# --- Other commands --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [("gc",), ("fsck",), ("adopt",), ("store", "check"), ("serve",)])
def test_every_command_that_takes_settings_takes_them_from_the_file_too(s3reg, tmp_path, command):
    (tmp_path / "s3reg.yaml").write_text(f"store: {tmp_path / 'nothing' / 'file'}\nlisten: 127.0.0.1:0\n")
    (tmp_path / "nothing").write_text("")
    done = s3reg(*command, "--config", tmp_path / "s3reg.yaml")
    assert done.code not in {0, 1}
    assert str(tmp_path / "nothing") in done.err
    done = s3reg(*command, "--config", tmp_path / "no-such.yaml")
    assert (done.code, "no-such.yaml: No such file" in done.err) == (2, True)


def test_a_quiet_command_says_as_much_as_the_file_wants(s3reg, registry, tmp_path, monkeypatch):
    s3reg("-a", registry, "list")
    (tmp_path / "s3reg.yaml").write_text(f"store: {tmp_path / 'store'}\nlog_level: info\n")
    levels = []
    monkeypatch.setattr("s3reg.telemetry.configure", lambda level="", form="": levels.append(level))
    assert s3reg("gc", "--config", tmp_path / "s3reg.yaml", "--dry-run").code == 0
    assert s3reg("gc", tmp_path / "store", "--dry-run").code == 0
    assert levels == ["warning", "info", "warning", "warning"]


def test_the_shell_completes_its_commands_and_files(capsys, monkeypatch):
    def completed(words):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
        answer(program, "bash_complete")
        return capsys.readouterr().out.split()

    assert completed("s3reg config ") == ["plain,check", "plain,show"]
    assert "file," in "".join(completed("s3reg config check --config "))
    assert "plain,--config" in completed("s3reg serve --conf")
