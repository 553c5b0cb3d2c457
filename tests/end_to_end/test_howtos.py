"""What the howtos about looking after a store tell people to type works, and prints what they say, typed in their order.

Each page begins where something has happened already. What has happened, and what happens between two of its blocks, is done
here: by the first command of the block before which it happens.
"""

import contextlib
import datetime as dt
import functools
import json
import random
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import howto
import nginx
import roles
import running
import servers
import sites
from machines import KIB, MIB
from s3reg import __version__
from s3reg.api import create_app
from s3reg.api.wiring import open_store
from s3reg.client.platform import default_library
from s3reg.model import format as fmt
from s3reg.settings import Settings

INTERRUPTED = Path(__file__).parents[1] / "interrupted.py"


class Story:
    """A page, somebody who types it, and what happens meanwhile."""

    def __init__(self, reader, page, settings):
        self.reader = reader
        self.page = page
        self.settings = settings
        self.meanwhile = {}
        self.chance = random.Random(page)

    def before(self, command):
        """What is decorated happens before the first block whose first command begins so."""

        def at(happening):
            self.meanwhile[command] = happening

        return at

    def follow(self):
        """Type all of the page; what it printed, block by block."""
        printed = []
        for block in howto.blocks(self.page):
            first = next(line for line in block.commands.splitlines() if not line.startswith("#"))
            for command in [command for command in self.meanwhile if first.startswith(command)][:1]:
                self.meanwhile.pop(command)()
            printed.append(self.reader.follow(block))
        assert not self.meanwhile, "this page has no such commands any more"
        return printed

    def s3reg(self, *words, at="here", code=0):
        """A command that is not on the page."""
        self.reader.at(at)
        done = self.reader.s3reg([str(word) for word in words], on_a_terminal=False)
        assert done.code == code, done
        return done.out

    def import_vm(self, name="sequoia", *, size, part=None):
        """The VM with a disk of `size`: of other bytes each time, or other ones in this part of it only."""
        disk = self.reader.folder / f"{name}.img"
        with disk.open("r+b" if disk.exists() else "w+b") as file:
            if part is not None and file.seek(0, 2):
                file.seek(part[0])
                size = part[1]
            file.write(self.chance.randbytes(size))
        self.s3reg("import", name, "--disk", disk)

    def killed(self, *words, at="here"):
        """The command, killed when it has brought one pack, or one stretch of a file, and noted that."""
        self.reader.at(at)
        command = [sys.executable, str(INTERRUPTED), "SIGKILL", "2", *words, "--jobs", "1"]
        done = subprocess.run(command, capture_output=True, check=False, timeout=running.SECONDS)
        assert done.returncode == -9, done


@pytest.fixture
def story(tmp_path, capsys, monkeypatch, minio, bucket):
    """`story(page)`: with a registry over a bucket, known on the registry's machine and on another node."""
    with contextlib.ExitStack() as stack:

        def tell(page):
            url = f"s3://{bucket(minio)}/templates"
            reader = howto.Reader(tmp_path, stack, capsys, monkeypatch, {"s3://my-bucket": url})
            for name, value in {"S3REG_S3_ENDPOINT": minio.endpoint, **minio.environment()}.items():
                monkeypatch.setenv(name, value)
            settings = Settings(store=url, s3_endpoint=minio.endpoint)
            address = reader.registry.enter_context(sites.serving(create_app(settings)))
            told = Story(reader, page, settings)
            for machine in ("here", "the node"):
                told.s3reg("add", "office", address, at=machine)
            return told

        yield tell


def test_a_push_was_killed(story):
    told = story("killed-push.md")
    told.import_vm(size=MIB)
    told.s3reg("push", "sequoia", "-t", "xcode-16")
    told.import_vm(size=12 * MIB)
    told.killed("push", "sequoia", "-t", "xcode-17")

    @told.before("s3reg sessions list")
    def _():
        told.import_vm(size=12 * MIB)
        told.killed("push", "sequoia", "-t", "xcode-18")

    @told.before("s3reg sessions abort")
    def _():
        (row,) = told.s3reg("sessions", "list").splitlines()
        told.reader.instead["50fd914644d02fff80bf3f758328c6a6"] = row.split("\t")[0]

    @told.before("s3reg pull")
    def _():
        told.killed("pull", "sequoia", "-t", "xcode-17", at="the node")

    told.follow()
    assert "xcode-18" in told.s3reg("show", "sequoia", "tag")


