"""Real S3 servers for the tests, and the words for what a machine lacks to run them.

moto runs in a process of its own: it checks no signature, no checksum and no race, but it is there wherever the tests are.
MinIO keeps every promise. Its program is `S3REG_MINIO`, or what `make minio` put under `~/.cache/s3reg/bin`. Instead of it,

    S3REG_TEST_S3=http://ACCESS_KEY:SECRET_KEY@HOST:PORT/BUCKET-PREFIX?region=REGION

names any server on which buckets may be made; they are called BUCKET-PREFIX-…, and are removed afterwards. Characters that
mean something in a URL are percent-encoded. Each xdist worker starts its own servers.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
import pytest
import urllib3
from botocore.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOT_TESTED = "not tested: "
REGION = "us-east-1"
_INSTALL = {
    "curl": "install the package curl",
    "fish": "install the package fish",
    "haproxy": "install the package haproxy",
    "jq": "install the package jq",
    "mke2fs": "install the package e2fsprogs",
    "nginx": "install the package nginx-light",
    "openssl": "install the package openssl",
    "rsync": "install the package rsync",
    "promtool": "install the package prometheus",
    "wrk": "install the package wrk",
    "zsh": "install the package zsh",
    "zstd": "install the package zstd",
    "minio": "install Go, then make minio",
}
_START_SECONDS = 60
_NEVER_OUTGOING = range(20_000, 32_000)
"""Linux gives connections ports from 32,768 on, macOS from 49,152 on."""
_MOTO = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
"""
# Our end of the pipe closes even if pytest is killed: no server outlives the tests.
_UNTIL_STDIN_ENDS = '"$@" </dev/null & child=$!; read -r _; kill "$child"; wait "$child"'


def lacking(what: str) -> None:
    """Skip the test that asks: this machine lacks `what`. The last lines of the run name it; in CI it is a failure."""
    pytest.skip(NOT_TESTED + what)


def needs(program: str) -> str:
    """Where `program` is, or a skip that the last lines name."""
    found = shutil.which(program) or shutil.which(program, path="/usr/local/sbin:/usr/sbin:/sbin")
    if found is None:
        lacking(f"{program} ({_INSTALL.get(program, 'install it')})")
    return str(found)


