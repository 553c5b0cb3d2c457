"""What an operation of the native API is, said once: the route, the checks and the OpenAPI document all follow from it."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flask import Response, request
from werkzeug.exceptions import HTTPException

from s3reg import wire
from s3reg.api import audit, render
from s3reg.errors import RequestInvalid, RequestTooLarge

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Blueprint

MOST_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the query, text or a whole number."""

    name: str
    meaning: str
    required: bool = False
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path under `wire.PREFIX`."""

    method: str
    path: str
    """As Flask spells it: `/sessions/<sid>`."""
    view: Callable[..., object]
    """Gives the message, or a response that holds it."""
    takes: type[wire.Message] | None
    gives: type[wire.Message] | None
    """None: an empty object."""
    status: int
    query: tuple[Parameter, ...]
    blueprint: str

    @property
    def name(self) -> str:
        """Unique among the operations."""
        return self.view.__name__

    @property
    def endpoint(self) -> str:
        """As Flask calls its route."""
        return f"{self.blueprint}.{self.name}"


class Operations(list[Operation]):
    """The operations of one blueprint, as their decorator collects them."""

    def __init__(self, blueprint: Blueprint) -> None:
        self._blueprint = blueprint
        super().__init__()

    def add(
        self,
        method: str,
        path: str,
        *,
        takes: type[wire.Message] | None = None,
        gives: type[wire.Message] | None = None,
        status: int = 200,
        query: tuple[Parameter, ...] = (),
    ) -> Callable[[Callable[..., object]], Callable[..., object]]:
        """A decorator: the view is called with the path's and the query's parameters by name, and the message as `asked`."""

        def collect(view: Callable[..., object]) -> Callable[..., object]:
            self.append(Operation(method, path, view, takes, gives, status, query, self._blueprint.name))
            return view

        return collect

    def route(self) -> None:
        """Make each of them a route."""
        for operation in self:
            view = functools.partial(_run, operation)
            self._blueprint.add_url_rule(operation.path, operation.name, view, methods=[operation.method])


def _run(operation: Operation, **given: str) -> Response:
    arguments: dict[str, Any] = {**given, **{row.name: _parameter(row) for row in operation.query}}
    if operation.takes:
        arguments["asked"] = wire.read(operation.takes, body())
        audit.about_message(arguments["asked"])
    audit.about(session=given.get("sid"))
    value = operation.view(**arguments)
    audit.about_message(value)
    if isinstance(value, Response):
        return value
    return render.native({} if value is None else wire.write(value), operation.status)


def body(*, once: bool = False) -> object:
    """The request's body as JSON values, whatever its Content-Type says. Raises RequestInvalid, RequestTooLarge.

    `once`: a name that comes twice in one object is refused; else the last one counts.
    """
    data = received()
    if len(data) > wire.LARGEST_BODY:
        raise RequestTooLarge(limit=wire.LARGEST_BODY)
    try:
        return json.loads(data, parse_constant=_no_number, object_pairs_hook=_distinct if once else None)
    except (ValueError, RecursionError) as e:
        told = "it is nested too deeply" if isinstance(e, RecursionError) else "its body is not JSON in UTF-8"
        raise RequestInvalid(reason=told, problems={}) from e


def received() -> bytes:
    """The request's body, whole. Raises RequestInvalid.

    What is left of one whose line broke would say something else: a revert without its tag takes the newest version.
    """
    length = request.headers.get("Content-Length") or "0"
    if not (length.isascii() and length.isdigit()):
        raise _cut()  # for the library it would be no body
    try:
        data = request.get_data()
    except HTTPException:
        raise
    except Exception as e:  # each server has errors of its own for chunks that are none, or lack
        raise _cut() from e
    if len(data) < (request.content_length or 0):
        raise _cut()
    return data


def wrong(name: str, problem: str) -> RequestInvalid:
    """One value of the request is what it may not be."""
    return RequestInvalid(reason=f"{name}: {problem}", problems={name: [problem]})


def _cut() -> RequestInvalid:
    return RequestInvalid(reason="its body did not come as its headers say", problems={})


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name comes twice")
    return found


def _no_number(text: str) -> object:
    raise ValueError(f"{text} is no JSON")  # RFC 8259 §6; Python would take it


def _parameter(row: Parameter) -> str | int | None:
    text = request.args.get(row.name)
    if not text:
        if row.required:
            raise RequestInvalid(reason=f"{row.name}: missing in the query", problems={row.name: ["missing"]})
        return None
    if not row.whole:
        return text
    if not (text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS):
        raise wrong(row.name, "not a whole number")
    return int(text)
