"""`access`: what a key may do with a template, why, and what to type so that it may; and who one is oneself."""

import shlex
import time

import pytest

import access_kit
import machines
import sites
import tap
from machines import KIB
from s3reg.api.needs import NEEDS
from s3reg.cli import access, permissions
from s3reg.model.access import PERMISSIONS
from s3reg.model.identity import Action

NOT_FOUND = 3
OTHER = "12345678-9abc-4def-8123-456789abcdef"
ACTIONS = list(access.CALLS)


@pytest.fixture
def now():
    """What the registry takes for the time: seconds beside this machine's."""
    return [0.0]


@pytest.fixture
def closed(tmp_path, monkeypatch, now):
    """A registry with access control, and a template `base` in it; the environment has its root token."""
    made = access_kit.Closed(tmp_path / "store", authorization=True, clock=lambda: time.time() + now[0])
    monkeypatch.setenv("S3REG_REGISTRY_ROOT_TOKEN", made.token)
    with sites.serving(made.app) as made.url:
        monkeypatch.setenv("S3REG_REGISTRY", made.url)
        yield made


@pytest.fixture
def base(s3reg, closed, tmp_path):
    """A template with one version; gives its id."""
    machine = machines.make(tmp_path / "library", sizes=(30 * KIB,), state_size=0, name="base")
    assert s3reg("push", "base", "-t", "v1").code == 0
    return machine.id


@pytest.fixture
def explained(s3reg):
    """What is explained of `ci` and `base`, by action."""
    return lambda: {
        one["action"]: one for one in s3reg("-j", "access", "explain", "ci", "base").answer["body"]["actions"]
    }


def allowed(explained):
    return {action for action, one in explained().items() if one["allowed"]}


