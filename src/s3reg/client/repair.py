"""Repair: what a library still has of a damaged version is pushed again, under its tag and in its place.

It is a push, on no damaged base. What tells which bytes are meant is the version itself where its record can be read, else
what this node noted of it when it had it; nothing goes unless every file has its digest. The registry replaces the damaged
version by its id, so that another one that took the tag meanwhile stays; the damaged one lies in the trash then.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from s3reg import wire
from s3reg.client import localtags, platform, vmconfig
from s3reg.client.library import PUBLISHING, LocalFile, LocalVm
from s3reg.client.plan import Plan
from s3reg.client.push import Push, PushOptions, loading
from s3reg.client.reuse import Column
from s3reg.client.scan import Crew, OpenFile, hash_file
from s3reg.errors import Busy, FileChanged, Kind, LibraryLacks, NotLocal, RecordDamaged, S3regError, VersionChanged
from s3reg.model import names
from s3reg.model.chunks import CHUNK_LOG2
from s3reg.model.template import Role

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from s3reg.client.connection import Connection
    from s3reg.client.library import Library
    from s3reg.client.progress import Progress
    from s3reg.client.pushlog import Began
    from s3reg.client.tagbook import TagFile
    from s3reg.model.names import Digest, TemplateId


ASIDE = "repair"
"""Below a library's own records: small files of the versions that are put back, by template."""
MOST_ONTO = 8
"""Of the versions that were put back, the last ones, which the next may build on."""


@dataclass(frozen=True, slots=True)
class Hurt:
    """A damaged version."""

    template: TemplateId
    version: str
    """Its id."""
    tag: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of it."""

    hurt: Hurt
    version: str | None = None
    """The id of the version that took its place; None: none did."""
    sent: int = 0
    """Bytes that went to the store."""
    problem: S3regError | None = None
    """Why none did."""


def repair(
    connection: Connection, library: Library, hurt: Iterable[Hurt], avoid: frozenset[str], progress: Progress
) -> Iterator[Outcome]:
    """Put back each of these versions that the library still has; build on none of the versions `avoid`.

    What hinders one version is told, and hinders no other; unless the registry does not answer: that is raised.
    """
    back: list[wire.VersionRef] = []
    for one in hurt:
        try:
            # What one push stored, the next may name: damaged versions of a template share packs as sound ones do.
            with platform.refusals_named(library.root):
                outcome = _repaired(connection, library, one, progress, avoid=avoid, onto=back[-MOST_ONTO:])
        except S3regError as e:
            if e.kind is Kind.UNAVAILABLE:
                raise
            outcome = Outcome(one, problem=e)
        if outcome.version is not None:
            back.append(wire.VersionRef(one.template, outcome.version))
        yield outcome


def clear(library: Library) -> None:
    """What killed repairs laid aside goes; that of one under way stays."""
    for aside in (library.own / ASIDE).glob("*"):
        with contextlib.suppress(Busy), library.lock(f"push-{aside.name}"):
            shutil.rmtree(aside, ignore_errors=True)


def _repaired(
    connection: Connection,
    library: Library,
    hurt: Hurt,
    progress: Progress,
    *,
    avoid: frozenset[str],
    onto: Sequence[wire.VersionRef],
) -> Outcome:
    listed = _listed(connection, hurt)
    with contextlib.ExitStack() as stack:
        stack.enter_context(library.lock(f"push-{hurt.template}"))
        vm = _known_here(library, hurt) or _as_recorded(connection, library, hurt, stack)
        digests = {file.name: file.digest for file in listed.files} or {
            member.name: member.digest for member in _row(library, hurt)
        }
        options = PushOptions(tag=hurt.tag, description=listed.description, force=True)
        kind = functools.partial(_Repair, hurt=hurt, avoid=avoid, onto=onto, digests=digests)
        one = stack.enter_context(loading(connection, library, vm, options, progress, kind=kind))
        pushed = one.run()
    return Outcome(hurt, pushed.answer.version, pushed.sent)


def _listed(connection: Connection, hurt: Hurt) -> wire.VersionEntry:
    """The version as its template lists it. Raises VersionChanged if the tag is another's by now."""
    path = f"{wire.PREFIX}/template"
    found: wire.TemplateEntry = connection.ask(wire.TemplateEntrySchema, "GET", path, query={"ref": hurt.template})
    for one in found.versions:
        if (one.id, one.tag) == (hurt.version, hurt.tag):
            return one
    raise VersionChanged(template=found.name, version=hurt.tag)


