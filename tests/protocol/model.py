"""The protocol of pushes, removals and sweeps (docs/design.md §4), small enough to try every interleaving of it.

Three templates, three versions. Version 0 lies under T0 and needs pack x. Push A builds on it and commits version a to T1;
push B builds on a and commits b to T2; each uploads a pack of its own. A push that may not use its base needs its own pack
only. Others revert, restore and purge what lies in T0 and T1, and sweep, at any moment. A process is a list of steps, and a
step is at most one request to the store. A crash is a process that takes no further step: every state that can be reached
is looked at, so every crash is.

Safe is: whatever a head names, in its versions or in its trash, is there: the version's record, and each pack that it needs.
Tidy is: where all processes have come to their ends, one more sweep leaves nothing that no head names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

X, OF_A, OF_B, RECORD_0, RECORD_A, RECORD_B = (1 << n for n in range(6))
"""What lies on the store, as bits: packs, and the records of versions."""
OWN = (OF_A, OF_B)
RECORDS = (RECORD_0, RECORD_A, RECORD_B)
TARGETS = (1, 2)
"""The template that each push commits to."""
END = 1000
"""So many steps on, every process has come to its end."""


class Head(NamedTuple):
    """A template's head; versions are bits, 1 << number."""

    gen: int
    versions: int
    removed: int


class State(NamedTuple):
    """Everything on the store, and where every process is."""

    objects: int
    needs: tuple[int, int, int]
    """The objects that each version needs; 0 as long as its record was never written."""
    heads: tuple[Head, Head, Head]
    sessions: tuple[str, str]
    """Of each push: nothing, `open`, `expired`, `gone`."""
    markers: tuple[int, int]
    """Of each sweep, what it is about to remove."""
    at: tuple[int, ...]
    """The step that each process is to take next."""
    knows: tuple[Any, ...]
    """What each process remembers."""


Outcome = tuple[State, Any, int]
"""The store after a step, what the process remembers, and how many steps it goes on: 0, the same again."""


@dataclass
class Process:
    """A list of steps. A weakness leaves steps out, or lets two of them change places."""

    name: str
    steps: list[Callable[[State, Any], list[Outcome]]] = field(default_factory=list)

    def without(self, *names: str) -> Process:
        """The same, without these steps."""
        assert set(names) <= {step.__name__ for step in self.steps}, names
        return Process(self.name, [step for step in self.steps if step.__name__ not in names])

    def swapped(self, one: str, other: str) -> Process:
        """The same, with two steps in each other's place."""
        steps = list(self.steps)
        i, j = ([step.__name__ for step in steps].index(name) for name in (one, other))
        steps[i], steps[j] = steps[j], steps[i]
        return Process(self.name, steps)

    def moved(self, names: Sequence[str], behind: str) -> Process:
        """The same, with these steps behind another one."""
        moving = [step for step in self.steps if step.__name__ in names]
        steps = [step for step in self.steps if step.__name__ not in names]
        place = [step.__name__ for step in steps].index(behind) + 1
        return Process(self.name, steps[:place] + moving + steps[place:])


def _put(row: tuple[Any, ...], index: int, value: Any) -> tuple[Any, ...]:
    return (*row[:index], value, *row[index + 1 :])


def _go(state: State, knows: Any, on: int = 1) -> list[Outcome]:
    return [(state, knows, on)]


def _needed(state: State, versions: int) -> int:
    """The objects that these versions need."""
    found = 0
    for number in range(3):
        if versions & 1 << number:
            found |= state.needs[number]
    return found


def _named(state: State, head: Head) -> int:
    return _needed(state, head.versions | head.removed)


