"""Preparing a pulled file: what an earlier try left, clones of bases, copies from anywhere; only verified bytes count."""

import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lying_packs import Packs
from s3reg.client import platform
from s3reg.client.fetch import Fetcher, Wanted, group, ranges
from s3reg.client.fill import begin
from s3reg.client.ledger import Print
from s3reg.client.pulllog import PullLog
from s3reg.client.reuse import column_of
from s3reg.client.scan import SEGMENT, Crew
from s3reg.client.sources import Held
from servers import needs

LOG2 = 16
CHUNK = 1 << LOG2
OTHER_BOOT = "00000000-0000-4000-8000-00000000b007"


@pytest.fixture(scope="module")
def crew():
    crew = Crew(3)
    yield crew
    crew.close()


class Pull:
    """One file on its way into `folder`."""

    def __init__(self, folder, crew, *, packs=None):
        self.folder, self.crew = folder, crew
        self.packs = packs or Packs()
        self.path = folder / "staged.img"
        self.told = 0
        folder.mkdir(parents=True, exist_ok=True)

    def log(self, file_map, boot=None):
        return PullLog(self.folder / "journals" / "staged.img", file_map.digest(), boot)

    def hold(self, data, name="base.img", *, of=None, clonable=True):
        """A file of the library with these bytes; recorded with those of `of`."""
        path = self.folder / name
        with path.open("wb") as file:
            file.truncate(len(data))
            for at in range(0, len(data), CHUNK):
                if any(data[at : at + CHUNK]):
                    file.seek(at)
                    file.write(data[at : at + CHUNK])
        column = column_of(self.packs.map_of(data if of is None else of, LOG2))
        return Held(path, column, Print.of(path.stat()) if clonable else None)

    def _advance(self, count):
        self.told += count

    @contextlib.contextmanager
    def prepared(self, file_map, held=(), *, boot=None):
        log = self.log(file_map, boot)
        filling = begin(self.path, file_map, list(held), log, crew=self.crew)
        try:
            filling.copy(self.crew, self._advance)
            yield filling, log
        finally:
            filling.close()

    def fill(self, file_map, held, advance=lambda _: None):
        """All that comes before fetching."""
        filling = begin(self.path, file_map, held, self.log(file_map), crew=self.crew)
        try:
            filling.copy(self.crew, advance)
        finally:
            filling.close()

    def run(self, data, held=(), *, boot=None):
        """Pull a file of these bytes; the positions that had to be fetched."""
        file_map = self.packs.map_of(data, LOG2)
        self.told = 0
        with self.prepared(file_map, held, boot=boot) as (filling, log):
            assert self.told == filling.staged + filling.local
            self.fetch(file_map, filling, log)
        assert self.path.read_bytes() == data
        assert self.told == sum(min(CHUNK, len(data) - c.position * CHUNK) for c in file_map.chunks())
        assert self.noted(file_map) >= {chunk.position for chunk in file_map.chunks()}
        self.check_holes(data)
        return filling.missing

    def fetch(self, file_map, filling, log, *, only=lambda _: True):
        missing, target = set(filling.missing), filling.target
        wanted = [
            (c.pack, Wanted(c.offset, c.length, c.digest, raw(file_map, c.position), target, c.position))
            for c in file_map.chunks()
            if c.position in missing and only(c.position)
        ]
        Fetcher(self.packs, self.packs, self._advance, lanes=3).run(ranges(group(wanted)))

    def noted(self, file_map):
        pairs, _ = self.log(file_map).read()
        return {at for first, count in pairs for at in range(first, min(first + count, 1000))}

    def check_holes(self, data):
        """A hole costs nothing, also where a base had data."""
        with self.path.open("rb") as file:
            covered = {
                at
                for start, end in platform.data_extents(file.fileno(), len(data))
                for at in range(start // CHUNK, -(-end // CHUNK))
            }
        holes = {at for at in range(len(data) // CHUNK) if not any(data[at * CHUNK : (at + 1) * CHUNK])}
        assert not covered & holes


@pytest.fixture
def pull(tmp_path, crew):
    return Pull(tmp_path / "staging", crew)


def raw(file_map, position):
    return min(CHUNK, file_map.size - position * CHUNK)


def noise(chunks, seed=1, *, tail=0):
    return random.Random(seed).randbytes(chunks * CHUNK + tail)


def changed(data, *positions, seed=99):
    new = bytearray(data)
    for at in positions:
        part = random.Random(seed + at).randbytes(len(new[at * CHUNK : (at + 1) * CHUNK]))
        new[at * CHUNK : (at + 1) * CHUNK] = part
    return bytes(new)


def zeroed(data, first, count):
    return data[: first * CHUNK] + bytes(count * CHUNK) + data[(first + count) * CHUNK :]


def chunks_of(*files):
    return zip(*([data[at : at + CHUNK] for at in range(0, len(data), CHUNK)] for data in files), strict=True)


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


PAIRS = st.tuples(
    st.lists(st.one_of(st.none(), st.integers(0, 20)), max_size=12),
    st.sampled_from([0, 0, 1, 100, CHUNK - 1]),
    st.lists(st.sampled_from(["keep", "keep", "keep", "zeros", "news", "moved"]), max_size=14),
    st.sampled_from([0, 0, 1, 777, CHUNK - 1]),
)
"""How two files are made: the old one's chunks (None: zeros) and how much its last one lacks; the same for the new one,
which is made of pieces of the old, of news and of zeros."""


SHAPES = {
    "empty": b"",
    "one byte": b"x",
    "one zero": b"\0",
    "one chunk": noise(1),
    "a short last chunk": noise(3, tail=5),
    "only holes": bytes(20 * CHUNK),
    "only holes, a short last one": bytes(20 * CHUNK + 7),
    "a hole at the end": noise(2) + bytes(9 * CHUNK + 1),
    "a hole at the start": bytes(9 * CHUNK) + noise(2, tail=1),
    "data, hole, data": noise(2) + bytes(9 * CHUNK) + noise(1, 2, tail=77),
    "one chunk, many times": noise(1) * 9,
}


class TestFromNothing:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_a_file_of_any_shape_arrives(self, shape, pull):
        pull.run(SHAPES[shape])

    @pytest.mark.parametrize("shape", SHAPES)
    def test_and_again_over_itself_without_fetching(self, shape, pull):
        pull.run(SHAPES[shape])
        assert pull.run(SHAPES[shape]) == []

    def test_what_lay_there_without_a_journal_is_not_believed(self, pull):
        data = noise(5)
        pull.path.write_bytes(changed(data, 3))
        assert pull.run(data) == [0, 1, 2, 3, 4]


class TestAfterAKill:
    def begun(self, pull, data, fetched, *, boot=None):
        """A pull that was killed when it had fetched these positions."""
        file_map = pull.packs.map_of(data, LOG2)
        with pull.prepared(file_map, boot=boot) as (filling, log):
            pull.fetch(file_map, filling, log, only=lambda at: at in fetched)
        return file_map

    def test_it_goes_on_where_it_was(self, pull):
        data = noise(10) + bytes(5 * CHUNK) + noise(3, 2, tail=9)
        self.begun(pull, data, {0, 1, 5, 16})
        assert pull.run(data) == [2, 3, 4, 6, 7, 8, 9, 15, 17, 18]

    def test_a_journal_for_other_bytes_is_none(self, pull):
        data = noise(10)
        self.begun(pull, changed(data, 4), set(range(10)))
        assert pull.run(data) == list(range(10))

    def test_a_journal_without_its_file_is_none(self, pull):
        data = noise(5)
        self.begun(pull, data, {0, 1, 2})
        pull.path.unlink()
        assert pull.run(data) == list(range(5))

    @pytest.mark.parametrize("size", [0, 5 * CHUNK - 1, 5 * CHUNK + 1])
    def test_a_file_of_another_size_is_begun_anew(self, size, pull):
        data = noise(5)
        self.begun(pull, data, {0, 1, 2})
        os.truncate(pull.path, size)
        assert pull.run(data) == list(range(5))

    def test_what_an_earlier_file_had_never_vouches_for_a_new_one(self, pull):
        """Killed right after it was begun anew: the next run must not find the old claims beside the new, empty file."""
        data = noise(5)
        file_map = self.begun(pull, data, set(range(5)))
        os.truncate(pull.path, 1)

        class Killed(Exception):
            pass

        class Dying(PullLog):
            def begin(self, pairs):
                if pull.path.stat().st_size == len(data):
                    raise Killed
                super().begin(pairs)

        before = open_files()
        log = Dying(pull.log(file_map)._path, file_map.digest())
        with pytest.raises(Killed):
            begin(pull.path, file_map, [], log, crew=pull.crew)
        assert open_files() == before
        assert pull.noted(file_map) == set()
        assert pull.run(data) == list(range(5))

    def test_a_torn_journal_costs_its_end_only_and_vouches_for_nothing(self, pull):
        data = noise(12)
        file_map = self.begun(pull, data, {0, 1, 2, 3})
        path = pull.log(file_map)._path
        with path.open("ab") as file:
            file.write(b"\x0b\0\0")  # of a pair (11, …)
        with pull.prepared(file_map) as (filling, log):
            assert filling.missing == list(range(4, 12))
            pull.fetch(file_map, filling, log, only=lambda at: at in {4, 7})
        assert pull.run(data) == [5, 6, 8, 9, 10, 11]

    @pytest.mark.parametrize(
        "garbage", [b"", b"s3reg pull 1\n", b"s3reg pull 2\nx y\n", b"\xff" * 1000, b"s3reg pull 1\nno end"]
    )
    def test_a_journal_that_is_none_is_none(self, garbage, pull):
        data = noise(3)
        file_map = self.begun(pull, data, {0, 1, 2})
        pull.log(file_map)._path.write_bytes(garbage)
        assert pull.run(data) == [0, 1, 2]

    def test_pairs_beyond_the_file_are_passed_over(self, pull):
        data = noise(3)
        file_map = self.begun(pull, data, {0})
        with pull.log(file_map)._path.open("ab") as file:
            file.write(b"\xff" * 8 + b"\x02\0\0\0\0\0\0\0" + b"\x03\0\0\0\xff\xff\xff\xff")
        assert pull.run(data) == [1, 2]


class TestAfterAPowerCut:
    def cut(self, pull, data, fetched, *, boot=OTHER_BOOT):
        return TestAfterAKill().begun(pull, data, fetched, boot=boot)

    def test_what_is_noted_is_hashed_again_and_kept_if_it_is_there(self, pull):
        data = noise(8, tail=3)
        self.cut(pull, data, set(range(9)))
        assert pull.run(data) == []

    def test_what_is_noted_and_did_not_reach_the_disk_is_fetched_again(self, pull):
        data = noise(8, tail=3)
        self.cut(pull, data, {0, 1, 2, 3, 8})
        with pull.path.open("r+b") as file:
            file.seek(CHUNK)
            file.write(bytes(CHUNK))  # lost
            file.seek(8 * CHUNK)
            file.write(b"\0")  # half of it lost
        assert pull.run(data) == [1, 4, 5, 6, 7, 8]

    def test_a_hole_that_did_not_reach_the_disk_is_made_again(self, pull):
        data = noise(3) + bytes(6 * CHUNK) + noise(2, 2) + bytes(CHUNK + 10)
        self.cut(pull, data, {0, 1, 2, 9, 10})
        with pull.path.open("r+b") as file:
            file.seek(4 * CHUNK + 100)
            file.write(b"stale" * 50_000)
            file.seek(len(data) - 5)
            file.write(b"stale")
        assert pull.run(data) == []

    def test_what_was_verified_once_is_verified_again_after_the_next(self, pull):
        data = noise(6)
        file_map = self.cut(pull, data, set(range(6)))
        with pull.prepared(file_map, boot="yet-another-boot"):
            pass
        with pull.path.open("r+b") as file:
            file.write(bytes(10))
        assert pull.run(data) == [0]

    def test_where_boots_cannot_be_told_apart_nothing_is_believed_unread(self, pull):
        data = noise(6)
        self.cut(pull, data, set(range(6)), boot="unknown")
        with pull.path.open("r+b") as file:
            file.write(bytes(10))
        assert pull.run(data, boot="unknown") == [0]


class TestCopies:
    """From files of the library, on a file system that cannot clone or between places that differ."""

    def test_chunks_are_found_wherever_they_lie(self, pull):
        data = noise(40, tail=100)
        base = pull.hold(data[10 * CHUNK : 30 * CHUNK], clonable=False)
        other = pull.hold(noise(1, 7) + data[30 * CHUNK :], "other.img", clonable=False)
        assert pull.run(data, [base, other]) == list(range(10))

    def test_more_than_a_batch_of_them(self, pull):
        count = 3 * (SEGMENT >> LOG2) + 5
        data = noise(count)
        order = list(range(count))
        random.Random(1).shuffle(order)
        base = pull.hold(b"".join(data[at * CHUNK : (at + 1) * CHUNK] for at in order), clonable=False)
        assert pull.run(data, [base]) == []

    def test_one_chunk_fills_all_of_its_places(self, pull):
        part = noise(1)
        data = part * 3 + noise(1, 2) + part * 2
        assert pull.run(data, [pull.hold(part, clonable=False)]) == [3]

    def test_a_base_that_changed_behind_its_record_is_not_copied(self, pull):
        """Size, mtime and inode as recorded: only reading tells."""
        data = noise(10)
        base = pull.hold(data, clonable=False)
        before = base.path.stat()
        base.path.write_bytes(changed(data, 4, 5))
        os.utime(base.path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert pull.run(data, [base]) == [4, 5]

    def test_a_base_that_became_shorter_is_no_reason_to_fail(self, pull):
        data = noise(10)
        base = pull.hold(data, clonable=False)
        os.truncate(base.path, 3 * CHUNK + 10)
        assert pull.run(data, [base]) == [3, 4, 5, 6, 7, 8, 9]

    def test_a_base_that_went_is_no_reason_to_fail(self, pull):
        data = noise(6)
        gone, here = pull.hold(data, "gone.img"), pull.hold(data[: 2 * CHUNK], "here.img")
        gone.path.unlink()
        assert pull.run(data, [here, gone]) == [2, 3, 4, 5]

    def test_a_base_of_another_chunk_size_is_passed_over(self, pull):
        data = noise(6)
        base = pull.hold(data)
        coarse = Held(base.path, column_of(pull.packs.map_of(data, LOG2 + 1)), base.seen)
        assert pull.run(data, [coarse]) == list(range(6))

    def test_a_short_last_chunk_comes_from_a_short_last_chunk(self, pull):
        data = noise(2, tail=500)
        base = pull.hold(noise(5, 3) + data[2 * CHUNK :], clonable=False)
        assert pull.run(data, [base]) == [0, 1]

    def test_what_is_copied_is_noted_as_it_comes(self, pull):
        """A kill in the middle of sixty gigabytes costs a few megabytes."""
        count = 4 * (SEGMENT >> LOG2)
        data = noise(count)
        base = pull.hold(data, clonable=False)
        file_map = pull.packs.map_of(data, LOG2)

        class Killed(BaseException):
            pass

        told = []

        def advance(number):
            told.append(number)
            if len(told) == 3:
                raise Killed

        before = open_files()
        with pytest.raises(Killed):
            pull.fill(file_map, [base], advance)
        assert open_files() == before
        kept = pull.noted(file_map)
        assert len(kept) >= 2 * (SEGMENT >> LOG2)
        found = pull.path.read_bytes()
        assert all(found[at * CHUNK : (at + 1) * CHUNK] == data[at * CHUNK : (at + 1) * CHUNK] for at in kept)
        base.path.unlink()
        assert pull.run(data) == sorted(set(range(count)) - kept)

    def test_an_error_leaves_no_file_open(self, pull):
        data = noise(40)
        folder = pull.folder / "folder"
        folder.mkdir()
        base = Held(folder, column_of(pull.packs.map_of(data, LOG2)))
        file_map = pull.packs.map_of(data, LOG2)
        before = open_files()
        with pytest.raises(IsADirectoryError):
            pull.fill(file_map, [base])
        assert open_files() == before

    def test_a_write_that_is_cut_short_is_not_taken_for_the_chunk(self, pull):
        """As on a full disk: the kernel writes what fits, and only the next call says why."""
        data = noise(8)
        base = pull.hold(data, clonable=False)
        file_map = pull.packs.map_of(data, LOG2)
        with pull.prepared(file_map) as (filling, log):
            pull.fetch(file_map, filling, log, only=lambda at: at == 0)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4 * CHUNK + 100, hard))
        try:
            with pytest.raises(OSError, match="File too large"):
                pull.fill(file_map, [base])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, handler)
        assert 4 not in pull.noted(file_map)
        base.path.unlink()
        pull.run(data)


class TestClones:
    """On file systems that share blocks."""

    @pytest.fixture
    def pull(self, reflinking, crew):
        folder = reflinking / "staging"
        yield Pull(folder, crew)
        shutil.rmtree(folder)

    CASES = (
        ("same", noise(20), noise(20), []),
        ("a few changed", noise(20), changed(noise(20), 3, 4, 19), [3, 4, 19]),
        ("longer", noise(20), noise(20) + noise(3, 2, tail=1), [20, 21, 22, 23]),
        ("shorter", noise(20), noise(20)[: 7 * CHUNK], []),
        ("shorter, inside a chunk", noise(20), noise(20)[: 7 * CHUNK + 5], [7]),
        ("a short last chunk becomes full", noise(5, tail=9), noise(5, tail=9) + noise(2, 2), [5, 6, 7]),
        ("data becomes a hole", noise(20), zeroed(noise(20), 5, 10), []),
        ("data becomes a hole, to the end", noise(20, tail=9), noise(5) + bytes(15 * CHUNK + 9), []),
        ("a hole becomes data", zeroed(noise(20), 5, 3), noise(20), [5, 6, 7]),
        ("a hole stays one", zeroed(noise(20), 5, 3), changed(zeroed(noise(20), 5, 3), 1), [1]),
        ("longer, by a hole", noise(20), noise(20) + bytes(9 * CHUNK), []),
        ("holes only", noise(20), bytes(20 * CHUNK), []),
        ("empty", noise(20), b"", []),
        ("everything moved", noise(20), noise(1, 5) + noise(20), [0]),
    )

    @pytest.mark.parametrize(("base", "new", "fetched"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
    def test_what_the_base_has_is_not_fetched_and_the_base_stays_as_it_is(self, base, new, fetched, pull):
        held = pull.hold(base)
        assert pull.run(new, [held]) == fetched
        assert held.path.read_bytes() == base

    def test_the_base_with_most_in_place_is_cloned(self, pull):
        data = noise(64)
        worse, best = pull.hold(changed(data, *range(40)), "worse.img"), pull.hold(changed(data, 0, 63), "best.img")
        assert pull.run(data, [worse, best]) == [0]
        fiemap = subprocess.run([needs("filefrag"), "-v", pull.path], capture_output=True, text=True, check=True)
        assert "shared" in fiemap.stdout
        assert sum(one != other for one, other in chunks_of(data, best.path.read_bytes())) == 2

    def test_a_base_that_changed_since_it_was_compared_with_its_record_is_not_cloned(self, pull):
        data = noise(10)
        held = pull.hold(data)
        with held.path.open("r+b") as file:
            file.seek(4 * CHUNK)
            file.write(b"a VM was started on it")
        assert pull.run(data, [held]) == [4]

    def test_a_base_that_was_replaced_is_not_cloned(self, pull):
        data = noise(10)
        held = pull.hold(data)
        seen = held.path.stat()
        other = pull.folder / "new"
        other.write_bytes(changed(data, 2))
        other.replace(held.path)
        os.utime(held.path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
        assert pull.run(data, [held]) == [2]

    def test_a_base_that_went_is_no_base(self, pull):
        data = noise(5)
        held = pull.hold(data)
        held.path.unlink()
        assert pull.run(data, [held]) == list(range(5))

    def test_a_killed_clone_goes_on(self, pull):
        old, data = noise(20), changed(zeroed(noise(20), 10, 4), 1, 2, 3)
        held = pull.hold(old)
        file_map = pull.packs.map_of(data, LOG2)
        with pull.prepared(file_map, [held]) as (filling, log):
            pull.fetch(file_map, filling, log, only=lambda at: at == 2)
        assert pull.run(data) == [1, 3]

    @pytest.mark.parametrize("boot", [None, OTHER_BOOT])
    def test_whatever_changed_the_file_has_its_bytes(self, boot, pull):
        seen = []

        @given(PAIRS)
        @settings(max_examples=25, deadline=None, database=None)
        def check(pair):
            shutil.rmtree(pull.folder)
            pull.folder.mkdir()
            exchange(pull, pair, boot=boot)
            seen.append(pair)

        check()
        assert len(seen) > 5


def made(recipe):
    chunks, lacks, pieces, lacks_too = recipe
    old = b"".join(bytes(CHUNK) if seed is None else random.Random(seed).randbytes(CHUNK) for seed in chunks)
    old = old[: max(0, len(old) - lacks)]
    new = b""
    for kind in pieces:
        at = len(new)
        new += {
            "keep": old[at : at + CHUNK],
            "zeros": bytes(CHUNK),
            "news": random.Random(1000 + at).randbytes(CHUNK),
            "moved": old[:CHUNK],
        }[kind]
    return old, new[: max(0, len(new) - lacks_too)]


def exchange(pull, recipe, *, boot=None):
    """Pull the new file over the old, killed in the middle once; in the end it has exactly its bytes."""
    old, new = made(recipe)
    held = [pull.hold(old), pull.hold(old[CHUNK:], "other.img")]
    file_map = pull.packs.map_of(new, LOG2)
    with pull.prepared(file_map, held, boot=boot) as (filling, log):
        pull.fetch(file_map, filling, log, only=lambda at: at % 2)
    left = pull.run(new, held)
    assert all(at % 2 == 0 for at in left)
    assert held[0].path.read_bytes() == old


@pytest.mark.parametrize("boot", [None, OTHER_BOOT])
def test_whatever_changed_the_file_has_its_bytes(boot, tmp_path_factory, crew):
    @given(PAIRS)
    @settings(max_examples=40, deadline=None, database=None)
    def check(pair):
        folder = tmp_path_factory.mktemp("pair")
        exchange(Pull(folder, crew), pair, boot=boot)
        shutil.rmtree(folder)

    check()
