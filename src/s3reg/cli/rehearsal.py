"""A start of a registry, gone through up to where it would serve: all that stands in the way.

Nothing is written: a store that is not there yet is not made.
"""

from __future__ import annotations

import dataclasses
import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from s3reg import settings
from s3reg.api import traces
from s3reg.api.wiring import open_store, registry_over
from s3reg.auth.certificates import Certificates
from s3reg.auth.roottoken import RootTokens, unfit
from s3reg.cli import flags, serving
from s3reg.cli.exposure import check_exposure, in_clear
from s3reg.cli.tls import Tls
from s3reg.errors import ListenFailed, ObjectNotFound, S3regError, SettingInvalid, StoreCopied, StoreReadOnly
from s3reg.model import format_access

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s3reg.configuration import Reading
    from s3reg.settings import Settings
    from s3reg.store import ObjectStore

_IN_USE = "somebody listens there: if that is the registry which runs already, all is well"
_SOURCES = frozenset(settings.ROOT_TOKEN_SOURCES)
_TLS = frozenset({"tls_cert", "tls_key", "client_ca"})
_CERTIFICATES = frozenset({"client_ca", "client_crl"})
_STORE = frozenset({"store", "s3_endpoint", "s3_signing_endpoint", "s3_path_style", "s3_ca_bundle", "s3_insecure"})


@dataclass(frozen=True, slots=True)
class Step:
    """Something that a start does, and what came of it."""

    name: str
    said: str
    trouble: S3regError | None = None
    advice: bool = False
    """It keeps nothing from starting."""


def rehearse(reading: Reading) -> list[Step]:
    """Every step, in the order of a start; what needs a setting that is wrong is not tried."""
    read = reading.known()
    steps = [Step("settings", str(one), one) for one in reading.troubles]
    if not steps:
        said = sum(one.source is not None for one in reading.told)
        steps.append(Step("settings", f"{said} of {len(reading.told)} are told; the others have their defaults"))
    for name, needs, act in _STEPS:
        if wrong := sorted(needs & reading.wrong):
            steps.append(Step(name, f"not tried: {', '.join(wrong)}", advice=True))
            continue
        try:
            steps += [_step(reading, name, *found) for found in act(read)]
        except S3regError as e:
            steps.append(_step(reading, name, str(e), e))
    return steps


def _step(reading: Reading, name: str, said: str, trouble: S3regError | None = None, advice: bool = False) -> Step:
    if isinstance(trouble, SettingInvalid):
        trouble = reading.renamed(trouble)
        said = str(trouble)
    return Step(name, said, trouble, advice)


_Found = tuple[str] | tuple[str, S3regError | None] | tuple[str, S3regError | None, bool]
"""What is said, the trouble, whether it is advice only."""


def _troubles(found: Iterator[S3regError], well: str) -> Iterator[_Found]:
    """All of them; if there are none, `well`."""
    one = None
    for one in found:
        yield str(one), one
    if one is None:
        yield (well,)


def _together(read: Settings) -> Iterator[_Found]:
    return _troubles(settings.contradictions(read), "the settings fit together")


def _tls(read: Settings) -> Iterator[_Found]:
    if read.tls_cert is None:
        yield ("not served here",)
        return
    # First without the CAs: what is wrong with them is told of client certificates.
    Tls.named(dataclasses.replace(read, client_ca=None))
    yield (f"{read.tls_cert} and its key fit together",)


def _client_certificates(read: Settings) -> Iterator[_Found]:
    if read.client_ca is None:
        yield ("none are taken",)
        return
    crl = None if read.client_crl is None else Path(read.client_crl)
    found = Certificates(Path(read.client_ca), crl).problems()
    yield from _troubles(found, f"those of the CAs in {read.client_ca} are taken")


def _listen(read: Settings) -> Iterator[_Found]:
    try:
        check_exposure(read)
    except S3regError as e:
        yield str(e), e
    else:
        if reason := in_clear(read):
            yield f"{read.listen}: {reason}", None, True
    yield from _free(read.listen)


