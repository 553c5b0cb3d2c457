"""What a sweep stops at: whatever it cannot read or does not know. From there on nothing goes; what went before is told."""

import json
from dataclasses import replace

import pytest

from faults import Before, FailsOnCall, Wrapped
from registry.material import BASE, OTHER, base, end_trash, needed_by, purge, put_marker, read_head, swept
from s3reg.errors import StoreCopied, StoreUnavailable, SweepStopped
from s3reg.model import format as fmt
from s3reg.model.identity import EVERYONE
from s3reg.model.template import Marker
from s3reg.registry import Registry, sweep

GCID = "a" * 32
SID = "b" * 32
THIRD = "00000000-0000-4000-8000-000000000003"


def keys(store):
    return {stat.key for stat in store.list("")}


def version_key(store, template=BASE):
    head = read_head(store, template)
    return fmt.version_key(template, (*head.versions, *head.removed)[0].id)


def rewritten(key, change):
    """The record at `key`, as `change` leaves its JSON."""

    def act(store, key=key):
        key = key(store) if callable(key) else key
        raw = json.loads(store.get(key).data)
        change(raw)
        store.put(key, json.dumps(raw).encode())
        return key

    return act


def written(key, data):
    def act(store, key=key):
        key = key(store) if callable(key) else key
        store.put(key, data)
        return key

    return act


def gone(key):
    def act(store, key=key):
        key = key(store) if callable(key) else key
        store.delete([key])
        return key

    return act


def session_key(store):
    return next(stat.key for stat in store.list(fmt.SESSIONS))


def of_another_release(key):
    return rewritten(key, lambda raw: raw.update(v=9))


def marker(**changes):
    return fmt.write_marker(replace(Marker(GCID, frozenset(), frozenset(), frozenset()), **changes))


def asks_for(use):
    return rewritten(fmt.FORMAT_KEY, lambda raw: raw["features"][use].append("later"))


HEAD, TRASHED = fmt.head_key(BASE), lambda store: version_key(store, OTHER)
STOPS = {
    "what hides heads": written("heads", b""),
    "what hides versions": written("versions", b""),
    "what hides sessions": written("sessions", b""),
    "what hides markers": written("gc", b""),
    "a head that cannot be read": written(HEAD, b"{"),
    "a head of which a part is lost": rewritten(HEAD, lambda raw: raw.pop("removed")),
    "a head that is another template's": rewritten(HEAD, lambda raw: raw.update(id=OTHER)),
    "a head of another release": of_another_release(HEAD),
    "a foreign key among heads": written("heads/notes.txt", b""),
    "a head's key, spelled in another way": written(f"heads/{'AB' + BASE[2:]}.json", b""),
    "a listed version that cannot be read": written(version_key, b"{"),
    "a listed version that has lost its packs": rewritten(version_key, lambda raw: raw["files"][0].pop("packs")),
    "a listed version of another release": of_another_release(version_key),
    "a listed version that is missing": gone(version_key),
    "a version of the trash that cannot be read": written(TRASHED, b"{"),
    "a version of the trash that is missing": gone(TRASHED),
    "a foreign key among versions": written("versions/notes.txt", b""),
    "a session that cannot be read": written(session_key, b"{"),
    "a session of another release": of_another_release(session_key),
    "a session in a state that is not known": rewritten(session_key, lambda raw: raw.update(state="asleep")),
    "a foreign key among sessions": written("sessions/notes.txt", b""),
    "a marker that cannot be read": written(fmt.marker_key(GCID), b"{"),
    "a marker of another release": written(fmt.marker_key(GCID), marker().replace(b'"v":1', b'"v":2')),
    "a marker that is another's": written(fmt.marker_key(GCID), marker(id=SID)),
    "a foreign key among markers": written("gc/notes.txt", marker()),
    "no format.json": gone(fmt.FORMAT_KEY),
    "a format.json that cannot be read": written(fmt.FORMAT_KEY, b"{"),
    "another format": rewritten(fmt.FORMAT_KEY, lambda raw: raw.update(format=2)),
    "a feature that is needed to read": asks_for("read"),
    "a feature that is needed to write": asks_for("write"),
    "a feature that is needed to sweep": asks_for("sweep"),
}


@pytest.fixture
def full(node, store):
    """A version that is listed, one in the trash, a push under way, and what nobody names."""
    node.push(BASE, "v1")
    node.push(OTHER, "v1", name="other")
    node.registry.delete(EVERYONE, OTHER, operation="0" * 32)
    node.open(BASE, "v2")
    store.put(fmt.pack_key("main", "c" * 32, "d" * 64), b"an orphan")
    return store


@pytest.mark.parametrize("dry_run", [False, True], ids=["", "dry run"])
@pytest.mark.parametrize("case", STOPS)
def test_a_sweep_stops_at_it_by_name_and_removes_nothing(full, case, dry_run):
    key = STOPS[case](full)
    before = keys(full)
    told = []
    with pytest.raises(SweepStopped) as stopped:
        Registry(full).sweep(dry_run=dry_run, told=told.append)
    assert stopped.value.detail["what"] == key
    assert stopped.value.detail["reason"]
    assert keys(full) == before
    assert (told[-1].removed, told[-1].freed) == (0, 0)


def test_without_any_of_it_the_orphan_goes(full):
    assert swept(full).removed == 1


