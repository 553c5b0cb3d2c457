"""The trash from the command line."""

import io
import re

import pytest

import machines
import wires
from machines import KIB
from registry.material import end_trash
from s3reg.model.identity import EVERYONE
from s3reg.registry import Registry
from s3reg.store.files import FilesStore


@pytest.fixture
def versions(s3reg, registry, tmp_path):
    """`base`, with v1 to v3."""
    s3reg("add", "office", registry)
    machine = machines.make(tmp_path / "library", sizes=(300 * KIB,), state_size=0, name="base")
    for number in range(1, 4):
        (machine.folder / "nvram").write_bytes(b"%d" % number)
        assert s3reg("push", "base", "-t", f"v{number}").code == 0
    return machine


@pytest.fixture
def other(s3reg, versions):
    """A template besides, `other`, that was deleted."""
    made = machines.make(versions.library, sizes=(1000,), state_size=0, name="other", seed=3)
    s3reg("push", "other", "-t", "v1")
    s3reg("revert", "other", "--all")
    return made


@pytest.fixture
def earlier(tmp_path):
    """The registry's verbs, some time ago."""
    return Registry(FilesStore(tmp_path / "store"), clock=lambda: 1000.0)


def tags(s3reg, vm="base"):
    body = s3reg("-j", "describe", vm).answer["body"]
    return [row["tag"] for row in body["versions"]] if body else None


def trash(s3reg, *words):
    return [(one["name"], one["tag"]) for one in s3reg("-j", "trash", "list", *words).answer["body"]]


class TestList:
    def test_a_person_sees_what_can_be_restored_and_until_when(self, s3reg, other):
        s3reg("untag", "base", "v2")
        rows = [line.split("\t") for line in s3reg("trash", "list").out.splitlines()]
        assert [row[:2] for row in rows] == [["base", "v2"], ["other (deleted)", "v1"]]
        for _, _, size, removed, by, until, version in rows:
            assert size.endswith(("B", "bytes"))
            assert by == "everyone"
            assert removed < until
            assert re.fullmatch("[0-9a-f]{32}", version)
        assert s3reg("trash", "list", "base").out.splitlines() == ["\t".join(rows[0])]

    def test_a_program_gets_every_field(self, s3reg, versions):
        s3reg("revert", "base")
        (one,) = s3reg("-j", "trash", "list", versions.id).answer["body"]
        assert one["until"] - one["removed"] == 7 * 24 * 3600
        assert {name: one[name] for name in ("uuid", "name", "tag", "deleted")} == {
            "uuid": versions.id, "name": "base", "tag": "v3", "deleted": False,
        }  # fmt: skip

    def test_nothing_removed_is_an_empty_list_and_an_unknown_template_is_3(self, s3reg, versions):
        done = s3reg("trash", "list")
        assert (done.code, done.out) == (0, "")
        assert s3reg("-j", "trash", "list", "base").answer["body"] == []
        assert s3reg("trash", "list", "nothing").code == 3
        assert s3reg("trash", "list", "").code == 3