def _metrics(read: Settings) -> Iterator[_Found]:
    if read.metrics_listen is None:
        yield ("served at the API's address, to whoever may list",)
    else:
        yield from _free(read.metrics_listen)


def _traces(read: Settings) -> Iterator[_Found]:
    traces.check(read.traces)
    yield ("none are sent" if read.traces is None else f"sent to {read.traces}",)


def _free(listen: str) -> Iterator[_Found]:
    try:
        serving.bound(listen).close()
    except ListenFailed as e:
        if isinstance(e.__cause__, OSError) and e.__cause__.errno == errno.EADDRINUSE:
            yield f"{listen}: {_IN_USE}", None, True
        else:
            yield str(e), e
    else:
        yield (f"{listen} can be had",)


def _root_token(read: Settings) -> Iterator[_Found]:
    if not read.guarded:
        yield ("none: everyone who reaches the registry may do everything",)
    for name in settings.ROOT_TOKEN_SOURCES:
        if getattr(read, name):
            yield from _readable(read, name)


def _readable(read: Settings, source: str) -> Iterator[_Found]:
    well = f"it can be had from {settings.PREFIX}{source.upper()}"
    if source == "root_token":
        yield from _troubles(unfit(read.root_token, read.root_token_previous), well)
        return
    try:
        RootTokens.named(**{source.removeprefix("root_token_"): getattr(read, source)}).check()
    except S3regError as e:
        yield str(e), e
    else:
        yield (well,)


def _store(read: Settings) -> Iterator[_Found]:
    where = read.store or ""
    folder = Path(where).expanduser()
    if where and "://" not in where and not flags.is_store(where) and not os.path.isfile(folder):  # noqa: PTH113 - that raises nothing
        yield from _unmade(folder)
        return
    store = open_store(read)
    registry = registry_over(store, read)
    if not registry.status().store:
        yield (f"{store.location} answers, and is empty: a start makes a store of it",)
        return
    try:
        # Nothing is written: there is a format.json.
        registry.prepare()
    except StoreCopied as e:
        yield str(e), e, True
    else:
        if _is_there(store, format_access.SIGNING_KEY):
            registry.signing_secret()
        yield (f"{store.location} answers, and its format is known",)


def _unmade(folder: Path) -> Iterator[_Found]:
    """A directory that a start would make, or make a store of."""
    above = _nearest(folder.absolute())
    if not above.is_dir():
        raise SettingInvalid(name="--store", reason=f"{str(above)!r} is a file, not a directory")
    if not os.access(above, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise StoreReadOnly(store=f"directory {folder}", reason=f"{above} may not be written")
    yield (f"directory {folder} is not there yet, or empty: a start makes a store of it",)


def _nearest(folder: Path) -> Path:
    """What there is of a path."""
    try:
        folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return _nearest(folder.parent)
    except OSError as e:
        raise StoreReadOnly(store=f"directory {folder}", reason=e.strerror) from e
    return folder


def _is_there(store: ObjectStore, key: str) -> bool:
    try:
        store.stat(key)
    except ObjectNotFound:
        return False
    return True


_STEPS: tuple[tuple[str, frozenset[str], Callable[[Settings], Iterator[_Found]]], ...] = (
    (
        "together",
        _SOURCES | _TLS | _CERTIFICATES | {"no_auth", "authorization", "proxies", "proxy_certificates"},
        _together,
    ),
    ("TLS", _TLS, _tls),
    ("listen", _SOURCES | {"listen", "no_auth"}, _listen),
    ("metrics", frozenset({"metrics_listen"}), _metrics),
    ("traces", frozenset({"traces"}), _traces),
    ("root token", _SOURCES, _root_token),
    ("client certificates", _CERTIFICATES, _client_certificates),
    ("store", _STORE, _store),
)
