"""Stores that are missing, not ours, not writable or full: what `serve`, HTTP and a node's commands say, and what stays."""

import contextlib
import subprocess
import threading
import time

import pytest

import machines
import refusals
import running
import servers
from machines import MIB
from refusals import API, Web, anka, native, refused, unready
from wires import Proxy

ONE_WORKER = ("--workers", "1", "--threads", "8")


@pytest.fixture(scope="module", autouse=True)
def machine():
    """Nothing here wants the large one."""


def unable(*arguments, **environment):
    """What a command says that ends because somebody does not answer, or not well."""
    done = subprocess.run(
        [*running.PROGRAM, *map(str, arguments)],
        env=running.environment(**environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=running.SECONDS,
    )
    assert done.stdout == ""
    return refused(running.Outcome(done.returncode, done.stdout, done.stderr), 10)


def unserved(store, *arguments, **environment):
    """What `s3reg serve` says when it does not start."""
    return unable("serve", "--listen", "127.0.0.1:0", "--store", store, *arguments, **environment)


def all_refuse(web, code, status=503):
    """Every way to ask a registry whose store cannot be used is answered in its dialect."""
    for path in ("/templates", "/template?ref=x", "/plan?ref=x", f"/sessions/{'a' * 32}"):
        answer = web.get(API + path)
        native(answer, status, code)
        assert int(answer.headers["retry-after"]) > 0
    body = {"template": "11111111-aaaa-4bbb-8ccc-000000000001", "name": "a", "tag": "t"}
    native(web.open(f"{API}/sessions", method="POST", json=body), status, code)
    for path in ("/registry/vm", "/registry/v2/vm", "/registry/v2/vm?id=x", "/registry/vm/info?id=x"):
        anka(web.get(path), status)
    assert unready(web.get("/readyz")) == code
    assert web.get("/livez").status_code == web.get("/registry/status").status_code == 200


# --- Buckets ---------------------------------------------------------------------------------------------------------


def test_a_store_that_is_unreachable_is_told_before_anything_is_served():
    nobody = f"http://127.0.0.1:{servers.free_port()}"
    told = unserved("s3://templates", "--s3-endpoint", nobody)
    assert nobody in told
    assert "check its address" in told


def test_a_registry_that_is_unreachable_is_told_by_the_node(tmp_path):
    nobody = f"http://127.0.0.1:{servers.free_port()}"
    told = unable("add", "office", nobody, S3REG_REMOTES=str(tmp_path / "remotes.yaml"))
    assert nobody in told
    assert "check the address" in told


def test_a_bucket_that_is_missing_is_told_before_anything_is_served(moto):
    told = unserved("s3://no-such-bucket/some", "--s3-endpoint", moto.endpoint, **moto.environment())
    assert "'no-such-bucket' does not exist" in told
    assert "create it first" in told


def test_a_wrong_region_is_told_with_the_right_one(tmp_path):
    with servers.minio(tmp_path, MINIO_SITE_REGION="eu-west-1") as abroad:
        if not abroad.ours:
            pytest.skip("its region is its own")
        told = unserved(
            f"s3://{abroad.new_bucket()}",
            "--s3-endpoint",
            abroad.endpoint,
            **{**abroad.environment(), "AWS_REGION": "eu-south-9"},
        )
    assert "not in region 'eu-south-9'; it says eu-west-1" in told
    assert "AWS_REGION" in told


@pytest.mark.parametrize(
    "wrong", [{"AWS_SECRET_ACCESS_KEY": "another"}, {"AWS_ACCESS_KEY_ID": "nobody"}, {"AWS_ACCESS_KEY_ID": ""}]
)
def test_a_wrong_key_is_told_and_not_repeated(minio, bucket, wrong):
    environment = {**minio.environment(), **wrong}
    told = unserved(f"s3://{bucket(minio)}", "--s3-endpoint", minio.endpoint, **environment)
    assert "AWS_ACCESS_KEY_ID" in told
    for secret in (minio.secret_key, "another"):
        assert secret not in told


def test_a_bucket_that_is_removed_under_a_registry_is_503_until_it_is_back(tmp_path, moto):
    name = moto.new_bucket()
    arguments = ("--store", f"s3://{name}", "--s3-endpoint", moto.endpoint, *ONE_WORKER)
    with running.serving(tmp_path, *arguments, **moto.environment()) as registry:
        web = Web(registry.url)
        before = refusals.listing(web)
        empty(moto, name)
        all_refuse(web, "bucket-missing")
        node = running.Node(tmp_path / "node", registry.url)
        vm = refusals.small(node.library)
        for command in (("list",), ("pull", "x"), ("push", vm.name, "-t", "v1")):
            assert "does not exist" in refused(node.run(*command), 10)
        moto.client.create_bucket(Bucket=name)
        assert refusals.listing(web) == before


def empty(server, bucket):
    for row in server.client.list_objects_v2(Bucket=bucket).get("Contents", []):
        server.client.delete_object(Bucket=bucket, Key=row["Key"])
    server.client.delete_bucket(Bucket=bucket)


def test_a_store_that_goes_away_is_503_until_it_is_back_and_nothing_is_lost(tmp_path, minio, bucket):
    gone = threading.Event()
    with Proxy(minio.endpoint, loses=lambda _: gone.is_set()) as between:
        # Links lead to the store itself: only the registry loses it.
        ends = ("--s3-endpoint", between.endpoint, "--s3-signing-endpoint", minio.endpoint)
        arguments = ("--store", f"s3://{bucket(minio)}", *ends, *ONE_WORKER)
        with running.serving(tmp_path, *arguments, **minio.environment()) as registry:
            standing = refusals.standing(registry.url, tmp_path)
            gone.set()
            for path in ("/templates", f"/plan?ref={standing.machine.id}"):
                answer = standing.web.get(API + path)
                assert between.endpoint in native(answer, 503, "store-unavailable")
                assert int(answer.headers["retry-after"]) > 0
            anka(standing.web.get("/registry/v2/vm"), 503)
            assert unready(standing.web.get("/readyz")) == "store-unavailable"
            assert standing.web.get("/livez").status_code == 200
            gone.clear()
            deadline = time.monotonic() + 60
            while standing.web.get("/registry/v2/vm").status_code != 200:  # each asks whether it is back
                assert time.monotonic() < deadline
                time.sleep(0.1)
            standing.check(tmp_path)


# --- Directories -----------------------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path):
    """A disk of its own, 8 MiB."""
    with contextlib.contextmanager(refusals.tmpfs)(tmp_path / "disk", "size=8m") as folder:
        yield folder


def test_an_empty_read_only_disk_is_no_place_for_a_store(disk):
    refusals.remount(disk, "ro")
    for folder, remedy in ((disk, "--store DIR"), (disk / "store", "mounted")):
        told = unserved(folder)
        assert f"directory {folder} " in told
        assert "Read-only file system" in told
        assert remedy in told


def test_a_store_on_a_disk_that_became_read_only_is_still_pulled_from(disk, tmp_path):
    with running.serving(tmp_path, "--store", disk / "store", *ONE_WORKER) as registry:
        standing = refusals.standing(registry.url, tmp_path)
    refusals.remount(disk, "ro")
    with running.serving(tmp_path, "--store", disk / "store", *ONE_WORKER) as registry:
        web = Web(registry.url)
        node, runner = (running.Node(tmp_path / name, registry.url) for name in ("node", "runner"))
        vm = refusals.small(node.library)
        told = refused(node.run("push", vm.name, "-t", "v1"), 10)
        assert str(disk) in told
        assert "writable" in told
        body = {"template": vm.id, "name": vm.name, "tag": "v1"}
        native(web.open(f"{API}/sessions", method="POST", json=body), 503, "store-read-only")
        runner.done("pull", standing.machine.name)
        assert machines.contents(runner.library, standing.machine) == standing.bytes
        assert refusals.about(web, standing.machine.id) == standing.told


def test_a_store_that_is_full_refuses_a_push_which_goes_on_once_there_is_room(disk, tmp_path):
    with running.serving(tmp_path, "--store", disk / "store", *ONE_WORKER) as registry:
        standing = refusals.standing(registry.url, tmp_path)
        node, runner = (running.Node(tmp_path / name, registry.url) for name in ("node", "runner"))
        vm = refusals.small(node.library, sizes=(40 * MIB,), seed=9)
        told = refused(node.run("push", vm.name, "-t", "v1"), 10)
        assert "no space left" in told
        assert str(disk) in told
        standing.check(tmp_path)
        native(standing.web.get(f"{API}/template", ref=vm.id), 404, "template-not-found")

        refusals.remount(disk, "size=64m")
        node.done("push", vm.name, "-t", "v1")
        runner.done("pull", vm.name)
        assert machines.contents(runner.library, vm) == machines.contents(node.library, vm)


def test_a_store_without_a_byte_left_serves_on_and_says_what_it_lacks(disk, tmp_path):
    with running.serving(tmp_path, "--store", disk / "store", *ONE_WORKER) as registry:
        standing = refusals.standing(registry.url, tmp_path)
        ballast = disk / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        machines.scatter(standing.machine.disk(), 1)
        told = refused(standing.node.run("push", standing.machine.name, "-t", "v2"), 10)
        assert "no space left" in told
        standing.check(tmp_path)
        ballast.unlink()
        standing.node.done("push", standing.machine.name, "-t", "v2")
