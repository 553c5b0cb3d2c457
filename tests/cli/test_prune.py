"""prune and du from the command line: what would go, what goes, and what that frees."""

import contextlib
import io
import itertools
import re

import pytest

import sites
from faults import Before, Wrapped
from registry.material import BASE, OTHER, Pusher, end_trash
from s3reg.api import create_app
from s3reg.errors import StoreFull
from s3reg.model import format as fmt
from s3reg.model.identity import EVERYONE
from s3reg.registry import Registry
from s3reg.settings import Settings
from s3reg.store.files import FilesStore

DAY = 86_400


@pytest.fixture
def store(tmp_path):
    return FilesStore(tmp_path / "store", secret=bytes(32))


@pytest.fixture
def versions(s3reg, registry, store):
    """The id of `base`, with v1 to v4: each has a pack of its own."""
    s3reg("add", "office", registry)
    node = Pusher(Registry(store), store)
    for number in range(1, 5):
        node.push(tag=f"v{number}", words=[f"v{number}"], name="base")
    return BASE


def tags(s3reg, vm="base"):
    return [row["tag"] for row in s3reg("-j", "describe", vm).answer["body"]["versions"]]


def aged(store, **days):
    """Make versions so many days older, from behind the registry's back."""
    (stat,) = store.list(fmt.HEADS)
    template = fmt.template_of_head_key(stat.key)
    raw = store.get(stat.key).data
    for entry in fmt.read_head(raw, template).versions:
        if entry.tag in days:
            old = f'"tag":"{entry.tag}","description":"","size":{entry.size},"created":'.encode()
            made = entry.created - days[entry.tag] * DAY
            raw = raw.replace(old + str(entry.created).encode(), old + str(made).encode())
    store.put(stat.key, raw)


@pytest.fixture
def disturbed(s3reg, tmp_path):
    """`disturbed(store)`: from then on the registry is one over this store, to which something happens."""
    with contextlib.ExitStack() as until_the_end:

        def serve(store):
            app = create_app(Settings(store=str(tmp_path / "store")), store)
            s3reg("add", "disturbed", until_the_end.enter_context(sites.serving(app)))

        yield serve


def pruned(s3reg, *arguments):
    return s3reg("-j", "prune", *arguments).answer["body"]


