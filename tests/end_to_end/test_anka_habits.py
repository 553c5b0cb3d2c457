"""How clients of Anka that are out there read what they get: each parser here does what that client's does, no better.

The command line runs in this process, with stdout and stderr in one file as the clients have them; shell scripts run with
real bash, jq and curl. Who logs in, and how, is not here.
"""

import contextlib
import http.client
import json
import signal
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

import machines
import servers
import sites
from machines import KIB
from s3reg.cli.main import run

TAGS = ("vanilla", "vanilla+ssh", "os-deps:6cores")


class Place:
    """A registry with two templates, and a node that calls `anka` as a client does."""

    def __init__(self, folder, url, patch):
        self.url = url
        self._folder = folder
        self.base = machines.make(folder / "baker", sizes=(300 * KIB, 5000), state_size=9000, name="13.1-base")
        self.number = machines.make(folder / "baker", sizes=(4000,), state_size=0, name="11.6", seed=2)
        self._patch = patch
        patch.setenv("S3REG_REMOTES", str(folder / "remotes"))
        self.at(folder / "baker")
        self.anka("registry", "add", "office", url)
        for tag in TAGS:
            self.anka("registry", "push", self.base.name, "-t", tag)
            machines.scatter(self.base.disk(), 1, seed=len(tag))
        self.anka("registry", "push", self.number.name, "-t", "latest")
        self.at(folder / "runner")

    def at(self, library):
        """The library of the commands that follow."""
        self._patch.setenv("S3REG_LIBRARY", str(library))

    def anka(self, *words, code=0):
        """What a call leaves in the one file of its stdout and stderr."""
        words = [str(word) for word in words]
        own = next(word for word in words if not word.startswith("-"))
        before = signal.getsignal(signal.SIGTERM)
        with (self._folder / "merged").open("w+") as merged:
            with contextlib.redirect_stdout(merged), contextlib.redirect_stderr(merged):
                ended = run(["vm", *words] if own in {"list", "show", "clone", "delete"} else words)
            signal.signal(signal.SIGTERM, before)
            merged.seek(0)
            text = merged.read()
        assert ended == code, text
        return text

    def rest(self, method, target, body=None, headers=None):
        """Status and body of a request."""
        parts = urlsplit(self.url)
        with contextlib.closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)) as line:
            line.request(method, target, body, headers or {})
            answer = line.getresponse()
            return answer.status, answer.read().decode()

    def bash(self, script):
        """What a script prints; it may say anka where an answer of the command line was put into a file."""
        done = subprocess.run(
            [servers.needs("bash"), "-euo", "pipefail", "-c", script],
            env={"PATH": "/usr/bin:/bin:/usr/local/bin:/opt/homebrew/bin", "URL": self.url, "DIR": str(self._folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    servers.needs("jq")
    servers.needs("curl")
    folder = tmp_path_factory.mktemp("habits")
    with sites.address(folder / "store") as url, pytest.MonkeyPatch.context() as patch:
        for name in ("S3REG_REGISTRY", "ANKA_REGISTRY", "ANKA_MACHINE_READABLE", "ANKA_DEBUG"):
            patch.delenv(name, raising=False)
        patch.setenv("HOME", str(folder))
        yield Place(folder, url, patch)


# --- The command line ------------------------------------------------------------------------------------------------


def packer(text):
    """The plugin for Packer: the chunk that no newline ends; whatever came before it, line by line, is talk."""
    *_, last = text.split("\n")
    assert last, "missing machine readable output"
    parsed = json.loads(last.removesuffix("\r"))
    assert type(parsed["status"]) is str
    assert type(parsed.get("message", "")) is str
    assert type(parsed.get("code", 0)) is int
    assert type(parsed.get("exception_type", "")) is str
    return parsed


def anklet(text):
    """Anklet: the last line that is not empty, its fields whatever case they are written in."""
    last = [line for line in text.split("\n") if line.strip()][-1]
    parsed = {name.lower(): value for name, value in json.loads(last).items()}
    assert type(parsed["code"]) is int
    return parsed


def test_packer_and_anklet_find_the_answer_of_every_command(place):
    calls = [
        (["registry", "list"], 0),
        (["registry", "list-repos"], 0),
        (["registry", "describe", "13.1-base"], 0),
        (["registry", "show", "13.1-base"], 0),
        (["registry", "check-download-size", "13.1-base"], 0),
        (["registry", "pull", "--tag", "vanilla", "13.1-base"], 0),
        (["registry", "pull", "--tag", "vanilla", "13.1-base"], 0),
        (["registry", "pull", "--tag", "nothing", "13.1-base"], 3),
        (["registry", "pull", "nobody"], 3),
        (["registry", "-r", "nowhere", "list"], 3),
        (["registry", "pull"], 2),
        (["registry", "push", "13.1-base", "--tag", "vanilla"], 18),
    ]
    for words, code in calls:
        place.at(place.base.library if words[1] == "push" else place.base.library.parent / "runner")
        text = place.anka("--machine-readable", *words, code=code)
        told = packer(text)
        assert told == anklet(text)
        assert (told["status"], told["code"]) == ("ERROR" if code else "OK", code), words


def test_packer_sees_whether_a_vm_is_there_by_the_code_and_the_message(place):
    told = packer(place.anka("--machine-readable", "registry", "pull", "no-such-vm", code=3))
    assert (told["code"], told["message"]) == (3, "no-such-vm: not found")


def test_packer_replaces_a_tag_by_reverting_at_the_address_that_list_repos_gives(place):
    """It looks for the template by `id` and the tag that is newest; only HTTP 200 with OK counts."""
    place.at(place.base.library)
    place.anka("--machine-readable", "registry", "push", "--tag", "again", "--description", "one more", "13.1-base")
    listed = packer(place.anka("--machine-readable", "registry", "list"))["body"]
    (found,) = [one for one in listed if one["name"] == "13.1-base"]
    assert found["latest"] == "again"
    (remote,) = [one for one in packer(place.anka("-j", "registry", "list-repos"))["body"] if one["default"]]
    assert (remote["name"], remote["url"]) == ("office", place.url)
    status, text = place.rest("DELETE", f"/registry/revert?id={found['id']}")
    assert (status, packer(text)["status"]) == (200, "OK")
    listed = packer(place.anka("--machine-readable", "registry", "list"))["body"]
    assert [one["latest"] for one in listed if one["id"] == place.base.id] == [TAGS[-1]]
    place.at(place.base.library.parent / "runner")


def test_packers_older_releases_take_a_number_in_the_list_for_a_text(place):
    """Their parser fails as a whole where a list has a `number` that is none of theirs: so it has none."""
    for one in json.loads(place.rest("GET", "/registry/v2/vm")[1])["body"]:
        assert type(one.get("number", "")) is str
        assert (type(one["id"]), type(one["name"])) == (str, str)


def test_anklet_weighs_the_download_against_the_space_there_is(place):
    """Its numbers are unsigned; an empty object says that there is nothing to fetch."""
    place.at(place.base.library.parent / "anklet")
    remote = ("--remote", place.url)
    shown = anklet(place.anka("-j", "registry", *remote, "show", "13.1-base", "--tag", "vanilla"))["body"]
    assert float(shown["cpu_cores"]) == 2
    assert float(shown["ram_size"]) == 4 * 1024**3
    assert unsigned(shown["image_size"]) == 300 * KIB + 5000
    check = ("-j", "pull", "--check-download-size", "13.1-base", "--tag", "vanilla", place.url)
    told = {name: unsigned(value) for name, value in anklet(place.anka(*check))["body"].items()}
    assert 0 < told["size"] - told["cached"] <= told["available"]
    pulled = anklet(place.anka("-j", "registry", *remote, "pull", "--shrink", "13.1-base", "--tag", "vanilla"))
    assert (pulled["status"], pulled["message"]) == ("OK", "vm pulled successfully")
    again = anklet(place.anka(*check))
    assert (again["status"], again["body"]) == ("OK", {})


def test_anklet_looks_whether_a_template_is_here_and_clones_it(place):
    place.at(place.base.library.parent / "clones")
    missing = anklet(place.anka("-j", "list", "13.1-base", code=3))
    assert (missing["status"], missing["message"]) == ("ERROR", "13.1-base: not found")
    place.anka("-j", "registry", "pull", "--shrink", "13.1-base", "--tag", "vanilla")
    (here,) = anklet(place.anka("-j", "list", "13.1-base"))["body"]
    assert (here["name"], here["uuid"], here["version"]) == ("13.1-base", place.base.id, "vanilla")
    assert (unsigned(here["image_size"]) > 0, here["status"]) == (True, "suspended")
    shown = anklet(place.anka("-j", "show", "13.1-base"))["body"]
    assert (float(shown["cpu_cores"]), float(shown["ram_size"])) == (2, 4 * 1024**3)
    assert anklet(place.anka("-j", "show", "13.1-base", "tag"))["body"][0]["tag"] == "vanilla"
    assert anklet(place.anka("-j", "clone", "13.1-base", "anklet-vm-1"))["status"] == "OK"
    assert anklet(place.anka("-j", "list", "-r"))["body"] == []
    assert anklet(place.anka("-j", "delete", "--yes", "anklet-vm-1"))["status"] == "OK"
    assert [one["name"] for one in anklet(place.anka("-j", "list"))["body"]] == ["13.1-base"]
    assert anklet(place.anka("-j", "delete", "--yes", "13.1-base", "--tag", "vanilla"))["status"] == "OK"


def test_the_buildkite_plugin_tries_registries_by_whether_list_prints_anything(place, monkeypatch):
    """It exports ANKA_DEBUG for itself: empty, or the option as it is typed."""
    program = [sys.executable, "-m", "s3reg.cli.main", "registry", "-r", "gone", "list"]
    done = subprocess.run(program, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (3, b"")
    for value in ("", "--debug"):
        monkeypatch.setenv("ANKA_DEBUG", value)
        assert place.anka("registry", "-r", "office", "list").strip()


def test_the_image_builders_find_a_template_by_name_under_either_key(place):
    """Runner images, in PowerShell: `ConvertFrom-Json`, then `.uuid` or `.id` of the one that has the name."""
    listed = packer(place.anka("--machine-readable", "registry", "list"))["body"]
    (found,) = [one for one in listed if one["name"] == "11.6"]
    assert found["uuid"] == found["id"] == place.number.id


def test_getting_started_asks_jq_whether_a_tag_is_there(place):
    folder = place.base.library.parent
    for name, words, code in (("known", "13.1-base", 0), ("unknown", "nobody", 3), ("list", None, 0)):
        command = ("describe", words) if words else ("list",)
        (folder / f"{name}.json").write_text(place.anka("--machine-readable", "registry", *command, code=code))
    assert place.bash("""
        cd "$DIR"
        tag() { jq -r ".body.versions[] | select(.tag == \\"$1\\") | .tag" known.json 2>/dev/null; }
        [[ $(jq -r .status known.json) != ERROR ]] && echo there
        [[ $(jq -r .status unknown.json) == ERROR ]] && echo not there
        [[ -n $(tag vanilla+ssh) && -z $(tag vanilla+port) ]] && echo tagged
        jq -r '.body[] | select(.name == "11.6") | .id' list.json
    """) == ["there", "not there", "tagged", place.number.id]


# --- The registry ----------------------------------------------------------------------------------------------------


def unsigned(value):
    """What Go decodes into a uint64: a number without fraction, exponent or sign."""
    assert type(value) is int
    assert 0 <= value < 2**64
    return value


def envelope(answer):
    """The body of a success, as the plugins have it: a status that is 200 and says OK."""
    status, text = answer
    parsed = json.loads(text)
    assert (status, parsed["status"]) == (200, "OK")
    return parsed["body"]


def test_cloud_connect_picks_templates_with_jq_and_a_regex(place):
    assert place.bash("""
        curl -s "$URL/registry/vm" | jq -r '.body[] | keys[]' | grep -cE '^[0-9a-f-]{36}$'
        curl -s "$URL/registry/vm" | jq -r '.body[] | values[]' | grep -E '^13'
        curl -s -o /dev/null -w '%{http_code}\\n' "$URL/registry/status"
        [[ $(curl -s "$URL/registry/status" | jq '.message') == "Authentication Required" ]] && echo locked
        [[ $(curl -s "$URL/registry/status" | jq -r '.message') == "" ]] && echo open
        curl -s "$URL/log" -d '{"machine_name": "i-1 | Mac", "service": "Connect", "host": "", "content": "says "hi""}' \\
            | jq -r .status
        curl -s "$URL/api/v1/registry/vm" | jq -r '.body[] | select(.name == "13.1-base") | .id'
        curl -s -u ":a token" "$URL/registry/status" | jq -r .body.status
    """) == ["2", "13.1-base", "200", "open", "OK", place.base.id, "Running"]


def test_the_exporter_reads_unsigned_numbers(place):
    """The controller's paths, as it has no others; what is used of the disk is a difference that must not be negative."""
    assert envelope(place.rest("GET", "/api/v1/status"))["registry_status"] == "Running"
    disk = envelope(place.rest("GET", "/api/v1/registry/disk"))
    assert unsigned(disk["total"]) - unsigned(disk["free"]) >= 0
    for template in envelope(place.rest("GET", "/api/v1/registry/vm")):
        assert template["id"]
        assert template["name"]
        sizes = [unsigned(template["size"])]
        told = envelope(place.rest("GET", f"/api/v1/registry/vm?id={template['id']}"))
        assert (told["id"], unsigned(told["size"])) == (template["id"], sizes[0])
        assert all(0 < unsigned(version["size"]) <= sizes[0] and version["tag"] for version in told["versions"])
        times = [version[name] for version in told["versions"] for name in ("last_pull", "last_push", "creation_date")]
        assert [unsigned(moment) for moment in times]


def test_jenkins_and_teamcity_offer_a_templates_tags(place):
    listed = envelope(place.rest("GET", "/api/v1/registry/vm"))
    assert {one["name"]: one["id"] for one in listed} == {"13.1-base": place.base.id, "11.6": place.number.id}
    told = envelope(place.rest("GET", f"/api/v1/registry/vm?id={place.base.id}"))
    assert [version["tag"] for version in told["versions"]] == list(TAGS)


def test_the_gitlab_executor_finds_an_id_by_name_in_the_old_form_of_the_list(place):
    listed = envelope(place.rest("GET", "/api/v1/registry/vm?apiVer=v1"))
    assert [one["id"] for one in listed if one["name"] == "11.6"] == [place.number.id]


def test_a_kubelet_takes_404_or_a_status_that_is_not_ok_for_missing(place):
    def missing(template):
        status, text = place.rest("GET", f"/registry/v2/vm?id={template}", headers={"Accept": "application/json"})
        return status == 404 or json.loads(text)["status"] != "OK"

    assert not missing(place.base.id)
    assert missing("2f1d0c5e-7a31-4c0e-9d52-0b6a4e8f1009")


def test_a_python_client_of_2018_stops_at_the_http_status_before_it_compares_messages(place):
    """Its registry said FAIL under HTTP 200. Here it stops with the status, and never takes a failure for a template."""

    def shown(template):
        status, text = place.rest("GET", f"/api/v1/registry/vm?id={template}")
        if status >= 400:
            raise ConnectionError(status)
        parsed = json.loads(text)
        if parsed["status"] != "OK":
            raise LookupError(parsed["message"])
        return parsed["body"]

    assert shown(place.base.id)["name"] == "13.1-base"
    with pytest.raises(ConnectionError, match="400"):
        shown("2f1d0c5e-7a31-4c0e-9d52-0b6a4e8f1009")


def test_probes_want_nothing_but_200(place):
    assert [place.rest("GET", path)[0] for path in ("/livez", "/readyz")] == [200, 200]