def push(who: int, *, trusts_trash: bool = False) -> Process:
    """Push A or B: it builds on version `who`, the one that T0 or T1 has, and commits the next one."""
    base, source, target, version = who, who, TARGETS[who], who + 1

    def open_session(s: State, _: Any) -> list[Outcome]:
        return _go(s._replace(sessions=_put(s.sessions, who, "open")), True)

    def read_markers(s: State, usable: Any) -> list[Outcome]:
        touched = any(marker & s.needs[base] for marker in s.markers)
        return _go(s, bool(usable) and not touched)

    def read_base(s: State, usable: Any) -> list[Outcome]:
        head = s.heads[source]
        shown = head.versions | (head.removed if trusts_trash else 0)
        return _go(s, bool(usable) and bool(shown & 1 << base))

    def upload(s: State, usable: Any) -> list[Outcome]:
        return _go(s._replace(objects=s.objects | OWN[who]), usable)

    def list_own(s: State, usable: Any) -> list[Outcome]:
        return _go(s, usable, 1 if s.objects & OWN[who] else END)

    def write_record(s: State, usable: Any) -> list[Outcome]:
        if s.needs[version] and s.objects & RECORDS[version]:
            return _go(s, usable)
        needs = RECORDS[version] | OWN[who] | (s.needs[base] & ~RECORDS[base] if usable else 0)
        return _go(s._replace(objects=s.objects | RECORDS[version], needs=_put(s.needs, version, needs)), usable)

    def read_head(s: State, _: Any) -> list[Outcome]:
        return _go(s, s.heads[target])

    def read_session(s: State, seen: Any) -> list[Outcome]:
        return _go(s, seen, 1 if s.sessions[who] == "open" else END)

    def swap_head(s: State, seen: Any) -> list[Outcome]:
        head = s.heads[target]
        if (isinstance(seen, Head) and head != seen) or (head.versions | head.removed) & 1 << version:
            return _go(s, None, END)
        new = Head(head.gen + 1, head.versions | 1 << version, head.removed)
        return _go(s._replace(heads=_put(s.heads, target, new)), None)

    def drop_session(s: State, _: Any) -> list[Outcome]:
        return _go(s._replace(sessions=_put(s.sessions, who, "gone")), None)

    return Process(
        f"push {'AB'[who]}",
        [
            open_session,
            read_markers,
            read_base,
            upload,
            list_own,
            write_record,
            read_head,
            read_session,
            swap_head,
            drop_session,
        ],
    )


def _one_swap(name: str, template: int, change: Callable[[Head], Head]) -> Process:
    """A verb that is one compare-and-swap, tried again until it succeeds: to the others, one step."""

    def swap(s: State, _: Any) -> list[Outcome]:
        head = s.heads[template]
        new = change(head)
        if new == head:
            return _go(s, None)
        return _go(s._replace(heads=_put(s.heads, template, new._replace(gen=head.gen + 1))), None)

    return Process(f"{name} T{template}", [swap])


def revert(template: int) -> Process:
    """All versions go to the trash."""
    return _one_swap("revert", template, lambda head: Head(head.gen, 0, head.versions | head.removed))


def restore(template: int) -> Process:
    """All that the trash holds comes back."""
    return _one_swap("restore", template, lambda head: Head(head.gen, head.versions | head.removed, 0))


def purge(template: int) -> Process:
    """The trash is emptied."""
    return _one_swap("purge", template, lambda head: Head(head.gen, head.versions, 0))


def careless_restore(template: int) -> Process:
    """What a restore must not be: it looks into the trash, and writes what it saw there without comparing."""

    def look(s: State, _: Any) -> list[Outcome]:
        return _go(s, s.heads[template].removed)

    def write(s: State, saw: Any) -> list[Outcome]:
        head = s.heads[template]
        new = Head(head.gen + 1, head.versions | saw, head.removed & ~saw)
        return _go(s._replace(heads=_put(s.heads, template, new)), None)

    return Process(f"restore T{template}", [look, write])


def sweep(
    number: int,
    *,
    expires: Sequence[int] = (),
    order: Sequence[int] = (2, 1, 0),
    roots: Iterable[str] = ("open", "expired"),
    own_are_roots: bool = True,
    trash_is_root: bool = True,
) -> Process:
    """A sweep that may find the sessions of `expires` too old. Heads are read one at a time, in this order."""
    steps: list[Callable[[State, Any], list[Outcome]]] = []

    def list_objects(s: State, _: Any) -> list[Outcome]:
        return _go(s, s.objects)

    steps.append(list_objects)
    for who in expires:
        steps += _expiry(who)

    def held(s: State) -> int:
        found = 0
        for who, phase in enumerate(s.sessions):
            if phase in roots:
                found |= s.needs[who]
                found |= OWN[who] | RECORDS[who + 1] if own_are_roots else 0
        return found

    def named(s: State, template: int) -> int:
        return _named(s, s.heads[template]) if trash_is_root else _needed(s, s.heads[template].versions)

    def read_sessions(s: State, left: Any) -> list[Outcome]:
        return _go(s, left & ~held(s))

    def head_reader(template: int, when: str) -> Callable[[State, Any], list[Outcome]]:
        def read(s: State, left: Any) -> list[Outcome]:
            return _go(s, left & ~named(s, template))

        read.__name__ = f"{when}_T{template}"
        return read

    def mark(s: State, left: Any) -> list[Outcome]:
        return _go(s._replace(markers=_put(s.markers, number, left)), left) if left else _go(s, left, END)

    def read_sessions_again(s: State, left: Any) -> list[Outcome]:
        return _go(s, left & ~held(s))

    def marker_stands(s: State, left: Any) -> list[Outcome]:
        return _go(s, left, 1 if s.markers[number] else END)

    def delete(s: State, left: Any) -> list[Outcome]:
        # One at a time, in any order, so that an end in the middle is looked at too.
        bits = [1 << n for n in range(6) if left & 1 << n]
        if not bits:
            return _go(s, 0)
        return [(s._replace(objects=s.objects & ~bit), left & ~bit, 1 if left == bit else 0) for bit in bits]

    def unmark(s: State, _: Any) -> list[Outcome]:
        return _go(s._replace(markers=_put(s.markers, number, 0)), None)

    steps += [read_sessions, *(head_reader(template, "first") for template in order), mark, read_sessions_again]
    steps += [*(head_reader(template, "again") for template in order), marker_stands, delete, unmark]
    return Process(f"sweep {number}", steps)


