"""What an administrator changes, over lines that lose answers and beside others who change the same."""

import contextlib
import threading
from dataclasses import replace

import pytest

import access_kit
import sites
import tap
from s3reg.client import keyfile
from s3reg.client.administration import TRIES, Administration
from s3reg.client.connection import Access, Connection
from s3reg.errors import (
    AnswerInvalid,
    Forbidden,
    GroupChanged,
    GroupNotFound,
    GroupTaken,
    KeyFileTaken,
    KeyNotFound,
    KeyTaken,
    RecordDamaged,
    RegistryUnreachable,
    Unauthenticated,
)
from s3reg.model import format_access
from s3reg.wire.access import GroupEntry, KeyChange, NewKey, TemplateGrant

WAIT = 30
LOST = "lost"
ONE, OTHER = "12345678-9abc-4def-8123-456789abcdef", "87654321-9abc-4def-8123-456789abcdef"


class Line:
    """The application behind a line on which `spoil(method and path, how often it was asked)` says what goes wrong.

    LOST: the registry does it, and the answer is an error of the line's; a number: such an error, and nothing is done.
    """

    def __init__(self, app):
        self.app = app
        self.asked = []
        self.spoil = lambda what, times: None

    def __call__(self, environ, start_response):
        what = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO'].removeprefix('/transfer/v1')}"
        self.asked.append(what)
        trouble = self.spoil(what, self.asked.count(what))
        if trouble is None:
            return self.app(environ, start_response)
        if trouble is LOST:
            b"".join(self.app(environ, lambda *_: None))
        start_response(f"{503 if trouble is LOST else trouble} Trouble", [("Content-Length", "0")])
        return [b""]


@pytest.fixture
def closed(tmp_path):
    """A registry with access control behind a `line`."""
    made = access_kit.Closed(tmp_path / "store", authorization=True)
    made.line = Line(made.app)
    with sites.serving(made.line) as made.url:
        yield made


@pytest.fixture
def administrator(closed):
    """`administrator()`: one with the root token, or as `who`, who does not wait between tries."""
    with contextlib.ExitStack() as stack:

        def make(**who):
            access = Access(closed.url, **(who or {"user": "root", "password": closed.token}))
            connection = Connection(access, tries=3, pause=lambda *_: None)
            stack.callback(connection.close)
            return Administration(connection)

        yield make


@pytest.fixture
def file(tmp_path):
    return tmp_path / "ci.pem"


def lose_first(begins):
    return lambda what, times: LOST if what == begins and times == 1 else None


def granting(permission):
    return lambda group: replace(group, permissions=(*group.permissions, permission))


class TestKeys:
    def test_a_key_whose_first_answer_was_lost_is_the_one_that_was_made(self, closed, administrator, file):
        closed.line.spoil = lose_first("POST /keys")
        made = administrator().make_key(NewKey("ci", 60, ("a",)), file)
        assert [key.id for key in closed.gate.keys.all()] == ["ci"]
        assert (made.id, tuple(made.groups)) == ("ci", ("a",))
        key = tap.serialization.load_pem_private_key(file.read_bytes(), None)
        assert closed.login("ci", key)

    def test_a_key_of_another_pair_is_taken_whatever_was_lost(self, closed, administrator, file):
        closed.make("ci")
        closed.line.spoil = lose_first("POST /keys")
        with pytest.raises(KeyTaken):
            administrator().make_key(NewKey("ci"), file)
        assert not file.exists()

    def test_whoever_may_make_keys_and_not_see_them_is_told_that_it_is_taken(self, closed, administrator, file):
        closed.make("maker", [closed.group("makers", "update_permission_groups")])
        closed.make("ci")
        with pytest.raises(KeyTaken):
            administrator(key_id="maker", api_key=tap.printed(tap.key())).make_key(NewKey("ci"), file)
        assert not file.exists()

    @pytest.mark.parametrize("trouble", [LOST, 503, 500])
    def test_the_key_stays_where_nobody_knows_whether_the_registry_has_it(self, trouble, closed, administrator, file):
        closed.line.spoil = lambda what, _: trouble if what == "POST /keys" else None
        with pytest.raises(RegistryUnreachable):
            administrator().make_key(NewKey("ci"), file)
        assert b"PRIVATE KEY" in file.read_bytes()
        with pytest.raises(KeyFileTaken):
            administrator().make_key(NewKey("other"), file)

    def test_nothing_stays_of_a_command_that_is_interrupted_before_there_is_a_key(self, file):
        with pytest.raises(KeyboardInterrupt), keyfile.reserved(file, keeps=lambda _: True):
            raise KeyboardInterrupt
        assert not file.exists()

    def test_a_file_without_a_key_in_it_does_not_stay(self, closed, administrator, file):
        closed.line.spoil = lambda what, _: LOST if what == "POST /keys" else None
        with pytest.raises(RegistryUnreachable):
            administrator().make_key(NewKey("ci"), file, on_server=True)
        assert not file.exists()

    @pytest.mark.parametrize("trouble", [503, 404])
    def test_a_registry_that_is_down_is_met_before_there_is_a_file(self, trouble, closed, administrator, file):
        closed.line.spoil = lambda *_: trouble
        with pytest.raises(RegistryUnreachable if trouble == 503 else AnswerInvalid):
            administrator().make_key(NewKey("ci"), file)
        assert not file.exists()
        assert "POST /keys" not in closed.line.asked

    @pytest.mark.parametrize(
        ("who", "error"),
        [({"user": "root", "password": "not the root token"}, Unauthenticated), ({"user": None}, Unauthenticated)],
        ids=["refused", "nobody"],
    )
    def test_whoever_is_not_let_in_leaves_no_file(self, who, error, administrator, file):
        with pytest.raises(error):
            administrator(**who).make_key(NewKey("ci"), file)
        assert not file.exists()

    def test_a_damaged_one_may_be_revoked_by_its_id(self, closed, administrator):
        closed.make("ci")
        closed.store.put(format_access.api_key_key("ci"), b"garbage")
        assert [bool(key.damaged) for key in administrator().all_keys()] == [True]
        administrator().check_keys(["ci"])
        administrator().revoke_key("ci")
        assert administrator().all_keys() == ()
        with pytest.raises(KeyNotFound):
            administrator().check_keys(["ci"])

    def test_a_change_and_a_revocation_are_done_once_though_their_answers_are_lost(self, closed, administrator):
        closed.make("ci")
        closed.line.spoil = lambda what, times: LOST if what.startswith("POST") and times == 1 else None
        assert administrator().change_key(KeyChange("ci", groups=("a", "b"))).groups == ["a", "b"]
        administrator().revoke_key("ci")
        assert closed.gate.keys.all() == []
        assert closed.line.asked.count("POST /keys/revoke") == 2


