"""How many wrong credentials are looked at: of one address, for one name, and from all addresses together."""

import pytest

from s3reg.auth.failures import MOST_KNOWN, Failures
from s3reg.errors import TooManyFailures


@pytest.fixture
def failures(clock):
    return Failures(clock)


def tried(failures, address, name="root", times=1):
    """How many of so many failing attempts were looked at."""
    looked = 0
    for _ in range(times):
        try:
            failures.check(address, name)
        except TooManyFailures:
            continue
        failures.note(address, name)
        looked += 1
    return looked


def wait(failures, address, name="root"):
    """Seconds that somebody is told to wait; 0: nobody tells them to."""
    try:
        failures.check(address, name)
    except TooManyFailures as e:
        return e.detail["seconds"]
    return 0


def test_an_address_fails_twenty_times_at_once_and_once_a_second_from_there_on(failures, clock):
    assert tried(failures, "192.0.2.1", times=10_000) == 20
    assert wait(failures, "192.0.2.1") == 1
    clock.now += 0.999
    assert tried(failures, "192.0.2.1", times=5) == 0
    clock.now += 0.001
    assert tried(failures, "192.0.2.1", times=5) == 1
    clock.now += 7
    assert tried(failures, "192.0.2.1", times=50) == 7
    clock.now += 3600
    assert tried(failures, "192.0.2.1", times=50) == 20


def test_it_is_one_number_for_all_names_that_an_address_tries(failures):
    assert sum(tried(failures, "192.0.2.1", f"key{number}") for number in range(50)) == 20


def test_failures_of_one_address_are_in_nobody_elses_way(failures):
    tried(failures, "192.0.2.1", times=1000)
    assert wait(failures, "192.0.2.2") == 0
    assert tried(failures, "192.0.2.2", "root", times=1000) == 20


def test_a_name_fails_a_hundred_times_and_then_only_addresses_without_a_failure_are_listened_to(failures, clock):
    for number in range(5):
        assert tried(failures, f"192.0.2.{number}", times=20) == 20
    clock.now += 0.05
    assert tried(failures, "198.51.100.1", times=5) == 1, "its first one is listened to, and is its last for now"
    assert wait(failures, "198.51.100.1") == 1
    assert wait(failures, "198.51.100.1", "another") == 0, "another name has nothing to do with it"
    assert wait(failures, "198.51.100.2") == 0
    clock.now += 0.2
    assert tried(failures, "198.51.100.1", times=5) == 2, "ten a second are left for those with failures"
    clock.now += 100
    assert tried(failures, "198.51.100.1", times=50) == 20


def test_addresses_are_counted_as_what_somebody_has(failures):
    assert sum(tried(failures, f"2001:db8:1:2::{number:x}") for number in range(1000)) == 20
    assert wait(failures, "2001:db8:1:3::1") == 0
    assert tried(failures, "192.0.2.1", times=20) == 20
    assert wait(failures, "::ffff:192.0.2.1") == 1
    assert tried(failures, "unix socket", times=50) == 20
    assert tried(failures, "", times=50) == 20


def test_memory_is_bounded_and_the_oldest_failures_are_forgotten_first(failures):
    for number in range(MOST_KNOWN):
        failures.note(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", f"key{number}")
    failures.note("10.0.0.0", "key0")
    failures.note("192.0.2.1", "one more")
    assert tried(failures, "10.0.0.0", times=50) == 18
    assert tried(failures, "10.0.0.1", times=50) == 20, "forgotten"
    kept = [len(buckets._left) for buckets in (failures._addresses, failures._names)]
    assert max(kept) <= MOST_KNOWN


def test_a_clock_that_is_set_back_gives_no_tries_away_and_takes_none_for_good(failures, clock):
    tried(failures, "192.0.2.1", times=20)
    clock.now -= 3600
    assert tried(failures, "192.0.2.1", times=5) == 0
    clock.now += 3
    assert tried(failures, "192.0.2.1", times=5) == 3
