"""Messages are written as their schemas say, and read back as they were."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3reg import wire
from s3reg.model import names
from s3reg.wire import access, events

SCHEMAS = [
    schema
    for schema in wire.Message.__subclasses__()
    if schema.__module__ in {part.__name__ for part in (wire, access, events)}
]
DIGEST, SID = names.digest("ab" * 32), names.session_id("cd" * 16)


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.makes.__name__)
def test_what_is_written_is_what_the_schema_dumps(schema):
    @given(value=st.from_type(schema.makes))
    def alike(value):
        written = wire.write(value)
        assert written == schema().dump(value)
        assert list(written) == list(schema().dump(value))

    alike()


def test_a_plan_comes_back_as_it_was_written():
    config = wire.FileEntry("config.yaml", "config", 3, DIGEST, inline=b"a: \xff")
    disk = wire.FileEntry("disk", "image", 9, DIGEST, drive=0, map=wire.MapLink(SID, DIGEST, 5, "http://store/m?s=1"))
    plan = wire.PlanAnswer(
        template="00000000-0000-4000-8000-000000000001",
        name="ünïcödé",
        arch="arm64",
        domain="main",
        version="ef" * 16,
        number=0,
        tag='q"uote',
        description="",
        size=9,
        created=1,
        expires=3,
        now=2,
        files=(config, disk),
        packs=(wire.PackLink(SID, DIGEST, 7, 6, "http://store/p?s=2"),),
    )

    again = wire.read(wire.PlanAnswerSchema, json.loads(json.dumps(wire.write(plan))))

    assert (tuple(again.files), tuple(again.packs)) == (plan.files, plan.packs)
    assert (again.name, again.tag, again.expires) == (plan.name, plan.tag, plan.expires)


def test_only_messages_are_written():
    with pytest.raises(TypeError, match="int is no message"):
        wire.write(5)
