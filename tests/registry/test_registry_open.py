"""Opening a push: names, domains, bases, and the order in which they are looked at."""

from dataclasses import replace

import pytest

from faults import Before, Counting, FailsOnCall, LosesAnswer, Wrapped
from registry.askers import guest
from registry.material import (
    BASE,
    OTHER,
    Pusher,
    base,
    change_head,
    check_sound,
    config,
    image,
    needed_by,
    purge,
    put_marker,
    read_head,
    sessions,
)
from s3reg.errors import (
    DomainMismatch,
    Forbidden,
    NameInvalid,
    NameTaken,
    RecordDamaged,
    SessionExpired,
    SessionNotFound,
    StoreUnavailable,
    TagTaken,
)
from s3reg.model import format as fmt
from s3reg.model.chunks import CHUNK_LOG2
from s3reg.model.identity import Identity
from s3reg.model.template import Base, SessionState
from s3reg.registry import Limits, Opening, Registry


def test_a_first_push_gets_a_session_the_default_chunk_size_and_no_bases(node, store):
    opened = node.open(BASE, "v1")

    assert (opened.bases, opened.dropped, opened.damaged, opened.map_links) == ((), (), (), {})
    assert opened.chunk_log2 == CHUNK_LOG2
    (session,) = sessions(store)
    assert session == opened.session
    assert (session.state, session.owner, session.template, session.domain) == (
        SessionState.OPEN, "everyone", BASE, "main",
    )  # fmt: skip
    assert session.limit == Limits().session_bytes


def test_an_opening_offers_the_latest_version_with_links_to_its_maps_and_its_chunk_size(node):
    node.push(tag="v1", words="a")
    done = node.push(tag="v2", words="ab")

    opened = node.open(BASE, "v3")

    assert [version.id for version in opened.bases] == [done.entry.id]
    assert opened.session.usable == (base(done),)
    (file,) = [file for file in opened.bases[0].files if file.map]
    assert list(opened.map_links) == [file.map]
    assert opened.map_links[file.map].url.startswith(f"/objects/maps/main/{file.map.sid}/")
    assert opened.chunk_log2 == 16


def test_the_session_is_written_before_the_markers_are_read_and_those_before_the_heads(store, node):
    node.push(tag="v1")
    done = Pusher(node.registry, store).push(OTHER, "v1", name="other")
    store = Counting(store)

    Pusher(Registry(store), store).open(BASE, "v2", bases=(base(done),))

    def at(verb, prefix, after=-1):
        return next(i for i, call in enumerate(store.calls) if i > after and call.is_on(verb, prefix))

    written = at("put", fmt.SESSIONS)
    marks = at("list", fmt.MARKERS)
    assert written < marks
    heads = [i for i, call in enumerate(store.calls) if i > marks and call.is_on("get", fmt.HEADS)]
    assert len(heads) == 2
    usable = at("put", fmt.SESSIONS, after=written)
    assert max(heads) < usable


def test_a_taken_tag_is_told_at_once_unless_it_is_to_be_replaced(node, store):
    node.push(tag="v1")

    with pytest.raises(TagTaken):
        node.open(BASE, "v1")
    assert sessions(store) == []
    assert node.open(BASE, "v1", force=True).session


def test_another_templates_name_is_refused_unless_both_may_carry_it(node):
    node.push(BASE, "v1", name="sequoia")

    with pytest.raises(NameTaken) as caught:
        node.open(OTHER, "v1", name="sequoia")
    assert BASE in str(caught.value)
    assert node.open(OTHER, "v1", name="sequoia", same_name=True).session
    assert node.open(BASE, "v2", name="sequoia").session


def test_the_name_of_a_template_that_the_asker_may_not_list_is_free(node, store, registry):
    node.push(BASE, "v1", name="sequoia")
    asker = guest(other="list push_tag")

    assert registry.open(asker, Opening(OTHER, "sequoia", "v1")).session.owner == "guest"


def test_a_template_stays_in_its_domain(node):
    node.push(BASE, "v1", domain="team-a")

    assert node.open(BASE, "v2").session.domain == "team-a"
    assert node.open(BASE, "v2", domain="team-a").session.domain == "team-a"
    with pytest.raises(DomainMismatch):
        node.open(BASE, "v2", domain="team-b")


