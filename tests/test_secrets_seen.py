"""That the search for secrets in logs bites, and what it lets pass."""

import base64
import logging
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from s3reg import telemetry
from secrets_seen import Seen

HEX = secrets.token_hex(32)
TOKEN = secrets.token_urlsafe(32)
BASE64 = base64.b64encode(secrets.token_bytes(300)).decode()


@pytest.mark.parametrize(
    "text",
    [
        f"GET http://s3/b/k?X-Amz-Algorithm=A&X-Amz-Signature={HEX}",
        f"/objects/packs/x?expires=1&signature={TOKEN}",
        f"authorization: Bearer {TOKEN}",
        f"Authorization: Basic {BASE64[:40]}",
        "-----BEGIN RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----",
        f"MII{BASE64.replace('=', 'A')}",
        "the root token of this test",
    ],
    # Names of their own: what is random would be another test in each of the suite's processes.
    ids=["signed-url", "signed-link", "bearer", "basic", "pkcs1", "pkcs8", "der", "kept"],
)
def test_what_is_a_secret_by_its_shape_or_was_kept_is_found_and_not_told(text):
    seen = Seen()
    seen.keep("the root token of this test")
    seen.watch(f"before\nerror {text}\nafter")
    (hit,) = seen.found()
    assert "error" in hit
    for secret in (HEX, TOKEN, BASE64[:40]):
        assert secret not in hit
    assert seen.found() == []


@pytest.mark.parametrize(
    "text",
    [
        "path=/objects/packs/main/" + HEX,
        "signature=[withheld]",
        "Bearer [withheld]",
        "basic 4 cores",
        "MII is no key",
        "sha256=" + HEX,
        "short",
    ],
    ids=["digest-in-a-path", "withheld-signature", "withheld-bearer", "words", "no-key", "digest", "too-short"],
)
def test_what_is_none_passes(text):
    seen = Seen()
    seen.keep("short")
    seen.watch(text)
    assert seen.found() == []


def test_what_is_kept_for_the_run_is_looked_for_after_each_test():
    seen = Seen()
    seen.keep("of the whole run", always=True)
    for _ in range(2):
        seen.watch("told: of the whole run")
        assert len(seen.found()) == 1


def test_a_record_counts_as_our_log_would_hold_it():
    seen = Seen()
    log = logging.getLogger("s3reg-secrets-seen")
    log.addHandler(seen)
    seen.keep("kept by this test alone")
    try:
        log.warning("got Bearer %s and /k?X-Amz-Signature=%s", TOKEN, HEX)
        assert seen.found() == []
        log.warning("got kept by %s", "this test alone")
        seen.keep("kept by this test alone")
    finally:
        log.removeHandler(seen)
    assert len(seen.found()) == 1


def test_a_field_that_should_have_been_blanked_is_found():
    seen = Seen()
    log = logging.getLogger("s3reg")
    log.addHandler(seen)
    seen.keep("a root token")
    try:
        telemetry.emit("tried", level=logging.ERROR, root_token="a root token")
        assert seen.found() == []
        seen.keep("a root token")
        telemetry.emit("tried", level=logging.ERROR, said="a root token")
    finally:
        log.removeHandler(seen)
    assert len(seen.found()) == 1


PLANTED = """
import logging
import pytest
from secrets_seen import keep, watch

@pytest.fixture(scope="module")
def server():
    yield
    watch("listening with " + "planted in a server")

def test_logs():
    keep("planted in the log")
    logging.getLogger("s3reg").warning("planted %s", "in the log")

def test_is_clean():
    pass

def test_ends_a_server(server):
    keep("planted in a server")
"""


def test_the_test_that_wrote_it_fails(tmp_path):
    (tmp_path / "test_planted.py").write_text(PLANTED)
    here = Path(__file__).parent
    (tmp_path / "conftest.py").write_text(
        f"import sys\nsys.path.insert(0, {str(here)!r})\nimport secrets_seen\n"
        "def pytest_configure(config):\n"
        "    config.pluginmanager.register(secrets_seen.Plugin(secrets_seen.seen))\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert "3 passed, 2 errors" in done.stdout, done.stdout
    assert "test_logs wrote a secret of the test" in done.stdout
    assert "test_ends_a_server wrote a secret of the test" in done.stdout