class TestRestore:
    def test_what_is_restored_is_pulled_byte_for_byte(self, s3reg, versions, tmp_path):
        s3reg("revert", "base", "--all")
        assert s3reg("trash", "restore", "base", "v2", "v1").out == "v1, v2 of base restored\n"
        assert tags(s3reg) == ["v1", "v2"]
        assert s3reg("--library", tmp_path / "elsewhere", "pull", "base", "-t", "v2").code == 0
        body = s3reg("-j", "trash", "restore", "base").answer["body"]
        assert body == {"uuid": versions.id, "name": "base", "restored": ["v3"]}

    def test_without_a_tag_what_went_last_comes_back(self, s3reg, versions, earlier):
        earlier.untag(EVERYONE, "base", tag="v1", operation="1" * 32)
        s3reg("revert", "base", "--all")
        assert s3reg("trash", "restore", "base").out == "v2, v3 of base restored\n"
        assert trash(s3reg) == [("base", "v1")]

    def test_what_had_the_same_tag_and_went_in_the_same_second_is_left_there(self, s3reg, versions, earlier):
        earlier.untag(EVERYONE, "base", tag="v3", operation="1" * 32)
        earlier.retag(EVERYONE, "base", tag="v2", new="v3", operation="2" * 32)
        earlier.delete(EVERYONE, "base", operation="3" * 32)
        first, *_ = s3reg("-j", "trash", "list").answer["body"]
        assert s3reg("trash", "restore", "base").out == "v1, v3 of base restored\n"
        assert s3reg("-j", "trash", "list").answer["body"] == [{**first, "deleted": False}]

    def test_of_several_with_one_tag_it_is_the_one_that_went_last_and_an_id_names_another(self, s3reg, versions):
        (versions.folder / "nvram").write_bytes(b"again")
        s3reg("push", "base", "-t", "v2", "-f")
        s3reg("untag", "base", "v2")
        first, last = (one["version"] for one in s3reg("-j", "trash", "list").answer["body"])
        assert s3reg("trash", "restore", "base", "v2").code == 0
        assert [one["version"] for one in s3reg("-j", "trash", "list").answer["body"]] == [first]
        done = s3reg("trash", "restore", "base", "v2")
        assert done.code == 18
        assert "'v2' is another version's by now" in done.err
        assert "--as TAG" in done.err
        assert s3reg("trash", "restore", "base", "--version", first, "--as", "old").code == 0
        assert tags(s3reg) == ["v1", "old", "v2", "v3"]
        assert s3reg("trash", "restore", "base", "--version", last).code == 3

    @pytest.mark.parametrize(
        ("words", "code", "told"),
        [
            (["base", "v9"], 3, "version 'v9' is not in the trash any more"),
            (["base", "v2", "v9"], 3, "version 'v9' is not in the trash any more"),
            (["base", "--version", "f" * 32], 3, f"version {'f' * 32} is not in the trash any more"),
            (["base", "--version", "x"], 2, "version id 'x' is not valid"),
            (["base", "v2", "v3", "--as", "z"], 2, "--as is for one version, and these would come back: v2, v3"),
            (["base", "v2", "--as", " "], 2, "tag ' ' is not valid"),
            (["nothing"], 3, "nothing of nothing is in the trash any more"),
            ([""], 3, "nothing of  is in the trash"),
        ],
    )
    def test_what_cannot_be_restored_is_told_and_nothing_comes_back(self, words, code, told, s3reg, versions):
        s3reg("revert", "base", "-t", "v2")
        done = s3reg("trash", "restore", *words)
        assert (done.code, done.out) == (code, "")
        assert told in done.err
        assert tags(s3reg) == ["v1"]

    def test_of_an_empty_trash_nothing_is_restored(self, s3reg, versions):
        assert s3reg("trash", "restore", "base").code == 3

    @pytest.mark.parametrize("options", [["-t", "v2"], ["--all"]])
    def test_what_a_sweep_let_go_is_said_to_be_gone(self, options, s3reg, versions, tmp_path):
        s3reg("revert", "base", *options)
        store = FilesStore(tmp_path / "store")
        end_trash(store)
        Registry(store).sweep()
        done = s3reg("trash", "restore", "base")
        assert (done.code, done.out) == (3, "")
        assert done.err.startswith("s3reg: nothing of base is in the trash any more\n")
        assert s3reg("trash", "restore", "base", "v2").code == 3
        assert trash(s3reg) == []

    def test_a_name_that_is_taken_by_now_is_refused_unless_it_is_meant(self, s3reg, other):
        s3reg("rename", "base", "other")
        done = s3reg("trash", "restore", "other")
        assert (done.code, "--force-name" in done.err) == (18, True)
        assert s3reg("trash", "restore", "other", "--force-name").code == 0
        assert tags(s3reg, other.id) == ["v1"]

    def test_a_name_that_two_carry_whose_trash_has_it_is_refused_with_their_ids(self, s3reg, other):
        s3reg("rename", "base", "other")
        s3reg("untag", "other", "v1")
        done = s3reg("trash", "restore", "other", "v1")
        assert done.code == 18
        assert other.id in done.err
        assert s3reg("trash", "purge", "other").code == s3reg("trash", "restore", "other").code == 18
        assert len(trash(s3reg, "other")) == 2
        assert s3reg("trash", "restore", other.id, "v1", "--force-name").code == 0
        assert s3reg("trash", "restore", "other", "v1").code == 0

    def test_one_whose_answer_was_lost_is_done_once(self, s3reg, registry, versions):
        s3reg("revert", "base", "-t", "v2")
        seen = []

        def loses(data):
            seen.extend([1] if data.startswith(b"POST /transfer/v1/trash/restore ") else [])
            return len(seen) == 1 and data.startswith(b"POST /transfer/v1/trash/restore ")

        with wires.Proxy(registry, loses=loses) as proxy:
            body = s3reg("-j", "-a", proxy.endpoint, "trash", "restore", "base").answer["body"]
            assert proxy.lost == 1
        assert body["restored"] == ["v2", "v3"]
        assert tags(s3reg) == ["v1", "v2", "v3"]


