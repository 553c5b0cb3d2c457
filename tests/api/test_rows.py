"""A list's rows are put together once for each head, and are those of the heads at hand."""

import json
from dataclasses import replace

from s3reg.api.rows import Rows
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
