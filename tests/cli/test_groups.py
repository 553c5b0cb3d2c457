"""`groups`: what members of a group may do, said by an administrator."""

import pytest

import access_kit
import machines
import sites
import tap
from machines import KIB
from s3reg.cli import permissions
from s3reg.model import format_access
from s3reg.model.access import PERMISSIONS

MISUSED, NOT_FOUND, FORBIDDEN, CONFLICT = 2, 3, 5, 18
SOME_ID = "12345678-9abc-4def-8123-456789abcdef"


@pytest.fixture
def closed(tmp_path, monkeypatch):
    """A registry with access control; the environment has its root token."""
    made = access_kit.Closed(tmp_path / "store", authorization=True)
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
def member(s3reg, closed, tmp_path):
    """Runs a command as a key that is in the group."""
    file = tap.kept(tap.key(), tmp_path)
    closed.make("member", ["team"])
    return lambda *words: s3reg(*words, "--api-key-id", "member", "--api-key", file)


def permitted(closed):
    return closed.gate.groups.find("team").permissions


def held(closed):
    """What the group may do with templates and domains."""
    group = closed.gate.groups.find("team")
    templates = group.templates and {one: {action.value for action in may} for one, may in group.templates.items()}
    return templates, {one: {action.value for action in may} for one, may in group.domains.items()}


def test_a_role_is_enough_for_what_it_is_called_after(s3reg, closed, base, member, tmp_path):
    pulls = (
        ["access", "whoami"],
        ["add", "here", closed.url, "--force"],
        ["list"],
        ["describe", "base"],
        ["show", "base"],
        ["check-download-size", "base"],
        ["pull", "base", "--library", tmp_path / "other"],
    )
    pushes = (["push", "base", "-t", "v2"], ["rename", "base", "basis"], ["rename", "basis", "base"])
    rules = (["keys", "list"], ["groups", "list"], ["revert", "base", "--yes"])
    assert {member(*words).code for words in (pulls[2], pulls[-1], pushes[0])} == {FORBIDDEN}
    s3reg("groups", "create", "team", "--role", "pull")
    assert [member(*words).code for words in pulls] == [0] * len(pulls)
    assert {member(*words).code for words in (*pushes[:2], *rules)} == {FORBIDDEN}
    s3reg("groups", "grant", "team", "--role", "push")
    assert [member(*words).code for words in (pulls[2], *pushes)] == [0] * 4
    assert {member(*words).code for words in rules} == {FORBIDDEN}
    s3reg("groups", "grant", "team", "--role", "admin")
    assert [member(*words).code for words in rules] == [0] * len(rules)
    assert permitted(closed) == PERMISSIONS.keys()


def test_who_pushes_by_force_may_bring_back_what_that_replaced_by_the_words_it_was_told(s3reg, base, member):
    s3reg("groups", "create", "team", "--role", "push")
    body = member("-j", "push", "base", "-t", "v1", "--force", "--description", "again").answer["body"]
    gone = body["replaced"]["version"]
    for words in (["base", "v1"], ["base"], [base]):
        assert member("trash", "restore", *words, "--as", "old").code == FORBIDDEN
    assert member("trash", "restore", "--version", gone, "--as", "old", "base").code == 0
    assert [row["tag"] for row in s3reg("-j", "describe", "base").answer["body"]["versions"]] == ["old", "v1"]
    assert member("trash", "restore", "--version", gone, base).code == 3


def test_a_role_s_help_tells_what_it_gives(s3reg):
    told = " ".join(s3reg("groups", "create", "--help").out.split())
    for name in set(permissions.ROLES["push"]) | set(permissions.ROLES):
        assert name in told


def test_s24_permissions_are_granted_and_denied_one_by_one_and_count_at_once(s3reg, closed, member):
    assert s3reg("groups", "create", "team", "-p", "index", "-p", "list_vms,pull_vm").code == 0
    assert permitted(closed) == {"index", "list_vms", "pull_vm"}
    assert member("list").code == 0
    assert s3reg("groups", "deny", "team", "list_vms", "revert").code == 0
    assert member("list").code == FORBIDDEN
    assert s3reg("groups", "grant", "team", "list_vms", "revert,index").code == 0
    assert member("list").code == 0
    assert permitted(closed) == {"index", "list_vms", "pull_vm", "revert"}
    s3reg("groups", "deny", "team", "--role", "pull")
    assert permitted(closed) == {"revert"}


