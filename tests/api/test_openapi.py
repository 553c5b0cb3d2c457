"""The document describes the routes that there are, and nothing else; and the answers are what it says."""

import re

import openapi_spec_validator
import pytest
from openapi_schema_validator import OAS31Validator

from s3reg import wire
from s3reg.api import access, events, transfer, trash

PREFIX = wire.PREFIX + "/"


@pytest.fixture
def document(http):
    answer = http.get(f"{wire.PREFIX}/openapi.json")
    assert answer.status_code == 200
    return answer.json


def test_the_document_is_valid_openapi_3_1(document):
    assert document["openapi"].startswith("3.1.")
    openapi_spec_validator.validate(document)


def test_every_route_and_method_is_described_and_no_other(app, document):
    routes = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
        if rule.rule.startswith(PREFIX)
    }
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert described == routes
    assert len(routes) == 33


def test_every_operation_says_what_it_takes_gives_and_answers(document):
    for operation in (*transfer.operations, *access.operations, *events.operations, *trash.operations):
        path = wire.PREFIX + operation.path.replace("<sid>", "{sid}")
        told = document["paths"][path][operation.method.lower()]
        assert told["summary"].endswith(".")
        assert set(told["responses"]) == {str(operation.status), "default"}
        assert ("requestBody" in told) == bool(operation.takes)


def test_every_field_of_every_message_is_described(document):
    schemas = document["components"]["schemas"]
    assert {"PlanAnswer", "CommitRequest", "Upload", "PackLink", "Error"} <= set(schemas)
    for name, schema in schemas.items():
        assert schema["description"], name
    assert schemas["PackLink"]["properties"]["live"]["description"] == "Bytes of it that the version uses."
    assert "UUID" in schemas["OpenRequest"]["properties"]["template"]["description"]
    assert schemas["FileEntry"]["properties"]["inline"]["contentEncoding"] == "base64"


def holds(document, operation, answer):
    """Raise unless the answer is what the document says of it."""
    schema = {
        **document["paths"][operation[1]][operation[0]]["responses"][operation[2]]["content"]["application/json"][
            "schema"
        ],
        "components": document["components"],
    }
    OAS31Validator(schema).validate(answer)


def test_answers_are_of_the_described_shape(document, http, push):
    made = push()
    opened = made.open(tag="v2")
    at = f"{wire.PREFIX}/sessions"
    holds(document, ("post", at, "201"), opened)
    holds(document, ("get", f"{at}/{{sid}}", "200"), http.get(f"{at}/{made.sid}").json)
    links = made.call(
        "POST", f"/sessions/{made.sid}/uploads", {"objects": [{"kind": "pack", "sha256": "a" * 64, "size": 9}]}
    )
    holds(document, ("post", f"{at}/{{sid}}/uploads", "200"), links)
    for path, query in (("templates", ""), ("template", "?ref=13.1-base"), ("plan", "?ref=13.1-base&tag=v1")):
        answer = http.get(f"{wire.PREFIX}/{path}{query}")
        assert answer.status_code == 200
        holds(document, ("get", f"{wire.PREFIX}/{path}", "200"), answer.json)
    holds(document, ("get", f"{wire.PREFIX}/template", "default"), http.get(f"{wire.PREFIX}/template?ref=nix").json)
    made.tag = "v2"
    holds(document, ("post", f"{at}/{{sid}}/commit", "200"), made.commit())
    change = {"operation": "1" * 32, "template": made.template}
    for path, more in (("rename", {"name": "new"}), ("revert", {"tag": "v2"})):
        answer = http.post(f"{wire.PREFIX}/{path}", json={**change, **more})
        assert answer.status_code == 200
        holds(document, ("post", f"{wire.PREFIX}/{path}", "200"), answer.json)
        change["operation"] = "2" * 32
