"""Every failure, once: its code, its kind (HTTP status and exit code), what it says and what to do next.

An error is data: `code` never changes and is for programs, `says` and `remedy` are for the person who meets it, `detail`
fills the braces in both. Both ends of the native API build the same class from the same data. Two places end an error's
journey: `api/render.py` turns it into an answer, `cli/main.py` into a line and an exit code.
"""

from __future__ import annotations

import enum
from typing import Any, ClassVar


class Kind(enum.Enum):
    """What sort of failure it is: the HTTP status of the native API and the exit code of the CLI.

    3, 18 and 30 are the codes that the Anka CLI uses for the same failures; scripts compare them. Codes are only ever
    added: a script must take a code it does not know as a failure.
    """

    INVALID = (400, 2)
    """What was asked for makes no sense; asking again will not help."""
    NOT_FOUND = (404, 3)
    CONFLICT = (409, 18)
    """Somebody else's change, or an earlier one, stands in the way."""
    NO_REGISTRY = (400, 30)
    """No registry is configured on this node."""
    UNAUTHENTICATED = (401, 4)
    FORBIDDEN = (403, 5)
    TOO_LARGE = (413, 6)
    EXPIRED = (410, 7)
    """It was there and its time is over; start anew."""
    DAMAGED = (500, 8)
    """Bytes are not what a record says they are."""
    TOO_MANY = (429, 12)
    """Too often in too short a time; the same call may succeed later."""
    UNSUPPORTED = (501, 9)
    """A format, feature or promise that this release or this store lacks."""
    UNAVAILABLE = (503, 10)
    """Somebody does not answer now; the same call may succeed later."""
    LOCAL = (500, 11)
    """This machine refuses: disk full, no permission, a VM that runs."""
    INTERRUPTED = (499, 130)
    INTERNAL = (500, 1)
    """A defect of ours."""

    def __init__(self, status: int, exit_code: int) -> None:
        self.status = status
        self.exit_code = exit_code


class S3regError(Exception):
    """A failure with a name. Constructed from its detail: `TagNotFound(template="base", tag="v1")`."""

    code: ClassVar[str] = "internal"
    kind: ClassVar[Kind] = Kind.INTERNAL
    says: ClassVar[str] = "something went wrong inside s3reg: {reason}"
    remedy: ClassVar[str] = "look into the log; if it happens again, report it with the log lines around it"
    request_id: str | None = None
    """On a node: what the request is called that was answered so, in the log of whoever answered."""
    about: str | None = None
    """Which object of the store, or which file, for who works on the store itself. No answer has it: it may be another's."""

    def __init__(self, /, **detail: Any) -> None:
        self.detail = detail
        super().__init__(self.says.format_map(_Told(detail)))

    @property
    def next_step(self) -> str:
        """The remedy, its braces filled."""
        return self.remedy.format_map(_Told(self.detail))

    def as_dict(self) -> dict[str, Any]:
        """The error as the native API sends it."""
        return {"code": self.code, "message": str(self), "remedy": self.next_step, "detail": self.detail}


class _Told(dict[str, Any]):
    """Detail for a format string; what was not told reads as a question mark, never as a second error."""

    def __missing__(self, key: str) -> str:
        return "?"


def from_dict(body: dict[str, Any]) -> S3regError:
    """The error that `as_dict` gave on the other end; a code this release does not know becomes a plain S3regError."""
    detail = body.get("detail")
    found = by_code().get(str(body.get("code")))
    if found is None or not isinstance(detail, dict):
        return S3regError(reason=str(body.get("message", "no reason given")))
    return found(**{str(name): value for name, value in detail.items()})


def by_code() -> dict[str, type[S3regError]]:
    """Every error class under its code."""
    found: dict[str, type[S3regError]] = {}
    queue: list[type[S3regError]] = [S3regError]
    while queue:
        here = queue.pop()
        found[here.code] = here
        queue.extend(here.__subclasses__())
    return found


# --- What was asked for ----------------------------------------------------------------------------------------------


class Invalid(S3regError):
    """What was asked for makes no sense. `reason` says why."""

    code = "invalid"
    kind = Kind.INVALID
    says = "{reason}"
    remedy = "correct it and ask again"


class NameInvalid(Invalid):
    """A name, tag, id or digest from outside is none."""

    code = "name-invalid"
    says = "{what} {text!r} is not valid: {reason}"
    remedy = "choose another {what}"


