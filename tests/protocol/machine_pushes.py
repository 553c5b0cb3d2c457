"""The machine's pushes: whole ones, and those that are left, taken up again, given up, or come too late."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from protocol.machine import Deed, Errors
from protocol.machine_checks import Checked
from protocol.machine_drawn import DAY, HOUR, IDS, NAMES, TAG, VM, WELL, WHICH, WORD, how, pick
from protocol.machine_model import Row
from protocol.machine_node import Push, Vm
from s3reg.errors import NameTaken, SessionExpired, SessionNotFound, TagTaken
from s3reg.model import format as fmt
from s3reg.model.identity import EVERYONE
from s3reg.model.names import TemplateId
from s3reg.model.template import Base

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from protocol.machine import Under
    from protocol.machine_drawn import How
    from s3reg.model.template import Head

HOW = how(16)


class Pushes(Checked):
    """What nodes that push may do."""

    # --- Verbs -------------------------------------------------------------------------------------------------------

    def open(self, push: Push, how: How = WELL) -> Under | None:
        """A session for the push, with the bases that it may use."""
        self.opening = True
        newest = self.model[push.template].shown[-1:]
        wanted = {*push.bases, *(Base(push.template, row.id) for row in newest)}
        answer = self.attempt(
            "open",
            lambda registry: push.open(registry, self.store),
            lambda: self._place_refused(push),
            how,
            perhaps={SessionExpired, SessionNotFound},
        )
        if answer is None:
            return None
        under = self.pushes[push.sid]
        under.push = push
        if not how.meanwhile:
            self._check_usable(push, wanted)
        return under

    def _check_usable(self, push: Push, wanted: set[Base], known: AbstractSet[Base] = frozenset()) -> None:
        """What is listed may be built on, unless a sweep that died has its marker on it; nothing else may."""
        sound = {Base(TemplateId(id_), row.id) for id_, row in self.model.shown()} & wanted
        fresh = push.usable.keys() - known
        assert fresh <= sound
        if not any(self.store.list(fmt.MARKERS)):
            assert fresh == sound - known
        self.counts["base used"] += len(fresh)
        self.counts["base dropped"] += len(wanted - push.usable.keys())

    def upload(self, under: Under, how: How = WELL) -> None:
        push = under.push
        if push.files is None:
            self.attempt(
                "upload", lambda registry: push.upload(registry, self.store), lambda: self._beat_refused(under), how
            )

    def commit(self, under: Under, how: How = WELL) -> None:
        if under.push.files is not None:
            self.do(self.committing(under), how)

    def committing(self, under: Under) -> Deed:
        push = under.push
        return self.deeds.get(push.sid) or Deed(
            "commit",
            push.sid,
            push.commit,
            lambda: self._commit_refused(under),
            lambda id_, _: self._committed(under, id_),
        )

    def _committed(self, under: Under, id_: str) -> None:
        push = under.push
        assert not under.committed
        assert id_ == push.template
        assert under.gone or not under.expired, "a push that was given up became visible"
        self._visible(under, push, push.sid, self.heads()[id_], frozenset(push.needs))

    def _visible(self, under: Under, push: Push, vid: str, head: Head, needs: frozenset[str]) -> None:
        """A head names the version."""
        under.committed = True
        created = {entry.id: entry.created for entry in (*head.versions, *head.removed)}.get(vid, self.clock.now)
        # What replaced another was made later, if only by the second that each such step takes.
        assert under.opened <= created <= self.clock.now + len(head.removed)
        row = Row(vid, push.tag, push.description, created, push.vm, needs)
        self.made[vid] = (head.id, row)
        self.model[head.id].commit(row, push.name)

    def _ended(self, under: Under) -> Errors:
        if under.gone:
            return {SessionNotFound}
        return {SessionExpired} if under.expired else set()

    def _beat_refused(self, under: Under) -> Errors:
        """Of what keeps a session alive: one that was open for too long takes no heartbeat."""
        too_old = under.beat - under.opened > self.limits.age_seconds
        return self._ended(under) or ({SessionExpired} if too_old else set())

    def _place_refused(self, push: Push) -> Errors:
        template, found = self.model[push.template], set()
        if not push.force and template.tagged(push.tag):
            found.add(TagTaken)
        if not template.shown and self.model.name_taken(push.name, push.template):
            found.add(NameTaken)
        return found

    def _commit_refused(self, under: Under) -> Errors:
        if not under.committed:
            return self._ended(under) or self._place_refused(under.push)
        shown = any(row.id == under.push.sid for row in self.model[under.push.template].shown)
        return set() if shown else {SessionNotFound}

    # --- What others do meanwhile, too ---

    def push(self, which: int, tag: str, vm: Vm, force: bool, base: int) -> None:
        self._push(self._new(pick(IDS, which), tag, vm, force=force, base=base), 0, WELL)

    def go_on(self, which: int, how: How = WELL) -> None:
        """Whoever left a push takes it up, though it was given up, or committed long ago."""
        if self.left():
            under = self.one_left(which)
            self.upload(under)
            self.commit(under, how)

    def give_up(self, which: int, how: How = WELL) -> None:
        if self.left():
            under = self.one_left(which)
            self.aborting.add(under.push.sid)
            self.attempt("abort", lambda registry: registry.abort(EVERYONE, under.push.sid), set, how)
            assert under.expired or under.gone or how.trouble

    def left(self) -> list[Under]:
        """Pushes that somebody may go on with, or try to."""
        return [under for under in self.pushes.values() if under.push is not None]

    def one_left(self, which: int) -> Under:
        """Mostly one that is under way still."""
        live = [under for under in self.left() if not under.gone]
        return pick(live if live and which % 4 else self.left()[::-1], which)

    def ever(self) -> list[Base]:
        """Every version that ever was there."""
        return [Base(TemplateId(id_), vid) for vid, (id_, _) in self.made.items()]

    def _new(self, template: TemplateId, tag: str, vm: Vm, *, force: bool = False, base: int = 0) -> Push:
        bases = (pick(self.ever(), base),) if self.ever() and base % 2 else ()
        known = self.model[template]
        name = known.name if known.shown else pick(NAMES, IDS.index(template) + base)
        return Push(template, name, tag, vm, f"{tag} at {self.clock.now}", force=force, bases=bases)

    def _push(self, push: Push, stage: int, how: How) -> None:
        """A whole push; what goes wrong, goes wrong at one stage of it."""
        opening, uploading, committing = (how if number == stage % 3 else WELL for number in range(3))
        under = self.open(push, opening)
        if under is not None:
            self.upload(under, uploading)
            self.commit(under, committing)

    # --- Rules -------------------------------------------------------------------------------------------------------

    @rule(which=WHICH, tag=TAG, vm=VM, force=st.booleans(), base=WHICH, stage=WHICH, how=HOW)
    def push_something(self, *, which: int, tag: str, vm: Vm, force: bool, base: int, stage: int, how: How) -> None:
        self.step()
        self._push(self._new(pick(IDS, which), tag, vm, force=force, base=base), stage, how)

    @precondition(lambda self: self.model.shown())
    @rule(which=WHICH, tag=TAG, edits=st.lists(st.tuples(WHICH, WORD), max_size=2), stage=WHICH, how=HOW)
    def push_a_delta(self, *, which: int, tag: str, edits: list[Any], stage: int, how: How) -> None:
        """No edit: the VM is pushed as it was."""
        self.step()
        id_, row = pick(self.model.shown(), which)
        disks = [list(words) for words in row.vm.disks]
        for at, word in edits:
            disk = pick(disks, at)
            disk[at % len(disk)] = word
        self.counts["delta" if edits else "unchanged"] += 1
        self._push(self._new(TemplateId(id_), tag, Vm(tuple(map(tuple, disks)), row.vm.note)), stage, how)

    @precondition(lambda self: self.model.shown() and len(self.model.there()) < len(IDS))
    @rule(which=WHICH, tag=TAG, stage=WHICH, how=HOW)
    def clone(self, *, which: int, tag: str, stage: int, how: How) -> None:
        """A template of its own, on another one's version."""
        self.step()
        id_, row = pick(self.model.shown(), which)
        push = self._new(pick([one for one in IDS if one not in self.model.there()], which), tag, row.vm)
        push.bases = (Base(TemplateId(id_), row.id),)
        self.counts["clone"] += 1
        self._push(push, stage, how)

    @precondition(lambda self: self.model.shown())
    @rule(which=WHICH, vm=VM, stage=WHICH, how=HOW)
    def push_by_force(self, *, which: int, vm: Vm, stage: int, how: How) -> None:
        self.step()
        id_, row = pick(self.model.shown(), which)
        self.counts["force"] += 1
        self._push(self._new(TemplateId(id_), row.tag, vm, force=True), stage, how)

    @rule(which=WHICH, tag=TAG, vm=VM, force=st.booleans(), base=WHICH, uploads=st.booleans(), how=HOW)
    def leave_a_push(self, *, which: int, tag: str, vm: Vm, force: bool, base: int, uploads: bool, how: How) -> None:
        self.step()
        push = self._new(pick(IDS, which), tag, vm, force=force, base=base)
        under = self.open(push, WELL if uploads else how)
        if under is not None and uploads:
            self.upload(under, how)

    @precondition(lambda self: self.left())
    @rule(which=WHICH, how=HOW)
    def go_on_with_a_push(self, *, which: int, how: How) -> None:
        self.step()
        self.go_on(which, how)

    @precondition(lambda self: self.left())
    @rule(which=WHICH, how=HOW)
    def abort_a_push(self, *, which: int, how: How) -> None:
        self.step()
        self.give_up(which, how)

    @precondition(lambda self: self.left())
    @rule(which=WHICH, how=HOW)
    def send_a_heartbeat(self, *, which: int, how: How) -> None:
        self.step()
        under = self.one_left(which)
        sid = under.push.sid
        self.attempt(
            "heartbeat",
            lambda registry: registry.sign_uploads(EVERYONE, sid, []),
            lambda: self._beat_refused(under),
            how,
        )

    @precondition(lambda self: self.ever() and any(under.push.files is None for under in self.left()))
    @rule(which=WHICH, base=WHICH, how=HOW)
    def ask_for_a_base(self, *, which: int, base: int, how: How) -> None:
        self.step()
        under = pick([under for under in self.left() if under.push.files is None], which)
        push, wanted = under.push, pick(self.ever()[::-1], base)
        if self.clock.now - under.opened > self.limits.age_seconds:
            return  # it is written twice: refused the first time or the second
        known = set(push.usable)
        answer = self.attempt(
            "add base",
            lambda registry: push.add(registry, self.store, (wanted,)),
            lambda: self._beat_refused(under),
            how,
        )
        if answer is not None and not how.meanwhile:
            self._check_usable(push, {wanted}, known)

    @precondition(lambda self: any(not under.gone for under in self.left()))
    @rule(which=WHICH, seconds=st.sampled_from([25 * HOUR, 8 * DAY]))
    def commit_late(self, *, which: int, seconds: int) -> None:
        """A sweep gave the push up; its commit is refused, and loses nothing."""
        self.step()
        under = pick([under for under in self.left() if not under.gone], which)
        self.upload(under)
        self.jump(seconds)
        self.sweep()
        assert under.gone
        self.counts["late"] += 1
        self.commit(under)
