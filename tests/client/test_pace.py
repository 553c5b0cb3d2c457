"""How many requests run at once and how fast bytes go, by a clock that the tests set."""

import contextlib
import heapq
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clocks import Clock
from s3reg.client.connection import Access, Connection
from s3reg.client.pace import FEWEST_AT_FIRST, MOST, PATIENCE, PERIOD, REST, SMALLEST_PIECE, TOO_LONG, WORTH, Pace
from s3reg.errors import Interrupted, RegistryUnreachable
from scripted import Scripted, answers
from wires import certificate

WAIT = 30
MB = 10**6
NEVER = threading.Event()


class Noted(threading.Event):
    """A stop that notes how long it is waited for, and waits for nothing."""

    def __init__(self):
        super().__init__()
        self.pauses = []

    def wait(self, timeout=None):
        self.pauses.append(timeout)
        return False


class Going:
    """A pace whose line moves `goodput(requests at once)` bytes a second."""

    def __init__(self, goodput=lambda n: n * MB, **more):
        self.clock = Clock()
        self.goodput = goodput
        self.pace = Pace(clock=self.clock, **more)

    def period(self, *, busy=None):
        """One period, with all that are allowed at work, or with `busy`; how many were allowed."""
        allowed = self.pace.allowed
        at_work = allowed if busy is None else busy
        with contextlib.ExitStack() as turns:
            for _ in range(at_work):
                turns.enter_context(self.pace.turn(NEVER))
            self.clock.now += PERIOD
            self.pace.passed(int(self.goodput(at_work)))
        return allowed

    def periods(self, count):
        return [self.period() for _ in range(count)]


def ends(thread):
    thread.join(WAIT)
    return not thread.is_alive()


def waiting(pace, count):
    """Return once so many threads wait for their turn."""
    for _ in range(WAIT * 1000):
        if len(pace._turns._waiters) == count:
            return
        threading.Event().wait(0.001)
    raise AssertionError("they do not wait")


class TestGoodputDecides:
    def test_more_run_at_once_while_that_moves_more(self):
        seen = Going().periods(12)
        assert seen == sorted(seen)
        assert seen[0] == FEWEST_AT_FIRST
        assert seen[-1] == MOST

    def test_where_the_line_is_full_it_stays(self):
        going = Going(lambda n: min(n, 9) * MB)
        going.periods(6 + PATIENCE)
        assert set(going.periods(REST)) == {10}

    def test_it_goes_back_when_more_is_less(self):
        """huggingface_hub#4893: many streams that all succeed, and a throughput that collapses (peers 30)."""
        going = Going(lambda n: n * MB if n <= 6 else MB)
        going.periods(3 + PATIENCE)
        assert set(going.periods(REST)) == {6}

    @given(st.lists(st.integers(1, 1000), min_size=MOST, max_size=MOST))
    def test_it_rests_where_most_moved_of_what_it_tried(self, table):
        going = Going(lambda n: table[n - 1] * MB)
        tried = set()
        for _ in range(MOST * PATIENCE):
            tried.add(going.period())
            assert 1 <= going.pace.allowed <= MOST
            if going.pace._resting == REST:
                break
        best = max(table[n - 1] for n in tried)
        assert going.pace.allowed in tried
        assert table[going.pace.allowed - 1] * WORTH >= best

    def test_after_a_rest_it_tries_again(self):
        going = Going(lambda n: min(n, 5) * MB)
        going.periods(3 + PATIENCE)
        rested = going.pace.allowed
        going.goodput = lambda n: n * MB
        assert set(going.periods(REST)) == {rested}
        assert going.periods(12)[-1] == MOST

    def test_a_push_that_waits_for_its_cores_says_nothing_of_the_line(self):
        going = Going()
        for _ in range(20):
            going.period(busy=1)
        assert going.pace.allowed == FEWEST_AT_FIRST

    def test_what_somebody_asked_for_is_not_found_out(self):
        going = Going(lambda n: MB, jobs=11)
        assert set(going.periods(40)) == {11}


class TestARefusal:
    def test_fewer_run_at_once_and_one_at_least(self):
        going = Going(jobs=9)
        seen = []
        for _ in range(8):
            going.pace.refused()
            seen.append(going.pace.allowed)
            going.clock.now += PERIOD
        assert seen == [6, 4, 2, 1, 1, 1, 1, 1]

    def test_requests_that_are_refused_together_are_one_sign(self):
        going = Going(jobs=16)
        for _ in range(16):
            going.pace.refused()
        assert going.pace.allowed == 10

    @pytest.mark.parametrize("goodput", [lambda n: n * MB, lambda _: MB, lambda n: MB / n])
    def test_what_somebody_asked_for_comes_back_whatever_moves(self, goodput):
        going = Going(goodput, jobs=10)
        for _ in range(5):
            going.pace.refused()
            going.clock.now += PERIOD
        assert going.pace.allowed == 1
        seen = going.periods(PATIENCE + 12)
        assert set(seen[:PATIENCE]) == {1}
        assert seen == sorted(seen)
        assert seen[-1] == 10

    def test_what_paid_before_is_found_again(self):
        going = Going()
        going.periods(12)
        going.pace.refused()
        assert going.pace.allowed < MOST
        assert going.periods(PATIENCE + 12)[-1] == MOST

    def test_a_store_that_refuses_every_few_seconds_is_asked_all_the_same(self):
        going = Going()
        for _ in range(30):
            going.pace.refused()
            assert all(allowed >= 1 for allowed in going.periods(2))


