"""Tenants: what one pushes, another neither builds on nor learns of; an id, a name, a domain that both want."""

import pytest

from faults import Before
from registry.askers import ALL, guest, tenant
from registry.material import (
    BASE,
    OTHER,
    Placed,
    Pusher,
    base,
    change_head,
    check_sound,
    chunk,
    config,
    file_map,
    mapped,
    pack_bytes,
    purge,
    put_pack,
    read_head,
    sessions,
)
from s3reg.errors import (
    CommitInvalid,
    DomainMismatch,
    DomainRefused,
    DomainUnclear,
    Forbidden,
    NameAmbiguous,
    NameInvalid,
    NameTaken,
    RecordDamaged,
    SessionNotFound,
    TemplateIdTaken,
    TemplateNotFound,
)
from s3reg.model import format as fmt
from s3reg.model.identity import EVERYONE, Identity, Rights
from s3reg.model.packs import PackRef
from s3reg.model.template import Base, MapRef, Role
from s3reg.registry import Limits, Opening, Proposal, ProposedFile, Registry
from s3reg.store import Room
from s3reg.store.files import FilesStore

A, B = tenant("key:a", "blue"), tenant("key:b", "green")
ONE, TWO = "1" * 32, "2" * 32
NOBODYS = Base(OTHER, "e" * 32)
"""A version that there is not."""


@pytest.fixture
def a(registry, store):
    return Pusher(registry, store, A)


@pytest.fixture
def b(registry, store):
    return Pusher(registry, store, B)


def told(act):
    """The error, and every word of it."""
    with pytest.raises(Exception) as caught:
        act()
    return type(caught.value), str(caught.value), caught.value.next_step, caught.value.detail


# --- Nothing is shared, and nothing told -----------------------------------------------------------------------------


def test_the_same_bytes_are_stored_for_each_tenant_and_neither_learns_that_they_were_there(a, b, store, tmp_path):
    alone = Pusher(*_fresh(tmp_path), B)
    mine = a.push(BASE, words="ab")

    pushed, unmet = [], []
    for node, found in ((b, pushed), (alone, unmet)):
        opened = node.open(OTHER, bases=(base(mine), NOBODYS))
        found += [opened.bases, opened.dropped[1][1], opened.dropped[0][1], opened.chunk_log2, opened.damaged]
        done = node.commit(opened.session, node.files(opened.session, "ab"))
        found += [done.stored, done.head.size, done.entry.size, done.head.gen, done.entry.seq]
        found += [node.registry.disk(B), len(node.registry.templates(B)), len(node.registry.plan(B, OTHER).packs)]

    assert pushed == unmet
    assert pushed[1] == pushed[2] == "there is no such version"
    assert mine.stored == pushed[5]
    for prefix in (fmt.PACKS, fmt.MAPS):
        mine, theirs = ({key for key in _keys(store, prefix) if f"/{domain}/" in key} for domain in ("blue", "green"))
        assert len(mine) == len(theirs) == 1
        assert mine | theirs == set(_keys(store, prefix))


def _fresh(path):
    store = FilesStore(path / "alone", secret=bytes(32))
    Registry(store).prepare()
    return Registry(store), store


def _keys(store, prefix):
    return [stat.key for stat in store.list(prefix)]


def test_lists_sizes_and_rooms_are_of_what_the_asker_may_list(a, b, registry, store):
    blue, green = a.push(BASE, words="ab"), b.push(OTHER, words="c")

    for asker, head in ((A, blue.head), (B, green.head)):
        assert [one.id for one in registry.templates(asker)] == [head.id]
        found = registry.disk(asker)
        assert found.total - found.free == head.size
        assert found.free == 1 << 50
    assert isinstance(registry.disk(EVERYONE), Room)
    assert registry.disk(EVERYONE).free < 1 << 50
    assert registry.disk(Identity("root", rights=Rights(all_templates=True))).free < 1 << 50
    assert registry.disk(guest()) == Room(free=1 << 50, total=1 << 50)
    a.push(BASE, "v2", words="xyz")
    assert registry.disk(B).total - registry.disk(B).free == green.head.size


