"""A pusher: it has templates of its own, and knows at any time which versions these must have.

What nobody knows, because a push was killed or gave up, is found out by looking: a version that came after all has that
push's name.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from s3reg import wire
from s3reg.client import clones
from s3reg.client.progress import Silent
from s3reg.client.pull import PullOptions
from s3reg.client.push import PushOptions, push
from s3reg.errors import S3regError, TemplateNotFound
from s3reg.wire import sessions
from s3reg.wire import trash as messages
from soak import vms
from soak.actor import SHARED, Actor, operation
from soak.book import Violation
from soak.killed import Killed

if TYPE_CHECKING:
    from collections.abc import Callable

    from soak.actor import Stage

MOST_TEMPLATES, MOST_VERSIONS = 3, 8
OVER = ("session-expired", "session-not-found")
"""What a push may say that was silent for too long."""
TAKEN = ("tag-taken", "too-busy", "tag-not-found", "template-not-found", "version-not-found", "version-changed")
"""What may come of it where others change the same template."""
_SLOW = 0.4
"""Of all pushes are held back, so that sweeps begin and end while they last."""
_RATES = (500_000, 3_000_000)
_FOREIGN = 0.35
"""Of all pushes build on another template too."""
_KILLED = 0.2
"""Of all pushes."""
_KILLED_AGAIN, _ABANDONED = 0.3, 0.4
"""Of those."""
_LATER = 6
"""Seconds at most before a killed push is taken up again: some sessions have ended by then."""
_LOST, _SWEEPS_COME = 0.15, 4
"""Of all pushes lose their base meanwhile; then they wait so many seconds, at most."""
_AT_ONCE = 0.3
"""Of what is removed goes for good at once."""
GONE = ("not-in-trash", "trash-empty", "template-not-found")
"""What a restore may say of what is let go at that moment."""
_LAST_MOMENT = 4
"""Seconds before its end in which what lies in the trash may be gone: the answer takes a while."""


@dataclass
class Owned:
    """A template of this pusher's, and what it must have."""

    id: str
    name: str
    versions: dict[str, str] = field(default_factory=dict)
    """Tags, by version."""
    perhaps: set[str] = field(default_factory=set)
    """Pushes of which nobody knows whether they came to their end."""
    perhaps_gone: set[str] = field(default_factory=set)
    """Versions that such a push was to replace."""
    pushed: int = 0


