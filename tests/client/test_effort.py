"""How hard a push compresses: what moves the level, and how far."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3reg.client.effort import LEVELS, SIGNS, USUAL, Effort

SAYS = {"line waits": Effort.line_waits, "cores wait": Effort.cores_wait, "neither": Effort.neither}


def after(*signs):
    effort = Effort()
    for sign in signs:
        SAYS[sign](effort)
    return effort.level


def test_a_push_begins_at_the_usual_level():
    assert after() == USUAL


@pytest.mark.parametrize(("sign", "levels"), [("line waits", [3, 1, 1, 1]), ("cores wait", [3, 6, 9, 9, 9])])
def test_the_same_sign_again_and_again_moves_it_to_the_end(sign, levels):
    assert [after(*[sign] * (SIGNS * steps)) for steps in range(len(levels))] == levels


@pytest.mark.parametrize("other", ["neither", "line waits", "cores wait"])
@pytest.mark.parametrize("sign", ["line waits", "cores wait"])
def test_fewer_signs_than_it_takes_change_nothing_and_are_forgotten(sign, other):
    if sign != other:
        assert after(*([*[sign] * (SIGNS - 1), other] * 10)) == USUAL


@given(st.lists(st.sampled_from(sorted(SAYS))))
def test_it_moves_by_one_level_towards_what_the_last_signs_said(signs):
    effort, run, last = Effort(), 0, None
    for sign in signs:
        before = LEVELS.index(effort.level)
        SAYS[sign](effort)
        moved = LEVELS.index(effort.level) - before
        run, last = (run + 1 if sign == last else 1), sign
        if sign == "neither" or run < SIGNS:
            assert moved == 0
        if moved:
            assert moved == (1 if sign == "cores wait" else -1)
            run = 0
        elif sign != "neither" and run == SIGNS:
            assert effort.level == (LEVELS[-1] if sign == "cores wait" else LEVELS[0])
            run = 0