class TestGroups:
    def test_s24_of_changes_at_once_none_is_lost(self, closed, administrator):
        closed.group("team")
        wanted = ["index", "list_vms", "pull_vm", "download_vm", "revert", "send_log"]
        gate = threading.Barrier(len(wanted))

        def one(permission):
            gate.wait(WAIT)
            administrator().change_group("team", granting(permission))

        threads = [threading.Thread(target=one, args=(permission,)) for permission in wanted]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
        assert closed.gate.groups.find("team").permissions == set(wanted)

    def test_a_change_is_made_to_what_another_one_left(self, closed, administrator):
        closed.group("team", "index")
        meanwhile = iter([lambda: closed.group("team", "index", "revert")])

        def change(group):
            next(meanwhile, lambda: None)()
            return granting("list_vms")(group)

        left = administrator().change_group("team", change)
        assert set(left.permissions) == {"index", "revert", "list_vms"}
        assert closed.gate.groups.find("team").permissions == {"index", "revert", "list_vms"}

    def test_a_group_that_never_rests_is_said(self, closed, administrator):
        closed.group("team")
        asked = []

        def change(group):
            asked.append(group.gen)
            closed.group("team", "index" if len(asked) % 2 else "revert")
            return granting("list_vms")(group)

        with pytest.raises(GroupChanged):
            administrator().change_group("team", change)
        assert len(asked) == TRIES

    def test_a_change_whose_answer_was_lost_is_made_once(self, closed, administrator):
        closed.group("team", "index")
        closed.line.spoil = lose_first("POST /groups")
        left = administrator().change_group("team", granting("list_vms"))
        assert set(left.permissions) == {"index", "list_vms"}
        assert closed.gate.groups.find("team").gen == left.gen == 2

    def test_a_change_to_what_is_there_writes_nothing(self, closed, administrator):
        closed.group("team", "index", templates={ONE: ["list", "pull"], OTHER: ["list"]})

        def the_same_in_another_order(group):
            grants = (TemplateGrant(OTHER, ("list",)), TemplateGrant(ONE, ("pull", "list")))
            return replace(group, permissions=("index", "index"), templates=grants)

        assert administrator().change_group("team", the_same_in_another_order).gen == 1
        assert closed.line.asked == ["GET /groups"]

    def test_a_group_is_made_once_though_the_answer_is_lost_and_never_over_another(self, closed, administrator):
        closed.line.spoil = lose_first("POST /groups")
        wanted = GroupEntry("team", ("index",), (TemplateGrant(ONE, ("list",)),))
        assert administrator().create_group(wanted).gen == 1
        for other in (replace(wanted, permissions=()), replace(wanted, templates=None), replace(wanted, templates=())):
            with pytest.raises(GroupTaken):
                administrator().create_group(other)
        assert closed.gate.groups.find("team").permissions == {"index"}

    def test_one_that_is_deleted_is_none_and_may_be_made_again(self, closed, administrator):
        closed.group("team", "index")
        closed.line.spoil = lose_first("POST /groups/delete")
        administrator().delete_group("team")
        for act in (
            lambda: administrator().check_group("team"),
            lambda: administrator().group("team"),
            lambda: administrator().change_group("team", granting("index")),
        ):
            with pytest.raises(GroupNotFound):
                act()
        assert administrator().create_group(GroupEntry("team")).templates is None

    def test_a_damaged_one_is_not_changed_and_may_be_deleted_or_made_anew(self, closed, administrator):
        closed.group("team", "index")
        closed.group("other")
        closed.store.put(format_access.group_key("team"), b"garbage")
        damaged = next(group for group in administrator().all_groups() if group.damaged)
        with pytest.raises(RecordDamaged):
            administrator().change_group(damaged.name, granting("list_vms"))
        assert closed.store.get(format_access.group_key("team")).data == b"garbage"
        administrator().check_group("team")
        administrator().delete_group("team")
        assert [group.name for group in administrator().all_groups()] == ["other"]
        closed.store.put(format_access.group_key("team"), b"garbage")
        assert administrator().create_group(GroupEntry("team", ("index",))).permissions == ["index"]

    def test_whoever_may_see_groups_may_not_change_them_for_that(self, closed, administrator):
        closed.make("viewer", [closed.group("viewers", "view_prmission_groups")])
        viewer = administrator(key_id="viewer", api_key=tap.printed(tap.key()))
        assert [group.name for group in viewer.all_groups()] == ["viewers"]
        with pytest.raises(Forbidden, match="update_permission_groups") as caught:
            viewer.change_group("viewers", granting("index"))
        assert caught.value.detail["permission"] == "update_permission_groups"
