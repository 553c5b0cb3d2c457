"""Every verb of the registry, asked by whoever may do nothing, see, see and do, by each kind of rule.

To whoever may not list the template, every verb answers as where there never was one, in what state it ever be.
"""

import inspect
import itertools
import shutil
from dataclasses import dataclass, replace

import pytest

from registry.askers import ALL, guest
from registry.material import BASE, OTHER, Pusher
from s3reg.errors import Forbidden, S3regError, TemplateIdTaken
from s3reg.model import format as fmt
from s3reg.model.identity import EVERYONE, Action, Identity, Rights
from s3reg.model.template import Base
from s3reg.registry import Opening, Proposal, Registry, Wanted
from s3reg.store.files import FilesStore

TEAM = "team"
OPERATION = "1" * 32
VERSION = "2" * 32
NAME = "sequoia"


@dataclass
class Place:
    """A store with, or without, a template of the domain `team`, and a session of the guest to push to it."""

    registry: Registry
    store: FilesStore
    session: str = ""
    vid: str = VERSION
    gone: str = VERSION
    """A version that was removed."""

    def files(self):
        found = self.registry.session(Identity("guest"), self.session)
        return Pusher(self.registry, self.store).files(found, ("c",))


def opened(path):
    store = FilesStore(path, secret=bytes(32))
    return Place(Registry(store, clock=lambda: 1_000_000), store)


def make(path, state):
    """A store in which the template came to this; and whoever was to push to it has a session."""
    made = opened(path)
    made.registry.prepare()
    if state != NOTHING:
        made.gone = Pusher(made.registry, made.store).push(BASE, "v0", domain=TEAM).entry.id
        made.registry.revert(EVERYONE, BASE, operation="4" * 32)
        made.vid = Pusher(made.registry, made.store).push(BASE, "v1", domain=TEAM).entry.id
    owner = Identity("guest", rights=Rights(domains={TEAM: ALL}))
    made.session = made.registry.open(owner, Opening(BASE, NAME, "v2", domain=TEAM)).session.id
    STATES[state](made)
    return made


def damage(made, data):
    made.store.put(fmt.head_key(BASE), data)


def half(made):
    """Its entries are lost, its domain is not."""
    return made.store.get(fmt.head_key(BASE)).data.replace(b'"versions"', b'"verses"')


NOTHING, LIVE = "nothing", "live"
STATES = {
    NOTHING: lambda _: None,
    LIVE: lambda _: None,
    "deleted": lambda made: made.registry.delete(EVERYONE, BASE, operation="3" * 32),
    "damaged": lambda made: damage(made, b"{"),
    "damaged, but for its domain": lambda made: damage(made, half(made)),
    "of another release": lambda made: damage(made, b'{"v":9}'),
}


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    """A store of each state, made once: what is written to a store is written durably, and that takes its time."""
    folder = tmp_path_factory.mktemp("states")
    return {state: (folder / state, make(folder / state, state)) for state in STATES}


@pytest.fixture
def place(made_once, tmp_path):
    """A store in which the template is in this state."""
    numbers = itertools.count()

    def copied(state):
        folder, made = made_once[state]
        copy = tmp_path / str(next(numbers))
        shutil.copytree(folder, copy)
        return replace(opened(copy), session=made.session, vid=made.vid, gone=made.gone)

    return copied


@dataclass(frozen=True)
class Verb:
    """How a verb is called for the template (`ref`: its id or name), and what it needs besides list."""

    call: object
    needs: Action | None = None


def careless(made):
    """Heads that the caller looked up with somebody else's rights."""
    return [replace(head, damaged="") for head in made.registry.templates(EVERYONE)]


def events(made, who):
    """What the asker is shown of what somebody did with the template."""
    made.registry.note("key:another", {"template": BASE, "name": NAME, "deed": "push"})
    made.registry.finish(60)
    return [event.said for event in made.registry.events(who, Wanted(0, 2_000_000, 10))]