def test_a_tenant_is_told_of_the_damage_of_what_is_its_own(a, store):
    a.push(BASE)
    store.put(fmt.head_key(BASE), store.get(fmt.head_key(BASE)).data.replace(b'"gen"', b'"nog"'))
    registry = Registry(store)

    for who in (A, EVERYONE, guest(templates={BASE: "list pull push_tag"})):
        assert [head.damaged for head in registry.templates(who)] == [registry.describe(who, BASE).head.damaged] != [""]
        for act in (
            lambda who=who: registry.find(who, BASE),
            lambda who=who: registry.plan(who, BASE),
            lambda who=who: registry.open(who, Opening(BASE, "x", "v2")),
        ):
            assert told(act)[0] is RecordDamaged
    for act in (lambda: registry.find(B, BASE), lambda: registry.describe(B, BASE)):
        assert told(act)[0] is TemplateNotFound


def test_when_versions_were_pulled_is_told_of_those_that_may_be_listed_and_are_there(a, b, registry):
    blue, green = a.push(BASE), b.push(OTHER)
    for asker, done in ((A, blue), (B, green)):
        registry.pulled(asker, done.head.id, done.entry.id)
    heads = registry.templates(EVERYONE)

    assert registry.last_pulls(A, heads).keys() == {blue.entry.id}
    assert registry.last_pulls(EVERYONE, heads).keys() == {blue.entry.id, green.entry.id}
    registry.revert(A, BASE, operation=ONE)
    a.push(BASE, "v2", words="x")
    assert registry.last_pulls(EVERYONE, registry.templates(EVERYONE)).keys() == {green.entry.id}
    assert registry.describe(A, BASE).last_pulls == {}


# --- Lies in a commit ------------------------------------------------------------------------------------------------


def _made_up_pack(*_):
    data, places = pack_bytes([chunk("theirs")])
    return PackRef("d" * 32, "d" * 64, len(data)), places


def _pack_of(file, store, domain):
    (use,) = file.packs
    data = store.get(fmt.pack_key(domain, use.pack.sid, use.pack.sha256)).data
    assert len(data) == use.pack.size
    return use.pack, pack_bytes([chunk("theirs")])[1]


@pytest.mark.parametrize("bases", [False, True])
def test_another_tenants_pack_and_map_are_refused_as_such_that_do_not_exist_are(a, b, registry, store, bases):
    """Though it knows every id and digest of them, and has the bytes."""
    theirs = a.push(BASE, words=["theirs"])
    file = registry.version(A, BASE)[2].files[0]
    asked = (base(theirs), NOBODYS) if bases else ()

    def commit(make):
        session = b.open(OTHER, bases=asked).session
        return told(lambda: b.commit(session, (make(session), config())))

    def with_pack(pack, places):
        (digest, offset, length) = places[0]
        return lambda session: mapped(store, session, "disk", file_map([Placed(digest, pack, offset, length)]))

    def with_map(ref, digest=file.digest):
        return lambda _: ProposedFile("disk", Role.IMAGE, file.size, digest, drive=0, map=ref)

    pack = commit(with_pack(*_pack_of(file, store, "blue")))
    assert pack == commit(with_pack(*_made_up_pack()))
    assert (pack[0], "no base" in pack[1]) == (CommitInvalid, True)
    found = commit(with_map(file.map))
    assert found == commit(with_map(MapRef("d" * 32, "d" * 64, file.map.size)))
    assert (found[0], "another push" in found[1]) == (CommitInvalid, True)
    assert _keys(store, f"{fmt.VERSIONS}{OTHER}/") == []


def test_a_map_of_ones_own_that_was_made_elsewhere_finds_no_pack_of_another_tenant(a, b, registry, store):
    """The same pack, byte for byte, uploaded by both: each session's is its own."""
    session = a.open(BASE).session
    placed = put_pack(store, session, [chunk("same")])
    mine = b.open(OTHER).session
    put_pack(store, mine, [chunk("same")])

    error = told(lambda: b.commit(mine, (mapped(store, mine, "disk", file_map(placed)), config())))

    assert (error[0], "no base" in error[1]) == (CommitInvalid, True)