class RequestInvalid(Invalid):
    """A request's body or parameters have the wrong shape. `problems`: field to what is wrong."""

    code = "request-invalid"
    says = "the request is malformed: {reason}"
    remedy = "compare it with the description at /transfer/v1/openapi.json"


class RequestTooLarge(S3regError):
    """A body is larger than any honest one."""

    code = "request-too-large"
    kind = Kind.TOO_LARGE
    says = "the request's body is larger than {limit} bytes"
    remedy = "disk bytes go straight to the store; the API takes only small records"


class SelectorsDisagree(Invalid):
    """One request names a version in two ways, and they are two versions. Nothing was changed."""

    code = "selectors-disagree"
    says = "{first} and {second} are not the same version"
    remedy = "name the version by its tag or by its number, once"


class SettingInvalid(Invalid):
    """A setting is unknown or its value is not of its type."""

    code = "setting-invalid"
    says = "setting {name}: {reason}"
    remedy = "s3reg serve --help shows the settings and their values"


class Unguarded(Invalid):
    """The registry would serve other machines although it asks nobody who they are."""

    code = "unguarded"
    says = "other machines could reach {listen}, and nobody is asked who they are"
    remedy = (
        "set S3REG_ROOT_TOKEN, which turns access control on; or listen on 127.0.0.1; "
        "or say with --no-auth that everyone who reaches the registry may do everything"
    )


class DomainUnclear(Invalid):
    """A new template may go into several domains, and none was named."""

    code = "domain-unclear"
    says = "template {template} is new, and may be made in several domains: {domains}"
    remedy = "name one of them with --domain"


class ConfigInvalid(Invalid):
    """A VM's configuration file cannot be read as one."""

    code = "config-invalid"
    says = "the configuration {file!r} is not usable: {reason}"
    remedy = "open the file in an editor; a VM's configuration is a YAML mapping of at most 1 MiB without aliases"


class CommitInvalid(Invalid):
    """A commit claims what its maps, packs or bases do not bear out. Nothing was written to the template."""

    code = "commit-invalid"
    says = "the commit was refused: {reason}"
    remedy = "push again; if it is refused again, the pushing node's memory or its release is at fault"


class SessionTooLarge(S3regError):
    """A push session uploaded more than its limit."""

    code = "session-too-large"
    kind = Kind.TOO_LARGE
    says = "the push wants to upload {size} bytes, more than the session's limit of {limit}"
    remedy = "raise the registry's S3REG_SESSION_BYTES, or push a smaller VM"


# --- Not there -------------------------------------------------------------------------------------------------------


class TemplateNotFound(S3regError):
    """No template has this id or name."""

    code = "template-not-found"
    kind = Kind.NOT_FOUND
    says = "{template}: not found"
    remedy = "s3reg list shows the templates of the registry"


class TemplateNotStored(TemplateNotFound):
    """A store was asked about a template that it does not have."""

    code = "template-not-stored"
    says = "{template}: the store {store} has no template of this id or name"
    remedy = "ask about one that it has: {known}"


class NothingLost(TemplateNotFound):
    """A template is said to have lost its head, and the store has nothing of it."""

    code = "nothing-lost"
    says = "{template}: the store has nothing of this id that has lost its head"
    remedy = "look at the id: s3reg fsck names the templates whose heads are lost"


class TagNotFound(S3regError):
    """The template has no version with this tag."""

    code = "tag-not-found"
    kind = Kind.NOT_FOUND
    says = "{template}: no version with tag {tag!r}"
    remedy = "s3reg describe {template} shows its tags"


class VersionNotFound(S3regError):
    """The template has no version with this number or id."""

    code = "version-not-found"
    kind = Kind.NOT_FOUND
    says = "{template}: no version {version}"
    remedy = "s3reg describe {template} shows its versions"


class PolicyInvalid(S3regError):
    """A file of rules of retention makes no sense."""

    code = "policy-invalid"
    kind = Kind.INVALID
    says = "the policy {file}: {reason}"
    remedy = "correct the file; docs/howto/space.md shows one"


class NotInTrash(S3regError):
    """A removed version was asked for by tag or id, and the template's trash does not hold it."""

    code = "not-in-trash"
    kind = Kind.NOT_FOUND
    says = "{template}: version {version} is not in the trash any more"
    remedy = "s3reg trash list shows what is there; what was restored is in the template, what was purged is gone"


class TrashEmpty(NotInTrash):
    """A template was asked for of which the trash holds nothing."""

    code = "trash-empty"
    says = "nothing of {template} is in the trash any more"
    remedy = "s3reg trash list shows what is there, and until when; what was purged, or lay there for longer, is gone"