def test_somebody_deleted_a_template(story):
    told = story("deleted-template.md")
    for tag in ("xcode-15", "xcode-16", "xcode-17"):
        told.import_vm(size=MIB)
        told.s3reg("push", "sequoia", "-t", tag)
    told.s3reg("pull", "sequoia", at="the node")
    told.s3reg("revert", "sequoia", "--all")

    @told.before("s3reg trash restore sequoia xcode-16")
    def _():
        told.s3reg("revert", "sequoia", "-t", "xcode-16")

    @told.before("s3reg trash restore sequoia xcode-17  # exit code 18")
    def _():
        told.import_vm(size=MIB)
        told.s3reg("push", "sequoia", "-t", "xcode-17")

    @told.before("s3reg trash restore sequoia  # exit code 18")
    def _():
        told.s3reg("revert", "sequoia", "--all")
        told.s3reg("vm", "delete", "sequoia")
        told.import_vm(size=MIB)
        told.s3reg("push", "sequoia", "-t", "other")

    @told.before("s3reg vm tag sequoia")
    def _():
        told.s3reg("revert", "sequoia", "--all")
        told.s3reg("trash", "purge", "sequoia")

    told.follow()
    assert "xcode-17" in told.s3reg("show", "sequoia", "tag")


def test_the_bucket_is_too_big(story):
    told = story("space.md")
    for tag in ("release-15", "night-1", "night-2", "night-3", "night-4", "night-5", "night-6"):
        told.import_vm("macos-ci", size=MIB, part=(0, 256 * KIB))
        told.s3reg("push", "macos-ci", "-t", tag)
    for tag in ("v1", "v2"):
        told.import_vm("linux-ci", size=MIB)
        told.s3reg("push", "linux-ci", "-t", tag)
    told.s3reg("untag", "linux-ci", "v1")
    rules = re.search(r"^```yaml\n(.*?)^```$", (howto.PAGES / "space.md").read_text(), re.DOTALL | re.MULTILINE)
    assert rules
    (told.reader.folder / "rules.yaml").write_text(rules[1])
    told.follow()
    assert "night-1" not in told.s3reg("show", "macos-ci", "tag")


def test_checking_the_store(story, tmp_path):
    told = story("checking.md")
    library = tmp_path / "here" / default_library().relative_to(Path.home())
    bucket = told.reader.instead["s3://my-bucket"]
    told.reader.instead |= {
        "s3://templates": bucket,
        "/srv/s3reg": str(tmp_path / "directory"),
        '~/"Library/Application Support/Veertu/Anka"': str(library),
    }
    for tag in ("xcode-16", "xcode-17"):
        told.import_vm(size=MIB)
        told.s3reg("push", "sequoia", "-t", tag)
    with sites.address(tmp_path / "directory") as url:
        told.s3reg("-a", url, "push", "sequoia", "-t", "xcode-17")
    store = open_store(told.settings)

    def flip():
        """A bit of the newest pack; gives what turns it back."""
        key = max(store.list(fmt.PACKS), key=lambda stat: stat.modified).key
        data = store.get(key).data
        middle = len(data) // 2
        store.put(key, data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
        return lambda: store.put(key, data)

    undo = []

    @told.before("s3reg fsck s3://templates --read-data  # exit code 8")
    def _():
        undo.append(flip())

    @told.before("s3reg -j fsck")
    def _():
        undo.pop()()
        told.s3reg("fsck", bucket, "--read-data")

    @told.before("s3reg fsck s3://templates --read-data")
    def _():
        back = flip()
        told.s3reg("fsck", bucket, "--read-data", code=8)
        back()

    told.before("s3reg fsck s3://templates --read-data --repair-from")(flip)
    told.follow()
    told.s3reg("fsck", bucket, "--read-data")


def test_a_store_is_copied_and_the_copy_adopted(story, minio, bucket, tmp_path):
    servers.needs("curl")
    told = story("copies.md")
    copy = f"s3://{bucket(minio)}/copy"
    told.reader.instead["s3://my-copy"] = copy
    told.reader.instead["http://10.0.0.5:9000"] = minio.endpoint.replace("127.0.0.1", "localhost")
    for tag in ("xcode-16", "xcode-17"):
        told.import_vm(size=MIB)
        told.s3reg("push", "sequoia", "-t", tag)
    with aws_is_here(tmp_path, minio):
        told.follow()
    with sites.serving(create_app(replace(told.settings, store=copy))) as url:
        told.s3reg("-a", url, "pull", "sequoia", at="the node")
        told.s3reg("-a", url, "push", "sequoia", "-t", "xcode-18", at="the node")


@contextlib.contextmanager
def aws_is_here(folder, server):
    """A reader in this folder has a program `aws`."""
    with sites.serving(functools.partial(aws, server.client, folder)) as url:
        program = folder / "bin" / "aws"
        program.write_text(f'#!/bin/sh\nexec curl -fsS --data-binary "$*" {url}\n')
        program.chmod(0o755)
        yield


def aws(client, folder, environ, start_response):
    """What `aws s3 cp` and `aws s3 sync` do, to a place on a server; as a program it would take a second each time.

    A sync copies what the target lacks, has in another size, or has from before the source's time
    (https://docs.aws.amazon.com/cli/latest/reference/s3/sync.html).
    """
    words = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])).decode().split()
    (_, verb, source, target) = [word for word in words if not word.startswith("--")]
    bucket, target_key = target.removeprefix("s3://").split("/", 1)
    keys = [""]
    if verb == "sync":
        here, there = found(client, folder, source), found(client, folder, target)
        keys = [
            key
            for key, (size, time) in here.items()
            if key not in there or size != there[key][0] or time > there[key][1]
        ]
    for key in keys:
        if source.startswith("s3://"):
            place, source_key = source.removeprefix("s3://").split("/", 1)
            wanted = {"Bucket": place, "Key": source_key + key}
            client.copy_object(Bucket=bucket, Key=target_key + key, CopySource=wanted)
        else:
            client.put_object(Bucket=bucket, Key=target_key + key, Body=(folder / (source + key)).read_bytes())
    start_response("200 OK", [])
    return []


