"""What scripts written for the Anka CLI read: shapes, messages, and not a byte behind the last brace."""

import json

import pytest

from push_calls import API
from s3reg.client.connection import Access, Connection
from s3reg.model import names


@pytest.fixture
def pushed(s3reg, registry, disk):
    """The registry's address and the id of a template in it, with one version v1."""
    s3reg("import", "base", "--disk", disk)
    done = s3reg("-j", "-a", registry, "push", "base", "-t", "v1", "-d", "first")
    assert done.code == 0
    return registry, done.answer["body"]["uuid"]


def test_push_says_what_it_made(s3reg, registry, disk):
    made = s3reg("-j", "import", "base", "--disk", disk)
    assert names.is_template_id(made.answer["body"]["uuid"])
    done = s3reg("push", "base", "-t", "v1", "-j", "-a", registry)
    assert (done.answer["status"], done.answer["code"]) == ("OK", 0)
    assert done.answer["message"] == "vm pushed successfully"
    body = done.answer["body"]
    assert (body["uuid"], body["name"], body["tag"], body["version"]) == (made.answer["body"]["uuid"], "base", "v1", 0)


def test_everything_before_the_answer_is_a_line_of_json_without_a_status(s3reg, pushed, tmp_path):
    done = s3reg("-j", "-a", pushed[0], "--library", tmp_path / "b", "pull", "base")
    *before, last = done.out.splitlines()
    assert json.loads(last)["status"] == "OK"
    assert before
    assert all("status" not in json.loads(line) for line in before)
    assert done.err == ""


def test_pull_gives_the_id_and_says_when_there_was_nothing_to_do(s3reg, pushed, tmp_path):
    address, template = pushed
    again = ("-j", "-a", address, "--library", tmp_path / "b", "pull", "base", "-t", "v1")
    first, second = s3reg(*again), s3reg(*again)
    assert (first.answer["body"]["uuid"], first.answer["message"]) == (template, "vm pulled successfully")
    assert (second.answer["body"], second.answer["message"]) == ({}, "base: available locally")
    assert second.answer["code"] == second.code == 0


def test_list_gives_the_id_under_both_names(s3reg, pushed):
    done = s3reg("-j", "-a", pushed[0], "list")
    assert done.answer["body"] == [{"id": pushed[1], "uuid": pushed[1], "name": "base", "latest": "v1"}]


def test_describe_gives_the_config_and_the_versions(s3reg, pushed):
    body = s3reg("-j", "-a", pushed[0], "describe", "base").answer["body"]
    assert (body["uuid"], body["name"]) == (pushed[1], "base")
    assert body["hard_drives"][0]["file"]
    (version,) = body["versions"]
    assert (version["tag"], version["number"], version["description"]) == ("v1", 0, "first")


def test_check_download_size_counts_what_is_here(s3reg, pushed, tmp_path):
    ask = ("-j", "-a", pushed[0], "--library", tmp_path / "b", "check-download-size", "base")
    before = s3reg(*ask).answer["body"]
    assert before["cached"] == 0
    assert before["bytes"] == before["size"] > 0
    assert before["available"] > 0
    s3reg("-a", pushed[0], "--library", tmp_path / "b", "pull", "base")
    after = s3reg(*ask).answer["body"]
    assert (after["bytes"], after["cached"]) == (0, after["size"])


def test_people_get_tab_separated_lines_where_there_is_no_terminal(s3reg, pushed):
    done = s3reg("-a", pushed[0], "list")
    assert done.out.split("\t")[:3] == ["base", pushed[1], "v1"]
    assert done.out.endswith("\n")


def test_people_read_what_anka_prints(s3reg, pushed, tmp_path):
    done = s3reg("-a", pushed[0], "--library", tmp_path / "b", "pull", "base")
    assert done.out.startswith(f"VM pulled successfully with uuid: {pushed[1]}\n")
    assert "pulling" in done.err, "talk goes to stderr"


def test_a_local_tag_needs_no_registry_and_holds_until_the_vm_changes(s3reg, disk):
    s3reg("import", "base", "--disk", disk)
    assert s3reg("push", "base", "-t", "mine", "--local").code == 0
    assert s3reg("-j", "pull", "base", "-t", "mine", "-l").answer["message"] == "base: available locally"
    assert s3reg("pull", "base", "-t", "other", "-l").code == 3
    assert s3reg("push", "base", "-t", "mine", "--local").code == 18
    disk.write_bytes(b"other")
    s3reg("import", "base", "--disk", disk)
    assert s3reg("pull", "base", "-t", "mine", "-l").code == 18, "nobody else has what it is now"


def test_what_was_pulled_is_available_locally(s3reg, pushed, tmp_path):
    s3reg("-a", pushed[0], "--library", tmp_path / "b", "pull", "base")
    assert s3reg("--library", tmp_path / "b", "pull", "base", "-t", "v1", "--local").code == 0


def test_a_vm_comes_out_as_it_went_in(s3reg, pushed, disk, tmp_path):
    s3reg("-a", pushed[0], "--library", tmp_path / "b", "pull", "base")
    done = s3reg("--library", tmp_path / "b", "export", "base", tmp_path / "out")
    assert done.code == 0
    assert disk.read_bytes() in [path.read_bytes() for path in (tmp_path / "out").iterdir()]


def rows(value):
    """Every object in an answer."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [*([value] if isinstance(value, dict) else []), *(row for one in inside for row in rows(one))]


def test_every_command_calls_a_template_s_id_its_uuid(s3reg, pushed, tmp_path):
    address, template = pushed
    s3reg("-a", address, "push", "base", "-t", "v2", "--force")
    s3reg("-a", address, "untag", "base", "v1")
    connection = Connection(Access(address))
    connection.call("POST", f"{API}/sessions", {"template": template, "name": "base", "tag": "v3"})
    connection.close()
    head = next((tmp_path / "store" / "heads.d").iterdir())
    for arguments in (
        ["list"],
        ["show", "base"],
        ["du", "--tags"],
        ["prune", "--keep-last", "1", "--dry-run"],
        ["trash", "list"],
        ["sessions", "list"],
        ["gc", "--dry-run", tmp_path / "store"],
        ["trash", "restore", "base"],
        ["untag", "base", "v1"],
        ["rename", "base", "other"],
    ):
        found = rows(s3reg("-j", "-a", address, *arguments).answer["body"])
        assert {row["uuid"] for row in found if "uuid" in row} == {template}, arguments
        assert not any("template" in row for row in found), arguments
    head.write_bytes(b"{}")
    found = rows(s3reg("-j", "fsck", tmp_path / "store").answer["body"])
    assert {row["uuid"] for row in found if "uuid" in row} == {template}
