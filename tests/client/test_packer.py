"""Packs on their way: what they are, how many are underway, what becomes of a failure, and what the log of a push keeps."""

import array
import base64
import hashlib
import itertools
import json
import random
import subprocess
import threading
from collections import Counter
from concurrent.futures import wait

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from s3reg import wire
from s3reg.client.effort import SIGNS, Effort
from s3reg.client.pace import Pace
from s3reg.client.packer import FEWEST_BYTES, LINK_TRIES, PACK_BYTES, PACK_SECONDS, Links, Packer
from s3reg.client.pushlog import Began, PushLog
from s3reg.client.reuse import Place, Shelf
from s3reg.client.scan import Frame
from s3reg.errors import AnswerInvalid, Interrupted, LinkRefused, RegistryUnreachable, SessionExpired
from s3reg.model.names import Digest, SessionId, VersionId
from s3reg.model.packs import MOST_FRAMES, PackRef, read_seek_table, seek_table_bytes
from servers import needs

KIB, MIB = 1024, 1024**2
SID = SessionId("5" * 32)
OTHER = SessionId("6" * 32)
BEGAN = Began("http://registry", SID, VersionId(SID))
WAIT = 30


class Store:
    """A connection whose other end keeps what it is sent. `refuse(link, body)` may raise."""

    url = "http://registry"

    def __init__(self, refuse=None):
        self.objects = {}
        self.batches = []
        self.sent = []
        self.refuse = refuse or (lambda _link, _body: None)
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self.hung_up = False
        self.pace = Pace()

    def ask(self, schema, method, path, body=None, query=None):
        assert (schema, method, path) == (wire.UploadsAnswerSchema, "POST", f"/transfer/v1/sessions/{SID}/uploads")
        with self._lock:
            self.batches.append([row["sha256"] for row in body["objects"]])
            links = tuple(
                wire.UploadLink(f"{row['sha256']}?{next(self._numbers)}", {"size": str(row["size"])}, 0)
                for row in body["objects"]
            )
        return wire.UploadsAnswer(links)

    def send(self, link, headers, body, *, stop=None):
        self.refuse(link, body)
        name = link.partition("?")[0]
        data = bytes(body)
        assert hashlib.sha256(data).hexdigest() == name
        assert headers == {"size": str(len(data))}
        with self._lock:
            self.sent.append(link)
            self.objects[name] = data

    def hang_up(self):
        self.hung_up = True
        self.pace.look_again()


@pytest.fixture
def log(tmp_path):
    log = PushLog(tmp_path / "push" / "log.jsonl")
    log.begin(BEGAN)
    return log


class Pushing:
    """A packer over a store, and what it told."""

    def __init__(self, log, store=None, **more):
        self.store = store or Store()
        self.shelf = Shelf()
        self.acknowledged = 0
        self._lock = threading.Lock()
        self.packer = Packer(self.store, SID, self.shelf, log, self._count, **{"pack_bytes": 64 * KIB, **more})
        self.places = {}

    def _count(self, count):
        with self._lock:
            self.acknowledged += count

    def add(self, *chunks):
        for position, chunk in enumerate(chunks):
            frame = frame_of(chunk, position)
            self.places[frame.digest] = (self.packer.add(frame), chunk)

    def check(self):
        """Every frame lies where it was said to, in a pack that the store has."""
        table = self.shelf.complete()
        for digest, (place, chunk) in self.places.items():
            data = self.store.objects[table[place.pack].sha256][place.offset : place.offset + place.length]
            assert zstandard.decompress(data) == chunk
            assert hashlib.sha256(chunk).digest() == digest


def frame_of(chunk, position=0):
    data = zstandard.ZstdCompressor(level=3, write_content_size=True).compress(chunk)
    return Frame(position, hashlib.sha256(chunk).digest(), data, len(chunk))


def noise(count, size=10 * KIB, seed=1):
    chance = random.Random(seed)
    return [chance.randbytes(size) for _ in range(count)]