class LabelNotFound(S3regError):
    """A version's configuration has no label of this name."""

    code = "label-not-found"
    kind = Kind.NOT_FOUND
    says = "{template}: no label {label!r}"
    remedy = "leave the label's name out to see its labels"


class SessionNotFound(S3regError):
    """No push session has this id: it was committed, aborted or swept."""

    code = "session-not-found"
    kind = Kind.EXPIRED
    says = "the push session {session} does not exist any more"
    remedy = "push again; what was uploaded under a finished version is not sent twice"


class SessionExpired(S3regError):
    """The push session was left alone too long, or was aborted."""

    code = "session-expired"
    kind = Kind.EXPIRED
    says = "the push session {session} has expired"
    remedy = "push again"


class RouteNotFound(S3regError):
    """No such path in this API."""

    code = "route-not-found"
    kind = Kind.NOT_FOUND
    says = "there is nothing at {path}"
    remedy = "see /transfer/v1/openapi.json for what there is"


class MethodNotAllowed(S3regError):
    """The path exists, not with this method."""

    code = "method-not-allowed"
    kind = Kind.INVALID
    says = "{path} does not take {method}"
    remedy = "see /transfer/v1/openapi.json for what there is"


class VmNotFound(S3regError):
    """No VM in this node's library has this id or name."""

    code = "vm-not-found"
    kind = Kind.NOT_FOUND
    says = "{vm}: not found"  # a client compares it as a whole
    remedy = (
        "the library {library} has no VM of this name or id{hint}; "
        "s3reg import makes one of disk files, --library chooses another library"
    )


class NotLocal(S3regError):
    """A version was asked for from this node's library only, and it is not whole there."""

    code = "not-local"
    kind = Kind.NOT_FOUND
    says = "{template}: version {tag!r} is not whole in the library {library}"
    remedy = "pull it without --local; s3reg vm tag {template} shows what is whole here"


class LocalTagNotFound(S3regError):
    """This node knows no version of the VM under this tag."""

    code = "local-tag-not-found"
    kind = Kind.NOT_FOUND
    says = "{vm}: this library has no tag {tag!r}"
    remedy = "s3reg vm tag VM lists the tags that it has; those of the registry are not touched"


class LibraryUnknown(S3regError):
    """A folder was named as a library to build on, and s3reg has no records of it: nothing vouches for what lies there."""

    code = "library-unknown"
    kind = Kind.NOT_FOUND
    says = "{folder} is no library that s3reg has records of"
    remedy = "name the folder of a library that a push or a pull has used: it holds .s3reg/files"


class RegistryUnknown(S3regError):
    """No remote has this name on this node."""

    code = "registry-unknown"
    kind = Kind.NOT_FOUND
    says = "no registry named {name!r} is configured"
    remedy = "s3reg list-repos shows the configured ones; s3reg add NAME URL adds one"


class RemotesInvalid(Invalid):
    """The node's file of registries cannot be read as one."""

    code = "remotes-invalid"
    says = "the list of registries {file!r} is not usable: {reason}"
    remedy = "repair or remove the file, then s3reg add NAME URL"


class NoRegistry(S3regError):
    """No registry is configured and none was named."""

    code = "no-registry"
    kind = Kind.NO_REGISTRY
    says = "No registry configured"
    remedy = "s3reg add NAME URL adds one, or name it with -a URL"


# --- In the way ------------------------------------------------------------------------------------------------------


class TagTaken(S3regError):
    """The template has a version with this tag already."""

    code = "tag-taken"
    kind = Kind.CONFLICT
    says = "{template}: tag {tag!r} already exists"
    remedy = "choose another tag, or replace the version with --force"


class NewTagTaken(TagTaken):
    """The tag that a version was to be given is that of another one."""

    code = "new-tag-taken"
    remedy = "choose another tag, or free it first with s3reg retag or s3reg untag"


class RestoreTagTaken(TagTaken):
    """The tag of a version that was to be restored is that of another one by now."""

    code = "restore-tag-taken"
    says = "{template}: tag {tag!r} is another version's by now; nothing was restored"
    remedy = "restore that one by itself under another tag, with --as TAG"


class TemplateChanged(S3regError):
    """Somebody pushed or removed a version since the caller looked at the template. Nothing was changed."""

    code = "template-changed"
    kind = Kind.CONFLICT
    says = "{template}: its newest version is not the one that it was"
    remedy = "look at s3reg describe {template} again before you repeat the command"


