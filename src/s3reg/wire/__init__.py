"""The messages of the native API, for both ends: a frozen value for each, and the schema that reads and writes it.

`read(SomeSchema, raw)` gives the value or raises RequestInvalid with what is wrong with each field; `write(value)` gives
JSON values. Names inside are checked by `model/names.py`, so what comes out of here may be used in a key. Unknown fields
are ignored: an older end goes on talking to a newer one. URLs in answers are credentials: their values do not show
themselves in `repr`. The messages of those who may do what are in access.py.
"""

from __future__ import annotations

import base64
import binascii
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from marshmallow import EXCLUDE, Schema, ValidationError, fields, post_load, validate

from s3reg.errors import NameInvalid, RequestInvalid
from s3reg.model import names
from s3reg.model.chunks import LARGEST_CHUNK_LOG2, SMALLEST_CHUNK_LOG2
from s3reg.model.maps import LARGEST_MAP
from s3reg.model.packs import LARGEST_PACK
from s3reg.model.template import CONFIG_BYTES, MOST_FILES, Role

PREFIX = "/transfer/v1"
LARGEST_BODY = 8 * 1024**2
"""Bytes of the largest request body: a commit with 4 MiB of inline files."""
MOST_UPLOADS = 64
"""Upload links given at once: about as many packs as a push has in flight."""
MOST_BASES = 64


class Message(Schema):
    """A schema that reads into the value class `makes`."""

    makes: ClassVar[type[Any]]

    class Meta:
        unknown = EXCLUDE

    @post_load
    def make(self, data: dict[str, Any], **_: object) -> Any:
        """The value."""
        return self.makes(**data)


class Named(fields.Field[Any]):
    """Text that one of the functions of `model/names.py` takes."""

    def __init__(self, parse: Callable[[object], str], **more: Any) -> None:
        self.parse = parse
        super().__init__(**more)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> str:
        del attr, data
        try:
            return self.parse(value)
        except NameInvalid as e:
            raise ValidationError(str(e)) from e


class Bytes(fields.Field[bytes]):
    """Bytes as standard base64, at most so many."""

    def __init__(self, most: int, **more: Any) -> None:
        self.most = most
        super().__init__(**more)

    def _serialize(self, value: bytes | None, attr: str | None, obj: Any, **_: Any) -> str | None:
        del attr, obj
        return None if value is None else _base64(value)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> bytes:
        del attr, data
        try:
            found = base64.b64decode(value, validate=True)
        except (TypeError, ValueError, binascii.Error) as e:
            raise ValidationError("not base64") from e
        if len(found) > self.most:
            raise ValidationError(f"longer than {self.most} bytes")
        return found


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def count(most: int = 1 << 53, least: int = 0, **more: Any) -> fields.Integer:
    """A whole number in these bounds."""
    return fields.Integer(strict=True, validate=validate.Range(least, most), **more)


def many(schema: type[Message], most: int, **more: Any) -> fields.List[Any]:
    """At most so many messages."""
    return fields.List(fields.Nested(schema), validate=validate.Length(max=most), **more)


# --- Shared pieces ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VersionRef:
    """A version of a template, by ids."""

    template: str
    version: str


class VersionRefSchema(Message):
    makes = VersionRef
    template = Named(names.template_id, required=True)
    version = Named(names.version_id, required=True)


@dataclass(frozen=True, slots=True)
class MapLink:
    """A map by name; in answers, with a link to read it."""

    sid: str
    sha256: str
    size: int
    url: str | None = field(default=None, repr=False)


