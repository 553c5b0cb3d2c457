"""Whatever there is and whoever asks: every answer is the one that a store without what is hidden would give."""

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from registry.material import CONFIG
from s3reg.errors import S3regError, TemplateIdTaken
from s3reg.model import format as fmt
from s3reg.model.identity import EVERYONE, Action, Identity, Rights
from s3reg.model.packs import PackRef
from s3reg.model.template import (
    Base,
    Entry,
    Event,
    EventKind,
    File,
    Head,
    MapRef,
    PackUse,
    Role,
    Version,
    bytes_digest,
)
from s3reg.registry import Opening, Registry, Wanted
from s3reg.store import paths
from s3reg.store.files import FilesStore

IDS = [f"0000000{number}-0000-4000-8000-00000000000a" for number in range(4)]
NOBODYS = "0000000f-0000-4000-8000-00000000000a"
NAMES = ["sequoia", "sonoma", IDS[0]]
DOMAINS = ["blue", "green", "main"]
REFS = [*IDS, NOBODYS, *NAMES[:2]]
STATES = ["live", "live", "deleted", "damaged", "damaged beyond its domain", "junk"]
NOW = 1_000_000


@dataclass(frozen=True)
class Made:
    """A template as a test wants it."""

    id: str
    name: str
    domain: str
    state: str
    versions: int
    size: int

    def version(self, number):
        return f"{IDS.index(self.id):016x}{number:016x}"

    def shows_to(self, rights):
        """Whether somebody with these rights may list it: said once more, in other words than the code's."""
        if rights is None or rights.all_templates:
            return True
        known = self.state not in {"damaged beyond its domain", "junk"}
        by_domain = [actions for domain, actions in rights.domains.items() if known and domain == self.domain]
        by_id = [actions for template, actions in rights.templates.items() if template == self.id]
        return any(Action.LIST in actions for actions in by_domain + by_id)

    def records(self):
        """Key to bytes."""
        entries = tuple(
            Entry(self.version(number), number, f"v{number}", "", self.size, NOW) for number in range(self.versions)
        )
        head = Head(self.id, self.name, self.domain, size=self.size, versions=entries)
        if self.state == "deleted":
            gone = tuple(entry.gone(when=NOW, by="x", keeps=0) for entry in entries)
            head = replace(head, versions=(), removed=gone, deleted=True, size=0)
        data = fmt.write_head(head)
        if self.state.startswith("damaged"):
            data = data.replace(b'"gen"', b'"nog"')
        if self.state == "damaged beyond its domain":
            data = data.replace(b'"domain"', b'"niamod"')
        made = {fmt.head_key(self.id): b"{" if self.state == "junk" else data}
        for entry in entries:
            made[fmt.version_key(self.id, entry.id)] = fmt.write_version(self._version(entry))
            made[fmt.pull_key(self.id, entry.id)] = b""
        return made

    def _version(self, entry):
        sid = entry.id
        pack = PackUse(PackRef(sid, "a" * 64, 100), 50)
        disk = File("disk", Role.IMAGE, self.size, "b" * 64, drive=0, map=MapRef(sid, "c" * 64, 10), packs=(pack,))
        config = File("config.yaml", Role.CONFIG, len(CONFIG), bytes_digest(CONFIG), inline=CONFIG)
        return Version(entry.id, self.id, self.domain, sid, NOW, {"name": "vm"}, (disk, config))


def makes(template):
    return st.builds(
        Made,
        id=st.just(template),
        name=st.sampled_from(NAMES),
        domain=st.sampled_from(DOMAINS),
        state=st.sampled_from(STATES),
        versions=st.integers(0, 2),
        size=st.integers(1, 1000),
    )


ACTIONS = st.one_of(st.just(frozenset(Action)), st.frozensets(st.sampled_from(list(Action))))
RIGHTS = st.one_of(
    st.builds(
        Rights,
        templates=st.dictionaries(st.sampled_from([*IDS, NOBODYS]), ACTIONS, max_size=2),
        domains=st.dictionaries(st.sampled_from(DOMAINS), ACTIONS, max_size=2),
    ),
    st.builds(Rights, all_templates=st.just(True)),
    st.none(),
)
TEMPLATES = st.tuples(*map(makes, IDS)).flatmap(lambda made: st.lists(st.sampled_from(made), unique=True))