class TestPacks:
    def test_packs_are_seekable_zstd_and_never_larger_than_told(self, log):
        pushing = Pushing(log)
        pushing.add(*noise(50), b"text " * 9999)
        pushing.packer.flush()
        pushing.check()
        assert len(pushing.store.objects) > 8
        for data in pushing.store.objects.values():
            assert len(data) <= 64 * KIB
            table = read_seek_table(data, len(data))
            frames = [data[at : at + length] for at, length in zip(table.offsets(), table.compressed, strict=True)]
            assert [len(zstandard.decompress(frame)) for frame in frames] == list(table.raw)
        assert pushing.acknowledged == sum(len(chunk) for _, chunk in pushing.places.values())
        assert pushing.packer.sent == sum(map(len, pushing.store.objects.values()))
        pushing.packer.close()

    def test_the_zstd_program_unpacks_one(self, log, tmp_path):
        program = needs("zstd")
        chunks = noise(4)
        pushing = Pushing(log)
        pushing.add(*chunks)
        pushing.packer.flush()
        pushing.packer.close()
        (tmp_path / "pack").write_bytes(next(iter(pushing.store.objects.values())))
        unpacked = subprocess.run([program, "-dc", tmp_path / "pack"], capture_output=True, check=True)
        assert unpacked.stdout == b"".join(chunks)

    @given(st.lists(st.integers(1, 12_000), max_size=40), st.integers(13_000, 40_000))
    @settings(deadline=None, max_examples=40)
    def test_any_frames_come_to_lie_where_they_are_said_to(self, tmp_path_factory, sizes, pack_bytes):
        log = PushLog(tmp_path_factory.mktemp("log") / "log")
        log.begin(BEGAN)
        pushing = Pushing(log, pack_bytes=pack_bytes)
        pushing.add(*(random.Random(n).randbytes(size) for n, size in enumerate(sizes)))
        pushing.packer.flush()
        pushing.check()
        assert all(len(data) <= pack_bytes for data in pushing.store.objects.values())
        pushing.packer.close()

    def test_a_pack_has_no_more_frames_than_a_reader_takes(self, log):
        pushing = Pushing(log, pack_bytes=8 * 1024**2)
        tiny = zstandard.ZstdCompressor(write_content_size=True).compress(b"x")
        for number in range(MOST_FRAMES + 10):
            pushing.packer.add(Frame(number, number.to_bytes(32, "big"), tiny, 1))
        pushing.packer.flush()
        pushing.packer.close()
        counts = [len(read_seek_table(data, len(data)).raw) for data in pushing.store.objects.values()]
        assert sorted(counts) == [10, MOST_FRAMES]

    def test_nothing_to_send_sends_nothing(self, log):
        pushing = Pushing(log)
        pushing.packer.flush()
        pushing.packer.flush()
        pushing.packer.close()
        assert pushing.store.batches == []

    def test_a_chunk_that_this_push_has_stored_is_not_stored_again(self, log):
        pushing = Pushing(log)
        chunks = noise(20)
        pushing.add(*chunks, *chunks)
        pushing.packer.flush()
        pushing.add(*chunks)
        pushing.packer.flush()
        pushing.check()
        raws = [len(read_seek_table(data, len(data)).raw) for data in pushing.store.objects.values()]
        assert sum(raws) == 20
        assert pushing.acknowledged == 3 * 20 * 10 * KIB
        pushing.packer.close()

    def test_a_chunk_of_a_base_that_comes_here_was_decided_to_be_stored_again(self, log):
        pushing = Pushing(log)
        chunk = noise(1)[0]
        row = pushing.shelf.row(PackRef(OTHER, Digest("a" * 64), 5000))
        pushing.shelf.chunks[hashlib.sha256(chunk).digest()] = Place(row, 0, 400)
        pushing.add(chunk)
        assert pushing.places[hashlib.sha256(chunk).digest()][0].pack != row
        pushing.packer.flush()
        pushing.check()
        pushing.packer.close()


