"""Every setting of a registry, once: name, default, unit and meaning.

The field `s3_endpoint` is the environment's `S3REG_S3_ENDPOINT` and the flag `--s3-endpoint`; a flag wins. Credentials are
no settings of ours: boto3 finds them where every AWS tool does. An empty variable counts as absent; an unknown `S3REG_…`
variable is refused, because a misspelt one would otherwise be a setting that silently does nothing.
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from s3reg.errors import SettingInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PREFIX = "S3REG_"
LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("plain", "json")
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
        "S3REG_REMOTES",
        "S3REG_MINIO",  # the tests' S3 server
    }
)
"""Variables that other parts of s3reg read."""
_TESTS = "S3REG_TEST_"
_TRUTHS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def _text(text: str) -> str:
    return text


def _truth(text: str) -> bool:
    try:
        return _TRUTHS[text.lower()]
    except KeyError:
        raise ValueError("write yes or no") from None


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text[:20]) <= most:
            raise ValueError(f"write a whole number from {least} to {most}")
        return int(text)

    return parse


def _choice(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in allowed:
            raise ValueError(f"write one of {', '.join(allowed)}")
        return text.lower()

    return parse


def _web_address(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        raise ValueError("write an address like https://s3.example.com:9000, without a user or password")
    return text.rstrip("/")


def _of(default: Any, unit: str, meaning: str, parse: Callable[[str], Any]) -> Any:
    return field(default=default, metadata={"unit": unit, "meaning": meaning, "parse": parse})


@dataclass(frozen=True, slots=True)
class Settings:
    """What a registry is told when it starts."""

    store: str | None = _of(
        None, "DIR or s3://BUCKET[/PREFIX]", "Where everything is kept: a directory, or a bucket.", _text
    )
    s3_endpoint: str | None = _of(
        None, "URL", "The S3 server; default: AWS, in the region that the AWS variables say.", _web_address
    )
    s3_signing_endpoint: str | None = _of(
        None, "URL", "The S3 server as nodes reach it, where that differs: links point there.", _web_address
    )
    s3_path_style: bool | None = _of(
        None, "yes or no", "Buckets in the path instead of the host name; default: yes with an own endpoint.", _truth
    )
    s3_ca_bundle: str | None = _of(None, "FILE", "Certificates (PEM) that the S3 server's is checked against.", _text)
    s3_insecure: bool = _of(False, "yes or no", "Do not check the S3 server's certificate.", _truth)
    listen: str = _of("127.0.0.1:8089", "HOST:PORT", "Where to serve; port 0 takes any free one.", _text)
    no_auth: bool = _of(
        False, "yes or no", "Serve other machines although everyone who reaches the registry may do everything.", _truth
    )
    link_seconds: int = _of(
        3600, "seconds", "How long a signed link works; at most the 7 days that S3 allows.", _whole(60, 604_800)
    )
    session_bytes: int = _of(
        2 * 1024**4, "bytes", "The most that one push may upload.", _whole(1024**2, 1024**5)
    )  # fmt: skip
    workers: int | None = _of(None, "processes", "Server processes; default: one for each core.", _whole(1, 1024))
    threads: int = _of(32, "threads", "Requests that one process works on at once.", _whole(1, 1024))
    log_level: str = _of("info", ", ".join(LEVELS), "The least important events to write.", _choice(*LEVELS))
    log_format: str = _of(
        "plain", ", ".join(FORMATS), "Lines for people, or one JSON object a line.", _choice(*FORMATS)
    )


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table: what the command line and the documents print."""

    name: str
    variable: str
    flag: str
    default: Any
    unit: str
    meaning: str
    parse: Callable[[str], Any]
    """Text to value; raises ValueError with what to write instead."""

    @property
    def is_switch(self) -> bool:
        """Whether its flag takes no value: off unless it is given."""
        return self.default is False


def table() -> Iterator[Setting]:
    """Every setting, in the order of `Settings`."""
    for row in dataclasses.fields(Settings):
        yield Setting(
            row.name,
            PREFIX + row.name.upper(),
            "--" + row.name.replace("_", "-"),
            row.default,
            row.metadata["unit"],
            row.metadata["meaning"],
            row.metadata["parse"],
        )


def read(environ: Mapping[str, str], **overrides: str | None) -> Settings:
    """The settings that the environment and the flags (by field name; None: not given) spell. Raises SettingInvalid."""
    rows = list(table())
    _refuse_unknown(environ, {row.variable for row in rows})
    values = {}
    for row in rows:
        flag = overrides.get(row.name)
        text = environ.get(row.variable, "") if flag is None else flag
        if not text:
            continue
        try:
            values[row.name] = row.parse(text)
        except ValueError as e:
            raise SettingInvalid(name=row.variable if flag is None else row.flag, reason=f"{text!r}: {e}") from None
    return Settings(**values)


def _refuse_unknown(environ: Mapping[str, str], known: set[str]) -> None:
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known | ELSEWHERE and not name.startswith(_TESTS):
            near = difflib.get_close_matches(name, known | ELSEWHERE, n=1, cutoff=0.0)
            raise SettingInvalid(name=name, reason=f"there is no such setting; {near[0]} is the nearest")