class VersionChanged(TemplateChanged):
    """A tag or number is not that of the version that the caller looked at. Nothing was changed."""

    code = "version-changed"
    says = "{template}: {version} is not the version that it was"


class NameTaken(S3regError):
    """Another template, or another local VM, carries this name."""

    code = "name-taken"
    kind = Kind.CONFLICT
    says = "the name {name!r} is already taken by {ids}"
    remedy = (
        "rename one of them; to let two carry one name: --force-name; to push a version of that template: --remote-vm"
    )


class LocalNameTaken(NameTaken):
    """Another VM of this library carries the name of the template that is pulled."""

    code = "local-name-taken"
    says = "the VM {ids} of this library is called {name!r} already"
    remedy = "pull into another library with --library, or let two carry one name with --force-name"


class VmNameTaken(NameTaken):
    """Another VM of this library carries the name that a VM is to be given."""

    code = "vm-name-taken"
    says = "the VM {ids} of this library is called {name!r} already"
    remedy = "choose another name; s3reg vm list shows those that are taken"


class RemoteTaken(S3regError):
    """This node knows another registry under this name."""

    code = "remote-taken"
    kind = Kind.CONFLICT
    says = "the registry {name!r} already exists: {url}"
    remedy = "s3reg set {name} URL changes its address, s3reg delete {name} forgets it"


class ShimTaken(S3regError):
    """Where the anka script is to go, something else has its name."""

    code = "shim-taken"
    kind = Kind.CONFLICT
    says = "{file!r} exists, and s3reg shim did not write it"
    remedy = "choose another folder, which only has to come first in PATH, or replace the file with --force"


class NameAmbiguous(S3regError):
    """Several templates or VMs carry this name."""

    code = "name-ambiguous"
    kind = Kind.CONFLICT
    says = "several carry the name {name!r}: {ids}"
    remedy = "use the id"


class DomainMismatch(S3regError):
    """The template lives in another domain than the push asked for."""

    code = "domain-mismatch"
    kind = Kind.CONFLICT
    says = "template {template} lives in domain {domain!r}, not in {asked!r}"
    remedy = "a template's domain is chosen when it is made; leave --domain out"


class TemplateIdTaken(S3regError):
    """A template was to be made, and its id is of one that the asker may not know of: that is all it may learn."""

    code = "template-id-taken"
    kind = Kind.CONFLICT
    says = "no template can be made under the id {template}"
    remedy = "push a clone: s3reg vm clone gives it an id of its own"


class TooBusy(S3regError):
    """A record kept changing under a compare-and-swap."""

    code = "too-busy"
    kind = Kind.CONFLICT
    says = "{what} is being changed by others faster than it can be read"
    remedy = "try again in a moment"


class ParentUnknown(S3regError):
    """A layer names a parent that is not among the version's files."""

    code = "parent-unknown"
    kind = Kind.CONFLICT
    says = "layer {name!r} names the parent {parent!r}, which the version does not have"
    remedy = "push the whole chain of layers"


# --- Access ----------------------------------------------------------------------------------------------------------


class Unauthenticated(S3regError):
    """No credential, or none that is known."""

    code = "unauthenticated"
    kind = Kind.UNAUTHENTICATED
    says = "Authentication Required"
    remedy = "give --api-key-id and --api-key, or --cert and --key, or --root-token; s3reg add and set remember them"


class CredentialRefused(Unauthenticated):
    """A credential was given, and is not, or not any more, one that the registry takes."""

    code = "credential-refused"
    says = "{url} refuses {what}: {reason}"
    remedy = (
        "check it, and that it is of this registry: those of a controller, or of another registry, are unknown to it"
    )


class ApiKeyInvalid(Invalid):
    """What was given as an API key cannot be used as one."""

    code = "api-key-invalid"
    says = "the API key {where} is not usable: {reason}"
    remedy = "give --api-key the file, or the text, that the registry gave out with the key; an encrypted one decrypted"


class CertificateRefused(Unauthenticated):
    """A client certificate was given, and is not, or not any more, one that the registry takes."""

    code = "certificate-refused"
    says = "the client certificate is refused: {reason}"
    remedy = "ask whoever runs the registry for another certificate, or for what its log says of this one"


class RootTokenUnreadable(S3regError):
    """The registry cannot tell whether a root token is right, because it could never read it."""

    code = "root-token-unreadable"
    kind = Kind.UNAVAILABLE
    says = "the root token cannot be read from {source!r}: {reason}"
    remedy = "write it there, as docs/reference.md says of S3REG_ROOT_TOKEN_FILE, _SECRET and _PARAMETER"


