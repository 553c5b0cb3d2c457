"""Reading files on all cores: digests and frames against an oracle, files that change meanwhile, memory that flips bits."""

import hashlib
import itertools
import mmap
import os
import random
import tempfile
import threading
import time
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from s3reg.client.reuse import IN_HOLE, NOWHERE, Column
from s3reg.client.scan import SEGMENT, Crew, OpenFile, frames, hash_file, runs_of, segments
from s3reg.errors import ChunkDamaged, FileChanged
from s3reg.model.chunks import HOLE

KIB, MIB = 1024, 1024**2


@pytest.fixture(scope="module")
def crew():
    crew = Crew(3)
    yield crew
    crew.close()


def nothing(_):
    pass


def written(path, data, holes=()):
    """A file of `data` in which the stretches `holes`, (start, end), were never written: they must be zeros."""
    with path.open("wb") as file:
        at = 0
        for start, end in [*holes, (len(data), len(data))]:
            file.seek(at)
            file.write(data[at:start])
            at = end
        file.truncate(len(data))
    return path


def oracle(data, log2):
    """What the digests must be: cut with a slice, hashed one by one."""
    parts = [data[at : at + (1 << log2)] for at in range(0, len(data), 1 << log2)]
    return [HOLE if not any(part) else hashlib.sha256(part).digest() for part in parts]


def tree(size, log2, digests):
    """The file's digest as the design has it, written down once more."""
    joined = b"".join(digests)
    leaves = [joined[at : at + 32 * 1024] for at in range(0, len(joined), 32 * 1024)]
    root = b"".join(hashlib.sha256(b"s3reg leaf 1\n" + leaf).digest() for leaf in leaves)
    return hashlib.sha256(b"s3reg root 1\n" + size.to_bytes(8, "little") + bytes([log2]) + root).hexdigest()


@st.composite
def contents(draw):
    """(bytes, holes, chunk_log2): data, written zeros and holes in any order, on and off the borders of chunks."""
    log2 = draw(st.integers(16, 20))
    chunk = 1 << log2
    parts, holes, at = [], [], 0
    for kind in draw(st.lists(st.sampled_from(["noise", "text", "zeros", "hole", "byte"]), max_size=7)):
        length = draw(
            st.one_of(st.integers(1, 3 * chunk), st.sampled_from([1, chunk - 1, chunk, chunk + 1, 2 * chunk]))
        )
        seed = draw(st.integers(0, 1000))
        parts.append({
            "noise": lambda n, s: random.Random(s).randbytes(n),
            "text": lambda n, s: (b"line %d\n" % s * n)[:n],
            "zeros": lambda n, _: bytes(n),
            "hole": lambda n, _: bytes(n),
            "byte": lambda n, _: bytes(n - 1) + b"\1",
        }[kind](length, seed))  # fmt: skip
        if kind == "hole":
            holes.append((at, at + length))
        at += length
    return b"".join(parts), holes, log2


def check_hashed(crew, path, data, log2):
    told = []
    with OpenFile(path) as file:
        column = Column(file.size, log2)
        hash_file(crew, file, column, told.append)
    expected = oracle(data, log2)
    assert [column.digest_at(n) for n in range(column.count)] == expected
    assert list(column.packs) == [IN_HOLE if digest == HOLE else NOWHERE for digest in expected]
    assert column.file_digest() == tree(len(data), log2, expected)
    assert sum(told) == len(data)
    assert all(count >= 0 for count in told)


def all_frames(crew, path, log2, column=None, spans=None, **more):
    with OpenFile(path) as file:
        column = column or Column(file.size, log2)
        spans = list(segments(file, log2)) if spans is None else spans
        return [frame for made in frames(crew, file, column, spans, **more) for frame in made]


