"""The journal of a pull: what a full disk or a kill cuts short never makes a chunk count that is not there."""

import pytest

from s3reg.client.pulllog import PullLog

DIGEST = "d" * 64


@pytest.fixture
def log(tmp_path):
    log = PullLog(tmp_path / "journals" / "image", DIGEST)
    log.begin([(0, 3)])
    return log


def test_what_was_noted_is_read_by_the_next_run(log, tmp_path):
    log.note([9, 5, 4])
    assert PullLog(tmp_path / "journals" / "image", DIGEST).read() == ([(0, 3), (4, 2), (9, 1)], True)
    assert PullLog(tmp_path / "journals" / "image", "e" * 64).read() == ([], True)


@pytest.mark.parametrize("length", range(1, 8))
def test_a_row_that_was_cut_short_does_not_shift_those_behind_it(log, tmp_path, length):
    with (tmp_path / "journals" / "image").open("ab") as file:
        file.write(b"\x02\x01\x00\x00\x07\x00\x00\x00"[:length])
    assert log.read() == ([(0, 3)], True)
    log.note([7])
    log.note([8, 9])
    assert log.read() == ([(0, 3), (7, 1), (8, 2)], True)


def test_a_journal_without_its_whole_head_counts_for_nothing(log, tmp_path):
    place = tmp_path / "journals" / "image"
    whole = place.read_bytes()
    for length in range(len(whole) - 9):
        place.write_bytes(whole[:length])
        log.note([1])
        assert log.read()[0] == []