class RegistryUnready(S3regError):
    """The registry, or the store behind it, cannot answer now; whoever has not said who it is gets no more than that."""

    code = "registry-unready"
    kind = Kind.UNAVAILABLE
    says = "the registry cannot answer now: {reason}"
    remedy = "try again in a moment; if it stays, tell whoever runs the registry"


class TooManyFailures(S3regError):
    """So many wrong credentials came from one address, or for one name, that no more of them are looked at for a while."""

    code = "too-many-failures"
    kind = Kind.TOO_MANY
    says = "too many failed logins; try again in {seconds} s"
    remedy = "wait, and check the credential; a login that was made before goes on working"


class AccessOff(S3regError):
    """API keys and groups are asked for where access control is off."""

    code = "access-off"
    kind = Kind.UNSUPPORTED
    says = "access control is off"
    remedy = "set S3REG_ROOT_TOKEN for the registry and start it again"


class KeyNotFound(S3regError):
    """No API key has this id."""

    code = "key-not-found"
    kind = Kind.NOT_FOUND
    says = "API key {key!r} not found"
    remedy = "s3reg keys list shows those that there are"


class KeyTaken(S3regError):
    """An API key with this id exists, and has not ended."""

    code = "key-taken"
    kind = Kind.CONFLICT
    says = "the API key {key!r} already exists"
    remedy = "choose another id, or revoke that key first"


class GroupNotFound(S3regError):
    """No group has this name."""

    code = "group-not-found"
    kind = Kind.NOT_FOUND
    says = "group {group!r} not found"
    remedy = "s3reg groups list shows those that there are"


class KeyFileTaken(S3regError):
    """Where the private half of an API key is to go, there is a file."""

    code = "key-file-taken"
    kind = Kind.CONFLICT
    says = "{file!r} exists, and may be a key's"
    remedy = "name another file with --out; s3reg keys list shows which keys there are, by their fingerprints too"


class GroupTaken(S3regError):
    """A group was to be made, and there is one of this name that gives something else."""

    code = "group-taken"
    kind = Kind.CONFLICT
    says = "the group {group!r} already exists"
    remedy = "s3reg groups show tells what it gives; grant, deny, templates and domains change it"


class GroupChanged(S3regError):
    """Somebody changed, made or deleted the group since the caller looked at it. Nothing was changed."""

    code = "group-changed"
    kind = Kind.CONFLICT
    says = "the group {group!r} is not the one that it was"
    remedy = "look at it again before you repeat the change"


class Forbidden(S3regError):
    """The credential is known and does not allow this."""

    code = "forbidden"
    kind = Kind.FORBIDDEN
    says = "not allowed: {reason}"
    remedy = "ask whoever runs the registry, whom s3reg access explain KEY TEMPLATE tells what is missing"


class DomainRefused(Forbidden):
    """A template was to be made in a domain in which the asker may make none. `domains`: those in which it may."""

    code = "domain-refused"
    says = "not allowed: {asker} may not make templates in domain {domain!r}; it may in: {domains}"
    remedy = "name another with --domain, or ask whoever runs the registry for list and push_tag in that one"


class ForeignPage(S3regError):
    """A web page of another site asks for a change: a browser may add a password or certificate to that unasked."""

    code = "foreign-page"
    kind = Kind.FORBIDDEN
    says = "not allowed: a web page of {origin} asks for a change here"
    remedy = "ask from a page of the registry's own address, or with a program that is no browser"


class LinkRefused(S3regError):
    """A signed object URL is expired, altered, or used with other bytes or headers than were signed."""

    code = "link-refused"
    kind = Kind.FORBIDDEN
    says = "the signed link is refused: {reason}"
    remedy = "try again with a fresh link; if it stays refused, s3reg store check tells why"


# --- The store -------------------------------------------------------------------------------------------------------


class ObjectNotFound(S3regError):
    """The store has nothing under this key."""

    code = "object-not-found"
    kind = Kind.DAMAGED
    says = "the store has nothing under {key!r}"
    remedy = "restore it from a copy of the store; the registry's log names the request that needed it"


class PreconditionFailed(S3regError):
    """A put's precondition did not hold: the key is taken, or its object is not the one that was read."""

    code = "precondition-failed"
    kind = Kind.CONFLICT
    says = "{key!r} was changed by somebody else"
    remedy = "try again"


class PutUnsettled(S3regError):
    """A conditional put got no answer: it may or may not have been applied. Read again to know."""

    code = "put-unsettled"
    kind = Kind.UNAVAILABLE
    says = "the store did not answer whether {key!r} was written: {reason}"
    remedy = "try again; the registry finds out by itself whether the first try counted"