def test_anka_s_misspelt_permission_may_be_spelt_right(s3reg, closed):
    s3reg("groups", "create", "team", "-p", "view_permission_groups")
    assert permitted(closed) == {"view_prmission_groups"}
    s3reg("groups", "deny", "team", "view_permission_groups")
    assert permitted(closed) == set()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["create", "other", "-p", "pul_vm"], "there is no permission 'pul_vm'; did you mean pull_vm?"),
        (["grant", "team", "index", "x"], "there is no permission 'x'; there are index, get_disk_info"),
        (["deny", "team", "Index"], "there is no permission 'Index'; did you mean index?"),
        (["grant", "team", "--role", "pusher"], "'pusher' is not one of"),
        (["grant", "team"], "name permissions, or a --role"),
        (["deny", "team", ","], "name permissions, or a --role"),
        (["templates", "team", "--add", f"{SOME_ID}=lst"], "no permission of a template 'lst'; did you mean list?"),
        (["templates", "team", "--add", SOME_ID], f"write {SOME_ID}=list,pull, or =all"),
        (["templates", "team", "--add", f"{SOME_ID}="], f"write {SOME_ID}=list,pull, or =all"),
        (["templates", "team", "--all", "--none"], "--all is every template"),
        (["domains", "team", "--add", "main=index"], "no permission of a template 'index'"),
        (["domains", "team", "--add", "a/b=all"], "domain 'a/b' is not valid"),
    ],
)
def test_a_word_that_is_none_changes_nothing_and_names_the_right_one(words, told, s3reg, closed):
    closed.group("team", "list_vms", templates={})
    before = closed.gate.groups.find("team")
    done = s3reg("groups", *words)
    assert done.code == MISUSED
    assert told in done.err
    assert closed.gate.groups.all() == [before]


def test_templates_are_added_and_removed_by_name_or_id(s3reg, closed, base, member):
    s3reg("groups", "create", "team", "--role", "pull", "--no-templates")
    assert held(closed) == ({}, {})
    assert member("list").out == ""
    done = s3reg("groups", "templates", "team", "--add", "base=list", "--add", f"{SOME_ID}=all")
    assert held(closed)[0] == {base: {"list"}, SOME_ID: set(permissions.ACTIONS)}
    first, *rest = done.out.splitlines()
    assert (first, set(rest)) == ("group team: pull", {f"with {SOME_ID}: all", "with base: list"})
    assert member("list").out.split("\t")[:2] == ["base", base]
    assert member("pull", "base", "--fetch-only").code == FORBIDDEN
    s3reg("groups", "templates", "team", "--add", f"{base}=pull,get_config", "--remove", f"{SOME_ID}=list,pull")
    assert held(closed)[0] == {
        base: {"list", "pull", "get_config"},
        SOME_ID: set(permissions.ACTIONS) - {"list", "pull"},
    }
    assert member("pull", "base", "--fetch-only").code == 0
    s3reg("groups", "templates", "team", "--remove", SOME_ID, "--remove", "base=get_config")
    assert held(closed)[0] == {base: {"list", "pull"}}
    s3reg("groups", "templates", "team", "--none")
    assert held(closed)[0] == {}
    s3reg("groups", "templates", "team", "--all")
    assert held(closed)[0] is None
    assert s3reg("groups", "templates", "team", "--add", "nothing=all").code == NOT_FOUND


def test_t2_a_template_s_name_may_have_an_equals_sign(s3reg, closed, base):
    s3reg("rename", "base", "os=15=x")
    closed.group("team", templates={})
    assert s3reg("groups", "templates", "team", "--add", "os=15=x=list").code == 0
    assert held(closed)[0] == {base: {"list"}}
    assert s3reg("groups", "templates", "team", "--remove", "os=15=x=list").code == 0
    assert held(closed)[0] == {}


def test_a_registry_is_added_by_whoever_it_knows_though_it_lets_them_do_nothing(closed, member):
    closed.group("team", templates={})
    assert member("add", "here", closed.url).code == 0
    assert member("list").code == FORBIDDEN


def test_a_group_with_all_templates_loses_none_of_them_by_accident(s3reg, closed):
    closed.group("team", "list_vms")
    for words in (["--add", f"{SOME_ID}=all"], ["--remove", SOME_ID]):
        done = s3reg("groups", "templates", "team", *words)
        assert done.code == MISUSED
        assert "the group team has all templates; with --none --add … it has only those that are added" in done.err
    assert held(closed)[0] is None
    s3reg("groups", "templates", "team", "--none", "--add", f"{SOME_ID}=list")
    assert held(closed)[0] == {SOME_ID: {"list"}}


def test_domains_are_added_and_removed(s3reg, closed, member, tmp_path):
    closed.group("team", *permissions.ROLES["push"], templates={})
    machines.make(tmp_path / "library", sizes=(30 * KIB,), state_size=0, name="ours")
    assert member("push", "ours", "-t", "v1").code == FORBIDDEN
    done = s3reg("groups", "domains", "team", "--add", "team-a=all")
    assert done.out.splitlines() == ["group team: push", "with the domain team-a: all"]
    assert member("push", "ours", "-t", "v1").code == 0
    assert "team-a" in member("describe", "ours").out
    s3reg("groups", "domains", "team", "--remove", "team-a=push_tag,set_arch", "--add", "main=list")
    assert held(closed)[1] == {"team-a": set(permissions.ACTIONS) - {"push_tag", "set_arch"}, "main": {"list"}}
    s3reg("groups", "domains", "team", "--remove", "team-a")
    assert held(closed)[1] == {"main": {"list"}}
    s3reg("groups", "domains", "team", "--none", "--add", "b=list,pull")
    assert held(closed)[1] == {"b": {"list", "pull"}}