VERBS = {
    "disk": Verb(lambda it, who, _: it.registry.disk(who)),
    "event": Verb(lambda it, who, _: it.registry.event(who, {"content": "x"})),
    "events": Verb(lambda it, who, _: events(it, who)),
    "templates": Verb(lambda it, who, _: it.registry.templates(who)),
    "find": Verb(lambda it, who, ref: it.registry.find(who, ref)),
    "describe": Verb(lambda it, who, ref: it.registry.describe(who, ref)),
    "version": Verb(lambda it, who, ref: it.registry.version(who, ref)),
    "config": Verb(lambda it, who, ref: it.registry.config(who, ref), Action.READ_CONFIG),
    "last_pulls": Verb(lambda it, who, _: it.registry.last_pulls(who, careless(it))),
    "open": Verb(lambda it, who, _: it.registry.open(who, Opening(BASE, NAME, "v3")).session.domain, Action.PUSH),
    "add_bases": Verb(
        lambda it, who, _: it.registry.add_bases(who, it.session, [Base(BASE, VERSION)]).dropped, Action.PUSH
    ),
    "session": Verb(lambda it, who, _: it.registry.session(who, it.session).state),
    "sign_uploads": Verb(
        lambda it, who, _: len(it.registry.sign_uploads(who, it.session, [("pack", "a" * 64, 9)])), Action.PUSH
    ),
    "commit": Verb(
        lambda it, who, _: it.registry.commit(who, it.session, Proposal("v2", NAME, it.files())).entry.tag, Action.PUSH
    ),
    "abort": Verb(lambda it, who, _: it.registry.abort(who, it.session)),
    "revert": Verb(
        lambda it, who, ref: it.registry.revert(who, ref, operation=OPERATION).removed, Action.DELETE_REVERT
    ),
    "delete": Verb(
        lambda it, who, ref: it.registry.delete(who, ref, operation=OPERATION).removed, Action.DELETE_REVERT
    ),
    "untag": Verb(
        lambda it, who, ref: it.registry.untag(who, ref, tag="v1", operation=OPERATION).removed, Action.DELETE_REVERT
    ),
    "retag": Verb(
        lambda it, who, ref: it.registry.retag(who, ref, tag="v1", new="x", operation=OPERATION).name, Action.PUSH
    ),
    "trash": Verb(lambda it, who, ref: len(it.registry.trash(who, ref)), Action.DELETE_REVERT),
    "restore": Verb(
        lambda it, who, _: len(it.registry.restore(who, BASE, versions=[it.gone], operation=OPERATION).restored),
        Action.PUSH,
    ),
    "purge": Verb(lambda it, who, _: len(it.registry.purge(who, BASE, operation=OPERATION)), Action.DELETE_REVERT),
    "sessions": Verb(lambda it, who, _: [one.name for one in it.registry.sessions(who)]),
    "abort_any": Verb(lambda it, who, _: it.registry.abort_any(who, it.session).state),
    "usage": Verb(lambda it, who, ref: len(it.registry.usage(who, ref).templates)),
    "frees": Verb(lambda it, who, _: it.registry.frees(who, [Base(BASE, it.vid)])),
    "uses": Verb(lambda it, who, ref: len(it.registry.uses(who, ref).heads)),
    "rename": Verb(lambda it, who, ref: it.registry.rename(who, ref, name="x", operation=OPERATION).name, Action.PUSH),
    "set_arch": Verb(
        lambda it, who, ref: it.registry.set_arch(who, ref, arch="arm64", operation=OPERATION).arch, Action.SET_ARCH
    ),
    "plan": Verb(lambda it, who, ref: it.registry.plan(who, ref).version.id, Action.PULL),
    "pulled": Verb(lambda it, who, _: it.registry.pulled(who, BASE, it.vid), Action.PULL),
}
OF_NOBODY = {
    "prepare",
    "signing_secret",
    "status",
    "note",
    "finish",
    "sweep",
    "last_sweep",
    "fsck",
    "adopt",
    "note_same",
}
"""These are the process's own; no asker is given to them."""
every_verb = pytest.mark.parametrize("name", VERBS)
needing = [name for name, verb in VERBS.items() if verb.needs]


