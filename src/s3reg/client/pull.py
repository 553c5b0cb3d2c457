"""Pull: a version of a template comes into the library, byte for byte.

    plan       one call: every file, its map and packs, with signed links
    keep       files that the library has with the same digest
    begin      what an earlier try left, or a clone of the best local base (client/holdings.py, client/sources.py)
    room       whether what is left to be written fits
    copy       chunks that this machine holds elsewhere (client/fill.py)
    fetch      the rest, by ranges of packs, each chunk verified before it is written (client/fetch.py)
    publish    everything durable, then visible: images first, the VM's folder last (client/staging.py)

Whatever breaks, repeating the command goes on with what is there. A dry run makes the same decisions and counts. With
`fetch_only` all of it waits in the staging, and the library shows what it showed.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from s3reg import wire
from s3reg.client import fill, platform, removal
from s3reg.client.bring import bring
from s3reg.client.estimate import DownloadSize, Estimate, Row, check_room, count, foresee
from s3reg.client.fetch import Fetcher, read
from s3reg.client.holdings import Holdings, other_libraries
from s3reg.client.plan import Plan
from s3reg.client.present import Present
from s3reg.client.pulllog import PullLog
from s3reg.client.scan import Crew
from s3reg.client.staging import StagedFile, Staging, recover
from s3reg.client.tagbook import LAYERS
from s3reg.errors import (
    Busy,
    ChunkDamaged,
    RecordDamaged,
    S3regError,
)
from s3reg.model import maps, names
from s3reg.model.template import Role, bytes_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from s3reg.client.connection import Connection
    from s3reg.client.fill import Filling
    from s3reg.client.library import Library
    from s3reg.client.progress import Progress
    from s3reg.client.sources import Held
    from s3reg.model.maps import FileMap
    from s3reg.model.names import Digest

MAP_TRIES = 2
"""Of a map whose bytes turn out wrong."""


@dataclass(frozen=True, slots=True)
class PullOptions:
    """What a pull may be told."""

    tag: str | None = None
    """None: the newest version."""
    number: int | None = None
    force: bool = False
    """Discard local changes."""
    same_name: bool = False
    """Let two local VMs carry one name."""
    shrink: bool = False
    """Afterwards, remove the files of the template's other versions."""
    fetch_only: bool = False
    """Leave everything where a later pull takes it up, receiving nothing; the library stays as it is."""
    durable: bool = True
    """Make everything durable before it is shown; a throw-away node need not."""
    others: tuple[Path, ...] = ()
    """Folders of libraries of this machine to build on besides the one that is pulled into."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull came to, in bytes."""

    template: str
    name: str
    tag: str
    already: bool
    """Everything was there before."""
    size: int
    """Of the version's files."""
    received: int
    """That came over the line: ranges of packs, and maps."""
    local: int
    """Of data that this machine had in other files, and of files that stayed as they were."""
    staged: int
    """Of data that an earlier, interrupted pull had brought."""


def pull(connection: Connection, library: Library, ref: str, options: PullOptions, progress: Progress) -> Pulled:
    """Bring the version asked for into the library. One that another process is bringing is waited for.

    Raises LocalChanges, FileTaken, LocalNameTaken, LibraryUnknown, VmRunning, DiskFull, and whatever the registry or the
    line to it raise.
    """
    library.create()
    plan = Plan(connection, ref, options.tag, options.number)
    with platform.refusals_named(library.root), _turn(library, plan.answer, progress):
        recover(library)
        with contextlib.closing(Crew()) as crew:
            return _Pull(connection, library, plan, options, crew).run(progress)


def estimate(connection: Connection, library: Library, ref: str, options: PullOptions) -> Estimate:
    """What `pull` with these arguments would do now. Of a disk that no record vouches for it reads all, as `pull` would.

    Refuses what `pull` would refuse, but for a lack of room: the answer tells.
    """
    plan = Plan(connection, ref, options.tag, options.number)
    with platform.refusals_named(library.root):
        recover(library)
        with contextlib.closing(Crew()) as crew:
            return _Pull(connection, library, plan, options, crew).estimate()


def download_size(connection: Connection, library: Library, ref: str, options: PullOptions) -> DownloadSize:
    """What `pull` with these arguments would cost now; what would stand in its way is not looked at.

    Whoever asks every few minutes is answered without a disk being read: a layer is read only if there is no record of it
    at all, and recorded if it is the right one. One that changed since its record counts as missing.
    """
    plan = Plan(connection, ref, options.tag, options.number)
    with platform.refusals_named(library.root):
        recover(library)
        with contextlib.closing(Crew()) as crew:
            found = _Pull(connection, library, plan, options, crew).estimate(unchecked=True)
    return DownloadSize(found.room, found.room - found.needed, found.receive, found.name, found.already)