class KeyInvalid(S3regError):
    """A key is none: a defect of the caller, never a person's mistake."""

    code = "key-invalid"
    kind = Kind.INTERNAL
    says = "{key!r} is not a key: {reason}"


class ChecksumMismatch(S3regError):
    """Bytes sent to the store are not the bytes that were signed for."""

    code = "checksum-mismatch"
    kind = Kind.INVALID
    says = "the bytes sent for {key!r} are not the ones announced: {reason}"
    remedy = "send them again"


class StoreUnavailable(S3regError):
    """The store does not answer, or says that it cannot now."""

    code = "store-unavailable"
    kind = Kind.UNAVAILABLE
    says = "the store {store} does not answer: {reason}"
    remedy = "check its address and the network, or that its volume is mounted, then try again"


class StoreBusy(StoreUnavailable):
    """The store asks for fewer requests: S3's SlowDown."""

    code = "store-busy"
    says = "the store {store} asks for fewer requests: {reason}"
    remedy = (
        "try again in a few seconds; if it stays, the store needs more processors or disks, or fewer who ask it at once"
    )


class StoreDenied(S3regError):
    """The store refuses the registry's own credentials."""

    code = "store-denied"
    kind = Kind.UNAVAILABLE
    says = "the store {store} refuses our credentials: {reason}"
    remedy = (
        "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, whether AWS_SESSION_TOKEN has ended, or the role; and the "
        "bucket's policy"
    )


class CredentialsMissing(StoreDenied):
    """There are no credentials to sign requests to the store with."""

    code = "credentials-missing"
    says = "there are no credentials for the store {store}: {reason}"
    remedy = (
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile in AWS_PROFILE, or give the machine or task "
        "a role, and see that its metadata service answers"
    )


class CredentialsExpired(StoreDenied):
    """The credentials for the store have ended, and no fresh ones came."""

    code = "credentials-expired"
    says = "the credentials for the store {store} have expired: {reason}"
    remedy = (
        "see that the role is still there and its metadata service or STS answers; what came from a file or the "
        "environment, renew, and start the registry anew"
    )


class StoreClockWrong(StoreDenied):
    """The store refuses what the registry signs because their clocks differ."""

    code = "store-clock-wrong"
    says = "the store {store} refuses what we sign: its clock and ours are more than 15 minutes apart"
    remedy = "set the clock that is wrong, here or on the store; a time service keeps it right"


class BucketMissing(S3regError):
    """The bucket does not exist."""

    code = "bucket-missing"
    kind = Kind.UNAVAILABLE
    says = "the bucket {bucket!r} does not exist at {store}"
    remedy = "create it first; the registry never makes buckets"


class RegionWrong(S3regError):
    """The bucket lies in another region than requests are signed for."""

    code = "region-wrong"
    kind = Kind.UNAVAILABLE
    says = "the bucket {bucket!r} is not in region {region!r}{hint}"
    remedy = "set AWS_REGION to the bucket's region"


class StoreReadOnly(S3regError):
    """The directory store cannot be written."""

    code = "store-read-only"
    kind = Kind.UNAVAILABLE
    says = "the store {store} cannot be written: {reason}"
    remedy = "make the directory writable, or serve another one: --store DIR"


class StoreFull(S3regError):
    """The directory store's disk is full."""

    code = "store-full"
    kind = Kind.UNAVAILABLE
    says = "the store {store} has no space left"
    remedy = (
        "make room with s3reg revert, s3reg trash purge and then s3reg gc on that store, or give its disk more; "
        "nothing half-written stays behind"
    )


class StoreInodesUsedUp(StoreFull):
    """The directory store's disk has no inode for another file, though it may have bytes."""

    code = "store-inodes-used-up"
    says = "the disk of the store {store} takes no more files: its inodes are used up"
    remedy = (
        "remove other files from that disk, whose inodes df -i counts; a few are enough for s3reg gc to remove more; "
        "nothing half-written stays behind"
    )


class StoreUnsuitable(S3regError):
    """The store lacks a promise that the registry stands on."""

    code = "store-unsuitable"
    kind = Kind.UNSUPPORTED
    says = "the store {store} does not keep: {promises}"
    remedy = "use a store that keeps them; s3reg store check tells of each promise why"


class NotACopy(S3regError):
    """A store is to be adopted that was made where it is."""

    code = "not-a-copy"
    kind = Kind.CONFLICT
    says = "{store} is no copy of another store: there is nothing to adopt"
    remedy = "registries write to it as it is; a copy is told by its format.json, which names another place"