def registry_of(folder, made):
    """A registry over a new store of these templates. Written past the store, which would wait for the disk each time."""
    store = FilesStore(folder, secret=bytes(32))
    records = {fmt.FORMAT_KEY: fmt.write_format(fmt.StoreFormat(store="0" * 32, made_as=store.made_as))}
    said = [(by, kind, template) for by in ("key:asker", "key:x") for kind in EventKind for template in (*IDS, NOBODYS)]
    noted = [Event(f"{n:032x}", NOW, kind, by, {"template": template}) for n, (by, kind, template) in enumerate(said)]
    records[fmt.events_key(noted[0])] = fmt.write_events(noted)
    for one in made:
        records |= one.records()
    for key, data in records.items():
        path = folder / paths.of_key(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return Registry(store, clock=lambda: NOW)


def outcome(act):
    """What was given, or the error and every word of it."""
    try:
        return act()
    except S3regError as e:
        return type(e), str(e), e.detail


def planned(plan):
    return plan.head, plan.entry, plan.version, [(pack, live) for pack, live, _ in plan.packs]


def read(registry, asker, heads):
    """Every answer of the verbs that change nothing."""
    told = {
        "templates": registry.templates(asker),
        "disk": asker.rights and not asker.rights.all_templates and registry.disk(asker),
        "last_pulls": registry.last_pulls(asker, heads).keys(),
        "events": registry.events(asker, Wanted(0, 2 * NOW, 100)),
    }
    verbs = {
        "find": registry.find,
        "version": registry.version,
        "config": registry.config,
        "plan": lambda asker, ref: planned(registry.plan(asker, ref)),
        "describe": lambda asker, ref: replace(registry.describe(asker, ref), last_pulls={}),
        "pulled": lambda asker, ref: registry.pulled(asker, ref, "0" * 32),
    }
    for name, verb in verbs.items():
        for ref in REFS:
            told[name, ref] = outcome(lambda verb=verb, ref=ref: verb(asker, ref))
    return told


def opened(registry, asker, template, bases):
    def act():
        found = registry.open(asker, Opening(template, NAMES[1], "new", bases=bases))
        return found.session.domain, [version.id for version in found.bases], found.dropped, found.chunk_log2

    return outcome(act)


@settings(max_examples=60)
@given(TEMPLATES, RIGHTS, st.sampled_from(IDS))
@example(
    [Made(IDS[0], NAMES[0], "blue", "live", 1, 9), Made(IDS[1], NAMES[0], "green", "live", 1, 7)],
    Rights(domains={"blue": frozenset(Action)}),
    IDS[1],
)
@example(
    [Made(IDS[0], NAMES[0], "blue", "damaged beyond its domain", 1, 9)],
    Rights(domains={"main": frozenset(Action)}),
    IDS[0],
)
def test_every_answer_is_that_of_a_store_without_what_the_asker_may_not_list(made, rights, pushed):
    asker = Identity("key:asker", rights=rights)
    shown = [one for one in made if one.shows_to(rights)]
    bases = tuple(Base(template, f"{number:016x}{0:016x}") for number, template in enumerate(IDS))
    folder = Path(tempfile.mkdtemp())
    try:
        whole, twin = registry_of(folder / "whole", made), registry_of(folder / "twin", shown)
        heads = [replace(head, damaged="") for head in whole.templates(EVERYONE)]
        assert read(whole, asker, heads) == read(twin, asker, heads)

        listed = {head.id for head in whole.templates(asker)}
        assert listed == {one.id for one in shown if one.state not in {"deleted", "junk"}}
        sizes = sum(one.size for one in shown if one.id in listed)
        events = [event for event in whole.events(asker, Wanted(0, 2 * NOW, 100)) if event.by != asker.name]
        if rights is not None and not rights.all_templates:
            assert whole.disk(asker).total - whole.disk(asker).free == sizes
            assert {event.kind for event in events} <= {EventKind.AUDIT}
            assert {event.said["template"] for event in events} == {one.id for one in shown if one.state != "junk"}

        found, expected = (opened(registry, asker, pushed, bases) for registry in (whole, twin))
        if found != expected:
            # All that can be told of it, and only by who could make a template: that none can be made under its id.
            assert found[0] is TemplateIdTaken
            assert expected[0] in DOMAINS
            assert pushed in {one.id for one in made} - {one.id for one in shown}
    finally:
        shutil.rmtree(folder)
