"""What Hypothesis draws for the machine: VMs, what goes wrong with a verb, and what others do while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from hypothesis import strategies as st

from protocol.machine_node import Vm
from protocol.machine_troubles import KINDS, Trouble
from s3reg.model.names import TemplateId

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

HOUR, DAY = 3600, 24 * 3600
IDS = [TemplateId(f"00000000-0000-4000-8000-00000000000{n}") for n in range(1, 5)]
NAMES = ["sequoia", "sonoma", "tahoe"]
"""Fewer than templates: some want one that is taken."""


class How(NamedTuple):
    """How it goes with a verb."""

    trouble: Trouble | None = None
    meanwhile: Sequence[tuple[int, Sequence[tuple[Any, ...]]]] = ()
    """At which store call of the verb, from 1, others do what: a method of the machine, and its arguments."""


WELL = How()

WHICH = st.integers(0, 30)
"""Of whatever there is when the time comes."""
TAG = st.sampled_from(["v1", "v2", "v3", "v4"])
WORD = st.integers(0, 9)
VM = st.builds(
    Vm,
    st.lists(st.lists(WORD, min_size=1, max_size=4).map(tuple), min_size=1, max_size=2).map(tuple),
    st.integers(0, 3),
)
JUMP = st.sampled_from([1, 50 * 60, 70 * 60, 23 * HOUR, 25 * HOUR, 3 * DAY, 8 * DAY])

ACTION = st.one_of(
    st.tuples(st.sampled_from(["delete", "purge", "revert", "untag", "erase", "go_on", "give_up"]), WHICH),
    st.tuples(st.just("restore"), WHICH, st.none() | TAG),
    st.tuples(st.just("jump"), JUMP),
    st.tuples(st.sampled_from(["sweep", "purge_all"])),
    st.tuples(st.just("push"), WHICH, TAG, VM, st.booleans(), WHICH),
)


def how(calls: int) -> st.SearchStrategy[How]:
    """For a verb that makes about so many store calls: well, mostly; or with trouble, or others, or both."""
    at = st.integers(1, calls)
    trouble = st.builds(Trouble, st.sampled_from(sorted(KINDS)), at, st.booleans())
    others = st.lists(st.tuples(at, st.lists(ACTION, min_size=1, max_size=3)), min_size=1, max_size=2)
    nobody = st.just(())
    return st.one_of(
        st.just(WELL),
        st.builds(How, trouble, nobody),
        st.builds(How, st.none(), others),
        st.builds(How, trouble, others),
    )


def pick(among: Sequence[T], which: int) -> T:
    return among[which % len(among)]