class TestAnyFile:
    @given(contents())
    @settings(max_examples=60, deadline=None)
    def test_digests_and_frames_are_those_of_the_bytes(self, made):
        data, holes, log2 = made
        with tempfile.TemporaryDirectory() as folder, _crew() as crew:
            path = written(Path(folder) / "file", data, holes)
            check_hashed(crew, path, data, log2)
            found = all_frames(crew, path, log2)
        expected = {n: digest for n, digest in enumerate(oracle(data, log2)) if digest != HOLE}
        assert {frame.position: frame.digest for frame in found} == expected
        assert [frame.position for frame in found] == sorted(expected)
        for frame in found:
            part = data[frame.position << log2 : (frame.position + 1) << log2]
            assert frame.raw == len(part)
            assert zstandard.decompress(frame.data) == part
            assert zstandard.frame_content_size(frame.data) == len(part)

    @pytest.mark.parametrize(
        "size", [0, 1, 65535, 65536, 65537, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT + 70_000]
    )
    def test_sizes_around_the_borders(self, size, crew, tmp_path):
        data = random.Random(size).randbytes(size)
        check_hashed(crew, written(tmp_path / "file", data), data, 16)

    @pytest.mark.parametrize("size", [1, 65536, 3 * MIB + 5])
    def test_a_hole_and_written_zeros_are_the_same_file(self, size, crew, tmp_path):
        hole = written(tmp_path / "hole", bytes(size), [(0, size)])
        zeros = written(tmp_path / "zeros", bytes(size))
        assert zeros.stat().st_blocks > hole.stat().st_blocks
        for path in (hole, zeros):
            check_hashed(crew, path, bytes(size), 16)
            assert all_frames(crew, path, 16) == []

    def test_a_chunk_larger_than_a_segment(self, crew, tmp_path):
        data = random.Random(1).randbytes(3 * (1 << 23) + 17)
        path = written(tmp_path / "file", data)
        check_hashed(crew, path, data, 23)
        assert [frame.raw for frame in all_frames(crew, path, 23)] == [1 << 23] * 3 + [17]

    def test_of_a_huge_hole_nothing_is_read(self, crew, tmp_path):
        path = tmp_path / "huge"
        with path.open("wb") as file:
            file.truncate(1 << 40)
            file.seek((1 << 39) + 5)
            file.write(b"x")
        with OpenFile(path) as file:
            spans = list(segments(file, 20))
        assert sum(count for _, count in spans) <= 2
        assert spans[0][0] <= 1 << 19 < spans[-1][0] + spans[-1][1]

    @given(st.lists(st.tuples(st.integers(0, 200), st.integers(1, 30)), max_size=30), st.integers(16, 20))
    @settings(deadline=None)
    def test_segments_cover_the_data_once_and_in_order(self, stretches, log2):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "file"
            with path.open("wb") as file:
                file.truncate(231 * 4096 * 16)
                for start, count in stretches:
                    file.seek(start * 4096 * 16)
                    file.write(b"\1" * (count * 4096))
            with OpenFile(path) as file:
                spans = list(segments(file, log2))
        seen = [n for first, count in spans for n in range(first, first + count)]
        assert seen == sorted(set(seen))
        wanted = {(start * 65536 + 4096 * n) >> log2 for start, count in stretches for n in range(count)}
        assert wanted <= set(seen)
        assert all(1 <= count <= max(1, SEGMENT >> log2) for _, count in spans)

    @given(st.sets(st.integers(0, 400)), st.integers(16, 24))
    def test_runs_give_the_positions_back(self, positions, log2):
        runs = list(runs_of(sorted(positions), log2))
        assert [n for first, count in runs for n in range(first, first + count)] == sorted(positions)
        assert all(1 <= count <= max(1, SEGMENT >> log2) for _, count in runs)


class _crew:  # noqa: N801 - reads as a function
    """A crew for one example: Hypothesis does not like fixtures."""

    def __enter__(self):
        self.crew = Crew(2)
        return self.crew

    def __exit__(self, *_):
        self.crew.close()