@contextlib.contextmanager
def _turn(library: Library, answer: wire.PlanAnswer, progress: Progress) -> Iterator[None]:
    """One pull of a template at a time."""
    lock = f"pull-{answer.template}"
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(library.lock(lock, wait=False))
        except Busy:
            progress.note(f"waiting for another pull of {answer.name}")
            held.enter_context(library.lock(lock, wait=True))
        yield


@dataclass(slots=True)
class _Item:
    """A file on its way into the library."""

    entry: wire.FileEntry
    role: Role
    path: Path
    """Where it is staged."""
    log: PullLog
    file_map: FileMap | None = None
    """None: its bytes came with the plan."""
    map_bytes: bytes | None = field(default=None, repr=False)
    received: int = 0
    """Bytes of the map that came over the line."""
    filling: Filling | None = None

    @property
    def digest(self) -> Digest:
        """The file's digest."""
        return names.digest(self.entry.digest)


class _Pull:
    """One pull under way, or one that is only thought of."""

    def __init__(self, connection: Connection, library: Library, plan: Plan, options: PullOptions, crew: Crew) -> None:
        self.connection = connection
        self.library = library
        self.plan = plan
        self.answer = plan.answer
        self.options = options
        self.others = other_libraries(library, options.others)
        self.crew = crew
        self.template = names.template_id(self.answer.template)
        self.version = names.version_id(self.answer.version)
        self.staging = Staging(library, self.template, self.version)
        self.present = Present(library, plan.answer, crew)

    def run(self, progress: Progress) -> Pulled:
        """All of it."""
        if self.present.whole():
            self._shrink(progress)
            return self._result((), 0, already=True)
        kept = self._held() if self.options.fetch_only else self._kept()
        items = [self._item(file) for file in self._lacking(kept)]
        for item in items:
            if item.map_bytes is not None:
                # At once: a pull that goes on after a kill need not read it again.
                self.library.ledger.keep_map(item.digest, item.map_bytes)
        try:
            received = self._fill(items, progress)
            if self.options.durable:
                progress.note("making it durable")
                for filling in _fillings(items):
                    platform.sync(filling.target.fd)
        finally:
            for filling in _fillings(items):
                filling.close()
        if self.options.fetch_only:
            files = self._staged_files(items)
            self.staging.complete(files, name=self.answer.name, durable=self.options.durable)
        else:
            self._publish(items, progress)
        self._report(progress)
        return self._result(items, received, already=False)

    def estimate(self, *, unchecked: bool = False) -> Estimate:
        """What `run` would do. `unchecked`: what stands in its way is not looked at; it raises nothing of that then."""
        already = self.present.whole()
        lacking = [] if already else self._lacking(self._held() if unchecked else self._kept())
        items = {(file.name, file.role): self._item(file) for file in lacking}
        holdings = Holdings(self.library, self.others, self.template)
        rows = []
        for file in self.answer.files:
            item, foreseen = items.get((file.name, file.role)), None
            if item is not None and item.file_map is not None:
                held = holdings.of(file)
                foreseen = foresee(
                    item.file_map, item.path, item.log, held, of_map=item.received, cloned=self._clonable
                )
            rows.append(Row(file, foreseen, item is None, self.present.data(file) if item is None else file.size))
        answer, free = self.answer, platform.free_bytes(self.library.root)
        return Estimate(answer.template, answer.name, answer.tag, already, count(rows), free)

    # --- What there is to do ----------------------------------------------------------------------------------------

    def _kept(self) -> frozenset[str]:
        """The layers that stay as they are; raises whatever stands in the way of the rest."""
        if not self.options.same_name:
            self.present.check_name()
        files = self._staged_files(())
        return self.staging.check(files, name=self.answer.name, force=self.options.force, same=self.present.same)

    def _held(self) -> frozenset[str]:
        """The layers that need not come, whatever stands in the way of the others."""
        return self.present.layers(self._staged_files(()))

    def _lacking(self, kept: frozenset[str]) -> list[wire.FileEntry]:
        return [file for file in self.answer.files if not (Role(file.role) in LAYERS and file.name in kept)]

    def _item(self, entry: wire.FileEntry) -> _Item:
        """The file with its map, which may have to come over the line. Nothing is written."""
        role = Role(entry.role)
        # A file has its own journal even if another one has the same bytes: what is written of one is not of the other.
        log = PullLog(self.staging.folder / "journals" / role.value / entry.name, names.digest(entry.digest))
        item = _Item(entry, role, self.staging.place(entry.name, role), log)
        if entry.inline is not None:
            if bytes_digest(entry.inline) != item.digest:
                raise ChunkDamaged(what=entry.name, reason="its bytes do not have its digest")
        elif entry.map is None or entry.map.url is None:
            raise RecordDamaged(what=f"the plan's file {entry.name}", reason="it has neither bytes nor a map")
        else:
            item.map_bytes = self._read_map(item, entry.map)
            item.file_map = maps.decode(item.map_bytes, size=entry.size, digest=item.digest)
        return item

    def _read_map(self, item: _Item, link: wire.MapLink) -> bytes:
        """The file's map, from here or over the line; a line or a cache may garble it once. No more is read than it has."""
        kept = self.library.ledger.map_bytes(item.digest)
        if kept is not None and hashlib.sha256(kept).hexdigest() == link.sha256:
            return kept
        for _ in range(MAP_TRIES):
            data = bytes(read(self.connection, self.plan, link, length=link.size))
            item.received += len(data)
            if hashlib.sha256(data).hexdigest() == link.sha256:
                return data
        what = f"{item.entry.name}, its map {link.sha256},"
        raise RecordDamaged(what=what, reason="its bytes are not what its name says")

    # --- Bytes ------------------------------------------------------------------------------------------------------

    def _fill(self, items: list[_Item], progress: Progress) -> int:
        """Bring every file into the staging; the bytes of packs that came over the line."""
        holdings = Holdings(self.library, self.others, self.template)
        for item in items:
            path = self.staging.path(item.entry.name, item.role)
            if item.file_map is None:
                path.write_bytes(item.entry.inline or b"")
            else:
                item.filling = fill.begin(path, item.file_map, holdings.of(item.entry), item.log, crew=self.crew)
        fillings = _fillings(items)
        if not fillings:
            return 0
        needed = sum(filling.sources.to_write(filling.column) for filling in fillings)
        check_room(self.library.root, needed, platform.free_bytes(self.library.root, wanted=needed))
        progress.start("pulling", sum(filling.data for filling in fillings))
        fetcher = Fetcher(self.connection, self.plan, progress.advance)
        with platform.refusals_named(self.library.root, needed=lambda: sum(filling.lacking() for filling in fillings)):
            bring(fillings, fetcher, self.crew, progress.advance)
        progress.finish()
        return fetcher.received

    def _publish(self, items: list[_Item], progress: Progress) -> None:
        self.staging.publish(
            self._staged_files(items),
            name=self.answer.name,
            tag=self.answer.tag,
            force=self.options.force,
            same=self.present.same,
            durable=self.options.durable,
        )
        # What interrupted pulls of other versions left is in the way of whoever looks after the disk.
        self.staging.drop_others(complete=self.options.shrink)
        self._shrink(progress)

    def _shrink(self, progress: Progress) -> None:
        if self.options.shrink:
            progress.note(f"{removal.shrink(self.library, self.template) / 1e6:.1f} MB of other tags removed")

    def _staged_files(self, items: Iterable[_Item]) -> list[StagedFile]:
        """The version's files, with the maps of those that were fetched."""
        fetched = {(item.entry.name, item.role): item.map_bytes for item in items}
        return [
            StagedFile(
                file.name,
                Role(file.role),
                file.size,
                names.digest(file.digest),
                file.parent,
                map_bytes=fetched.get((file.name, Role(file.role))),
            )
            for file in self.answer.files
        ]

    def _report(self, progress: Progress) -> None:
        """Tell the registry, which keeps the time of the last pull; it is no reason to fail."""
        body = wire.write(wire.VersionRef(self.template, self.version))
        try:
            self.connection.call("POST", f"{wire.PREFIX}/pulls", body)
        except S3regError:
            progress.note("the registry could not note this pull")

    # --- Counting ---------------------------------------------------------------------------------------------------

    def _clonable(self, base: Held) -> bool:
        """Whether the library's file system gives a clone of this file: tried, and undone."""
        folder = self.library.own / "trash" / secrets.token_hex(8)
        try:
            folder.mkdir(parents=True)
            return fill.cloned(base, folder / "clone")
        except OSError:
            return False
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _result(self, items: Sequence[_Item], received: int, *, already: bool) -> Pulled:
        answer, fillings = self.answer, _fillings(items)
        size = sum(file.size for file in answer.files)
        stayed = size - sum(item.entry.size for item in items)
        return Pulled(
            answer.template,
            answer.name,
            answer.tag,
            already,
            size,
            received=received + sum(item.received for item in items),
            local=stayed + sum(filling.local for filling in fillings),
            staged=sum(filling.staged for filling in fillings),
        )


def _fillings(items: Iterable[_Item]) -> list[Filling]:
    return [item.filling for item in items if item.filling is not None]
