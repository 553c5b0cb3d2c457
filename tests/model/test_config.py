"""Reading a stranger's YAML."""

import json

import pytest

from s3reg.errors import ConfigInvalid
from s3reg.model import config


def test_values_become_what_json_has():
    found = config.parse(
        "c", b"a: 1\nb: [true, null, 1.5, text]\nwhen: 2024-01-02\nat: 2024-01-02T03:04:05Z\nraw: !!binary aGk=\n2: two\n"
        b"2024-01-01: day\nnull: none\ntrue: yes\n"
    )  # fmt: skip

    assert found == {
        "a": 1,
        "b": [True, None, 1.5, "text"],
        "when": "2024-01-02",
        "at": "2024-01-02T03:04:05+00:00",
        "raw": "aGk=",
        "2": "two",
        "2024-01-01": "day",
        "null": "none",
        "true": True,
    }
    json.dumps(found, allow_nan=False).encode()


def test_a_mapping_in_json_or_with_a_byte_order_mark_is_fine():
    assert config.parse("c", b'{"a": {"b": []}}') == {"a": {"b": []}}
    assert config.parse("c", "\ufeffa: ü".encode()) == {"a": "ü"}


def bomb():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    return "\n".join(lines).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"just text",
        b"- a\n- list",
        b"a: 1\n---\nb: 2",
        b"a: [",
        b"a: \x01",
        b"\x80\x81",
        bomb(),
        b"a: &x 1",
        b"<<: *x",
        b"a: " + b"[" * 10_000,
        b"a: {" * 10_000,
        b"- " * 5_000,
        b"? " * 5_000,
        b"a: [" + b"1," * 200_000 + b"]",
        b"a: " + b"9" * 5_000,
        b"a: 0x" + b"f" * 100_000,
        b"a: " + b"1:" * 300_000 + b"1",
        b"a: !!int " + b"'" + b"1:" * 300_000 + b"1'",
        b"a: 0xfffffffffffffffff",
        b"a: .nan",
        b"a: .inf",
        b"a: 2024-99-99",
        b"a: !!int x",
        b"a: !!int ''",
        b"a: !!bool maybe",
        b"a: !!timestamp x",
        b"a: !!set {x}",
        b"a: !!python/object/apply:os.system [true]",
        b'a: "\\ud800"',
        b"? [1, 2]\n: x",
        b"? {a: 1}\n: x",
        b"1: a\n'1': b",
        bytes(100),
        bytes(2 * 1024**2),
    ],
)
def test_what_is_no_configuration_is_refused_in_one_line(data):
    with pytest.raises(ConfigInvalid) as caught:
        config.parse("config.yaml", data)
    assert "config.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_said_quotes_nothing_of_the_configuration():
    for data in (
        b"password: [hunter2",
        b"password: !!int hunter2",
        b"password: !!bool hunter2",
        b"hunter2: 1\nhunter2 : [}",
    ):
        with pytest.raises(ConfigInvalid) as caught:
            config.parse("c", data)
        assert "hunter2" not in str(caught.value)
