"""The registries that this node knows: names for addresses, and how to reach each. The last one added is the default.

They lie in one YAML file, `~/.config/s3reg/remotes.yaml`, which only its owner may read. Certificates and keys are kept as
absolute paths: a path given relative to one directory must work from another. A root token, and an API key that was given
as text, lie there as they are; what the environment says is never kept.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from s3reg.client.connection import Access
from s3reg.client.login import ROOT, keepable, whole_path
from s3reg.errors import Invalid, NameInvalid, NoRegistry, RegistryUnknown, RemotesInvalid, RemoteTaken
from s3reg.model import config

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FILE_VARIABLE = "S3REG_REMOTES"
ADDRESS_VARIABLES = ("S3REG_REGISTRY", "ANKA_REGISTRY")
"""The address of the registry to use when no option names one. The second is what scripts written for Anka set."""
API_KEY_ID_VARIABLES = ("S3REG_REGISTRY_API_KEY_ID", "ANKA_REGISTRY_API_KEY_ID")
API_KEY_VARIABLES = ("S3REG_REGISTRY_API_KEY", "ANKA_REGISTRY_API_KEY")
ROOT_TOKEN_VARIABLES = ("S3REG_REGISTRY_ROOT_TOKEN",)
CERTIFICATE_VARIABLES = ("S3REG_REGISTRY_CERT",)
KEY_VARIABLES = ("S3REG_REGISTRY_KEY",)
REMOTES = Path("s3reg", "remotes.yaml")
LARGEST_FILE = 1024**2
LONGEST_NAME = 255
_RECORD = 1
_TEXTS = ("ca_bundle", "certificate", "key", "user", "password", "key_id", "api_key")


@dataclass(frozen=True, slots=True)
class Remote:
    """A registry that this node knows by name; an empty name for one that was given by its address only."""

    name: str
    access: Access


@dataclass(frozen=True, slots=True)
class _Known:
    remotes: dict[str, Remote]
    default: str | None


class Remotes:
    """The file of registries."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def all(self) -> list[Remote]:
        """Every registry, in the order that they were added. Raises RemotesInvalid."""
        return list(self._read().remotes.values())

    def default(self) -> Remote | None:
        """The registry that is used when none is named."""
        known = self._read()
        return known.remotes.get(known.default or "")

    def find(self, name: str) -> Remote:
        """The registry of this name. Raises RegistryUnknown."""
        found = self._read().remotes.get(name)
        if found is None:
            raise RegistryUnknown(name=_shown(name))
        return found

    def at(self, address: str) -> Remote:
        """The registry at this address: with what is known of it, if that very address was added.

        A user and a password in it take the place of the credential that is known.
        """
        asked = Access.at(address)
        same = [remote.access for remote in self.all() if remote.access.url == asked.url]
        known = same[-1] if same else asked
        if asked.user is not None:
            known = replace(known, user=asked.user, password=asked.password, key_id=None, api_key=None)
        return Remote("", known)

    def chosen(self, *, remote: str | None, address: str | None, environment: Mapping[str, str]) -> Remote:
        """The registry that was asked for by name or address, else by the environment, else the default.

        `remote` is a name or an address, as in Anka 3. What the environment says takes the place of what is known, but not
        of a password in the address. Raises RegistryUnknown, NoRegistry.
        """
        if address is None and remote is not None and "://" in remote:
            address, remote = remote, None
        if address is None and remote is None:
            address = _first(environment, ADDRESS_VARIABLES)
        if address is not None:
            found: Remote | None = self.at(address)
        else:
            found = self.default() if remote is None else self.find(remote)
        if found is None:
            raise NoRegistry
        return replace(found, access=with_environment(found.access, environment, address))

    def add(self, remote: Remote) -> None:
        """Know `remote` and make it the default. Adding the same again is no error; raises RemoteTaken, NameInvalid."""
        name = remote_name(remote.name)
        with self._changed() as known:
            old = known.remotes.get(name)
            if old is not None and old.access.url != remote.access.url:
                raise RemoteTaken(name=name, url=old.access.url)
            self._write(_Known({**known.remotes, name: remote}, name))

    def change(self, name: str, access: Access | None) -> None:
        """Make `name` the default, and reach it so from now on if `access` is given. Raises RegistryUnknown."""
        with self._changed() as known:
            if name not in known.remotes:
                raise RegistryUnknown(name=_shown(name))
            remotes = known.remotes if access is None else {**known.remotes, name: Remote(name, access)}
            self._write(_Known(remotes, name))

    def delete(self, names: list[str]) -> None:
        """Forget these registries: all of them or, if one is unknown, none. Raises RegistryUnknown.

        When the default goes, the one that was added last takes its place.
        """
        with self._changed() as known:
            for name in names:
                if name not in known.remotes:
                    raise RegistryUnknown(name=_shown(name))
            left = {name: remote for name, remote in known.remotes.items() if name not in names}
            default = known.default if known.default in left else next(reversed(left), None)
            self._write(_Known(left, default))

    @contextlib.contextmanager
    def _changed(self) -> Iterator[_Known]:
        """What is known, held still against other processes while it is changed."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._path.with_name(self._path.name + ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self._read()

    def _read(self) -> _Known:
        try:
            with self._path.open("rb") as file:
                data = file.read(LARGEST_FILE + 1)
        except FileNotFoundError:
            return _Known({}, None)
        if len(data) > LARGEST_FILE:
            raise RemotesInvalid(file=str(self._path), reason=f"it is larger than {LARGEST_FILE} bytes")
        try:
            return _parse(config.parse(self._path.name, data))
        except (Invalid, ValueError, KeyError, TypeError, AttributeError) as e:
            raise RemotesInvalid(file=str(self._path), reason="it is not what s3reg writes") from e

    def _write(self, known: _Known) -> None:
        # Written aside and renamed: a crash leaves the old file or the new one. mkstemp's mode is 0600.
        text = yaml.safe_dump(_record(known), sort_keys=False, allow_unicode=True)
        handle, aside = tempfile.mkstemp(prefix=self._path.name, dir=self._path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(aside).replace(self._path)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise


def remotes_path(environment: Mapping[str, str]) -> Path:
    """Where the file of registries lies: in the user's configuration folder, unless the environment names a file."""
    given = environment.get(FILE_VARIABLE)
    folder = Path(environment.get("XDG_CONFIG_HOME") or "")
    return Path(given) if given else (folder if folder.is_absolute() else Path.home() / ".config") / REMOTES


