"""Proxies that macOS knows of, asked for once before workers are forked.

`urllib.request`, and with it whatever calls S3, asks the system where the environment names none; in a process that was
forked that call may crash (https://docs.python.org/3/library/urllib.request.html, the warning on top;
https://github.com/python/cpython/issues/105912, https://github.com/benoitc/gunicorn/issues/2761). What the environment says
is all that is looked at, once it says anything: so the system's answer is left there.
"""

from __future__ import annotations

import os
import sys
import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

EVERYTHING = "*"
METADATA = "169.254.169.254"
"""Where a machine of AWS has its role's credentials from."""


def ask_once(addresses: Iterable[str | None]) -> None:
    """Leave in the environment what the system says of proxies, on macOS, if nothing there is said of them.

    `addresses`: those that are called; None: it is not known which.
    """
    if sys.platform == "darwin" and not urllib.request.getproxies_environment():
        hosts = [urlsplit(address).netloc for address in addresses if address is not None]
        os.environ.update(left(urllib.request.getproxies(), [*hosts, METADATA], urllib.request.proxy_bypass))


def left(proxies: Mapping[str, str], hosts: Iterable[str], bypassed: Callable[[str], bool]) -> dict[str, str]:
    """These proxies (scheme: URL) as an environment names them, and which of the hosts are called without; never nothing."""
    if not proxies:
        return {"no_proxy": EVERYTHING}
    named = {f"{scheme}_proxy": url for scheme, url in proxies.items()}
    direct = ",".join(host for host in hosts if bypassed(host))
    return named | ({"no_proxy": direct} if direct else {})
