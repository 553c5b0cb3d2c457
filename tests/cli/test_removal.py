"""revert, untag, retag and rename from the command line."""

import io
import re
import shlex

import pytest

import machines
import wires
from machines import KIB


@pytest.fixture
def versions(s3reg, registry, tmp_path):
    """`base`, with v1 to v4."""
    s3reg("add", "office", registry)
    machine = machines.make(tmp_path / "library", sizes=(300 * KIB,), state_size=0, name="base")
    for number in range(1, 5):
        (machine.folder / "nvram").write_bytes(b"%d" % number)
        assert s3reg("push", "base", "-t", f"v{number}").code == 0
    return machine


def tags(s3reg, vm="base"):
    body = s3reg("-j", "describe", vm).answer["body"]
    return [row["tag"] for row in body["versions"]] if body else None


class TestRevert:
    @pytest.mark.parametrize(
        ("options", "left"),
        [
            ((), ["v1", "v2", "v3"]),
            (("-t", "v3"), ["v1", "v2"]),
            (("-v", "1"), ["v1"]),
            (("-t", "v2", "-v", "1"), ["v1"]),
            (("-t", "v1"), None),
            (("-v", "0"), None),
            (("-a",), None),
            (("--all",), None),
        ],
    )
    def test_the_version_named_and_all_newer_ones_go_by_default_the_newest(self, options, left, s3reg, versions):
        body = s3reg("-j", "revert", "base", *options).answer["body"]
        kept = left or []
        gone = ["v1", "v2", "v3", "v4"][len(kept) :]
        until = body.pop("until")
        assert body == {"uuid": versions.id, "name": "base", "removed": gone, "left": len(kept), "deleted": not kept}
        assert until == s3reg("-j", "trash", "list").answer["body"][0]["until"]
        assert tags(s3reg) == left

    def test_the_id_will_do(self, s3reg, versions):
        assert s3reg("revert", versions.id).code == 0
        assert tags(s3reg) == ["v1", "v2", "v3"]

    @pytest.mark.parametrize(
        ("options", "code"),
        [
            (("-t", "v9"), 3),
            (("-v", "4"), 3),
            (("-t", "v3", "-v", "1"), 3),
            (("-a", "-t", "v3"), 2),
            (("-a", "-v", "0"), 2),
        ],
    )
    def test_s11_what_is_not_there_or_contradicts_itself_removes_nothing(self, options, code, s3reg, versions):
        done = s3reg("revert", "base", *options)
        assert (done.code, done.out) == (code, "")
        assert ("leave --tag and --version out" in done.err) == ("-a" in options)
        assert tags(s3reg) == ["v1", "v2", "v3", "v4"]

    def test_an_unknown_template_is_3(self, s3reg, versions):
        assert s3reg("revert", "nothing", "--all").code == 3

    def test_a_person_is_told_what_went_what_is_left_and_how_it_comes_back(self, s3reg, versions):
        for options, told, back in (
            (["-t", "v4"], "v4 of base removed; 3 left", "base v4"),
            (["-t", "v2"], "v2, v3 of base removed; 1 left", "base"),
            (["-a"], "v1 of base removed; the template is gone", "base v1"),
        ):
            removed, restorable = s3reg("revert", "base", *options).out.splitlines()
            assert removed == told
            assert re.fullmatch(rf"it can be restored until 20..-..-.. ..:..: s3reg trash restore {back}", restorable)

    @pytest.mark.parametrize("name", ["it's new", "-j"])
    def test_what_the_answer_tells_to_type_brings_it_back(self, name, s3reg, versions):
        assert s3reg("rename", "base", "--", name).code == 0
        for options in ([], ["-t", "v2"], ["--all"]):
            told = s3reg("revert", versions.id, *options).out.splitlines()[1].partition(": s3reg ")[2]
            done = s3reg(*shlex.split(told))
            assert done.code == 0, done.err
            assert tags(s3reg, versions.id) == ["v1", "v2", "v3", "v4"]

    def test_at_a_terminal_it_is_asked_first(self, s3reg, versions, terminal):
        terminal("n\n")
        done = s3reg("revert", "base", "-t", "v3")
        assert (done.code, done.out) == (1, "")
        assert "v3, v4 of base will be removed. Go on?" in done.err
        assert done.err.endswith("nothing was removed\n")
        assert tags(s3reg) == ["v1", "v2", "v3", "v4"]
        terminal("y\n")
        done = s3reg("revert", "base", "--all")
        assert "v1, v2, v3, v4 of base and the template itself will be removed" in done.err
        assert done.code == 0
        assert tags(s3reg) is None

    @pytest.mark.parametrize("options", [(), ("-t", "v3"), ("--all",)])
    def test_what_was_pushed_while_somebody_thought_about_the_question_stays(
        self, options, s3reg, versions, terminal, monkeypatch
    ):
        def thinks(*_, **__):
            assert s3reg("push", "base", "-t", "v5", "-f").code == 0
            return True

        terminal("")
        monkeypatch.setattr("click.confirm", thinks)
        (versions.folder / "nvram").write_bytes(b"five")
        assert s3reg("revert", "base", *options).code == 18
        assert tags(s3reg) == ["v1", "v2", "v3", "v4", "v5"]

    @pytest.mark.parametrize(
        "arguments", [("revert", "base", "--yes"), ("revert", "-y", "base"), ("-j", "revert", "base")]
    )
    def test_nobody_is_asked_who_said_yes_or_is_a_program(self, arguments, s3reg, versions, terminal):
        terminal("n\n")
        done = s3reg(*arguments)
        assert (done.code, done.err) == (0, "")

    def test_nobody_is_asked_without_a_terminal(self, s3reg, versions, monkeypatch):
        monkeypatch.setattr("sys.stdin", io.StringIO(""))
        assert s3reg("revert", "base").code == 0
        assert tags(s3reg) == ["v1", "v2", "v3"]