# --- Bases -----------------------------------------------------------------------------------------------------------


def reasons(opened):
    return {dropped.template: reason for dropped, reason in opened.dropped}


def test_a_base_of_another_domain_is_said_to_be_one_only_to_who_may_list_it(a, registry):
    done = a.push(BASE)
    both = Identity("key:c", rights=Rights(domains={"blue": ALL, "green": ALL}))

    assert reasons(registry.open(both, Opening(OTHER, "x", "v1", domain="green", bases=(base(done),)))) == {
        BASE: "it lives in another domain than 'green'"
    }
    assert reasons(registry.open(B, Opening(OTHER, "x", "v1", bases=(base(done),)))) == {
        BASE: "there is no such version"
    }


@pytest.mark.parametrize("rights", [{}, {"templates": {BASE: "list pull"}}])
def test_a_base_that_is_deleted_or_damaged_is_dropped_as_one_that_never_was(a, b, store, registry, rights):
    """Also to whoever might list it by its id, were it there."""
    done = a.push(BASE)
    asker = guest(**rights, green="list pull push_tag")
    open_ = lambda who: reasons(registry.open(who, Opening(OTHER, "x", "v1", bases=(base(done),))))  # noqa: E731

    registry.delete(A, BASE, operation=ONE)
    assert open_(asker) == open_(B) == {BASE: "there is no such version"}
    store.put(fmt.head_key(BASE), b"{")
    assert open_(asker) == open_(B) == {BASE: "there is no such version"}


def test_more_bases_than_a_push_may_have_count_only_those_that_may_be_used(a, store):
    kept, new = a.push(BASE, words="a"), a.push(OTHER, name="other", words="b")
    registry = Registry(store, limits=Limits(bases=1))
    third = "00000000-0000-4000-8000-000000000003"

    opened = registry.open(A, Opening(third, "x", "v1", bases=(Base(third, "e" * 32), base(kept), base(new))))
    again = registry.add_bases(A, opened.session.id, [base(kept), base(new)])

    assert [version.template for version in opened.bases] == [BASE]
    assert [version.template for version in again.bases] == [BASE]
    assert "as many" in reasons(again)[OTHER]


# --- An id that two want ---------------------------------------------------------------------------------------------


def _damage(store):
    store.put(fmt.head_key(BASE), b"{")


TAKEN = {
    "is there": lambda registry, store: None,
    "was deleted": lambda registry, store: registry.delete(A, BASE, operation=ONE),
    "is damaged": lambda registry, store: _damage(store),
}


@pytest.mark.parametrize("state", TAKEN)
def test_a_hidden_templates_id_is_not_had_and_nothing_else_of_it_is_told(a, b, registry, store, state):
    a.push(BASE, arch="amd64", description="secret")
    TAKEN[state](registry, store)
    before = store.get(fmt.head_key(BASE)).data
    fresh = Registry(store)

    for more in ({}, {"domain": "green"}, {"force": True}, {"tag": "v2"}, {"bases": (NOBODYS,)}):
        opening = {"template": BASE, "name": "sequoia", "tag": "v1", **more}
        error, says, remedy, detail = told(lambda opening=opening: fresh.open(B, Opening(**opening)))
        assert (error, detail) == (TemplateIdTaken, {"template": BASE})
        assert says == f"no template can be made under the id {BASE}"
        assert "clone" in remedy
    # What would be refused if the id were free is refused in the same words.
    assert told(lambda: fresh.open(B, Opening(BASE, "x", "v1", domain="blue")))[0] is DomainRefused
    b.push(OTHER, name="mine")
    assert told(lambda: fresh.open(B, Opening(BASE, "mine", "v1")))[0] is NameTaken
    assert told(lambda: fresh.open(guest(), Opening(BASE, "x", "v1")))[0] is DomainRefused
    assert store.get(fmt.head_key(BASE)).data == before
    assert sessions(store) == []