def test_an_empty_deleted_head_binds_no_domain_and_a_full_one_does(node, store):
    node.push(BASE, "v1", domain="team-a")
    gone = read_head(store).versions[0].gone(when=1, by="x", keeps=0)
    change_head(store, versions=(), removed=(gone,), deleted=True)
    with pytest.raises(DomainMismatch):
        node.open(BASE, "v1", domain="team-b")

    change_head(store, removed=())

    assert node.open(BASE, "v1", domain="team-b").session.domain == "team-b"


@pytest.mark.parametrize("field", ["name", "tag", "arch"])
def test_a_hostile_name_is_refused_before_anything_is_written(node, store, field):
    with pytest.raises(NameInvalid):
        node.open(**{"template": BASE, "tag": "v1", field: "a\n/../b"})
    assert sessions(store) == []


@pytest.mark.parametrize("asker", [guest(), guest(templates={BASE: "list"}), guest(main="list pull")])
def test_who_may_not_push_is_told_so(registry, asker):
    with pytest.raises(Forbidden):
        registry.open(asker, Opening(BASE, "a", "v1"))


# --- Bases -----------------------------------------------------------------------------------------------------------


def reasons(opened):
    return {dropped.template: reason for dropped, reason in opened.dropped}


def test_bases_are_each_offered_once(node):
    done = node.push(BASE, "v1")

    opened = node.open(BASE, "v2", bases=(base(done), base(done)))

    assert len(opened.bases) == 1
    assert opened.dropped == ()


def test_a_base_that_nobody_has_is_dropped(node):
    opened = node.open(BASE, "v1", bases=(Base(OTHER, "0" * 32),))

    assert reasons(opened) == {OTHER: "there is no such version"}
    assert opened.session.usable == ()


def test_a_base_of_another_domain_is_dropped(node):
    done = node.push(OTHER, "v1", name="other", domain="elsewhere")

    opened = node.open(BASE, "v1", bases=(base(done),))

    assert "another domain" in reasons(opened)[OTHER]


def test_a_base_that_only_removed_names_is_dropped(node, store):
    done = node.push(BASE, "v1")
    gone = done.entry.gone(when=1, by="x", keeps=0)
    change_head(store, versions=(), removed=(gone,))

    opened = node.open(BASE, "v2", bases=(base(done),))

    assert (opened.bases, reasons(opened)) == ((), {BASE: "there is no such version"})


def test_a_base_of_a_deleted_template_is_dropped(node, store):
    done = node.push(OTHER, "v1", name="other")
    change_head(store, OTHER, deleted=True)

    assert node.open(BASE, "v1", bases=(base(done),)).bases == ()


def test_a_base_that_was_purged_just_after_its_session_was_written_is_dropped(node, store):
    done = node.push(OTHER, "v1", name="other")
    # The first read is for its name, the second asks whether it names the base.
    late = Before(store, "get", lambda: purge(store, OTHER), prefix=fmt.head_key(OTHER), n=2)

    opened = Pusher(Registry(late), store).open(BASE, "v1", bases=(base(done),))

    assert late.happened
    assert opened.bases == ()


@pytest.mark.parametrize("kind", [fmt.PACKS, fmt.MAPS, fmt.VERSIONS])
def test_a_base_that_a_marker_touches_is_dropped(node, store, kind):
    done = node.push(OTHER, "v1", name="other")
    touched = [key for key in needed_by(store, OTHER, done.entry.id) if key.startswith(kind)]
    put_marker(store, "1", touched)

    opened = node.open(BASE, "v1", bases=(base(done),))

    assert "sweep" in reasons(opened)[OTHER]


def test_a_base_is_used_though_a_marker_for_it_comes_after_the_markers_were_read(node, store):
    done = node.push(OTHER, "v1", name="other")
    keys = needed_by(store, OTHER, done.entry.id)
    late = Before(store, "get", lambda: put_marker(store, "1", keys), prefix=fmt.head_key(OTHER), n=2)

    opened = Pusher(Registry(late), store).open(BASE, "v1", bases=(base(done),))

    assert late.happened
    assert opened.session.usable == (base(done),)


def test_a_marker_that_cannot_be_read_may_touch_anything(node, store):
    done = node.push(OTHER, "v1", name="other")
    store.put(f"{fmt.MARKERS}1.json", b'{"v": 2}')

    assert "cannot be read" in reasons(node.open(BASE, "v1", bases=(base(done),)))[OTHER]


def test_a_foreign_key_among_the_markers_stands_for_nothing(node, store):
    done = node.push(OTHER, "v1", name="other")
    store.put(f"{fmt.MARKERS}.DS_Store", b"x")

    assert len(node.open(BASE, "v1", bases=(base(done),)).bases) == 1