class MapLinkSchema(Message):
    makes = MapLink
    sid = Named(names.session_id, required=True)
    sha256 = Named(names.digest, required=True)
    size = count(LARGEST_MAP, required=True)
    url = fields.String(load_default=None, allow_none=True)


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of a version: inline, or by its map. In listings, neither."""

    name: str
    role: str
    size: int
    digest: str
    drive: int | None = None
    parent: str | None = None
    inline: bytes | None = field(default=None, repr=False)
    map: MapLink | None = None


class FileEntrySchema(Message):
    makes = FileEntry
    name = Named(names.file_name, required=True)
    role = fields.String(required=True, validate=validate.OneOf([role.value for role in Role]))
    size = count(required=True)
    digest = Named(names.digest, required=True)
    drive = count(1024, load_default=None, allow_none=True)
    parent = Named(names.file_name, load_default=None, allow_none=True)
    inline = Bytes(CONFIG_BYTES, load_default=None, allow_none=True)
    map = fields.Nested(MapLinkSchema, load_default=None, allow_none=True)


# --- Push ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """Open a push session."""

    template: str
    name: str
    tag: str
    arch: str = ""
    force: bool = False
    same_name: bool = False
    """Let another template carry this name too."""
    domain: str | None = None
    """For a new template; None: its own, or `main`."""
    bases: tuple[VersionRef, ...] = ()
    """Besides the template's latest version."""


class OpenRequestSchema(Message):
    makes = OpenRequest
    template = Named(names.template_id, required=True)
    name = Named(names.template_name, required=True)
    tag = Named(names.tag, required=True)
    arch = Named(names.arch, load_default="")
    force = fields.Boolean(load_default=False)
    same_name = fields.Boolean(load_default=False)
    domain = Named(names.domain, load_default=None, allow_none=True)
    bases = many(VersionRefSchema, MOST_BASES, load_default=())


@dataclass(frozen=True, slots=True)
class BaseEntry:
    """A base that the push may build on: its files, with links to their maps."""

    template: str
    version: str
    files: tuple[FileEntry, ...]


class BaseEntrySchema(Message):
    makes = BaseEntry
    template = Named(names.template_id, required=True)
    version = Named(names.version_id, required=True)
    files = many(FileEntrySchema, MOST_FILES, required=True)


@dataclass(frozen=True, slots=True)
class DroppedBase:
    """A base that was asked for and may not be used."""

    template: str
    version: str
    reason: str


class DroppedBaseSchema(Message):
    makes = DroppedBase
    template = Named(names.template_id, required=True)
    version = Named(names.version_id, required=True)
    reason = fields.String(required=True)


@dataclass(frozen=True, slots=True)
class PackName:
    """A pack by name."""

    sid: str
    sha256: str


class PackNameSchema(Message):
    makes = PackName
    sid = Named(names.session_id, required=True)
    sha256 = Named(names.digest, required=True)


@dataclass(frozen=True, slots=True)
class SessionAnswer:
    """A push session: what it may upload, and what it may build on."""

    session: str
    version: str
    """The id that its version will have."""
    domain: str
    chunk_log2: int
    """The chunk size of the lineage."""
    limit: int
    """Bytes that it may upload."""
    bases: tuple[BaseEntry, ...] = ()
    dropped: tuple[DroppedBase, ...] = ()
    damaged: tuple[PackName, ...] = ()
    """Packs found bad: nothing may build on them."""


class SessionAnswerSchema(Message):
    makes = SessionAnswer
    session = Named(names.session_id, required=True)
    version = Named(names.version_id, required=True)
    domain = Named(names.domain, required=True)
    chunk_log2 = count(LARGEST_CHUNK_LOG2, SMALLEST_CHUNK_LOG2, required=True)
    limit = count(required=True)
    bases = many(BaseEntrySchema, MOST_BASES + 1, load_default=())
    dropped = many(DroppedBaseSchema, MOST_BASES + 1, load_default=())
    damaged = fields.List(fields.Nested(PackNameSchema), load_default=())


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """A push session as it stands."""

    session: str
    state: str
    """`open` or `expired`."""
    template: str
    version: str
    """The id that its version will have."""
    domain: str
    limit: int
    """Bytes that it may upload."""
    signed: int
    """Bytes that upload links were given for."""


