"""One process's way to a bucket: boto3's client, our own signers and session, and what keeps them from asking too much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
import botocore.awsrequest
import botocore.exceptions as failures
import botocore.handlers
import botocore.httpsession
import botocore.session
import botocore.utils
from botocore.config import Config

from s3reg import __version__
from s3reg.store import credential_process, s3_answers, signing
from s3reg.store.breaker import Breaker
from s3reg.store.credentials import Lasting
from s3reg.store.repeats import Repeats
from s3reg.store.s3_failures import CONNECT_SECONDS, reason_of
from s3reg.telemetry import request_id

if TYPE_CHECKING:
    from collections.abc import Callable

ASK_SECONDS = 1.0
"""That a store which may be away has for a connection, and as long again for its answer."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How a bucket is reached."""

    store: str
    """Its name, for texts."""
    bucket: str
    endpoint: str | None
    signing_endpoint: str | None
    path_style: bool
    region: str | None
    verify: str | bool
    connections: int
    read_seconds: float
    clock: Callable[[], float]


class Line:
    """Safe to share between threads, and not to be taken over a fork. Raises what boto3 raises of its own settings."""

    def __init__(self, terms: Terms) -> None:
        core = botocore.session.get_session()
        chain = core.get_component("credential_provider")
        # botocore pretends that what a machine's service gives lasts for 17 minutes at least: links would outlive it.
        chain.get_provider("iam-role")._role_fetcher._evaluate_expiration = lambda _: None  # noqa: SLF001 - no public way
        credential_process.limit(chain)
        credentials = Lasting(lambda: _found(chain), terms.store, reason_of, terms.clock)
        core.register_component("credential_provider", _Chain(credentials))
        session = boto3.session.Session(botocore_session=core)
        self._terms = terms
        self.region = terms.region or session.region_name or "us-east-1"
        self.client = self._client(session)
        endpoint = self.client.meta.endpoint_url
        self._proxies = botocore.utils.get_environ_proxies(endpoint)
        self.http = self._session((CONNECT_SECONDS, terms.read_seconds), terms.connections)
        ours = signing.target(endpoint, terms.bucket, path_style=terms.path_style)
        links = signing.target(terms.signing_endpoint or endpoint, terms.bucket, path_style=terms.path_style)
        self.signers = signing.Rotating(credentials, ours, links, self.region)
        self.breaker = Breaker(self._answers)
        self.repeats = Repeats(lambda: not self.breaker.away)

    def get(self, name: str, query: dict[str, str], more: dict[str, str]) -> Any:
        """The answer to a GET that we sign and send; `name` is the whole key, empty for the bucket itself."""
        return self._sent(self.http, name, query, more)

    def _sent(
        self, http: botocore.httpsession.URLLib3Session, name: str, query: dict[str, str], more: dict[str, str]
    ) -> Any:
        url, headers = self.signers.now().requests.request(name, query, now=self._terms.clock())
        headers |= {"user-agent": _agent(), **more}
        return http.send(botocore.awsrequest.AWSRequest("GET", url, headers).prepare())

    def _answers(self) -> bool:
        """Whether the store says anything but that it cannot, over a connection of its own."""
        http = self._session((ASK_SECONDS, ASK_SECONDS), 1)
        try:
            answer = self._sent(http, "", {"list-type": "2", "max-keys": "1"}, {})
        except (failures.HTTPClientError, failures.ConnectionError):
            return False
        finally:
            http.close()
        return answer.status_code not in s3_answers.TRY_AGAIN

    def _client(self, session: boto3.session.Session) -> Any:
        terms = self._terms
        config = Config(
            signature_version="s3v4",
            s3={
                "addressing_style": "path" if terms.path_style else "virtual",
                "us_east_1_regional_endpoint": "regional",
            },
            connect_timeout=CONNECT_SECONDS,
            read_timeout=terms.read_seconds,
            max_pool_connections=terms.connections,
            # What may be sent again is sent again by us, within one budget.
            retries={"mode": "standard", "total_max_attempts": 1},
            # Their trailers break servers that do not know them; what needs a checksum is signed with one.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            ignore_configured_endpoint_urls=True,
            tcp_keepalive=True,
        )
        client = session.client(
            "s3", endpoint_url=terms.endpoint, region_name=self.region, verify=terms.verify, config=config
        )
        events = client.meta.events
        # Costs a round trip on every put, and a second where a proxy does not answer it.
        events.unregister("before-call.s3", botocore.handlers.add_expect_header)
        events.register_last("before-parameter-build.s3", _stay_in_region)
        events.register_last("request-created.s3", _say_who)
        return client

    def _session(self, timeout: tuple[float, float], connections: int) -> botocore.httpsession.URLLib3Session:
        return botocore.httpsession.URLLib3Session(
            verify=self._terms.verify, proxies=self._proxies, timeout=timeout, max_pool_connections=connections
        )


def _found(chain: Any) -> Any:
    credentials = chain.load_credentials()
    if credentials is None:
        raise failures.NoCredentialsError
    return credentials


class _Chain:
    """Where botocore looks for credentials: at ours."""

    def __init__(self, credentials: Lasting) -> None:
        self._credentials = credentials

    def load_credentials(self) -> Lasting:
        """As botocore asks."""
        return self._credentials


def _agent() -> str:
    """Who asks, for the store's own log: with the id of the request that it is asked for."""
    known = request_id()
    return f"s3reg/{__version__}" + (f" id/{known}" if known else "")


def _say_who(request: Any, **_: Any) -> None:
    # Once it is signed: this header never is. One that is set is added to those of its name.
    del request.headers["User-Agent"]
    request.headers["User-Agent"] = _agent()


def _stay_in_region(context: dict[str, Any], **_: Any) -> None:
    """Tells botocore that it has followed the bucket to its region: links and listings would not follow."""
    context.setdefault("s3_redirect", {})["redirected"] = True
