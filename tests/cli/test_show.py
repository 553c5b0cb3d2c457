"""`show`: a version of a template, whole and by its parts, for people and for programs."""

import pytest

from s3reg.cli import hardware

CONFIG = """\
ram: 4G
cpu: {cores: 4, threads: 8}
arch: arm64
display: {frame_buffer: {width: 1024, height: 768, vnc_ip: 0.0.0.0, password: hunter2}}
network_cards:
- mode: shared
  mac_address: "56:45:45:3c:db:02"
  port_forwarding_rules:
  - {rule_name: ssh, protocol: tcp, host_ip: "0", host_port: 10022, guest_port: 22}
- {mode: bridge}
labels: {team: ci, os: 13}
"""


@pytest.fixture
def show(s3reg, registry, disk, tmp_path):
    """`s3reg registry show VM …`, of a template with two tags."""
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    s3reg("add", "office", registry)
    s3reg("import", "13.1", "--disk", disk, "--disk", config, "--config", config)
    assert s3reg("push", "13.1", "-t", "vanilla", "-d", "nothing in it").code == 0
    state = tmp_path / "state"
    state.write_bytes(b"memory")
    s3reg("import", "13.1", "--disk", disk, "--disk", config, "--state", state)
    assert s3reg("push", "13.1", "-t", "a+b:c d").code == 0

    def program(*arguments):
        return s3reg("registry", "show", "13.1", *arguments)

    return program


def test_a_program_reads_the_fields_of_anka_3(show, disk):
    body = show("-j", "-t", "vanilla").answer["body"]
    size = disk.stat().st_size + len(CONFIG)
    assert body["uuid"] == body["id"]
    assert {name: body[name] for name in body if name not in {"uuid", "id", "creation_date"}} == {
        "name": "13.1",
        "tag": "vanilla",
        "number": 0,
        "description": "nothing in it",
        "status": "stopped",
        "cpu_cores": 4,
        "ram": "4G",
        "ram_size": 4 * 1024**3,
        "image_size": size,
        "size": size,
        "arch": 2,
    }
    assert body["creation_date"].endswith("Z")
    newest = show("-j").answer["body"]
    assert (newest["tag"], newest["status"], newest["size"] - newest["image_size"]) == ("a+b:c d", "suspended", 6)


PARTS = {
    "name": ("13.1", "13.1\n"),
    "description": ("nothing in it", "nothing in it\n"),
    "cpu": ({"cores": 4, "threads": 8}, "4 cores\n"),
    "ram": ({"ram": "4G", "ram_size": 4 * 1024**3}, "4G\n"),
    "display": ([{"width": 1024, "height": 768, "vnc_ip": "0.0.0.0"}], "1024x768\n"),
    "network": (
        [{"mode": "shared", "mac_address": "56:45:45:3c:db:02"}, {"mode": "bridge"}],
        "shared\t56:45:45:3c:db:02\nbridge\t\n",
    ),
    "port": (
        [{"rule_name": "ssh", "protocol": "tcp", "host_ip": "0", "host_port": 10022, "guest_port": 22}],
        "ssh\ttcp\t0\t10022\t22\n",
    ),
    "label": ({"team": "ci", "os": 13}, "team\tci\nos\t13\n"),
}


def test_every_part_is_shown_to_programs_and_to_people(show):
    for part, (body, text) in PARTS.items():
        assert show(part, "-j", "-t", "vanilla").answer["body"] == body
        assert show("-t", "vanilla", part).out == text
    uuid = show("-j").answer["body"]["uuid"]
    assert (show("uuid").out, show("-j", "uuid").answer["body"]) == (f"{uuid}\n", uuid)
    assert (show("label", "team").out, show("-j", "label", "os").answer["body"]) == ("ci\n", 13)
    drives = show("-j", "disk").answer["body"]
    assert [(one["drive"], one["layers"]) for one in drives] == [(0, [drives[0]["file"]]), (1, [drives[1]["file"]])]
    assert [line.split("\t")[:3] for line in show("disk").out.splitlines()] == [
        ["0", "8.4 MB", "1"],
        ["1", f"{len(CONFIG)} bytes", "1"],
    ]