class TestTheLine:
    def test_only_so_many_are_on_it_and_buffers_come_back(self, log):
        on_the_line, most, lock = 0, 0, threading.Lock()

        def count(_link, body):
            nonlocal on_the_line, most
            with lock:
                on_the_line += 1
                most = max(most, on_the_line)
            bytes(body)
            with lock:
                on_the_line -= 1

        pushing = Pushing(log, Store(count), on_the_line=2)
        pushing.add(*noise(200))
        pushing.packer.flush()
        pushing.check()
        pushing.packer.close()
        assert most <= 2
        assert pushing.packer._buffers.qsize() == 3

    def test_whoever_adds_waits_while_every_buffer_is_on_the_line(self, log):
        gate, arrived = threading.Event(), threading.Semaphore(0)

        def hold(_link, _body):
            arrived.release()
            assert gate.wait(WAIT)

        pushing = Pushing(log, Store(hold), on_the_line=2)
        added = []
        adding = threading.Thread(target=lambda: [(pushing.add(chunk), added.append(1)) for chunk in noise(60)])
        adding.start()
        for _ in range(2):
            assert arrived.acquire(timeout=WAIT)
        for _ in range(100):
            adding.join(0.01)
            if len(added) >= 18:
                break
        assert len(added) == 3 * 6  # two packs on the line, one that is full
        gate.set()
        adding.join(WAIT)
        pushing.packer.flush()
        pushing.check()
        pushing.packer.close()

    @pytest.mark.parametrize("nth", [1, 2, 5])
    def test_a_failure_is_raised_by_what_comes_next_and_by_all_that_follows(self, nth, log):
        seen = itertools.count(1)

        def fail(_link, _body):
            if next(seen) >= nth:
                raise RegistryUnreachable(url="http://store", reason="it is away")

        pushing = Pushing(log, Store(fail), on_the_line=2)
        with pytest.raises(RegistryUnreachable):
            pushing.add(*noise(500))
        for _ in range(20):  # more often than there are buffers
            with pytest.raises(RegistryUnreachable):
                pushing.add(*noise(1, seed=2))
            with pytest.raises(RegistryUnreachable):
                pushing.packer.flush()
        pushing.packer.close()

    def test_a_failure_of_the_last_pack_is_raised_by_flush(self, log):
        def fail(_link, _body):
            raise SessionExpired(session=SID)

        pushing = Pushing(log, Store(fail))
        pushing.add(*noise(2))
        with pytest.raises(SessionExpired):
            pushing.packer.flush()
        pushing.packer.close()

    def test_closing_drops_what_is_on_the_line(self, log):
        arrived = threading.Event()

        class Slow(Store):
            def send(self, link, headers, body, *, stop=None):
                arrived.set()
                assert stop is not None
                assert stop.wait(WAIT)
                raise Interrupted

        pushing = Pushing(log, Slow())
        pushing.add(*noise(20))
        assert arrived.wait(WAIT)
        pushing.packer.close()
        assert pushing.store.hung_up
        assert log.read(Shelf()) == BEGAN

    def test_a_map_is_sent_under_its_digest(self, log):
        pushing = Pushing(log)
        sha256, size = pushing.packer.send_map(b"a map")
        assert (sha256, size) == (hashlib.sha256(b"a map").hexdigest(), 5)
        assert pushing.store.objects[sha256] == b"a map"
        pushing.packer.close()
        assert not pushing.store.hung_up


class Waiting(Effort):
    """An effort at which the line takes one pack whenever the cores had to wait for it."""

    def __init__(self):
        super().__init__()
        self.taken = threading.Semaphore(0)
        self.levels = []

    def cores_wait(self):
        super().cores_wait()
        self.levels.append(self.level)
        self.taken.release()


