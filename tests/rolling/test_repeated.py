"""What balancers repeat when a replica goes without an answer, and that nothing is done twice by it."""

import contextlib
import http.server
import threading
from types import SimpleNamespace

import pytest
import urllib3

import machines
import pki
import running
import sites
from rolling.replicas import BALANCERS
from s3reg.client import Node, PushOptions

API = "/transfer/v1"


class Dying(http.server.BaseHTTPRequestHandler):
    """Takes a request, and goes without an answer; asked again for the same, it answers."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, str, str | None]]

    def _answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != "/readyz":
            asked = [(method, path) for method, path, _ in self.seen]
            self.seen.append((self.command, self.path, self.headers["Idempotency-Key"]))
            if (self.command, self.path) not in asked:
                self.close_connection = True
                return
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - the library's names

    def log_message(self, *_):
        pass


@pytest.fixture
def dying():
    """Three that do, and what they were asked."""
    seen = []
    kind = type("Kind", (Dying,), {"seen": seen})
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)) for _ in range(3)]
        for one in made:
            threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01}).start()
            stack.callback(one.shutdown)
        yield SimpleNamespace(
            replicas=[SimpleNamespace(address=f"127.0.0.1:{one.server_port}") for one in made], seen=seen
        )


@pytest.mark.parametrize("balancer", BALANCERS)
def test_what_is_safe_to_repeat_is_repeated_with_one_key_and_nothing_else(dying, balancer, tmp_path):
    authority = pki.Authority()
    trusted = str(authority.write(tmp_path / "ca.pem"))
    certificate = authority.server("127.0.0.1").write(tmp_path / "server")
    with (
        BALANCERS[balancer](tmp_path, dying.replicas, certificate) as url,
        urllib3.PoolManager(retries=False, timeout=running.SECONDS, ca_certs=trusted) as web,
    ):

        def status(method, path):
            return web.request(method, url + path, body=None if method == "GET" else b"{}").status

        assert status("GET", "/registry/vm") == 200
        assert status("POST", f"{API}/sessions") == 200
        assert status("DELETE", "/registry/revert?id=x") == 200
        # What may not be repeated fails: by HAProxy's way, without a word on a connection that had answers before.
        with contextlib.suppress(urllib3.exceptions.ProtocolError):
            assert status("POST", "/v1/apikey") == 502
    assert [path for _, path, _ in dying.seen] == [
        *["/registry/vm"] * 2,
        *[f"{API}/sessions"] * 2,
        *["/registry/revert?id=x"] * 2,
        "/v1/apikey",
    ]
    keys = [key for *_, key in dying.seen]
    assert keys[4]
    assert keys[4] == keys[5]
    assert len(set(keys)) == 4


def test_a_removal_in_ankas_dialect_that_is_sent_twice_is_done_once(tmp_path):
    machine = machines.make(tmp_path / "node", sizes=(1000,), state_size=0)
    with sites.address(tmp_path / "store") as url, urllib3.PoolManager(retries=False) as web:
        with Node(machine.library, url) as node:
            for number in range(4):
                node.push(machine.name, PushOptions(tag=f"v{number}"))

        def revert(**headers):
            assert web.request("DELETE", f"{url}/registry/revert?id={machine.id}", headers=headers).status == 200
            told = web.request("GET", f"{url}/registry/vm?id={machine.id}").json()["body"]
            return [row["tag"] for row in told["versions"]]

        key = {"Idempotency-Key": "8f2c3d"}
        assert revert(**key) == revert(**key) == ["v0", "v1", "v2"]
        assert revert(**{"Idempotency-Key": "8f2c3e"}) == ["v0", "v1"]
        assert revert() == ["v0"]
