"""Three replicas behind nginx and behind HAProxy, killed and restarted one after the other, while nodes push and pull."""

import contextlib
import functools
import http.client
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

import running
from rolling.fleet import Fleet
from rolling.replicas import BALANCERS, Forked
from s3reg.client import connection


@pytest.fixture
def retries(monkeypatch):
    """How often a node asked again; one entry each."""
    counted, spend = [], connection._Budget.spend
    monkeypatch.setattr(connection._Budget, "spend", lambda self: counted.append(1) or spend(self))
    return counted


@contextlib.contextmanager
def site(launch, minio, bucket, folder):
    """Replicas on MinIO, and the addresses of what stands before them."""
    store = ["--store", f"s3://{bucket}/reg", "--s3-endpoint", minio.endpoint]
    told = {**minio.environment(), "S3REG_WORKERS": "1"}
    with contextlib.ExitStack() as stack:
        replicas = [Forked(launch, folder, store, told) for _ in range(3)]
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(Forked.start, replicas))
        for one in replicas:
            stack.callback(one.stop)
        yield replicas, [stack.enter_context(balancer(folder, replicas)) for balancer in BALANCERS.values()]


def again(one):
    """Start one that is gone, and wait until it can serve."""
    one.start()
    assert one.ready()


def check(launch, minio, bucket):
    """Everything is there, and as it was, to the last frame."""
    at = (f"s3://{bucket}/reg", "--s3-endpoint", minio.endpoint)
    launch("fsck", *at, "--read-data", **minio.environment()).done()


def asked(url, stop, sent):
    """Ask over connections that are kept, nothing twice; all answers must be 200."""
    line = http.client.HTTPConnection(urlsplit(url).netloc, timeout=running.SECONDS)
    with contextlib.closing(line):
        while not stop.is_set():
            for request in (("GET", "/registry/vm"), ("POST", "/log", b"{}")):
                line.request(*request)
                with line.getresponse() as answer:
                    assert (request[0], answer.status, bool(answer.read())) == (request[0], 200, True)
                sent.append(1)
            stop.wait(0.01)


def roll(launch, minio, bucket, folder, retries, *, nodes, killed, stopped):
    """Kill and restart, then end and restart, replicas in this order; no command fails. What it came to."""
    name, began, sent, stop = bucket(minio), time.monotonic(), [], threading.Event()
    with site(launch, minio, name, folder) as (replicas, urls):
        with Fleet(folder, urls, nodes) as fleet:
            for number in killed:
                replicas[number].kill()
                again(replicas[number])
            during, tries = sum(fleet.done.values()), len(retries)
            with ThreadPoolExecutor(len(urls)) as pool:
                askers = [pool.submit(asked, url, stop, sent) for url in urls]
                try:
                    for number in stopped:
                        replicas[number].stop()
                        again(replicas[number])
                finally:
                    stop.set()
                for asker in askers:
                    asker.result()
            fleet.end()
        check(launch, minio, name)
    return {
        "nodes": nodes,
        "seconds": round(time.monotonic() - began),
        "kill -9": len(killed),
        "restarts": len(stopped),
        **fleet.done,
        "pushes and pulls during the kills": during,
        "failed": 0,
        "calls of the nodes tried again, during the kills": tries,
        "and during the restarts": len(retries) - tries,
        "other requests during the restarts, never tried again": len(sent),
    }


@pytest.fixture
def rolling(launch, minio, bucket, tmp_path, retries):
    """`roll` on MinIO."""
    return functools.partial(roll, launch, minio, bucket, tmp_path, retries)


def test_replicas_are_killed_and_restarted_one_after_the_other_and_no_command_fails(rolling):
    told = rolling(nodes=6, killed=(0, 1), stopped=(1, 2))
    assert told["push"] >= 6


@pytest.mark.campaign
def test_fifty_nodes_see_none_of_many_kills(rolling, capsys):
    told = rolling(nodes=50, killed=(0, 1, 2) * 5, stopped=(0, 1, 2) * 5)
    with capsys.disabled():
        print("", *(f"| {name} | {count} |" for name, count in told.items()), sep="\n")  # noqa: T201 - the table to keep
