"""What a login with an API key costs: some clients make one for each of their requests."""

from __future__ import annotations

import base64
import json
import secrets
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import urllib3

from bench.corpus import say
from bench.table import Row
from s3reg import crypto, wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.lab import Lab

_LOGINS = 400
_CALLERS = 4
_ID = "bench"


def rows(lab: Lab) -> list[Row]:
    """Hand and shake, as the registry takes them: by one caller, then by several at once."""
    say(f"  {_LOGINS} logins, twice; what the client does with its key in between is not counted")
    bucket, token = lab.minio.bucket(lab.new("logins")), secrets.token_urlsafe(24)
    private, public = crypto.new_key()
    key = crypto.PrivateKey(private)
    with (
        lab.registry_on(bucket, settings={"S3REG_ROOT_TOKEN": token}) as url,
        urllib3.PoolManager(maxsize=_CALLERS) as http,
        ThreadPoolExecutor(_CALLERS) as callers,
    ):

        def post(path: str, body: object, **headers: str) -> bytes:
            answer = http.request("POST", url + path, body=json.dumps(body), headers=headers, retries=False)
            if answer.status not in {200, 201}:
                raise SystemExit(f"bench: {path} was answered {answer.status}: {answer.data[:500]!r}")
            return answer.data

        def login(_: int) -> float:
            hand, sealed = _timed(lambda: post("/tap/v1/hand", {"id": _ID}))
            secret = key.open(base64.b64decode(sealed)).decode()
            shake, _said = _timed(lambda: post("/tap/v1/shake", {"id": _ID, "secret": secret}))
            return hand + shake

        root = "Basic " + base64.b64encode(f"root:{token}".encode()).decode()
        made: dict[str, object] = {
            "id": _ID,
            "ttl": None,
            "groups": [],
            "public_key": base64.b64encode(public).decode(),
        }
        post(f"{wire.PREFIX}/keys", made, Authorization=root)
        # A worker's first call opens the store.
        list(callers.map(login, range(4 * _CALLERS)))
        alone = [login(number) for number in range(_LOGINS)]
        began = time.perf_counter()
        at_once = list(callers.map(login, range(_LOGINS)))
        rate = _LOGINS / (time.perf_counter() - began)
    return [
        _row("a login with an API key", alone),
        _row(f"a login with an API key, {_CALLERS} callers at once", at_once, f"; {rate:.0f} a second"),
    ]


def _timed(call: Callable[[], bytes]) -> tuple[float, bytes]:
    began = time.perf_counter()
    said = call()
    return time.perf_counter() - began, said


def _row(name: str, took: list[float], more: str = "") -> Row:
    percentiles = [1000 * seconds for seconds in statistics.quantiles(took, n=100)]
    return Row(name, f"p50 {percentiles[49]:.1f} ms, p99 {percentiles[98]:.1f} ms{more}")
