"""Fetching: which ranges are read, what is believed of what arrives, and how it ends."""

import hashlib
import itertools
import os
import random
import signal
import struct
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from lying_packs import SID, Packs, compressed
from s3reg import wire
from s3reg.client.fetch import GAP_BYTES, RANGE_BYTES, TRIES, Fetcher, Wanted, group, ranges
from s3reg.client.pace import Pace
from s3reg.client.plan import Plan
from s3reg.client.pulllog import PullLog
from s3reg.client.target import Target
from s3reg.errors import ChunkDamaged, Interrupted, LinkRefused, RecordDamaged, RegistryUnreachable
from s3reg.model.names import Digest
from s3reg.model.packs import PackRef

KIB, MIB = 1024, 1024**2
LOG2 = 16
CHUNK = 1 << LOG2
WAIT = 30


class File:
    """A file being filled, with its journal; its wanted chunks are those of a map."""

    def __init__(self, folder, data, packs, name="disk.img"):
        self.data, self.packs = data, packs
        self.map = packs.map_of(data, LOG2)
        self.path = folder / name
        self.path.write_bytes(b"")
        os.truncate(self.path, len(data))
        self.fd = os.open(self.path, os.O_RDWR)
        self.log = PullLog(folder / f"{name}.journal", self.map.digest())
        self.log.begin(())
        self.target = Target(name, self.fd, LOG2, self.log)

    def wanted(self):
        for chunk in self.map.chunks():
            raw = min(CHUNK, len(self.data) - chunk.position * CHUNK)
            yield chunk.pack, Wanted(chunk.offset, chunk.length, chunk.digest, raw, self.target, chunk.position)

    def noted(self):
        return {at for first, count in self.log.read()[0] for at in range(first, first + count)}

    def written(self):
        """Positions that hold the right bytes, of those that are no zeros."""
        found = self.path.read_bytes()
        assert len(found) == len(self.data)
        parts = {at // CHUNK: found[at : at + CHUNK] for at in range(0, len(found), CHUNK)}
        right = {at for at, part in parts.items() if any(part)}
        assert all(parts[at] == self.data[at * CHUNK : (at + 1) * CHUNK] for at in right)
        return right


@pytest.fixture
def files(tmp_path):
    made = []

    def make(data, packs, name="disk.img"):
        made.append(File(tmp_path, data, packs, name))
        return made[-1]

    yield make
    for file in made:
        os.close(file.fd)


def run(packs, *files, lanes=4, connection=None):
    """Fetch all that these files want; the fetcher and the bytes that it said were done."""
    told, lock = [], threading.Lock()

    def advance(count):
        with lock:
            told.append(count)

    fetcher = Fetcher(connection or packs, packs, advance, lanes=lanes)
    try:
        fetcher.run(ranges(group(pair for file in files for pair in file.wanted())))
    finally:
        fetcher.done = sum(told)
        # A Ctrl-C while a thread is being started leaves one behind that is listed and never ran.
        begun = [thread for thread in threading.enumerate() if thread.name.startswith("fetch") and thread.ident]
        for thread in begun:
            thread.join(WAIT / 2)
            assert not thread.is_alive(), "a worker goes on"
    return fetcher


def fails(error, packs, *files, **more):
    with pytest.raises(error) as caught:
        run(packs, *files, **more)
    return caught.value


def noise(count, seed=1):
    return random.Random(seed).randbytes(count * CHUNK - 1000)


@st.composite
def wanted_chunks(draw):
    """Chunks wanted from a few packs: frames of any length, some of them wanted more than once."""
    wanted = {}
    for number in range(draw(st.integers(1, 3))):
        ref = PackRef(SID, Digest(f"{number:064x}"), 64 * MIB)
        at, chunks = 0, []
        for skip, length, times in draw(
            st.lists(
                st.tuples(
                    st.sampled_from([0, 0, 0, 1, GAP_BYTES, GAP_BYTES + 1, 3 * MIB]),
                    st.one_of(st.integers(1, 300 * KIB), st.sampled_from([4 * MIB, 8 * MIB, 8 * MIB + 1, 15 * MIB])),
                    st.integers(1, 2),
                ),
                max_size=25,
            )
        ):
            at += skip
            chunks += [Wanted(at, length, at.to_bytes(32, "big"), 1, None, len(chunks) + n) for n in range(times)]
            at += length
        draw(st.randoms()).shuffle(chunks)
        wanted[ref] = chunks
    return wanted


class TestRanges:
    @given(wanted_chunks())
    @settings(deadline=None)
    def test_every_chunk_is_in_exactly_one_range_and_ranges_are_as_long_as_they_may_be(self, wanted):
        made = list(ranges(wanted))
        for ref, chunks in wanted.items():
            mine = [part for part in made if part.pack == ref]
            assert sorted(c for part in mine for c in part.wanted) == sorted(chunks)
            for part in mine:
                frames = sorted({(c.offset, c.length) for c in part.wanted})
                assert [c.offset for c in part.wanted] == sorted(c.offset for c in part.wanted)
                assert part.first == frames[0][0]
                assert part.first + part.length == sum(frames[-1])
                assert part.length <= RANGE_BYTES or len(frames) == 1
                gaps = [after[0] - sum(before) for before, after in itertools.pairwise(frames)]
                assert all(gap <= GAP_BYTES for gap in gaps)
            for before, after in itertools.pairwise(mine):
                end = before.first + before.length
                assert after.first >= end
                joined = after.wanted[0].offset + after.wanted[0].length - before.first
                assert after.first - end > GAP_BYTES or joined > RANGE_BYTES, "they could have been one"

    def test_nothing_wanted_is_no_range(self):
        assert list(ranges({})) == list(ranges({PackRef(SID, Digest("a" * 64), 1): []})) == []


class TestFetching:
    def test_a_file_arrives_and_is_noted(self, files):
        packs = Packs()
        file = files(noise(20) + bytes(3 * CHUNK) + noise(5, 2), packs)
        fetcher = run(packs, file)
        assert file.path.read_bytes() == file.data
        assert file.noted() == {chunk.position for chunk in file.map.chunks()}
        assert fetcher.done == sum(min(CHUNK, len(file.data) - at * CHUNK) for at in file.noted())
        assert fetcher.received == sum(length for _, _, length in packs.reads)

    def test_chunks_that_several_files_want_are_read_once(self, files):
        packs = Packs()
        one, other = (files(noise(6) * 1, packs, name) for name in ("a.img", "b.img"))
        run(packs, one, other)
        assert packs.count_reads().most_common(1)[0][1] == 1
        assert one.path.read_bytes() == other.path.read_bytes() == one.data
        assert one.noted() == other.noted()

    def test_a_chunk_that_repeats_in_a_file_is_decoded_to_each_of_its_places(self, files):
        packs = Packs()
        repeated = random.Random(1).randbytes(CHUNK)
        file = files(repeated, packs)
        first = next(iter(file.map.chunks()))
        os.truncate(file.path, 5 * CHUNK)
        wanted = [Wanted(first.offset, first.length, first.digest, CHUNK, file.target, n) for n in (0, 2, 4)]
        Fetcher(packs, packs, lambda _: None).run(ranges({first.pack: wanted}))
        assert file.path.read_bytes() == (repeated + bytes(CHUNK)) * 2 + repeated

    def test_nothing_to_fetch_is_done(self):
        packs = Packs()
        assert run(packs).received == 0

    def test_what_was_garbled_once_on_the_way_is_read_again_and_counted_once(self, files):
        packs = Packs(frames=30)
        file = files(noise(20), packs)

        def garble(number, data):
            return data[:-5] + b"wrong" if number == 1 else data

        packs.garble = garble
        fetcher = run(packs, file, lanes=1)
        assert file.path.read_bytes() == file.data
        assert fetcher.done == len(file.data)
        assert fetcher.received == sum(length for _, _, length in packs.reads)


def raw_frame(chunk, *, window=None):
    """A frame put together by hand: RFC 8878 §3.1.1, one raw block; with a window it is no single segment."""
    head = struct.pack("<IB", 0xFD2FB528, 0xA0 if window is None else 0x80)
    head += b"" if window is None else bytes([window])
    return head + struct.pack("<I", len(chunk)) + struct.pack("<I", len(chunk) << 3 | 1)[:3] + chunk


def claims(chunk, size):
    """A frame of this chunk that claims another size."""
    return struct.pack("<IBQ", 0xFD2FB528, 0xE0, size) + struct.pack("<I", len(chunk) << 3 | 1)[:3] + chunk


def lying_bomb(size):
    """A frame that claims `size` bytes and has many blocks of 128 KiB that repeat one byte."""
    block = struct.pack("<I", (128 * KIB) << 3 | 2)[:3] + b"\1"
    last = struct.pack("<I", (128 * KIB) << 3 | 3)[:3] + b"\1"
    return struct.pack("<IBI", 0xFD2FB528, 0xA0, size) + block * 2000 + last


def with_dictionary(chunk):
    samples = [b"sample number %d of some" % n * 20 for n in range(300)]
    dictionary = zstandard.train_dictionary(4096, samples)
    return zstandard.ZstdCompressor(dict_data=dictionary, write_content_size=True).compress(chunk)


SKIPPABLE = struct.pack("<II", 0x184D2A50, 4) + b"skip"

HOSTILE = {
    "claims a TiB": lambda chunk: claims(chunk, 1 << 40),
    "claims the largest size": lambda chunk: claims(chunk, (1 << 64) - 3),
    "claims less": lambda chunk: claims(chunk, len(chunk) - 1),
    "claims more": lambda chunk: claims(chunk, len(chunk) + 1),
    "claims nothing": lambda chunk: zstandard.ZstdCompressor(write_content_size=False).compress(chunk),
    "a bomb": lambda chunk: compressed(bytes(256 * MIB)),
    "a bomb that claims a chunk": lambda chunk: lying_bomb(len(chunk)),
    "another chunk": lambda chunk: compressed(chunk[:-1] + bytes([chunk[-1] ^ 1])),
    "zeros": lambda chunk: compressed(bytes(len(chunk))),
    "two halves": lambda chunk: compressed(chunk[:100]) + compressed(chunk[100:]),
    "truncated": lambda chunk: compressed(chunk)[:-1],
    "truncated head": lambda chunk: compressed(chunk)[:5],
    "a skippable frame": lambda chunk: SKIPPABLE,
    "skippable, then the chunk": lambda chunk: SKIPPABLE + compressed(chunk),
    "not compressed": lambda chunk: chunk,
    "garbage": lambda chunk: b"garbage" * 100,
    "one byte": lambda chunk: b"(",
    "wants a dictionary": with_dictionary,
    "wants a window of 2 GiB": lambda chunk: raw_frame(chunk, window=(31 - 10) << 3)[:-7],
    "wrong checksum": lambda chunk: zstandard.ZstdCompressor(write_checksum=True).compress(chunk)[:-1] + b"?",
}

BEHIND = {
    "trailing bytes": lambda chunk: compressed(chunk) + b"\0",
    "two frames": lambda chunk: compressed(chunk) + compressed(chunk),
    "the chunk, then skippable": lambda chunk: compressed(chunk) + SKIPPABLE,
}


class TestWhatIsBelieved:
    @pytest.mark.parametrize("name", BEHIND)
    def test_what_lies_behind_a_frame_is_not_looked_at(self, name, files):
        """The digest says that the chunk is right, and no more is written than it has."""
        packs = Packs(frame=BEHIND[name])
        file = files(noise(3), packs)
        run(packs, file)
        assert file.path.read_bytes() == file.data

    @pytest.mark.parametrize("name", HOSTILE)
    def test_a_hostile_frame_is_refused_in_little_memory_and_nothing_of_it_is_written(self, name, files):
        data = b"text that compresses well, mostly\n" * 1900  # one chunk
        packs = Packs(frame=HOSTILE[name])
        file = files(data[:CHUNK], packs)
        tracemalloc.start()
        error = fails(ChunkDamaged, packs, file, lanes=1)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8 * MIB
        assert "disk.img" in str(error)
        assert next(iter(packs.bodies)) in str(error)
        assert file.written() == set()
        assert file.noted() == set()
        assert len(packs.reads) == TRIES

    def test_a_frame_with_a_window_of_its_own_is_the_chunk_or_refused(self, files):
        """2^27 bytes, the largest that zstd takes unasked; a chunk never needs it."""
        packs = Packs(frame=lambda chunk: raw_frame(chunk, window=(27 - 10) << 3))
        file = files(noise(1), packs)
        try:
            run(packs, file)
        except ChunkDamaged:
            assert file.written() == set()
        else:
            assert file.path.read_bytes() == file.data

    def test_frames_beside_a_bad_one_arrive(self, files):
        bad = random.Random(1).randbytes(3 * CHUNK)[2 * CHUNK :]
        packs = Packs(frame=lambda chunk: compressed(chunk if chunk != bad else chunk[::-1]))
        file = files(random.Random(1).randbytes(6 * CHUNK), packs)
        fails(ChunkDamaged, packs, file)
        assert file.written() == file.noted() == {0, 1}

    def test_the_same_digest_for_chunks_of_two_lengths_is_refused(self, files):
        """A map that says so lies: else the file would grow beyond its end."""
        packs = Packs()
        file = files(random.Random(1).randbytes(CHUNK), packs)
        first = next(iter(file.map.chunks()))
        wanted = [
            Wanted(first.offset, first.length, first.digest, CHUNK, file.target, 0),
            Wanted(first.offset, first.length, first.digest, 100, file.target, 1),
        ]
        os.truncate(file.path, CHUNK + 100)
        with pytest.raises(ChunkDamaged):
            Fetcher(packs, packs, lambda _: None).run(ranges({first.pack: wanted}))
        assert file.path.stat().st_size == CHUNK + 100


class TestLinks:
    def test_links_that_ended_are_renewed_once_for_all_workers(self, files):
        packs = Packs(frames=2)
        file = files(noise(60), packs)
        gate = threading.Barrier(4)
        packs.refuses = lambda link: link.endswith("?0") and (gate.wait(WAIT) >= 0)
        run(packs, file, lanes=4)
        assert file.path.read_bytes() == file.data
        assert packs.refreshed == 1

    def test_links_that_are_refused_whatever_their_age_end_it(self, files):
        packs = Packs()
        file = files(noise(20), packs)
        packs.refuses = lambda _: True
        fails(LinkRefused, packs, file)
        assert file.noted() == set()

    def plan(self, *answers):
        """A plan whose registry gives these answers, the last one for ever; and the queries."""
        queries = []

        class Registry:
            url = "http://registry"

            def ask(self, schema, method, path, body=None, query=None):
                assert (method, path) == ("GET", "/transfer/v1/plan")
                queries.append(query)
                return answers[min(len(queries), len(answers)) - 1]

        return Plan(Registry(), "base", None, 3), queries

    def answer(self, generation, version="1" * 32):
        link = wire.MapLink(SID, "b" * 64, 5, f"http://store/map?{generation}")
        pack = wire.PackLink(SID, "a" * 64, 9, 9, f"http://store/pack?{generation}")
        file = wire.FileEntry("disk.img", "image", 5, "c" * 64, map=link)
        return wire.PlanAnswer(
            template="6a1f2c3d-0000-4000-8000-000000000001", name="base", arch="arm64", domain="main", version=version,
            number=3, tag="v1", description="", size=5, created=1, expires=2, now=1, files=(file,), packs=(pack,),
        )  # fmt: skip

    def test_a_plan_asks_once_for_all_who_have_the_same_stale_link(self):
        plan, queries = self.plan(*(self.answer(n) for n in range(3)))
        pack, link = PackRef(SID, Digest("a" * 64), 9), wire.MapLink(SID, "b" * 64, 5)
        stale = plan.url(pack)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(plan.refresh, [stale] * 50))
        assert len(queries) == 2
        assert plan.url(pack) == "http://store/pack?1"
        assert plan.url(link) == "http://store/map?1"
        plan.refresh(plan.url(link))
        assert plan.url(pack) == "http://store/pack?2"

    def test_a_plan_asks_again_for_the_very_version_that_it_began_with(self):
        plan, queries = self.plan(self.answer(0), self.answer(1, version="2" * 32))
        with pytest.raises(RecordDamaged, match="another version"):
            plan.refresh(plan.url(PackRef(SID, Digest("a" * 64), 9)))
        assert queries[1] == {"ref": "6a1f2c3d-0000-4000-8000-000000000001", "tag": "v1", "number": None}

    def test_a_pack_that_the_plan_does_not_name_is_no_pack(self):
        plan, _ = self.plan(self.answer(0))
        with pytest.raises(RecordDamaged, match="no link"):
            plan.url(PackRef(SID, Digest("d" * 64), 9))


