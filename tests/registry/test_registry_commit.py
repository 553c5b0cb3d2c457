"""The commit: what becomes visible, when, and what decides between two that want the same."""

import itertools
import threading
from dataclasses import replace

import pytest

from faults import Before, Counting, FailsOnCall, LosesAnswer
from registry.material import (
    BASE,
    OTHER,
    Pusher,
    base,
    change_head,
    change_session,
    check_sound,
    config,
    heads,
    inline,
    needed_by,
    purge,
    read_head,
    sessions,
    swept,
)
from s3reg.errors import (
    CommitInvalid,
    DomainMismatch,
    FormatUnknown,
    NameTaken,
    SessionExpired,
    SessionNotFound,
    StoreCopied,
    StoreUnavailable,
    TagTaken,
    TooBusy,
)
from s3reg.model import format as fmt
from s3reg.model.identity import EVERYONE, Identity
from s3reg.model.template import Role, SessionState
from s3reg.registry import Limits, Registry


@pytest.fixture
def ready(node):
    """An open session whose files are uploaded."""
    session = node.open(tag="v1").session
    return session, node.files(session)


def test_the_version_is_written_then_head_session_and_swap_follow_each_other(store, ready):
    session, files = ready
    counted = Counting(store)

    Pusher(Registry(counted), store).commit(session, files)

    written = next(i for i, call in enumerate(counted.calls) if call.is_on("put", fmt.VERSIONS))
    head, again = fmt.head_key(BASE), fmt.session_key(session.id)
    assert [(call.verb, call.keys[0]) for call in counted.calls[written + 1 :]] == [
        ("get", head), ("get", again), ("put", head), ("delete", again),
    ]  # fmt: skip


def test_each_new_attempt_reads_the_head_and_then_the_session_again(node, store):
    node.push(tag="v1")
    session = node.open(tag="v2").session
    files = node.files(session)
    rival = Before(store, "put", lambda: change_head(store), prefix=fmt.HEADS)
    counted = Counting(rival)

    Pusher(Registry(counted), store).commit(session, files, "v2")

    swaps = [i for i, call in enumerate(counted.calls) if call.is_on("put", fmt.HEADS)]
    assert len(swaps) == 2
    for swap in swaps:
        before = [(call.verb, call.keys[0]) for call in counted.calls[swap - 2 : swap]]
        assert before == [("get", fmt.head_key(BASE)), ("get", fmt.session_key(session.id))]


def test_a_session_that_expires_between_head_and_session_stops_the_commit(node, store):
    node.push(tag="v1")
    session = node.open(tag="v2").session
    files = node.files(session)
    before = read_head(store)
    late = Before(
        store, "get", lambda: change_session(store, session, state=SessionState.EXPIRED), prefix=fmt.SESSIONS, n=2
    )

    with pytest.raises(SessionExpired):
        Pusher(Registry(late), store).commit(session, files, "v2")
    assert read_head(store) == before


def test_a_session_that_a_sweep_gives_up_just_before_the_swap_stops_the_commit(node, store):
    """Expired after it was read, but then the head's generation was bumped too: the swap fails, the next look sees it."""
    node.push(tag="v1")
    session = node.open(tag="v2").session
    files = node.files(session)

    def give_up():
        change_session(store, session, state=SessionState.EXPIRED)
        change_head(store)

    late = Before(store, "put", give_up, prefix=fmt.HEADS)

    with pytest.raises(SessionExpired):
        Pusher(Registry(late), store).commit(session, files, "v2")
    assert [entry.tag for entry in read_head(store).versions] == ["v1"]


def test_the_first_push_of_a_template_is_fenced_off_by_a_deleted_head(node, store, ready):
    session, files = ready
    late = Before(store, "put", lambda: swept(store, expire=True), prefix=fmt.HEADS)

    with pytest.raises(SessionNotFound):
        Pusher(Registry(late), store).commit(session, files)
    assert read_head(store).deleted
    assert read_head(store).versions == ()