class TestRate:
    def test_it_is_what_moved_in_a_second(self):
        going = Going(lambda _: 7 * MB)
        assert going.pace.rate is None
        going.periods(3)
        assert going.pace.rate == pytest.approx(7 * MB)

    def test_it_follows_what_moves_now(self):
        going = Going(lambda _: 8 * MB)
        going.periods(3)
        going.goodput = lambda _: MB
        going.periods(10)
        assert MB < going.pace.rate < 1.1 * MB

    def test_time_in_which_nobody_sent_is_no_slow_line(self):
        """A VM is hashed between two transfers; a period goes on where it was."""
        going = Going(lambda _: 8 * MB)
        going.periods(2)
        for idle in (0.7, 3, 5000):
            with going.pace.turn(NEVER):
                going.clock.now += PERIOD / 2
                going.pace.passed(4 * MB)
            going.clock.now += idle
            with going.pace.turn(NEVER):
                going.clock.now += PERIOD / 2
                going.pace.passed(4 * MB)
            assert going.pace.rate == pytest.approx(8 * MB)

    def test_time_in_which_everybody_paused_is_no_slow_line(self):
        going = Going(lambda _: 8 * MB)
        going.periods(2)
        allowed = going.pace.allowed
        with contextlib.ExitStack() as turns:
            for _ in range(allowed):
                turns.enter_context(going.pace.turn(NEVER))
            going.clock.now += TOO_LONG + 1
            going.pace.passed(100)
        assert going.pace.rate == pytest.approx(8 * MB)
        assert going.pace.allowed == allowed
        going.periods(1)
        assert going.pace.rate == pytest.approx(8 * MB)

    def test_what_nobody_took_a_turn_for_is_not_measured(self):
        going = Going()
        going.pace.passed(50 * MB)
        going.clock.now += 2
        going.pace.passed(50 * MB)
        assert going.pace.rate is None


class TestTheRoundTrip:
    def test_on_a_long_line_more_are_underway_from_the_start(self):
        pace = Pace()
        pace.heard("store", 0.08)
        assert pace.allowed == FEWEST_AT_FIRST + 8
        pace.heard("registry", 0.001)
        assert pace.allowed == FEWEST_AT_FIRST + 8
        pace.heard("moon", 2.5)
        assert pace.allowed == MOST

    def test_a_slow_name_server_and_a_lost_packet_are_not_the_line(self):
        pace = Pace()
        for seconds in (0.4, 1.02, 0.011, 0.2):
            pace.heard("store", seconds)
        assert pace.allowed == FEWEST_AT_FIRST + 1

    def test_it_is_a_guess_until_goodput_has_spoken(self):
        going = Going(lambda _: MB)
        going.periods(2 + PATIENCE)
        settled = going.pace.allowed
        going.pace.heard("store", 0.5)
        assert going.pace.allowed == settled

    def test_it_is_no_reason_to_go_on_as_before_a_refusal(self):
        going = Going()
        going.pace.heard("store", 0.5)
        going.pace.refused()
        going.pace.heard("store", 0.5)
        assert going.pace.allowed == MOST * 2 // 3

    def test_what_somebody_asked_for_stays(self):
        pace = Pace(jobs=3)
        pace.heard("store", 0.5)
        assert pace.allowed == 3

    def test_connections_to_the_registry_and_to_the_store_tell_it(self):
        with Scripted(answers(200, {"fine": True}), answers(200, b"data")) as server:
            connection = Connection(Access(server.url))
            connection.call("GET", "/x")
            connection.read(server.url.replace("127.0.0.1", "localhost") + "/bucket/pack?sig=1")
            connection.close()
        assert set(connection.pace._round_trips) == {"127.0.0.1", "localhost"}

    def test_a_tls_handshake_is_not_among_it(self, tmp_path):
        context, _ = certificate(tmp_path)
        with Scripted(answers(200), tls=context) as server:
            connection = Connection(Access(server.url))
            with pytest.raises(RegistryUnreachable):
                connection.call("GET", "/x")
            connection.close()
        assert set(connection.pace._round_trips) == {"127.0.0.1"}


