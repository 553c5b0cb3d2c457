"""push and pull from the command line: whom they ask, what they refuse, and what they say of it."""

import shlex
import shutil

import pytest

import machines
import servers
from machines import KIB, MIB
from s3reg.cli.node import when


@pytest.fixture
def library(tmp_path):
    return tmp_path / "library"


@pytest.fixture
def machine(library):
    return machines.make(library, sizes=(700 * KIB, 300 * KIB), state_size=0, name="base")


@pytest.fixture
def office(s3reg, registry):
    """The registry's name on this node; it is the default."""
    assert s3reg("add", "office", registry).code == 0
    return "office"


@pytest.fixture
def pushed(s3reg, office, machine):
    """The machine, of which the registry has v1."""
    assert s3reg("push", machine.name, "-t", "v1").code == 0
    return machine


@pytest.fixture
def elsewhere(s3reg, tmp_path):
    """Runs the program with another library, of which it tells the folder."""

    def program(*arguments):
        return s3reg("--library", program.library, *arguments)

    program.library = tmp_path / "elsewhere"
    return program


def listed(s3reg):
    return s3reg("-j", "list").answer["body"]


def tags(s3reg, vm="base"):
    return [row["tag"] for row in s3reg("-j", "describe", vm).answer["body"]["versions"]]


def everything(folder):
    """Every file and its bytes, but for locks, which hold nothing."""
    files = (path for path in folder.rglob("*") if path.is_file() and "locks" not in path.parts)
    return {str(path): path.read_bytes() for path in files}


class TestTheSecondWord:
    def test_behind_push_it_is_the_tag_where_none_is_given_else_the_registry(self, s3reg, office, machine):
        s3reg("add", "dead", f"http://127.0.0.1:{servers.free_port()}", "--force")
        assert s3reg("-r", office, "push", machine.name, "v1").code == 0
        assert s3reg("push", machine.name, office, "-t", "v2").code == 0
        assert s3reg("set", office).code == 0
        assert tags(s3reg) == ["v1", "v2"]

    def test_behind_pull_it_is_the_registry(self, s3reg, registry, pushed, elsewhere):
        s3reg("add", "dead", f"http://127.0.0.1:{servers.free_port()}", "--force")
        assert elsewhere("pull", pushed.name, "office", "-t", "v1").code == 0
        assert elsewhere("pull", pushed.name, registry).code == 0

    @pytest.mark.parametrize("command", [("push", "base", "nowhere", "-t", "v2"), ("pull", "base", "nowhere")])
    def test_a_registry_that_nobody_knows_is_told_by_its_name(self, command, s3reg, pushed):
        done = s3reg(*command)
        assert done.code == 3
        assert "'nowhere'" in done.err
        assert tags(s3reg) == ["v1"]

    @pytest.mark.parametrize("option", ["-r", "-a"])
    def test_two_registries_are_one_too_many(self, option, s3reg, registry, pushed):
        for command in (("push", "base", "other", "-t", "v2"), ("pull", "base", "other")):
            done = s3reg(*command, option, registry)
            assert done.code == 2
            assert "'other'" in done.err


