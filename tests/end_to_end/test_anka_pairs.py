"""Requests of Anka's clients with the answers that they expect, replayed over HTTP: the files of tests/anka/*.yaml.

A file is a story on an empty registry; `closed`: one with access control, as root. `templates` names ids; `$name` stands
for one in all that follows. Each step is

    push, pulled    what a node does: push a version, report a pull; expects nothing
    ask             a request: method and target, byte for byte; with
      as              `nobody`: without a credential
      send, type      its body, a text or values that become JSON, and its Content-Type; default: what curl -d says
      status          expected of the answer, 200 by default
      ok, fail        the body or the message that its envelope holds, all of it and nothing else
      answer          or the whole answer, where the envelope is another
      part            or what the body holds among other things
    tags            the tags of templates, as they are listed; null: the template is not there

and expected values may be what tests/answers.py calls wild.
"""

import contextlib
import http.client
import itertools
import json
import random
import string
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

import running
import servers
import sites
from access_kit import Closed
from answers import differences
from push_calls import Layer, Push
from s3reg.api import create_app
from s3reg.settings import Settings

STORIES = {path.stem: yaml.safe_load(path.read_text()) for path in (Path(__file__).parents[1] / "anka").glob("*.yaml")}
OPEN = sorted(name for name, story in STORIES.items() if not story.get("closed"))
FORM = "application/x-www-form-urlencoded"


@dataclass
class Answered:
    status_code: int
    text: str

    @property
    def json(self):
        return json.loads(self.text)


@dataclass
class Client:
    """Sends what it is told to, at whatever host; pushes as a node does."""

    url: str
    credential: dict[str, str] = field(default_factory=dict, repr=False)

    def open(self, target, *, method, json=None):  # as `push_calls` calls it
        return self.send(method, target, None if json is None else dumped(json), {"Content-Type": "application/json"})

    def put(self, url, *, data, headers):
        parts = urlsplit(url)
        return self.send("PUT", url[url.index(parts.path) :], data, headers, at=url if parts.netloc else self.url)

    def send(self, method, target, body, headers, at=None):
        parts = urlsplit(at or self.url)
        with contextlib.closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)) as line:
            line.request(method, target, body, {**self.credential, **headers})
            answer = line.getresponse()
            return Answered(answer.status, answer.read().decode())


def dumped(value):
    return json.dumps(value).encode()


@pytest.fixture(scope="module", params=["directory", "minio", "started"])
def url(request, tmp_path_factory):
    """Registries over both stores in this process, and one of its own."""
    folder = tmp_path_factory.mktemp("registry")
    with contextlib.ExitStack() as stack:
        if request.param == "directory":
            yield stack.enter_context(sites.address(folder / "store"))
        elif request.param == "started":
            yield stack.enter_context(running.serving(folder, "--store", folder / "store", "--workers", "1")).url
        else:
            server = request.getfixturevalue("minio")
            bucket = stack.enter_context(servers.buckets())(server)
            app = create_app(Settings(store=f"s3://{bucket}/reg", s3_endpoint=server.endpoint))
            yield stack.enter_context(sites.serving(app))


@pytest.fixture
def client(url):
    """Its registry is left empty."""
    client = Client(url)
    yield client
    for template in itertools.chain(*client.open("/registry/vm", method="GET").json["body"]):
        client.open(f"/registry/vm?id={template}", method="DELETE")


def _layer(name, size, role="image", parent=None, drive=0):
    data = random.Random(name).randbytes(size)
    return Layer(name, data, parent, drive if role == "image" else None, role)


def pushed(client, step, templates):
    layers = [_layer(**one) for one in step["layers"]]
    push = Push([client], step["tag"], templates[step["template"]], step["name"], layers)
    if "config" in step:
        push.config = yaml.safe_dump(step["config"]).encode()
    push.open(arch=step.get("arch", ""))
    push.commit(description=step.get("description", ""), arch=step.get("arch", ""))


def pull_reported(client, step, templates):
    found = client.open(f"/transfer/v1/plan?ref={templates[step['template']]}&tag={step['tag']}", method="GET").json
    told = {"template": found["template"], "version": found["version"]}
    assert client.open("/transfer/v1/pulls", method="POST", json=told).status_code == 200


def asked(client, step):
    body = step.get("send")
    kind = step.get("type", FORM if body is not None else "")
    method, _, target = step["ask"].partition(" ")
    if step.get("as") == "nobody":
        client = Client(client.url)
    sent = body.encode() if isinstance(body, str) else None if body is None else dumped(body)
    answer = client.send(method, target, sent, {"Content-Type": kind} if kind else {})
    assert answer.status_code == step.get("status", 200), answer.text
    if "fail" in step:
        return differences({"status": "FAIL", "message": step["fail"]}, answer.json)
    if "answer" in step:
        return differences(step["answer"], answer.json)
    if "part" in step:
        return differences({"status": "OK", "body": step["part"]}, answer.json, part=True)
    if "ok" in step:
        return differences({"status": "OK", "body": step["ok"], "message": ""}, answer.json)
    return []


def tags_listed(client, wanted, templates):
    found = {}
    for name in wanted:
        answer = client.open(f"/registry/v2/vm?id={templates[name]}", method="GET")
        there = answer.status_code == 200
        found[name] = [version["tag"] for version in answer.json["body"]["versions"]] if there else None
    return differences(wanted, found)


def filled(value, templates):
    """The value with ids for `$name`."""
    if isinstance(value, dict):
        return {filled(name, templates): filled(inner, templates) for name, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, templates) for inner in value]
    return string.Template(value).safe_substitute(templates) if isinstance(value, str) else value


def told(client, name):
    templates = STORIES[name]["templates"]
    for number, step in enumerate(filled(STORIES[name]["steps"], templates), 1):
        if "push" in step:
            pushed(client, step["push"], templates)
        elif "pulled" in step:
            pull_reported(client, step["pulled"], templates)
        else:
            wrong = asked(client, step) if "ask" in step else tags_listed(client, step["tags"], templates)
            assert not wrong, f"step {number} of {name}, {step.get('ask', 'tags')}:\n" + "\n".join(wrong)


@pytest.mark.parametrize("name", OPEN)
def test_clients_of_anka_are_answered_as_they_expect(client, name):
    told(client, name)


@pytest.mark.parametrize("name", sorted(STORIES))
def test_with_access_control_they_are_answered_the_same(tmp_path, name):
    closed = Closed(tmp_path / "store", authorization=True)
    with sites.serving(closed.app) as url:
        told(Client(url, closed.root), name)