class SessionStatusSchema(Message):
    makes = SessionStatus
    session = Named(names.session_id, required=True)
    state = fields.String(required=True, validate=validate.OneOf(["open", "expired"]))
    template = Named(names.template_id, required=True)
    version = Named(names.version_id, required=True)
    domain = Named(names.domain, required=True)
    limit = count(required=True)
    signed = count(required=True)


@dataclass(frozen=True, slots=True)
class BasesRequest:
    """Add bases to an open session."""

    bases: tuple[VersionRef, ...]


class BasesRequestSchema(Message):
    makes = BasesRequest
    bases = many(VersionRefSchema, MOST_BASES, required=True)


@dataclass(frozen=True, slots=True)
class Upload:
    """A pack or map that is ready to be sent."""

    kind: str
    """`pack` or `map`."""
    sha256: str
    size: int


class UploadSchema(Message):
    makes = Upload
    kind = fields.String(required=True, validate=validate.OneOf(["pack", "map"]))
    sha256 = Named(names.digest, required=True)
    size = count(LARGEST_MAP, 1, required=True)


@dataclass(frozen=True, slots=True)
class UploadsRequest:
    """Ask for upload links: the session's heartbeat too."""

    objects: tuple[Upload, ...]


class UploadsRequestSchema(Message):
    makes = UploadsRequest
    objects = many(UploadSchema, MOST_UPLOADS, required=True)


@dataclass(frozen=True, slots=True)
class UploadLink:
    """Where to PUT one object, and with which headers."""

    url: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    expires: int
    """Seconds since 1970."""


class UploadLinkSchema(Message):
    makes = UploadLink
    url = fields.String(required=True)
    headers = fields.Dict(fields.String(), fields.String(), required=True)
    expires = count(required=True)


@dataclass(frozen=True, slots=True)
class UploadsAnswer:
    """The links, in the order that they were asked for."""

    links: tuple[UploadLink, ...]


class UploadsAnswerSchema(Message):
    makes = UploadsAnswer
    links = many(UploadLinkSchema, MOST_UPLOADS, required=True)


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """Make the session's version visible."""

    tag: str
    name: str
    files: tuple[FileEntry, ...]
    description: str = ""
    arch: str = ""
    force: bool = False
    same_name: bool = False
    replaces: str | None = None
    """The id of the version that has the tag: it is this one that is replaced by force, or none."""


class CommitRequestSchema(Message):
    makes = CommitRequest
    tag = Named(names.tag, required=True)
    name = Named(names.template_name, required=True)
    files = many(FileEntrySchema, MOST_FILES, required=True)
    description = Named(names.description, load_default="")
    arch = Named(names.arch, load_default="")
    force = fields.Boolean(load_default=False)
    same_name = fields.Boolean(load_default=False)
    replaces = Named(names.version_id, load_default=None, allow_none=True)


@dataclass(frozen=True, slots=True)
class Replaced:
    """A version whose place another took by force."""

    version: str
    until: int
    """When it may go for good, in seconds since 1970: with the first sweep from then on."""


class ReplacedSchema(Message):
    makes = Replaced
    version = Named(names.version_id, required=True)
    until = count(required=True)


@dataclass(frozen=True, slots=True)
class CommitAnswer:
    """The version as it is now listed."""

    template: str
    name: str
    version: str
    number: int
    tag: str
    size: int
    """Bytes of its images and states."""
    stored: int
    """Bytes of the packs that this push added."""
    replaced: Replaced | None = None
    """What it took the place of, while the trash has that."""


class CommitAnswerSchema(Message):
    makes = CommitAnswer
    template = Named(names.template_id, required=True)
    name = fields.String(required=True)
    version = Named(names.version_id, required=True)
    number = count(required=True)
    tag = fields.String(required=True)
    size = count(required=True)
    stored = count(required=True)
    replaced = fields.Nested(ReplacedSchema, load_default=None, allow_none=True)


