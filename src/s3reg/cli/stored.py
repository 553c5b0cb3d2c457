"""What a shell may complete a word to where a command works on a store itself: soon or silently not, as in candidates.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3reg.api.wiring import registry_over
from s3reg.cli import flags
from s3reg.cli.candidates import fitting, soon
from s3reg.model import format as fmt
from s3reg.model.identity import EVERYONE

if TYPE_CHECKING:
    import click

    from s3reg.settings import Settings


def templates(context: click.Context, parameter: click.Parameter, word: str) -> list[str]:
    """The names of the templates that the store holds."""
    del parameter

    def find() -> list[str]:
        read = _read(context)
        registry = registry_over(flags.existing_store(read), read)
        return fitting(word, (head.name for head in registry.templates(EVERYONE)))

    return soon(find)


def lost(context: click.Context, parameter: click.Parameter, word: str) -> list[str]:
    """The ids of the templates that have versions, and neither a head nor a push under way that made them."""
    del parameter

    def find() -> list[str]:
        store = flags.existing_store(_read(context))
        versions = [stat.key.split("/") for stat in store.list(fmt.VERSIONS) if fmt.is_swept_key(stat.key)]
        pushed = {stat.key for stat in store.list(fmt.SESSIONS)}
        heads = {stat.key for stat in store.list(fmt.HEADS)}
        ended = [template for _, template, rest in versions if f"{fmt.SESSIONS}{rest}" not in pushed]
        return fitting(word, (template for template in ended if f"{fmt.HEADS}{template}.json" not in heads))

    return soon(find)


def _read(context: click.Context) -> Settings:
    """The settings that the command line names so far. Raises SettingInvalid."""
    # Where the word is an option's, click was in the midst of that and knows the store as a word only.
    url = context.params.get("url") or next(iter(context.args), None)
    told = {name: text for name, text in context.params.items() if name.startswith(("store", "s3_", "config"))}
    return flags.read(told, url, quietly=True)
