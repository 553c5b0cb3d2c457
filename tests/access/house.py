"""A closed registry with three templates, put back as it was before each call, and credentials of every sort."""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import itertools
import time
from typing import TYPE_CHECKING, Any

from access_kit import Closed
from kept import ON_THE_SIDE, Kept
from pki import Authority
from push_calls import Layer, Push
from s3reg.model import format as fmt
from s3reg.model import names
from s3reg.model.access import PERMISSIONS
from s3reg.model.identity import Action, Identity
from s3reg.registry import Opening
from s3reg.store.files import FilesStore

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from access_kit import Headers

OPEN, OTHER, FAR = (f"{digit * 8}-aaaa-4bbb-8ccc-00000000000{digit}" for digit in "123")
"""Two templates in the domain `main`, one in `far`."""
NAMES = {OPEN: "13.1-base", OTHER: "11.6", FAR: "far-away"}
SIZES = {OPEN: 3000, OTHER: 500, FAR: 70}
DOMAINS = {OPEN: "main", OTHER: "main", FAR: "far"}
ALL = frozenset(PERMISSIONS)
EVERY_ACTION = tuple(action.value for action in Action)


class Clock:
    """The time, and what a test adds to it."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Noting(FilesStore):
    """A store that notes what is written and removed, but for what goes beside."""

    def __init__(self, root: Path) -> None:
        self.changed: list[str] = []
        super().__init__(root)

    def _note(self, *keys: str) -> None:
        self.changed += [key for key in keys if not key.startswith(ON_THE_SIDE)]

    def put(self, key: str, *more: Any, **options: Any) -> str:
        self._note(key)
        return super().put(key, *more, **options)

    def receive(self, key: str, *more: Any, **options: Any) -> str:
        self._note(key)
        return super().receive(key, *more, **options)

    def delete(self, keys: Iterable[str]) -> None:
        all_of_them = list(keys)
        self._note(*all_of_them)
        super().delete(all_of_them)


class House:
    """The registry, root's client, and what lies there."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.clock = Clock()
        self._numbers = itertools.count()
        self._kept: Kept | None = None
        self.store = Noting(folder / "store")
        self.closed = Closed(folder / "store", store=self.store, clock=self.clock, authority=Authority(), **settings)
        root = self.closed.client(self.closed.root)
        for template in (OPEN, OTHER, FAR):
            layers = [Layer(f"{template[0] * 32}.ank", template[0].encode() * SIZES[template])]
            for tag in ("a", "b"):
                push = Push([root], template=template, name=NAMES[template], tag=tag, layers=layers)
                push.open(domain=DOMAINS[template])
                done = push.commit()
                root.post("/transfer/v1/pulls", json={"template": template, "version": done["version"]})
                if template == OPEN:
                    self.newest = done["version"]
        self.removed = self._remove(root)
        self.closed.group("victims", "list_vms", templates={})
        self.closed.make("victim", ["victims"])
        self.keep()

    def _remove(self, root: Any) -> str:
        """The id of a version of `OPEN` that was pushed and removed again."""
        push = Push([root], template=OPEN, name=NAMES[OPEN], tag="gone", layers=[])
        push.open(domain=DOMAINS[OPEN])
        done = push.commit()
        root.post("/transfer/v1/revert", json={"operation": "9" * 32, "template": OPEN, "tag": "gone"})
        return str(done["version"])

    def keep(self) -> None:
        """From now on, this is how it is before each call."""
        if self._kept is None or not self._kept.unchanged():
            self._kept = Kept(self.store)
        self.store.delete([stat.key for prefix in ON_THE_SIDE for stat in self.store.list(prefix)])
        self.store.changed.clear()

    def begin(self) -> None:
        """Put back what was changed."""
        assert self._kept is not None
        if self.store.changed:
            self._kept.put_back(set(self.store.changed))
            self.store.changed.clear()

    def unchanged(self) -> bool:
        """Whether all is as `begin` left it."""
        assert self._kept is not None
        return self._kept.unchanged()

    # --- What calls are about ---

    def session(self, owner: str) -> str:
        """An open push session of the asker of this name."""
        opening = Opening(names.template_id(OPEN), NAMES[OPEN], "new")
        return self.registry.open(Identity(owner), opening).session.id

    @property
    def registry(self):
        """The verbs themselves: for what a test needs beforehand, whoever may do it."""
        return self.closed.app.extensions["s3reg"].registry()

    def link(self) -> str:
        """A link that reads an object."""
        self.registry  # noqa: B018 - links are signed once it is ready
        return self.store.sign_get(fmt.FORMAT_KEY, seconds=60).url

    def upload_link(self, sid: str, data: bytes) -> str:
        """A link that uploads these bytes as a pack."""
        digest = names.digest(hashlib.sha256(data).hexdigest())
        (link,) = self.registry.sign_uploads(self._owner(sid), names.session_id(sid), [("pack", digest, len(data))])
        return link.url

    def _owner(self, sid: str) -> Identity:
        found = fmt.read_session(self.store.get(fmt.session_key(sid)).data, sid)
        return Identity(found.owner)

    # --- Who asks ---

    @functools.cache  # noqa: B019 - a house lives as long as the tests that ask it
    def group(
        self,
        permissions: frozenset[str],
        templates: tuple[tuple[str, tuple[str, ...]], ...] | None = None,
        domains: tuple[tuple[str, tuple[str, ...]], ...] = (),
    ) -> str:
        """The name of a group that gives exactly this."""
        made = None if templates is None else dict(templates)
        return self.closed.group(self._fresh("g"), *permissions, templates=made, domains=dict(domains))

    @functools.cache  # noqa: B019
    def key(self, *groups: str) -> tuple[Headers, str]:
        """An API key of these groups that has logged in: headers, and the asker's name."""
        key_id = self._fresh("k")
        return self.closed.key(key_id, groups), f"key:{key_id}"

    @functools.cache  # noqa: B019
    def certificate(self, *groups: str) -> tuple[Headers, str]:
        """A certificate of these groups, through the proxy."""
        name = self._fresh("c")
        return self.closed.certificate(name, groups), f"cert:{name}"

    @functools.cached_property
    def expired(self) -> tuple[Headers, str]:
        """A key that has ended, and its login, which would have lived on."""
        headers = self.closed.key("expired", [self.group(ALL)], ttl=60)
        self.clock.ahead += 61
        return headers, "key:expired"

    @functools.cached_property
    def revoked(self) -> tuple[Headers, str]:
        """A key that was revoked, and its login."""
        headers = self.closed.key("revoked", [self.group(ALL)])
        self.closed.gate.keys.delete("revoked")
        return headers, "key:revoked"

    def stranger(self) -> str:
        """An address from which nobody has asked yet."""
        return str(ipaddress.ip_address("10.0.0.0") + next(self._numbers))

    def _fresh(self, letter: str) -> str:
        return f"{letter}{next(self._numbers)}"