# --- Listing and pull ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VersionEntry:
    """A version in a listing; `files` only where one template is described."""

    id: str
    number: int
    tag: str
    description: str
    size: int
    created: int
    last_pull: int | None = None
    files: tuple[FileEntry, ...] = ()


class VersionEntrySchema(Message):
    makes = VersionEntry
    id = Named(names.version_id, required=True)
    number = count(required=True)
    tag = fields.String(required=True)
    description = fields.String(required=True)
    size = count(required=True)
    created = count(required=True)
    last_pull = count(load_default=None, allow_none=True)
    files = many(FileEntrySchema, MOST_FILES, load_default=())


@dataclass(frozen=True, slots=True)
class TemplateEntry:
    """A template and its versions, oldest first."""

    id: str
    name: str
    arch: str
    domain: str
    size: int
    versions: tuple[VersionEntry, ...]


class TemplateEntrySchema(Message):
    makes = TemplateEntry
    id = Named(names.template_id, required=True)
    name = fields.String(required=True)
    arch = fields.String(required=True)
    domain = fields.String(required=True)
    size = count(required=True)
    versions = fields.List(fields.Nested(VersionEntrySchema), required=True)


@dataclass(frozen=True, slots=True)
class TemplatesAnswer:
    """All that the asker may list."""

    templates: tuple[TemplateEntry, ...]


class TemplatesAnswerSchema(Message):
    makes = TemplatesAnswer
    templates = fields.List(fields.Nested(TemplateEntrySchema), required=True)


@dataclass(frozen=True, slots=True)
class PackLink:
    """A pack that a pull needs, with a link that reads any range of it."""

    sid: str
    sha256: str
    size: int
    live: int
    """Bytes of it that the version uses."""
    url: str = field(repr=False)


class PackLinkSchema(Message):
    makes = PackLink
    sid = Named(names.session_id, required=True)
    sha256 = Named(names.digest, required=True)
    size = count(LARGEST_PACK, 1, required=True)
    live = count(required=True)
    url = fields.String(required=True)


@dataclass(frozen=True, slots=True)
class PlanAnswer:
    """All that a node needs to pull one version."""

    template: str
    name: str
    arch: str
    domain: str
    version: str
    number: int
    tag: str
    description: str
    size: int
    created: int
    expires: int
    """When its links end, in seconds since 1970 by the registry's clock."""
    now: int
    """The registry's clock."""
    files: tuple[FileEntry, ...]
    packs: tuple[PackLink, ...]


class PlanAnswerSchema(Message):
    makes = PlanAnswer
    template = Named(names.template_id, required=True)
    name = Named(names.template_name, required=True)
    arch = Named(names.arch, required=True)
    domain = Named(names.domain, required=True)
    version = Named(names.version_id, required=True)
    number = count(required=True)
    tag = Named(names.tag, required=True)
    description = fields.String(required=True)
    size = count(required=True)
    created = count(required=True)
    expires = count(required=True)
    now = count(required=True)
    files = many(FileEntrySchema, MOST_FILES, required=True)
    packs = fields.List(fields.Nested(PackLinkSchema), required=True)


# --- Changing a template ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Revert:
    """Take versions out of a template: the one named, the newest by default, and all newer ones; or everything."""

    operation: str
    """Chosen by the caller for this one change: asked for again, it is not made again."""
    template: str
    tag: str | None = None
    number: int | None = None
    everything: bool = False
    """All versions, and the template itself."""
    newest: str | None = None
    """The id of the newest version that the caller knows: if another one is, nothing is removed."""


class RevertSchema(Message):
    makes = Revert
    operation = Named(names.operation_id, required=True)
    template = Named(names.template_id, required=True)
    tag = Named(names.tag, load_default=None, allow_none=True)
    number = count(load_default=None, allow_none=True)
    everything = fields.Boolean(load_default=False)
    newest = Named(names.version_id, load_default=None, allow_none=True)


