"""Several processes on one directory store, and processes that are killed."""

import multiprocessing
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

import store_actors
from s3reg.store.files import FilesStore

PROCESSES, ROUNDS, KILLS = 4, 40, 12


def test_of_processes_that_put_at_once_one_wins(tmp_path):
    store = FilesStore(tmp_path)
    store.put("heads/a", b"start")
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(PROCESSES)
    pipes = [context.Pipe(duplex=False) for _ in range(PROCESSES)]
    processes = [
        context.Process(target=store_actors.race, args=(tmp_path, number, ROUNDS, barrier, writer))
        for number, (_, writer) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    for _, writer in pipes:
        writer.close()
    try:
        wins = [reader.recv() for reader, _ in pipes]
    finally:
        for process, (reader, _) in zip(processes, pipes, strict=True):
            process.join(store_actors.WAIT_SECONDS)
            reader.close()
            process.close()
    for turn in range(ROUNDS):
        created = [number for number, won in enumerate(wins) if won[turn][0]]
        assert len(created) == 1, f"round {turn}"
        assert store.get(f"auth/{turn}").data == b"by %d" % created[0]
        assert sum(won[turn][1] for won in wins) == 1, f"round {turn}"


@pytest.fixture
def writer(tmp_path):
    """Starts a writing process; none outlives the test."""
    started = []

    def start(*words):
        command = [sys.executable, store_actors.__file__, str(tmp_path), *map(str, words)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_killed_writer_leaves_every_object_whole_and_the_store_at_work(tmp_path, writer):
    chosen, answered = random.Random(1), {}
    for seed in range(KILLS):
        process = writer(seed)
        said = [process.stdout.readline()]
        time.sleep(chosen.uniform(0, 0.1))
        process.kill()
        said += process.stdout.readlines()
        # A last line that the kill cut short says nothing.
        answered |= dict(line.split() for line in said if line.endswith("\n"))
        store = FilesStore(tmp_path)
        found = {item.key: store.get(item.key).data for item in store.list("")}
        assert all(store_actors.is_whole(data) for data in found.values())
        for key, count in answered.items():
            assert int.from_bytes(found[key][32:40], "big") >= int(count) or key.startswith("heads/")
        for number in range(4):
            store.put(f"heads/{number}", store_actors.whole(0, 5))
            answered[f"heads/{number}"] = "0"
        store.put("sessions/x", store_actors.whole(0, 5))
    assert any(key.startswith("packs/") for key in answered)


def test_s34_what_another_process_was_answered_is_in_the_next_listing(tmp_path, writer):
    """The other never waits for us: its changes fall before, into and behind each listing, several in a tick."""
    store, listing, gone = FilesStore(tmp_path), None, set()
    process = writer("changes", ROUNDS)
    for line in process.stdout:
        key, etag = line.split()
        if etag == "-":
            gone.add(key)
        earlier = _etags(store.list("changes/"))
        listing = store.relist("changes/", listing)
        seen = _etags(listing.stats)
        assert not gone & seen.keys()
        for one, least in earlier.items():
            # Of one size, ETags grow with their times; what was deleted meanwhile never comes back.
            assert seen.get(one, "") >= least or one not in _etags(store.list(one))
    assert process.wait() == 0
    assert _etags(store.relist("changes/", listing).stats) == _etags(store.list("changes/")) != {}


def _etags(stats):
    return {stat.key: stat.etag for stat in stats}


def test_what_dead_processes_left_is_removed_after_a_day_and_not_before(tmp_path):
    FilesStore(tmp_path).put("a", b"1")
    aside = tmp_path / ".tmp"
    for name, age in (("old", 25 * 3600), ("young", 23 * 3600), ("new", 0), ("of-a-clock-set-back", -25 * 3600)):
        (aside / name).write_bytes(b"half")
        os.utime(aside / name, (time.time() - age, time.time() - age))
    assert [item.key for item in FilesStore(tmp_path).list("")] == ["a"]
    assert sorted(path.name for path in aside.iterdir()) == ["new", "young"]


def test_a_forked_process_may_go_on_with_the_store(tmp_path):
    store = FilesStore(tmp_path)
    store.put("a", b"1")
    script = (
        "import os, sys; from pathlib import Path; from s3reg.store.files import FilesStore\n"
        "store = FilesStore(Path(sys.argv[1])); store.get('a')\n"
        "child = os.fork()\n"
        "store.put(f'by/{int(child == 0)}', b'x')\n"
        "if child: sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    subprocess.run([sys.executable, "-c", script, str(Path(tmp_path))], check=True, timeout=60)
    assert [item.key for item in store.list("")] == ["a", "by/0", "by/1"]