def test_a_deleted_template_comes_back_in_its_domain_by_who_may_push_to_it(a, registry, store):
    gone = a.push(BASE, arch="amd64").entry
    registry.delete(A, BASE, operation=ONE)
    by_id = guest("key:ci", templates={BASE: "list push_tag"})

    with pytest.raises(Forbidden):
        registry.open(guest(templates={BASE: "list"}), Opening(BASE, "x", "v1"))
    with pytest.raises(DomainMismatch):
        registry.open(by_id, Opening(BASE, "x", "v1", domain="green"))
    done = Pusher(registry, store, by_id).push(BASE, "v2", name="back")

    head = done.head
    assert (head.domain, head.name, head.arch, head.deleted) == ("blue", "back", "amd64", False)
    assert [entry.id for entry in head.removed] == [gone.id]
    assert registry.find(A, "back").id == BASE


def test_an_id_of_which_nothing_is_left_is_free_and_nothing_of_it_is_handed_on(a, b, registry, store):
    done = a.push(BASE, arch="amd64", description="secret")
    registry.pulled(A, BASE, done.entry.id)
    registry.delete(A, BASE, operation=ONE)
    purge(store)
    fence = change_head(store, unknown={"labels": {"team": "blue"}})
    with pytest.raises(DomainRefused):
        registry.open(guest(templates={BASE: "list push_tag"}), Opening(BASE, "x", "v1"))

    opened = b.open(BASE, "v1", name="mine")
    assert (opened.bases, opened.dropped) == ((), ())
    head = b.commit(opened.session, b.files(opened.session, "ab"), name="mine").head

    assert (head.domain, head.name, head.arch, head.unknown, head.removed) == ("green", "mine", "", {}, ())
    assert head.gen == fence.gen + 1
    assert registry.describe(B, BASE).last_pulls == {}
    with pytest.raises(TemplateNotFound):
        registry.find(A, BASE)
    with pytest.raises(TemplateNotFound):
        registry.delete(A, BASE, operation=ONE)
    with pytest.raises(TemplateIdTaken):
        a.open(BASE, name="sequoia")
    check_sound(store)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("state", TAKEN)
def test_of_two_tenants_who_push_under_one_new_id_the_first_has_it(b, store, state, late):
    """The other commit fails without a word of why, though it was looked at before the first one came."""
    session = b.open(BASE, name="mine").session
    files = b.files(session, "ab")

    def first():
        Pusher(Registry(store), store, A).push(BASE)
        TAKEN[state](Registry(store), store)

    # The head is read before the work and, again, before it is replaced.
    rival = Before(store, "get", first, prefix=fmt.head_key(BASE), n=2 if late else 1)
    error = told(lambda: Registry(rival).commit(B, session.id, Proposal("v1", "mine", files)))

    assert rival.happened
    assert (error[0], error[3]) == (TemplateIdTaken, {"template": BASE})
    if state != "is damaged":
        assert read_head(store).domain == "blue"


def test_a_swap_that_is_lost_to_another_tenant_is_lost_in_the_same_words(b, store):
    session = b.open(BASE, name="mine").session
    files = b.files(session, "ab")
    rival = Before(store, "put", lambda: Pusher(Registry(store), store, A).push(BASE), prefix=fmt.HEADS)

    assert told(lambda: Registry(rival).commit(B, session.id, Proposal("v1", "mine", files)))[0] is TemplateIdTaken
    assert rival.happened
    assert read_head(store).domain == "blue"


# --- A name that two want --------------------------------------------------------------------------------------------


def test_tenants_may_use_one_name_each_for_itself(a, b, registry):
    a.push(BASE, name="sequoia")
    b.push(OTHER, name="sequoia")

    assert (registry.find(A, "sequoia").id, registry.find(B, "sequoia").id) == (BASE, OTHER)
    with pytest.raises(NameAmbiguous):
        registry.find(EVERYONE, "sequoia")
    registry.rename(B, OTHER, name="mine", operation=ONE)
    assert registry.rename(B, OTHER, name="sequoia", operation=TWO).name == "sequoia"
    third = "00000000-0000-4000-8000-000000000003"
    error = told(lambda: b.open(third, name="sequoia"))
    assert (error[0], error[3]) == (NameTaken, {"name": "sequoia", "ids": OTHER})


