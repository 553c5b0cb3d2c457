"""The image and the compose file, without an engine: what they say is looked at, and run as processes of the same kind.

No container: s3reg is installed as the Dockerfile installs it, from what .dockerignore lets through, and started by the
commands and with the environment of compose.yaml, as its user, without capabilities, on a root that cannot be written to.
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

import machines
import nginx
import running
import servers
from s3reg import configuration, settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PROCFILE = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines() if line)
SECRET = "0123456789abcdef0123456789abcdef"
# What an engine does: another root, which is only read, with a /tmp and a /dev/shm of its own; nobody, who may do nothing.
# But read: this machine's Python may lie in a home.
CONTAINER = """
set -eu
mount --make-rprivate /
mount --bind "$2" "$1/libraries"
mount --rbind "$1" /mnt
mount -t tmpfs -o mode=1777 tmpfs /tmp
mkdir -p "$1"
mount --rbind /mnt "$1"
mount -o remount,bind,ro "$1"
mount -o remount,bind,ro "$1/libraries"
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -o remount,bind,ro /
cd /
shift 2
exec setpriv --reuid "$1" --regid "$2" --clear-groups --no-new-privs --bounding-set=-all,+dac_read_search \\
    --inh-caps=-all,+dac_read_search --ambient-caps=+dac_read_search -- "${@:3}"
"""


def instructions():
    """The Dockerfile's, of its last stage: (word, the rest), in order."""
    text = re.sub(r"(?m)^\s*#.*\n", "", (ROOT / "Dockerfile").read_text()).replace("\\\n", " ")
    lines = [line.split(None, 1) for line in text.splitlines() if line.strip()]
    last = max(index for index, (word, _) in enumerate(lines) if word == "FROM")
    return [(word, " ".join(rest.split()) if word != "HEALTHCHECK" else rest) for word, rest in lines[last:]]


def said(word):
    return [rest for name, rest in instructions() if name == word]


def image_environment():
    return dict(pair.split("=", 1) for line in said("ENV") for pair in shlex.split(line))


def health():
    """The command that asks for the image's health."""
    (rest,) = said("HEALTHCHECK")
    return json.loads(rest.partition("CMD")[2])


def composed():
    """The compose file, with something in the place of what `.env` says."""
    told = {
        "S3REG_HOST": "127.0.0.1",
        "S3REG_ROOT_TOKEN": SECRET,
        "MINIO_ROOT_USER": "u",
        "MINIO_ROOT_PASSWORD": SECRET,
    }
    text = re.sub(r"(?m)^#.*\n", "", (ROOT / "compose.yaml").read_text())
    return yaml.safe_load(re.sub(r"\$\{(\w+)(:\?[^}]*)?\}", lambda found: told[found[1]], text))


def environment(service):
    return image_environment() | composed()["services"][service].get("environment", {})


