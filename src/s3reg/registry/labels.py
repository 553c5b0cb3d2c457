"""What a template and its versions are called and said to be for: names, tags, architectures. Labels: ids are identity."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from s3reg.errors import NameInvalid
from s3reg.model import names
from s3reg.model.identity import Action
from s3reg.registry.change import change
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from s3reg.model.identity import Identity
    from s3reg.model.template import Head
    from s3reg.registry.catalog import Catalog
    from s3reg.registry.records import Records


def rename(
    records: Records, catalog: Catalog, asker: Identity, ref: str, *, name: str, same_name: bool, operation: str
) -> Head:
    """The template under another name. Raises NameTaken, NameInvalid, TemplateNotFound, NameAmbiguous, Forbidden."""
    name = names.template_name(name)

    def make(head: Head) -> Head:
        if not same_name:
            catalog.check_name(asker, name, head.id)
        return replace(head, name=name)

    head = change(records, catalog, asker, ref, operation=operation, action=Action.PUSH, make=make)
    emit("template-renamed", template=head.id, name=head.name, by=asker.name)
    return head


def set_arch(records: Records, catalog: Catalog, asker: Identity, ref: str, *, arch: str, operation: str) -> Head:
    """The template with this architecture. Raises NameInvalid, TemplateNotFound, NameAmbiguous, Forbidden."""
    arch = names.arch(arch)
    if not arch:
        raise NameInvalid(what="architecture", text=arch, reason="it is neither arm64 nor amd64")
    head = change(
        records,
        catalog,
        asker,
        ref,
        operation=operation,
        action=Action.SET_ARCH,
        make=lambda head: replace(head, arch=arch),
    )
    emit("arch-set", template=head.id, arch=head.arch, by=asker.name)
    return head


def retag(records: Records, catalog: Catalog, asker: Identity, ref: str, *, tag: str, new: str, operation: str) -> Head:
    """The template with the tag `new` for the version of this tag, which stays in its place.

    Raises TagNotFound, NewTagTaken, NameInvalid, TemplateNotFound, NameAmbiguous, Forbidden.
    """
    new = names.tag(new)
    head = change(
        records,
        catalog,
        asker,
        ref,
        operation=operation,
        action=Action.PUSH,
        make=lambda head: head.retag(head.select(tag=tag), new),
    )
    emit("version-retagged", template=head.id, tag=tag, new=new, by=asker.name)
    return head
