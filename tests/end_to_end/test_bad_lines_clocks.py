"""Clocks that are wrong: a node's is of no account, since the registry signs; a registry's own is named."""

import os
import subprocess

import pytest

import machines
import running
import wired
from machines import KIB
from refusals import refused
from s3reg.client.connection import Access, Connection

HOUR = 3600
SHIFTED = """
import datetime, os, time
seconds = float(os.environ["CLOCK_IS_WRONG_BY"])
real, real_ns, right = time.time, time.time_ns, datetime.datetime
time.time = lambda: real() + seconds
time.time_ns = lambda: real_ns() + int(seconds * 10**9)

class Shifted(right):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(seconds=seconds)

    @classmethod
    def utcnow(cls):
        return super().utcnow() + datetime.timedelta(seconds=seconds)

datetime.datetime = Shifted
"""
"""Python runs it before anything else, if it finds it as sitecustomize."""


@pytest.fixture
def wrong_by(tmp_path):
    """`wrong_by(seconds)`: what a process's environment needs to have a wrong clock."""
    folder = tmp_path / "clock"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SHIFTED)
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return lambda seconds: {"PYTHONPATH": path, "CLOCK_IS_WRONG_BY": str(seconds)}


def run(command, environment):
    done = subprocess.run(
        command,
        env=running.environment(**environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=running.SECONDS,
    )
    return running.Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def place(minio, tmp_path):
    with wired.wired(minio, tmp_path) as place:
        yield place


@pytest.mark.parametrize(("bakers", "runners"), [(HOUR, -24 * HOUR), (24 * HOUR, -HOUR)])
def test_a_nodes_clock_is_of_no_account(bakers, runners, place, wrong_by, tmp_path):
    baker, runner = (running.Node(tmp_path / name, place.api.endpoint) for name in ("baker", "runner"))
    machine = machines.make(baker.library, sizes=(900 * KIB,))
    for node, seconds, command in (
        (baker, bakers, ("push", machine.name, "-t", "v1")),
        (runner, runners, ("pull", machine.name)),
    ):
        outcome = run(node.command(*command), wrong_by(seconds))
        assert outcome.code == 0, outcome.err
    assert machines.contents(runner.library, machine) == machines.contents(baker.library, machine)


@pytest.mark.parametrize("seconds", [HOUR, -24 * HOUR])
def test_a_registry_whose_clock_the_store_refuses_says_so_before_it_serves(seconds, minio, bucket, wrong_by):
    arguments = ("--store", f"s3://{bucket(minio)}", "--s3-endpoint", minio.endpoint, "--listen", "127.0.0.1:0")
    outcome = run([*running.PROGRAM, "serve", *arguments], wrong_by(seconds) | minio.environment())
    told = refused(outcome, 10)
    assert "its clock and ours are more than 15 minutes apart" in told
    assert "set the clock" in told
    assert outcome.out == ""


@pytest.mark.parametrize("seconds", [600, -600])
def test_a_registry_whose_clock_is_somewhat_wrong_signs_links_that_work(seconds, minio, bucket, wrong_by, tmp_path):
    arguments = ("--store", f"s3://{bucket(minio)}", "--s3-endpoint", minio.endpoint, "--workers", "1")
    with running.serving(tmp_path, *arguments, **wrong_by(seconds), **minio.environment()) as registry:
        baker, runner = (node_at(registry.url, tmp_path / name) for name in ("baker", "runner"))
        machine = machines.make(baker.library.root, sizes=(900 * KIB,))
        baker.push(machine)
        runner.pull(machine)
        assert runner.bytes_of(machine) == baker.bytes_of(machine)
        baker.line.close()
        runner.line.close()


def node_at(url, folder):
    return wired.Node(wired.Library(folder), Connection(Access(url)))