class TestHowHardAndHowLarge:
    def test_the_level_goes_up_while_the_cores_wait_for_the_line(self, log):
        effort = Waiting()

        def take(_link, _body):
            assert effort.taken.acquire(timeout=WAIT)

        pushing = Pushing(log, Store(take), on_the_line=2, effort=effort)
        pushing.add(*noise(6 * (3 + 2 * SIGNS + 2)))
        effort.taken.release(100)
        pushing.packer.flush()
        pushing.check()
        pushing.packer.close()
        assert effort.levels == [3] * (SIGNS - 1) + [6] * SIGNS + [9] * (len(effort.levels) - 2 * SIGNS + 1)
        assert effort.level == 9

    def test_the_level_goes_down_while_the_line_waits_for_the_cores(self, log):
        effort, levels = Effort(), []
        pushing = Pushing(log, effort=effort)
        for chunk in noise(6 * (2 + 2 * SIGNS)):
            pushing.add(chunk)
            wait(pushing.packer._underway)
            levels.append(effort.level)
        pushing.packer.flush()
        pushing.packer.close()
        assert levels == sorted(levels, reverse=True)
        assert set(levels) == {3, 1}

    def test_others_on_the_line_and_a_buffer_to_fill_is_as_it_should_be(self, log):
        gate, arrived = threading.Event(), threading.Event()
        first = itertools.count()

        def hold(_link, _body):
            if next(first) == 0:
                arrived.set()
                assert gate.wait(WAIT)

        effort = Effort()
        pushing = Pushing(log, Store(hold), effort=effort)
        for chunk in noise(6 * 4 * SIGNS):
            pushing.add(chunk)
            # The first pack is the one that stays.
            assert not pushing.packer._underway or arrived.wait(WAIT)
            wait(pushing.packer._underway[1:])
        assert effort.level == 3
        gate.set()
        pushing.packer.flush()
        pushing.packer.close()

    @pytest.mark.parametrize(
        ("rate", "jobs", "expected"),
        [
            (None, 1, FEWEST_BYTES),
            (10_000, 1, FEWEST_BYTES),
            (4 * MIB, 1, PACK_SECONDS * 4 * MIB),
            (12 * MIB, 2, PACK_SECONDS * 6 * MIB),
            (12 * MIB, 8, FEWEST_BYTES),
            (10**9, 8, PACK_BYTES),
        ],
    )
    def test_a_pack_is_what_one_connection_carries_in_a_few_seconds(self, rate, jobs, expected, log):
        store = Store()
        store.pace = Pace(jobs=jobs)
        store.pace.rate = rate
        pushing = Pushing(log, store, pack_bytes=PACK_BYTES)
        data = random.Random(1).randbytes(MIB - 64)
        for number in range(36):
            pushing.packer.add(Frame(number, number.to_bytes(32, "big"), data, 2 * MIB))
        pushing.packer.flush()
        pushing.packer.close()
        largest = max(map(len, store.objects.values()))
        assert expected - MIB < largest <= expected

    def test_buffers_are_one_more_than_may_be_on_the_line(self, log):
        store = Store()
        store.pace.allowed = 1
        pushing = Pushing(log, store)
        pushing.add(*noise(100))
        pushing.packer.flush()
        assert pushing.packer._buffers.qsize() == pushing.packer._made == 2
        store.pace.allowed = 4
        pushing.add(*noise(200, seed=2))
        pushing.packer.flush()
        assert 2 <= pushing.packer._buffers.qsize() == pushing.packer._made <= 4 + 1
        pushing.packer.close()

    def test_who_waits_for_its_turn_behind_another_push_is_let_go(self, log, tmp_path):
        """Both share one pace, of one request at once; the other goes on."""
        gate, arrived = threading.Event(), threading.Event()

        def hold(_link, _body):
            arrived.set()
            assert gate.wait(WAIT)

        store = Store(hold)
        store.pace = Pace(jobs=1)
        other_log = PushLog(tmp_path / "other" / "log.jsonl")
        other_log.begin(BEGAN)
        first, second = Pushing(log, store), Pushing(other_log, store)
        first.add(*noise(7))
        assert arrived.wait(WAIT)
        second.add(*noise(7, seed=2))
        closing = threading.Thread(target=second.packer.close, daemon=True)
        closing.start()
        closing.join(WAIT)
        assert not closing.is_alive()
        assert not gate.is_set()
        gate.set()
        first.packer.flush()
        first.check()
        first.packer.close()