# --- The domain of a new template ------------------------------------------------------------------------------------


def makers(*domains):
    return Identity("key:m", rights=Rights(domains=dict.fromkeys(domains, ALL)))


@pytest.mark.parametrize(
    ("asker", "named", "domain"),
    [
        (EVERYONE, None, "main"),
        (EVERYONE, "any", "any"),
        (Identity("x", rights=Rights(all_templates=True)), None, "main"),
        (Identity("x", rights=Rights(all_templates=True)), "any", "any"),
        (makers("blue"), None, "blue"),
        (makers("blue"), "blue", "blue"),
        (makers("blue", "main"), None, "main"),
        (makers("blue", "main"), "blue", "blue"),
        (makers("blue", "green"), "green", "green"),
        (guest(blue="list push_tag", green="list pull"), None, "blue"),
        (guest(blue="push_tag", templates={BASE: "list"}), None, "blue"),
    ],
)
def test_a_new_template_goes_where_it_is_told_else_to_main_else_to_the_only_domain(registry, asker, named, domain):
    assert registry.open(asker, Opening(BASE, "x", "v1", domain=named)).session.domain == domain


@pytest.mark.parametrize(
    ("asker", "named", "error", "domains"),
    [
        (makers("blue", "green"), None, DomainUnclear, "blue, green"),
        (makers("blue", "green"), "red", DomainRefused, "blue, green"),
        (makers("blue"), "main", DomainRefused, "blue"),
        (makers(), None, DomainRefused, "none"),
        (makers(), "main", DomainRefused, "none"),
        (guest(blue="list pull"), None, DomainRefused, "none"),
        (guest(blue="push_tag"), "blue", DomainRefused, "none"),  # it would be gone for its maker at once
        (guest(templates={BASE: "list push_tag"}), None, DomainRefused, "none"),
    ],
)
def test_where_a_template_may_not_be_made_or_is_not_clear_the_domains_are_listed(
    registry, asker, named, error, domains
):
    with pytest.raises(error) as caught:
        registry.open(asker, Opening(BASE, "x", "v1", domain=named))
    assert caught.value.detail["domains"] == domains
    assert domains in str(caught.value)
    assert "--domain" in caught.value.next_step
    assert sessions(registry.store) == []


def test_a_domain_that_is_none_is_refused_before_anything_is_written(registry, store):
    with pytest.raises(NameInvalid):
        registry.open(EVERYONE, Opening(BASE, "x", "v1", domain="../main"))
    assert sessions(store) == []


# --- Rights that change while a push is under way --------------------------------------------------------------------


def test_a_session_is_its_owners_whatever_groups_and_login_it_has_by_now(a, registry):
    session = a.open(BASE).session
    again = Identity("key:a", groups=("others",), rights=Rights(all_templates=True))

    assert registry.session(again, session.id) == session
    assert len(registry.sign_uploads(again, session.id, [("pack", "a" * 64, 9)])) == 1
    assert registry.session(Identity("key:a", rights=Rights()), session.id).signed == 9
    done = Pusher(registry, a.store, again).commit(session, a.files(session))
    assert done.head.domain == "blue"


@pytest.mark.parametrize("verb", ["session", "add_bases", "sign_uploads", "commit"])
def test_somebody_elses_session_reads_as_none_whatever_one_may_do(a, registry, verb):
    session = a.open(BASE).session
    files = a.files(session)
    for other in (B, Identity("key:a2", rights=A.rights), Identity("cert:a", rights=A.rights), EVERYONE):
        calls = {
            "session": lambda sid, who=other: registry.session(who, sid),
            "add_bases": lambda sid, who=other: registry.add_bases(who, sid, []),
            "sign_uploads": lambda sid, who=other: registry.sign_uploads(who, sid, []),
            "commit": lambda sid, who=other: registry.commit(who, sid, Proposal("v1", "x", files)),
        }
        error = told(lambda call=calls[verb]: call(session.id))
        none = told(lambda call=calls[verb]: call("0" * 32))
        assert error[0] is none[0] is SessionNotFound
        assert error[1].replace(session.id, "0" * 32) == none[1]