class TestPush:
    def test_s29_s14_a_name_of_another_id_is_refused_and_remote_vm_is_the_way(self, s3reg, pushed, elsewhere):
        other = machines.make(elsewhere.library, sizes=(300 * KIB,), state_size=0, name="base", seed=5)
        before = listed(s3reg)
        refused = elsewhere("push", "base", "-t", "v2")
        assert refused.code == 18
        assert pushed.id in refused.err
        assert "--remote-vm" in refused.err
        assert listed(s3reg) == before
        assert elsewhere("push", other.id, "-t", "v2", "--remote-vm", "base").code == 0
        assert [(row["id"], row["name"], row["latest"]) for row in listed(s3reg)] == [(pushed.id, "base", "v2")]
        assert tags(s3reg) == ["v1", "v2"]

    def test_s30_a_tag_that_is_taken_is_refused_and_force_replaces_it_in_its_place(self, s3reg, pushed, elsewhere):
        s3reg("push", "base", "-t", "v2")
        machines.scatter(pushed.disk(), 3)
        before = s3reg("-j", "describe", "base").answer
        assert s3reg("push", "base", "-t", "v1").code == 18
        assert s3reg("-j", "describe", "base").answer == before
        body = s3reg("-j", "push", "base", "-t", "v1", "-f").answer["body"]
        (gone,) = s3reg("-j", "trash", "list").answer["body"]
        assert body["version"] == 0
        assert body["replaced"] == {"version": gone["version"], "until": gone["until"]}
        assert tags(s3reg) == ["v1", "v2"]
        assert elsewhere("pull", "base", "-t", "v1").code == 0
        assert machines.contents(elsewhere.library, pushed) == machines.contents(pushed.library, pushed)

    def test_what_is_replaced_is_told_with_how_it_comes_back_and_until_when(self, s3reg, pushed):
        assert "replaced" not in s3reg("push", "base", "-t", "v2", "-f").out
        assert s3reg("-j", "push", "base", "-t", "v3").answer["body"]["replaced"] is None
        machines.scatter(pushed.disk(), 3)
        said = s3reg("push", "base", "-t", "v2", "-f").out.splitlines()[-1]
        (gone,) = s3reg("-j", "trash", "list").answer["body"]
        until, _, command = said.removeprefix("the version that was replaced can be restored until ").partition(": ")
        assert until == when(gone["until"])
        assert command == f"s3reg trash restore --version {gone['version']} --as TAG base"
        assert s3reg(*shlex.split(command.replace("TAG", "older"))[1:]).code == 0
        assert tags(s3reg) == ["v1", "older", "v2", "v3"]

    def test_s9_a_vm_without_any_disk_travels(self, s3reg, office, library, elsewhere):
        machine = machines.make(library, sizes=(), state_size=0, name="bare")
        body = s3reg("-j", "push", "bare", "-t", "v1").answer["body"]
        assert body["size"] == 0
        assert [row["name"] for row in listed(s3reg)] == ["bare"]
        assert s3reg("-j", "describe", "bare").answer["body"]["hard_drives"] == []
        assert elsewhere("pull", "bare").code == 0
        assert machines.contents(elsewhere.library, machine) == machines.contents(library, machine)

    def test_a_vm_that_was_renamed_here_keeps_its_templates_name_and_that_is_said(self, s3reg, pushed):
        pushed.name = "renamed"
        pushed.write_config()
        done = s3reg("push", "renamed", "-t", "v2")
        assert "'renamed'" in done.out
        assert "s3reg rename" in done.out
        assert [row["name"] for row in listed(s3reg)] == ["base"]
        assert s3reg("rename", "base", "renamed").code == 0
        assert "s3reg rename" not in s3reg("push", "renamed", "-t", "v3").out

    def test_what_is_there_already_is_done_and_only_that(self, s3reg, pushed):
        """So a push that was killed after its end, when nothing tells of it any more, may be repeated."""
        again = s3reg("push", "base", "-t", "v1")
        assert again.code == 0
        assert "it was there already" in again.out
        assert s3reg("-j", "push", "base", "-t", "v1", "--dry-run").answer["body"]["new"] == 0
        assert s3reg("push", "base", "-t", "v1", "-d", "another description").code == 18
        (pushed.folder / "nvram").write_bytes(b"other")
        assert s3reg("push", "base", "-t", "v1").code == 18
        assert s3reg("push", "base", "-t", "v1", "--dry-run").code == 18
        assert tags(s3reg) == ["v1"]

    def test_a_taken_tag_is_told_without_a_disk_being_read(self, s3reg, pushed, elsewhere):
        """A VM that no record vouches for might be what is there: 90 GB are not read to find out."""
        shutil.copytree(pushed.library, elsewhere.library, ignore=shutil.ignore_patterns(".s3reg"))
        done = elsewhere("push", "base", "-t", "v1")
        assert done.code == 18
        assert "hashing" not in done.err

    def test_by_remote_vm_too_what_is_there_already_is_done(self, s3reg, pushed, library):
        machines.make(library, sizes=(300 * KIB,), state_size=0, name="other", seed=5)
        for said in ("sent", "it was there already"):
            assert said in s3reg("push", "other", "-t", "v2", "-v", "base").out
        assert tags(s3reg) == ["v1", "v2"]

    def test_a_local_tag_sends_nothing(self, s3reg, machine):
        """There is no registry at all."""
        assert s3reg("push", "base", "-t", "mine", "-l").code == 0
        assert s3reg("-j", "pull", "base", "-t", "mine", "-l").answer["message"] == "base: available locally"

    def test_ankas_options_that_change_nothing_are_taken(self, s3reg, pushed):
        assert s3reg("push", "base", "-t", "v2", "--shallow").code == 0


