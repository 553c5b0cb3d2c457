"""A registry over a directory sweeps it once a day, in one of its processes, whatever comes of it."""

import logging
import os
import subprocess

import pytest

import running
from faults import FailsOnCall
from registry.material import OTHER, Pusher, purge
from s3reg.api.wiring import Wiring
from s3reg.cli.daily import LOOK_SECONDS, TURN, Daily
from s3reg.errors import StoreUnavailable
from s3reg.model import format as fmt
from s3reg.registry import Registry
from s3reg.settings import Settings
from s3reg.store.files import FilesStore

DAY = 24 * 3600


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def store(folder):
    """A store with a pack that nobody names."""
    store = FilesStore(folder, secret=bytes(32))
    registry = Registry(store)
    registry.prepare()
    Pusher(registry, store).push(OTHER, words="xyz")
    purge(store, OTHER)
    return store


def packs(store):
    return [stat.key for stat in store.list(fmt.PACKS)]


def daily(folder, store=None):
    """As one process of a registry has it; it looks when it is told to."""
    files = FilesStore(folder)
    return Daily(Wiring(Settings(store=str(folder)), store or files), files, DAY)


def a_day_passes(folder):
    turn = folder / ".locks" / TURN
    then = turn.stat().st_mtime - DAY
    os.utime(turn, (then, then))


def test_of_all_processes_one_sweeps_and_none_again_within_a_day(folder, store):
    first, second = daily(folder), daily(folder)
    assert packs(store)
    assert (first.look(), second.look(), first.look()) == (True, False, False)
    assert packs(store) == []
    assert not daily(folder).look()  # a registry that is started anew
    a_day_passes(folder)
    assert (second.look(), first.look()) == (True, False)


def test_a_clock_that_was_set_back_keeps_no_sweep_away(folder, store):
    assert daily(folder).look()
    turn = folder / ".locks" / TURN
    os.utime(turn, (2**32, 2**32))
    assert daily(folder).look()
    assert packs(store) == []


def test_what_stops_it_is_logged_with_the_next_step_and_ends_nothing(folder, store, caplog):
    store.put("heads/notes.txt", b"")
    with caplog.at_level(logging.INFO, "s3reg"):
        assert daily(folder).look()
    assert "sweep-failed code=sweep-stopped" in caplog.text
    assert "heads/notes.txt" in caplog.text
    assert packs(store)


def test_a_defect_is_logged_with_all_its_lines_and_ends_nothing(folder, store, caplog):
    broken = FailsOnCall(store, 1, ZeroDivisionError("a defect"), verb="list", prefix=fmt.MARKERS)
    with caplog.at_level(logging.INFO, "s3reg"):
        assert daily(folder, broken).look()
    assert broken.happened
    assert "sweep-failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_a_store_that_is_away_is_looked_for_again_a_day_later(folder, store, caplog):
    away = FailsOnCall(store, 1, StoreUnavailable(store="", reason="on purpose"))
    with caplog.at_level(logging.INFO, "s3reg"):
        assert daily(folder, away).look()
    assert "sweep-failed code=store-unavailable" in caplog.text
    assert not daily(folder).look()
    a_day_passes(folder)
    assert daily(folder).look()
    assert packs(store) == []


def test_a_directory_that_is_away_is_told_of_once_and_swept_once_it_is_back(folder, store, caplog):
    looking = daily(folder)
    for _ in range(2):
        folder.rename(folder.with_name("away"))
        with caplog.at_level(logging.INFO, "s3reg"):
            assert [looking.look() for _ in range(3)] == [False] * 3
        assert caplog.text.count("sweep-failed code=store-unavailable") == 1
        caplog.clear()
        folder.with_name("away").rename(folder)
        assert looking.look()
        assert packs(store) == []
        a_day_passes(folder)


@pytest.mark.parametrize("jump", [400 * DAY, -400 * DAY])
def test_a_clock_that_jumped_is_given_an_hour_to_come_back(folder, store, jump, caplog):
    """By one that is a year ahead, all that the trash holds would be over."""
    wall, steady = [1e9], [0.0]
    files = FilesStore(folder)
    looking = Daily(
        Wiring(Settings(store=str(folder)), files), files, DAY, clock=lambda: wall[0], steady=lambda: steady[0]
    )

    def pass_(seconds):
        wall[0] += seconds
        steady[0] += seconds

    wall[0] += jump
    with caplog.at_level(logging.INFO, "s3reg"):
        assert not looking.look()
    assert "clock-jumped" in caplog.text
    assert packs(store)
    pass_(LOOK_SECONDS)
    assert looking.look()
    assert packs(store) == []


def test_a_machine_that_sleeps_between_all_looks_is_swept_all_the_same(folder, store):
    """Its steady clock stands still meanwhile: each look finds that the other one jumped."""
    wall, files = [1e9], FilesStore(folder)
    looking = Daily(Wiring(Settings(store=str(folder)), files), files, DAY, clock=lambda: wall[0], steady=lambda: 0.0)
    looks = []
    for _ in range(4):
        wall[0] += 2 * LOOK_SECONDS
        looks.append(looking.look())
        if looks[-1]:
            a_day_passes(folder)
    assert looks == [False, True, False, True]
    assert packs(store) == []


def test_one_that_is_under_way_ends_with_its_process(folder, store):
    ending = daily(folder)
    ending.start()
    ending.end()
    assert ending.look()
    assert packs(store)
    assert [stat.key for stat in store.list(fmt.MARKERS)] == []


def test_a_registry_over_a_directory_sweeps_by_itself(folder, store):
    command = [*running.PROGRAM, "serve", "--store", folder, "--listen", "127.0.0.1:0", "--workers", "2"]
    with subprocess.Popen(
        [*command, "--sweep-seconds", "1"],
        env=running.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            assert any(" swept " in line for line in process.stderr)
            assert packs(store) == []
        finally:
            process.terminate()
            process.communicate(timeout=running.SECONDS)
    assert process.returncode == 0
