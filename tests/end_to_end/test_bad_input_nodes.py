"""Bad input that a node meets by itself: broken libraries, running VMs, full disks, names, and registries that lie."""

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import machines
import refusals
import running
from machines import MIB
from refusals import API, native, refused
from s3reg.model.template import bytes_digest

BAD = {
    "a slash": "a/b",
    "outside": "../../x",
    "dots": "..",
    "NUL": "a\0b",
    "newline": "a\nb",
    "300 characters": "x" * 300,
}
each_name = pytest.mark.parametrize("name", BAD.values(), ids=BAD)


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad-nodes")
    with running.serving(folder, "--store", folder / "store", "--workers", "1") as registry:
        yield registry


@pytest.fixture(scope="module")
def standing(registry, tmp_path_factory):
    return refusals.standing(registry.url, tmp_path_factory.mktemp("standing"))


@pytest.fixture
def web(standing, tmp_path):
    """The registry over HTTP. Whatever is tried: the version that was there is listed and pulled as before."""
    yield standing.web
    standing.check(tmp_path)


@pytest.fixture
def vm(baker):
    """A VM that was not pushed yet."""
    return refusals.small(baker.library)


def unseen(web, template):
    """Nothing of a refused push shows."""
    native(web.get(f"{API}/template", ref=template), 404, "template-not-found")


# --- Configurations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", refusals.CONFIGS.values(), ids=refusals.CONFIGS)
def test_a_configuration_that_is_none(web, baker, vm, tmp_path, config):
    whole = refusals.small(baker.library, seed=2)
    (vm.folder / "config.yaml").write_bytes(config)
    told = refused(baker.run("push", vm.id, "-t", "v1"), 2)
    assert f"{vm.id}/config.yaml" in told
    assert "YAML mapping" in told
    unseen(web, vm.id)
    given = tmp_path / "given.yaml"
    given.write_bytes(config)
    told = refused(baker.run("import", "fresh", "--disk", whole.disk(), "--config", given), 2)
    assert "given.yaml" in told


def test_a_vm_whose_configuration_is_none_is_looked_for_by_its_name(web, baker, vm):
    whole = refusals.small(baker.library, seed=2)
    (vm.folder / "config.yaml").write_bytes(refusals.BOMB)
    told = refused(baker.run("push", vm.name, "-t", "v1"), 3)
    assert f"{vm.name}: not found" in told
    assert f"unless it is the one that cannot be read: the configuration '{vm.id}/config.yaml'" in told
    baker.done("push", whole.name, "-t", "v1")  # the broken one is in nobody's way


# --- Libraries -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["image", "state", "nvram"])
def test_a_library_without_a_file_that_the_configuration_names(web, baker, missing):
    vm = refusals.small(baker.library, state_size=300_000)
    if missing == "nvram":
        vm.write_config(nvram="efi.fd")
        gone = vm.folder / "efi.fd"
    else:
        gone = vm.disk() if missing == "image" else baker.library / "state_lib" / vm.state
        gone.unlink()
    for command in (("push", vm.name, "-t", "v1"), ("export", vm.name, baker.library / "out")):
        told = refused(baker.run(*command), 11)
        assert f"the VM {vm.name} needs '{gone.name}', which is not in {gone.parent}" in told
        assert "put the file back" in told
    assert not (baker.library / "out").exists()
    unseen(web, vm.id)


@contextlib.contextmanager
def started(vm, how):
    """The VM, as if it ran in this process."""
    if how == "its lock":
        (vm.library / "vm_lib" / ".locks").mkdir(exist_ok=True)
        with (vm.library / "vm_lib" / ".locks" / vm.id).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    else:
        with vm.disk().open("r+b"):
            yield


@pytest.mark.parametrize("how", ["its lock", "its disk"])
def test_a_vm_that_runs(web, baker, vm, tmp_path, how):
    spare = tmp_path / "spare.img"
    spare.write_bytes(b"disk" * 9)
    commands = [
        ("push", vm.name, "-t", "v2"),
        ("push", vm.name, "-t", "v2", "--local"),
        ("export", vm.name, tmp_path / "out"),
        ("import", vm.name, "--disk", spare),
        ("pull", vm.name, "--force"),
    ]
    baker.done("push", vm.name, "-t", "v1")
    machines.scatter(vm.disk(), 1)
    before = machines.contents(vm.library, vm)
    with started(vm, how):
        for command in commands:
            told = refused(baker.run(*command), 11)
            assert f"the VM {vm.name} is running" in told
            assert "stop or suspend it" in told
    assert machines.contents(vm.library, vm) == before
    assert not (tmp_path / "out").exists()
    assert [row["tag"] for row in web.get(f"{API}/template", ref=vm.id).json["versions"]] == ["v1"]
    baker.done("push", vm.name, "-t", "v2")


def test_a_name_that_another_vm_of_the_library_has(web, standing, runner):
    mine = refusals.small(runner.library, name=standing.machine.name, seed=3)
    told = refused(runner.run("pull", standing.machine.id), 18)
    assert mine.id in told
    assert "--library" in told
    assert [folder.name for folder in (runner.library / "vm_lib").iterdir()] == [mine.id]