@pytest.mark.parametrize("command", [("push", "base", "-t"), ("pull", "base", "-f", "-t")], ids=["push", "pull"])
def test_a_quiet_transfer_says_nothing_but_its_answer(command, s3reg, pushed):
    s3reg("push", "base", "-t", "v2")
    for number, options in enumerate(((), ("-q",), ("-j",), ("-j", "-q")), 2):
        machines.scatter(pushed.disk(), 3, seed=number)
        tag = f"v{number + 1}" if command[0] == "push" else "v1"
        done = s3reg(*command, tag, *options)
        assert done.code == 0
        assert ("/s" in done.err) == (options == ())
        assert (len(done.out.splitlines()) > 1) == ("-q" not in options or "-j" not in options)


class TestNamesAndTags:
    @pytest.mark.parametrize("name", ["11.6", "12", "1e3", "0x10", "latest", "5a1f2c3d-0000-4000-8000-00000000000f"])
    def test_t4_a_name_that_looks_like_something_else_is_a_name(self, name, s3reg, office, library, elsewhere):
        machine = machines.make(library, sizes=(1000,), state_size=0, name=name)
        assert s3reg("push", name, "-t", "v1").code == 0
        for ref in (name, machine.id):
            assert elsewhere("pull", ref).code == 0
            assert machines.contents(elsewhere.library, machine) == machines.contents(library, machine)
            shutil.rmtree(elsewhere.library)

    def test_t4_a_name_that_is_anothers_id_loses_to_the_id(self, s3reg, pushed, library, elsewhere):
        machines.make(library, sizes=(1000,), state_size=0, name=pushed.id, seed=4)
        ids = {row["id"] for row in listed(s3reg)}
        (other,) = (path.name for path in (library / "vm_lib").iterdir() if path.name not in {*ids, ".locks"})
        assert s3reg("push", other, "-t", "v1").code == 0
        assert elsewhere("-j", "pull", pushed.id).answer["body"]["uuid"] == pushed.id

    def test_t6_two_of_one_name_are_told_apart_by_their_ids(self, s3reg, pushed, elsewhere):
        twin = machines.make(elsewhere.library, sizes=(1000,), state_size=0, name="base", seed=4)
        assert elsewhere("push", "base", "-t", "v1", "--force-name").code == 0
        third = elsewhere.library.with_name("third")
        ambiguous = s3reg("--library", third, "pull", "base")
        assert ambiguous.code == 18
        assert pushed.id in ambiguous.err
        assert twin.id in ambiguous.err
        assert s3reg("--library", third, "pull", twin.id).code == 0
        assert machines.contents(third, twin) == machines.contents(elsewhere.library, twin)
        taken = s3reg("--library", third, "pull", pushed.id)
        assert taken.code == 18
        assert twin.id in taken.err
        assert s3reg("--library", third, "pull", pushed.id, "--force-name").code == 0

    @pytest.mark.parametrize(
        "tag",
        ["a+b", "os-deps:uni-apps:6cores", "with blank", "50%", "a/b", "ünï", "u\u0308", "\"'", "-", "?&=#", "latest"],
    )
    def test_t1_t2_t3_t5_any_tag_is_pushed_pulled_and_reverted_as_it_is_spelled(self, tag, s3reg, office, library):
        """`latest` is a tag like others: the newest version is another one."""
        machine = machines.make(library, sizes=(1000,), state_size=0, name="base")
        first = machines.contents(library, machine)
        assert s3reg("push", "base", f"--tag={tag}").code == 0
        (machine.folder / "nvram").write_bytes(b"newer")
        assert s3reg("push", "base", "-t", "newest").code == 0
        assert s3reg("pull", "base", f"--tag={tag}").code == 0
        assert machines.contents(library, machine) == first
        assert s3reg("-j", "revert", "base", f"--tag={tag}").answer["body"]["deleted"]