@pytest.mark.parametrize("command", ["templates", "domains"])
def test_without_a_change_it_is_told_what_there_is(command, s3reg, closed):
    closed.group("team", "index", domains={"main": ["list"]})
    before = closed.gate.groups.find("team")
    assert s3reg("groups", command, "team").out.splitlines()[0] == "group team: index"
    assert closed.gate.groups.find("team") == before


def test_a_group_is_shown_with_its_members_and_the_list_has_all_of_them(s3reg, closed, base, member):
    closed.group("team", "pull_vm", "list_vms", templates={base: ["pull", "list"]}, domains={"main": ["list"]})
    closed.group("all", *PERMISSIONS)
    closed.group("none", templates={})
    closed.group("pullers", *permissions.ROLES["pull"], templates={})
    assert s3reg("groups", "list").out.splitlines() == [
        "all\tadmin\tall\t",
        "none\tnothing\tnone\t",
        "pullers\tpull\tnone\t",
        "team\tlist_vms, pull_vm\t1\tmain",
    ]
    assert s3reg("groups", "show", "team").out.splitlines() == [
        "group\tteam",
        "keys\tmember",
        "list_vms\tList and describe templates",
        "pull_vm\tPlan a pull, read configurations",
        f"base\t{base}\tlist,pull",
        "main\tlist",
    ]
    assert s3reg("groups", "show", "none").out.splitlines() == ["group\tnone", "keys\t", "templates\tnone"]
    told = s3reg("-j", "groups", "show", "team").answer["body"]
    assert told == {
        "name": "team",
        "permissions": ["list_vms", "pull_vm"],
        "templates": [{"id": base, "permissions": ["list", "pull"]}],
        "domains": [{"name": "main", "permissions": ["list"]}],
        "damaged": None,
        "keys": ["member"],
    }
    body = s3reg("-j", "groups", "list").answer["body"]
    assert [one["templates"] for one in body] == [None, [], [], told["templates"]]
    closed.group("team", "view_prmission_groups")
    assert member("-j", "groups", "show", "team").answer["body"]["keys"] is None, "who is in it, it may not know"
    assert "keys" not in member("groups", "show", "team").out
    assert s3reg("groups", "show", "nothing").code == NOT_FOUND


def test_a_damaged_group_is_shown_as_one(s3reg, closed):
    closed.group("team", "index")
    closed.store.put(format_access.group_key("team"), b"garbage")
    name, *rest = s3reg("groups", "list").out.rstrip("\n").split("\t")
    assert rest == ["damaged", "none", ""]
    assert "\ndamaged\tthe group in auth/groups/" in s3reg("groups", "show", name).out
    assert s3reg("groups", "delete", "team").code == 0
    assert s3reg("groups", "list").out == ""


def test_a_group_is_made_once_and_deleted_once(s3reg, closed):
    assert s3reg("groups", "create", "team", "-p", "index").code == 0
    assert s3reg("groups", "create", "team", "-p", "index").code == 0, "it is what was asked for"
    done = s3reg("groups", "create", "team", "--role", "admin")
    assert done.code == CONFLICT
    assert "the group 'team' already exists" in done.err
    assert permitted(closed) == {"index"}
    assert s3reg("-j", "groups", "delete", "team").answer["body"] == {"name": "team"}
    assert s3reg("groups", "delete", "team").code == NOT_FOUND
    assert s3reg("groups", "grant", "team", "index").code == NOT_FOUND
    assert s3reg("groups", "create", "team").out.startswith("group team: nothing\nwith all templates; narrower: ")


def test_names_of_groups_keys_and_permissions_are_completed(s3reg, closed, monkeypatch):
    from click.shell_completion import ShellComplete

    from s3reg.cli import completion
    from s3reg.cli.main import program
    from s3reg.cli.options import Asked

    def complete(*words):
        machinery = ShellComplete(program, {"obj": Asked()}, completion.PROGRAM, completion.VARIABLE)
        return [item.value for item in machinery.get_completions(list(words[:-1]), words[-1])]

    closed.group("team")
    closed.group("tenant")
    closed.make("runner-1")
    assert complete("groups", "show", "te") == complete("keys", "create", "x", "-g", "t") == ["team", "tenant"]
    assert complete("keys", "revoke", "") == complete("access", "explain", "ru") == ["runner-1"]
    assert (
        complete("groups", "grant", "team", "list") == complete("groups", "create", "x", "-p", "list") == ["list_vms"]
    )