class TestTheLimit:
    @given(
        limit=st.integers(1000, 100 * MB),
        pieces=st.lists(st.lists(st.tuples(st.integers(1, MB), st.floats(0, 30)), max_size=12), min_size=1, max_size=5),
    )
    def test_in_no_stretch_of_time_more_than_it_and_one_piece(self, limit, pieces):
        """Several threads, each with pieces to send and pauses of its own between them."""
        clock = Clock()
        pace = Pace(limit_rate=limit, clock=clock)
        turns = [(clock.now, number, iter(mine)) for number, mine in enumerate(pieces)]
        heapq.heapify(turns)
        gone = []
        while turns:
            clock.now, number, mine = heapq.heappop(turns)
            for count, rest in itertools.islice(mine, 1):
                stop = Noted()
                pace.hold_back(count, stop)
                leaves = clock.now + stop.pauses[0]
                gone.append((leaves, count))
                heapq.heappush(turns, (leaves + rest, number, mine))
        gone.sort()
        for first in range(len(gone)):
            total = 0
            for at, count in gone[first:]:
                total += count
                assert total <= (at - gone[first][0]) * limit * 1.0001 + gone[first][1] + 1

    def test_nothing_is_saved_up_while_nobody_sends(self):
        clock, stop = Clock(), Noted()
        pace = Pace(limit_rate=1000, clock=clock)
        clock.now += 3600
        for _ in range(3):
            pace.hold_back(500, stop)
        assert stop.pauses == pytest.approx([0.5, 1.0, 1.5])

    def test_whoever_always_sends_has_all_of_it(self):
        clock, stop = Clock(), Noted()
        pace = Pace(limit_rate=1000, clock=clock)
        for _ in range(100):
            pace.hold_back(250, stop)
            clock.now += stop.pauses[-1]
        assert clock.now - Clock.now == pytest.approx(25)

    def test_all_threads_share_it(self):
        stop = Noted()
        pace = Pace(limit_rate=1000, clock=Clock())
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: pace.hold_back(100, stop), range(200)))
        assert sorted(stop.pauses) == pytest.approx([0.1 * n for n in range(1, 201)])

    def test_stop_ends_the_wait(self):
        pace, stop = Pace(limit_rate=1), threading.Event()
        held = threading.Thread(target=pace.hold_back, args=(10**6, stop), daemon=True)
        held.start()
        stop.set()
        assert ends(held)

    def test_without_one_nobody_waits(self):
        stop = Noted()
        Pace().hold_back(10**12, stop)
        assert stop.pauses == []

    def test_pieces_are_small_under_one_and_otherwise_as_large_as_may_be(self):
        assert Pace().piece(MB) == MB
        assert Pace(limit_rate=10 * MB).piece(65536) == 65536
        assert Pace(limit_rate=200_000).piece(65536) == 20_000
        assert Pace(limit_rate=1).piece(65536) == SMALLEST_PIECE


class TestTurns:
    def test_only_so_many_at_once_and_everybody_comes(self):
        pace, lock, at_work, most = Pace(jobs=3), threading.Lock(), 0, 0

        def work(_):
            nonlocal at_work, most
            with pace.turn(NEVER):
                with lock:
                    at_work += 1
                    most = max(most, at_work)
                with lock:
                    at_work -= 1

        with ThreadPoolExecutor(12) as pool:
            list(pool.map(work, range(500)))
        assert most <= 3
        assert pace._busy == 0

    def test_who_waits_comes_when_more_are_allowed(self):
        going = Going(jobs=2)
        going.pace.refused()
        came = threading.Event()

        def work():
            with going.pace.turn(NEVER):
                came.set()

        with going.pace.turn(NEVER):
            second = threading.Thread(target=work, daemon=True)
            second.start()
            waiting(going.pace, 1)
            for _ in range(PATIENCE + 1):
                going.clock.now += PERIOD
                going.pace.passed(MB)
            assert came.wait(WAIT)
        assert ends(second)

    def test_who_is_not_wanted_any_more_does_not_begin(self):
        stop = threading.Event()
        stop.set()
        pace = Pace(jobs=1)
        with pytest.raises(Interrupted), pace.turn(stop):
            pytest.fail("it began")
        assert pace._busy == 0

    def waiter(self, pace, stop, ended):
        def work():
            try:
                with pace.turn(stop):
                    ended.append("came")
            except Interrupted:
                ended.append("left")

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread

    def test_who_waits_leaves_when_its_connection_is_hung_up(self):
        connection, stop, ended = Connection(Access("http://127.0.0.1:9"), pace=Pace(jobs=1)), threading.Event(), []
        with connection.pace.turn(NEVER):
            waits = self.waiter(connection.pace, stop, ended)
            waiting(connection.pace, 1)
            stop.set()
            connection.hang_up()
            assert ends(waits)
        assert ended == ["left"]

    def test_a_turn_that_comes_to_one_who_left_goes_to_the_next(self):
        pace, stop, left, came = Pace(jobs=1), threading.Event(), [], []
        with pace.turn(NEVER):
            first = self.waiter(pace, stop, left)
            waiting(pace, 1)
            second = self.waiter(pace, NEVER, came)
            waiting(pace, 2)
            stop.set()  # and nobody tells
        assert ends(first)
        assert ends(second)
        assert (left, came) == (["left"], ["came"])
