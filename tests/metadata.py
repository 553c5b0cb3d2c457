"""Where AWS gives machines their credentials, as one server that does what it is told: `Metadata`.

It speaks EC2's metadata service (IMDSv2: a token first, then the role's name, then its credentials), the container's
(AWS_CONTAINER_CREDENTIALS_FULL_URI), and the AssumeRoleWithWebIdentity of STS; see "Use instance metadata to access instance
metadata options", "Container credential provider" and "AssumeRoleWithWebIdentity" in AWS's documents.
"""

from __future__ import annotations

import datetime as dt
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_ROLE = "registry"
_ROLES = "/latest/meta-data/iam/security-credentials/"
_STS = """<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{AccessKeyId}</AccessKeyId>
<SecretAccessKey>{SecretAccessKey}</SecretAccessKey><SessionToken>{Token}</SessionToken><Expiration>{Expiration}</Expiration>
</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"""


@dataclass(frozen=True)
class Session:
    """Credentials of a session, and when they end by what is said of them."""

    key: str
    secret: str = field(repr=False)
    token: str = field(repr=False)
    seconds: float

    def told(self) -> dict[str, str]:
        """As the services tell it."""
        end = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=self.seconds)
        names = {"AccessKeyId": self.key, "SecretAccessKey": self.secret, "Token": self.token}
        return {"Code": "Success", "Type": "AWS-HMAC", **names, "Expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ")}


class Metadata(ThreadingHTTPServer):
    """The services, with the session that `give` makes at each question; use it in a `with`.

    `fails`: what they answer instead: a status, text that is no JSON, or an event until which they say nothing.
    """

    daemon_threads = True

    def __init__(self, give: Callable[[], Session]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.give = give
        self.fails: int | str | threading.Event | None = None
        self.asked = 0
        """How often credentials were."""
        self.asking = threading.Event()
        """Set by each question."""
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if isinstance(self.fails, threading.Event):
            self.fails.set()
        self.shutdown()
        self.server_close()

    def environment(self, service: str, folder: Path) -> dict[str, str]:
        """What a process is told that has its credentials from `service`: machine, container or sts."""
        match service:
            case "machine":
                return {"AWS_EC2_METADATA_SERVICE_ENDPOINT": self.url, "AWS_EC2_METADATA_DISABLED": "false"}
            case "container":
                return {
                    "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self.url}/container",
                    "AWS_CONTAINER_AUTHORIZATION_TOKEN": "pod",
                }
            case _:
                (folder / "identity").write_text("a-pod's-token")
                return {
                    "AWS_WEB_IDENTITY_TOKEN_FILE": str(folder / "identity"),
                    "AWS_ROLE_ARN": "arn:aws:iam::1:role/registry",
                    "AWS_ENDPOINT_URL_STS": self.url,
                }

    def handle_error(self, *_: Any) -> None:
        """Who went away has its reason."""


class _Handler(BaseHTTPRequestHandler):
    server: Metadata
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        """The token of IMDSv2."""
        self._say(200, "an-imds-token" if self.path == "/latest/api/token" else "")

    def do_GET(self) -> None:
        """IMDS, and the container's."""
        if self.path == _ROLES:
            self._say(200 if self.headers.get("x-aws-ec2-metadata-token") == "an-imds-token" else 401, _ROLE)
        elif self.path == _ROLES + _ROLE or (self.path, self.headers.get("Authorization")) == ("/container", "pod"):
            self._answer(json.dumps)
        else:
            self._say(404, "")

    def do_POST(self) -> None:
        """STS."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(_STS.format_map)

    def _answer(self, write: Callable[[dict[str, str]], str]) -> None:
        self.server.asked += 1
        self.server.asking.set()
        match self.server.fails:
            case int() as status:
                self._say(status, "")
            case str() as text:
                self._say(200, text)
            case threading.Event() as until:
                until.wait()
                self.close_connection = True
            case _:
                self._say(200, write(self.server.give().told()))

    def _say(self, status: int, text: str) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("x-aws-ec2-metadata-token-ttl-seconds", "21600")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def wait_for(what: Callable[[], bool], seconds: float = 60) -> None:
    """Until it is so."""
    before = time.monotonic()
    while not what():
        assert time.monotonic() - before < seconds
        time.sleep(0.01)
