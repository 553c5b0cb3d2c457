"""The log: one line an event, and never a credential in it."""

import io
import json
import logging

import pytest

from s3reg import telemetry

SECRET = "SeCrEtSeCrEtSeCrEt"
CREDENTIALS = [
    f"http://r/objects/packs/main/a?expires=1&signature={SECRET}",
    f"https://b.s3.amazonaws.com/k?X-Amz-Algorithm=A&X-Amz-Credential={SECRET}%2F1&X-Amz-Signature={SECRET}",
    f"/k?AWSAccessKeyId=a&Signature={SECRET}",
    f"Authorization: Basic {SECRET}",
    f"{{'Authorization': 'AWS4-HMAC-SHA256 Credential=x/{SECRET}, Signature={SECRET}'}}",
    f"Bearer {SECRET}",
    f"https://user:{SECRET}@host/x",
    f"X-Amz-Security-Token: {SECRET}",
    f"-----BEGIN RSA PRIVATE KEY-----\nMIIEow{SECRET}\n-----END RSA PRIVATE KEY-----",
    f"-----BEGIN PRIVATE KEY-----\\n{SECRET} cut off here",
    f"private key: MIIEowIBAAKCAQEA{'x' * 200}{SECRET}==",
    f"MIHcAgEBBEIA{'y' * 200}{SECRET}",
    f"""body was {{"id": "ci", "secret": "{SECRET}"}}""",
    f"""{{'vnc': {{'Password': '{SECRET}'}}}}""",
    f"""{{"userName": "ci", "sessionId": "x", "token": "{SECRET}"}}""",
]


@pytest.fixture
def lines():
    """What the log holds."""
    stream = io.StringIO()

    def read(form="plain", level="info"):
        telemetry.configure(level=level, form=form, stream=stream)
        return stream

    return read


@pytest.mark.parametrize("form", ["plain", "json"])
@pytest.mark.parametrize("credential", CREDENTIALS)
def test_a_credential_is_blanked_wherever_it_stands(lines, form, credential):
    log = lines(form)
    telemetry.emit("tried", value=credential, nested={"deep": [credential]})
    logging.getLogger("urllib3").warning("got %s", credential)
    telemetry.emit("failed", trouble=ValueError(credential))
    assert SECRET not in log.getvalue()
    assert log.getvalue().count(telemetry.WITHHELD) >= 4


@pytest.mark.parametrize("name", ["password", "vnc_password", "secret", "root_token", "private_key", "Authorization"])
def test_a_field_that_is_called_like_a_secret_is_blanked(lines, name):
    log = lines()
    telemetry.emit("tried", **{name: SECRET})
    assert SECRET not in log.getvalue()


def test_what_is_no_credential_stays_readable(lines):
    log = lines()
    telemetry.emit("read", url="http://r/transfer/v1/plan?ref=base&tag=v1", key="packs/main/a", basic="basic 4 cores")
    telemetry.emit(
        "told", what="-----BEGIN CERTIFICATE----- MIIB is public", more="'token': 1", less="MII and " + "x" * 300
    )
    assert "plan?ref=base&tag=v1" in log.getvalue()
    assert "basic 4 cores" in log.getvalue()
    assert telemetry.WITHHELD not in log.getvalue()


def test_no_value_can_forge_a_line(lines):
    log = lines()
    telemetry.emit("pushed", name="x\n2026-01-01T00:00:00.000Z info pushed name=forged", other="a\u2028b")
    assert len(log.getvalue().splitlines()) == 1
    logging.getLogger("werkzeug").warning("one\ntwo")
    assert len(log.getvalue().splitlines()) == 2


def test_json_is_one_object_a_line(lines):
    log = lines("json")
    telemetry.emit("pushed", template="x", size=3, ratio=0.5, gone=None, tags=("a", "b"))
    telemetry.emit("quiet", level=logging.DEBUG)
    (line,) = log.getvalue().splitlines()
    told = json.loads(line)
    assert (told["event"], told["level"], told["size"], told["tags"]) == ("pushed", "info", 3, ["a", "b"])


def test_a_hostile_value_does_not_fill_the_disk(lines):
    log = lines()
    telemetry.emit("tried", name="?" * 10_000_000)
    assert len(log.getvalue()) < 3000


def test_a_line_goes_where_standard_error_is_by_then(monkeypatch):
    telemetry.configure()
    for stream in (io.StringIO(), io.StringIO()):
        monkeypatch.setattr("sys.stderr", stream)
        telemetry.emit("found-bad")
        assert stream.getvalue().endswith(" info found-bad\n")
        assert stream.getvalue().count("\n") == 1
