"""Who may import whom, and where each library may be used. The two tables are the architecture; these tests keep them true.

Read by syntax, not by importing: relative imports, imports inside functions and those for the type checker count too.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "s3reg"
MODULES = sorted(path.relative_to(SRC).as_posix() for path in SRC.rglob("*.py"))

ANYTHING = {"*"}
MAY_IMPORT = {  # part of s3reg -> parts that it may import, besides itself
    "__init__": set(),
    "errors": set(),
    "crypto": {"errors"},
    "telemetry": {"errors"},
    "settings": {"errors"},
    "configfile": {"settings", "errors"},
    "configuration": {"configfile", "settings", "telemetry", "errors"},
    "model": {"errors"},
    "wire": {"model", "errors"},
    "store": {"crypto", "telemetry", "errors"},
    "auth": {"store", "model", "crypto", "telemetry", "errors"},
    "registry": {"store", "model", "crypto", "telemetry", "errors"},
    "api": {"registry", "auth", "store", "wire", "model", "crypto", "telemetry", "settings", "errors"},
    "client": {"wire", "model", "crypto", "errors"},
    "agent": {"client", "wire", "model", "settings", "telemetry", "errors"},
    "cli": ANYTHING,
}
ONLY_IN = {  # library -> where it may be imported; one that is not here may be imported nowhere
    "flask": ("api/",),
    "werkzeug": ("api/",),
    "apispec": ("api/",),
    "gunicorn": ("cli/",),
    "prometheus_client": ("api/metrics.py",),
    "boto3": ("store/s3_line.py", "auth/awstoken.py"),
    "botocore": (
        *("store/s3.py", "store/s3_line.py", "store/s3_failures.py", "store/credential_process.py"),
        "auth/awstoken.py",
    ),
    "urllib3": ("client/", "store/s3", "store/check.py"),
    "marshmallow": ("wire/", "api/"),
    "yaml": ("configfile.py", "model/config.py", "client/"),
    "zstandard": ("model/", "client/"),
    "cryptography": ("crypto.py", "auth/certificates.py", "auth/chain.py", "auth/revocation.py"),
    "click": ("cli/",),
    "rich": ("cli/", "client/progress.py"),
    "opentelemetry": ("api/spans.py",),
}
SAY_NOTHING = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc", "base", "core"}
NOT_ON_A_NODE = {"flask", "werkzeug", "boto3", "botocore", "gunicorn", "apispec", "prometheus_client"}


def imports(source: str, where: str) -> set[str]:
    """Every module that `source`, lying at `where` below s3reg, imports: absolute names, wherever in the file."""
    package = ["s3reg", *where.split("/")[:-1]]
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in {"import_module", "__import__"}:
            found |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)} or {"<computed>"}
    return found


def violations(source: str, where: str) -> list[str]:
    """What `source` at `where` imports and may not."""
    here = where.partition("/")[0].removesuffix(".py")
    found = []
    for name in sorted(imports(source, where)):
        top, _, rest = name.partition(".")
        if top == "s3reg":
            there = rest.split(".")[0]
            allowed = MAY_IMPORT[here] | {here, "__version__"}
            if there not in allowed and allowed & ANYTHING == set():
                found.append(f"{where} imports {name}")
        elif top not in sys.stdlib_module_names and not where.startswith(ONLY_IN.get(top, ())):
            found.append(f"{where} imports {name}")
    return found


@pytest.mark.parametrize("where", MODULES)
def test_imports_point_inward_and_libraries_stay_where_they_belong(where):
    assert violations((SRC / where).read_text(), where) == []


@pytest.mark.parametrize("where", MODULES)
def test_a_module_is_named_for_what_it_is(where):
    assert not SAY_NOTHING & {part.removesuffix(".py") for part in where.split("/")}


def test_every_part_of_the_tree_is_in_the_table():
    assert {where.partition("/")[0].removesuffix(".py") for where in MODULES} <= set(MAY_IMPORT)


@pytest.mark.parametrize(
    ("where", "source"),
    [
        ("store/files.py", "from s3reg.model import names"),
        ("store/files.py", "from s3reg import registry"),
        ("store/files.py", "import s3reg.model.names"),
        ("store/files.py", "from ..model import names"),
        ("store/files.py", "from .. import model"),
        ("registry/push.py", "from ..api.render import answer"),
        ("registry/push.py", "def f():\n    import flask"),
        ("registry/push.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from s3reg.wire import Message"),
        ("registry/push.py", "try:\n    from s3reg.client import push\nexcept ImportError:\n    pass"),
        ("client/push.py", "import importlib\nimportlib.import_module('boto3')"),
        ("client/push.py", "__import__('s3reg.registry')"),
        ("client/push.py", "from importlib import import_module\nimport_module(name)"),
        ("client/push.py", "from rich.console import Console"),
        ("store/signing.py", "import boto3"),
        ("model/maps.py", "import requests"),
        ("errors.py", "from s3reg import settings"),
        ("wire/access.py", "from s3reg.registry.push import Opening"),
    ],
)
def test_a_planted_violation_is_caught(where, source):
    assert len(violations(source, where)) == 1


@pytest.mark.parametrize(
    ("where", "source"),
    [
        ("store/s3_line.py", "import boto3, urllib3, json\nfrom s3reg.errors import Invalid\nfrom . import check_key"),
        ("client/push.py", "from s3reg import __version__, wire\nfrom s3reg.client.library import Library"),
        ("cli/node.py", "import click\nfrom s3reg.registry import Registry\nfrom s3reg.api import create_app"),
    ],
)
def test_what_is_allowed_is_not_called_a_violation(where, source):
    assert violations(source, where) == []


def test_a_node_runs_without_what_only_a_registry_needs():
    program = f"import sys, s3reg.cli.main; sys.exit(', '.join({NOT_ON_A_NODE!r} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