class TestPurge:
    def test_a_tag_a_template_or_everything_goes_for_good(self, s3reg, other):
        s3reg("revert", "base", "-t", "v2")
        assert s3reg("trash", "purge", "base", "v2").out == "v2 of base purged\n"
        assert trash(s3reg) == [("base", "v3"), ("other", "v1")]
        assert s3reg("-j", "trash", "purge", "base").answer["body"] == {"purged": 1}
        assert trash(s3reg) == [("other", "v1")]
        assert s3reg("trash", "purge", "--yes").out == "v1 of other purged\n"
        assert s3reg("trash", "purge", "--yes").out == "there is nothing in the trash\n"
        assert tags(s3reg) == ["v1"]

    def test_what_went_meanwhile_keeps_nothing_else_from_going(self, s3reg, other, tmp_path, monkeypatch):
        s3reg("untag", "base", "v2", "--yes")
        s3reg("revert", "base", "--all", "--yes")
        store = FilesStore(tmp_path / "store")

        def thinks(*_, **__):
            template = Registry(store).trash(EVERYONE, "base")[0].head.id
            Registry(store).purge(EVERYONE, template, operation="1" * 32)
            return True

        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr("click.confirm", thinks)
        assert s3reg("trash", "purge").code == 0
        assert trash(s3reg) == []

    @pytest.mark.parametrize("words", [["trash", "purge"], ["-j", "trash", "purge"]])
    def test_a_script_has_to_say_that_it_means_everything(self, words, s3reg, other, monkeypatch):
        monkeypatch.setattr("sys.stdin", io.StringIO(""))
        assert s3reg(*words).code == 2
        assert s3reg(*words, "").code == 3
        assert trash(s3reg) == [("other", "v1")]

    def test_a_tag_that_is_not_there_purges_nothing(self, s3reg, versions):
        s3reg("revert", "base", "-t", "v2")
        assert s3reg("trash", "purge", "base", "v2", "v9").code == 3
        assert len(trash(s3reg)) == 2

    def test_at_a_terminal_it_is_asked_first_and_only_what_was_shown_goes(self, s3reg, other, monkeypatch):
        asked = []

        def thinks(text, **_):
            asked.append(text)
            s3reg("untag", "base", "v2", "--yes")
            return True

        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr("click.confirm", thinks)
        assert s3reg("trash", "purge").code == 0
        assert asked == ["v1 of other will be gone for good. Go on?"]
        assert trash(s3reg) == [("base", "v2")]
        monkeypatch.setattr("click.confirm", lambda *_, **__: False)
        done = s3reg("trash", "purge", "base")
        assert (done.code, done.err) == (1, "nothing was removed\n")
        assert trash(s3reg) == [("base", "v2")]