def test_a_push_brings_a_deleted_template_back_under_its_new_name(node, store):
    done = node.push(tag="v1", name="old", arch="arm64")
    gone = done.entry.gone(when=1, by="x", keeps=0)
    change_head(store, versions=(), removed=(gone,), deleted=True)

    back = node.push(tag="v1", name="new", words="c")

    assert (back.head.name, back.head.arch, back.head.deleted) == ("new", "arm64", False)
    assert [entry.id for entry in back.head.removed] == [done.entry.id]
    assert back.entry.seq == done.entry.seq + 1


def test_a_push_never_renames_a_template_and_tells_its_architecture_once(node):
    node.push(tag="v1", name="sequoia")

    assert node.push(tag="v2", name="other", arch="arm64").head.name == "sequoia"
    assert node.push(tag="v3", arch="amd64").head.arch == "arm64"


# --- Repeated, raced, lost -------------------------------------------------------------------------------------------


def test_a_repeated_commit_answers_the_same_once_its_session_is_gone(node, store, ready):
    session, files = ready
    done = node.commit(session, files)

    assert sessions(store) == []
    for registry in (node.registry, Registry(store)):
        assert Pusher(registry, store).commit(session, files) == done
    assert read_head(store) == done.head


def test_a_commit_whose_session_could_not_be_dropped_answers_the_same_when_repeated(store, ready):
    session, files = ready
    stuck = FailsOnCall(store, 1, StoreUnavailable(store="x", reason="x"), verb="delete")
    node = Pusher(Registry(stuck), store)

    done = node.commit(session, files)

    assert stuck.happened
    assert len(sessions(store)) == 1
    assert node.commit(session, files) == done
    assert sessions(store) == []


def test_a_commit_that_was_done_and_whose_session_expired_since_answers_the_same(store, ready):
    session, files = ready
    stuck = FailsOnCall(store, 1, StoreUnavailable(store="x", reason="x"), verb="delete")
    node = Pusher(Registry(stuck), store)
    done = node.commit(session, files)
    change_session(store, session, state=SessionState.EXPIRED)

    assert node.commit(session, files) == done


@pytest.mark.parametrize("forgotten", [False, True])
def test_a_version_that_was_removed_does_not_come_back_by_a_repeated_commit(store, ready, forgotten):
    """Also after so many changes that the head has forgotten the commit's operation id."""
    session, files = ready
    stuck = FailsOnCall(store, 1, StoreUnavailable(store="x", reason="x"), verb="delete")
    node = Pusher(Registry(stuck), store)
    done = node.commit(session, files)
    change_head(store, versions=(), removed=(done.entry.gone(when=1, by="x", keeps=0),))
    if forgotten:
        change_head(store, operations=())

    with pytest.raises(SessionNotFound):
        node.commit(session, files)
    assert read_head(store).versions == ()


def test_a_session_that_never_was_cannot_be_committed(node, ready):
    session, files = ready
    with pytest.raises(SessionNotFound):
        node.commit(replace(session, id="0" * 32), files)


def test_somebody_elses_session_cannot_be_committed(node, store, registry, ready):
    session, files = ready
    with pytest.raises(SessionNotFound):
        Pusher(registry, store, Identity("somebody else")).commit(session, files)
    assert heads(store) == []


def test_of_two_pushers_of_one_tag_one_wins_and_the_other_is_told(node, store):
    """The second one's whole commit happens just before the first one's swap."""
    node.push(tag="v1")
    first, second = node.open(tag="v2").session, node.open(tag="v2").session
    files, others = node.files(first, "ab"), node.files(second, "cd")
    raced = Before(store, "put", lambda: node.commit(second, others, "v2"), prefix=fmt.HEADS)

    with pytest.raises(TagTaken):
        Pusher(Registry(raced), store).commit(first, files, "v2")

    assert read_head(store).tagged("v2").id == second.version
    assert [session.id for session in sessions(store)] == [first.id]
    assert node.commit(first, files, "v3").entry.tag == "v3"
    check_sound(store)


