"""The native API's description in OpenAPI 3.1, made from its operations and from the messages' schemas."""

from __future__ import annotations

import ast
import functools
import inspect
import re
import sys
from typing import TYPE_CHECKING, Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin

from s3reg import __version__, wire
from s3reg.api import needs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from marshmallow import fields

    from s3reg.api.operations import Operation, Parameter

_ABOUT = """\
Templates of virtual machines, pushed and pulled chunk by chunk. The bytes go between a node and the store, along signed
links that these calls hand out; every call is safe to repeat. Unknown fields of a message are ignored."""
_CREDENTIALS: dict[str, dict[str, str]] = {
    "rootToken": {"type": "http", "scheme": "basic", "description": "User `root` or none; the password is the token."},
    "login": {"type": "http", "scheme": "bearer", "description": "What `/tap/v1/shake` gives an API key, in base64."},
    "certificate": {"type": "mutualTLS", "description": "A client certificate."},
}
"""Any one of these; none where access control is off."""
_ERROR = {
    "type": "object",
    "description": "Any failure. `code` never changes and is for programs; `message` and `remedy` are for people.",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "remedy", "detail"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "remedy": {"type": "string"},
                "detail": {"type": "object"},
            },
        }
    },
}


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    """The whole document, as JSON values."""
    plugin = MarshmallowPlugin(schema_name_resolver=_name)
    nothing: dict[str, list[str]] = {}
    spec = APISpec(
        "s3reg: the native API",
        __version__,
        "3.1.0",
        plugins=[plugin],
        info={"description": _ABOUT},
        security=[nothing, *({name: []} for name in _CREDENTIALS)],
    )
    converter = plugin.converter
    assert converter is not None
    converter.field_mapping |= {wire.Named: ("string", None), wire.Bytes: ("string", None)}
    converter.add_attribute_function(_of_field)  # type: ignore[no-untyped-call]  # apispec leaves it untyped
    for name, scheme in _CREDENTIALS.items():
        spec.components.security_scheme(name, scheme)
    spec.components.schema("Error", _ERROR)
    for operation in operations:
        path = wire.PREFIX + re.sub(r"<(\w+)>", r"{\1}", operation.path)
        spec.path(path, operations={operation.method.lower(): _operation(operation)})
    itself = {"operationId": "describe_api", "summary": "This document.", "responses": {"200": _answer(None)}}
    spec.path(f"{wire.PREFIX}/openapi.json", operations={"get": itself})
    out = spec.to_dict()
    made = {schema.makes.__name__: schema.makes for schema in wire.Message.__subclasses__()}
    for name, schema in out["components"]["schemas"].items():
        if name in made:
            schema["description"] = inspect.getdoc(made[name])
    return out


def _name(schema: Any) -> str:
    return str(schema.makes.__name__)


def _operation(operation: Operation) -> dict[str, Any]:
    told = inspect.getdoc(operation.view) or ""
    out: dict[str, Any] = {
        "operationId": operation.name,
        "summary": told.partition("\n")[0],
        "parameters": [
            *(_in_path(name) for name in re.findall(r"<(\w+)>", operation.path)),
            *(_in_query(row) for row in operation.query),
        ],
        **_needed(operation),
        "responses": {
            str(operation.status): _answer(operation.gives),
            "default": {
                "description": "Any failure.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
    }
    if operation.takes:
        content = {"application/json": {"schema": operation.takes}}
        out["requestBody"] = {"required": True, "content": content}
    return out


def _needed(operation: Operation) -> dict[str, str]:
    """Which permissions of a group it takes, in words: OpenAPI has no place for them beside a scheme that knows none."""
    told = needs.told(operation.endpoint)
    return {"description": f"Takes {told}."} if told else {}


def _answer(gives: type[wire.Message] | None) -> dict[str, Any]:
    schema: Any = gives or {"type": "object"}
    return {
        "description": _told_of(gives.makes) if gives else "Done.",
        "content": {"application/json": {"schema": schema}},
    }


def _told_of(made: type[Any]) -> str:
    return (inspect.getdoc(made) or made.__name__).partition("\n")[0]


def _in_path(name: str) -> dict[str, Any]:
    schema = {"type": "string", "pattern": "^[0-9a-f]{32}$"}
    return {"name": name, "in": "path", "required": True, "description": "The session's id.", "schema": schema}


def _in_query(row: Parameter) -> dict[str, Any]:
    schema = {"type": "integer", "minimum": 0} if row.whole else {"type": "string"}
    return {"name": row.name, "in": "query", "required": row.required, "description": row.meaning, "schema": schema}


def _of_field(self: Any, field: fields.Field[Any], **_: Any) -> dict[str, Any]:  # noqa: ARG001 - apispec's signature
    """What apispec cannot see: base64, and what the value's class says of the field."""
    out: dict[str, Any] = {}
    if isinstance(field, wire.Bytes):
        out["contentEncoding"] = "base64"
    parent = getattr(field, "parent", None)
    told = _field_docs().get((parent.makes.__name__, field.name or "")) if isinstance(parent, wire.Message) else None
    if not told and isinstance(field, wire.Named):
        told = (inspect.getdoc(field.parse) or "").partition("\n")[0].replace("`text` as ", "")
        told = told[:1].upper() + told[1:]
    if told:
        out["description"] = told
    return out


@functools.cache
def _field_docs() -> dict[tuple[str, str], str]:
    """(class, field) → the text under the field in `wire/`, so that what is said there need not be said twice."""
    found = {}
    modules = {schema.__module__: sys.modules[schema.__module__] for schema in wire.Message.__subclasses__()}
    for made in (made for module in modules.values() for made in ast.parse(inspect.getsource(module)).body):
        if isinstance(made, ast.ClassDef):
            for line, after in zip(made.body, made.body[1:], strict=False):
                match line, after:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                        found[made.name, name] = inspect.cleandoc(text)
    return found