class TestLinks:
    def test_a_refused_link_is_replaced_by_a_fresh_one(self, log):
        refused = Counter()

        def expired(link, _body):
            name = link.partition("?")[0]
            if refused[name] < LINK_TRIES - 1:
                refused[name] += 1
                raise LinkRefused(reason="403 AccessDenied")

        pushing = Pushing(log, Store(expired))
        pushing.add(*noise(12))
        pushing.packer.flush()
        pushing.check()
        pushing.packer.close()
        assert set(refused.values()) == {LINK_TRIES - 1}
        assert len({link for batch in pushing.store.batches for link in batch}) == len(pushing.store.objects)

    def test_a_link_that_is_refused_whatever_its_age_ends_the_push(self, log):
        tries = itertools.count()

        def refuse(_link, _body):
            next(tries)
            raise LinkRefused(reason="403 RequestTimeTooSkewed")

        pushing = Pushing(log, Store(refuse))
        pushing.add(b"chunk")
        with pytest.raises(LinkRefused):
            pushing.packer.flush()
        assert next(tries) == LINK_TRIES
        pushing.packer.close()

    def crowd(self, links, count):
        """`count` threads that want a link each; what each got, in order."""
        found = [None] * count

        def get(number):
            try:
                found[number] = links.get(wire.Upload("pack", f"{number:064x}", number + 1))
            except AnswerInvalid as e:
                found[number] = e

        threads = [threading.Thread(target=get, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
            assert not thread.is_alive(), "somebody waits for ever"
        return found

    def test_those_who_wait_are_asked_for_together_and_each_gets_its_own(self):
        count = 2 * wire.MOST_UPLOADS + 20
        ready = threading.Event()

        class Slow(Store):
            def ask(self, *arguments, **named):
                if not self.batches:
                    assert ready.wait(WAIT)
                return super().ask(*arguments, **named)

        store = Slow()
        links = Links(store, SID)
        everybody = threading.Thread(target=lambda: found.extend(self.crowd(links, count)))
        found = []
        everybody.start()
        while links._wanted.qsize() < count - 1:
            everybody.join(0.001)
        ready.set()
        everybody.join(WAIT)
        assert [link.url.partition("?")[0] for link in found] == [f"{number:064x}" for number in range(count)]
        assert len(store.batches) <= 4
        assert max(map(len, store.batches)) == wire.MOST_UPLOADS

    @pytest.mark.parametrize("wrong", [lambda links: links[:-1], lambda links: (*links, links[0]), lambda _: ()])
    def test_a_registry_that_cannot_count_leaves_nobody_waiting(self, wrong):
        class Wrong(Store):
            def ask(self, *arguments, **named):
                return wire.UploadsAnswer(wrong(super().ask(*arguments, **named).links))

        found = self.crowd(Links(Wrong(), SID), 10)
        assert all(isinstance(one, AnswerInvalid) for one in found)


class TestTheLog:
    def noted(self, log, *chunks, seed=1):
        pushing = Pushing(log)
        pushing.add(*(chunks or noise(20, seed=seed)))
        pushing.packer.flush()
        pushing.packer.close()
        return pushing

    def test_what_was_sent_is_on_the_shelf_of_the_next_run(self, log):
        first = self.noted(log)
        shelf = Shelf()
        assert log.read(shelf) == BEGAN
        assert {shelf.table[row].sha256 for row in shelf.own} == set(first.store.objects)
        for digest, (place, _) in first.places.items():
            again = shelf.chunks[digest]
            assert shelf.table[again.pack] == first.shelf.table[place.pack]
            assert (again.offset, again.length) == (place.offset, place.length)

    def test_a_second_run_sends_only_what_the_first_did_not(self, log):
        self.noted(log)
        second = Pushing(log)
        assert log.read(second.shelf) == BEGAN
        second.add(*noise(20), b"new")
        second.packer.flush()
        second.packer.close()
        assert len(second.store.objects) == 1
        assert second.acknowledged == 20 * 10 * KIB + 3

    def test_a_torn_last_line_costs_its_pack_only(self, log):
        first = self.noted(log)
        whole = log._path.read_bytes()
        lines = whole.strip().split(b"\n")
        for cut in (1, len(lines[-1]) // 2, len(lines[-1])):
            log._path.write_bytes(whole.rstrip(b"\n")[:-cut])
            shelf = Shelf()
            assert log.read(shelf) == BEGAN
            assert len(shelf.own) == len(first.store.objects) - 1

    def test_what_is_noted_behind_a_torn_line_counts(self, log):
        first = self.noted(log)
        log._path.write_bytes(log._path.read_bytes().rstrip(b"\n")[:-30])
        second = self.noted(log, *noise(5, seed=9))
        shelf = Shelf()
        log.read(shelf)
        assert len(shelf.own) == len(first.store.objects) - 1 + len(second.store.objects)
        assert set(second.places) <= set(shelf.chunks)

    def garbage(self):
        digests = base64.b64encode(b"d" * 64).decode()
        whole = {"pack": "a" * 64, "size": 30 + seek_table_bytes(2), "lengths": [10, 20], "digests": digests}
        yield from ({key: value for key, value in whole.items() if key != gone} for gone in whole)
        for change in (
            {"pack": "../../x"}, {"pack": 5}, {"size": 29}, {"size": "x"}, {"size": None}, {"size": 1 << 40},
            {"lengths": [10, -1]}, {"lengths": [10, 1 << 40]}, {"lengths": "ab"}, {"lengths": [10.5, 2]},
            {"lengths": [10]}, {"lengths": [10, 20, 30]}, {"lengths": [30, 0]}, {"lengths": None}, {"lengths": {}},
            {"digests": "not base64!"}, {"digests": ""}, {"digests": 7},
        ):  # fmt: skip
            yield {**whole, **change}

    def test_garbage_lines_take_nothing_with_them(self, log):
        first = self.noted(log)
        lines = log._path.read_bytes().split(b"\n")
        bad = [json.dumps(row).encode() for row in self.garbage()]
        bad += [b"[1]", b"null", b"\xff\xfe\0", b"{" * 10, b"12", b'"x"']
        log._path.write_bytes(b"\n".join([lines[0], *bad, *lines[1:], *bad]))
        shelf = Shelf()
        assert log.read(shelf) == BEGAN
        assert {pack.sha256 for pack in shelf.complete()} == set(first.store.objects)
        assert set(shelf.chunks) == set(first.places)

    @pytest.mark.parametrize(
        "first",
        [
            b"", b"garbage", b"[]", b'{"v": 2, "registry": "r", "session": "%s", "version": "%s"}', b'{"v": 1}',
            b'{"v": 1, "registry": "r", "session": "../x", "version": "%s"}', b'{"v": 1, "registry": "r", "session": 5}',
        ],
    )  # fmt: skip
    def test_a_log_that_begins_like_none_is_none_and_leaves_the_shelf_empty(self, first, log):
        self.noted(log)
        rest = log._path.read_bytes().split(b"\n")[1:]
        log._path.write_bytes(b"\n".join([first.replace(b"%s", SID.encode()), *rest]))
        shelf = Shelf()
        assert log.read(shelf) is None
        assert shelf == Shelf()

    def test_no_log_is_no_push(self, tmp_path):
        assert PushLog(tmp_path / "none").read(Shelf()) is None

    def test_beginning_forgets_what_was(self, log):
        self.noted(log)
        log.begin(Began("http://registry", OTHER, VersionId(OTHER)))
        shelf = Shelf()
        assert log.read(shelf) == Began("http://registry", OTHER, VersionId(OTHER))
        assert shelf == Shelf()

    def test_a_log_that_is_forgotten_may_be_forgotten_again(self, log):
        log.forget()
        log.forget()
        assert log.read(Shelf()) is None

    def test_it_keeps_no_link(self, log):
        self.noted(log)
        assert b"?" not in log._path.read_bytes()

    def test_packs_noted_by_several_threads_are_whole_lines(self, log):
        def note(number):
            for at in range(20):
                lengths = array.array("I", [1 + at] * 50)
                ref = PackRef(SID, Digest(f"{number * 100 + at:064x}"), sum(lengths) + seek_table_bytes(50))
                log.note(ref, lengths, random.Random(number * 100 + at).randbytes(1600))

        threads = [threading.Thread(target=note, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
        shelf = Shelf()
        log.read(shelf)
        assert len(shelf.own) == 80
        assert len(shelf.chunks) == 80 * 50
