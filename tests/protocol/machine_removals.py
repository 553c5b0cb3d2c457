"""What the machine takes out of templates, brings back, and lets go for good."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from protocol.machine import Deed, Errors
from protocol.machine_checks import Checked
from protocol.machine_drawn import IDS, TAG, WELL, WHICH, how, pick
from s3reg.errors import NameTaken, NewTagTaken, NotInTrash, RestoreTagTaken, TagNotFound, TemplateNotFound
from s3reg.model.identity import EVERYONE
from s3reg.model.names import TemplateId

if TYPE_CHECKING:
    from collections.abc import Callable

    from protocol.machine_drawn import How
    from protocol.machine_model import Template
    from s3reg.registry import Registry

HOW = how(8)


class Removals(Checked):
    """What those who look after templates may do."""

    # --- Verbs, each one compare-and-swap ----------------------------------------------------------------------------

    def reverting(self, which: int) -> Deed | None:
        """A version, by its tag or number, and all newer ones; or the newest."""
        if not self.model.shown():
            return None
        id_, row = pick(self.model.shown(), which)
        tag = None if which % 3 == 0 else row.tag

        def apply(template: Template) -> None:
            first = -1 if tag is None else template.shown.index(template.tagged(tag))
            template.remove(template.shown[first:])

        return _deed(
            "revert",
            lambda registry, operation: registry.revert(EVERYONE, id_, tag=tag, operation=operation),
            lambda: self._missing(id_, tag),
            apply,
        )

    def untagging(self, which: int) -> Deed | None:
        if not self.model.shown():
            return None
        id_, row = pick(self.model.shown(), which)
        return _deed(
            "untag",
            lambda registry, operation: registry.untag(EVERYONE, id_, tag=row.tag, operation=operation),
            lambda: self._missing(id_, row.tag),
            lambda template: template.remove([template.tagged(row.tag)]),
        )

    def deleting(self, which: int) -> Deed:
        return self._deleting(pick(self.model.there() or IDS, which))

    def _deleting(self, id_: str) -> Deed:
        return _deed(
            "delete",
            lambda registry, operation: registry.delete(EVERYONE, id_, operation=operation),
            lambda: self._missing(id_),
            lambda template: template.remove(template.shown),
        )

    def retagging(self, which: int, new: str) -> Deed | None:
        if not self.model.shown():
            return None
        id_, row = pick(self.model.shown(), which)

        def refused() -> Errors:
            taken = {NewTagTaken} if new != row.tag and self.model[id_].tagged(new) else set()
            return self._missing(id_, row.tag) or taken

        return _deed(
            "retag",
            lambda registry, operation: registry.retag(EVERYONE, id_, tag=row.tag, new=new, operation=operation),
            refused,
            lambda template: template.retag(row.tag, new),
        )

    def restoring(self, which: int, as_tag: str | None = None) -> Deed | None:
        """One version of the trash; where no tag is given, sometimes all that its template has there."""
        if not self.model.trash():
            return None
        id_, row = pick(self.model.trash(), which)
        ids = {row.id} if as_tag or which % 3 else {one.id for one in self.model[id_].trash}

        def refused() -> Errors:
            template, found = self.model[id_], set()
            if not (template.shown or template.trash):
                return {TemplateNotFound}
            rows = [one for one in template.trash if one.id in ids]
            tags = [as_tag or one.tag for one in rows] + [one.tag for one in template.shown]
            if len(rows) < len(ids):
                found.add(NotInTrash)
            if len(set(tags)) < len(tags):
                found.add(RestoreTagTaken)
            if not template.shown and self.model.name_taken(template.name, id_):
                found.add(NameTaken)
            return found

        return _deed(
            "restore",
            lambda registry, operation: registry.restore(
                EVERYONE, TemplateId(id_), versions=ids, as_tag=as_tag, operation=operation
            ),
            refused,
            lambda template: template.restore(ids, as_tag),
        )

    def purging(self, which: int) -> Deed | None:
        """One version of the trash, or all of its template's."""
        if not self.model.trash():
            return None
        id_, row = pick(self.model.trash(), which)
        return self._purging(id_, {row.id} if which % 2 else None)

    def _purging(self, id_: str, ids: set[str] | None = None) -> Deed:
        def going(template: Template) -> list[Any]:
            return [one for one in template.trash if ids is None or one.id in ids]

        return _deed(
            "purge",
            lambda registry, operation: registry.purge(EVERYONE, TemplateId(id_), versions=ids, operation=operation),
            lambda: set() if self.model[id_].shown or self.model[id_].trash else {TemplateNotFound},
            lambda template: template.let_go(going(template)),
            lambda: not going(self.model[id_]),
        )

    def purging_all(self) -> Deed:
        return _deed(
            "purge all",
            lambda registry, operation: registry.purge(EVERYONE, None, operation=operation),
            set,
            lambda template: template.let_go(list(template.trash)),
            lambda: not self.model.trash(),
        )

    def _missing(self, id_: str, tag: str | None = None) -> Errors:
        template = self.model[id_]
        if not template.shown:
            return {TemplateNotFound}
        return set() if tag is None or template.tagged(tag) else {TagNotFound}

    # --- What others do meanwhile, too ---

    def revert(self, which: int, how: How = WELL) -> None:
        self._do(self.reverting(which), how)

    def untag(self, which: int, how: How = WELL) -> None:
        self._do(self.untagging(which), how)

    def delete(self, which: int, how: How = WELL) -> None:
        self._do(self.deleting(which), how)

    def restore(self, which: int, as_tag: str | None, how: How = WELL) -> None:
        self._do(self.restoring(which, as_tag), how)

    def purge(self, which: int, how: How = WELL) -> None:
        self._do(self.purging(which), how)

    def purge_all(self, how: How = WELL) -> None:
        self._do(self.purging_all(), how)

    def erase(self, which: int) -> None:
        """A template goes for good, and a sweep comes at once."""
        self.delete(which)
        self.purge_all()
        self.sweep()

    def _do(self, deed: Deed | None, how: How) -> None:
        if deed is not None:
            self.do(deed, how)

    # --- Rules -------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.model.shown())
    @rule(which=WHICH, how=HOW)
    def revert_a_template(self, *, which: int, how: How) -> None:
        self.step()
        self.revert(which, how)

    @precondition(lambda self: self.model.shown())
    @rule(which=WHICH, how=HOW)
    def untag_a_version(self, *, which: int, how: How) -> None:
        self.step()
        self.untag(which, how)

    @precondition(lambda self: self.model.shown())
    @rule(which=WHICH, new=TAG, how=HOW)
    def retag_a_version(self, *, which: int, new: str, how: How) -> None:
        self.step()
        self._do(self.retagging(which, new), how)

    @rule(which=WHICH, how=HOW)
    def delete_a_template(self, *, which: int, how: How) -> None:
        self.step()
        self.delete(which, how)

    @precondition(lambda self: self.model.trash())
    @rule(which=WHICH, as_tag=st.none() | TAG, how=HOW)
    def restore_from_the_trash(self, *, which: int, as_tag: str | None, how: How) -> None:
        self.step()
        self.restore(which, as_tag, how)

    @precondition(lambda self: self.model.trash())
    @rule(which=WHICH, everything=st.booleans(), how=HOW)
    def purge_the_trash(self, *, which: int, everything: bool, how: How) -> None:
        self.step()
        self._do(self.purging_all() if everything else self.purging(which), how)


def _deed(
    what: str,
    call: Callable[[Registry, str], Any],
    refused: Callable[[], Errors],
    apply: Callable[[Template], None],
    idle: Callable[[], bool] = lambda: False,
) -> Deed:
    """A verb under an operation id of its own."""
    operation = secrets.token_hex(16)
    deed = Deed(
        what,
        operation,
        lambda registry: call(registry, operation),
        lambda: set() if deed.done else refused(),
        lambda _, template: apply(template),
        idle,
    )
    return deed
