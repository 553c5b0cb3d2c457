"""A list is as fresh as the store, on every replica, and reads only what changed."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from faults import Counting, FailsOnCall, Wrapped
from http_wires import Wire
from registry.material import BASE, OTHER, Pusher, change_head
from s3reg.api.wiring import open_store
from s3reg.errors import StoreUnavailable
from s3reg.model import format as fmt
from s3reg.model.identity import EVERYONE
from s3reg.model.template import Entry, Head
from s3reg.registry import Registry
from s3reg.settings import Settings
from s3reg.store.files import FilesStore
from s3reg.store.s3 import S3Store
from s3reg.store.together import READERS

WAIT_SECONDS = 60


@pytest.fixture(params=["files", "minio"])
def replicas(request, tmp_path):
    """Registries on one store, each with an adapter of its own."""
    if request.param == "files":
        opened = [FilesStore(tmp_path / "store", secret=bytes(32)) for _ in range(3)]
    else:
        minio, bucket = request.getfixturevalue("minio"), request.getfixturevalue("bucket")
        name = bucket(minio)
        opened = [S3Store(name, endpoint=minio.endpoint, region=minio.region) for _ in range(3)]
    Registry(opened[0]).prepare()
    return [Registry(store) for store in opened]


def listed(registry):
    return {head.name: [entry.tag for entry in head.versions] for head in registry.templates(EVERYONE)}


def test_s34_what_one_replica_pushed_or_removed_every_other_lists_at_once(replicas):
    here, *others = replicas
    node = Pusher(here, here.store)
    expected = {}
    assert [listed(registry) for registry in others] == [{}, {}]
    for number, (template, name) in enumerate([(BASE, "a"), (OTHER, "b"), (BASE, "a"), (BASE, "a")]):
        node.push(template, f"v{number}", name=name)
        expected.setdefault(name, []).append(f"v{number}")
        assert [listed(registry) for registry in others] == [expected, expected]

    here.revert(EVERYONE, BASE, tag="v3", operation="1" * 32)
    expected["a"].pop()
    assert [listed(registry) for registry in others] == [expected, expected]
    others[0].delete(EVERYONE, BASE, operation="2" * 32)
    assert [listed(registry) for registry in replicas] == [{"b": ["v1"]}] * 3
    node.push(BASE, "v9", name="a")
    assert [listed(registry) for registry in others] == [{"a": ["v9"], "b": ["v1"]}] * 2


def test_s33_of_a_thousand_templates_of_twenty_tags_only_the_one_that_changed_is_read(store, tmp_path):
    folder = tmp_path / "store" / "heads.d"
    folder.mkdir()
    for number in range(1000):
        entries = tuple(Entry(f"{seq:032x}", seq, f"v{seq}", "", 10, 1_700_000_000) for seq in range(20))
        head = Head(f"{number:08}-0000-4000-8000-000000000000", f"t{number:04}", "main", versions=entries)
        # Not by `put`, which waits for the disk each time.
        (folder / f"{head.id}.json").write_bytes(fmt.write_head(head))
    counted = Counting(store)
    registry = Registry(counted)
    names = [f"t{number:04}" for number in range(1000)]
    assert [head.name for head in registry.templates(EVERYONE)] == names
    assert counted.count("get") == 1000
    counted.calls.clear()

    change_head(store, "00000007-0000-4000-8000-000000000000", arch="arm64")
    lists = [registry.templates(EVERYONE) for _ in range(3)]

    assert [[head.arch for head in heads].index("arm64") for heads in lists] == [7] * 3
    assert [[head.name for head in heads] for heads in lists] == [names] * 3
    assert [call.verb for call in counted.calls] == ["list", "get", "list", "list"]


def test_what_a_list_reads_side_by_side_has_connections_that_are_kept(minio, bucket, caplog):
    together = threading.Barrier(READERS)

    def rule(passage):
        if passage.method == "GET" and f"/{fmt.HEADS}" in passage.path:
            together.wait(WAIT_SECONDS)

    with Wire(minio.endpoint) as wire:
        store = open_store(Settings(store=f"s3://{bucket(minio)}", s3_endpoint=wire.endpoint, threads=1))
        for number in range(READERS):
            head = Head(f"{number:08}-0000-4000-8000-000000000000", f"t{number:02}", "main")
            store.put(fmt.head_key(head.id), fmt.write_head(head))
        wire.rule = rule
        assert len(Registry(store).templates(EVERYONE)) == READERS
    assert [record.getMessage() for record in caplog.records if record.name.startswith("urllib3")] == []


class Slow(Wrapped):
    """Holds what its first listing gave."""

    def __init__(self, store):
        super().__init__(store)
        self.listed, self.go_on = threading.Event(), threading.Event()

    def _call(self, call, act):
        found = act()
        if call.verb == "list" and not self.listed.is_set():
            self.listed.set()
            assert self.go_on.wait(WAIT_SECONDS)
        return found


def test_s34_who_asks_while_a_listing_is_under_way_gets_one_that_began_later(node, store):
    slow = Slow(store)
    counted = Counting(slow)
    registry = Registry(counted)
    asking = threading.Barrier(9)

    def ask():
        asking.wait(WAIT_SECONDS)
        return listed(registry)

    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(listed, registry)
        assert slow.listed.wait(WAIT_SECONDS)
        node.push(BASE, "v1")
        later = [pool.submit(ask) for _ in range(8)]
        asking.wait(WAIT_SECONDS)
        slow.go_on.set()
        assert first.result() == {}
        assert [found.result() for found in later] == [{"sequoia": ["v1"]}] * 8
    assert 2 <= counted.count("list") <= 9


def test_a_listing_that_failed_is_no_list_and_is_not_shared_with_who_asks_later(node, store):
    node.push(BASE, "v1")
    for verb in ("list", "get"):
        broken = FailsOnCall(store, 1, StoreUnavailable(store="s", reason="r"), verb=verb, prefix=fmt.HEADS)
        registry = Registry(broken)
        with pytest.raises(StoreUnavailable):
            registry.templates(EVERYONE)
        assert listed(registry) == {"sequoia": ["v1"]}


def test_s34_many_who_list_while_pushes_go_on_see_each_that_was_answered(store):
    registry, over, answered = Registry(store), threading.Event(), []
    node = Pusher(Registry(store), store)

    def push():
        try:
            for number in range(6):
                node.push(BASE, f"v{number}")
                answered.append(f"v{number}")
        finally:
            over.set()

    def watch():
        last = False
        while not last:
            last, expected = over.is_set(), list(answered)
            found = listed(registry).get("sequoia", [])
            assert found[: len(expected)] == expected
        return found

    with ThreadPoolExecutor(5) as pool:
        pushed = pool.submit(push)
        watched = [pool.submit(watch) for _ in range(4)]
        pushed.result()
        assert [found.result() for found in watched] == [answered] * 4
