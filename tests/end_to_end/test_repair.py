"""`s3reg fsck --repair-from`: what a node still has takes the place of what the store lost, byte for byte."""

import contextlib
import json
import os
import shutil
from dataclasses import replace

import pytest

import machines
import sites
from s3reg.cli.main import run
from s3reg.client import Access, Library, Node, PullOptions, PushOptions
from s3reg.client.connection import Connection
from s3reg.client.progress import Silent
from s3reg.client.repair import Hurt, repair
from s3reg.errors import VersionChanged
from s3reg.model import format as fmt
from s3reg.model.identity import EVERYONE
from s3reg.registry import Registry
from s3reg.store.files import FilesStore


class House:
    """A store, the node that filled it, and whoever pulls from it."""

    def __init__(self, folder, sizes=(900_000,)):
        self.folder = folder
        self.store = FilesStore(folder / "store")
        self.baker = folder / "baker"
        self.machine = machines.make(self.baker, sizes=sizes, state_size=0)
        with self.node() as node:
            node.push(self.machine.name, PushOptions("v1"))
            machines.scatter(self.machine.disk(), 3)
            node.push(self.machine.name, PushOptions("v2", description="of tonight"))
        self.wanted = machines.contents(self.baker, self.machine)

    @contextlib.contextmanager
    def node(self, name="baker"):
        with sites.address(self.folder / "store") as url, Node(self.folder / name, Access(url)) as node:
            yield node

    def check_pull(self, tag="v2"):
        with self.node("runner") as node:
            node.pull(self.machine.id, PullOptions(tag=tag))
        assert machines.contents(self.folder / "runner", self.machine) == self.wanted
        shutil.rmtree(self.folder / "runner")

    def newest(self, prefix):
        return max(self.store.list(prefix), key=lambda stat: stat.modified).key

    def head(self):
        return Registry(self.store).find(EVERYONE, self.machine.id)


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


@pytest.fixture
def fsck(house, capsys):
    """Its exit code, and what it told a program."""

    def check(*more):
        capsys.readouterr()
        code = run(["-j", "fsck", str(house.folder / "store"), *map(str, more)])
        return code, json.loads(capsys.readouterr().out.splitlines()[-1])["body"]

    return check


