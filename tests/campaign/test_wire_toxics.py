"""A whole push and pull over lines that toxiproxy spoils: slow, narrow, cut into slices, reset or closed after so much.

Before MinIO and before the API alike. A line that breaks again and again is survived as long as something comes through.
"""

import contextlib
import json
import os
import shutil
import time
import uuid
from pathlib import Path

import pytest
import urllib3

import servers
from campaign.operations import OPERATIONS
from campaign.wired_site import over_minio

PROGRAM = Path.home() / ".cache/s3reg/bin/toxiproxy"
TOXICS = {
    "slow": ("latency", "downstream", {"latency": 30, "jitter": 20}),
    "narrow": ("bandwidth", "upstream", {"rate": 2000}),
    "in slices": ("slicer", "downstream", {"average_size": 400, "size_variation": 300, "delay": 100}),
    "closed after so many bytes": ("limit_data", "downstream", {"bytes": 300_000}),
    "reset": ("reset_peer", "downstream", {"timeout": 150}),
    "silent, then closed": ("timeout", "downstream", {"timeout": 400}),
}
OPERATIONS_OVER_LINES = ("push", "delta push", "pull", "update", "revert")


class Toxiproxy:
    """A toxiproxy, told over its API."""

    def __init__(self, url):
        self.url, self._http = url, urllib3.PoolManager(retries=False, timeout=10)

    def ask(self, method, path, **body):
        answer = self._http.request(method, self.url + path, body=json.dumps(body) if body else None)
        assert answer.status < 300, answer.data
        return json.loads(answer.data) if answer.data else None

    def before(self, endpoint):
        """A proxy before this server: its name, and its address."""
        name = uuid.uuid4().hex
        listen = self.ask("POST", "/proxies", name=name, listen="127.0.0.1:0", upstream=endpoint.partition("//")[2])
        return name, f"http://{listen['listen']}"

    @contextlib.contextmanager
    def toxic(self, name, kind):
        what, stream, attributes = TOXICS[kind]
        self.ask("POST", f"/proxies/{name}/toxics", name="toxic", type=what, stream=stream, attributes=attributes)
        try:
            yield
        finally:
            self.ask("DELETE", f"/proxies/{name}/toxics/toxic")


@pytest.fixture(scope="module")
def toxiproxy(tmp_path_factory):
    if shutil.which(PROGRAM) is None:
        servers.lacking("toxiproxy (install Go, then bench/install_toxiproxy.sh)")
    port = servers.free_port()
    command = [str(PROGRAM), "-host", "127.0.0.1", "-port", str(port)]
    with servers.until_stdin_ends(command, tmp_path_factory.mktemp("toxiproxy") / "log", dict(os.environ)):
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(urllib3.exceptions.HTTPError):
                urllib3.request("GET", f"{url}/version", retries=False)
                break
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield Toxiproxy(url)


@pytest.fixture(scope="module")
def site(start, minio, toxiproxy, tmp_path_factory):
    """The wires' servers are proxies of toxiproxy's; their names are in `site.kept`."""
    with over_minio(start, minio, tmp_path_factory.mktemp("site")) as site:
        for wire in ("api", "outer", "inner"):
            site.kept[wire], proxy = toxiproxy.before(f"http://{getattr(site, wire).server}")
            getattr(site, wire).server = proxy.removeprefix("http://")
        yield site


@pytest.mark.campaign
@pytest.mark.parametrize("wire", ["api", "outer", "inner"])
@pytest.mark.parametrize("toxic", TOXICS)
def test_a_bad_line_costs_time_or_a_second_try(toxic, wire, site, toxiproxy):
    for operation in OPERATIONS_OVER_LINES:
        job = OPERATIONS[operation](site)
        site.mend()
        with toxiproxy.toxic(site.kept[wire], toxic):
            outcome = job.run().outcome()
        assert getattr(site, wire).passed or (operation == "revert" and wire == "outer")
        job.check(outcome)
    site.check_clean()