class TestPrune:
    def test_what_no_rule_keeps_goes_and_can_be_restored(self, s3reg, versions):
        body = pruned(s3reg, "base", "--keep-last", 2)
        assert (body["going"], body["removed"], body["dry_run"]) == (2, 2, False)
        kept = {row["tag"]: row["kept"] for row in body["templates"][0]["versions"]}
        assert kept == {"v1": None, "v2": None, "v3": "one of the newest 2", "v4": "the newest"}
        assert tags(s3reg) == ["v3", "v4"]
        trash = s3reg("-j", "trash", "list").answer["body"]
        assert [row["tag"] for row in trash] == ["v1", "v2"]
        assert body["until"] == max(row["until"] for row in trash)
        assert s3reg("trash", "restore", "base", "v1", "v2").code == 0
        assert tags(s3reg) == ["v1", "v2", "v3", "v4"]

    def test_it_frees_what_it_said(self, s3reg, versions, store):
        frees = pruned(s3reg, "--keep-last", 1, "--dry-run")["frees"]
        assert pruned(s3reg, "--keep-last", 1)["frees"] == frees

        def there():
            return sum(stat.size for prefix in (fmt.PACKS, fmt.MAPS) for stat in store.list(prefix))

        before = there()
        end_trash(store)
        Registry(store).sweep()
        assert before - there() == frees > 0

    def test_a_dry_run_changes_nothing_and_shows_all(self, s3reg, versions):
        done = s3reg("prune", "base", "--keep-last", 3, "--dry-run")
        rows = [line.split("\t") for line in done.out.splitlines()[:4]]
        assert [(row[1], row[5]) for row in rows] == [
            ("v1", "goes"),
            ("v2", "stays: one of the newest 3"),
            ("v3", "stays: one of the newest 3"),
            ("v4", "stays: the newest"),
        ]
        assert done.out.splitlines()[-1].startswith("1 would go: ")
        assert len(tags(s3reg)) == 4

    def test_where_all_stay_it_says_so(self, s3reg, versions):
        done = s3reg("prune", "--keep-last", 9)
        assert (done.code, done.out) == (0, "nothing goes: some rule keeps every version\n")

    @pytest.mark.parametrize(
        ("rules", "left"),
        [
            (("--keep-within", "5d"), ["v3", "v4"]),
            (("--keep-within", "11d"), ["v2", "v3", "v4"]),
            (("--keep-tag", "v[12]"), ["v1", "v2", "v4"]),
            (("--keep-tag", "v1", "--keep-tag", "v3"), ["v1", "v3", "v4"]),
            (("--unused-for", "5d"), ["v1", "v3", "v4"]),
        ],
    )
    def test_rules_look_at_age_tags_and_pulls(self, rules, left, s3reg, versions, store):
        aged(store, v1=20, v2=10)
        (first, *_) = Registry(store).find(EVERYONE, versions).versions
        Registry(store).pulled(EVERYONE, versions, first.id)
        assert pruned(s3reg, "base", *rules)["removed"] == 4 - len(left)
        assert tags(s3reg) == left

    @pytest.mark.parametrize(
        ("arguments", "code", "told"),
        [
            ((), 2, "--keep-last"),
            (("--keep-tag", ""), 2, "blank"),
            (("--keep-tag", "v1", "--keep-tag", " "), 2, "blank"),
            (("--keep-last", "0"), 2, "0"),
            (("--keep-within", "30"), 2, "30d"),
            (("--unused-for", "soon"), 2, "--unused-for"),
            (("nothing", "--keep-last", "1"), 3, "nothing"),
            (("", "--keep-last", "1"), 3, "''"),
            (("base", " ", "--keep-last", "1"), 3, "' '"),
            (("--policy", "/nonexistent", "--keep-last", "1"), 2, "/nonexistent"),
        ],
    )
    def test_what_makes_no_sense_removes_nothing(self, arguments, code, told, s3reg, versions):
        done = s3reg("prune", *arguments)
        assert done.code == code
        assert told in done.err
        assert len(tags(s3reg)) == 4

    def test_a_policy_has_rules_for_each_template(self, s3reg, versions, tmp_path):
        policy = tmp_path / "rules.yaml"
        policy.write_text("- {templates: 'b*', keep_last: 3}\n- {templates: '*', keep_last: 1}\n")
        assert pruned(s3reg, "--policy", policy)["removed"] == 1
        policy.write_text("- {domain: other, keep_last: 1}\n- {domain: main, keep_last: 3}\n")
        assert [len(one["versions"]) for one in pruned(s3reg, "--policy", policy)["templates"]] == [3]
        policy.write_text("- {templates: 'x*', keep_last: 1}\n")
        assert pruned(s3reg, "--policy", policy)["templates"] == []
        policy.write_text("- {templates: '*', kep_last: 1}\n")
        done = s3reg("prune", "--policy", policy)
        assert (done.code, "keep_last is the nearest" in done.err) == (2, True)
        policy.write_text("- {templates: '*', keep_last: 1}\n")
        assert s3reg("prune", "--policy", policy, "--keep-last", 2).code == 2
        assert tags(s3reg) == ["v2", "v3", "v4"]

    def test_somebody_at_a_terminal_is_asked(self, s3reg, versions, terminal):
        terminal("n\n")
        done = s3reg("prune", "base", "--keep-last", 1)
        assert done.code == 1
        assert "v1, v2, v3 of base will be removed." in done.err
        assert len(tags(s3reg)) == 4
        terminal("y\n")
        assert s3reg("prune", "base", "--keep-last", 1).code == 0
        assert tags(s3reg) == ["v4"]

    def test_what_was_pulled_while_somebody_thought_about_it_stays(self, s3reg, versions, store, monkeypatch):
        aged(store, v1=20, v2=20, v3=20)

        def pull_meanwhile(*_, **__):
            head = Registry(store).find(EVERYONE, versions)
            Registry(store).pulled(EVERYONE, head.id, head.versions[1].id)
            Registry(store).untag(EVERYONE, head.id, tag="v3", operation="1" * 32)
            return True

        monkeypatch.setattr("sys.stdin", _Terminal())
        monkeypatch.setattr("click.confirm", pull_meanwhile)
        done = s3reg("prune", "base", "--unused-for", "7d")
        assert done.code == 0
        assert "1 removed; 2 used or taken out meanwhile were left alone" in done.out
        assert tags(s3reg) == ["v2", "v4"]

    def test_what_a_revert_leaves_meanwhile_is_never_taken_whole(self, s3reg, versions, store, disturbed):
        def revert():
            Registry(store).revert(EVERYONE, BASE, tag="v2", operation="1" * 32)

        disturbed(Before(store, "put", revert, prefix=fmt.HEADS))
        done = s3reg("prune", "base", "--keep-last", 1)
        assert done.code == 0
        assert "0 removed; 3 used or taken out meanwhile were left alone" in done.out
        assert tags(s3reg) == ["v1"]

    def test_a_version_that_another_takes_out_meanwhile_stops_nothing(self, s3reg, versions, store, disturbed):
        def untag():
            Registry(store).untag(EVERYONE, BASE, tag="v1", operation="1" * 32)

        disturbed(Before(store, "put", untag, prefix=fmt.HEADS))
        body = pruned(s3reg, "base", "--keep-last", 1)
        assert (body["removed"], body["failed"]) == (2, [])
        assert tags(s3reg) == ["v4"]

    def test_a_template_that_others_change_all_the_time_is_named_and_the_others_have_their_turn(
        self, s3reg, versions, store, disturbed
    ):
        node = Pusher(Registry(store), store)
        for tag in ("w1", "w2"):
            node.push(OTHER, tag=tag, words=[tag], name="other")
        numbers = itertools.count(5)

        class Busy(Wrapped):
            def put(self, key, data, *, only_if=None):
                if key == fmt.head_key(BASE):
                    node.push(tag=f"v{next(numbers)}", words="x", name="base")
                return super().put(key, data, only_if=only_if)

        disturbed(Busy(store))
        done = s3reg("-j", "prune", "--keep-last", 1)
        (failed,) = done.answer["body"]["failed"]
        assert (failed["uuid"], failed["name"], failed["code"]) == (BASE, "base", "template-changed")
        assert (done.code, done.answer["status"], done.answer["body"]["removed"]) == (18, "ERROR", 1)
        assert (tags(s3reg)[:4], tags(s3reg, "other")) == (["v1", "v2", "v3", "v4"], ["w2"])
        done = s3reg("prune", "base", "--keep-last", 1)
        assert done.code == 18
        assert "s3reg: base: its newest version is not the one that it was; " in done.err

    def test_where_the_registry_goes_away_it_says_what_went_until_then(self, s3reg, versions, store, disturbed):
        class Full(Wrapped):
            def put(self, key, data, *, only_if=None):
                if Registry(store).find(EVERYONE, BASE).versions[0].tag == "v2":
                    raise StoreFull(store="s", reason="no space left")
                return super().put(key, data, only_if=only_if)

        disturbed(Full(store))
        done = s3reg("-j", "prune", "--keep-last", 1)
        body = done.answer["body"]
        assert (done.code, body["removed"], body["failed"][0]["code"]) == (10, 1, "store-full")
        assert tags(s3reg) == ["v2", "v3", "v4"]

    def test_a_template_whose_record_is_damaged_is_named_and_left_alone(self, s3reg, versions, store):
        Pusher(Registry(store), store).push(OTHER, tag="w1", name="other")
        Pusher(Registry(store), store).push(OTHER, tag="w2", name="other")
        key = fmt.head_key(BASE)
        damaged = store.get(key).data.replace(b'"removed":[]', b'"removed":7')
        store.put(key, damaged)
        done = s3reg("-j", "prune", "--keep-last", 1)
        body = done.answer["body"]
        assert ([one["name"] for one in body["templates"]], body["removed"]) == (["other"], 1)
        assert (done.code, body["failed"][0]["name"], body["failed"][0]["code"]) == (8, "base", "record-damaged")
        assert store.get(key).data == damaged
        done = s3reg("prune", "--keep-last", 1, "--dry-run")
        assert (done.code, "s3reg: base: " in done.err) == (8, True)