def flip_pack(house):
    key = house.newest(fmt.PACKS)
    data = bytearray(house.store.get(key).data)
    data[len(data) // 2] ^= 1
    house.store.put(key, bytes(data))


def lose_map(house):
    house.store.delete([house.newest(fmt.MAPS)])


def lose_version(house):
    house.store.delete([house.newest(fmt.VERSIONS)])


@pytest.mark.parametrize("harm", [flip_pack, lose_map, lose_version])
def test_what_a_library_still_has_is_put_back_byte_for_byte(house, fsck, harm):
    harm(house)
    code, told = fsck("--read-data")
    assert code == 8
    assert {row["tag"] for row in told["damage"]} == {"v2"}
    code, told = fsck("--read-data", "--repair-from", house.baker)
    assert [row["problem"] for row in told["repairs"]] == [None]
    assert (code, told["damage"]) == (0, [])
    house.check_pull()
    head = house.head()
    assert [(entry.tag, entry.description) for entry in head.versions] == [("v1", ""), ("v2", "of tonight")]
    assert [entry.tag for entry in head.removed] == ["v2"]
    code, told = fsck("--read-data")
    assert code == 0
    assert all(row["trash"] for row in told["damage"])
    # The library is as it was, and knows the version by its new id.
    assert machines.contents(house.baker, house.machine) == house.wanted
    ledger = Library(house.baker).ledger
    assert (ledger.current(house.machine.id), ledger.tags(house.machine.id)["v2"].version) == (
        "v2",
        head.versions[-1].id,
    )
    assert not list((house.baker / ".s3reg").glob("repair/*"))


def flip_map(house):
    key = house.newest(fmt.MAPS)
    house.store.put(key, house.store.get(key).data[:-1] + b"?")


def cut_map(house):
    key = house.newest(fmt.MAPS)
    house.store.put(key, house.store.get(key).data[:-1])


@pytest.mark.parametrize("harm", [lose_map, flip_map, cut_map, lose_version])
def test_a_push_of_the_next_version_does_without_what_of_the_one_before_cannot_be_read(house, harm):
    """Though no check has found it yet."""
    harm(house)
    machines.scatter(house.machine.disk(), 5, seed=9)
    house.wanted = machines.contents(house.baker, house.machine)
    with house.node() as node:
        node.push(house.machine.name, PushOptions("v3"))
    house.check_pull("v3")


@pytest.mark.parametrize("touched", [False, True], ids=["as it was noted", "hashed anew"])
@pytest.mark.parametrize("harm", [lose_map, flip_map])
def test_a_file_that_did_not_change_does_not_go_on_standing_on_a_map_that_the_push_could_not_read(
    tmp_path, harm, touched
):
    house = House(tmp_path, sizes=(900_000, 600_000))
    harm(house)
    if touched:
        os.utime(house.machine.disk(0))
    machines.scatter(house.machine.disk(1), 5, seed=9)
    house.wanted = machines.contents(house.baker, house.machine)
    with house.node() as node:
        node.push(house.machine.name, PushOptions("v3"))
    house.check_pull("v3")


def test_a_library_that_never_had_the_version_puts_it_back_from_the_bytes_alone(house, fsck):
    """Another node's records are not needed: the version's own record says which bytes are meant."""
    flip_pack(house)
    shutil.rmtree(house.baker / ".s3reg")
    code, told = fsck("--read-data", "--repair-from", house.baker)
    assert ([row["problem"] for row in told["repairs"]], code) == ([None], 0)
    house.check_pull()


def test_what_the_library_lacks_is_said_and_nothing_is_changed(house, fsck):
    flip_pack(house)
    machines.scatter(house.machine.disk(), 5, seed=9)
    before = house.head()
    code, told = fsck("--read-data", "--repair-from", house.baker)
    assert code == 8
    (row,) = told["repairs"]
    assert row["version"] is None
    assert (row["uuid"], row["name"]) == (house.machine.id, told["damage"][0]["name"])
    assert house.machine.drives[0] in row["problem"]
    assert house.head() == before
    assert [one["tag"] for one in told["damage"]] == ["v2"]


def test_a_version_that_took_the_tag_meanwhile_stays(house):
    """The check told of the one before: that one is gone from the tag, so nothing is replaced."""
    hurt = Hurt(house.machine.id, house.head().versions[-1].id, "v2")
    with house.node() as node:
        machines.scatter(house.machine.disk(), 5, seed=9)
        node.push(house.machine.name, PushOptions("v2", force=True))
    before = house.head()
    with (
        sites.address(house.folder / "store") as url,
        contextlib.closing(Connection(Access(url))) as connection,
    ):
        (outcome,) = repair(connection, Library(house.baker), [hurt], frozenset(), Silent())
    assert isinstance(outcome.problem, VersionChanged)
    assert house.head() == before


class _Before(Connection):
    """Lets somebody else act just before it commits."""

    def __init__(self, access, act):
        super().__init__(access)
        self._acts = [act]

    def ask(self, schema, method, path, *more, **named):
        if path.endswith("/commit") and self._acts:
            self._acts.pop()()
        return super().ask(schema, method, path, *more, **named)


def test_a_version_that_takes_the_tag_while_the_repair_is_under_way_stays(house):
    hurt = Hurt(house.machine.id, house.head().versions[-1].id, "v2")
    shutil.copytree(house.baker, house.folder / "rival")
    rival = replace(house.machine, library=house.folder / "rival")
    machines.scatter(rival.disk(), 5, seed=9)

    def push():
        with house.node("rival") as node:
            node.push(rival.name, PushOptions("v2", force=True))

    with (
        sites.address(house.folder / "store") as url,
        contextlib.closing(_Before(Access(url), push)) as connection,
    ):
        (outcome,) = repair(connection, Library(house.baker), [hurt], frozenset(), Silent())
    assert isinstance(outcome.problem, VersionChanged)
    assert [entry.id for entry in house.head().removed] == [hurt.version]


def test_what_the_library_notes_of_another_version_under_the_same_tag_stays(house, fsck):
    flip_pack(house)
    ledger = Library(house.baker).ledger
    row = ledger.tags(house.machine.id)["v2"]
    ledger.set_tag(house.machine.id, "v2", "a" * 32, house.machine.name, row.members, current=False)
    code, told = fsck("--read-data", "--repair-from", house.baker)
    assert ([one["problem"] for one in told["repairs"]], code) == ([None], 0)
    assert Library(house.baker).ledger.tags(house.machine.id)["v2"].version == "a" * 32


def test_a_registry_that_is_named_takes_the_repair(house, fsck):
    flip_pack(house)
    with sites.address(house.folder / "store") as url:
        code, told = fsck("--read-data", "--repair-from", house.baker, "--registry", url)
    assert ([row["problem"] for row in told["repairs"]], code) == ([None], 0)
    house.check_pull()


def test_neither_what_lies_in_the_trash_nor_what_a_newer_release_wrote_is_replaced(house, fsck):
    flip_pack(house)
    Registry(house.store).untag(EVERYONE, house.machine.id, tag="v2", operation="1" * 32)
    key = house.newest(fmt.VERSIONS)
    other = next(stat.key for stat in house.store.list(fmt.VERSIONS) if stat.key != key)
    house.store.put(other, house.store.get(other).data.replace(b'"v":1', b'"v":2'))
    before = house.head()
    code, told = fsck("--read-data", "--repair-from", house.baker)
    assert (code, told["repairs"]) == (8, [])
    assert {(row["tag"], row["trash"]) for row in told["damage"]} == {("v1", False), ("v2", True)}
    assert house.head() == before
