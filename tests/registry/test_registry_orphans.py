"""What reverts, deletions and forced pushes leave is all named: in `versions[]`, or in `removed[]` for the sweep to find."""

import random

from registry.material import BASE, OTHER, change_head, check_sound, heads, needed_by, sessions, swept
from s3reg.errors import TemplateNotFound
from s3reg.model import format as fmt

BYTES = (fmt.PACKS, fmt.MAPS, fmt.VERSIONS)


def lying(store):
    """The keys of everything that versions are made of."""
    return {stat.key for prefix in BYTES for stat in store.list(prefix)}


def named(store):
    """Those of them that a head's versions need, removed or not."""
    rows = [(head.id, entry.id) for head in heads(store) for entry in (*head.versions, *head.removed)]
    return set().union(*(needed_by(store, *row) for row in rows))


def play(node, registry, turns):
    """Pushes, forced ones, reverts and deletions of two templates, by a seed."""
    dice = random.Random(12)
    for turn in range(turns):
        template = dice.choice([BASE, OTHER])
        act = dice.choice(["push", "push", "force", "revert", "delete"])
        try:
            if act in {"push", "force"}:
                tag = f"v{turn}" if act == "push" else "v0"
                words = [f"{turn}", dice.choice("abc")]
                node.push(template, tag, words, name=template, force=act == "force")
            elif act == "revert":
                registry.revert(node.asker, template, tag=None, number=None, operation=f"{turn:032x}")
            else:
                registry.delete(node.asker, template, operation=f"{turn:032x}")
        except TemplateNotFound:
            assert act in {"revert", "delete"}


def test_s12_reverts_and_deletions_leave_nothing_that_nobody_names(node, registry, store):
    play(node, registry, 40)
    assert any(head.removed for head in heads(store))
    assert sessions(store) == []
    assert lying(store) == named(store)
    check_sound(store)


def test_s12_once_removed_lets_go_a_sweep_leaves_what_is_listed_and_nothing_else(node, registry, store):
    play(node, registry, 40)
    before = lying(store)
    for head in heads(store):
        change_head(store, head.id, removed=())
    swept(store)
    assert any(head.versions for head in heads(store))
    assert lying(store) == named(store) < before
    check_sound(store)