@dataclass(frozen=True, slots=True)
class Reverted:
    """A template after versions were taken out of it."""

    template: str
    name: str
    removed: tuple[str, ...]
    """The tags that went, oldest first; none where this operation had been done before."""
    left: int
    """Versions that the template still has."""
    deleted: bool
    """The template went with them."""
    until: int | None = None
    """When what went may go for good, in seconds since 1970; null: nobody knows."""
    renumbered: tuple[str, ...] = ()
    """Tags of the versions that have another number now, less by one; none where this had been done before."""


class RevertedSchema(Message):
    makes = Reverted
    template = Named(names.template_id, required=True)
    name = fields.String(required=True)
    removed = fields.List(fields.String(), required=True)
    left = count(required=True)
    deleted = fields.Boolean(required=True)
    until = count(load_default=None, allow_none=True)
    renumbered = fields.List(fields.String(), load_default=())


@dataclass(frozen=True, slots=True)
class Rename:
    """Give a template another name."""

    operation: str
    """Chosen by the caller for this one change: asked for again, it is not made again."""
    template: str
    name: str
    same_name: bool = False
    """Let another template carry this name too."""


class RenameSchema(Message):
    makes = Rename
    operation = Named(names.operation_id, required=True)
    template = Named(names.template_id, required=True)
    name = Named(names.template_name, required=True)
    same_name = fields.Boolean(load_default=False)


@dataclass(frozen=True, slots=True)
class Renamed:
    """A template under its new name."""

    template: str
    name: str


class RenamedSchema(Message):
    makes = Renamed
    template = Named(names.template_id, required=True)
    name = fields.String(required=True)


# --- Both ends -------------------------------------------------------------------------------------------------------


def read(schema: type[Message], raw: object) -> Any:
    """The value that `raw` (JSON values) spells, an instance of `schema.makes`. Raises RequestInvalid."""
    try:
        return schema().load(raw if isinstance(raw, Mapping) else {"body": raw})
    except ValidationError as e:
        raise RequestInvalid(reason=_told(e.messages), problems=e.messages) from e
    except RecursionError as e:
        raise RequestInvalid(reason="it is nested too deeply", problems={}) from e


def write(value: object) -> dict[str, Any]:
    """`value` as JSON values, by the schema that makes its class."""
    return _writer(_schema_of(type(value)))(value)


def _schema_of(kind: type[Any]) -> type[Message]:
    for schema in Message.__subclasses__():
        if schema.makes is kind:
            return schema
    raise TypeError(f"{kind.__name__} is no message")


@functools.cache
def _writer(schema: type[Message]) -> Callable[[Any], dict[str, Any]]:
    """What the schema's `dump` does, put together once: of a plan's time, that took a third."""
    rows = schema().fields
    inner = {name: write for name, row in rows.items() if (write := _field_writer(row))}

    def written(value: Any) -> dict[str, Any]:
        out = {name: getattr(value, name) for name in rows}
        for name, write in inner.items():
            if out[name] is not None:
                out[name] = write(out[name])
        return out

    return written


def _field_writer(row: fields.Field[Any]) -> Callable[[Any], Any] | None:
    """How the values of a field are written; None: as they are."""
    if isinstance(row, fields.Nested):
        return _writer(type(row.schema))
    if isinstance(row, fields.List):
        write = _field_writer(row.inner)
        return list if write is None else lambda values: [write(value) for value in values]
    if isinstance(row, Bytes):
        return _base64
    return None


def _told(problems: Any, where: str = "") -> str:
    if isinstance(problems, Mapping):
        parts = [_told(inner, f"{where}.{name}" if where else str(name)) for name, inner in problems.items()]
        return "; ".join(parts[:5])
    return f"{where}: {' '.join(str(problem) for problem in problems)}"