class AnotherPlace(S3regError):
    """What is said to be the same store under another name is another one: what was written here does not show there."""

    code = "another-place"
    kind = Kind.CONFLICT
    says = "{store} is not {made_as}: what was just written to the one is not in the other"
    remedy = (
        "it is a copy, and nothing was changed: leave it, or make it a store of its own: s3reg adopt without --same"
    )


class CopyDamaged(S3regError):
    """A copy that is to be adopted lacks what its templates need. Nothing was changed."""

    code = "copy-damaged"
    kind = Kind.DAMAGED
    says = "{store} is no whole copy: {count} things are missing or bad, of them {some}"
    remedy = "s3reg fsck names them all; copy what is missing and repeat it, or adopt what is there with --force"


class AdoptionDisturbed(S3regError):
    """Somebody else adopts the same copy, or it is still being copied. It stays read-only."""

    code = "adoption-disturbed"
    kind = Kind.CONFLICT
    says = "{what} of {store} was written by somebody else meanwhile: nobody has adopted it"
    remedy = "see that nothing copies to it any more and nobody else adopts it, and repeat the command"


class StoreCopied(S3regError):
    """The bucket is a copy of another one and may not be written until it is adopted."""

    code = "store-copied"
    kind = Kind.UNSUPPORTED
    says = "the store was made as {made_as} and is now {now}: a copy is read-only"
    remedy = (
        "if it is the same store by another name: s3reg adopt --same; else push to the original, or make the copy a store "
        "of its own: s3reg adopt; pull and list work"
    )


# --- Records and formats ---------------------------------------------------------------------------------------------


class RecordDamaged(S3regError):
    """A record on the store, a map or a pack does not hold what its format promises."""

    code = "record-damaged"
    kind = Kind.DAMAGED
    says = "{what} is damaged: {reason}"
    remedy = "restore it from a copy of the store, or push that version again under another tag"


class StoreFormatDamaged(RecordDamaged):
    """A store's format.json is lost or cannot be read: nothing says which store this is, and what may be done with it."""

    code = "store-format-damaged"
    remedy = "restore format.json from a copy of the store; nothing was changed"


class AccessRecordDamaged(RecordDamaged):
    """The record of an API key or of a group does not hold what its format promises: it gives nobody anything."""

    code = "access-record-damaged"
    remedy = "restore it from a copy of the store, or delete the key or group and make it again"


class FormatUnknown(S3regError):
    """A format, record version or feature that this release does not know."""

    code = "format-unknown"
    kind = Kind.UNSUPPORTED
    says = "{what} has {feature}, which this release does not know"
    remedy = "use a newer release of s3reg; nothing was changed"


class SweepStopped(S3regError):
    """A sweep met what it cannot read or does not know: nothing more was removed."""

    code = "sweep-stopped"
    kind = Kind.DAMAGED
    says = "the sweep stopped at {what}: {reason}"
    remedy = (
        "nothing in use was removed; s3reg fsck tells what to do about damage; a newer release may know what is unknown"
    )


class HeadLost(S3regError):
    """Templates have versions on the store and no head: it was removed from outside, or not copied with them."""

    code = "head-lost"
    kind = Kind.DAMAGED
    says = "versions are there without a head: {templates}"
    remedy = (
        "s3reg fsck names all such; put heads/ID.json back from a copy; gone for good? "
        "s3reg gc --lost ID lets the rest go, and a node's VM can be pushed again"
    )


class HeadThere(S3regError):
    """A template is said to have lost its head, and has it."""

    code = "head-there"
    kind = Kind.CONFLICT
    says = "template {template} has its head: it has lost nothing"
    remedy = "look at the id: s3reg fsck names the templates whose heads are lost"


class ChunkDamaged(S3regError):
    """A chunk does not decode to the bytes its digest says."""

    code = "chunk-damaged"
    kind = Kind.DAMAGED
    says = "a chunk of {what} is damaged: {reason}"
    remedy = "try again; if it stays, the store holds bad bytes: pull another version, and push this one again"


# --- The node --------------------------------------------------------------------------------------------------------


class RegistryUnreachable(S3regError):
    """The registry or its store does not answer, after every retry."""

    code = "registry-unreachable"
    kind = Kind.UNAVAILABLE
    says = "{url} does not answer: {reason}"
    remedy = "check the address and the network, then repeat the command; a transfer goes on where it was"


