"""What docs/howto/access.md and docs/howto/login.md tell people to type works as it stands, typed into a real shell."""

import contextlib
import re

import pytest

import howto
import servers
import sites
import tap
from access_kit import Closed
from howto import PAGES, WHERE, typed
from push_calls import Push
from s3reg.api.needs import NEEDS
from s3reg.model.access import PERMISSIONS
from s3reg.model.identity import Action


@pytest.fixture
def reader(tmp_path, capsys, monkeypatch):
    for program in ("curl", "openssl"):
        servers.needs(program)
    (tmp_path / "system.img").write_bytes(bytes(range(256)) * 4096)
    with contextlib.ExitStack() as stack:
        yield howto.Reader(tmp_path, stack, capsys, monkeypatch, {})


def test_a_newcomer_types_the_page_from_an_open_registry_to_a_closed_one(reader):
    printed = [said for block in howto.blocks("access.md") for said in reader.follow(block)]

    def told(line):
        return [text for typed, text in printed if typed.startswith(line)]

    assert told("curl -s http") == ['{"status":"FAIL","message":"Authentication Required"}']
    assert [re.match(r"name\t(.*)", who)[1] for who in told("s3reg access whoami")] == ["root", "root", "cert:mac-18"]
    assert ["sequoia" in listed for listed in told("s3reg list")] == [True, False, True]
    (newest, of_one) = told("s3reg events")
    assert len(newest.splitlines()) == 10
    assert {"key:mac-17"} == set(re.findall(r"key:[\w-]+", of_one))
    before, after = ("get_config\tyes" in text for text in told("s3reg access explain"))
    assert (before, after) == (False, True)


def test_the_page_says_of_every_permission_whether_it_opens_anything():
    rows = re.findall(r"^\| (`.*?) \| (.*?) \|$", (PAGES / "access.md").read_text(), re.MULTILINE)
    told = {name: text for names, text in rows for name in re.findall(r"`(\w+)`", names)}
    assert set(PERMISSIONS) | {action.value for action in Action} <= set(told)
    needs = [need for row in NEEDS.values() for need in (row, row.instead) if need is not None]
    opening = {permission for need in needs for permission in need.permissions}
    assert {name for name in PERMISSIONS if not told[name].startswith("nothing here")} == opening


def test_a_shell_logs_in_and_lists_with_the_commands_of_the_page(tmp_path):
    for program in ("curl", "jq", "openssl"):
        servers.needs(program)
    closed = Closed(tmp_path / "store")
    http = closed.app.test_client()
    http.environ_base["HTTP_AUTHORIZATION"] = closed.root["Authorization"]
    pushed = Push([http])
    pushed.run()
    closed.make("ci")
    where, functions, log_in_and_list, key_of_text = (block.commands for block in howto.blocks("login.md"))
    with sites.serving(closed.app) as url:
        where = where.replace(f"http://{WHERE}", url)
        printed, listed = f"printed={tap.printed(tap.key())}", f"{pushed.template} {pushed.name}\n"
        steps = [where, functions, log_in_and_list]
        assert typed(tmp_path, "\n".join(["set -eu", printed, key_of_text, *steps])) == listed
        for form in ("TraditionalOpenSSL", "PKCS8"):
            (tmp_path / "ci.pem").write_bytes(tap.pem(tap.key(), form=form))
            assert typed(tmp_path, "\n".join(["set -eu", *steps])) == listed
