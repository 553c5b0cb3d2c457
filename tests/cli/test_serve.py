"""`s3reg serve` as a process of its own: how it starts, ends, and what it says when it cannot."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import urllib3

import secrets_seen
import servers
from push_calls import API, link_to_put
from s3reg.registry import Registry
from s3reg.store.files import FilesStore

LINE = re.compile(r"s3reg \S+ serves (.+) at (https?://\S+) \(.+\)\n")
SECONDS = 60


def command(*arguments):
    return [sys.executable, "-m", "s3reg.cli.main", "serve", *map(str, arguments)]


def environment(**more):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("S3REG_", "AWS_"))}
    return {**kept, "AWS_EC2_METADATA_DISABLED": "true", **more}


@contextlib.contextmanager
def serving(*arguments, **more):
    """A registry on a free port: its process and its URL."""
    with subprocess.Popen(
        command("--listen", "127.0.0.1:0", *arguments),
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            match = LINE.fullmatch(process.stdout.readline())
            assert match, process.stderr.read()
            yield process, match[2]
        finally:
            if process.poll() is None:
                process.terminate()
            # What a test has not read itself.
            secrets_seen.watch(process.communicate(timeout=SECONDS)[1])


@pytest.fixture
def web():
    with urllib3.PoolManager(retries=False, timeout=SECONDS) as pool:
        yield pool


def refused(*arguments, **more):
    """The exit code and what was said by a registry that could not start."""
    done = subprocess.run(
        command(*arguments), env=environment(**more), capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    said = [line for line in done.stderr.splitlines() if not line.startswith("       (object ")]
    assert len(said) == 2, done.stderr  # what is wrong, and what to do
    return done.returncode, done.stderr


def test_it_says_where_it_serves_what_and_answers_there(tmp_path, web):
    with serving("--store", tmp_path / "store") as (_, url):
        for path in ("/livez", "/readyz", "/registry/status", "//registry/v2/vm/", f"{API}/openapi.json"):
            assert web.request("GET", url + path).status == 200, path
        assert web.request("GET", f"{url}/registry/vm?id=nix").json()["status"] == "FAIL"
    assert (tmp_path / "store" / "format.json").exists()


def test_the_environment_is_enough(tmp_path, web):
    folder = tmp_path / "store"
    with serving(S3REG_STORE=str(folder), S3REG_WORKERS="1", S3REG_THREADS="2", S3REG_LOG_FORMAT="json") as (_, url):
        assert web.request("GET", f"{url}/readyz").status == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_without_a_word(tmp_path, number):
    with serving("--store", tmp_path / "store", "--log-level", "warning") as (process, _):
        process.send_signal(number)
        out, err = process.communicate(timeout=SECONDS)
        assert (process.returncode, out) == (0, "")
        assert "Traceback" not in err


def test_a_request_under_way_when_it_is_told_to_end_is_answered(tmp_path, web):
    size, piece = 4 * 1024**2, 256 * 1024
    with serving("--store", tmp_path / "store", "--workers", "1") as (process, url):
        link = link_to_put(web, url, size)

        def body():
            yield bytes(piece)
            process.terminate()
            while answers(url):
                pass  # it takes no new request any more: the rest of this one is all that keeps it
            for _ in range(size // piece - 1):
                yield bytes(piece)

        headers = {**link["headers"], "content-length": str(size)}
        assert web.request("PUT", url + link["url"], body=body(), headers=headers).status == 200
        assert process.wait(SECONDS) == 0


def answers(url):
    with urllib3.PoolManager(retries=False, timeout=2) as pool:
        try:
            return pool.request("GET", f"{url}/livez").status == 200
        except urllib3.exceptions.HTTPError:
            return False


def test_objects_and_ranges_pass_through_real_sockets_whole(tmp_path, web):
    size = 20 * 1024**2 + 3
    with serving("--store", tmp_path / "store", "--workers", "2") as (_, url):
        link = link_to_put(web, url, size)
        assert web.request("PUT", url + link["url"], body=bytes(size), headers=link["headers"]).status == 200
        again = web.request("PUT", url + link["url"], body=bytes(size), headers=link["headers"])
        assert (again.status, again.json()["error"]["code"]) == (412, "precondition-failed")
        store = FilesStore(tmp_path / "store")
        store.sign_with(Registry(store).signing_secret())
        (pack,) = store.list("packs/")
        read = url + store.sign_get(pack.key, seconds=300).url
        assert web.request("GET", read).data == bytes(size)

        def part(first):
            answer = web.request("GET", read, headers={"Range": f"bytes={first}-{first + 999}"})
            return answer.status, answer.headers["content-range"], len(answer.data)

        with ThreadPoolExecutor(8) as pool:
            starts = range(0, size - 1000, 1_000_003)
            expected = [(206, f"bytes {first}-{first + 999}/{size}", 1000) for first in starts]
            assert list(pool.map(part, starts)) == expected


def test_no_link_shows_in_the_log(tmp_path, web):
    with serving("--store", tmp_path / "store", "--log-level", "debug") as (process, url):
        link = link_to_put(web, url, 9)
        web.request("PUT", url + link["url"], body=bytes(9), headers=link["headers"])
        web.request("GET", url + link["url"])
        process.terminate()
        _, err = process.communicate(timeout=SECONDS)
    assert err.count("path=/objects/packs/") == 2
    assert "signature" not in err
    assert link["url"].rpartition("=")[2] not in err


def test_other_machines_are_served_only_when_that_was_said(tmp_path, web):
    for listen in ("0.0.0.0:0", "[::]:0"):
        code, told = refused("--store", tmp_path / "store", "--listen", listen)
        assert code == 2
        assert "--no-auth" in told
    with serving("--store", tmp_path / "store", "--no-auth", S3REG_LISTEN="0.0.0.0:0") as (_, url):
        assert web.request("GET", f"{url}/livez").status == 200
    assert not (tmp_path / "store" / "heads").exists()


def test_a_port_that_is_taken_is_told(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        code, told = refused("--store", tmp_path / "store", "--listen", listen)
    assert code == 11
    assert listen in told


@pytest.mark.parametrize(
    ("listen", "code"),
    [
        ("8089", 2),
        (":8089", 2),
        ("127.0.0.1:http", 2),
        ("127.0.0.1:70000", 2),
        ("::1:80", 2),
        ("no.such.host.invalid:1", 11),
    ],
)
def test_an_address_that_is_none_is_told(tmp_path, listen, code):
    told = refused("--store", tmp_path / "store", "--listen", listen)
    assert told[0] == code
    assert listen in told[1]


def test_without_a_store_or_with_one_that_is_none_it_says_what_to_give(tmp_path):
    (tmp_path / "file").touch()
    for arguments in ((), ("--store", "ftp://x"), ("--store", "s3://"), ("--store", tmp_path / "file")):
        code, told = refused("--listen", "127.0.0.1:0", *arguments)
        assert code == 2
        assert "--store" in told


def test_a_misspelt_variable_is_refused_with_the_right_one(tmp_path):
    code, told = refused("--store", tmp_path, S3REG_LISTNE="127.0.0.1:0")
    assert code == 2
    assert "S3REG_LISTEN" in told


@pytest.mark.parametrize("option", ["--root-token", "--cert", "--key"])
def test_what_says_who_a_node_is_is_refused_instead_of_serving_everybody(option, s3reg, tmp_path):
    done = s3reg("serve", "--store", tmp_path / "store", option, "something")
    assert done.code == 2
    assert done.err.startswith(f"s3reg: setting {option}: it says who a node is; a registry")
    assert "something" not in done.err


def test_a_bucket_that_cannot_be_used_is_told_before_anything_is_served():
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": servers.REGION}
    nobody = f"http://127.0.0.1:{servers.free_port()}"
    at = ("--listen", "127.0.0.1:0", "--s3-endpoint")
    code, told = refused("--store", "s3://bucket", *at, nobody, **keys)
    assert (code, nobody in told) == (10, True)
    with servers.moto() as server:
        code, told = refused("--store", "s3://no-such-bucket", *at, server.endpoint, **server.environment())
        assert (code, "'no-such-bucket'" in told) == (10, True)


def test_a_bucket_is_served(web):
    with servers.moto() as server:
        bucket = server.new_bucket()
        store = f"s3://{bucket}/some/prefix"
        with serving("--store", store, "--s3-endpoint", server.endpoint, **server.environment()) as (_, url):
            assert web.request("GET", f"{url}/readyz").status == 200
            assert web.request("GET", f"{url}/objects/format.json").json()["error"]["code"] == "route-not-found"
            assert link_to_put(web, url, 9)["url"].startswith(f"{server.endpoint}/{bucket}/some/prefix/packs/main/")
