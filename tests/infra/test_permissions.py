"""What infra/terraform/permissions.json gives is enough for a registry and its sweep: both have credentials of just that."""

import json
import random
import subprocess

import pytest

import machines
import roles
import running

TOKEN = "0123456789abcdef"


@pytest.fixture
def place(minio, bucket):
    return bucket(minio)


@pytest.fixture
def role(minio, place):
    return lambda name: roles.credentials(minio, roles.policy(place, name))


@pytest.fixture
def on_store(minio, place):
    """`on_store(environment, command…)`: a command on the store itself, as `s3reg -j` answers it."""

    def run(environment, *command):
        words = [*running.PROGRAM, "-j", *command, f"s3://{place}", "--s3-endpoint", minio.endpoint]
        told = running.environment(**environment)
        done = subprocess.run(words, env=told, capture_output=True, text=True, timeout=running.SECONDS, check=False)
        return done.returncode, json.loads(done.stdout.splitlines()[-1])

    return run


def live(registry, folder):
    """All that a registry does: logins, pushes, pulls, changes; and a key by which a node came in."""
    root = ("--root-token", TOKEN)
    baker, runner = (running.Node(folder / name, registry.url) for name in ("baker", "runner"))
    machine = machines.make(baker.library, sizes=(machines.MIB,), state_size=0)
    baker.done("groups", "create", "nodes", *root)
    baker.done("keys", "create", "node", "--out", folder / "node.pem", *root)
    key = ("--api-key-id", "node", "--api-key", folder / "node.pem")
    baker.done("push", machine.name, "-t", "v1", *key)
    machines.fill(machine.disk(), machines.MIB, random.Random(2))
    baker.done("push", machine.name, "-t", "v2", *key)
    runner.done("pull", machine.name, "-t", "v1", *key)
    runner.done("pull", machine.name, "-t", "v2", *key)
    baker.done("retag", machine.name, "v1", "v0", *key)
    baker.done("untag", machine.name, "v0", *key)
    baker.done("trash", "restore", machine.name, *key)
    baker.done("revert", machine.name, *key)
    baker.done("trash", "purge", machine.name, "--yes", *root)
    baker.done("du", *root)
    baker.done("events", *root)
    baker.done("keys", "revoke", "node", "--yes", *root)


def test_a_registry_and_its_sweep_do_all_they_do_with_what_their_roles_give(minio, place, role, on_store, tmp_path):
    store = ["--store", f"s3://{place}", "--s3-endpoint", minio.endpoint]
    with running.serving(tmp_path, *store, S3REG_ROOT_TOKEN=TOKEN, **role("web")) as registry:
        live(registry, tmp_path)
    assert "denied" not in registry.log.read_text().lower()
    code, told = on_store(role("gc"), "gc")
    assert (code, told["status"]) == (0, "OK"), told
    assert told["body"]["removed"]["objects"] > 0


def test_a_registry_may_remove_no_pack(minio, place, role, on_store, tmp_path):
    store = ["--store", f"s3://{place}", "--s3-endpoint", minio.endpoint]
    with running.serving(tmp_path, *store, **role("web")) as registry:
        baker = running.Node(tmp_path / "baker", registry.url)
        machine = machines.make(baker.library, sizes=(machines.MIB,), state_size=0)
        baker.done("push", machine.name, "-t", "v1")
        baker.done("revert", machine.name)
        baker.done("trash", "purge", machine.name, "--yes")
    before = {one["Key"] for one in minio.client.list_objects_v2(Bucket=place, Prefix="packs/")["Contents"]}
    code, told = on_store(role("web"), "gc")
    assert code != 0
    assert told["status"] == "ERROR"
    assert {one["Key"] for one in minio.client.list_objects_v2(Bucket=place, Prefix="packs/")["Contents"]} == before