# --- Names -----------------------------------------------------------------------------------------------------------


@each_name
def test_a_name_in_a_configuration(web, baker, vm, name):
    for file, more in (("template", {"name": name}), ("file", {"hard_drives": [{"file": name}], "state_file": name})):
        vm.write_config(**more)
        told = refused(baker.run("push", vm.id, "-t", "v1"), 2)
        assert f"{vm.id}/config.yaml" in told
        assert f"{file} name" in told
    unseen(web, vm.id)


@each_name
def test_a_name_on_the_command_line(web, baker, vm, name):
    if "\0" in name:
        return  # no program can be given such an argument
    told = refused(baker.run("import", name, "--disk", vm.disk()), 2)
    assert "template name" in told
    assert "choose another template name" in told
    told = refused(baker.run("push", vm.name, "-t", "v1", "--domain", name), 2)
    assert "choose another domain" in told
    if "/" not in name and name != "..":
        for local in ((), ("--local",)):
            assert "choose another tag" in refused(baker.run("push", vm.name, "-t", name, *local), 2)
    assert [folder.name for folder in (baker.library / "vm_lib").iterdir()] == [vm.id]
    unseen(web, vm.id)


def test_a_description_that_is_none(web, baker, vm):
    for words in ("\x1b[2J", "x" * 5000):
        told = refused(baker.run("push", vm.name, "-t", "v1", "-d", words), 2)
        assert "choose another description" in told
    unseen(web, vm.id)


def test_a_file_beside_a_vm_whose_name_cannot_travel(web, baker, vm):
    bad = vm.folder / "no\ntes.txt"
    bad.write_text("x")
    told = refused(baker.run("push", vm.name, "-t", "v1"), 2)
    assert "file name 'no\\ntes.txt'" in told
    unseen(web, vm.id)
    bad.unlink()
    baker.done("push", vm.name, "-t", "v1")


# --- Registries that lie ---------------------------------------------------------------------------------------------