class _Repair(Push):
    """A push that replaces one version, and nothing else."""

    def __init__(
        self,
        *args: Any,
        hurt: Hurt,
        avoid: frozenset[str],
        onto: Sequence[wire.VersionRef],
        digests: Mapping[str, str],
        **more: Any,
    ) -> None:
        super().__init__(*args, **more)
        self._hurt = hurt
        self._avoid = avoid
        self._onto = onto
        self._digests = digests

    def _bases(self) -> list[wire.VersionRef]:
        """What was put back just now, too."""
        return list(dict.fromkeys([*self._onto, *super()._bases()]))[: wire.MOST_BASES]

    def _session(self, began: Began | None) -> tuple[wire.SessionAnswer, bool]:
        """Without the bases that are damaged: their maps may be no better than their packs."""
        session, resumed = super()._session(began)
        return replace(session, bases=tuple(base for base in session.bases if base.version not in self._avoid)), resumed

    def _request(self) -> wire.CommitRequest:
        found = {item.name: item.digest for item in self.cargo.items}
        for name, digest in self._digests.items():
            if found.get(name) != digest:
                raise FileChanged(file=name)
        return replace(super()._request(), replaces=self._hurt.version)

    def _remember(self, committed: wire.CommitAnswer) -> None:
        """The VM in the library stays what it is. Where it was noted as the damaged version, it is the new one."""
        template, tag = self._hurt.template, self._hurt.tag
        row = self.ledger.tags(template).get(tag)
        if row is not None and row.version == self._hurt.version:
            current = self.ledger.current(template) == tag
            version = names.version_id(committed.version)
            with self.library.lock(PUBLISHING, wait=True):
                self.ledger.set_tag(template, tag, version, committed.name, row.members, current=current)
        self.log.forget()


# --- What the library has ---------------------------------------------------------------------------------------------


def _row(library: Library, hurt: Hurt) -> tuple[TagFile, ...]:
    """The files of the version as this node noted them; none if it did not."""
    for row in library.ledger.tags(hurt.template).values():
        if row.version == hurt.version:
            return row.members
    return ()


def _known_here(library: Library, hurt: Hurt) -> LocalVm | None:
    """The version as this node had it, if all of it is here."""
    for tag, row in library.ledger.tags(hurt.template).items():
        if row.version == hurt.version:
            with contextlib.suppress(NotLocal):
                vm = localtags.recall(library, hurt.template, tag)
                return replace(vm, files=tuple(_with_drives(vm)))
    return None


def _with_drives(vm: LocalVm) -> Iterator[LocalFile]:
    """The files, each image with the drive whose chain it is in."""
    drives: dict[str, int] = {}
    below = {file.name: file.parent for file in vm.files if file.role is Role.IMAGE}
    for drive, top in vmconfig.parse(vm.config, vm.config_name).drives:
        name: str | None = top
        while name is not None and name not in drives:
            drives[name] = drive
            name = below.get(name)
    return (replace(file, drive=drives.get(file.name)) if file.role is Role.IMAGE else file for file in vm.files)


def _as_recorded(connection: Connection, library: Library, hurt: Hurt, stack: contextlib.ExitStack) -> LocalVm:
    """The version as its record on the store tells it, of files that lie in the library. Raises LibraryLacks."""
    try:
        plan = Plan(connection, hurt.template, hurt.tag, None).answer
    except RecordDamaged as e:
        raise LibraryLacks(library=str(library.root), files="every trace", tag=hurt.tag) from e
    if plan.version != hurt.version:
        raise VersionChanged(template=plan.name, version=hurt.tag)
    aside = library.own / ASIDE / hurt.template
    # What a killed repair left, and could not be cleared away, is written anew.
    aside.mkdir(parents=True, exist_ok=True)
    stack.callback(shutil.rmtree, aside, ignore_errors=True)
    held = {digest: path for path, digest, _ in library.ledger.held()}
    files: list[LocalFile] = []
    missing: list[str] = []
    config = b""
    for number, file in enumerate(plan.files):
        role = Role(file.role)
        if file.inline is not None:
            path: Path | None = aside / str(number)
            (aside / str(number)).write_bytes(file.inline)
            config = file.inline if role is Role.CONFIG else config
        else:
            path = _found(library, hurt.template, file, held)
        if path is None:
            missing.append(file.name)
        else:
            files.append(LocalFile(file.name, role, path, file.drive, file.parent))
    if missing:
        raise LibraryLacks(library=str(library.root), files=", ".join(missing), tag=hurt.tag)
    name = next(file.name for file in plan.files if file.role == Role.CONFIG.value)
    values = vmconfig.parse(config, name).values
    return LocalVm(hurt.template, plan.name, plan.arch, aside, name, config, values, tuple(files))


def _found(library: Library, template: TemplateId, file: wire.FileEntry, held: Mapping[Digest, Path]) -> Path | None:
    """Where the library has the bytes of this file: under its name, kept beside a tag, or as another one."""
    digest = names.digest(file.digest)
    places = [library.path_of(file.name, Role(file.role), template), library.ledger.kept(digest)]
    places += [held[digest]] if digest in held else []
    return next((place for place in places if _is(library, place, digest, file.size)), None)


def _is(library: Library, place: Path, digest: Digest, size: int) -> bool:
    """Whether the file has this digest; read only where nothing is recorded of it."""
    if not place.is_file() or place.stat().st_size != size:
        return False
    known = library.ledger.known(place)
    if known is not None:
        return known == digest
    with contextlib.closing(Crew()) as crew, OpenFile(place) as opened:
        column = Column(opened.size, CHUNK_LOG2)
        hash_file(crew, opened, column, lambda _: None)
        return column.file_digest() == digest