def test_the_dockerfile_has_no_habit_that_hadolint_knows():
    program = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([program, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_what_the_procfile_says_without_a_shell_as_nobody():
    (entry,), (command,), (user,) = said("ENTRYPOINT"), said("CMD"), said("USER")
    assert json.loads(entry) + json.loads(command) == PROCFILE["web"].split()
    assert user == "65532:65532"
    words = [word for word, _ in instructions()]
    assert words.index("USER") > max(index for index, word in enumerate(words) if word in {"RUN", "COPY"})
    assert health()[0] == "python"
    assert "/livez" in health()[-1]


def test_folders_that_a_task_writes_to_are_volumes_of_the_image():
    # Else Fargate makes them root's: nobody could write there.
    (volumes,) = said("VOLUME")
    task = (ROOT / "infra/terraform/service.tf").read_text()
    assert set(json.loads(volumes)) == set(re.findall(r'containerPath = "(.+?)"', task))
    (user,) = said("USER")
    assert f'"{user}"' in task


def test_the_image_has_nothing_of_a_checkout_but_the_program():
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    taken = {line[1:] for line in lines if line.startswith("!")}
    assert lines[0] == "*"
    copied = re.findall(r"(?m)^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text())
    assert (
        {name for names in copied for name in names.split()}
        == taken
        == {"LICENSE", "README.md", "pyproject.toml", "src"}
    )


def test_the_compose_file_runs_what_the_procfile_says():
    services = composed()["services"]
    assert all(services[name].get("command") is None for name in ("web-1", "web-2"))
    assert services["release"]["command"] == PROCFILE["release"].split()[1:]
    assert PROCFILE["gc"] in services["gc"]["command"][0]


@pytest.mark.parametrize("service", ["web-1", "web-2", "release", "gc"])
def test_the_compose_file_s_settings_are_a_registry_s(service):
    read = configuration.read(environment(service))
    settings.check(read)
    assert (read.store, read.s3_signing_endpoint) == ("s3://templates", "http://127.0.0.1:9000")


def test_the_compose_file_waits_until_a_replica_has_ended():
    service = composed()["services"]["web-1"]
    assert (
        int(service["stop_grace_period"].removesuffix("s")) >= int(service["environment"]["S3REG_DRAIN_SECONDS"]) + 50
    )


def test_the_compose_file_s_services_of_ours_may_do_nothing():
    for name, service in composed()["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        if service["image"] == "s3reg":
            assert service["read_only"], name
            assert service["user"] == "65532:65532", name


def test_nginx_of_the_compose_file_is_the_one_that_is_documented():
    text = (DEPLOY / "nginx.conf").read_text().replace("10.0.0.", "172.31.89.").replace("registry.example.com", "_")
    text = text.replace("listen 443 ssl;", "listen 8080;")
    text = re.sub(r"(?m)^ +(ssl_certificate|server 172\.31\.89\.13).*\n", "", text)
    own = (DEPLOY / "nginx.compose.conf").read_text()
    assert own.partition("\n")[2] == text.partition("\n")[2]
    services = composed()["services"]
    for name in ("web-1", "web-2"):
        assert f"server {services[name]['networks']['s3reg']['ipv4_address']}:8089 " in own


@dataclass
class Process:
    """One that was started as a container's."""

    process: subprocess.Popen[str]
    log: Path

    def ends(self):
        out, _ = self.process.communicate(timeout=running.SECONDS)
        assert self.process.returncode == 0, self.log.read_text()
        assert "Traceback" not in self.log.read_text()
        return out

    def address(self):
        """HOST:PORT of a registry, once it serves."""
        match = running.LINE.fullmatch(self.process.stdout.readline())
        assert match, self.log.read_text()
        return match[2].removeprefix("http://")


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """A folder that is the image's /opt/s3reg: a fresh venv with s3reg as the Dockerfile builds it."""
    build, made = tmp_path_factory.mktemp("build"), tmp_path_factory.mktemp("image")
    for name in ("LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, build)
    shutil.copytree(ROOT / "src", build / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    venv = made / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", build, build], check=True)
    (wheel,) = build.glob("*.whl")
    subprocess.run([*pip, "--python", venv / "bin/python", "install", "--no-deps", wheel], check=True)
    (packages,) = venv.glob("lib/*/site-packages")
    # Its libraries are this venv's, mounted, because /tmp may have them: to fetch them again would be a test of the network.
    (venv / "libraries").mkdir()
    (packages / "libraries.pth").write_text(str(venv / "libraries"))
    return venv


@pytest.fixture
def container(image, tmp_path):
    """`container(service, command…)`: a process as the engine would start it."""
    uid, gid = said("USER")[0].split(":")
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        servers.lacking("the image's processes (a root that is only read is made by root, on Linux)")
    servers.needs("setpriv")
    logs = []
    with contextlib.ExitStack() as ending:

        def start(told, *command):
            libraries = next(path for path in sys.path if path.endswith("site-packages"))
            words = ["unshare", "-m", "bash", "-c", CONTAINER, "-", str(image), libraries, uid, gid, *command]
            told = {**told, "PATH": f"{image}/bin:{os.environ['PATH']}"}
            errors = ending.enter_context((tmp_path / f"{len(logs)}.log").open("w+"))
            logs.append(errors)
            process = subprocess.Popen(words, env=told, stdout=subprocess.PIPE, stderr=errors, text=True)
            ending.enter_context(process)
            ending.callback(process.kill)
            return Process(process, Path(errors.name))

        yield start


def test_the_compose_file_s_topology_serves_as_nobody_on_a_root_that_is_only_read(minio, container, tmp_path):
    store = f"s3://{minio.bucket_prefix}-composed-{os.getpid()}"
    instead = {
        **minio.environment(),
        "S3REG_S3_ENDPOINT": minio.endpoint,
        "S3REG_S3_SIGNING_ENDPOINT": minio.endpoint,
        "S3REG_STORE": store,
        "S3REG_LISTEN": "127.0.0.1:0",
        "S3REG_WORKERS": "1",
        "S3REG_PROXIES": nginx.SOURCE,
        "S3REG_DRAIN_SECONDS": "0",
    }

    def told(service):
        return environment(service) | instead

    def done(service, *command):
        return container(told(service), *command).ends()

    services = composed()["services"]
    (entry,) = map(json.loads, said("ENTRYPOINT"))
    done("bucket", *services["bucket"]["entrypoint"])
    done("release", *entry, *services["release"]["command"])
    replicas = [container(told(name), *PROCFILE["web"].split()) for name in ("web-1", "web-2")]
    addresses = [one.address() for one in replicas]
    done("web-1", *(word.replace("8089", addresses[0].rpartition(":")[2]) for word in health()))
    port = servers.free_port()
    page = (DEPLOY / "nginx.compose.conf").read_text().replace("listen 8080;", f"listen 127.0.0.1:{port};")
    hosts = {f"172.31.89.{11 + number}:8089": address for number, address in enumerate(addresses)}
    with nginx.running(tmp_path / "nginx", nginx.upstream(page, "nginx.compose.conf", hosts), port):
        baker, runner = (running.Node(tmp_path / name, f"http://127.0.0.1:{port}") for name in ("baker", "runner"))
        machine = machines.make(baker.library, sizes=(machines.MIB,), state_size=0)
        baker.done("push", machine.name, "-t", "v1", "--root-token", SECRET)
        runner.done("pull", machine.name, "--root-token", SECRET)
    assert "0 objects removed" in done("gc", *PROCFILE["gc"].split())
    for one in replicas:
        one.process.send_signal(signal.SIGTERM)
        one.ends()
    minio.remove_bucket(store.removeprefix("s3://"))
