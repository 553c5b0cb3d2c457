"""Links of a plan that are renewed before they end, by the registry's word for how long they live."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from s3reg import wire
from s3reg.client.plan import Plan
from s3reg.errors import RecordDamaged, RegistryUnreachable
from s3reg.model.names import Digest, SessionId
from s3reg.model.packs import PackRef

SID = SessionId("5" * 32)
PACK = PackRef(SID, Digest("a" * 64), 9)
HOUR = 3600
WAIT = 30


class Registry:
    """Answers with links that say which answer they are of; `act(number of the answer)` may raise, or wait."""

    url = "http://registry"

    def __init__(self, life=HOUR, now=10**9, act=lambda _: None):
        self.asked, self.life, self.now, self.act = 0, life, now, act
        self.version = "1" * 32

    def ask(self, _schema, _method, _path, body=None, query=None):
        self.asked += 1
        number = self.asked
        self.act(number)
        pack = wire.PackLink(SID, "a" * 64, 9, 9, f"http://store/pack?{number}")
        return wire.PlanAnswer(
            template="6a1f2c3d-0000-4000-8000-000000000001", name="base", arch="arm64", domain="main",
            version=self.version, number=3, tag="v1", description="", size=5, created=1, expires=self.now + self.life,
            now=self.now, files=(), packs=(pack,),
        )  # fmt: skip


class Pulling:
    def __init__(self, **more):
        self.registry, self.now = Registry(**more), 77.0
        self.plan = Plan(self.registry, "base", "v1", None, clock=lambda: self.now)

    def link(self):
        return self.plan.url(PACK).rpartition("?")[2]


@pytest.mark.parametrize("now", [10**9, 0, 2 * 10**9])
def test_they_are_renewed_when_most_of_their_life_is_over_whatever_the_clocks_say(now):
    """git-lfs#1345: by the server's clock, at 80 % (peers 34)."""
    pulling = Pulling(now=now)
    seen = []
    for _ in range(20):
        seen.append(pulling.link())
        pulling.now += HOUR / 10
    assert seen == ["1"] * 8 + ["2"] * 8 + ["3"] * 4


def test_once_for_all_workers_and_nobody_waits_for_it():
    asking, go_on = threading.Event(), threading.Event()

    def slow(number):
        if number > 1:
            asking.set()
            assert go_on.wait(WAIT)

    pulling = Pulling(act=slow)
    pulling.now += 0.9 * HOUR
    with ThreadPoolExecutor(9) as pool:
        renews = pool.submit(pulling.link)
        assert asking.wait(WAIT)
        others = [pool.submit(pulling.link) for _ in range(50)]
        assert {other.result(WAIT) for other in others} == {"1"}
        go_on.set()
        assert renews.result(WAIT) == "2"
        assert {pool.submit(pulling.link).result(WAIT) for _ in range(50)} == {"2"}
    assert pulling.registry.asked == 2


def test_a_registry_that_is_away_for_a_while_is_no_trouble_while_they_live():
    def away(number):
        if 1 < number < 4:
            raise RegistryUnreachable(url="http://registry", reason="it is away")

    pulling = Pulling(act=away)
    seen = []
    for tenths in (7, 8, 8.5, 9.1, 9.3, 9.6):
        pulling.now = 77 + tenths / 10 * HOUR
        seen.append(pulling.link())
    assert seen == ["1"] * 5 + ["4"]
    assert pulling.registry.asked == 4


def test_a_tag_that_went_to_another_version_is_said_when_its_links_are_refused():
    pulling = Pulling()
    pulling.registry.version = "2" * 32
    pulling.now += 0.9 * HOUR
    assert pulling.link() == "1"
    with pytest.raises(RecordDamaged, match="another version"):
        pulling.plan.refresh(pulling.plan.url(PACK))


def test_links_that_have_ended_are_renewed_when_they_are_refused():
    pulling = Pulling()
    pulling.now += 3 * HOUR
    assert pulling.link() == "1"
    pulling.plan.refresh("http://store/pack?1")
    assert pulling.link() == "2"
    pulling.now += 0.85 * HOUR
    assert pulling.link() == "3"


@pytest.mark.parametrize("life", [-5, 0, 1, 5])
def test_lives_that_are_shorter_than_clocks_tell_are_left_alone(life):
    pulling = Pulling(life=life)
    for _ in range(100):
        assert pulling.link() == "1"
        pulling.now += 0.1