class TestPull:
    def test_a_name_that_a_pulled_vm_would_have_here_is_looked_at_too(self, s3reg, pushed, elsewhere):
        """The template was renamed since: the VM is called what it was called."""
        s3reg("rename", "base", "modern")
        other = machines.make(elsewhere.library, sizes=(1000,), state_size=0, name="base", seed=4)
        before = everything(elsewhere.library)
        done = elsewhere("pull", "modern")
        assert done.code == 18
        assert other.id in done.err
        assert everything(elsewhere.library) == before

    def test_a_layer_of_anothers_name_and_bytes_is_refused_with_both_names(self, s3reg, pushed, elsewhere):
        other = machines.make(elsewhere.library, sizes=(1000,), state_size=0, name="mine", seed=4)
        other.disk().rename(elsewhere.library / "img_lib" / pushed.drives[0])
        other.drives = pushed.drives[:1]
        other.write_config()
        before = everything(elsewhere.library)
        for more in ((), ("--force",)):
            done = elsewhere("pull", "base", *more)
            assert done.code == 18
            assert "mine" in done.err
            assert "base" in done.err
            assert pushed.drives[0] in done.err
            assert everything(elsewhere.library) == before

    def test_a_delta_is_pulled_in_either_direction(self, s3reg, office, library, elsewhere):
        machine = machines.make(library, sizes=(6 * MIB,), state_size=0, name="base")
        states = {}
        for tag in ("v1", "v2", "v3"):
            s3reg("push", "base", "-t", tag)
            states[tag] = machines.contents(library, machine)
            machines.scatter(machine.disk(), 2, seed=int(tag[1]))
        whole = elsewhere("-j", "pull", "base", "-v", "1").answer["body"]["received"]
        for tag in ("v3", "v1", "v2"):
            body = elsewhere("-j", "pull", "base", "-t", tag).answer["body"]
            assert body["received"] < whole / 2
            assert machines.contents(elsewhere.library, machine) == states[tag]

    def test_what_is_only_fetched_changes_nothing_here_and_comes_from_here_later(self, s3reg, pushed, elsewhere):
        elsewhere("pull", "base")
        (elsewhere.library / "vm_lib" / pushed.id / "nvram").write_bytes(b"a day's work")
        old = machines.contents(elsewhere.library, pushed)
        machines.scatter(pushed.disk(), 2)
        s3reg("push", "base", "-t", "v2")
        done = elsewhere("-j", "pull", "base", "--fetch-only").answer
        assert done["message"] == "vm fetched successfully"
        assert done["body"]["received"] > 0
        assert machines.contents(elsewhere.library, pushed) == old
        assert elsewhere("-j", "pull", "base", "--check-download-size").answer["body"]["transfer"] == 0
        assert elsewhere("-j", "pull", "base").code == 18
        assert elsewhere("-j", "pull", "base", "--force").answer["body"]["received"] == 0
        assert machines.contents(elsewhere.library, pushed) == machines.contents(pushed.library, pushed)

    def test_what_was_fetched_outlasts_a_pull_of_another_version_unless_the_library_is_to_shrink(
        self, s3reg, pushed, elsewhere
    ):
        machines.scatter(pushed.disk(), 2)
        s3reg("push", "base", "-t", "v2")
        waiting = elsewhere.library / ".s3reg" / "staging"
        assert elsewhere("pull", "base", "-t", "v2", "--fetch-only").code == 0
        assert elsewhere("pull", "base", "-t", "v1").code == 0
        assert len(list(waiting.iterdir())) == 1
        (elsewhere.library / "vm_lib" / pushed.id / "nvram").write_bytes(b"used")
        assert elsewhere("pull", "base", "-t", "v1", "--shrink", "--force").code == 0
        assert list(waiting.iterdir()) == []

    def test_shrinking_works_where_there_is_nothing_to_pull_too(self, s3reg, pushed, elsewhere):
        """Anka's disks are layers with names of their own, so those of both tags lie side by side."""
        fresh = f"{7:032x}.ank"
        pushed.disk().rename(pushed.library / "img_lib" / fresh)
        pushed.drives[0] = fresh
        pushed.write_config()
        s3reg("push", "base", "-t", "v2")
        for options in ((), ("-l",)):
            elsewhere("pull", "base", "-t", "v1")
            elsewhere("pull", "base", "-t", "v2")
            assert len(list((elsewhere.library / "img_lib").iterdir())) == 3
            done = elsewhere("-j", "pull", "base", "-t", "v2", "--shrink", *options).answer
            assert done["message"] == "base: available locally"
            assert len(list((elsewhere.library / "img_lib").iterdir())) == 2
            shutil.rmtree(elsewhere.library)

    @pytest.mark.parametrize("option", ["--dry-run", "--fetch-only", "--check-download-size", "-v1"])
    def test_what_makes_no_sense_without_a_registry_is_refused_with_local(self, option, s3reg, machine):
        assert s3reg("pull", "base", "-l", option).code == 2