LOST = {
    "everything": guest("key:a"),
    "push_tag": guest("key:a", blue="list pull"),
    "list": guest("key:a", blue="pull push_tag"),
    "the domain": guest("key:a", green="list pull push_tag"),
}


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("lost", LOST)
def test_rights_that_are_taken_away_end_a_push_at_its_next_call_and_it_may_still_be_given_up(
    a, registry, store, lost, there
):
    if there:
        a.push(BASE, "v0")
    session = a.open(BASE, "v1").session
    files, asker = a.files(session, "x"), LOST[lost]
    before = {key: store.get(key).data for key in _keys(store, "")}

    for act in (
        lambda: registry.add_bases(asker, session.id, []),
        lambda: registry.sign_uploads(asker, session.id, [("pack", "a" * 64, 9)]),
        lambda: registry.commit(asker, session.id, Proposal("v1", "sequoia", files)),
    ):
        with pytest.raises(Forbidden):
            act()
    assert {key: store.get(key).data for key in _keys(store, "")} == before
    registry.abort(asker, session.id)
    assert registry.session(A, session.id).state.value == "expired"


def test_a_right_that_is_taken_away_just_before_the_swap_is_looked_at_again_by_the_next_call_only(a, registry, store):
    """A call is made with the rights that it began with; none of them outlives it."""
    session = a.open(BASE).session
    files = a.files(session)
    a.commit(session, files)

    with pytest.raises(Forbidden):
        registry.commit(guest("key:a", blue="list"), session.id, Proposal("v1", "sequoia", files))
    with pytest.raises(SessionNotFound):
        registry.commit(guest("key:a"), session.id, Proposal("v1", "sequoia", files))
    assert registry.commit(A, session.id, Proposal("v1", "sequoia", files)).entry.id == session.version


def test_a_commit_that_is_repeated_after_its_session_is_gone_is_answered_to_who_may_push(a, registry):
    done = a.push(BASE)
    proposal = Proposal("v1", "sequoia", ())
    colleague = Identity("key:a2", rights=A.rights)

    assert registry.commit(colleague, done.entry.id, proposal).entry == done.entry
    error = told(lambda: registry.commit(B, done.entry.id, proposal))
    assert error[0] is SessionNotFound
    assert error[1].replace(done.entry.id, ONE) == told(lambda: registry.commit(B, ONE, proposal))[1]


def test_a_base_that_may_not_be_pulled_any_more_is_neither_offered_again_nor_built_on(a, registry, store):
    mine, theirs = a.push(BASE, words="a"), a.push(OTHER, name="other", words="bc")
    wanted = base(theirs)
    asker = guest("key:ci", templates={BASE: "list pull push_tag", OTHER: "list pull"})
    opened = registry.open(asker, Opening(BASE, "x", "v2", bases=(wanted,)))
    lent = next(file for version in opened.bases if version.template == OTHER for file in version.files if file.map)
    assert opened.session.usable == (base(mine), wanted)

    for left, reason in (("list", "you may not pull it"), ("pull", "there is no such version")):
        less = guest("key:ci", templates={BASE: "list pull push_tag", OTHER: left})
        again = registry.add_bases(less, opened.session.id, [wanted])
        assert ((again.bases, again.map_links), reasons(again)) == (((), {}), {OTHER: reason})
        file = ProposedFile("disk", Role.IMAGE, lent.size, lent.digest, drive=0, map=lent.map)
        error = told(lambda less=less, file=file: registry.commit(
            less, opened.session.id, Proposal("v2", "x", (file, config()))
        ))  # fmt: skip
        assert (error[0], "no base" in error[1]) == (CommitInvalid, True)
    done = registry.commit(asker, opened.session.id, Proposal("v2", "x", (file, config())))
    assert done.stored == 0