class TestAFileThatChanges:
    @pytest.fixture
    def path(self, tmp_path):
        return written(tmp_path / "disk.img", random.Random(5).randbytes(MIB))

    def column(self, crew, file):
        column = Column(file.size, 16)
        hash_file(crew, file, column, nothing)
        return column

    def change(self, path, at=300_000, *, times=None):
        with path.open("r+b") as file:
            file.seek(at)
            file.write(b"changed")
        os.utime(path, ns=times or (1, 1))

    @pytest.mark.parametrize(
        "act",
        [
            lambda path: os.utime(path, ns=(5, 5)),
            lambda path: os.truncate(path, 100),
            lambda path: os.truncate(path, 2 * MIB),
            lambda path: path.unlink(),
            lambda path: path.rename(path.with_name("moved")),
            lambda path: (path.rename(path.with_name("moved")), path.write_bytes(b"another")),
        ],
        ids=["touched", "shorter", "longer", "gone", "renamed", "replaced"],
    )
    def test_a_change_between_opening_and_the_end_of_hashing_is_noticed(self, act, crew, path):
        with OpenFile(path) as file:
            act(path)
            with pytest.raises(FileChanged, match=r"disk\.img"):
                self.column(crew, file)

    @pytest.mark.parametrize("left", [0, 100, SEGMENT + 70_001])
    def test_a_file_that_shrinks_while_it_is_read_is_noticed(self, left, crew, tmp_path):
        path = written(tmp_path / "disk.img", random.Random(6).randbytes(5 * SEGMENT))
        with OpenFile(path) as file:
            column = Column(file.size, 16)
            made = frames(crew, file, column, segments(file, 16))
            next(made)
            os.truncate(path, left)
            with pytest.raises(FileChanged, match=r"disk\.img"):
                list(made)
        with OpenFile(written(path, random.Random(6).randbytes(5 * SEGMENT))) as file:
            once = itertools.count()
            with pytest.raises(FileChanged, match=r"disk\.img"):
                hash_file(crew, file, Column(file.size, 16), lambda _: next(once) or os.truncate(path, left))

    def test_what_is_read_is_what_there_is(self, path):
        """In the system's cache, on the disk alone, or partly so; at the end of the file and behind it."""
        path.write_bytes(path.read_bytes() + b"the end")
        data = path.read_bytes()
        room = memoryview(mmap.mmap(-1, 8192))
        with OpenFile(path) as file:
            os.fsync(file.fd)
            for _ in range(2):  # as it was written, and from the disk
                for at in (0, 4096 * 3, MIB - 8192, MIB - 4096, MIB):
                    count = file.read_into(room, at)
                    assert room[:count] == data[at : at + 8192]
                if hasattr(os, "posix_fadvise"):
                    os.posix_fadvise(file.fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.pread(file.fd, 1, MIB - 4096)
            assert file.read_into(room, MIB - 8192) == 8192
            assert room == data[MIB - 8192 : MIB]
            os.truncate(path, MIB - 4000)
            assert file.read_into(room, MIB - 8192) == 4192
            assert room[:4192] == data[MIB - 8192 : MIB - 4000]
            assert file.read_into(room, MIB) == 0

    def test_a_change_during_hashing_is_noticed(self, crew, path):
        with OpenFile(path) as file:
            column = Column(file.size, 16)
            once = itertools.count()
            with pytest.raises(FileChanged):
                hash_file(crew, file, column, lambda _: self.change(path) if next(once) == 0 else None)

    def test_a_change_between_hashing_and_storing_is_noticed_before_a_wrong_frame_comes_out(self, crew, path):
        with OpenFile(path) as file:
            column = self.column(crew, file)
            before = path.stat()
            self.change(path, times=(before.st_atime_ns, before.st_mtime_ns))  # as good as unnoticeable
            made = []
            with pytest.raises(FileChanged):
                made.extend(frames(crew, file, column, [(n, 1) for n in range(column.count)]))
        wrong = 300_000 >> 16
        assert wrong not in [frame.position for part in made for frame in part]

    def test_a_change_during_storing_is_noticed(self, crew, path):
        with OpenFile(path) as file:
            made = frames(crew, file, Column(file.size, 16), segments(file, 16))
            next(made)
            self.change(path)
            with pytest.raises(FileChanged):
                list(made)

    def test_a_file_cut_short_during_storing_is_noticed(self, crew, path):
        with OpenFile(path) as file:
            column = self.column(crew, file)
            os.truncate(path, 100_000)
            with pytest.raises(FileChanged):
                list(frames(crew, file, column, [(0, column.count)]))

    def test_a_hole_that_becomes_data_between_hashing_and_storing_is_noticed(self, crew, tmp_path):
        path = written(tmp_path / "disk.img", b"x" * 65536 + bytes(MIB), [(65536, MIB)])
        with OpenFile(path) as file:
            column = self.column(crew, file)
            self.change(path, 500_000)
            with pytest.raises(FileChanged):
                list(frames(crew, file, column, runs_of(column.unplaced(), 16)))


class Damaging:
    """zstd on a machine whose memory flips a bit now and then."""

    def __init__(self, damage, every=5):
        self.real = zstandard.ZstdCompressor(level=3, write_content_size=True)
        self.damage = damage
        self.every = every
        self.made = 0

    def compress(self, data, /):
        frame = self.real.compress(data)
        self.made += 1
        return self.damage(frame) if self.made % self.every == 0 else frame


def flipped(frame):
    at = len(frame) // 2
    return frame[:at] + bytes([frame[at] ^ 0x10]) + frame[at + 1 :]


def of_another(frame):
    return zstandard.ZstdCompressor(write_content_size=True).compress(zstandard.decompress(frame)[:-1] + b"?")


def without_size(frame):
    return zstandard.ZstdCompressor(write_content_size=False).compress(zstandard.decompress(frame))


class TestTheProof:
    DAMAGES = (
        flipped,
        of_another,
        without_size,
        lambda frame: frame[:-1],
        lambda frame: frame[:-3] + b"\0\0\0",
        lambda frame: frame + b"\0",
        lambda frame: frame + frame,
        lambda _: b"",
        lambda _: b"garbage" * 10,
        lambda frame: bytes.fromhex("502a4d1804000000") + b"abcd" + frame,
    )

    @pytest.mark.parametrize("damage", DAMAGES)
    @pytest.mark.parametrize("text", [True, False])
    def test_a_frame_that_is_not_its_chunk_never_comes_out(self, damage, text, tmp_path):
        data = b"all work and no play\n" * 50_000 if text else random.Random(3).randbytes(MIB)
        path = written(tmp_path / "file", data)
        crew = Crew(2, compressor=lambda _: Damaging(damage))
        found = []
        with OpenFile(path) as file, pytest.raises(ChunkDamaged, match="memory"):
            found.extend(frames(crew, file, Column(file.size, 16), segments(file, 16)))
        crew.close()
        for frame in itertools.chain(*found):
            assert hashlib.sha256(zstandard.decompress(frame.data)).digest() == frame.digest

    def test_it_can_be_switched_off(self, tmp_path):
        path = written(tmp_path / "file", random.Random(3).randbytes(MIB))
        crew = Crew(2, compressor=lambda _: Damaging(flipped))
        assert len(all_frames(crew, path, 16, proof=False)) == 16
        crew.close()


class TestTheCrew:
    def test_results_come_in_order_whoever_is_faster(self, crew):
        def work(number):
            time.sleep(random.random() / 500)
            return number

        assert list(crew.in_order(work, range(100))) == list(range(100))

    def test_only_so_many_are_underway(self):
        taken = itertools.count(1)
        last = 0

        def items():
            nonlocal last
            for number in range(200):
                last = next(taken)
                yield number

        crew = Crew(3)
        for seen, _ in enumerate(crew.in_order(lambda n: n, items()), 1):
            assert last <= seen + 2 * 3
        crew.close()

    def test_nothing_to_do_is_done(self, crew):
        assert list(crew.in_order(lambda n: n, [])) == []

    def test_an_error_of_one_ends_it_and_the_rest_is_not_begun(self):
        begun = []

        def work(number):
            begun.append(number)
            if number == 3:
                raise OSError(5, "the disk is tired")
            return number

        crew = Crew(2)
        results = []
        with pytest.raises(OSError, match="tired"):
            results.extend(crew.in_order(work, range(1000)))
        assert results == [0, 1, 2]
        assert len(begun) < 20
        crew.close()

    def test_an_error_of_the_items_ends_it(self, crew):
        def items():
            yield 1
            raise OSError(5, "no more")

        with pytest.raises(OSError, match="no more"):
            list(crew.in_order(lambda n: n, items()))

    def test_when_it_ends_nobody_is_at_work_any_more(self):
        """Whoever stops half-way closes the files next."""
        busy = threading.Semaphore(0)
        state = {"working": 0}
        lock = threading.Lock()

        def work(number):
            with lock:
                state["working"] += 1
            if number:
                busy.release()
                time.sleep(0.05)
            with lock:
                state["working"] -= 1
            return number

        crew = Crew(4)
        for _ in crew.in_order(work, range(100)):
            busy.acquire()
            break
        assert state["working"] == 0

        class Stop(BaseException):
            pass

        def consume():
            for _ in crew.in_order(work, range(100)):
                busy.acquire()
                raise Stop

        with pytest.raises(Stop):
            consume()
        assert state["working"] == 0
        crew.close()

    def test_it_may_be_dropped_after_the_crew_went_home(self):
        crew = Crew(1)
        left = crew.in_order(lambda n: n, range(100))
        next(left)
        crew.close()
        left.close()

    def test_memory_does_not_grow_with_the_file(self, tmp_path):
        """Frames that nobody has taken yet are bounded, too."""
        path = tmp_path / "file"
        path.write_bytes(random.Random(1).randbytes(MIB) * 64)
        taken = []

        class Counting:
            def __init__(self, level):
                self.real = zstandard.ZstdCompressor(write_content_size=True)

            def compress(self, data, /):
                taken.append(len(data))
                return self.real.compress(data)

        crew = Crew(2, compressor=Counting)
        with OpenFile(path) as file:
            made = frames(crew, file, Column(file.size, 18), segments(file, 18))
            for seen in range(1, 5):
                next(made)
                time.sleep(0.02)
                assert sum(taken) <= (seen + 2 * 2) * SEGMENT
            made.close()
        crew.close()
