"""The designed order is safe in every interleaving; each weaker one loses something, so the model is known to bite."""

import pytest

from protocol.model import careless_restore, explore, purge, push, restore, revert, sweep, tidy

A, B = push(0), push(1)
GONE = [revert(0), purge(0)]
ALL_GONE = [*GONE, revert(1), purge(1)]
AGAIN = ("again_T0", "again_T1", "again_T2")

SAFE = {
    "a push whose base goes, and a sweep that may give it up": [A, *GONE, restore(0), sweep(0, expires=(0,))],
    "a push on a push, and both bases go": [A, B, *ALL_GONE, sweep(0)],
    "the same, with heads read in the other order": [A, B, *ALL_GONE, sweep(0, order=(0, 1, 2))],
    "the same, and somebody removes the marker": [A, B, *ALL_GONE, sweep(0), tidy(0)],
    "two sweeps that may give the push up": [A, *GONE, sweep(0, expires=(0,)), sweep(1, expires=(0,))],
    "a base that only the trash names": [push(0, trusts_trash=True), push(1, trusts_trash=True), *ALL_GONE, sweep(0)],
}
SAFE_IN_MANY_STATES = {
    "a push on a push, whose bases go and come back": [A, B, *ALL_GONE, restore(0), restore(1), sweep(0)],
    "a push on a push, and both may be given up": [A, B, *ALL_GONE, sweep(0, expires=(0, 1))],
    "a push on a push, and two sweeps": [A, B, *ALL_GONE, sweep(0), sweep(1)],
    "two sweeps that may give the push up, and its base comes back": [
        A,
        *GONE,
        restore(0),
        sweep(0, expires=(0,)),
        sweep(1, expires=(0,)),
    ],
}
BROKEN = {
    "a push reads markers before its session is written": [
        A.swapped("open_session", "read_markers"),
        B.swapped("open_session", "read_markers"),
        *ALL_GONE,
        sweep(0),
    ],
    "a push reads no markers": [A.without("read_markers"), B.without("read_markers"), *ALL_GONE, sweep(0)],
    "a push does not look whether a head names its base": [A.without("read_base"), *GONE, sweep(0)],
    "a commit does not read its session again": [A.without("read_session"), *GONE, sweep(0, expires=(0,))],
    "a commit reads its session before the head": [
        A.swapped("read_head", "read_session"),
        *GONE,
        sweep(0, expires=(0,)),
    ],
    "a sweep does not mark": [A, B, *ALL_GONE, sweep(0).without("mark", "marker_stands")],
    "a sweep marks after its second look": [A, B, *ALL_GONE, sweep(0).moved(["mark"], behind="again_T0")],
    "a sweep does not read sessions again": [A, *GONE, sweep(0).without("read_sessions_again")],
    "a sweep does not read heads again": [A, *GONE, sweep(0).without(*AGAIN)],
    "a sweep's second look is at heads before sessions": [
        A,
        B,
        *ALL_GONE,
        sweep(0).moved(["read_sessions_again"], behind="again_T0"),
    ],
    "a sweep does not bump the head of a session that it gives up": [
        A,
        *GONE,
        sweep(0, expires=(0,)).without("fence"),
    ],
    "a session goes before its head is bumped, and the sweep dies between": [
        A,
        *GONE,
        sweep(0, expires=(0,)).swapped("fence", "forget"),
        sweep(1),
    ],
    "sessions that are given up protect nothing any more": [
        A,
        *GONE,
        *(sweep(number, expires=(0,), roots=("open",)) for number in (0, 1)),
    ],
    "sessions do not protect what they upload": [A, sweep(0, own_are_roots=False)],
    "a sweep goes on though its marker is gone": [A, B, *ALL_GONE, sweep(0).without("marker_stands"), tidy(0)],
    "what lies in the trash is swept": [revert(0), sweep(0, trash_is_root=False)],
    "a restore does not compare before it swaps": [careless_restore(0), *GONE, sweep(0)],
}


def check_sound(processes):
    found = explore(processes)
    assert found.broken is None, "\n".join(found.broken)
    assert found.untidy is None, "\n".join(found.untidy)


@pytest.mark.parametrize("case", SAFE)
def test_the_designed_order_loses_nothing_and_leaves_nothing_over(case):
    check_sound(SAFE[case])


@pytest.mark.campaign
@pytest.mark.parametrize("case", SAFE_IN_MANY_STATES)
def test_the_designed_order_loses_nothing_where_there_are_millions_of_ways(case):
    check_sound(SAFE_IN_MANY_STATES[case])


@pytest.mark.parametrize("case", BROKEN)
def test_s13_a_weaker_order_is_caught(case):
    assert explore(BROKEN[case]).broken is not None


def test_what_is_left_over_is_seen():
    given_up = A.without("swap_head", "drop_session")
    assert explore([given_up]).untidy is None
    careless = sweep(0).without("delete")
    assert explore([given_up], last=careless).untidy is not None