def test_a_base_whose_record_or_head_is_damaged_is_dropped_and_the_push_goes_on(node, store, registry):
    done = node.push(OTHER, "v1", name="other")
    store.put(fmt.version_key(OTHER, done.entry.id), b"{}")

    fresh = Pusher(Registry(store), store)
    assert "cannot be read" in reasons(fresh.open(BASE, "v1", bases=(base(done),)))[OTHER]

    store.put(fmt.head_key(OTHER), b"not json")
    assert reasons(fresh.open(BASE, "v1", bases=(base(done),)))[OTHER] == "there is no such version"


class Sums(Wrapped):
    """A store that keeps these checksums."""

    def __init__(self, store, sums):
        super().__init__(store)
        self._sums = sums

    def stat(self, key):
        return replace(super().stat(key), sha256=self._sums.get(key))


@pytest.mark.parametrize("harm", ["gone", "cut", "another"])
def test_a_base_whose_map_is_not_there_is_no_base(node, store, harm):
    """A file that did not change takes its map over unread: its next version would name what nobody has."""
    pushed, sound = node.push(), node.push(OTHER, name="other", words="z")
    (key,) = [stat.key for stat in store.list(fmt.MAPS) if pushed.entry.id in stat.key]
    if harm == "gone":
        store.delete([key])
    else:
        store.put(key, store.get(key).data[: -1 if harm == "cut" else None])
    told = Sums(store, {key: "0" * 64} if harm == "another" else {})
    opened = Pusher(Registry(told), store).open(tag="v2", bases=(base(sound),))
    assert [version.template for version in opened.bases] == [OTHER]
    assert [(one, "map" in reason) for one, reason in opened.dropped] == [(base(pushed), True)]


def test_a_damaged_head_of_the_template_itself_refuses_the_push(node, store):
    node.push(BASE, "v1")
    store.put(fmt.head_key(BASE), b"not json")

    with pytest.raises(RecordDamaged):
        node.open(BASE, "v2")


def test_what_the_asker_may_not_pull_is_no_base_and_is_not_told_to_exist(node, store, registry):
    done = node.push(OTHER, "v1", name="other")
    node.push(BASE, "v1", name="mine")
    pushes = {BASE: "list pull push_tag"}

    blind = registry.open(guest(templates=pushes), Opening(BASE, "a", "v2", bases=(base(done),)))
    lister = guest(templates={**pushes, OTHER: "list"})
    seeing = registry.open(lister, Opening(BASE, "a", "v2", bases=(base(done),)))

    assert reasons(blind) == {OTHER: "there is no such version"}
    assert reasons(seeing) == {OTHER: "you may not pull it"}
    assert [base.template for base in (*blind.session.bases, *seeing.session.bases)] == [BASE, BASE]


def test_more_bases_than_the_limit_are_dropped(store, node):
    done = node.push(BASE, "v1")
    registry = Registry(store, limits=Limits(bases=1))

    opened = Pusher(registry, store).open(BASE, "v2", bases=(Base(OTHER, "0" * 32),))

    assert opened.session.bases == (base(done),)
    assert "as many" in reasons(opened)[OTHER]


def test_damaged_packs_of_the_bases_are_named_and_others_are_not(node, store):
    done = node.push(BASE, "v1")
    file = next(file for file in node.registry.describe(node.asker, BASE).versions[0].files if file.packs)
    pack = file.packs[0].pack
    store.put(fmt.damaged_key(pack.sid, pack.sha256), b"")
    store.put(fmt.damaged_key(pack.sid, "0" * 64), b"")
    store.put(fmt.damaged_key("0" * 32, pack.sha256), b"")
    store.put(f"{fmt.DAMAGED}.DS_Store", b"")

    assert done
    assert node.open(BASE, "v2").damaged == (pack,)


def test_the_chunk_size_is_that_of_the_lineage_though_its_latest_version_is_no_base(node, store):
    done = node.push(BASE, "v1")
    put_marker(store, "1", needed_by(store, BASE, done.entry.id))

    opened = node.open(BASE, "v2")

    assert (opened.bases, opened.chunk_log2) == ((), 16)


