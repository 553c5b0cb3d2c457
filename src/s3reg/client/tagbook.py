"""The versions of its templates that a node has had: pulled, pushed, or tagged without a registry.

    .s3reg/tags/<template>.json  these versions, by tag, and which of them the VM in the library is
    .s3reg/kept/<digest>         a file out of a VM's folder, as it was when a version was noted: config, nvram, extras

Layers are shared and stay where they are while a VM or a tag stands on them; a VM's folder is the VM as it is now. So what
lies in it is kept beside its tag, and the node can go from one tag to another without a registry.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s3reg.client import copies, records
from s3reg.errors import NameInvalid
from s3reg.model import names
from s3reg.model.template import Role

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from s3reg.model.names import Digest, TemplateId, VersionId

LAYERS = frozenset({Role.IMAGE, Role.STATE})
"""Files of these roles lie in folders that all VMs share; the others in the VM's own."""


@dataclass(frozen=True, slots=True)
class TagFile:
    """A file of a version on this node."""

    name: str
    role: Role
    digest: Digest


@dataclass(frozen=True, slots=True)
class LocalTag:
    """A version that this node has pulled, pushed or tagged. Its layers may have gone since: their records tell."""

    version: VersionId
    name: str
    """The template's name then."""
    members: tuple[TagFile, ...]
    local: bool = False
    """Whether only this node has it: a `push --local`."""
    created: int = 0
    """When this node noted it first, in seconds since 1970."""
    used: int = 0
    """When the VM of the library became this version last, in seconds since 1970."""

    @property
    def files(self) -> dict[str, Digest]:
        """The digests of its files, by name."""
        return {member.name: member.digest for member in self.members}


class TagBook:
    """The tags that lie below `folder`. Nothing is made before something is noted.

    Who keeps a file and notes the tag that needs it holds the library's publishing lock meanwhile, as `prune_kept` does.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def tags(self, template: TemplateId) -> dict[str, LocalTag]:
        """The versions of this template that this node has had, by tag."""
        return self._tags(template)[1]

    def current(self, template: TemplateId) -> str | None:
        """The tag that was pulled, pushed or noted last; None if none was."""
        return self._tags(template)[0]

    def every_tag(self) -> Iterator[tuple[TemplateId, str, LocalTag]]:
        """All tags of all templates."""
        for template in self.templates():
            for tag, row in self.tags(template).items():
                yield template, tag, row

    def pushed(self) -> set[Digest]:
        """Digests of every file of every version that this node pulled or pushed: what a registry had, too."""
        return {digest for _, _, row in self.every_tag() if not row.local for digest in row.files.values()}

    def tagged(self) -> set[tuple[str, Digest]]:
        """Name and digest of the files that a local tag brings back: layers, and what was kept of VMs' folders."""
        members = (member for _, _, row in self.every_tag() if row.local for member in row.members)
        return {(m.name, m.digest) for m in members if m.role in LAYERS or self.kept(m.digest).is_file()}

    def templates(self) -> list[TemplateId]:
        """Templates with a tag on this node."""
        found = []
        for place in sorted(self.folder.glob("tags/*.json")):
            with contextlib.suppress(NameInvalid):
                found.append(names.template_id(place.stem))
        return found

    def set_tag(
        self,
        template: TemplateId,
        tag: str,
        version: VersionId,
        name: str,
        members: Iterable[TagFile],
        *,
        current: bool = True,
        local: bool = False,
    ) -> None:
        """Note that this node has the version; `current`: and that the VM in its library is that version.

        `local`: no registry has it.
        """
        with self._changing(template):
            now, tags = self._tags(template)
            old, time_now = tags.get(tag), int(time.time())
            created = old.created if old is not None and old.version == version else time_now
            row = LocalTag(version, name, tuple(members), local, created, time_now)
            self._write(template, tag if current else now, {**tags, tag: row})

    def forget_tags(self, template: TemplateId, gone: Collection[str]) -> None:
        """Drop tags of this node, in one step; the registry's are not touched."""
        if not self._record(template).exists():
            return
        with self._changing(template):
            now, tags = self._tags(template)
            kept = {tag: row for tag, row in tags.items() if tag not in gone}
            if kept:
                self._write(template, None if now in gone else now, kept)
            else:
                self._record(template).unlink(missing_ok=True)

    # --- What lay in VMs' folders ---

    def keep(self, digest: Digest, source: Path | bytes) -> None:
        """Keep the file of this digest, which lies at `source`, or its bytes. OSErrors and FileChanged pass."""
        place = self.kept(digest)
        if place.is_file():
            return
        if isinstance(source, bytes):
            records.write_durably(place, source)
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        aside = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
        try:
            copies.copy(source, aside)
            aside.replace(place)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise

    def kept(self, digest: Digest) -> Path:
        """Where the kept file of this digest lies, if it is kept. Look at its bytes before you trust them."""
        return self.folder / "kept" / digest

    def prune_kept(self) -> None:
        """Drop kept files that no tag needs any more, and what a kill left of such."""
        if any(self.folder.glob("staging/*/plan.json")):
            return  # its tag is noted at the end
        wanted = {digest for _, _, row in self.every_tag() for digest in row.files.values()}
        for place in self.folder.glob("kept/*"):
            if place.name not in wanted:
                place.unlink(missing_ok=True)

    # --- Inside ---

    def _tags(self, template: TemplateId) -> tuple[str | None, dict[str, LocalTag]]:
        data = records.read(self._record(template))
        return records.parsed(data, "the record of local tags", _rows) or (None, {})

    def _write(self, template: TemplateId, current: str | None, tags: Mapping[str, LocalTag]) -> None:
        rows = {
            tag: {
                "version": row.version,
                "name": row.name,
                "files": [[member.name, member.role.value, member.digest] for member in row.members],
                "local": row.local,
                "created": row.created,
                "used": row.used,
            }
            for tag, row in tags.items()
        }
        body = {"v": records.RECORD_VERSION, "current": current, "tags": rows}
        records.write_durably(self._record(template), json.dumps(body).encode())

    @contextlib.contextmanager
    def _changing(self, template: TemplateId) -> Iterator[None]:
        """Reading and rewriting a tag record is one step to other processes."""
        place = self.folder / "locks" / f"tags-{template}"
        place.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _record(self, template: TemplateId) -> Path:
        return self.folder / "tags" / f"{template}.json"


def _rows(raw: dict[str, Any]) -> tuple[str | None, dict[str, LocalTag]]:
    tags = {}
    for tag, value in raw["tags"].items():
        files = value["files"]
        # Older records have names and digests only. Whatever may be a layer counts as one: it stays.
        rows = [[name, Role.IMAGE, digest] for name, digest in files.items()] if isinstance(files, dict) else files
        members = tuple(TagFile(names.file_name(name), Role(role), names.digest(digest)) for name, role, digest in rows)
        version = names.version_id(value["version"])
        times = (int(value.get("created", 0)), int(value.get("used", 0)))
        tags[names.tag(tag)] = LocalTag(version, str(value["name"]), members, value["local"] is True, *times)
    return (None if raw["current"] is None else names.tag(raw["current"])), tags