TELLS_THE_SAME = {
    "events",
    "config",
    "open",
    "session",
    "sign_uploads",
    "commit",
    "abort",
    "retag",
    "trash",
    "restore",
    "purge",
    "rename",
    "set_arch",
    "pulled",
}
"""Of the same template in two stores; what the others give has ids and times in it."""


def words(*actions):
    return " ".join(action.value for action in actions)


def rules(*actions):
    """Askers with these rights, by each kind of rule."""
    return [
        guest(templates={BASE: words(*actions)}),
        guest(team=words(*actions)),
        guest(templates={BASE: words(*actions[:1])}, team=words(*actions[1:])),
        guest(templates={BASE: words(*actions[1:])}, team=words(*actions[:1])),
    ]


def asked(made, name, who, ref=BASE):
    """What came of it: what was given, or the error and every word of it."""
    try:
        return VERBS[name].call(made, who, ref)
    except S3regError as e:
        return type(e), str(e), e.next_step, e.detail


def records(store):
    """Every record of a template: not what a session is, or uploaded, and what is written of who asked."""
    own = (fmt.SESSIONS, fmt.PACKS, fmt.MAPS, fmt.EVENTS)
    return {stat.key: store.get(stat.key).data for stat in store.list("") if not stat.key.startswith(own)}


def test_every_verb_of_the_registry_is_in_the_table():
    verbs = {name: verb for name, verb in vars(Registry).items() if inspect.isfunction(verb) and name[0] != "_"}
    assert VERBS.keys() | OF_NOBODY == verbs.keys()
    for name, verb in verbs.items():
        takes = list(inspect.signature(verb).parameters)
        assert ("asker" in takes) == (name in VERBS), name
        assert name in OF_NOBODY or takes[1] == "asker"


BLIND = [
    guest(),
    guest(templates={OTHER: words(*Action)}, other=words(*Action)),
    guest(templates={BASE: words(*ALL - {Action.LIST})}),
    guest(team=words(*ALL - {Action.LIST})),
]


@every_verb
def test_to_whoever_may_not_list_a_template_it_is_as_if_there_had_never_been_one(place, name):
    asking = [(who, ref) for who in BLIND for ref in (BASE, NAME)]
    nothing = place(NOTHING)
    expected = [asked(nothing, name, who, ref) for who, ref in asking]
    for state in STATES.keys() - {NOTHING}:
        made = place(state)
        before = records(made.store)
        for (who, ref), told in zip(asking, expected, strict=True):
            found = asked(made, name, who, ref)
            if (name, who) == ("open", BLIND[1]):
                # All that can be told, and only by who could make a template: that none can be made under this id.
                assert (told, found[0]) == ("other", TemplateIdTaken)
            else:
                assert found == told, (state, who.rights, ref)
        assert records(made.store) == before


@pytest.mark.parametrize("name", needing)
@pytest.mark.parametrize("who", rules(Action.LIST)[:2], ids=["by template", "by domain"])
def test_whoever_may_only_list_is_refused_by_the_name_of_what_is_missing(place, name, who):
    made = place(LIVE)
    before = records(made.store)
    with pytest.raises(Forbidden) as caught:
        VERBS[name].call(made, who, BASE)
    assert caught.value.detail["permission"] == VERBS[name].needs.value
    assert VERBS[name].needs.value in str(caught.value)
    assert records(made.store) == before


@pytest.mark.parametrize("name", needing)
def test_whoever_may_do_all_else_is_refused_too(place, name):
    others = words(*ALL - {VERBS[name].needs})
    made = place(LIVE)
    with pytest.raises(Forbidden):
        VERBS[name].call(made, guest(templates={BASE: others}, team=others), BASE)


@every_verb
def test_whoever_may_list_and_do_it_gets_what_everyone_gets(place, name):
    """By a rule for the template, for its domain, one for each; for all templates; or because nobody is kept out."""
    needs = VERBS[name].needs
    actions = [Action.LIST, *([needs] if needs else [])]
    everything = Identity("guest", rights=Rights(all_templates=True))
    askers = (Identity("guest"), everything, *rules(*actions))
    found = [VERBS[name].call(place(LIVE), who, BASE) for who in askers]
    if name in TELLS_THE_SAME:
        assert all(one == found[0] for one in found)