def first_answer_to(path):
    """The first request to this path is done by the registry, and nobody hears of it."""
    seen = []

    def loses(data):
        if not data.startswith(f"POST {path} ".encode()):
            return False
        seen.append(path)
        return len(seen) == 1

    return loses


def test_a_revert_whose_answer_was_lost_is_done_once(s3reg, registry, versions):
    with wires.Proxy(registry, loses=first_answer_to("/transfer/v1/revert")) as proxy:
        body = s3reg("-j", "-a", proxy.endpoint, "revert", "base").answer["body"]
        assert proxy.lost == 1
    assert (body["removed"], body["left"], body["deleted"]) == (["v4"], 3, False)
    assert tags(s3reg) == ["v1", "v2", "v3"]


def test_so_is_one_of_everything(s3reg, registry, versions):
    with wires.Proxy(registry, loses=first_answer_to("/transfer/v1/revert")) as proxy:
        body = s3reg("-j", "-a", proxy.endpoint, "revert", "base", "--all").answer["body"]
    assert (body["removed"], body["left"], body["deleted"]) == (["v1", "v2", "v3", "v4"], 0, True)
    assert s3reg("push", versions.id, "-t", "v1").code == 0, "its name and its tags are free"


class TestUntag:
    def test_the_one_version_goes_and_what_has_another_number_now_is_told(self, s3reg, versions):
        removed, renumbered, restorable = s3reg("untag", "base", "v2").out.splitlines()
        assert removed == "v2 of base removed; 3 left"
        assert renumbered == "v3, v4 have another number now, less by one"
        assert restorable.endswith(": s3reg trash restore base v2")
        assert tags(s3reg) == ["v1", "v3", "v4"]
        body = s3reg("-j", "untag", "base", "v3").answer["body"]
        assert body.pop("until") > 0
        assert body == {
            "uuid": versions.id, "name": "base", "removed": ["v3"], "left": 2, "deleted": False, "renumbered": ["v4"],
        }  # fmt: skip
        assert len(s3reg("untag", "base", "v4").out.splitlines()) == 2

    def test_with_the_only_version_the_template_goes(self, s3reg, versions, terminal):
        s3reg("revert", "base", "-t", "v2")
        terminal("n\n")
        done = s3reg("untag", "base", "v1")
        assert (done.code, done.out) == (1, "")
        assert "v1 of base and the template itself will be removed. Go on?" in done.err
        terminal("y\n")
        assert "the template is gone" in s3reg("untag", "base", "v1").out
        assert tags(s3reg) is None

    def test_what_is_not_there_removes_nothing(self, s3reg, versions):
        assert s3reg("untag", "base", "v9").code == 3
        assert s3reg("untag", "nothing", "v1").code == 3
        assert s3reg("untag", "base").code == 2
        assert tags(s3reg) == ["v1", "v2", "v3", "v4"]

    def test_what_took_its_tag_while_somebody_thought_about_the_question_stays(
        self, s3reg, versions, terminal, monkeypatch
    ):
        def thinks(*_, **__):
            assert s3reg("push", "base", "-t", "v2", "-f").code == 0
            return True

        terminal("")
        monkeypatch.setattr("click.confirm", thinks)
        (versions.folder / "nvram").write_bytes(b"two")
        done = s3reg("untag", "base", "v2")
        assert done.code == 18
        assert "is not the version that it was" in done.err
        assert tags(s3reg) == ["v1", "v2", "v3", "v4"]

    def test_one_whose_answer_was_lost_is_done_once_and_tells_all(self, s3reg, registry, versions):
        with wires.Proxy(registry, loses=first_answer_to("/transfer/v1/untag")) as proxy:
            body = s3reg("-j", "-a", proxy.endpoint, "untag", "base", "v2").answer["body"]
            assert proxy.lost == 1
        assert (body["removed"], body["renumbered"], body["left"]) == (["v2"], ["v3", "v4"], 3)
        assert tags(s3reg) == ["v1", "v3", "v4"]