@dataclass(frozen=True)
class S3Server:
    """A running S3 server and a key to it."""

    name: str
    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str = REGION
    bucket_prefix: str = "s3reg"
    ca: Path | None = None
    """Whose certificate it has, where it speaks TLS."""
    ours: bool = True
    """Started for this run: what is left on it goes with it."""
    kill: Callable[[], None] = field(default=lambda: lacking("a MinIO that may be killed"), repr=False, compare=False)
    """kill -9, where it is a MinIO of ours."""

    def environment(self) -> dict[str, str]:
        """What a process needs to use the server with boto3's usual chain."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
        }

    @functools.cached_property
    def client(self):
        """A plain boto3 client, for what a store does not do: buckets and their settings."""
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(s3={"addressing_style": "path"}, signature_version="s3v4"),
            verify=None if self.ca is None else str(self.ca),
        )

    def new_bucket(self, **more) -> str:
        """A fresh, empty bucket."""
        name = f"{self.bucket_prefix}-{uuid.uuid4().hex[:16]}"
        if self.region != REGION:
            more["CreateBucketConfiguration"] = {"LocationConstraint": self.region}
        self.client.create_bucket(Bucket=name, **more)
        return name

    def remove_bucket(self, name: str) -> None:
        """The bucket and all that is in it."""
        for page in self.client.get_paginator("list_object_versions").paginate(Bucket=name):
            found = page.get("Versions", []) + page.get("DeleteMarkers", [])
            objects = [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in found]
            if objects:
                self.client.delete_objects(Bucket=name, Delete={"Objects": objects})
        self.client.delete_bucket(Bucket=name)


@contextlib.contextmanager
def buckets() -> Iterator[Callable[..., str]]:
    """A function that makes an empty bucket on a server; on one that is not ours they are removed in the end."""
    made: list[tuple[S3Server, str]] = []

    def make(server: S3Server, **more) -> str:
        made.append((server, server.new_bucket(**more)))
        return made[-1][1]

    try:
        yield make
    finally:
        for server, name in made:
            if not server.ours:
                server.remove_bucket(name)


def credentials() -> tuple[str, str]:
    """The key pair of this run: of the server that S3REG_TEST_S3 names, else the one that our own servers take."""
    parts = urlsplit(os.environ.get("S3REG_TEST_S3", ""))
    return unquote(parts.username or "s3reg-tests"), unquote(parts.password or "not-a-secret-at-all")


@contextlib.contextmanager
def moto() -> Iterator[S3Server]:
    """moto as a server, on a free port."""
    with subprocess.Popen(
        [sys.executable, "-c", _MOTO],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline())
            yield S3Server("moto", f"http://127.0.0.1:{port}", *credentials())
        finally:
            process.stdin.close()
            process.wait(timeout=_START_SECONDS)


@contextlib.contextmanager
def minio(folder: Path, *, port: int | None = None, **environment: str) -> Iterator[S3Server]:
    """MinIO on this port, or a free one, with its data under `folder`; or the server that S3REG_TEST_S3 names."""
    named = os.environ.get("S3REG_TEST_S3")
    if named:
        yield _named(named)
        return
    with run_minio(minio_program(), folder, port=port, **environment) as server:
        yield server


def minio_program() -> str:
    """Where MinIO is, or a skip that the last lines name."""
    program = os.environ.get("S3REG_MINIO") or str(Path.home() / ".cache/s3reg/bin/minio")
    if shutil.which(program) is None:
        lacking(f"minio ({_INSTALL['minio']})")
    return program


def _named(url: str) -> S3Server:
    parts = urlsplit(url)
    host = (parts.netloc.rpartition("@"))[2]
    region = parse_qs(parts.query).get("region", [REGION])[0]
    prefix = parts.path.strip("/") or "s3reg"
    return S3Server("S3REG_TEST_S3", f"{parts.scheme}://{host}", *credentials(), region, prefix, ours=False)


@contextlib.contextmanager
def run_minio(
    program: str,
    folder: Path,
    *,
    port: int | None = None,
    tls: tuple[Path, Path] | None = None,
    **environment: str,
) -> Iterator[S3Server]:
    """MinIO on this port, or a free one. `environment` adds to its settings.

    `tls`: the folder with its certificate for localhost, as MinIO wants it, and the CA.
    """
    user, password = credentials()
    port = port or free_port()
    settings = {"MINIO_ROOT_USER": user, "MINIO_ROOT_PASSWORD": password, "MINIO_BROWSER": "off", "HOME": str(folder)}
    settings |= {"MINIO_UPDATE": "off", "PATH": os.environ["PATH"], **environment}
    address = f"127.0.0.1:{port}"
    # Its data lie in a folder of their own: MinIO takes every folder beside them for a bucket.
    command = [program, "server", str(folder / "data"), "--address", address, "--quiet"]
    endpoint, ca = f"http://{address}", None
    if tls is not None:
        certificates, ca = tls
        command += ["--certs-dir", str(certificates)]
        endpoint = f"https://localhost:{port}"
    region = environment.get("MINIO_SITE_REGION", REGION)
    with until_stdin_ends(command, folder / "minio.log", settings) as kill:
        _await(f"{endpoint}/minio/health/ready", folder / "minio.log", ca)
        yield S3Server("minio", endpoint, user, password, region, ca=ca, kill=kill)


@contextlib.contextmanager
def until_stdin_ends(command: list[str], log: Path, environment: dict[str, str]) -> Iterator[Callable[[], None]]:
    """A server that ends with the block, and with the tests however these end; gives what kills it. It speaks into `log`."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["/bin/sh", "-c", _UNTIL_STDIN_ENDS, "sh", *command],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=out,
            env=environment,
            start_new_session=True,
        )

    def kill() -> None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=_START_SECONDS)

    with process:
        assert process.stdin is not None
        try:
            yield kill
        finally:
            process.stdin.close()
            process.wait(timeout=_START_SECONDS)


def _await(url: str, log: Path, ca: Path | None = None) -> None:
    deadline = time.monotonic() + _START_SECONDS
    with urllib3.PoolManager(ca_certs=None if ca is None else str(ca)) as http:
        while time.monotonic() < deadline:
            with contextlib.suppress(urllib3.exceptions.HTTPError):
                if http.request("GET", url, retries=False, timeout=5).status == 200:
                    return
            time.sleep(0.1)
    raise RuntimeError(f"the server did not start: {log.read_text()[-2000:]}")


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody used a moment ago, and that no outgoing connection is given meanwhile."""
    while True:
        port = secrets.choice(_NEVER_OUTGOING)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