def found(client, folder, place):
    """Key below the place, which is a bucket's or a folder → size, time."""
    if not place.startswith("s3://"):
        stats = [(path, path.stat()) for path in (folder / place).rglob("*") if path.is_file()]
        times = {path: dt.datetime.fromtimestamp(stat.st_mtime, dt.UTC) for path, stat in stats}
        return {path.relative_to(folder / place).as_posix(): (stat.st_size, times[path]) for path, stat in stats}
    bucket, prefix = place.removeprefix("s3://").split("/", 1)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    rows = [row for page in pages for row in page.get("Contents", ())]
    return {row["Key"].removeprefix(prefix): (row["Size"], row["LastModified"]) for row in rows}


def test_a_registry_on_one_machine_that_moves_to_a_bucket(capsys, monkeypatch, tmp_path, minio, bucket):
    for program in ("curl", "openssl", "rsync"):
        servers.needs(program)
    url = f"s3://{bucket(minio)}/templates"
    (tmp_path / "system.img").write_bytes(random.Random(1).randbytes(MIB))
    with contextlib.ExitStack() as stack:
        reader = howto.Reader(tmp_path, stack, capsys, monkeypatch, {"s3://my-bucket": url})
        for name, value in {"S3REG_S3_ENDPOINT": minio.endpoint, **minio.environment()}.items():
            monkeypatch.setenv(name, value)
        stack.enter_context(aws_is_here(tmp_path, minio))
        printed = [reader.follow(block) for block in howto.blocks("one-machine.md")]
    assert "ready" in dict(line for block in printed for line in block)["curl -s http://localhost:8089/readyz"]


def test_a_backup_is_looked_at_and_tried(story, minio, bucket):
    told = story("backup.md")
    copy = f"s3://{bucket(minio)}/copy"
    told.reader.instead["s3://my-copy"] = copy
    for tag in ("xcode-16", "xcode-17"):
        told.import_vm(size=MIB)
        told.s3reg("push", "sequoia", "-t", tag)
    source, target = told.reader.instead["s3://my-bucket"], copy
    (of, prefix), (to, under) = (place.removeprefix("s3://").split("/") for place in (source, target))
    for key in found(minio.client, None, f"{source}/"):
        minio.client.copy_object(Bucket=to, Key=f"{under}/{key}", CopySource={"Bucket": of, "Key": f"{prefix}/{key}"})
    told.follow()


def test_a_release_is_looked_at_before_it_serves(story):
    servers.needs("curl")
    told = story("upgrade.md")
    told.reader.instead[howto.WHERE] = re.search(r"http://(\S+)", told.s3reg("list-repos"))[1]
    told.reader.instead["127.0.0.1:8089"] = f"127.0.0.1:{servers.free_port()}"
    said = dict(line for block in told.follow() for line in block)
    assert __version__ in said["curl -s http://localhost:8089/registry/status"]


@pytest.fixture
def minio_program():
    """Found before a reader has another home."""
    return servers.minio_program()


