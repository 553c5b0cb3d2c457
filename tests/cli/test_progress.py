"""How a transfer tells how far it is."""

import io
import json
import random

import pytest
from rich.console import Console

from clocks import Clock
from s3reg.client.progress import Bar, Json, Lines, Silent


def test_a_line_every_few_seconds_and_one_at_the_end():
    out, clock = io.StringIO(), Clock()
    lines = Lines(out, every=5, clock=clock)
    lines.start("sending", 1000)
    for _ in range(10):
        clock.now += 1
        lines.advance(50)
    lines.finish()
    lines.finish()
    assert out.getvalue().splitlines() == [
        "sending: 250 bytes of 1.0 kB (25 %), 50 bytes/s, 15 s left",
        "sending: 500 bytes of 1.0 kB (50 %), 50 bytes/s, 10 s left",
        "sending: 500 bytes of 1.0 kB (50 %), 50 bytes/s, 10 s left",
    ]


@pytest.mark.parametrize("total", [0, None, 5])
def test_nothing_to_do_or_an_unknown_size_divides_by_nothing(total):
    out = io.StringIO()
    for progress in (
        Lines(out, every=0, clock=Clock()),
        Json(out, every=0, clock=Clock()),
        Silent(),
        Bar(Console(file=out)),
    ):
        progress.start("pulling", total)
        progress.advance(0)
        progress.note("a word")
        progress.finish()
    assert out.getvalue().count("a word") == 3  # all but the silent one


def test_a_program_reads_numbers():
    out, clock = io.StringIO(), Clock()
    progress = Json(out, every=1, clock=clock)
    progress.start("pulling", 100)
    clock.now += 2
    progress.advance(50)
    told = json.loads(out.getvalue().splitlines()[0])
    assert told == {"progress": "pulling", "bytes": 50, "total": 100, "bytes_per_second": 25, "seconds_left": 2}


def test_the_rate_is_that_of_late_and_not_of_what_was_here_already():
    out, clock = io.StringIO(), Clock()
    progress = Json(out, every=1, clock=clock)
    progress.start("pulling", 1_000_000)
    progress.advance(900_000)
    for _ in range(20):
        clock.now += 1
        progress.advance(100)
    told = json.loads(out.getvalue().splitlines()[-1])
    assert told == {
        "progress": "pulling",
        "bytes": 902_000,
        "total": 1_000_000,
        "bytes_per_second": 100,
        "seconds_left": 980,
    }


def test_bytes_outside_a_phase_are_counted_nowhere():
    out = io.StringIO()
    progress = Json(out, every=0, clock=Clock())
    progress.advance(5)
    progress.finish()
    assert out.getvalue() == ""


def test_a_new_phase_ends_the_one_before():
    out = io.StringIO()
    progress = Json(out, every=100, clock=Clock())
    progress.start("hashing", 10)
    progress.advance(10)
    progress.start("sending", 5)
    progress.finish()
    assert [json.loads(line)["progress"] for line in out.getvalue().splitlines()] == ["hashing", "sending"]


def test_a_note_does_not_speak_to_the_terminal():
    out = io.StringIO()
    Bar(Console(file=out)).note("[red]not a colour[/red]")
    assert out.getvalue() == "[red]not a colour[/red]\n"


def test_a_push_is_told_to_its_end_whatever_the_disk_is_made_of(s3reg, registry, tmp_path):
    """Zeros that take room on the disk are sent by nobody, chunks that come twice are sent once, the last one is short."""
    once, disk = random.Random(7).randbytes(256 * 1024), tmp_path / "disk.img"
    disk.write_bytes(once + bytes(3 * 256 * 1024) + once * 2 + once[:1000])
    s3reg("import", "dev", "--disk", disk)
    told = s3reg("push", "dev", "-t", "v1", "-a", registry).err.splitlines()
    assert [line.partition("(")[2].partition(")")[0] for line in told if line.startswith("sending")][-1] == "100 %"