class AnswerInvalid(S3regError):
    """A registry's answer is none of this API, or names what would lead outside the library. Nothing of it was used."""

    code = "answer-invalid"
    kind = Kind.UNSUPPORTED
    says = "{url} does not answer as an s3reg registry does: {reason}"
    remedy = "check the address; if a registry is there, use its release on this node too; nothing was changed here"


class ListenFailed(S3regError):
    """The address to serve at cannot be had."""

    code = "listen-failed"
    kind = Kind.LOCAL
    says = "cannot listen on {listen}: {reason}"
    remedy = "choose another address with --listen HOST:PORT; port 0 takes any free one"


class VmRunning(S3regError):
    """The VM runs; its files change underneath."""

    code = "vm-running"
    kind = Kind.LOCAL
    says = "the VM {vm} is running: {reason}"
    remedy = "stop or suspend it first"


class LibraryLacks(S3regError):
    """A library does not hold every file of a version any more."""

    code = "library-lacks"
    kind = Kind.NOT_FOUND
    says = "the library {library} lacks {files} of tag {tag!r}"
    remedy = "try a library that has pulled or pushed that version and not changed it since"


class LibraryIncomplete(S3regError):
    """A VM's configuration names a file that the library does not have."""

    code = "library-incomplete"
    kind = Kind.LOCAL
    says = "the VM {vm} needs {file!r}, which is not in {folder}"
    remedy = "pull the VM again, or put the file back"


class LayersUnknown(S3regError):
    """The chain of a VM's layers could not be read."""

    code = "layers-unknown"
    kind = Kind.LOCAL
    says = "the parent of layer {file!r} cannot be told: {reason}"
    remedy = "check that anka_image info works for this file"


class FileChanged(S3regError):
    """A file changed while it was being pushed."""

    code = "file-changed"
    kind = Kind.LOCAL
    says = "{file!r} changed while it was being read"
    remedy = "stop the VM, then repeat the command"


class LocalChanges(S3regError):
    """The library's copy has changes that no registry has."""

    code = "local-changes"
    kind = Kind.CONFLICT
    says = "the VM {vm} has local changes in {files} that a pull would overwrite"
    remedy = "push them under a tag first, with --local if there is no registry, or discard them with pull --force"


class FileTaken(S3regError):
    """Another VM uses a file of this name with other bytes."""

    code = "file-taken"
    kind = Kind.CONFLICT
    says = "the file {file!r} of {template} is used by the VM {vm} with other bytes"
    remedy = "pull into another library with --library"


class DiskFull(S3regError):
    """There is no room on this machine."""

    code = "disk-full"
    kind = Kind.LOCAL
    says = "no space left in {folder}: {needed} bytes needed, {free} free"
    remedy = "free space and repeat the command; it goes on where it was"


class RoomMissing(DiskFull):
    """What is about to be written would not fit. Nothing was written yet."""

    code = "room-missing"
    says = "too little space in {folder}: {needed} bytes needed, {free} free, {missing} missing"
    remedy = "free so much there, or choose another disk with --library; what is there already is not lost"


class QuotaUsedUp(DiskFull):
    """The disk may have room, but not for this user, or not in this folder."""

    code = "quota-used-up"
    says = "the quota that holds in {folder} is used up: {needed} bytes needed"
    remedy = "have it raised, or remove files that count for it, and repeat the command; it goes on where it was"


class LocalDenied(S3regError):
    """The operating system refuses."""

    code = "local-denied"
    kind = Kind.LOCAL
    says = "{file!r} cannot be used: {reason}"
    remedy = "check the path and its permissions"


class FileGone(LocalDenied):
    """A file that a pull did not need to fetch, because the library had it, is not there any more."""

    code = "file-gone"
    says = "{file!r} was in the library when the pull began, and is gone"
    remedy = "repeat the command; it goes on where it was"


class Busy(S3regError):
    """Another s3reg on this machine is at work on the same thing."""

    code = "busy"
    kind = Kind.CONFLICT
    says = "another s3reg is at work on {what}"
    remedy = "wait for it, or end it"


class ServerMissing(S3regError):
    """A node's install was asked to be a registry."""

    code = "server-missing"
    kind = Kind.UNSUPPORTED
    says = "{command} needs the registry's libraries, and {module} is not installed"
    remedy = "pip install 's3reg[server]'"


class Interrupted(S3regError):
    """The person at the terminal pressed Ctrl-C, or the process was told to end."""

    code = "interrupted"
    kind = Kind.INTERRUPTED
    says = "interrupted"
    remedy = "repeat the command to go on where it was"