class Deaf:
    """A connection that ends what is underway by `stop` alone."""

    pace = Pace(jobs=20)

    def hang_up(self):
        pass


class TestHowItEnds:
    def test_the_first_failure_ends_it_and_nobody_goes_on(self, files):
        packs = Packs(frames=1)
        file = files(noise(200), packs)

        class Dying(Deaf):
            def read(self, link, *, first=None, length=None, into=None, stop=None):
                if len(packs.reads) >= 20:
                    raise RegistryUnreachable(url="http://store", reason="it is away")
                return packs.read(link, first=first, length=length)

        fails(RegistryUnreachable, packs, file, connection=Dying())
        assert len(packs.reads) < 40
        assert file.written() == file.noted()

    def hanging(self, packs, begun):
        """A connection whose other end is silent, until it is told to stop."""

        class Hanging(Deaf):
            def read(self, link, *, first=None, length=None, into=None, stop=None):
                begun.set()
                assert stop is not None
                assert stop.wait(WAIT), "nobody told it to stop"
                raise Interrupted

        return Hanging()

    def test_who_waits_for_a_silent_store_is_called_off_by_somebody_else_s_failure(self, files):
        packs = Packs(frames=1)
        file = files(noise(20), packs)
        begun = threading.Event()
        hanging = self.hanging(packs, begun)

        class Half(Deaf):
            def read(self, link, **more):
                if link.startswith(min(packs.bodies)):
                    assert begun.wait(WAIT)
                    raise RegistryUnreachable(url="http://store", reason="half of it is away")
                return hanging.read(link, **more)

        fails(RegistryUnreachable, packs, file, lanes=20, connection=Half())

    def test_ctrl_c_calls_everybody_off(self, files):
        packs = Packs(frames=1)
        file = files(noise(20), packs)
        begun = threading.Event()

        def press():
            assert begun.wait(WAIT)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        finger = threading.Thread(target=press)
        finger.start()
        fails(KeyboardInterrupt, packs, file, connection=self.hanging(packs, begun))
        finger.join()

    def test_a_disk_that_is_full_keeps_what_is_written(self, files):
        packs = Packs(frames=50)
        file = files(noise(200), packs)
        file.target.fd = os.open(file.path, os.O_RDONLY)
        try:
            fails(OSError, packs, file)
        finally:
            os.close(file.target.fd)
        assert file.noted() == set()

        written = []

        class Full(Target):
            def write(self, position, data, *, aligned=False):
                if len(written) == 2:
                    raise OSError(28, "No space left on device")
                super().write(position, data, aligned=aligned)
                written.append(range(position, position + -(-len(data) // CHUNK)))

        file.target = Full("disk.img", file.fd, LOG2, file.log)
        fails(OSError, packs, file, lanes=1)
        assert file.noted() == {at for run in written for at in run} == file.written()

    def test_memory_is_bounded_by_the_workers(self, files):
        """48 MiB through two workers: each holds a range and a chunk."""
        packs = Packs(frames=100)
        file = files(noise(768), packs)
        packs.reads.clear()
        tracemalloc.start()
        work = list(ranges(group(file.wanted())))
        before = tracemalloc.get_traced_memory()[0]
        Fetcher(packs, packs, lambda _: None, lanes=2).run(work)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak - before < 2 * (RANGE_BYTES + MIB)
        assert hashlib.sha256(file.path.read_bytes()).digest() == hashlib.sha256(file.data).digest()
