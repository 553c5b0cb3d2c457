"""Pushes of tenants: the domain of a new template is named, found, or refused with the words that help."""

import pytest

import machines
import sites
import tap
from access_kit import Closed
from machines import KIB
from s3reg.model.identity import Action

INVALID, FORBIDDEN, CONFLICT = 2, 5, 18
PERMISSIONS = ("list_vms", "head_push_vm", "push_vm", "pull_vm")
ALL = [action.value for action in Action]


@pytest.fixture
def tenants(tmp_path, monkeypatch):
    """A registry with a key for one domain, `a`, and one for two, `ab`; what a command needs to use each."""
    closed = Closed(tmp_path / "closed", authorization=True)
    for key, domains in (("a", ["blue"]), ("ab", ["blue", "green"])):
        closed.group(key, *PERMISSIONS, templates={}, domains=dict.fromkeys(domains, ALL))
        closed.make(key, [key])
    with sites.serving(closed.app) as url:
        monkeypatch.setenv("S3REG_REGISTRY", url)
        yield lambda key: ["--api-key-id", key, "--api-key", tap.printed(tap.key())]


@pytest.fixture
def vm(tmp_path):
    return machines.make(tmp_path / "library", sizes=(30 * KIB,), state_size=0, name="base")


def test_a_domain_that_is_not_clear_is_asked_for_and_one_that_is_not_allowed_refused(s3reg, tenants, vm):
    unclear = s3reg("push", "base", "-t", "v1", *tenants("ab"))
    assert unclear.code == INVALID
    assert "blue, green" in unclear.err
    assert "--domain" in unclear.err
    refused = s3reg("push", "base", "-t", "v1", "--domain", "main", *tenants("ab"))
    assert refused.code == FORBIDDEN
    assert "blue, green" in refused.err

    assert s3reg("push", "base", "-t", "v1", "--domain", "green", *tenants("ab")).code == 0
    assert s3reg("push", "base", "-t", "v2", *tenants("ab")).code == 0
    assert "green" in s3reg("describe", "base", *tenants("ab")).out
    moved = s3reg("push", "base", "-t", "v3", "--domain", "blue", *tenants("ab"))
    assert moved.code == CONFLICT
    assert "leave --domain out" in moved.err
    assert s3reg("describe", vm.id, *tenants("a")).code != 0


def test_an_id_that_another_tenant_has_is_refused_with_what_helps_and_a_clone_goes(s3reg, tenants, vm):
    assert s3reg("push", "base", "-t", "v1", "--domain", "green", *tenants("ab")).code == 0

    taken = s3reg("push", "base", "-t", "v1", *tenants("a"))
    assert taken.code == CONFLICT
    assert vm.id in taken.err
    assert "s3reg vm clone" in taken.err
    assert "green" not in taken.err
    assert s3reg("vm", "clone", "base", "mine").code == 0
    assert s3reg("push", "mine", "-t", "v1", *tenants("a")).code == 0
    assert "blue" in s3reg("describe", "mine", *tenants("a")).out