def test_a_sweep_stops_at_a_base_that_cannot_be_read(node, full):
    done = node.push(THIRD, "v1", name="third")
    node.open(BASE, "v3", bases=(base(done),))
    purge(full, THIRD)
    key = fmt.version_key(THIRD, done.entry.id)
    full.put(key, b"{")
    with pytest.raises(SweepStopped) as stopped:
        swept(full)
    assert stopped.value.detail["what"] == key
    assert str(stopped.value).count(key) == 1


def test_a_copy_is_not_swept(full):
    raw = json.loads(full.get(fmt.FORMAT_KEY).data)
    full.put(fmt.FORMAT_KEY, json.dumps({**raw, "made_as": "s3://another"}).encode())
    before = keys(full)
    for dry_run in (False, True):
        with pytest.raises(StoreCopied):
            Registry(full).sweep(dry_run=dry_run)
    assert keys(full) == before


def test_a_head_that_vanishes_stops_the_sweep(full):
    """None of ours ever does: somebody is removing things by hand."""
    late = Before(full, "get", lambda: full.delete([HEAD]), prefix=HEAD)
    with pytest.raises(SweepStopped) as stopped:
        swept(late)
    assert stopped.value.detail["what"] == HEAD


def test_a_head_that_vanishes_between_two_looks_stops_the_sweep(full):
    late = Before(full, "list", lambda: full.delete([HEAD]), prefix=fmt.SESSIONS)
    before = keys(full)
    with pytest.raises(SweepStopped) as stopped:
        swept(late)
    assert stopped.value.detail["what"] == HEAD
    assert before - keys(full) == {HEAD}


# --- Half way ---------------------------------------------------------------------------------------------------------


class BetweenBatches(Wrapped):
    """`act` happens once the first of the swept objects went."""

    def __init__(self, store, act):
        super().__init__(store)
        self.act = act

    def delete(self, keys):
        keys = list(keys)
        super().delete(keys)
        if keys[0].startswith((fmt.VERSIONS, fmt.MAPS, fmt.PACKS)) and self.act:
            act, self.act = self.act, None
            act(self.store)


def copied(store):
    raw = json.loads(store.get(fmt.FORMAT_KEY).data)
    store.put(fmt.FORMAT_KEY, json.dumps({**raw, "made_as": "s3://another"}).encode())


def unmarked(store):
    store.delete([stat.key for stat in store.list(fmt.MARKERS)])


HALF_WAY = {
    "format.json goes": (gone(fmt.FORMAT_KEY), SweepStopped, fmt.FORMAT_KEY),
    "format.json is another": (
        rewritten(fmt.FORMAT_KEY, lambda raw: raw.update(store="f" * 32)),
        SweepStopped,
        fmt.FORMAT_KEY,
    ),
    "a newer release upgrades it": (asks_for("sweep"), SweepStopped, fmt.FORMAT_KEY),
    "it turns out to be a copy": (copied, StoreCopied, None),
    "its marker goes": (unmarked, SweepStopped, fmt.MARKERS),
}


@pytest.fixture
def orphans(node, store):
    node.push(OTHER, "v1", words="xyz", name="other")
    found = needed_by(store, OTHER, read_head(store, OTHER).versions[0].id)
    purge(store, OTHER)
    return found


@pytest.mark.parametrize("case", HALF_WAY)
def test_what_happens_half_way_ends_it_there_and_what_went_is_told(store, orphans, case, monkeypatch):
    monkeypatch.setattr(sweep, "BATCH", 1)
    act, error, what = HALF_WAY[case]
    told = []
    with pytest.raises(error) as stopped:
        Registry(BetweenBatches(store, act)).sweep(told=told.append)
    if what is not None:
        assert stopped.value.detail["what"].startswith(what)
    assert told[-1].removed == 1
    assert len(orphans & keys(store)) == 2
    assert not [key for key in keys(store) if key.startswith((fmt.MARKERS, fmt.CHECK))]


def test_between_rounds_whatever_became_unreadable_stops_it(store, orphans, node, monkeypatch):
    monkeypatch.setattr(sweep, "MOST_MARKED", 1)
    node.push(BASE, "v1")
    told = []
    with pytest.raises(SweepStopped) as stopped:
        Registry(BetweenBatches(store, lambda it: it.put(HEAD, b"{"))).sweep(told=told.append)
    assert stopped.value.detail["what"] == HEAD
    assert told[-1].removed == 1
    assert len(orphans & keys(store)) == 2


def test_a_store_that_fails_ends_it_and_what_went_is_told(store, orphans, monkeypatch):
    monkeypatch.setattr(sweep, "BATCH", 1)
    broken = FailsOnCall(store, 1, StoreUnavailable(store="", reason="on purpose"), verb="delete", prefix="maps/")
    told = []
    with pytest.raises(StoreUnavailable):
        Registry(broken).sweep(told=told.append)
    assert told[-1].removed == 1
    assert swept(store).removed == 2


def test_a_young_marker_of_another_sweep_stays_and_stops_nothing(store, orphans):
    put_marker(store, GCID, orphans)
    assert swept(store).removed == len(orphans)
    assert fmt.marker_key(GCID) in keys(store)


def test_a_store_that_is_another_while_its_trash_is_emptied_keeps_the_rest_of_it(node, store):
    for template, name in ((BASE, "one"), (OTHER, "other")):
        node.push(template, name=name)
        node.registry.delete(EVERYONE, template, operation="0" * 32)
    end_trash(store)
    late = Before(store, "put", lambda: store.delete([fmt.FORMAT_KEY]), prefix=fmt.HEADS)
    with pytest.raises(SweepStopped):
        Registry(late).sweep()
    assert [len(read_head(store, template).removed) for template in (BASE, OTHER)] == [0, 1]