@pytest.fixture
def reader(tmp_path, capsys, monkeypatch):
    for program in ("curl", "openssl"):
        servers.needs(program)
    (tmp_path / "system.img").write_bytes(random.Random(1).randbytes(MIB))
    with contextlib.ExitStack() as stack:
        yield howto.Reader(tmp_path, stack, capsys, monkeypatch, {})


def policies(page):
    """The policies of the page, by the words in front of them."""
    text = (howto.PAGES / page).read_text()
    return {
        name: json.loads(block) for name, block in re.findall(r"`(\w+)\.json`:\n\n```json\n(.*?)```", text, re.DOTALL)
    }


def test_a_minio_of_ones_own_with_a_ca_of_ones_own_and_users_of_least_rights(
    minio_program, reader, tmp_path, monkeypatch
):
    """The policies are those of which another test shows that nothing can be left out of them (tests/infra)."""
    told = policies("minio.md")
    of = {"registry": "web", "sweep": "gc"}
    assert told == {name: roles.policy("templates", role) for name, role in of.items()}
    port = servers.free_port()
    reader.instead |= {"minio.example.com:9000": f"localhost:{port}", "DNS:minio.example.com": "DNS:localhost"}
    certificates, *blocks = howto.blocks("minio.md")
    reader.follow(certificates)
    with servers.run_minio(minio_program, tmp_path, port=port, tls=(tmp_path / "certs", tmp_path / "ca.pem")) as server:
        server.client.create_bucket(Bucket="templates")
        for block in blocks:
            role = "sweep" if "sweep" in block.heading else "registry"
            for name, value in roles.credentials(server, told[role]).items():
                monkeypatch.setenv(name, value)
            reader.follow(block)


def test_nginx_before_a_registry(reader, tmp_path):
    port = servers.free_port()
    certificates = howto.blocks("minio.md")[0]
    reader.instead |= {"minio.example.com": "localhost", "registry.example.com": f"localhost:{port}"}
    reader.follow(certificates)
    inner = (Path(__file__).parents[2] / "deploy/nginx.conf").read_text()
    for written, here in (
        (r"listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        (r"10\.0\.0\.1[123]:8089", reader.listen),
        (r"/etc/nginx/registry\.pem", str(tmp_path / "certs/public.crt")),
        (r"/etc/nginx/registry\.key", str(tmp_path / "certs/private.key")),
    ):
        inner, count = re.subn(written, here, inner)
        assert count
    with nginx.running(tmp_path / "nginx", inner, port):
        reader.instead["--proxies 127.0.0.1"] = f"--proxies {nginx.SOURCE}"
        said = dict(line for block in howto.blocks("nginx.md") for line in reader.follow(block))
        reader.s3reg(["import", "sequoia", "--disk", "system.img"], on_a_terminal=False)
        assert reader.s3reg(["push", "sequoia", "-t", "v1"], on_a_terminal=False).code == 0
    assert "ready" in said["curl -s --cacert ca.pem https://registry.example.com/readyz"]


def test_the_page_about_aws_says_what_the_module_has():
    """The plan of the example is made by infra/check, in CI too; its variables are those of the page."""
    text = (howto.PAGES / "aws.md").read_text()
    module = Path(__file__).parents[2] / "infra/terraform"
    minimal, macs, switches = re.findall(r"```hcl\n(.*?)```", text, re.DOTALL)
    assert minimal == (module / "examples/minimal/example.tfvars").read_text()
    variables, outputs = (
        {
            name
            for path in module.glob("*.tf")
            for name in re.findall(rf'^{kind} "(\w+)"', path.read_text(), re.MULTILINE)
        }
        for kind in ("variable", "output")
    )
    assert set(re.findall(r"^(\w+) +=", switches, re.MULTILINE)) <= variables
    mac = (module / "modules/mac-node/main.tf").read_text()
    assert 'variable "registry_url"' in mac
    assert (module / "examples/minimal" / re.search(r'source += "(.*)"', macs)[1]).is_dir()
    told = re.findall(r"terraform output (?:-raw )?(\w+)", text)
    example = (module / "examples/minimal/main.tf").read_text()
    assert set(told) <= set(re.findall(r'(?m)^output "(\w+)"', example)) <= outputs
    assert {"release_command", "root_token_secret_arn", "log_group_name"} <= set(told)
    prose = {name for name in re.findall(r"`(\w+)(?: = \w+)?`", text) if "_" in name and name.islower()}
    assert prose <= variables | outputs | {"ec2_user"}, prose - variables - outputs
