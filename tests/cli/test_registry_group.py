"""Both forms of every command of `anka registry`, that of Anka 2 and that of Anka 3, under both of its names here."""

import pytest

import machines
from machines import KIB


@pytest.fixture(params=[[], ["registry"]], ids=["s3reg", "s3reg registry"])
def anka(request, s3reg):
    """Runs `s3reg …` or `s3reg registry …`; it must succeed."""

    def program(*arguments, code=0):
        done = s3reg(*request.param, *arguments)
        assert done.code == code, done.err
        return done

    return program


@pytest.fixture
def machine(tmp_path):
    return machines.make(tmp_path / "library", sizes=(300 * KIB,), state_size=0, name="base")


def tags(s3reg):
    return [row["tag"] for row in s3reg("-j", "describe", "base").answer["body"]["versions"]]


def test_registries_are_known_by_the_commands_of_both_generations(anka, s3reg, registry, tmp_path):
    anka("add", "one", registry)
    anka("add", "-f", "two", "http://127.0.0.1:9")
    anka("set", "one")
    anka("set", "-f", "--cert", "c.pem", "--key", "k.pem", "--cacert", "ca.pem", "two", "https://127.0.0.1:9")
    known = [{"default": False, "url": registry, "name": "one"}]
    known.append({"default": True, "url": "https://127.0.0.1:9", "name": "two"})
    assert anka("-j", "list-repos").answer["body"] == known
    assert anka("-j", "list-repos", "one").answer["body"] == known[:1]
    assert anka("-j", "list-repos", "-d").answer["body"] == known[1:]
    assert s3reg("-j", "registry", "--list").answer["body"] == known
    assert s3reg("registry", "-j", "--list", "--default").answer["body"] == known[1:]
    assert s3reg("registry", "--default").out == "two\thttps://127.0.0.1:9\tdefault\n"
    anka("delete", "two")
    anka("remove", "one")
    anka("add", "three", registry)
    anka("remove", "-a")
    assert s3reg("-j", "registry", "--list").answer["body"] == []


def test_templates_are_moved_shown_and_removed_by_the_commands_of_both_generations(
    anka, s3reg, registry, machine, tmp_path
):
    anka("add", "office", registry)
    other = ("--library", tmp_path / "other")
    anka("push", "base", "v1")
    (machine.folder / "nvram").write_bytes(b"2")
    anka("push", "-t", "v2", "-d", "second", "base")
    anka("push", "base", "office", "-t", "v2", "-f", "-s", "-q")
    anka("push", "base", "-l", "-t", "here")
    assert tags(s3reg) == ["v1", "v2"]
    assert anka("list").out.split("\t")[:3] == ["base", machine.id, "v2"]
    assert anka("-j", "list", machine.id, "base").answer["body"][1]["latest"] == "v2"
    assert anka("-j", "show", "-t", "v2", machine.id).answer["body"]["tag"] == "v2"
    assert anka("show", "base", "tag", "--latest").out == "v2\n"
    assert anka("-j", "describe", "base", "-v", "0").answer["body"]["versions"][0]["tag"] == "v1"
    assert anka("-j", "check-download-size", "base", "-t", "v2").answer["body"]["cached"] > 0
    assert anka("-j", *other, "check-download-size", "base", "-v", "1").answer["body"]["cached"] == 0
    anka(*other, "pull", "base", "-v", "0")
    assert anka("-j", *other, "pull", "base", "office", "-t", "v2", "--check-download-size").answer["body"]["size"] > 0
    anka(*other, "pull", "-t", "v2", "--fetch-only", "-q", "base")
    anka(*other, "pull", "-s", "base", "-t", "v2")
    anka(*other, "pull", "-l", "base", "-t", "v2")
    anka("revert", "base", "-t", "v2", "--yes")
    assert tags(s3reg) == ["v1"]
    anka("revert", "-a", "base")
    assert anka("-j", "list").answer["body"] == []
    anka("-j", "list", machine.id, code=3)


def test_options_stand_before_registry_between_and_behind_the_command(s3reg, registry):
    for line in (
        ["-a", registry, "-j", "registry", "list"],
        ["registry", "-a", registry, "-j", "list"],
        ["registry", "list", "-a", registry, "-j"],
        ["-a", "http://127.0.0.1:9", "registry", "-a", "http://127.0.0.1:8", "list", "-ja", registry],
    ):
        assert s3reg(*line).answer["body"] == []


def test_default_leaves_the_environment_out_of_account(s3reg, registry, monkeypatch):
    s3reg("add", "office", registry)
    monkeypatch.setenv("ANKA_REGISTRY", "ftp://nowhere")
    assert s3reg("registry", "list").code == 2
    assert s3reg("registry", "--default", "list").code == 0


def test_registry_alone_says_what_it_has_and_list_is_no_option_of_a_command(s3reg):
    done = s3reg("registry")
    assert done.code == 2
    assert "check-download-size" in done.err
    assert s3reg("registry", "--list", "list").code == 2


@pytest.mark.parametrize("command", ["describe", "show", "pull", "revert", "check-download-size", "list"])
def test_what_is_not_there_is_code_3_and_said_as_anka_says_it(s3reg, registry, command):
    told = s3reg("-j", "-a", registry, "registry", command, "13.1-base").answer
    assert (told["status"], told["code"], told["message"]) == ("ERROR", 3, "13.1-base: not found")


@pytest.mark.parametrize(
    "command", ["list", "describe base", "show base", "pull base", "push base -t v1", "revert base"]
)
def test_without_a_registry_every_command_is_code_30(s3reg, machine, command):
    told = s3reg("-j", "registry", *command.split()).answer
    assert (told["status"], told["code"], told["message"]) == ("ERROR", 30, "No registry configured")
