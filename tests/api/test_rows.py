"""A list's rows are put together once for each head, and are those of the heads at hand."""

import json
from dataclasses import replace

from s3reg.api.rows import BYTES_KEPT, LISTS_KEPT, Rows
from s3reg.model.template import Head

HEADS = [Head(f"0000000{number}-0000-4000-8000-000000000000", f"t{number}", "main", size=number) for number in range(4)]


def test_only_the_row_of_a_head_that_changed_is_made_anew():
    made = []

    def row(head):
        made.append(head.name)
        return {"name": head.name, "size": head.size}

    rows = Rows(row, '{"a":', "}")
    assert json.loads(rows.answer(HEADS))["a"] == [{"name": f"t{number}", "size": number} for number in range(4)]
    changed = [HEADS[3], replace(HEADS[1], name='ä"', size=7)]
    for _ in range(2):
        assert json.loads(rows.answer(changed))["a"] == [{"name": "t3", "size": 3}, {"name": 'ä"', "size": 7}]
    assert made == ["t0", "t1", "t2", "t3", 'ä"']
    assert rows.answer([]) == b'{"a":[]}'


def test_heads_of_two_stores_that_are_of_one_template_and_generation_have_rows_of_their_own():
    rows = Rows(lambda head: head.name, "", "")
    other = replace(HEADS[0], name="elsewhere")
    assert [rows.answer([head]) for head in (HEADS[0], other, HEADS[0])] == [
        b'["t0"]',
        b'["elsewhere"]',
        b'["t0"]',
    ]


def test_the_lists_of_askers_who_may_see_different_templates_are_each_put_together_once():
    rows = Rows(lambda head: head.name, "", "")
    mine, theirs, all_of_them = HEADS[:2], HEADS[2:], HEADS
    first = [rows.answer(list(heads)) for heads in (mine, theirs, all_of_them)]
    again = [rows.answer(list(heads)) for heads in (all_of_them, theirs, mine)]
    assert first == [b'["t0","t1"]', b'["t2","t3"]', b'["t0","t1","t2","t3"]']
    assert all(one is other for one, other in zip(first, reversed(again), strict=True))


def test_only_the_last_lists_are_kept_and_few_of_those_that_are_long():
    rows = Rows(lambda head: "x" * head.size, "", "")
    first = [rows.answer([HEADS[0]] * count) for count in range(LISTS_KEPT + 1)]
    again = [rows.answer([HEADS[0]] * count) for count in range(LISTS_KEPT, -1, -1)]
    assert [one is other for one, other in zip(first, reversed(again), strict=True)] == [False, *[True] * LISTS_KEPT]
    long = replace(HEADS[1], size=BYTES_KEPT // 2)
    lists = [rows.answer([long, head]) for head in HEADS]
    assert rows.answer([long, HEADS[3]]) is lists[3]
    assert rows.answer([long, HEADS[0]]) is not lists[0]