class Meanwhile(Silent):
    """A push's progress that does something else, once, when the push has begun. `failed`: what that ended with."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act: list[Callable[[], None]] = [act]
        self.failed: BaseException | None = None

    def advance(self, count: int) -> None:
        """Some bytes were hashed, or sent."""
        del count
        try:
            self._act.pop()()
        except IndexError:
            pass
        except BaseException as e:  # noqa: BLE001 - it is raised again, where it is seen
            self.failed = e


class Pusher(Actor):
    """One of them. `shares`: it pushes to the shared template too."""

    def __init__(self, stage: Stage, name: str, *, shares: bool) -> None:
        super().__init__(stage, name)
        self._shares = shares
        self._owned = [Owned(str(uuid.UUID(int=self.chance.getrandbits(128), version=4)), f"{name}-0")]
        self._pushes = 0
        self._make(self._owned[0])

    def turn(self) -> None:
        """One change of one template, and a look at what it has then."""
        if self._shares and self.chance.random() < 0.25:
            self._share()
            return
        owned = self.chance.choice(self._owned)
        full = len(owned.versions) >= MOST_VERSIONS
        ways = {
            self._push: 4 if full else 12,
            self._force: 3,
            self._clone: 2,
            self._untag: 12 if full else 4,
            self._revert: 3,
            self._delete: 1,
            self._restore: 4,
            self._purge: 2,
            self._retag: 1,
        }
        self.chance.choices(list(ways), list(ways.values()))[0](owned)
        self._look(owned)

    # --- Pushes ------------------------------------------------------------------------------------------------------

    def _push(self, owned: Owned) -> None:
        """A new version; perhaps on chunks of another template too."""
        owned.pushed += 1
        bases: tuple[str, ...] = ()
        if self.chance.random() < _FOREIGN and (found := self.templates()):
            bases = (
                self.chance.choice([*(one.id for one in self._owned if one.versions), self.chance.choice(found).id]),
            )
        self._bring(owned, f"t{owned.pushed}", None, bases)

    def _force(self, owned: Owned) -> None:
        """A version in the place of another."""
        if owned.versions:
            old = self.chance.choice(list(owned.versions))
            self.book.doom([old])
            self._bring(owned, owned.versions[old], old, ())

    def _bring(self, owned: Owned, tag: str, old: str | None, bases: tuple[str, ...]) -> None:
        name = self._changed(owned.id)
        options = PushOptions(tag, description=name, force=old is not None, bases=bases)
        # Until it is known, both may be.
        owned.perhaps.add(name)
        owned.perhaps_gone |= {old} if old else set()
        self.counts.add("pushes begun")
        try:
            version = self._sent(owned, options)
        except TemplateNotFound as e:
            # Somebody deleted the base.
            self.may_fail("push", e, *(["template-not-found"] if bases else []))
            return
        except S3regError as e:
            self.may_fail("push", e, *OVER)
            return
        if version is None:
            return
        self.book.tie(version, name)
        owned.perhaps.discard(name)
        owned.versions[version] = tag
        if old:
            owned.perhaps_gone.discard(old)
            owned.versions.pop(old, None)
        self.counts.add("pushes forced" if old else "pushes")

    def _sent(self, owned: Owned, options: PushOptions) -> str | None:
        """The version that came of it; None if nobody knows, as when the machine is lost."""
        rate = self.chance.randint(*_RATES)
        if self.chance.random() < _KILLED:
            killed = Killed(self, owned.id, options, rate)
            while self.chance.random() < _KILLED_AGAIN or not killed.tries:
                if killed.run():
                    return self._version_of(owned, options.description)
            if self.chance.random() < _ABANDONED:
                self._abandon(owned)
                return None
            time.sleep(self.chance.choice((0, self.chance.uniform(0, _LATER))))
            self.counts.add("pushes resumed")
        connection = self.slowly(rate) if self.chance.random() < _SLOW else self.connection
        base = next((one for one in self._owned if one.id in options.bases), owned)
        meanwhile = Meanwhile(lambda: self._lose(base)) if self.chance.random() < _LOST else Silent()
        try:
            done = push(connection, self.library, self.library.find(owned.id), options, meanwhile)
        finally:
            if connection is not self.connection:
                connection.close()
            if isinstance(meanwhile, Meanwhile) and meanwhile.failed is not None:
                raise meanwhile.failed
        self.counts.add("bytes sent", done.sent)
        # A run that was killed after its end had made it; since that was found out, it may have gone with the base.
        return None if done.already and isinstance(meanwhile, Meanwhile) else done.answer.version

    def _lose(self, base: Owned) -> None:
        """What a push under way builds on goes for good, and sweeps come by."""
        if not base.versions:
            return
        self._delete(base)
        self._purged(base)
        self.counts.add("bases lost")
        time.sleep(self.chance.uniform(0, _SWEEPS_COME))

    def _version_of(self, owned: Owned, name: str) -> str:
        """The version that this push made, which has to be there."""
        found = [one.id for one in self.describe(owned.id) if one.description == name]
        if len(found) != 1:
            raise Violation(f"{owned.id}: the push {name} came to its end, and its versions are {found}")
        return found[0]

    def _changed(self, template: str) -> str:
        """Change a VM for a push; the push's name."""
        self._pushes += 1
        name = f"{self.name}-{self._pushes}"
        vm = self.library.find(template)
        vms.change([file.path for file in vm.files if file.drive is not None], self.chance)
        vms.name_push(vm.folder / vm.config_name, name)
        self.book.note(name, self.library.find(template))
        return name

    def _abandon(self, owned: Owned) -> None:
        """The machine is lost with its push; another one takes its place."""
        self.counts.add("pushes abandoned")
        if self.chance.random() < 0.5:
            answer = self.connection.ask(sessions.SessionsAnswerSchema, "GET", f"{wire.PREFIX}/sessions")
            for one in answer.sessions:
                if one.template == owned.id:
                    self.connection.call("POST", f"{wire.PREFIX}/sessions/abort", {"session": one.session})
                    self.counts.add("pushes aborted")
        self.forget()
        for one in self._owned:
            try:
                self.pull(one.id, PullOptions())
            except TemplateNotFound:
                self._make(one)

    def _clone(self, owned: Owned) -> None:
        """Another VM that begins as this one; a push of it is a template of its own."""
        if len(self._owned) < MOST_TEMPLATES:
            name = f"{self.name}-{len(self._owned)}"
            self._owned.append(Owned(clones.clone(self.library, owned.id, name).id, name))
            self.counts.add("clones")
            self._push(self._owned[-1])
            self._look(self._owned[-1])

    def _make(self, owned: Owned) -> None:
        vms.make(self.library.root, owned.id, owned.name, self.chance)

    # --- What goes, and comes back -----------------------------------------------------------------------------------

    def _untag(self, owned: Owned) -> None:
        if not owned.versions:
            return
        version = self.chance.choice(list(owned.versions))
        self.book.doom([version])
        wanted = messages.Untag(operation(), owned.id, version=version)
        self._removed(owned, [version], self.post(wire.RevertedSchema, "/untag", wanted))
        self.counts.add("untags")
        self._perhaps_purge(owned)

    def _revert(self, owned: Owned) -> None:
        """A version and all newer ones."""
        found = self._look(owned)
        if not found:
            return
        going = found[self.chance.randrange(len(found)) :]
        self.book.doom(one.id for one in going)
        wanted = wire.Revert(operation(), owned.id, tag=going[0].tag, newest=going[-1].id)
        try:
            done = self.post(wire.RevertedSchema, "/revert", wanted)
        except S3regError as e:
            # A push of which nobody knew may have come to its end meanwhile.
            self.may_fail("revert", e, *(["template-changed"] if owned.perhaps else []))
            return
        self._removed(owned, [one.id for one in going], done)
        self.counts.add("reverts")
        self._perhaps_purge(owned)

    def _delete(self, owned: Owned) -> None:
        """The template itself, for a while."""
        found = self._look(owned)
        if not found:
            return
        self.book.doom(one.id for one in found)
        wanted = wire.Revert(operation(), owned.id, everything=True, newest=found[-1].id)
        try:
            done = self.post(wire.RevertedSchema, "/revert", wanted)
        except S3regError as e:
            self.may_fail("delete", e, *(["template-changed"] if owned.perhaps else []))
            return
        self._removed(owned, [one.id for one in found], done)
        self.counts.add("deletes")
        self._perhaps_purge(owned)

    def _removed(self, owned: Owned, going: list[str], done: wire.Reverted) -> None:
        tags = [owned.versions.pop(version) for version in going]
        if list(done.removed) != tags:
            raise Violation(f"{owned.id}: {tags} were to go, {list(done.removed)} went")

    def _restore(self, owned: Owned) -> None:
        """One or all of what went last."""
        there = self._trash(owned)
        if not there:
            return
        chosen = [self.chance.choice(there)]
        if self.chance.random() < 0.4:
            chosen = list({one.tag: one for one in there if one.tag not in owned.versions.values()}.values()) or chosen
        taken = chosen[0].tag in owned.versions.values()
        owned.pushed += 1
        as_tag = f"t{owned.pushed}" if taken else None
        wanted = messages.Restore(operation(), owned.id, tuple(one.version for one in chosen), as_tag=as_tag)
        try:
            self.post(messages.RestoredSchema, "/trash/restore", wanted)
        except S3regError as e:
            late = min(one.until for one in chosen) - time.time() < _LAST_MOMENT
            self.may_fail("restore", e, *(GONE if late else ()), *(["restore-tag-taken"] if owned.perhaps else []))
            return
        owned.versions |= {one.version: as_tag or one.tag for one in chosen}
        self.counts.add("restores", len(chosen))

    def _purge(self, owned: Owned) -> None:
        """What lies in the trash, or one of it."""
        there = self._trash(owned)
        if there:
            self._purged(owned, None if self.chance.random() < 0.5 else (self.chance.choice(there).version,))

    def _perhaps_purge(self, owned: Owned) -> None:
        """Others build on what went just now: what they use of it has to stay."""
        if self.chance.random() < _AT_ONCE:
            self._purged(owned)

    def _purged(self, owned: Owned, some: tuple[str, ...] | None = None) -> None:
        """Let go what lies in the trash; of a template that is deleted, a sweep may have done so."""
        try:
            done = self.post(messages.PurgedSchema, "/trash/purge", messages.Purge(operation(), owned.id, some))
        except TemplateNotFound as e:
            self.may_fail("purge", e, *(() if owned.versions else ("template-not-found",)))
        else:
            self.counts.add("purges", done.purged)

    def _retag(self, owned: Owned) -> None:
        if owned.versions:
            version = self.chance.choice(list(owned.versions))
            self.book.doom([version])
            owned.pushed += 1
            old, new = owned.versions[version], f"t{owned.pushed}"
            self.post(messages.RetaggedSchema, "/retag", messages.Retag(operation(), owned.id, old, new))
            owned.versions[version] = new
            self.counts.add("retags")

    def _trash(self, owned: Owned) -> list[messages.TrashEntry]:
        try:
            return self.trash(owned.id)
        except TemplateNotFound:
            return []

    # --- What it must have -------------------------------------------------------------------------------------------

    def _look(self, owned: Owned) -> list[wire.VersionEntry]:
        """The template's versions. Raises Violation unless they are what they must be."""
        try:
            found = self.describe(owned.id)
        except TemplateNotFound:
            found = []
        for one in found:
            if one.id not in owned.versions and one.description in owned.perhaps:
                self.book.tie(one.id, one.description)
                owned.perhaps.discard(one.description)
                owned.versions[one.id] = one.tag
        seen = {one.id: one.tag for one in found}
        for version in owned.perhaps_gone & (owned.versions.keys() - seen.keys()):
            owned.perhaps_gone.discard(version)
            del owned.versions[version]
        if seen != owned.versions:
            raise Violation(f"{owned.id} has {seen}, and must have {owned.versions}")
        return found

    # --- What others change too ---------------------------------------------------------------------------------------

    def _share(self) -> None:
        """A push to the template that everybody pushes to, or a version less of it."""
        try:
            found = self.describe(SHARED)
        except TemplateNotFound:
            found = []
        try:
            if len(found) > MOST_VERSIONS:
                self.post(wire.RevertedSchema, "/untag", messages.Untag(operation(), SHARED, version=found[0].id))
                self.counts.add("untags")
                return
            tag = f"t{self.chance.randrange(MOST_VERSIONS + 4)}"
            name = self._changed(self._owned[0].id)
            force = self.chance.random() < 0.5
            options = PushOptions(tag, description=name, remote_vm=SHARED, force=force)
            done = push(self.connection, self.library, self.library.find(self._owned[0].id), options, Silent())
        except S3regError as e:
            self.may_fail("shared push", e, *OVER, *TAKEN)
            return
        self.book.tie(done.answer.version, name)
        self.counts.add("pushes shared")
        self.counts.add("bytes sent", done.sent)
