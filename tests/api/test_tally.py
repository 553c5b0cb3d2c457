"""Numbers that several processes count together are added up exactly, whoever of them ends how."""

import subprocess
import sys
import textwrap
import threading

import pytest

from s3reg.api import tally
from s3reg.api.tally import PART, Board

KEY = ("requests", "/vm", "GET")


def sums(board):
    found = {}
    for key, cells in board.read():
        found[key] = [one + more for one, more in zip(found.get(key, [0.0] * len(cells)), cells, strict=True)]
    return found


def test_what_threads_count_is_added_up():
    board = Board()
    mine = board.tally(0)
    barrier = threading.Barrier(4)

    def count():
        barrier.wait(60)
        for _ in range(5000):
            mine.add(KEY, ((0, 1), (1, 0.5)), cells=2)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums(board) == {KEY: [20_000, 10_000]}


def test_processes_that_end_or_are_killed_leave_what_they_counted_to_those_that_come_after_them():
    # In a program of its own, which has no threads when it forks.
    program = """
        import os, signal, sys
        from s3reg.api.tally import Board
        board = Board(3)
        alive = {}
        for worker in range(9):
            part = board.free(alive.values())
            child = os.fork()
            if not child:
                mine = board.tally(part)
                for number in range(1000):
                    mine.add(("common",), ((0, 1),))
                    mine.add(("own", str(worker)), ((0, 1),))
                os.kill(os.getpid(), signal.SIGKILL) if worker % 2 else os._exit(0)
            alive[child] = part
            if len(alive) == 3:
                del alive[os.wait()[0]]
        while alive:
            del alive[os.wait()[0]]
        found = {}
        for key, (value,) in board.read():
            found[key] = found.get(key, 0) + value
        assert found == {("common",): 9000.0, **{("own", str(worker)): 1000.0 for worker in range(9)}}, found
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_part_is_given_to_one_at_a_time():
    board = Board(3)
    assert board.free([]) == 0
    assert board.free([0, 2]) == 1
    assert board.free([None, 0, 1]) == 2
    assert board.free([0, 1, 2]) is None


def test_a_series_that_was_left_half_written_is_written_over():
    board = Board()
    board.tally(0).add(("one",), ((0, 3),))
    # What a worker writes before it is killed: all but how much is written.
    half = Board()
    mine = half.tally(0)
    mine.add(("one",), ((0, 3),))
    written = mine._counts[0]
    mine.add(("two", "longer"), ((0, 7),))
    mine._counts[0] = written
    assert list(half.read()) == list(board.read())
    half.tally(0).add(("three",), ((0, 1),))
    assert sums(half) == {("one",): [3], ("three",): [1]}


def test_names_of_every_alphabet_are_kept():
    board = Board()
    board.tally(0).add(("größe", "", "日本"), ((0, 1),))
    assert sums(board) == {("größe", "", "日本"): [1]}


def test_series_beyond_the_room_are_told_of_once_and_the_others_count_on(monkeypatch):
    told = []
    monkeypatch.setattr(tally, "emit", lambda event, **fields: told.append((event, fields["series"])))
    board = Board(2)
    mine = board.tally(0)
    cells = PART // 8 // 10
    for number in range(12):
        mine.add(("series", str(number)), ((0, 1),), cells=cells)
    mine.add(("series", "0"), ((0, 1),), cells=cells)
    found = sums(board)
    assert told == [("metrics-full", 9)]
    assert list(found) == [("series", str(number)) for number in range(9)]
    assert found["series", "0"][0] == 2
    assert board.tally(1)._counts[0] == 8, "it ran over into the next part"


@pytest.mark.parametrize("cells", [1, 2, 16])
def test_a_worker_goes_on_where_another_one_ended(cells):
    board = Board(2)
    for _ in range(3):
        board.tally(1).add(KEY, ((cells - 1, 2),), cells=cells)
    assert sums(board) == {KEY: [0] * (cells - 1) + [6]}