class TestFailback:
    """The registry's address is a port where nobody listens."""

    @pytest.fixture
    def down(self, s3reg, pushed, elsewhere):
        """Pulls into a library that has v1; the registry, which has v2 besides, is gone."""
        elsewhere("pull", "base", "-t", "v1")
        s3reg("push", "base", "-t", "v2")
        s3reg("add", "dead", f"http://127.0.0.1:{servers.free_port()}", "--force")
        return lambda *arguments: elsewhere("pull", "base", *arguments)

    @pytest.mark.parametrize("tag", [(), ("-t", "v1")], ids=["newest", "v1"])
    def test_the_copy_that_is_here_is_used_and_that_is_said(self, tag, down):
        done = down("--failback", *tag)
        assert (done.code, done.out) == (0, "base: available locally\n")
        assert "does not answer" in done.err
        answer = down("-j", "-q", "--failback", *tag).answer
        assert (answer["body"], answer["message"], answer["code"]) == ({}, "base: available locally", 0)

    @pytest.mark.parametrize("variable", ["ANKA_PULL_FAILBACK", "S3REG_PULL_FAILBACK"])
    def test_the_environment_may_ask_for_it(self, variable, down, monkeypatch):
        monkeypatch.setenv(variable, "1")
        assert down().code == 0
        assert down("--check-download-size").code == 0

    @pytest.fixture
    def mistaken(self, down, s3reg, registry):
        """As `down`, at an address where no further try helps: plain HTTP is spoken there."""
        s3reg("add", "mistaken", registry.replace("http:", "https:"), "--force")
        return down

    def test_another_version_or_a_vm_that_changed_is_no_copy(self, mistaken, elsewhere, pushed):
        assert mistaken("--failback").code == 0
        for options in (("-t", "v2"), ("-v", "0"), ()):
            if not options:
                (elsewhere.library / "img_lib" / pushed.drives[0]).write_bytes(b"a day's work")
            done = mistaken("--failback", *options)
            assert done.code == 10
            assert done.out == ""

    def test_without_it_a_registry_that_is_down_is_a_failure(self, mistaken):
        assert mistaken("-t", "v1").code == 10

    def test_a_registry_that_answers_is_believed(self, s3reg, elsewhere, pushed):
        elsewhere("pull", "base")
        s3reg("revert", "base")
        assert elsewhere("pull", "base", "-t", "v1", "--failback").code == 3