def test_many_pushers_of_one_tag_at_once_leave_one_version(store):
    nodes = [Pusher(Registry(store), store) for _ in range(6)]
    opened = [node.open(tag="v1").session for node in nodes]
    files = [node.files(session, f"w{i}") for i, (node, session) in enumerate(zip(nodes, opened, strict=True))]
    start, told = threading.Barrier(len(nodes)), []

    def commit(node, session, these):
        start.wait()
        try:
            told.append(node.commit(session, these).entry.id)
        except TagTaken:
            told.append(None)

    threads = [threading.Thread(target=commit, args=each) for each in zip(nodes, opened, files, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    (entry,) = read_head(store).versions
    assert sorted(told, key=str) == sorted([entry.id] + [None] * 5, key=str)


def test_s2_many_pushers_of_different_tags_at_once_all_get_in(store):
    nodes = [Pusher(Registry(store), store) for _ in range(6)]
    start = threading.Barrier(len(nodes))

    def push(i, node):
        start.wait()
        node.push(tag=f"v{i}", words=f"w{i}")

    threads = [threading.Thread(target=push, args=each) for each in enumerate(nodes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    head = read_head(store)
    assert {entry.tag for entry in head.versions} == {f"v{i}" for i in range(6)}
    assert [entry.seq for entry in head.versions] == list(range(6))
    assert head.gen == 6
    check_sound(store)


def test_one_replica_opens_another_signs_and_the_first_commits_after_the_other_wrote_the_same_head(store):
    one, other = Pusher(Registry(store), store), Pusher(Registry(store), store)
    one.push(tag="v1")
    session = one.open(tag="v2").session
    other.registry.sign_uploads(other.asker, session.id, [("pack", "0" * 64, 1)])
    files = one.files(session)
    other.push(tag="v3", words="z")

    done = one.commit(session, files, "v2")

    assert [entry.tag for entry in done.head.versions] == ["v1", "v3", "v2"]


def test_the_same_commit_on_two_replicas_at_once_makes_one_version(node, store, ready):
    session, files = ready
    other = Pusher(Registry(store), store)
    raced = Before(store, "put", lambda: other.commit(session, files), prefix=fmt.HEADS)

    done = Pusher(Registry(raced), store).commit(session, files)

    assert raced.happened
    assert [entry.id for entry in read_head(store).versions] == [done.entry.id]


def test_a_commit_whose_session_the_other_replica_just_dropped_is_done(node, store, ready):
    session, files = ready
    other = Pusher(Registry(store), store)
    raced = Before(store, "get", lambda: other.commit(session, files), prefix=fmt.SESSIONS, n=2)

    assert Pusher(Registry(raced), store).commit(session, files).entry.id == session.version


@pytest.mark.parametrize("prefix", [fmt.VERSIONS, fmt.HEADS])
def test_a_lost_answer_is_settled_by_what_lies_there(store, ready, prefix):
    session, files = ready
    lossy = LosesAnswer(store, prefix=prefix)

    done = Pusher(Registry(lossy), store).commit(session, files)

    assert lossy.happened
    assert read_head(store) == done.head
    assert (len(done.head.versions), done.head.gen) == (1, 1)


def test_a_commit_that_died_after_its_version_was_written_goes_on_with_that_record(store, ready):
    session, files = ready
    times = itertools.count(100, 100)
    dies = FailsOnCall(store, 1, StoreUnavailable(store="x", reason="x"), verb="put", prefix=fmt.HEADS)
    node = Pusher(Registry(dies, clock=lambda: next(times)), store)
    with pytest.raises(StoreUnavailable):
        node.commit(session, files)

    done = node.commit(session, files)

    assert done.entry.created == 100
    assert node.registry.version(node.asker, BASE)[2].created == 100


def test_a_session_commits_one_set_of_files_only(store, ready):
    session, files = ready
    dies = FailsOnCall(store, 1, StoreUnavailable(store="x", reason="x"), verb="put", prefix=fmt.HEADS)
    node = Pusher(Registry(dies), store)
    with pytest.raises(StoreUnavailable):
        node.commit(session, files)

    with pytest.raises(CommitInvalid):
        node.commit(session, (*files, inline("policy", b"x")))
    assert node.commit(session, files).entry.id == session.version


def test_a_head_that_never_holds_still_is_told_as_busy(store, ready):
    session, files = ready
    Pusher(Registry(store), store).push(tag="v0", words="z")

    class Busy(Counting):
        def put(self, key, data, *, only_if=None):
            if key.startswith(fmt.HEADS):
                change_head(store)
            return super().put(key, data, only_if=only_if)

    with pytest.raises(TooBusy):
        Pusher(Registry(Busy(store), limits=Limits(attempts=3)), store).commit(session, files)


def test_an_expired_session_cannot_be_committed(node, store, ready):
    session, files = ready
    node.registry.abort(node.asker, session.id)

    with pytest.raises(SessionExpired):
        node.commit(session, files)
    assert heads(store) == []


# --- What is in the way ----------------------------------------------------------------------------------------------


def test_force_replaces_the_version_in_its_place_and_keeps_the_old_one_for_a_while(node, store):
    old = node.push(tag="v1", words="a")
    node.push(tag="v2", words="b")

    new = node.push(tag="v1", words="c", force=True)

    assert [entry.tag for entry in new.head.versions] == ["v1", "v2"]
    assert new.head.number(new.entry) == 0
    (gone,) = new.head.removed
    assert (gone.id, gone.removed_by, gone.seq) == (old.entry.id, "everyone", new.entry.seq)
    assert (old.replaced, new.replaced) == (None, gone)
    check_sound(store)


def test_a_repeated_commit_tells_again_what_it_replaced_and_not_what_another_did(node, store, registry):
    first = node.push(tag="v1", words="a")
    opened = node.open(tag="v1", force=True)
    files = node.files(opened.session, "b")
    done = node.commit(opened.session, files, force=True)
    node.push(tag="v2", words="c")
    registry.untag(EVERYONE, BASE, tag="v2", operation="1" * 32)
    assert node.commit(opened.session, files, force=True).replaced == done.replaced
    assert done.replaced.id == first.entry.id
    third = node.push(tag="v1", words="d", force=True)
    assert third.replaced.id == done.entry.id
    registry.restore(EVERYONE, BASE, versions=[done.entry.id], as_tag="old", operation="2" * 32)
    assert node.commit(opened.session, files, force=True).replaced is None


def test_force_without_anything_to_replace_adds(node):
    assert node.push(tag="v1", force=True).head.removed == ()


def test_a_name_that_another_template_took_meanwhile_is_refused(node, store):
    session = node.open(OTHER, "v1", name="sequoia").session
    files = node.files(session)
    node.push(BASE, "v1", name="sequoia")

    with pytest.raises(NameTaken):
        node.commit(session, files, name="sequoia")
    assert node.commit(session, files, name="sequoia", same_name=True).head.id == OTHER


def test_a_template_that_was_made_in_another_domain_meanwhile_is_refused(node, store):
    session = node.open(BASE, "v1", domain="a").session
    files = node.files(session)
    node.push(BASE, "v2", domain="b")

    with pytest.raises(DomainMismatch):
        node.commit(session, files)


def test_a_base_that_is_purged_after_it_was_offered_still_serves(node, store):
    done = node.push(OTHER, "v1", name="other")
    opened = node.open(BASE, "v1", bases=(base(done),))
    purge(store, OTHER)
    kept = next(file for file in opened.bases[0].files if file.map)
    swept(store)
    files = (replace(node.files(opened.session)[0], size=kept.size, digest=kept.digest, map=kept.map), config())

    node.commit(opened.session, files)

    check_sound(store)


def test_generations_grow_and_operations_are_noted(node, store):
    done = [node.push(tag=f"v{i}", words=f"w{i}") for i in range(3)]

    head = read_head(store)
    assert head.gen == 3
    assert head.operations == tuple(each.entry.id for each in done)


def test_fields_of_a_newer_release_survive_a_commit(node, store):
    node.push(tag="v1")
    change_head(store, unknown={"policy": {"keep": 3}})

    node.push(tag="v2", words="z")

    assert read_head(store).unknown == {"policy": {"keep": 3}}


def test_a_templates_size_counts_shared_layers_once_and_says_when_one_cannot_be_read(node, store, caplog):
    one = node.push(tag="v1", words="ab")
    same = node.push(tag="v2", words="ab")
    assert same.head.size == one.head.size
    store.put(fmt.version_key(BASE, one.entry.id), b"{}")

    more = Pusher(Registry(store), store).push(tag="v3", words="c")

    assert more.head.size == one.head.size + more.entry.size
    assert any(record.event == "version-unreadable" for record in caplog.records)


def test_what_was_stored_is_told_without_what_was_reused(node, store):
    first = node.push(tag="v1", words="ab")
    opened = node.open(tag="v2")
    kept = next(file for file in opened.bases[0].files if file.map)
    files = (replace(node.files(opened.session, "c")[0], size=kept.size, digest=kept.digest, map=kept.map), config())

    assert first.stored > 0
    assert node.commit(opened.session, files, "v2").stored == 0


def test_a_vm_without_any_layer_is_a_version(node, store):
    session = node.open().session

    done = node.commit(session, (config(), inline("nvram", b"x", Role.NVRAM)))

    assert (done.entry.size, done.head.size, done.stored) == (0, 0, 0)
    assert node.registry.describe(node.asker, BASE).versions[0].layers() == []


def test_a_vm_of_two_drives_and_a_state_keeps_chain_and_drives(node, store):
    from registry.material import image

    session = node.open().session
    files = (
        image(store, session, "base", "a", drive=0),
        image(store, session, "top", "b", drive=0, parent="base"),
        image(store, session, "data", "c", drive=1),
        image(store, session, "ram", "d", role=Role.STATE, parent="top"),
        config(),
    )

    done = node.commit(session, files)

    version = node.registry.version(node.asker, BASE)[2]
    assert [(file.name, file.drive, file.parent) for file in version.layers()] == [
        ("base", 0, None), ("top", 0, "base"), ("data", 1, None), ("ram", None, "top"),
    ]  # fmt: skip
    assert done.entry.size == sum(file.size for file in version.layers())
    assert version.config["name"] == "vm"
    assert version.file("config.yaml").inline == config().inline


def test_a_store_that_was_upgraded_meanwhile_takes_no_commit_of_ours(node, store, ready):
    session, files = ready
    kept = fmt.read_format(store.get(fmt.FORMAT_KEY).data)
    store.put(fmt.FORMAT_KEY, fmt.write_format(replace(kept, write=frozenset({"two-level-maps"}))))

    with pytest.raises(FormatUnknown):
        node.commit(session, files)
    assert heads(store) == []


def test_a_copied_store_takes_no_push(node, store, ready):
    session, files = ready
    kept = fmt.read_format(store.get(fmt.FORMAT_KEY).data)
    store.put(fmt.FORMAT_KEY, fmt.write_format(replace(kept, made_as="elsewhere")))

    for act in (
        lambda: node.commit(session, files),
        lambda: node.open(OTHER),
        lambda: node.registry.sign_uploads(node.asker, session.id, []),
        lambda: node.registry.add_bases(node.asker, session.id, []),
        lambda: node.registry.abort(node.asker, session.id),
    ):
        with pytest.raises(StoreCopied):
            act()
    assert needed_by(store, BASE, session.version)