class TestRetag:
    def test_a_version_gets_another_tag_and_is_pulled_by_it(self, s3reg, versions, tmp_path):
        assert s3reg("retag", "base", "v2", "good").out == "v2 of base is now called good\n"
        assert tags(s3reg) == ["v1", "good", "v3", "v4"]
        assert s3reg("--library", tmp_path / "other", "pull", "base", "-t", "good").code == 0
        assert s3reg("pull", "base", "-t", "v2").code == 3
        body = s3reg("-j", "retag", "base", "good", "better").answer["body"]
        assert body == {"uuid": versions.id, "name": "base", "old": "good", "tag": "better"}

    def test_a_tag_that_is_taken_is_refused(self, s3reg, versions):
        done = s3reg("retag", "base", "v2", "v3")
        assert (done.code, "s3reg untag" in done.err) == (18, True)
        assert s3reg("retag", "base", "v9", "z").code == 3
        assert s3reg("retag", "base", "v1", " ").code == 2
        assert tags(s3reg) == ["v1", "v2", "v3", "v4"]

    def test_one_whose_answer_was_lost_is_done(self, s3reg, registry, versions):
        with wires.Proxy(registry, loses=first_answer_to("/transfer/v1/retag")) as proxy:
            assert s3reg("-a", proxy.endpoint, "retag", "base", "v2", "good").code == 0
            assert proxy.lost == 1
        assert tags(s3reg) == ["v1", "good", "v3", "v4"]


@pytest.mark.parametrize("words", [("untag", "base", "v2"), ("retag", "base", "v2", "z")])
def test_both_are_there_as_commands_of_a_registry_too(words, s3reg, versions):
    assert s3reg("registry", *words).code == 0
    assert "v2" not in tags(s3reg)


class TestRename:
    @pytest.fixture
    def two(self, s3reg, versions):
        machines.make(versions.library, sizes=(1000,), state_size=0, name="other", seed=3)
        s3reg("push", "other", "-t", "v1")
        return versions

    def names(self, s3reg):
        return [row["name"] for row in s3reg("-j", "list").answer["body"]]

    @pytest.mark.parametrize("by", ["name", "id"])
    def test_a_template_gets_another_name_and_keeps_all_else(self, by, s3reg, two):
        before = tags(s3reg)
        done = s3reg("-j", "rename", getattr(two, by), "11.6").answer
        assert done["body"] == {"uuid": two.id, "name": "11.6"}
        assert self.names(s3reg) == ["11.6", "other"]
        assert tags(s3reg, "11.6") == before
        assert s3reg("describe", "base").code == 3

    def test_a_name_of_another_is_refused_unless_it_is_meant(self, s3reg, two):
        done = s3reg("rename", "base", "other")
        assert done.code == 18
        assert "--force-name" in done.err
        assert self.names(s3reg) == ["base", "other"]
        assert s3reg("rename", "base", "other", "--force-name").code == 0
        assert self.names(s3reg) == ["other", "other"]

    @pytest.mark.parametrize("name", ["", "a/b", "..", "bell\x07", "x" * 256])
    def test_a_name_that_is_none_is_refused(self, name, s3reg, two):
        done = s3reg("rename", "base", name)
        assert (done.code, "choose another template name" in done.err) == (2, True)
        assert self.names(s3reg) == ["base", "other"]

    def test_a_person_is_told(self, s3reg, two):
        assert s3reg("rename", "base", "modern").out == "base is now called modern\n"

    def test_one_whose_answer_was_lost_is_done(self, s3reg, registry, two):
        with wires.Proxy(registry, loses=first_answer_to("/transfer/v1/rename")) as proxy:
            assert s3reg("-a", proxy.endpoint, "rename", "base", "modern").code == 0
            assert proxy.lost == 1
        assert self.names(s3reg) == ["modern", "other"]