def test_a_lineage_without_readable_maps_has_the_default_chunk_size(node, store):
    done = node.push(BASE, "v1")
    for key in needed_by(store, BASE, done.entry.id):
        if key.startswith(fmt.MAPS):
            store.put(key, b"junk")

    assert Pusher(Registry(store), store).open(BASE, "v2").chunk_log2 == CHUNK_LOG2


def test_a_lost_answer_to_the_sessions_writing_is_settled_by_reading(node, store):
    lossy = LosesAnswer(store, prefix=fmt.SESSIONS)

    opened = Pusher(Registry(lossy), store).open(BASE, "v1")

    assert lossy.happened
    assert sessions(store) == [opened.session]


# --- Bases that come later -------------------------------------------------------------------------------------------


def test_bases_may_be_added_to_an_open_session(node, store, registry):
    done = node.push(OTHER, "v1", name="other")
    session = node.open(BASE, "v1").session

    opened = registry.add_bases(node.asker, session.id, [base(done), Base(OTHER, "0" * 32)])

    assert [version.id for version in opened.bases] == [done.entry.id]
    assert len(opened.dropped) == 1
    (now,) = sessions(store)
    assert now.usable == (base(done),)
    assert base(done) in now.bases


def test_adding_bases_again_answers_the_same(node, store, registry):
    done = node.push(OTHER, "v1", name="other")
    session = node.open(BASE, "v1").session
    first = registry.add_bases(node.asker, session.id, [base(done)])

    again = registry.add_bases(node.asker, session.id, [base(done)])

    assert again.bases == first.bases
    assert again.session.bases == first.session.bases
    assert again.session.usable == (base(done),)


def test_a_base_that_was_written_down_but_never_looked_at_may_not_be_used(node, store, registry):
    """A replica died between naming the base and looking at it: what it protects is not yet what may be used."""
    done = node.push(OTHER, "v1", name="other")
    session = node.open(BASE, "v1").session
    dies = Before(store, "list", lambda: (_ for _ in ()).throw(KeyboardInterrupt), prefix=fmt.MARKERS)
    with pytest.raises(KeyboardInterrupt):
        Registry(dies).add_bases(node.asker, session.id, [base(done)])

    (now,) = sessions(store)
    assert (now.bases, now.usable) == ((base(done),), ())


def test_bases_are_written_before_the_markers_are_read_when_they_come_later_too(node, store):
    done = node.push(OTHER, "v1", name="other")
    session = node.open(BASE, "v1").session
    counted = Counting(store)

    Registry(counted).add_bases(node.asker, session.id, [base(done)])

    order = [
        call.verb + " " + call.keys[0].split("/")[0]
        for call in counted.calls
        if call.keys[0].startswith((fmt.SESSIONS, fmt.MARKERS, fmt.HEADS)) and call.verb in {"put", "list", "get"}
    ]
    assert order == ["get sessions", "put sessions", "list gc", "get heads", "get sessions", "put sessions"]


def test_bases_of_an_ended_or_foreign_session_are_refused(node, store, registry):
    session = node.open(BASE, "v1").session
    with pytest.raises(SessionNotFound):
        registry.add_bases(Identity("somebody else"), session.id, [])
    registry.abort(node.asker, session.id)
    with pytest.raises(SessionExpired):
        registry.add_bases(node.asker, session.id, [])
    with pytest.raises(SessionNotFound):
        registry.add_bases(node.asker, "0" * 32, [])


def test_a_push_reuses_the_chunks_of_its_bases(node, store):
    first = node.push(BASE, "v1", words="ab")
    opened = node.open(BASE, "v2")
    kept = next(file for file in opened.bases[0].files if file.map)
    new = image(store, opened.session, "top", "c", drive=0, parent="disk")
    same = replace(new, name="disk", size=kept.size, digest=kept.digest, map=kept.map, parent=None)

    done = node.commit(opened.session, (same, new, config()), "v2")

    assert [entry.tag for entry in done.head.versions] == ["v1", "v2"]
    assert done.head.size == first.head.size + new.size
    check_sound(store)


@pytest.mark.parametrize("what", [fmt.VERSIONS, fmt.MAPS])
def test_one_answer_that_did_not_come_costs_a_push_neither_its_base_nor_its_chunk_size(node, store, what):
    """Without its base it would send all of the disk again."""
    done = node.push(BASE, "v1")
    once = FailsOnCall(store, 1, StoreUnavailable(store="the store", reason="503"), verb="get", prefix=what)
    opened = Pusher(Registry(once), store).open(BASE, "v2")
    assert [version.id for version in opened.bases] == [done.entry.id]
