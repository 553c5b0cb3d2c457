"""A registry in real processes whose store says nothing, or whose credentials change under a push and a pull."""

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import boto3
import pytest
import urllib3

import http_wires
import machines
import running
from metadata import Metadata, Session

ASKERS = 80
PATIENCE_SECONDS = 90
"""Until what must come within seconds counts as not coming."""


def test_a_store_that_says_nothing_keeps_no_threads_and_is_used_again_when_it_speaks(minio, bucket, tmp_path):
    with http_wires.Wire(minio.endpoint) as wire:
        store = [
            "--store",
            f"s3://{bucket(minio)}",
            "--s3-endpoint",
            wire.endpoint,
            "--workers",
            "2",
            "--threads",
            "32",
        ]
        with running.serving(tmp_path, *store, **minio.environment()) as registry:
            http = urllib3.PoolManager(maxsize=ASKERS, retries=False, timeout=PATIENCE_SECONDS)
            stop = threading.Event()

            def asks(path):
                return http.request("GET", f"{registry.url}{path}")

            def keeps_asking(_):
                answers = [asks("/registry/v2/vm").status]
                while not stop.is_set():
                    answers.append(asks("/registry/v2/vm").status)
                    stop.wait(1)
                return answers

            wire.rule = lambda _: http_wires.silent
            with ThreadPoolExecutor(ASKERS) as pool:
                asking = pool.map(keeps_asking, range(ASKERS))
                try:
                    # More ask, for as long as it takes, than it has threads: it answers, and knows what is wrong.
                    for _ in range(5):
                        assert asks("/livez").status == 200
                        refused = asks("/registry/v2/vm")
                        assert refused.status == 503
                        assert int(refused.headers["Retry-After"]) > 0
                    unready = asks("/readyz")
                    assert (unready.status, unready.json()["body"]["reason"]) == (503, "store-unavailable")
                finally:
                    stop.set()
                assert all(set(answers) == {503} for answers in asking)
            wire.mend()
            before = time.monotonic()
            while asks("/registry/v2/vm").status != 200 or asks("/readyz").status != 200:
                assert time.monotonic() - before < PATIENCE_SECONDS
                time.sleep(0.1)


@pytest.fixture(scope="module")
def sessions(minio):
    """Sessions at MinIO, one after the other, each said to end so soon that links live for three seconds."""
    root = {"aws_access_key_id": minio.access_key, "aws_secret_access_key": minio.secret_key}
    sts = boto3.session.Session().client("sts", endpoint_url=minio.endpoint, region_name=minio.region, **root)
    made = [
        sts.assume_role(RoleArn="arn:aws:iam::1:role/any", RoleSessionName=f"n{n}")["Credentials"] for n in range(8)
    ]
    given = itertools.cycle(made)

    def give():
        one = next(given)
        return Session(one["AccessKeyId"], one["SecretAccessKey"], one["SessionToken"], seconds=64)

    return give


@pytest.mark.campaign
def test_credentials_may_change_under_a_push_and_a_pull(minio, bucket, sessions, tmp_path):
    with Metadata(sessions) as service:
        told = service.environment("container", tmp_path)
        told |= {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_REGION": minio.region}
        store = ["--store", f"s3://{bucket(minio)}", "--s3-endpoint", minio.endpoint, "--workers", "1"]
        with running.serving(tmp_path, *store, **told) as registry:
            baker, runner = (running.Node(tmp_path / name, registry.url) for name in ("baker", "runner"))
            machine = machines.make(baker.library, sizes=(4 * machines.MIB,), state_size=0)
            for node, words in (
                (baker, ("push", machine.name, "-t", "v1")),
                (runner, ("pull", machine.name, "-t", "v1")),
            ):
                before = service.asked
                node.done(*words, "--limit-rate", "8Mbit")  # four seconds, at least
                assert service.asked > before + 1
            assert machines.contents(runner.library, machine) == machines.contents(baker.library, machine)
