"""Every setting of a registry, once: name, default, unit and meaning.

The field `s3_endpoint` is the environment's `S3REG_S3_ENDPOINT`, the flag `--s3-endpoint`, and a file's line
`s3_endpoint: …`; `configuration.py` reads them. Credentials are no settings of ours: boto3 finds them where every AWS tool
does. A secret has no flag, because every user of a machine sees the flags of its processes, and no line in the file, which
people commit; it is shown nowhere.
"""

from __future__ import annotations

import dataclasses
import enum
import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from s3reg.errors import SettingInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PREFIX = "S3REG_"
LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("plain", "json")
PROXY_KINDS = ("nginx", "alb-verify", "alb-passthrough")
_LARGEST_PORT = 65_535
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
ELSEWHERE = frozenset(
    {
        # what a node takes from its environment: cli/environment.py
        "S3REG_CA_BUNDLE",
        "S3REG_DEBUG",
        "S3REG_JOBS",
        "S3REG_LIBRARY",
        "S3REG_LIMIT_RATE",
        "S3REG_MACHINE_READABLE",
        "S3REG_PULL_FAILBACK",
        "S3REG_REGISTRY",
        "S3REG_REGISTRY_API_KEY",
        "S3REG_REGISTRY_API_KEY_ID",
        "S3REG_REGISTRY_CERT",
        "S3REG_REGISTRY_KEY",
        "S3REG_REGISTRY_ROOT_TOKEN",
        "S3REG_REMOTES",
        "S3REG_MINIO",  # the tests' S3 server
    }
)
"""Variables that other parts of s3reg read."""
ROOT_TOKEN_SOURCES = ("root_token", "root_token_file", "root_token_secret", "root_token_parameter")
"""Where the root token may come from; one of them."""
CLOSING = frozenset({*ROOT_TOKEN_SOURCES, "authorization", "client_crl"})
"""Without these more is open. One that is set to nothing is a secret that did not arrive, and nobody's wish."""
_TRUTHS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


class Native(enum.Enum):
    """What a value is in YAML."""

    TEXT = "a text, in quotes if it looks like a number, a date, or yes or no"
    WHOLE = "a whole number, without quotes"
    TRUTH = "true or false, without quotes"
    TEXTS = "a list of texts, like [10.0.0.7, 10.1.0.0/16]"


@dataclass(frozen=True, slots=True)
class _Sort:
    """What a value may be."""

    native: Native
    parse: Callable[[str], Any]


def _truth(text: str) -> bool:
    try:
        return _TRUTHS[text.lower()]
    except KeyError:
        raise ValueError("write yes or no") from None


def _whole(least: int, most: int) -> _Sort:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text[:20]) <= most:
            raise ValueError(f"write a whole number from {least} to {most}")
        return int(text)

    return _Sort(Native.WHOLE, parse)


def _choice(*allowed: str) -> _Sort:
    def parse(text: str) -> str:
        if text.lower() not in allowed:
            raise ValueError(f"write one of {', '.join(allowed)}")
        return text.lower()

    return _Sort(Native.TEXT, parse)


