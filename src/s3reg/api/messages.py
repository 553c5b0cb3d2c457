"""Between the native API's messages (`wire/`) and the registry's values: nothing else knows both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3reg import wire
from s3reg.model import names
from s3reg.model.template import Base, MapRef, Role
from s3reg.registry import Opening, Proposal, ProposedFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from s3reg.model.template import Entry, File, Head, Session, Version
    from s3reg.registry import Committed, Described, Opened, Plan, Retired
    from s3reg.store import Link

# --- In: what `wire.read` gave has been through `model/names.py` already; this only tells the type checker so. --------


def bases(asked: Iterable[wire.VersionRef]) -> tuple[Base, ...]:
    """Versions to build on."""
    return tuple(Base(names.template_id(ref.template), names.version_id(ref.version)) for ref in asked)


def opening(asked: wire.OpenRequest) -> Opening:
    """A session to open."""
    return Opening(
        template=names.template_id(asked.template),
        name=asked.name,
        tag=asked.tag,
        arch=asked.arch,
        force=asked.force,
        same_name=asked.same_name,
        domain=None if asked.domain is None else names.domain(asked.domain),
        bases=bases(asked.bases),
    )


def uploads(asked: wire.UploadsRequest) -> list[tuple[str, names.Digest, int]]:
    """Objects that a node has ready."""
    return [(item.kind, names.digest(item.sha256), item.size) for item in asked.objects]


def proposal(asked: wire.CommitRequest) -> Proposal:
    """A version to make visible."""
    return Proposal(
        tag=asked.tag,
        name=asked.name,
        files=tuple(_proposed(entry) for entry in asked.files),
        description=asked.description,
        arch=asked.arch,
        force=asked.force,
        same_name=asked.same_name,
        replaces=None if asked.replaces is None else names.version_id(asked.replaces),
    )


def _proposed(entry: wire.FileEntry) -> ProposedFile:
    ref = entry.map
    return ProposedFile(
        name=entry.name,
        role=Role(entry.role),
        size=entry.size,
        digest=names.digest(entry.digest),
        drive=entry.drive,
        parent=entry.parent,
        inline=entry.inline,
        map=None if ref is None else MapRef(names.session_id(ref.sid), names.digest(ref.sha256), ref.size),
    )


# --- Out -------------------------------------------------------------------------------------------------------------


def session_status(session: Session) -> wire.SessionStatus:
    """A session as it stands."""
    return wire.SessionStatus(
        session=session.id,
        state=session.state.value,
        template=session.template,
        version=session.version,
        domain=session.domain,
        limit=session.limit,
        signed=session.signed,
    )


def session_answer(opened: Opened) -> wire.SessionAnswer:
    """An open session, and what its push may build on."""
    session = opened.session
    return wire.SessionAnswer(
        session=session.id,
        version=session.version,
        domain=session.domain,
        chunk_log2=opened.chunk_log2,
        limit=session.limit,
        bases=tuple(_base_entry(version, opened.map_links) for version in opened.bases),
        dropped=tuple(wire.DroppedBase(base.template, base.version, reason) for base, reason in opened.dropped),
        damaged=tuple(wire.PackName(pack.sid, pack.sha256) for pack in opened.damaged),
    )


def upload_links(links: Iterable[Link]) -> wire.UploadsAnswer:
    """Where to send what was asked for."""
    return wire.UploadsAnswer(tuple(wire.UploadLink(link.url, link.headers, link.expires) for link in links))


def commit_answer(done: Committed) -> wire.CommitAnswer:
    """The version as it is now listed."""
    head, entry, old = done.head, done.entry, done.replaced
    return wire.CommitAnswer(
        template=head.id,
        name=head.name,
        version=entry.id,
        number=head.number(entry),
        tag=entry.tag,
        size=entry.size,
        stored=done.stored,
        replaced=None if old is None or old.until is None else wire.Replaced(old.id, old.until),
    )


def listed_template(head: Head) -> wire.TemplateEntry:
    """One of a list's templates, without the versions' files."""
    return _template(head, [_listed(number, entry) for number, entry in enumerate(head.versions)])


def template_entry(described: Described) -> wire.TemplateEntry:
    """One template with its versions' files; of a version that cannot be read, none."""
    pairs = zip(described.head.versions, described.versions, strict=True)
    return _template(
        described.head,
        [
            _listed(number, entry, described.last_pulls.get(entry.id), version.files if version else ())
            for number, (entry, version) in enumerate(pairs)
        ],
    )


def reverted(gone: Retired) -> wire.Reverted:
    """What is left of a template, and what went."""
    head = gone.head
    return wire.Reverted(
        head.id,
        head.name,
        tuple(entry.tag for entry in gone.removed),
        left=len(head.versions),
        deleted=head.deleted,
        until=gone.until,
        renumbered=tuple(entry.tag for entry in gone.renumbered),
    )


def plan_answer(plan: Plan) -> wire.PlanAnswer:
    """All that a node needs to pull one version."""
    head, entry = plan.head, plan.entry
    return wire.PlanAnswer(
        template=head.id,
        name=head.name,
        arch=head.arch,
        domain=plan.version.domain,
        version=entry.id,
        number=head.number(entry),
        tag=entry.tag,
        description=entry.description,
        size=entry.size,
        created=entry.created,
        expires=plan.expires,
        now=plan.now,
        files=tuple(_file(file, plan.map_links, inline=True) for file in plan.version.files),
        packs=tuple(wire.PackLink(pack.sid, pack.sha256, pack.size, live, link.url) for pack, live, link in plan.packs),
    )


def _template(head: Head, versions: list[wire.VersionEntry]) -> wire.TemplateEntry:
    return wire.TemplateEntry(head.id, head.name, head.arch, head.domain, head.size, tuple(versions))


def _listed(number: int, entry: Entry, last_pull: int | None = None, files: tuple[File, ...] = ()) -> wire.VersionEntry:
    return wire.VersionEntry(
        id=entry.id,
        number=number,
        tag=entry.tag,
        description=entry.description,
        size=entry.size,
        created=entry.created,
        last_pull=last_pull,
        files=tuple(_file(file, {}, inline=False) for file in files),
    )


def _base_entry(version: Version, links: Mapping[MapRef, Link]) -> wire.BaseEntry:
    files = tuple(_file(file, links, inline=False) for file in version.files)
    return wire.BaseEntry(version.template, version.id, files)


def _file(file: File, links: Mapping[MapRef, Link], *, inline: bool) -> wire.FileEntry:
    """A file; its map only where there is a link to read it, its bytes only if `inline`."""
    link = links.get(file.map) if file.map else None
    return wire.FileEntry(
        name=file.name,
        role=file.role.value,
        size=file.size,
        digest=file.digest,
        drive=file.drive,
        parent=file.parent,
        inline=file.inline if inline else None,
        map=wire.MapLink(file.map.sid, file.map.sha256, file.map.size, link.url) if file.map and link else None,
    )
