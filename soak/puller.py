"""A puller: pulls whatever the registry lists, while its pushers remove it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3reg.client.pull import PullOptions
from s3reg.errors import S3regError
from soak.actor import SHARED, Actor
from soak.book import Violation

if TYPE_CHECKING:
    from s3reg import wire

GONE = ("tag-not-found", "template-not-found", "version-not-found")
"""What a pull may say of a version that somebody was about to remove, and of no other."""
_FRESH = 0.2
"""Of all pulls go to a machine that has nothing yet."""


class Puller(Actor):
    """One of them."""

    def turn(self) -> None:
        """Pull one version."""
        found = [(template, version) for template in self.templates() for version in template.versions]
        if found:
            self._pull(*self.chance.choice(found))

    def _pull(self, template: wire.TemplateEntry, version: wire.VersionEntry) -> None:
        # The disks of the shared template's VMs are called as those of their pushers' own.
        shared = template.id == SHARED
        if shared or self.chance.random() < _FRESH:
            self.forget()
        options = PullOptions(tag=version.tag, force=True, shrink=True, durable=self.chance.random() < 0.3)
        try:
            self.pull(template.id, options)
        except S3regError as e:
            self.may_fail("pull", e, *GONE)
            if not shared and not self.book.is_doomed(version.id):
                raise Violation(f"{template.id}:{version.tag} ({version.id}) cannot be pulled, and stands: {e}") from e
        if shared:
            self.forget()