def test_tags_are_shown_oldest_first_and_the_latest_alone_as_one_word(show, s3reg, tmp_path):
    assert [row["last_access"] for row in show("-j", "tag").answer["body"]] == [None, None]
    s3reg("--library", tmp_path / "b", "pull", "13.1", "-t", "vanilla")
    first, second = show("-j", "tag").answer["body"]
    assert (first["tag"], second["tag"], second["last_access"]) == ("vanilla", "a+b:c d", None)
    assert first["creation_date"] <= first["last_access"]
    assert show("tag", "--latest").out == "a+b:c d\n"
    assert [row["tag"] for row in show("tag", "-j", "--latest").answer["body"]] == ["a+b:c d"]
    assert [row["tag"] for row in show("tag", "-j", "-t", "vanilla").answer["body"]] == ["vanilla"]


def test_a_screens_password_is_shown_to_nobody(show):
    for words in ([], ["display"], ["-j"], ["-j", "display"]):
        assert "hunter2" not in show(*words).out


def test_people_read_a_fact_a_line_and_no_empty_one(show):
    told = dict(line.split("\t") for line in show("-t", "vanilla").out.splitlines())
    assert (told["cpu"], told["disk"], told["port"]) == ("4 cores", f"8.4 MB, {len(CONFIG)} bytes", "ssh: 10022 to 22")
    assert told["tag"] == "vanilla (version 0 of 2)"
    assert "description" not in dict(line.split("\t") for line in show().out.splitlines())


def test_what_makes_no_sense_or_is_not_there_is_refused(show):
    for words, code in (
        (["colour"], 2),
        (["cpu", "team"], 2),
        (["--latest"], 2),
        (["tag", "--latest", "-t", "vanilla"], 2),
        (["label", "colour"], 3),
        (["-t", "nothing", "tag"], 3),
    ):
        done = show("-j", *words)
        assert (done.code, done.answer["status"], done.err) == (code, "ERROR", "")


@pytest.mark.parametrize(
    ("config", "displays", "networks", "ram_bytes"),
    [
        ({"ram": 4, "cpu": 4, "display": "none", "network_cards": [1, {}], "labels": ["a"]}, 0, 2, 4),
        ({"ram": [4], "cpu": {"cores": "many"}, "display": {"frame_buffers": [7, {"width": 1}]}}, 1, 0, None),
        ({"ram": "512 MiB", "network_cards": {"mode": "shared"}, "display": {"frame_buffer": []}}, 0, 0, 512 << 20),
        ({}, 0, 0, None),
    ],
)
def test_a_configuration_of_another_shape_is_read_as_far_as_it_is_understood(config, displays, networks, ram_bytes):
    assert len(hardware.displays(config)) == displays
    assert len(hardware.networks(config)) == networks
    assert hardware.ram_bytes(config) == ram_bytes
    assert (hardware.cores(config), hardware.ports(config), hardware.labels(config)) == (None, [], {})


def test_a_vm_without_a_configuration_worth_the_name_is_shown(s3reg, registry, disk, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("display: none\nlabels: [a]\n")
    s3reg("add", "office", registry)
    s3reg("import", "odd", "--disk", disk, "--config", config)
    assert s3reg("push", "odd", "-t", "v1").code == 0
    assert s3reg("-j", "show", "odd").answer["body"]["cpu_cores"] is None
    assert [line.split("\t")[0] for line in s3reg("show", "odd").out.splitlines()] == [
        "name", "uuid", "tag", "created", "status", "disk", "size",
    ]  # fmt: skip
    for part in ("cpu", "ram", "display", "network", "port", "label"):
        assert s3reg("show", "odd", part).out == ""