def _web_address(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        raise ValueError("write an address like https://s3.example.com:9000, without a user or password")
    return text.rstrip("/")


def _networks(text: str) -> tuple[Network, ...]:
    found = []
    for part in text.split(","):
        try:
            found.append(ipaddress.ip_network(part.strip()))
        except ValueError:
            raise ValueError("write addresses and networks, like 10.0.0.7,10.1.0.0/16,fd00::/8") from None
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen."""

    host: str
    port: int


def address(text: str) -> Address:
    """`HOST:PORT` or `[IPv6]:PORT`, taken apart. Raises ValueError; never for a setting, which was looked at."""
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not host or not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= _LARGEST_PORT):  # noqa: PLR2004 - digits of the largest
        raise ValueError("write HOST:PORT, like 127.0.0.1:8089 or [::1]:8089")
    return Address(host, int(port))


def _listened_at(text: str) -> str:
    address(text)
    return text


_TEXT = _Sort(Native.TEXT, str)
_ADDRESS = _Sort(Native.TEXT, _listened_at)
_TRUTH = _Sort(Native.TRUTH, _truth)
_WEB_ADDRESS = _Sort(Native.TEXT, _web_address)
_NETWORKS = _Sort(Native.TEXTS, _networks)


def _of(default: Any, unit: str, meaning: str, sort: _Sort, *, secret: bool = False) -> Any:
    told = {"unit": unit, "meaning": meaning, "sort": sort, "secret": secret}
    return field(default=default, repr=not secret, metadata=told)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a registry is told when it starts."""

    store: str | None = _of(
        None, "DIR or s3://BUCKET[/PREFIX]", "Where everything is kept: a directory, or a bucket.", _TEXT
    )
    s3_endpoint: str | None = _of(
        None, "URL", "The S3 server; default: AWS, in the region that the AWS variables say.", _WEB_ADDRESS
    )
    s3_signing_endpoint: str | None = _of(
        None, "URL", "The S3 server as nodes reach it, where that differs: links point there.", _WEB_ADDRESS
    )
    s3_path_style: bool | None = _of(
        None, "yes or no", "Buckets in the path instead of the host name; default: yes with an own endpoint.", _TRUTH
    )
    s3_ca_bundle: str | None = _of(None, "FILE", "Certificates (PEM) that the S3 server's is checked against.", _TEXT)
    s3_insecure: bool = _of(False, "yes or no", "Do not check the S3 server's certificate.", _TRUTH)
    listen: str = _of("127.0.0.1:8089", "HOST:PORT", "Where to serve; port 0 takes any free one.", _ADDRESS)
    no_auth: bool = _of(
        False, "yes or no", "Serve other machines although everyone who reaches the registry may do everything.", _TRUTH
    )
    root_token: str | None = _of(
        None, "text", "The root token, of at least 10 characters: turns access control on.", _TEXT, secret=True
    )
    root_token_previous: str | None = _of(
        None, "text", "The root token before it, which is valid too until this is taken away.", _TEXT, secret=True
    )
    root_token_file: str | None = _of(
        None,
        "FILE",
        "Has the root token in its first line, the one before it in its second; read again on change.",
        _TEXT,
    )
    root_token_secret: str | None = _of(
        None,
        "NAME or ARN",
        "Of the secret in AWS Secrets Manager that is the root token; read again every minute.",
        _TEXT,
    )
    root_token_parameter: str | None = _of(
        None,
        "NAME or ARN",
        "Of the SecureString in AWS Systems Manager that has them as the file has; read again every minute.",
        _TEXT,
    )
    authorization: bool = _of(
        False, "yes or no", "An API key or certificate may do only what its groups permit; without: everything.", _TRUTH
    )
    login_seconds: int = _of(300, "seconds", "How long an API key's login works.", _whole(10, 86_400))
    login_secret_seconds: int = _of(
        10, "seconds", "How long a node has to answer what it was handed at its login.", _whole(1, 600)
    )
    tls_cert: str | None = _of(
        None, "FILE", "The server's certificate and its intermediates (PEM): serve TLS; read again on change.", _TEXT
    )
    tls_key: str | None = _of(
        None, "FILE", "Its private key (PEM, not encrypted); default: it is in the certificate's file.", _TEXT
    )
    client_ca: str | None = _of(
        None, "FILE", "Certificates (PEM) of the CAs whose client certificates are taken; read again on change.", _TEXT
    )
    client_crl: str | None = _of(
        None, "FILE", "Revocation lists (PEM, or one in DER) of all these CAs; read again on change.", _TEXT
    )
    proxies: tuple[Network, ...] = _of(
        (), "ADDRESSES", "Proxies, by address or network: believed when they say who connected to them.", _NETWORKS
    )
    proxy_certificates: str | None = _of(
        None,
        ", ".join(PROXY_KINDS),
        "The kind of proxy that passes on client certificates in headers.",
        _choice(*PROXY_KINDS),
    )
    link_seconds: int = _of(
        3600, "seconds", "How long a signed link works; at most the 7 days that S3 allows.", _whole(60, 604_800)
    )
    session_bytes: int = _of(
        2 * 1024**4, "bytes", "The most that one push may upload.", _whole(1024**2, 1024**5)
    )  # fmt: skip
    trash_seconds: int = _of(
        604_800,
        "seconds",
        "How long what is removed from now on can be restored; 0: until the next sweep.",
        _whole(0, 3_660 * 86_400),
    )
    event_seconds: int = _of(
        90 * 86_400,
        "seconds",
        "How long events are kept; a sweep removes those that are older.",
        _whole(0, 3_660 * 86_400),
    )
    sweep_seconds: int = _of(
        86_400,
        "seconds",
        "How often a registry over a directory sweeps it, as s3reg gc does; 0: never. A bucket is left to s3reg gc.",
        _whole(0, 366 * 86_400),
    )
    workers: int | None = _of(None, "processes", "Server processes; default: one for each core.", _whole(1, 1024))
    threads: int = _of(32, "threads", "Requests that one process works on at once.", _whole(1, 1024))
    max_requests: int = _of(
        100_000,
        "requests",
        "A server process is replaced after about as many, each after another number; 0: never.",
        _whole(0, 10**9),
    )
    drain_seconds: int = _of(
        0,
        "seconds",
        "How long a registry that was told to end says so on /readyz and goes on taking requests.",
        _whole(0, 3600),
    )
    metrics_listen: str | None = _of(
        None, "HOST:PORT", "Serve /metrics and the health paths there too, without asking who asks.", _ADDRESS
    )
    traces: str | None = _of(
        None, "URL", "Where traces are sent, by OTLP over HTTP; takes the extra s3reg[traces].", _WEB_ADDRESS
    )
    log_level: str = _of("info", ", ".join(LEVELS), "The least important events to write.", _choice(*LEVELS))
    log_format: str = _of(
        "plain", ", ".join(FORMATS), "Lines for people, or one JSON object a line.", _choice(*FORMATS)
    )

    @property
    def guarded(self) -> bool:
        """Whether access control is on: there is a root token."""
        return any(getattr(self, name) for name in ROOT_TOKEN_SOURCES)


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table: what the command line and the documents print."""

    name: str
    variable: str
    flag: str | None
    """None: it is a secret, and stands in the environment only, not in the file either."""
    default: Any
    unit: str
    meaning: str
    native: Native
    """What it is in the file."""
    parse: Callable[[str], Any]
    """Text to value; raises ValueError with what to write instead. A secret's takes any text: what is wrong is repeated."""

    @property
    def is_secret(self) -> bool:
        """Whether its value is shown nowhere."""
        return self.flag is None

    @property
    def is_switch(self) -> bool:
        """Whether its flag takes no value: off unless it is given."""
        return self.default is False


def table() -> Iterator[Setting]:
    """Every setting, in the order of `Settings`."""
    for row in dataclasses.fields(Settings):
        sort = row.metadata["sort"]
        yield Setting(
            row.name,
            PREFIX + row.name.upper(),
            None if row.metadata["secret"] else "--" + row.name.replace("_", "-"),
            row.default,
            row.metadata["unit"],
            row.metadata["meaning"],
            sort.native,
            sort.parse,
        )


def check(read: Settings) -> None:
    """Raise SettingInvalid if two settings contradict each other, or one lacks another that it stands on."""
    for trouble in contradictions(read):
        raise trouble


def contradictions(read: Settings) -> Iterator[SettingInvalid]:
    """All that `check` finds; the setting at fault is `name`, as a variable."""
    for name, wrong, reason in _contradictions(read):
        if wrong:
            yield SettingInvalid(name=PREFIX + name.upper(), reason=reason)


def _contradictions(read: Settings) -> Iterator[tuple[str, bool, str]]:
    sources = [name for name in ROOT_TOKEN_SOURCES if getattr(read, name)]
    spelled = " and ".join(PREFIX + name.upper() for name in sources)
    yield "root_token", len(sources) > 1, f"the root token comes from one place, and {spelled} are set"
    yield (
        "root_token_previous",
        read.root_token_previous is not None and read.root_token is None,
        "it goes with S3REG_ROOT_TOKEN; a file or parameter has it in its second line, Secrets Manager keeps it itself",
    )
    yield (
        "no_auth",
        read.no_auth and read.guarded,
        f"access control is on, because {spelled} is set; leave one of them out",
    )
    for name in ("authorization", "client_ca", "proxy_certificates"):
        yield (
            name,
            bool(getattr(read, name)) and not read.guarded,
            "access control is off: it is turned on by a root token, S3REG_ROOT_TOKEN, _FILE, _SECRET or _PARAMETER",
        )
    yield "tls_key", read.tls_key is not None and read.tls_cert is None, "it has no certificate: set S3REG_TLS_CERT"
    yield (
        "client_ca",
        read.client_ca is not None and read.tls_cert is None and read.proxy_certificates is None,
        "nobody could show a certificate: set S3REG_TLS_CERT, or S3REG_PROXY_CERTIFICATES behind a proxy",
    )
    yield "client_crl", read.client_crl is not None and read.client_ca is None, "revoked by whom? Set S3REG_CLIENT_CA"
    yield (
        "proxy_certificates",
        read.proxy_certificates is not None and not read.proxies,
        "anybody could send such headers: say in S3REG_PROXIES which addresses the proxy has",
    )
    yield (
        "proxy_certificates",
        read.proxy_certificates is not None and read.client_ca is None,
        "the certificates are checked against S3REG_CLIENT_CA, which is not set",
    )
    yield (
        "metrics_listen",
        read.metrics_listen == read.listen and address(read.listen).port != 0,
        "it is the API's own address; name another port, or leave it out: the API has /metrics too",
    )
