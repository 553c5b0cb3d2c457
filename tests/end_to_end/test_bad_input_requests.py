"""What a registry is asked for and does not have, does not allow or does not believe: through the CLI and over HTTP."""

import json
import shutil
import socket
import uuid
from urllib.parse import urlsplit

import pytest

import machines
import refusals
import running
from lies import LIES
from push_calls import Layer, Push
from refusals import API, anka, native, refused
from registry import material
from registry.material import chunk
from s3reg import wire
from s3reg.model.template import CONFIG_BYTES, SessionState, bytes_digest
from s3reg.store.files import FilesStore
from wires import Proxy

BAD = {"a slash": "a/b", "dots": "..", "NUL": "a\0b", "newline": "a\nb", "300 characters": "x" * 300}
"""No names of templates or files. As a tag, what looks like a path is a tag like any other."""
BAD_TAGS = {kind: name for kind, name in BAD.items() if kind not in {"a slash", "dots"}}
LOOK_UPS = ("pull", "describe", "check-download-size", "list")
each_name = pytest.mark.parametrize("name", BAD.values(), ids=BAD)
each_tag = pytest.mark.parametrize("name", BAD_TAGS.values(), ids=BAD_TAGS)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The directory of the one registry that all this is tried on."""
    return tmp_path_factory.mktemp("bad-requests") / "store"


@pytest.fixture(scope="module")
def registry(store):
    with running.serving(store.parent, "--store", store, "--workers", "1") as registry:
        yield registry


@pytest.fixture(scope="module")
def standing(registry, store):
    return refusals.standing(registry.url, store.parent)


@pytest.fixture
def web(standing, tmp_path):
    """The registry over HTTP. Whatever is tried: the version that was there is listed and pulled as before."""
    yield standing.web
    standing.check(tmp_path)


@pytest.fixture
def vm(baker):
    """A VM that was not pushed yet."""
    return refusals.small(baker.library)


# --- Not there -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nothing", *BAD.values()], ids=["nothing", *BAD])
def test_an_unknown_vm(web, runner, name):
    for path in ("/template", "/plan"):
        native(web.get(API + path, ref=name), 404, "template-not-found")
    for path in ("/registry/vm", "/registry/v2/vm", "/registry/vm/info"):
        assert "not found" in anka(web.get(path, id=name), 400)
    if "\0" in name:
        return  # no program can be given such an argument
    for command in LOOK_UPS if name == "nothing" else LOOK_UPS[:1]:
        told = refused(runner.run(command, name), 3)
        assert told.startswith(f"s3reg: {name[:80]}: not found\n".replace("a\nb", "a b"))
        assert "s3reg list" in told
    assert list((runner.library / "vm_lib").iterdir()) == []


def test_an_unknown_template_to_push_to_or_to_build_on(web, baker, vm):
    for option in ("--remote-vm", "--base"):
        assert "nothing: not found" in refused(baker.run("push", vm.name, "-t", "v1", option, "nothing"), 3)
    unseen(web, vm.id)


@pytest.mark.parametrize("tag", ["v9", *BAD.values()], ids=["v9", *BAD])
def test_an_unknown_tag(web, standing, runner, tag):
    name = standing.machine.name
    native(web.get(f"{API}/plan", ref=name, tag=tag), 404, "tag-not-found")
    assert "versions with tag" in anka(web.get("/registry/vm/info", id=name, tag=tag), 400)
    if "\0" in tag:
        return
    for command in LOOK_UPS[:3] if tag == "v9" else LOOK_UPS[:1]:
        told = refused(runner.run(command, name, "-t", tag), 3)
        assert "no version with tag" in told
        assert f"s3reg describe {name}" in told


def test_an_unknown_version(web, standing, runner):
    name = standing.machine.name
    for command in LOOK_UPS[:3]:
        told = refused(runner.run(command, name, "-v", "9"), 3)
        assert "no version 9" in told
        assert f"s3reg describe {name}" in told
    assert "-1" in refused(runner.run("pull", name, "-v", "-1"), 2)
    native(web.get(f"{API}/plan", ref=name, number=9), 404, "version-not-found")
    native(web.get(f"{API}/plan", ref=name, number="9; DROP"), 400, "request-invalid")
    anka(web.get("/registry/vm/info", id=name, version=9), 400)


def test_a_vm_that_the_library_does_not_have(web, baker, vm):
    told = refused(baker.run("push", "nothing", "-t", "v1"), 3)
    assert "nothing: not found\n" in told
    assert f"the library {baker.library} has no VM of this name" in told
    refused(baker.run("export", "nothing", baker.library / "out"), 3)
    assert not (baker.library / "out").exists()


def unseen(web, template):
    """Nothing of a refused push shows in any listing."""
    native(web.get(f"{API}/template", ref=template), 404, "template-not-found")
    assert template not in web.get("/registry/v2/vm").text + web.get(f"{API}/templates").text


# --- In the way ------------------------------------------------------------------------------------------------------


def test_an_existing_tag(web, standing, tmp_path):
    node = running.Node(tmp_path / "copy", standing.web.url)
    shutil.copytree(standing.node.library, node.library)
    machines.scatter(node.library / "img_lib" / standing.machine.drives[0], 1)
    told = refused(node.run("push", standing.machine.name, "-t", "v1"), 18)
    assert "tag 'v1' already exists" in told
    assert "--force" in told
    body = {"template": standing.machine.id, "name": standing.machine.name, "tag": "v1"}
    native(web.open(f"{API}/sessions", method="POST", json=body), 409, "tag-taken")


def test_a_tag_that_was_taken_while_the_push_went_on(web):
    first, second = (new(web, template="77777777-aaaa-4bbb-8ccc-000000000001") for _ in range(2))
    entries = [made.files() for made in (first, second)]
    assert first.commit(entries[0])["number"] == 0
    before = refusals.about(web, first.template)
    native(commit(second, entries[1]), 409, "tag-taken")
    assert refusals.about(web, first.template) == before


def test_a_name_that_another_template_has(web, standing, baker):
    clash = refusals.small(baker.library, name=standing.machine.name)
    told = refused(baker.run("push", clash.id, "-t", "v1"), 18)
    assert standing.machine.id in told
    assert "--remote-vm" in told
    unseen(web, clash.id)


def new(web, **more):
    """A push by hand, its session open."""
    template = more.pop("template", None) or str(uuid.uuid4())
    made = Push([web], template=template, name=f"vm-{template}", **more)
    made.open()
    return made


def commit(made, entries, **more):
    """The answer to a commit."""
    body = {"tag": made.tag, "name": made.name, "files": entries, **more}
    return made.https[0].open(f"{API}/sessions/{made.sid}/commit", method="POST", json=body)


@pytest.mark.parametrize("moment", [b"/uploads ", b"/commit "])
def test_a_session_that_expires_under_a_push(web, store, runner, vm, moment):
    waiting = {moment}

    def expire(request):
        if any(path in request for path in waiting):
            waiting.clear()
            files = FilesStore(store)
            for session in material.sessions(files):
                material.change_session(files, session, state=SessionState.EXPIRED)
        return False

    with Proxy(web.url, loses=expire) as between:
        node = running.Node(vm.library, between.endpoint)
        told = refused(node.run("push", vm.name, "-t", "v1"), 7)
        assert "has expired" in told
        assert "push again" in told
        unseen(web, vm.id)
        node.done("push", vm.name, "-t", "v1")
    runner.done("pull", vm.name)
    assert machines.contents(runner.library, vm) == machines.contents(vm.library, vm)


def test_a_session_that_was_given_up_or_never_was(web):
    made = new(web)
    entries = made.files()
    made.call("DELETE", f"/sessions/{made.sid}")
    native(commit(made, entries), 410, "session-expired")
    asked = {"objects": [{"kind": "pack", "sha256": "a" * 64, "size": 1}]}
    for sid, code in ((made.sid, "session-expired"), ("a" * 32, "session-not-found")):
        native(web.open(f"{API}/sessions/{sid}/uploads", method="POST", json=asked), 410, code)
    unseen(web, made.template)


# --- Commits that lie ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_a_commit_that_lies(web, lie):
    made, other = new(web, layers=[]), new(web, layers=[Layer("theirs", chunk("x") * 3)])
    told = native(commit(made, [lie(made, other), *made.files()]), 400, "commit-invalid")
    assert told.startswith("the commit was refused: ")
    unseen(web, made.template)
    made.layers = [Layer("d", b"the truth" * 99_999)]
    assert made.commit()["number"] == 0  # the session is none the worse for it


def test_a_commit_whose_layer_stands_on_nothing(web):
    made = new(web)
    config, disk = made.files()
    native(commit(made, [config, {**disk, "parent": "gone"}]), 409, "parent-unknown")
    unseen(web, made.template)


@pytest.mark.parametrize("config", refusals.CONFIGS.values(), ids=refusals.CONFIGS)
def test_a_commit_whose_configuration_is_none(web, config):
    made = new(web, layers=[], config=config)
    too_long = len(config) > CONFIG_BYTES
    native(commit(made, made.files()), 400, "request-invalid" if too_long else "config-invalid")
    unseen(web, made.template)


# --- Names -----------------------------------------------------------------------------------------------------------


@each_name
def test_a_name_of_a_template_over_http(web, name):
    template = str(uuid.uuid4())
    body = {"template": template, "name": name, "tag": "v1"}
    told = native(web.open(f"{API}/sessions", method="POST", json=body), 400, "request-invalid")
    assert "name: template name" in told
    made = new(web, layers=[])
    native(commit(made, made.files(), name=name), 400, "request-invalid")
    unseen(web, made.template)
    unseen(web, template)


@each_tag
def test_a_tag_over_http(web, name):
    template = str(uuid.uuid4())
    body = {"template": template, "name": template, "tag": name}
    assert "tag: tag" in native(web.open(f"{API}/sessions", method="POST", json=body), 400, "request-invalid")
    made = new(web, layers=[])
    native(commit(made, made.files(), tag=name), 400, "request-invalid")
    unseen(web, made.template)


@each_name
def test_a_name_of_a_file_over_http(web, name):
    made = new(web, layers=[])
    bad = {"name": name, "role": "extra", "size": 1, "digest": bytes_digest(b"a"), "inline": "YQ=="}
    assert "file name" in native(commit(made, [*made.files(), bad]), 400, "request-invalid")
    made.layers = [Layer("d", b"disk" * 99_999, parent=name)]
    native(commit(made, made.files()), 400, "request-invalid")
    unseen(web, made.template)


@each_name
def test_an_id_that_is_none_over_http(web, name):
    for bad in ({"template": name}, {"domain": name}, {"bases": [{"template": name, "version": "a" * 32}]}):
        body = {"template": str(uuid.uuid4()), "name": "a", "tag": "v1", **bad}
        native(web.open(f"{API}/sessions", method="POST", json=body), 400, "request-invalid")


def test_a_tag_that_looks_like_a_path_is_a_tag(web, baker, runner, vm, store):
    before = set(store.parent.iterdir())
    for tag in ("a/b", "..", "../../../etc/passwd"):
        baker.done("push", vm.name, "-t", tag)
        runner.done("pull", vm.name, "-t", tag)
        assert machines.contents(runner.library, vm) == machines.contents(baker.library, vm)
    assert set(store.parent.iterdir()) == before


# --- Bodies ----------------------------------------------------------------------------------------------------------

PATHS = (
    "/sessions",
    f"/sessions/{'a' * 32}/bases",
    f"/sessions/{'a' * 32}/uploads",
    f"/sessions/{'a' * 32}/commit",
    "/pulls",
)
each_path = pytest.mark.parametrize("path", PATHS, ids=["open", "bases", "uploads", "commit", "pulls"])


@each_path
def test_a_body_that_is_no_json_or_of_the_wrong_shape_or_deep(web, path):
    deep = 100_000
    for body in (b"", b"{", b"\xff\xfe", b"<html>", b"NaN", b"[" * deep, b'{"a":' * deep, b"[" * deep + b"]" * deep):
        told = native(web.open(API + path, method="POST", body=body), 400, "request-invalid")
        assert "malformed" in told
    for value in ([], "text", 1, None, {}, {"template": 1}, {"files": "x"}, {"objects": [1]}, {"bases": {"a": "b"}}):
        answer = web.open(API + path, method="POST", body=json.dumps(value).encode())
        native(answer, 400, "request-invalid")
        assert answer.json["error"]["detail"]["problems"]


@each_path
def test_a_body_that_is_too_large(web, path):
    pieces = (b" " * 1024**2 for _ in range(wire.LARGEST_BODY // 1024**2 + 1))
    for body in (b" " * (wire.LARGEST_BODY + 1), pieces):
        # A line of its own: what is left of such a body is not read, and ends it.
        native(refusals.Web(web.url).open(API + path, method="POST", body=body), 413, "request-too-large")


def test_a_body_that_claims_to_be_too_large_is_refused_before_it_is_read(web):
    parts = urlsplit(web.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=60) as line:
        line.sendall(b"POST /transfer/v1/sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000\r\n\r\n{")
        assert line.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_a_body_that_breaks_off_says_nothing(web, standing):
    """A server hands on what came: a revert that lost its tag would take the newest version."""
    parts = urlsplit(web.url)
    asked = ("DELETE", f"/registry/revert?id={standing.machine.id}"), ("POST", f"{API}/revert"), ("POST", "/log")
    sized, chunked = "Content-Length: 12", "Transfer-Encoding: chunked"
    for method, path in asked:
        for header, body in ((sized, b""), (sized, b"{}"), (chunked, b""), (chunked, b"5\r\n{"), (chunked, b"x\r\n{}")):
            with socket.create_connection((parts.hostname, parts.port), timeout=60) as line:
                line.sendall(f"{method} {path} HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n".encode() + body)
                line.shutdown(socket.SHUT_WR)
                assert line.recv(65536).startswith(b"HTTP/1.1 400 "), (path, header, body)


def test_a_length_that_is_none_says_nothing(web, standing):
    """Taken for no length at all, it would be no body: a revert without its tag."""
    parts = urlsplit(web.url)
    asked = ("DELETE", f"/registry/revert?id={standing.machine.id}"), ("POST", f"{API}/revert"), ("POST", "/log")
    lengths = ("abc", "-5", "+2", "2, 3", "2.0", "0x2", "\xb2", "1" * 5000, "2\r\nContent-Length: 3")
    for method, path in asked:
        for length in lengths:
            with socket.create_connection((parts.hostname, parts.port), timeout=60) as line:
                head = f"{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"
                line.sendall(head.encode("latin-1") + b"{}x")
                assert line.recv(65536).startswith(b"HTTP/1.1 400 "), (path, length[:80])


def test_a_method_that_a_path_does_not_take(web):
    native(web.open(f"{API}/plan", method="POST", json={}), 405, "method-not-allowed")
    assert "POST" in anka(web.open("/registry/vm", method="POST", json={}), 405)
    native(web.get(f"{API}/nothing"), 404, "route-not-found")
    anka(web.get("/registry/nothing"), 404)


def test_a_link_that_was_altered(web, standing):
    plan = web.get(f"{API}/plan", ref=standing.machine.id).json
    url = plan["packs"][0]["url"]
    head, _, signature = url.rpartition("=")
    for wrong in (f"{head}={'A' * len(signature)}", url.replace("expires=", "expires=9"), url.partition("?")[0]):
        native(web.get(wrong), 403, "link-refused")
    native(web.put(url, data=b"x", headers={}), 403, "link-refused")
    assert web.get(url).status_code == 200
