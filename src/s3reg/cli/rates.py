"""Rates as people write them: `--limit-rate 10M` is bytes a second, `80Mbit` what a line is sold as."""

from __future__ import annotations

import re

import click

LEAST = 1000
"""Bytes a second. Below it a single request would outlast every time-out."""
_SPELLED = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([KMG]i?|k)?(B|bit)?(?:/s)?")
_TIMES: dict[str, int] = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def parse(text: str) -> int:
    """The bytes a second that `text` spells. Raises ValueError with what to write instead."""
    found = _SPELLED.fullmatch(text.strip())
    if found is None:
        raise ValueError("write bytes a second like 500K, 10M or 1.5Gi, or bits a second like 80Mbit")
    # Whole numbers all the way: 0.1 has no exact float.
    whole, _, part = found[1].partition(".")
    parts = int("1" + "0" * len(part)) * (8 if found[3] == "bit" else 1)
    rate = int(whole + part) * _TIMES[found[2] or ""] // parts
    if rate < LEAST:
        raise ValueError(f"it is less than {LEAST} bytes a second, with which no transfer would end")
    return rate


def option_value(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """The callback of an option that takes a rate."""
    try:
        return None if value is None else parse(value)
    except ValueError as e:
        raise click.BadParameter(f"{value!r}: {e}", context, parameter) from None