def with_environment(access: Access, environment: Mapping[str, str], address: str | None) -> Access:
    """`access` with what the environment says instead: a certificate; an API key, or half of one; else a root token.

    A user and a password in `address`, if somebody wrote one, stand before a key and a token.
    """
    certificate, key = _first(environment, CERTIFICATE_VARIABLES), _first(environment, KEY_VARIABLES)
    if certificate:
        # Without a key's file of its own, the certificate's has it: the one that is known is another certificate's.
        access = replace(access, certificate=whole_path(certificate), key=None)
    if key:
        access = replace(access, key=whole_path(key))
    if address is not None and Access.at(address).user is not None:
        return access
    key_id, api_key = _first(environment, API_KEY_ID_VARIABLES), _first(environment, API_KEY_VARIABLES)
    token = _first(environment, ROOT_TOKEN_VARIABLES)
    if token and not key_id and not api_key:
        return replace(access, user=ROOT, password=token, key_id=None, api_key=None)
    return replace(access, key_id=key_id or access.key_id, api_key=keepable(api_key) if api_key else access.api_key)


def _first(environment: Mapping[str, str], variables: tuple[str, ...]) -> str | None:
    """The first of the variables that is set and not empty."""
    return next((environment[variable] for variable in variables if environment.get(variable)), None)


def remote_name(text: str) -> str:
    """`text` as a registry's name: 1 to 255 printable characters, no slash, no hyphen first. Raises NameInvalid."""
    for bad, reason in (
        (not text or text != text.strip(), "it is empty, or begins or ends with a blank"),
        (len(text) > LONGEST_NAME, f"longer than {LONGEST_NAME} characters"),
        (not text.isprintable(), "it has control characters"),
        ("/" in text, "it looks like an address"),
        (text.startswith("-"), "it looks like an option"),
    ):
        if bad:
            raise NameInvalid(what="registry name", text=_shown(text), reason=reason)
    return text


def _shown(name: str) -> str:
    """What was given as a name, for an error: without the password that it has if it was meant as an address."""
    before, _, after = name.rpartition("@")
    return (after if ":" in before else name)[:80]


def _parse(record: Any) -> _Known:
    if record["v"] != _RECORD:
        raise ValueError("made by another release")
    remotes = {}
    for name, entry in record["remotes"].items():
        texts = {field: entry.get(field) for field in _TEXTS}
        if not all(value is None or isinstance(value, str) for value in texts.values()):
            raise TypeError("a path or a credential is no text")
        written = Access.at(entry["url"])
        given = {field: value for field, value in texts.items() if value is not None}
        remotes[name] = Remote(name, replace(written, **given, insecure=entry.get("insecure") is True))
    return _Known(remotes, record["default"])


def _record(known: _Known) -> dict[str, Any]:
    return {
        "v": _RECORD,
        "default": known.default,
        "remotes": {name: _access_record(remote.access) for name, remote in known.remotes.items()},
    }


def _access_record(access: Access) -> dict[str, Any]:
    # Field by field: what a later release adds to Access may be no business of this file's.
    texts = {field: getattr(access, field) for field in _TEXTS}
    kept = {name: text for name, text in texts.items() if text is not None}
    return {"url": access.url, **kept, "insecure": access.insecure}