def _expiry(who: int) -> list[Callable[[State, Any], list[Outcome]]]:
    """A session is expired, *then* its template's head is bumped, *then* the session goes; or it is not too old."""

    def expire(s: State, left: Any) -> list[Outcome]:
        young = _go(s, left, 1 if s.sessions[who] == "expired" else 3)
        if s.sessions[who] != "open":
            return young
        return [*young, (s._replace(sessions=_put(s.sessions, who, "expired")), left, 1)]

    def fence(s: State, left: Any) -> list[Outcome]:
        head = s.heads[TARGETS[who]]
        return _go(s._replace(heads=_put(s.heads, TARGETS[who], head._replace(gen=head.gen + 1))), left)

    def forget(s: State, left: Any) -> list[Outcome]:
        if s.sessions[who] == "expired":
            return _go(s._replace(sessions=_put(s.sessions, who, "gone")), left)
        return _go(s, left)

    return [expire, fence, forget]


def tidy(number: int) -> Process:
    """Somebody takes a sweep's marker for a dead one's, and removes it."""

    def remove_marker(s: State, _: Any) -> list[Outcome]:
        return _go(s._replace(markers=_put(s.markers, number, 0)), None)

    return Process("tidy", [remove_marker])


class Found(NamedTuple):
    """What an exploration came to."""

    states: int
    broken: list[str] | None
    """The steps that lead to the first state that is not safe."""
    untidy: list[str] | None
    """Those that lead to an end in which something is left that nobody names."""


def explore(processes: Sequence[Process], *, last: Process | None = None, most: int = 3_000_000) -> Found:
    """Every state that these processes can bring about, in any order of their steps; `last` sweeps up behind them."""
    last = last or sweep(0, expires=(0, 1))
    nothing = Head(0, 0, 0)
    start = State(
        objects=X | RECORD_0,
        needs=(RECORD_0 | X, 0, 0),
        heads=(Head(0, 1, 0), nothing, nothing),
        sessions=("", ""),
        markers=(0, 0),
        at=(0,) * len(processes),
        knows=(None,) * len(processes),
    )
    came: dict[State, tuple[State, str] | None] = {start: None}
    waiting = [start]
    untidy = None
    while waiting:
        state = waiting.pop()
        if any(_named(state, head) & ~state.objects for head in state.heads):
            return Found(len(came), _way(came, state), untidy)
        ended = True
        for number, process in enumerate(processes):
            at = state.at[number]
            if at >= len(process.steps):
                continue
            ended = False
            step = process.steps[at]
            for store, knows, on in step(state, state.knows[number]):
                after = at + on
                gone = after >= len(process.steps)
                new = store._replace(
                    at=_put(store.at, number, END if gone else after),
                    # What a process that has ended remembers tells no two states apart.
                    knows=_put(store.knows, number, None if gone else knows),
                )
                if new not in came:
                    came[new] = (state, f"{process.name}: {step.__name__}")
                    waiting.append(new)
        if ended and untidy is None and _left_over(state, last):
            untidy = _way(came, state)
        assert len(came) <= most, "too many states: make the case smaller"
    return Found(len(came), None, untidy)


def _left_over(state: State, last: Process) -> int:
    """What is there still, though no head names it, once `last` has run alone."""
    # Its sessions are all found too old: where a step has two outcomes, the last one is that.
    at, knows = 0, None
    state = state._replace(markers=(0, 0))
    while at < len(last.steps):
        state, knows, on = last.steps[at](state, knows)[-1]
        at += on
    named = 0
    for head in state.heads:
        named |= _named(state, head)
    return state.objects & ~named


def _way(came: dict[State, tuple[State, str] | None], state: State) -> list[str]:
    steps = []
    while (before := came[state]) is not None:
        state, step = before
        steps.append(step)
    return steps[::-1]
