"""What a push or a pull would do is said, and not done."""

import pytest

from s3reg.client.library import Library


@pytest.fixture
def pushed(s3reg, registry, disk):
    """The registry's address; in it "base" with one version v1."""
    s3reg("import", "base", "--disk", disk)
    assert s3reg("-a", registry, "push", "base", "-t", "v1").code == 0
    return registry


def test_a_dry_pull_tells_what_the_pull_then_reports(s3reg, pushed, tmp_path):
    pull = ("-j", "-a", pushed, "--library", tmp_path / "b", "pull", "base")
    foreseen = s3reg(*pull, "--dry-run").answer
    assert foreseen["message"] == "dry run: nothing was pulled"
    assert Library(tmp_path / "b").vms() == []
    done = s3reg(*pull).answer["body"]
    body = foreseen["body"]
    assert (body["receive"], body["size"], body["local"]) == (done["received"], done["size"], done["local"])
    assert sum(file["receive"] for file in body["files"]) == body["receive"] > 0
    again = s3reg(*pull, "--dry-run").answer
    assert again["message"] == "base: available locally"
    assert (again["body"]["receive"], again["body"]["write"]) == (0, 0)


def test_the_old_keys_of_the_size_stay_and_what_is_transferred_is_exact(s3reg, pushed, tmp_path):
    ask = ("-j", "-a", pushed, "--library", tmp_path / "b")
    size = s3reg(*ask, "check-download-size", "base").answer["body"]
    assert set(size) == {"bytes", "size", "cached", "available", "transfer"}
    assert s3reg(*ask, "pull", "base").answer["body"]["received"] == size["transfer"]
    assert s3reg(*ask, "check-download-size", "base").answer["body"]["transfer"] == 0


def test_a_person_reads_a_table(s3reg, pushed, tmp_path):
    done = s3reg("-a", pushed, "--library", tmp_path / "b", "pull", "base", "--dry-run")
    assert done.code == 0
    assert done.out.startswith("would be pulled\tbase:v1")
    assert "config.yaml" in done.out


def test_a_dry_push_counts_the_chunks_and_sends_nothing(s3reg, registry, disk, tmp_path):
    s3reg("import", "base", "--disk", disk)
    push = ("-j", "-a", registry, "push", "base", "-t")
    foreseen = s3reg(*push, "v1", "--dry-run").answer
    assert foreseen["message"] == "dry run: nothing was sent"
    assert s3reg("-j", "-a", registry, "list").answer["body"] == []
    assert list((tmp_path / "store").glob("sessions/*")) == []
    done = s3reg(*push, "v1").answer["body"]
    assert (foreseen["body"]["new"], foreseen["body"]["size"]) == (done["new"], done["size"])
    assert done["sent"] / 2 < foreseen["body"]["estimated"] < 2 * done["sent"]
    with disk.open("r+b") as file:
        file.write(b"changed")
    s3reg("import", "base", "--disk", disk)
    foreseen = s3reg(*push, "v2", "--dry-run").answer["body"]
    assert foreseen["chunks"] == 1
    assert s3reg(*push, "v2").answer["body"]["new"] == foreseen["new"] == 256 * 1024
    unchanged = s3reg(*push, "v3", "--dry-run").answer["body"]
    assert (unchanged["chunks"], unchanged["new"], unchanged["estimated"]) == (0, 0, 0)


def test_a_dry_push_says_honestly_that_it_estimates(s3reg, registry, disk):
    s3reg("import", "base", "--disk", disk)
    assert "an estimate" in s3reg("-a", registry, "push", "base", "-t", "v1", "--dry-run").out


def test_a_dry_push_refuses_a_tag_that_is_taken(s3reg, pushed, disk):
    disk.write_bytes(b"other")
    s3reg("import", "base", "--disk", disk)
    assert s3reg("-a", pushed, "push", "base", "-t", "v1", "--dry-run").code == 18
    assert s3reg("-a", pushed, "push", "base", "-t", "v1", "--dry-run", "--force").code == 0


@pytest.mark.parametrize("gone", [(), ("--all",)], ids=["the version", "its template"])
def test_a_dry_push_builds_on_nothing_that_is_gone(gone, s3reg, pushed, disk):
    """The node noted where its files came from; a session leaves out what is there no more, and so does this."""
    assert s3reg("-a", pushed, "push", "base", "-t", "v2").code == 0
    s3reg("import", "twin", "--disk", disk)
    assert s3reg("-a", pushed, "push", "twin", "-t", "v1").code == 0
    assert s3reg("-a", pushed, "revert", "base", *gone).code == 0
    for vm in ("base", "twin"):
        push = ("-j", "-a", pushed, "push", vm, "-t", "v3")
        foreseen = s3reg(*push, "--dry-run")
        assert foreseen.code == 0
        assert foreseen.answer["body"]["new"] == s3reg(*push).answer["body"]["new"]


@pytest.mark.parametrize("command", ["push", "pull"])
def test_what_stays_on_this_node_has_no_dry_run(command, s3reg, disk):
    s3reg("import", "base", "--disk", disk)
    done = s3reg(command, "base", "-t", "v1", "--local", "--dry-run")
    assert done.code == 2
    assert "leave --dry-run" in done.err


def test_another_library_is_named_by_its_folder(s3reg, pushed, tmp_path):
    pull = ("-j", "-a", pushed, "--library", tmp_path / "b", "pull", "base", "--from", tmp_path / "library")
    body = s3reg(*pull).answer["body"]
    assert body["local"] > 0
    assert body["received"] < 4096, "its map"


def test_a_folder_that_is_no_library_is_named(s3reg, pushed, tmp_path):
    done = s3reg("-a", pushed, "--library", tmp_path / "b", "pull", "base", "--from", tmp_path)
    assert done.code == 3
    assert f"{tmp_path} is no library" in done.err
