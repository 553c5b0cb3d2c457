"""What the registry's verbs take and give: frozen values, neither records nor messages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from s3reg.model.names import Digest, Domain, SessionId, TemplateId, VersionId
    from s3reg.model.packs import PackRef
    from s3reg.model.template import Base, Entry, Head, MapRef, Role, Session, Version
    from s3reg.store import Link


@dataclass(frozen=True, slots=True)
class Limits:
    """How much and how long. The defaults are what `settings.py` has."""

    session_bytes: int = 2 * 1024**4
    """That one push may upload."""
    link_seconds: int = 3600
    """That a signed link works."""
    idle_seconds: int = 24 * 3600
    """After its last heartbeat, a session may be expired."""
    age_seconds: int = 7 * 24 * 3600
    """So long after it was opened, a session takes no heartbeat any more."""
    bases: int = 64
    """Versions that one push may build on."""
    attempts: int = 20
    """To change a record that others change too."""
    trash_seconds: int = 7 * 24 * 3600
    """That what is removed from now on can be restored; 0: until the next sweep."""
    event_seconds: int = 90 * 24 * 3600
    """That events are kept."""


@dataclass(frozen=True, slots=True)
class Status:
    """What there is to know of the store without looking at any template."""

    store: str
    """Its id."""
    location: str
    copied: bool
    """It was made elsewhere: read-only until it is adopted."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What a node asks for when it opens a push session."""

    template: TemplateId
    name: str
    tag: str
    arch: str = ""
    force: bool = False
    """Replace the version that has this tag."""
    same_name: bool = False
    """Let another template carry this name too."""
    domain: Domain | None = None
    """For a new template; None: `main` if that is allowed, else the only one that is."""
    bases: tuple[Base, ...] = ()
    """Besides the template's latest version."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An open session, and what its push may build on."""

    session: Session
    chunk_log2: int
    """The chunk size of the lineage."""
    bases: tuple[Version, ...] = ()
    map_links: dict[MapRef, Link] = field(default_factory=dict)
    """To read the maps of the bases' files."""
    dropped: tuple[tuple[Base, str], ...] = ()
    """Bases that were asked for and may not be used, and why."""
    damaged: tuple[PackRef, ...] = ()
    """Packs of the bases that were found bad: nothing may build on them."""


@dataclass(frozen=True, slots=True)
class ProposedFile:
    """A file as a commit claims it. Nothing about it is believed."""

    name: str
    role: Role
    size: int
    digest: Digest
    drive: int | None = None
    parent: str | None = None
    inline: bytes | None = field(default=None, repr=False)
    map: MapRef | None = None


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a node asks to be made visible."""

    tag: str
    name: str
    """Of the template, where it is new; an existing one keeps its own."""
    files: tuple[ProposedFile, ...]
    description: str = ""
    arch: str = ""
    force: bool = False
    same_name: bool = False
    replaces: VersionId | None = None
    """The version that has to have the tag, where one is replaced by force."""


@dataclass(frozen=True, slots=True)
class Committed:
    """A version as its template's head now lists it."""

    head: Head
    entry: Entry
    stored: int
    """Bytes of the packs that the push added."""
    replaced: Entry | None
    """Whose place it took by force, while the trash has that."""


@dataclass(frozen=True, slots=True)
class Retired:
    """A template after versions of it were removed."""

    head: Head
    removed: tuple[Entry, ...]
    """What went, oldest first; nothing if the operation had been done before."""
    until: int | None = None
    """When what went last may go for good, in seconds since 1970; None: it is gone already."""
    renumbered: tuple[Entry, ...] = ()
    """Those that have another number now, less by one; nothing if the operation had been done before."""


@dataclass(frozen=True, slots=True)
class Trashed:
    """A version that was removed and can be restored."""

    head: Head
    entry: Entry


@dataclass(frozen=True, slots=True)
class Restored:
    """A template with versions that were removed."""

    head: Head
    restored: tuple[Entry, ...]
    """Those that were asked for, as they are there now."""


@dataclass(frozen=True, slots=True)
class Described:
    """A template with its versions."""

    head: Head
    versions: tuple[Version | None, ...]
    """In the order of `head.versions`; None where a record cannot be read."""
    last_pulls: dict[VersionId, int]
    """Seconds since 1970, by the store's clock; versions that were never pulled are missing."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a node needs to pull one version."""

    head: Head
    entry: Entry
    version: Version
    links: Sequence[Link]
    """Of its maps and packs, as the store gave them: the same object as before if they are the same links."""
    map_links: dict[MapRef, Link]
    packs: list[tuple[PackRef, int, Link]]
    """Each pack once, with the bytes of it that the version uses."""
    expires: int
    """When the first of the links ends, in seconds since 1970."""
    now: int
    """The registry's clock."""


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A push under way, or one that was given up and is not cleared away yet."""

    id: SessionId
    session: Session | None
    """None: its record cannot be read."""
    beat: float
    """When a node last asked something for it, in seconds since 1970 by the store's clock; so are the next two."""
    until: float
    """When a sweep may give it up, if nothing more is asked for it."""
    name: str = ""
    """Of its template; empty where that would be new."""
    damaged: str = ""
    """What is wrong with its record."""
    stored: int = 0
    """Bytes that it has uploaded, where a sweep has counted them."""


@dataclass(frozen=True, slots=True)
class Uses:
    """When versions were last of use."""

    heads: tuple[Head, ...]
    """Of their templates; damaged ones as far as they can be read."""
    last_pulls: dict[VersionId, int]
    """Seconds since 1970, by the store's clock; versions that were never pulled are missing."""
    now: int
    """The registry's clock."""


@dataclass(slots=True)
class Swept:
    """What a sweep found and did; of a dry run, what it would do. It grows while the sweep runs."""

    dry_run: bool = False
    step: str = ""
    """What it is at."""
    heads: int = 0
    """That were read."""
    templates: int = 0
    """Of these, those that are not deleted."""
    purged: int = 0
    """Versions that lay too long in the trash, and left it."""
    listed: int = 0
    """Packs, maps and versions that were there."""
    listed_bytes: int = 0
    live: int = 0
    """Of these, what the templates' versions need."""
    live_bytes: int = 0
    trash: int = 0
    """What only the trash needs."""
    trash_bytes: int = 0
    trash_versions: int = 0
    trash_until: int | None = None
    """When the first of them may go, in seconds since 1970."""
    held_objects: int = 0
    """What only pushes under way need: uploaded, and not committed yet; or a base that is gone besides."""
    held: int = 0
    """Bytes of that."""
    unnamed: int = 0
    """What nobody needs: what is to go."""
    unnamed_bytes: int = 0
    removed: int = 0
    freed: int = 0
    """Bytes."""
    rescued: int = 0
    """Objects that nobody named at first, and somebody did at the second look."""
    sessions: int = 0
    """Pushes under way."""
    pushes: list[UnderWay] = field(default_factory=list)
    """The first of them."""
    ahead: int = 0
    """Of the pushes, those heard of at a time that is to come: the store's clock was set back. None of them is given up."""
    given_up: int = 0
    """Pushes that were too old, and are none any more."""
    foreign: list[str] = field(default_factory=list)
    """Keys that are none of ours, where such are left alone; the first of them."""
    foreign_count: int = 0
    cleared: dict[str, int] = field(default_factory=dict)
    """What else went: of each kind, how many."""