class _Terminal(io.StringIO):
    def isatty(self):
        return True


class TestDu:
    def test_it_shows_templates_and_sums(self, s3reg, versions, store):
        body = s3reg("-j", "du").answer["body"]
        (one,) = body["templates"]
        stored = sum(stat.size for prefix in (fmt.PACKS, fmt.MAPS) for stat in store.list(prefix))
        assert body["total"] == {"stored": stored, "live": one["live"], "trash": 0, "uploading": 0}
        assert (one["name"], one["exclusive"], one["shared"], one["frees"]) == ("base", stored, 0, stored)
        assert [tag["tag"] for tag in one["tags"]] == ["v1", "v2", "v3", "v4"]
        assert s3reg("-j", "du", "base").answer["body"]["templates"] == [one]
        assert s3reg("-j", "du", "base", versions).answer["body"] == {"templates": [one], "total": None}

    def test_for_people_sizes_and_with_tags_each_version(self, s3reg, versions):
        lines = s3reg("du").out.splitlines()
        assert [line.split("\t")[0] for line in lines] == ["base", lines[1]]
        assert re.fullmatch(r"[\d.]+ \w+ stored: .* in use, and 0 bytes for the trash alone", lines[1])
        rows = [line.split("\t") for line in s3reg("du", "--tags").out.splitlines()]
        assert [row[1] for row in rows if len(row) == 6 and row[1].startswith("v")] == ["v1", "v2", "v3", "v4"]

    def test_what_was_deleted_shows_by_its_trash(self, s3reg, versions):
        assert s3reg("revert", "base", "--all").code == 0
        (one,) = s3reg("-j", "du").answer["body"]["templates"]
        assert (one["deleted"], one["tags"]) == (True, [])
        assert one["trash"] > 0
        assert s3reg("du").out.startswith("base (deleted)\t")

    @pytest.mark.parametrize(("name", "code"), [("nothing", 3), ("", 3), (" ", 3)])
    def test_what_there_is_not_is_not_found(self, name, code, s3reg, versions):
        assert s3reg("du", name).code == code

    def test_a_damaged_version_says_so(self, s3reg, versions, store):
        store.put(next(iter(store.list(fmt.VERSIONS))).key, b"{}")
        rows = [line.split("\t") for line in s3reg("du", "--tags").out.splitlines()]
        assert [row[2] for row in rows if len(row) == 6].count("damaged") == 1
