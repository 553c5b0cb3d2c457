"""Upload links, the heartbeat, and a session's end without a commit."""

import hashlib
import threading

import pytest

from faults import Before, LosesAnswer
from registry.material import BASE, Pusher, change_session, sessions
from s3reg.errors import Invalid, NameInvalid, SessionExpired, SessionNotFound, SessionTooLarge
from s3reg.model import format as fmt
from s3reg.model.identity import Identity
from s3reg.model.maps import LARGEST_MAP
from s3reg.model.packs import LARGEST_PACK
from s3reg.model.template import SessionState
from s3reg.registry import Limits, Registry

SHA = hashlib.sha256(b"x").hexdigest()


def test_links_are_for_keys_of_the_session_and_the_session_notes_what_was_signed(node, store, registry):
    session = node.open().session

    links = registry.sign_uploads(node.asker, session.id, [("pack", SHA, 10), ("map", SHA, 5)])

    assert [link.url.split("?")[0] for link in links] == [
        f"/objects/packs/main/{session.id}/{SHA}",
        f"/objects/maps/main/{session.id}/{SHA}",
    ]
    (now,) = sessions(store)
    assert now.signed == 15


def test_the_first_heartbeat_notes_when_the_session_was_opened_by_the_stores_clock(node, store, registry):
    session = node.open().session
    opened = int(store.stat(fmt.session_key(session.id)).modified)

    registry.sign_uploads(node.asker, session.id, [("pack", SHA, 10)])
    registry.sign_uploads(node.asker, session.id, [])

    (now,) = sessions(store)
    assert now.opened == opened


@pytest.mark.parametrize(
    "bad",
    [("pack", SHA, LARGEST_PACK + 1), ("map", SHA, LARGEST_MAP + 1), ("pack", SHA, 0), ("head", SHA, 1)],
)
def test_what_is_neither_pack_nor_map_or_too_large_gets_no_link(node, store, registry, bad):
    session = node.open().session

    with pytest.raises(Invalid):
        registry.sign_uploads(node.asker, session.id, [bad])
    assert sessions(store)[0].signed == 0


def test_a_digest_that_climbs_gets_no_link(node, registry):
    session = node.open().session

    with pytest.raises(NameInvalid):
        registry.sign_uploads(node.asker, session.id, [("pack", "../../heads/x", 1)])


def test_a_session_uploads_no_more_than_its_limit(store):
    node = Pusher(Registry(store, limits=Limits(session_bytes=100)), store)
    session = node.open().session
    node.registry.sign_uploads(node.asker, session.id, [("pack", SHA, 90)])

    with pytest.raises(SessionTooLarge):
        node.registry.sign_uploads(node.asker, session.id, [("pack", SHA, 11)])
    assert node.registry.sign_uploads(node.asker, session.id, [("pack", SHA, 10)])


def test_heartbeats_of_many_replicas_at_once_all_count(node, store):
    session = node.open().session
    replicas = [Registry(store) for _ in range(6)]
    start = threading.Barrier(len(replicas))

    def beat(registry):
        start.wait()
        for _ in range(5):
            registry.sign_uploads(node.asker, session.id, [("pack", SHA, 1)])

    threads = [threading.Thread(target=beat, args=[registry]) for registry in replicas]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sessions(store)[0].signed == 30


def test_a_lost_answer_to_a_heartbeat_is_no_trouble(node, store):
    session = node.open().session
    lossy = LosesAnswer(store, prefix=fmt.SESSIONS)

    assert Registry(lossy).sign_uploads(node.asker, session.id, [("pack", SHA, 1)])
    assert lossy.happened


def test_somebody_elses_session_reads_as_none(node, registry):
    session, other = node.open().session, Identity("somebody else")

    with pytest.raises(SessionNotFound):
        registry.sign_uploads(other, session.id, [])
    with pytest.raises(SessionNotFound):
        registry.session(other, session.id)
    registry.abort(other, session.id)  # as of one that is gone: no error, and nothing done
    assert registry.session(node.asker, session.id) == session


def test_s17_an_aborted_session_takes_no_heartbeat_and_is_kept_for_the_sweep(node, store, registry):
    session = node.open().session

    registry.abort(node.asker, session.id)
    registry.abort(node.asker, session.id)

    assert sessions(store)[0].state is SessionState.EXPIRED
    with pytest.raises(SessionExpired):
        registry.sign_uploads(node.asker, session.id, [])


def test_aborting_a_session_that_a_sweep_removes_meanwhile_is_no_error(node, store):
    session = node.open().session
    # The change reads it a second time.
    late = Before(store, "get", lambda: store.delete([fmt.session_key(session.id)]), prefix=fmt.SESSIONS, n=2)
    Registry(late).abort(node.asker, session.id)
    assert late.happened


def test_aborting_a_session_that_is_gone_is_no_error(node, registry):
    registry.abort(node.asker, "0" * 32)


def test_a_session_is_not_prolonged_for_ever(node, store):
    """By the store's clock alone: the last heartbeat against the opening, whatever this machine's clock says."""
    registry = Registry(store, limits=Limits(age_seconds=100), clock=lambda: 0)
    session = node.open(BASE).session
    change_session(store, session, opened=int(store.stat(fmt.session_key(session.id)).modified) - 101)

    with pytest.raises(SessionExpired):
        registry.sign_uploads(node.asker, session.id, [])
