"""Who asks in these tests: identities with the rights that their groups would give them."""

from __future__ import annotations

from s3reg.model.identity import Action, Identity, Rights

ALL = frozenset(Action)


def actions(words: str) -> frozenset[Action]:
    """`list push_tag`, as a group's record names them."""
    return frozenset(map(Action, words.split()))


def guest(name: str = "guest", /, *, templates: dict | None = None, **domains: str) -> Identity:
    """Somebody who may do these things (`list push_tag`) with these templates, and with all of these domains."""
    return Identity(
        name,
        rights=Rights(
            templates={template: actions(words) for template, words in (templates or {}).items()},
            domains={domain.replace("_", "-"): actions(words) for domain, words in domains.items()},
        ),
    )


def tenant(name: str, domain: str) -> Identity:
    """Somebody who may do everything in a domain, and nothing elsewhere."""
    return Identity(name, rights=Rights(domains={domain: ALL}))
