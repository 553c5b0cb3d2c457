"""The pushes under way, as people see them: their own, or everybody's; and an end to one."""

import time

import pytest

from faults import Before
from registry.askers import guest
from registry.material import BASE, OTHER, Pusher, base, change_session, sessions, swept
from s3reg.errors import RecordDamaged, SessionExpired, SessionNotFound
from s3reg.model import format as fmt
from s3reg.model.identity import EVERYONE, Identity
from s3reg.registry import Registry

DAY = 24 * 3600
ROOT = Identity("root")


@pytest.fixture
def ci(registry, store):
    """A pusher with rights of its own."""
    return Pusher(registry, store, guest("key:ci", main="list push_tag"))


def shown(registry, asker):
    return [one.id for one in registry.sessions(asker)]


def test_an_asker_sees_its_own_pushes_and_whoever_has_no_limits_all_of_them(node, ci, registry):
    mine = ci.open(BASE).session.id
    others = node.open(OTHER, name="other").session.id
    assert shown(registry, ci.asker) == [mine]
    assert set(shown(registry, ROOT)) == {mine, others}
    assert shown(registry, guest("key:another", main="list push_tag pull")) == []


def test_a_push_is_shown_with_what_there_is_to_know(node, registry):
    node.push(BASE, "v1", name="sequoia")
    session = node.open(BASE, "v2").session
    registry.sign_uploads(EVERYONE, session.id, [("pack", "a" * 64, 1000)])
    (one,) = registry.sessions(ROOT)
    assert (one.id, one.name, one.damaged) == (session.id, "sequoia", "")
    assert (one.session.owner, one.session.signed) == ("everyone", 1000)
    assert one.beat == pytest.approx(time.time(), abs=60)
    assert one.until == one.beat + DAY


def test_until_is_a_week_after_the_opening_at_most(node, registry, store):
    session = node.open().session
    opened = int(time.time()) - 7 * DAY + 60
    change_session(store, session, opened=opened)
    assert registry.sessions(ROOT)[0].until == opened + 7 * DAY


def test_the_oldest_push_comes_first(node, registry, store):
    first, second = (node.open(BASE, tag).session for tag in ("v1", "v2"))
    change_session(store, second, opened=1000)
    assert shown(registry, ROOT) == [second.id, first.id]


def test_a_template_that_the_asker_may_not_list_has_no_name_for_it(node, ci, registry):
    ci.open(BASE)
    node.push(BASE, "v1", name="sequoia", same_name=True)
    assert [one.name for one in registry.sessions(ci.asker)] == ["sequoia"]
    assert [one.name for one in registry.sessions(guest("key:ci"))] == [""]


def test_a_push_that_is_given_up_is_told_so_at_its_next_call_and_swept(node, ci, registry, store):
    session = ci.open(BASE).session
    files = ci.files(session)
    assert registry.abort_any(ROOT, session.id).template == BASE
    assert registry.abort_any(ROOT, session.id).template == BASE
    for call in (
        lambda: registry.sign_uploads(ci.asker, session.id, []),
        lambda: registry.add_bases(ci.asker, session.id, [base(node.push(OTHER, name="other"))]),
        lambda: ci.commit(session, files),
    ):
        with pytest.raises(SessionExpired):
            call()
    (one,) = registry.sessions(ROOT)
    assert one.until <= one.beat
    assert swept(store).given_up == 1
    assert registry.sessions(ROOT) == []


def test_an_asker_gives_up_its_own_push_and_no_other(node, ci, registry, store):
    mine, others = ci.open(BASE).session.id, node.open(OTHER, name="other").session.id
    registry.abort_any(ci.asker, mine)
    for unknown in (others, "f" * 32):
        with pytest.raises(SessionNotFound):
            registry.abort_any(ci.asker, unknown)
    assert {one.id: one.state.value for one in sessions(store)} == {mine: "expired", others: "open"}


def test_a_damaged_record_shows_to_whoever_has_no_limits_and_hides_no_other(node, ci, registry, store):
    whole, broken = (ci.open(BASE, tag).session.id for tag in ("v1", "v2"))
    store.put(fmt.session_key(broken), b"{")
    store.put("sessions/notes.txt", b"")
    assert shown(registry, ci.asker) == [whole]
    found = {one.id: one for one in registry.sessions(ROOT)}
    assert set(found) == {whole, broken}
    assert (found[broken].session, found[whole].damaged) == (None, "")
    assert broken in found[broken].damaged
    with pytest.raises(RecordDamaged):
        registry.abort_any(ROOT, broken)


def test_a_push_that_ends_while_they_are_listed_is_left_out(node, store):
    session = node.open().session
    late = Before(store, "get", lambda: store.delete([fmt.session_key(session.id)]), prefix=fmt.SESSIONS)
    assert Registry(late).sessions(ROOT) == []
    assert late.happened