SITUATIONS = {
    "in no group": lambda closed, _: closed.make("ci"),
    "in a group that there is not": lambda closed, _: closed.make("ci", ["no body"]),
    "in a group of nothing": lambda closed, _: closed.make("ci", [closed.group("a b", templates={})]),
    "with all templates and no calls": lambda closed, _: closed.make("ci", [closed.group("a")]),
    "with all calls and another template": lambda closed, _: closed.make(
        "ci", [closed.group("a", *PERMISSIONS, templates={OTHER: ["list"]})]
    ),
    "with a template that it may not list": lambda closed, base: closed.make(
        "ci", [closed.group("a", *PERMISSIONS, templates={base: [one for one in permissions.ACTIONS if one != "list"]})]
    ),
    "by two groups in parts": lambda closed, base: closed.make(
        "ci", [closed.group("a", "list_vms", templates={}), closed.group("b", "pull_vm", templates={base: ["list"]})]
    ),
    "in another domain": lambda closed, _: closed.make(
        "ci", [closed.group("a", *PERMISSIONS, templates={}, domains={"other": permissions.ACTIONS})]
    ),
    "by its domain in parts": lambda closed, _: closed.make(
        "ci", [closed.group("a", *PERMISSIONS, templates={}, domains={"main": ["list"]})]
    ),
    "ended": lambda closed, _: closed.make("ci", [closed.group("a", *PERMISSIONS)], ttl=60),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_what_is_told_to_type_lets_the_key_do_it(
    situation, *, s3reg, closed, base, now, explained, tmp_path, monkeypatch
):
    now[0] = -1000.0
    SITUATIONS[situation](closed, base)
    now[0] = 0.0
    before = explained()
    for action in ACTIONS:
        told = explained()[action]
        assert told["commands"] or told["allowed"]
        for command in told["commands"]:
            words = [word if word != access.SOME_GROUP else "new" for word in shlex.split(command)[1:]]
            if "new" in words and "change" in words:
                closed.group("new", templates={})
            done = s3reg(*words)
            assert done.code == 0, done.err
        assert explained()[action]["allowed"], action
    assert not all(one["allowed"] for one in before.values())
    monkeypatch.delenv("S3REG_REGISTRY_ROOT_TOKEN")
    who = ["--api-key-id", "ci", "--api-key", tap.kept(tap.key(), tmp_path)]
    for words in (["describe", "base"], ["pull", "base", "--fetch-only"], ["revert", "base", "--all"]):
        assert s3reg(*words, *who).code == 0


def test_what_has_to_be_called_for_an_action_is_what_the_routes_need():
    endpoints = {
        "list": ["transfer.list_templates", "anka.list_v2"],
        "get_config": ["anka.info"],
        "pull": ["transfer.plan_pull", "transfer.report_pull"],
        "push_tag": ["transfer.open_session", "transfer.sign_uploads", "transfer.commit_session"],
        "delete_revert": ["transfer.revert_template", "anka.delete"],
        "set_arch": ["anka.set_arch"],
    }
    assert set(access.CALLS) == set(endpoints) == {action.value for action in Action} - {"save_image"}
    for action, names in endpoints.items():
        assert set(access.CALLS[action]) == {call for name in names for call in NEEDS[name].permissions}


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_is_allowed_with_all_that_it_takes_and_refused_without_any_of_it(action, closed, base, explained):
    closed.make("ci", ["calls", "templates"])
    calls = set(access.CALLS[action])
    for missing in calls:
        closed.group("calls", *(calls - {missing}), templates={})
        closed.group("templates", templates={base: {"list", action}})
        told = explained()[action]
        assert not told["allowed"]
        assert (told["missing_permissions"], told["missing_actions"]) == ([missing], [])
    closed.group("calls", *calls, templates={})
    assert explained()[action] == {
        "action": action,
        "allowed": True,
        "groups": ["calls", "templates"],
        "missing_permissions": [],
        "missing_actions": [],
        "commands": [],
    }
    for missing in {"list", action}:
        closed.group("templates", templates={base: {"list", action} - {missing}})
        told = explained()[action]
        assert not told["allowed"]
        assert (told["missing_permissions"], told["missing_actions"]) == ([], [missing])
    closed.group("templates", templates={}, domains={"main": {"list", action}})
    assert explained()[action]["allowed"]


def test_a_person_is_told_why_and_what_to_type(s3reg, closed, base):
    closed.make("ci", ["team", "gone"])
    closed.group("team", "list_vms", "pull_vm", templates={base: ["list", "get_config"]})
    told = s3reg("access", "explain", "ci", "base").out
    head, *ways = told.split("\n\n")
    assert head.splitlines()[1:] == [
        "groups\tteam, gone (there is none)",
        f"template\tbase, {base}",
        "domain\tmain",
        "list\tyes\tby team",
        "get_config\tyes\tby team",
        "pull\tno\tno group gives download_vm, nor pull of this template",
        "push_tag\tno\tno group gives head_push_vm, push_vm, nor push_tag of this template",
        "delete_revert\tno\tno group gives revert, delete_vm, nor delete_revert of this template",
        "set_arch\tno\tno group gives push_vm, nor set_arch of this template",
    ]
    assert head.startswith("key\tci, good for ever\n")
    assert ways[0].splitlines() == [
        "so that it may pull, and with it all in team:",
        "  s3reg groups grant team download_vm",
        "  s3reg groups templates team --add base=pull",
    ]
    assert len(ways) == 4
    assert max(map(len, told.splitlines())) <= 100


def test_a_group_that_has_the_template_by_its_domain_is_given_more_of_the_domain(closed, base, explained):
    closed.make("ci", [closed.group("team", *PERMISSIONS, templates={}, domains={"main": ["list"]})])
    assert explained()["pull"]["commands"] == ["s3reg groups domains team --add main=pull"]


def test_a_key_or_a_template_that_there_is_not_is_said(s3reg, closed, base):
    closed.make("ci")
    assert "API key 'nobody' not found" in s3reg("access", "explain", "nobody", "base").err
    done = s3reg("access", "explain", "ci", "nothing")
    assert done.code == NOT_FOUND
    assert "nothing: not found" in done.err


def test_an_ended_key_may_nothing_and_that_is_why(s3reg, closed, base, now):
    now[0] = -1000.0
    closed.make("ci", [closed.group("all", *PERMISSIONS)], ttl=60)
    now[0] = 0.0
    told = s3reg("access", "explain", "ci", "base").out
    assert told.startswith("key\tci, ended 20")
    assert "pull\tno\tthe key has ended" in told
    assert "  s3reg keys change ci --ttl 90d" in told


class TestWhoAmI:
    def test_root(self, s3reg, closed):
        assert s3reg("access", "whoami").out == "name\troot\ngroups\t\npermissions\teverything\n"
        assert s3reg("-j", "access", "whoami").answer["body"] == {
            "name": "root", "groups": [], "access_control": True, "authorization": True, "permissions": None,
        }  # fmt: skip

    def test_a_key(self, s3reg, closed, tmp_path):
        closed.make("ci", [closed.group("team", *permissions.ROLES["pull"]), "gone"])
        who = ["--api-key-id", "ci", "--api-key", tap.kept(tap.key(), tmp_path)]
        assert s3reg("access", "whoami", *who).out == "name\tkey:ci\ngroups\tteam, gone\npermissions\tpull\n"
        body = s3reg("-j", "access", "whoami", *who).answer["body"]
        assert body["permissions"] == ["index", "list_vms", "pull_vm", "download_vm"]

    def test_where_groups_do_not_count(self, s3reg, tmp_path):
        closed = access_kit.Closed(tmp_path / "store")
        with sites.serving(closed.app) as url:
            told = s3reg("access", "whoami", "-a", url, "--root-token", closed.token).out
        assert told == "name\troot\ngroups\t\nauthorization\toff: any credential may do everything\n"

    def test_where_nobody_is_asked(self, s3reg, registry):
        told = s3reg("access", "whoami", "-a", registry).out
        assert told == "name\teveryone\ngroups\t\naccess control\toff: whoever reaches the registry may do everything\n"


def test_without_authorization_it_is_said_that_all_is_allowed_and_what_would_hold(s3reg, tmp_path):
    closed = access_kit.Closed(tmp_path / "store")
    machines.make(tmp_path / "library", sizes=(30 * KIB,), state_size=0, name="base")
    with sites.serving(closed.app) as url:
        root = ["-a", url, "--root-token", closed.token]
        assert s3reg("push", "base", "-t", "v1", *root).code == 0
        closed.make("ci")
        told = s3reg("access", "explain", "ci", "base", *root).out
    assert "authorization\toff: any credential may do everything; if it were on:\n" in told
    assert "pull\tno\tno group gives pull_vm, download_vm, nor list, pull of this template" in told
