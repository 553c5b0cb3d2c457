"""A program that gives credentials and never answers keeps nobody waiting for ever."""

import os
from pathlib import Path

import botocore.session
import pytest

from s3reg.auth.roottoken import RootTokens
from s3reg.errors import CredentialsMissing, RootTokenUnreadable
from s3reg.store import credential_process
from s3reg.store.credential_process import ProcessTooSlow
from s3reg.store.s3 import S3Store

HANGS = "credential_process = /bin/sleep 3600"
OF_A_ROLE = "role_arn = arn:aws:iam::123456789012:role/registry\nsource_profile = base"


SAID = r"credential_process names took more than 0\.01 seconds"


@pytest.fixture(params=[f"[default]\n{HANGS}\n", f"[default]\n{OF_A_ROLE}\n[profile base]\n{HANGS}\n"])
def _hanging(request, tmp_path, monkeypatch):
    """AWS's configuration names a program that hangs: for the profile itself, or for the one that takes its role."""
    (tmp_path / "config").write_text(request.param)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setattr(credential_process, "SECONDS", 0.01)


def children():
    return Path("/proc/thread-self/children").read_text().split()


@pytest.mark.usefixtures("_hanging")
def test_a_program_that_gives_no_credentials_in_time_is_killed():
    before = children()
    chain = botocore.session.Session().get_component("credential_provider")
    credential_process.limit(chain)
    with pytest.raises(ProcessTooSlow, match=SAID):
        chain.load_credentials()
    assert children() == before


@pytest.mark.usefixtures("_hanging")
def test_a_bucket_waits_no_longer_for_such_a_program():
    with pytest.raises(CredentialsMissing, match=SAID):
        S3Store("bucket", endpoint="http://127.0.0.1:1").sign_get("k", seconds=60)


@pytest.mark.usefixtures("_hanging")
def test_a_root_token_that_aws_keeps_waits_no_longer_for_such_a_program():
    with pytest.raises(RootTokenUnreadable, match=SAID):
        RootTokens.named(secret="registry").check()