@pytest.fixture
def liar(tmp_path):
    """A registry that answers whatever `answers` holds: (status, body) by path, or for any."""

    class Liar(BaseHTTPRequestHandler):
        def do_GET(self):
            status, body = self.server.answers.get(
                self.path.partition("?")[0], self.server.answers.get("*", (404, b""))
            )
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - what http.server calls it

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Liar) as server:
        server.answers = {}
        server.daemon_threads = True
        server.node = running.Node(tmp_path / "library", f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def inline(name, data, role="extra"):
    body = base64.b64encode(data).decode()
    return {"name": name, "role": role, "size": len(data), "digest": bytes_digest(data), "inline": body}


def plan(*files, **more):
    """An honest plan of a VM without disks, and of these files."""
    template = str(uuid.uuid4())
    config = inline("config.yaml", f"name: vm\nuuid: {template}\n".encode(), "config")
    return {
        "template": template, "name": "vm", "arch": "", "domain": "main", "version": "a" * 32, "number": 0, "tag": "v1",
        "description": "", "size": 0, "created": 1, "expires": 1 << 40, "now": 1, "files": [config, *files], "packs": [],
        **more,
    }  # fmt: skip


def shows_nothing(node):
    """The library is empty, and nothing is beside it."""
    library = node.library
    for name in ("vm_lib", "img_lib", "state_lib"):
        assert not (library / name).exists() or list((library / name).iterdir()) == []
    assert {path.name for path in library.parent.iterdir()} <= {library.name}


def answers(server, **by_name):
    server.answers = {f"{API}/{name}": (200, json.dumps(body).encode()) for name, body in by_name.items()}


def test_an_honest_plan_of_that_server_is_pulled(liar):
    answers(liar, plan=plan(inline("nvram", b"x", "nvram")), pulls={})
    liar.node.done("pull", "vm")


@pytest.mark.parametrize(
    ("name", "role"), [*((name, "extra") for name in BAD.values()), *((BAD["outside"], r) for r in ("config", "image"))]
)
def test_a_plan_that_would_write_outside_the_library(liar, tmp_path, name, role):
    answers(liar, plan=plan(inline(name, b"pwned", role)), pulls={})
    told = refused(liar.node.run("pull", "vm"), 9)
    assert "file name" in told
    assert liar.node.registry in told
    shows_nothing(liar.node)
    assert not any(b"pwned" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize("field", ["template", "version", "name", "tag"])
def test_a_plan_whose_ids_are_paths(liar, field):
    for value in ("../../x\0", "x" * 300):
        answers(liar, plan=plan(**{field: value}), pulls={})
        refused(liar.node.run("pull", "vm"), 9)
        shows_nothing(liar.node)


def test_a_plan_whose_files_collide_where_case_is_ignored(liar):
    answers(liar, plan=plan(inline("a", b"1"), inline("A", b"2")), pulls={})
    assert "collides" in refused(liar.node.run("pull", "vm"), 9)
    shows_nothing(liar.node)


def test_bytes_that_are_not_of_their_digest(liar):
    answers(liar, plan=plan({**inline("a", b"1"), "digest": "0" * 64}), pulls={})
    told = refused(liar.node.run("pull", "vm"), 8)
    assert "its bytes do not have its digest" in told
    shows_nothing(liar.node)


@pytest.mark.parametrize("size", [1 << 20, 1 << 44, (1 << 53) - 1])
def test_a_map_that_is_none(liar, size):
    data = b"\x28\xb5\x2f\xfd" + os.urandom(60)
    ref = {"sid": "b" * 32, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "url": "/objects/maps/x"}
    disk = {"name": "d", "role": "image", "size": size, "digest": "0" * 64, "drive": 0, "map": ref}
    answers(liar, plan=plan(disk), pulls={})
    liar.answers["/objects/maps/x"] = (200, data)
    assert "map" in refused(liar.node.run("pull", "vm"), 8)
    shows_nothing(liar.node)


ANSWERS = {
    "a page": (200, b"<html>hello</html>"),
    "nothing": (200, b""),
    "a list": (200, b"[]"),
    "another shape": (200, b'{"files": 1}'),
    "deep": (200, b'{"a":' * 100_000),
    "a page that refuses": (403, b"<html>forbidden</html>"),
    "an error of no shape": (400, b'{"error": "no"}'),
    "an error of strange detail": (
        404,
        b'{"error": {"code": "tag-not-found", "detail": {"self": 1, "tag": {"a": []}}}}',
    ),
    "an error that is unknown": (418, b'{"error": {"code": "teapot", "message": "short\\n\\u001b[2Jand stout"}}'),
    "a redirect": (302, b""),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_that_is_none_of_a_registry(liar, answer):
    liar.answers["*"] = answer
    outcome = liar.node.run("pull", "vm")
    refused(outcome, 3 if b"tag-not-found" in answer[1] else 9)
    assert "\x1b" not in outcome.err
    shows_nothing(liar.node)


@pytest.mark.parametrize("command", ["list", "describe vm", "check-download-size vm", "push vm -t v1", "add it URL"])
def test_every_command_says_so(liar, command, tmp_path):
    liar.answers["*"] = ANSWERS["another shape" if command != "add it URL" else "a page"]
    vm = machines.make(liar.node.library, sizes=(9,), state_size=0, name="vm")
    words = command.replace("URL", liar.node.registry).split()
    told = refused(liar.node.run(*words), 9)
    assert "does not answer as an s3reg registry does" in told
    assert machines.contents(liar.node.library, vm)


# --- Full disks ------------------------------------------------------------------------------------------------------


@pytest.fixture
def narrow(registry, tmp_path):
    """A node whose library lies on a disk of 24 MiB."""
    with contextlib.contextmanager(refusals.tmpfs)(tmp_path / "narrow", "size=24m") as folder:
        yield running.Node(folder / "library", registry.url)


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(web, baker, narrow):
    vm = machines.make(baker.library, sizes=(40 * MIB,), state_size=0, name=f"vm-{uuid.uuid4()}", seed=4)
    baker.done("push", vm.name, "-t", "v1")
    told = refused(narrow.run("pull", vm.name), 11)
    assert f"too little space in {narrow.library}" in told
    assert "missing" in told
    assert list((narrow.library / "vm_lib").iterdir()) == []
    refusals.remount(narrow.library.parent, "size=120m")
    narrow.done("pull", vm.name)
    assert machines.contents(narrow.library, vm) == machines.contents(baker.library, vm)


def test_a_disk_too_small_for_an_update_keeps_the_old_version_whole(web, baker, narrow):
    vm = machines.make(baker.library, sizes=(12 * MIB,), state_size=0, name=f"vm-{uuid.uuid4()}", seed=5)
    baker.done("push", vm.name, "-t", "v1")
    old = machines.contents(baker.library, vm)
    narrow.done("pull", vm.name)
    vm.disk().write_bytes(os.urandom(20 * MIB))
    baker.done("push", vm.name, "-t", "v2")
    told = refused(narrow.run("pull", vm.name), 11)
    assert f"too little space in {narrow.library}" in told
    assert machines.contents(narrow.library, vm) == old
    assert "available locally" in narrow.done("pull", vm.name, "-t", "v1").out
    refusals.remount(narrow.library.parent, "size=120m")
    narrow.done("pull", vm.name)
    assert machines.contents(narrow.library, vm) == machines.contents(baker.library, vm)


def test_a_disk_without_a_byte_left_refuses_a_push_and_loses_nothing(web, narrow):
    vm = refusals.small(narrow.library)
    before = machines.contents(narrow.library, vm)
    ballast = narrow.library.parent / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    for local in ((), ("--local",)):
        assert f"no space left in {narrow.library}" in refused(narrow.run("push", vm.name, "-t", "v1", *local), 11)
    assert machines.contents(narrow.library, vm) == before
    ballast.unlink()
    narrow.done("push", vm.name, "-t", "v1")
