#!/usr/bin/env python3
"""All templates and tags of an Anka registry → an s3reg registry, by way of this Mac. Needs nothing but Python 3.9.

Anka's way of sending bytes is not public, so its own program brings each tag here, and s3reg pushes it on:

    for each template, for each of its tags, the oldest first:
        anka registry -r OLD pull --shrink --tag TAG ID
        s3reg -r NEW push ID --tag TAG
    anka delete --yes ID

Ids, names, tags, descriptions and the order of tags stay. Stopped at any point, kill -9 included, the same command goes on:
what the new registry has is not asked for again, and no VM is touched that was on this Mac before. docs/howto/migrate.md
tells what to do before and after. Exit codes: 0 all is there, 1 something is not (the report says what), 2 wrong usage,
3 one of the registries or programs does not answer.
"""

from __future__ import annotations

import argparse
import base64
import fcntl
import fnmatch
import json
import os
import shutil
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote

GB = 1000**3
ANKA = Path("/usr/local/bin/anka")
"""Where its installer puts it: an `anka` that s3reg shim wrote may come first in PATH."""
LIBRARY = Path.home() / "Library/Application Support/Veertu/Anka"
OF_THIS_ONE = {3, 8, 11, 18}
"""Exit codes of a push that are about one VM (not found, damaged, its files, already there). After others no push works."""
NOT_FOUND = 3
SECONDS = 60
Row = dict[str, Any]
Done = subprocess.CompletedProcess[str]


class Stop(Exception):
    """Nothing more can be done now; its text says why."""


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """The root token goes to the registry that was named, and nowhere else."""

    def redirect_request(self, *_: object) -> None:
        """Follow none: the answer is an error then."""


class Old:
    """The Anka registry's lists, over HTTP: Basic with the root token, a client certificate, or nothing."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.url = options.source.rstrip("/")
        self.headers = {"Accept": "application/json"}
        if options.root_token_file is not None:
            token = options.root_token_file.read_text().split("\n", 1)[0].strip()
            self.headers["Authorization"] = "Basic " + base64.b64encode(f"root:{token}".encode()).decode()
        tls = ssl.create_default_context(cafile=options.cacert)
        if options.insecure:
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        if options.cert is not None:
            tls.load_cert_chain(options.cert, options.key)
        self.http = urllib.request.build_opener(urllib.request.HTTPSHandler(context=tls), NoRedirects)

    def ask(self, path: str) -> Any:
        """The answer's body. Raises Stop."""
        request = urllib.request.Request(self.url + path, headers=self.headers)
        try:
            with self.http.open(request, timeout=SECONDS) as answered:
                told = json.load(answered)
        except urllib.error.HTTPError as error:
            raise Stop(f"{self.url}{path} answers {error.code}: {error.read(500).decode(errors='replace')}") from None
        except (OSError, ValueError) as error:
            raise Stop(f"{self.url}{path} does not answer as a registry: {error}") from None
        if not isinstance(told, dict) or told.get("status") != "OK":
            raise Stop(f"{self.url}{path} says {told}")
        return told.get("body") or []

    def templates(self) -> list[Row]:
        """Every template, by name: id, name, and its versions, the oldest first."""
        rows = sorted(self.ask("/registry/v2/vm"), key=lambda row: (row["name"], row["id"]))
        return [dict(self.ask(f"/registry/v2/vm?id={quote(row['id'])}")) for row in rows]


class Journal:
    """What earlier runs did, a JSON list a line, each on the disk before anything builds on it. A torn line is no line."""

    def __init__(self, folder: Path, new: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.new = folder / "journal", new
        self.lock = (folder / "lock").open("a")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another run, or a command that a killed one had started, is still at work: waiting for it")
            fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.moved: set[tuple[str, str, str]] = set()
        self.ours: set[str] = set()
        for line in self.path.read_text().splitlines() if self.path.exists() else []:
            try:
                deed, *what = json.loads(line)
            except ValueError:
                continue
            if deed == "moved":
                self.moved.add(tuple(what))
            elif deed == "pulls":
                self.ours.add(what[0])
            elif deed == "deleted":
                self.ours.discard(what[0])

    def note(self, *deed: str) -> None:
        """A line more."""
        with self.path.open("a") as file:
            file.write("\n" + json.dumps(deed) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def pulls(self, template: str) -> None:
        """From now on the template's VM on this Mac is ours to delete."""
        self.ours.add(template)
        self.note("pulls", template)

    def deleted(self, template: str) -> None:
        """Its VM is not here any more."""
        self.ours.discard(template)
        self.note("deleted", template)

    def has_moved(self, template: str, tag: str) -> bool:
        """Whether the new registry has, or had, this tag of the template."""
        return (self.new, template, tag) in self.moved

    def move(self, template: str, tag: str) -> None:
        """The new registry has it."""
        self.moved.add((self.new, template, tag))
        self.note("moved", self.new, template, tag)


class Move:
    """The whole of it: what was asked for, and what came of each tag."""

    def __init__(self, options: argparse.Namespace, old: Old, journal: Journal) -> None:
        self.options, self.old, self.journal = options, old, journal
        self.rows: list[tuple[str, str, str, str]] = []
        self.bytes = 0

    def told(self, what: str, template: Row, tag: str, why: str = "") -> None:
        """Something came of a tag: say it, and keep it for the report."""
        self.rows.append((what, template["name"], tag, why))
        if what not in {"there", "not asked for"}:
            say(f"{what}: {template['name']} {tag}{': ' if why else ''}{why}")

    def run(self, *command: str) -> Done:
        """A command to its end. It holds our lock too: should we be killed, the next run waits for it."""
        try:
            return subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                check=False,
                pass_fds=[self.journal.lock.fileno()],
            )
        except OSError as error:
            raise Stop(f"{command[0]} cannot be started: {error}") from None

    def anka(self, *words: str) -> Done:
        """Anka's program."""
        return self.run(self.options.anka, *words)

    def s3reg(self, *words: str) -> Done:
        """s3reg, with the new registry."""
        library = [] if self.options.library is None else ["--library", str(self.options.library)]
        return self.run(self.options.s3reg, *library, "-r", self.options.to, *words)

    def here(self) -> set[str]:
        """The ids of the VMs on this Mac."""
        done = self.anka("--machine-readable", "list")
        told = answer(done)
        if done.returncode or not isinstance(told.get("body"), list):
            raise Stop(f"{self.options.anka} list fails: {last_line(done)}")
        return {str(row["uuid"]).lower() for row in told["body"]}

    def there(self, template: str) -> dict[str, int]:
        """Tag → size, of what the new registry has of the template."""
        done = self.s3reg("-j", "describe", template)
        if done.returncode == NOT_FOUND:
            return {}
        told = answer(done)
        if done.returncode or not isinstance(told.get("body"), dict):
            raise Stop(f"the new registry cannot be asked: {last_line(done)}")
        return {version["tag"]: version["size"] for version in told["body"]["versions"]}

    def everything(self) -> None:
        """Every template in turn."""
        for template in self.old.templates():
            template["id"] = template["id"].lower()
            if self.asked_for(template):
                self.template(template)
        for ref in sorted(self.journal.ours):
            say(f"on this Mac still: {ref}, brought by this program")

    def asked_for(self, template: Row) -> bool:
        """Whether the options select it."""
        wanted = self.options.template
        return not wanted or any(matches(template, pattern) for pattern in wanted)

    def template(self, template: Row) -> None:
        """Its tags, in order; then its VM leaves this Mac."""
        work = self.work(template, self.there(template["id"]))
        if self.options.dry_run:
            for version in work:
                self.told("would move", template, version["tag"], f"{version.get('size', 0) / GB:.1f} GB")
            return
        before = None
        for number, version in enumerate(work):
            if why := self.tag(template, version, before):
                self.told("failed", template, version["tag"], why)
                for later in work[number + 1 :]:
                    self.told("failed", template, later["tag"], "waits for the one before it")
                break
            before = version
        self.leave(template)

    def work(self, template: Row, there: dict[str, int]) -> list[Row]:
        """The versions that are to be moved, the oldest first. What is not, is told."""
        versions = template.get("versions") or []
        last = max((number for number, version in enumerate(versions) if version["tag"] in there), default=-1)
        found = []
        for number, version in enumerate(versions):
            tag, size = version["tag"], version.get("size", 0)
            if tag in there:
                if not self.options.dry_run and not self.journal.has_moved(template["id"], tag):
                    self.journal.move(template["id"], tag)
                self.told("there", template, tag, "" if there[tag] == size else f"{there[tag]} bytes; here {size}")
            elif self.options.tag and not any(fnmatch.fnmatchcase(tag, glob) for glob in self.options.tag):
                self.told("not asked for", template, tag)
            elif any(matches(template, pattern) and tag == name for pattern, name in self.options.skip):
                self.told("skipped", template, tag, "as told")
            elif self.journal.has_moved(template["id"], tag):
                self.told("skipped", template, tag, "was moved before, and somebody took it out of the new registry")
            elif number < last and not self.options.any_order:
                self.told("skipped", template, tag, "a newer tag is there already: --any-order puts this one above it")
            else:
                found.append(version)
        return found

    def tag(self, template: Row, version: Row, before: Row | None) -> str:
        """Move one version; "", or why not. `before`: what this run has pulled of the template last. Raises Stop."""
        ref, tag = template["id"], version["tag"]
        if ref in self.here() and ref not in self.journal.ours:
            return "its VM was on this Mac before, and a pull would change it: delete it first, or use another Mac"
        if self.missing(version, before):
            self.leave(template)
            if missing := self.missing(version, None):
                return f"no room: {missing / GB:.1f} GB more are needed, {self.options.reserve} GB of them as a reserve"
        if ref not in self.journal.ours:
            self.journal.pulls(ref)
        say(f"pulling {template['name']} {tag}, {version.get('size', 0) / GB:.1f} GB")
        done = self.anka("registry", "-r", self.options.anka_remote, "pull", "--shrink", f"--tag={tag}", ref)
        if done.returncode:
            self.old.ask("/registry/status")
            return f"anka pull ends with {done.returncode}: {last_line(done)}"
        say(f"pushing {template['name']} {tag}")
        done = self.s3reg("push", "-q", ref, f"--tag={tag}", f"--description={version.get('description') or ''}")
        if done.returncode:
            why = f"s3reg push ends with {done.returncode}: {last_line(done)}"
            if done.returncode not in OF_THIS_ONE:
                raise Stop(f"{template['name']} {tag}: {why}")
            return why
        self.journal.move(ref, tag)
        self.bytes += version.get("size", 0)
        self.told("moved", template, tag, last_line(done).partition("; ")[2])
        return ""

    def missing(self, version: Row, before: Row | None) -> int:
        """The bytes that the disk lacks for a pull and the reserve. Layers that `before` brought are not needed again."""
        needed = version.get("size", 0)
        if before is not None and set(before.get("images") or []) & set(version.get("images") or []):
            needed = max(0, needed - before.get("size", 0))
        free = shutil.disk_usage(self.options.disk).free
        return max(0, int(needed + self.options.reserve * GB) - free)

    def leave(self, template: Row) -> None:
        """Its VM leaves this Mac, if we brought it."""
        ref = template["id"]
        if ref not in self.journal.ours or self.options.keep:
            return
        if ref in self.here():
            done = self.anka("delete", "--yes", ref)
            if done.returncode:
                self.told("failed", template, "", f"anka delete ends with {done.returncode}: {last_line(done)}")
                return
        self.journal.deleted(ref)

    def report(self) -> int:
        """Print what became of every tag; gives the exit code."""
        counts = Counter(what for what, *_ in self.rows)
        print("\nreport")
        for what, name, tag, why in self.rows:
            if what not in {"moved", "would move"} and why:
                print(f"{what}\t{name}\t{tag}\t{why}")
        print(", ".join(f"{counts[what]} {what}" for what in sorted(counts)) or "no tags")
        print(f"{self.bytes / GB:.1f} GB of VMs were moved by this run")
        return 1 if counts["failed"] else 0


def matches(template: Row, pattern: str) -> bool:
    """Whether the template is meant, by a pattern of names or by its id."""
    return fnmatch.fnmatchcase(template["name"], pattern) or template["id"] == pattern.lower()


def answer(done: Done) -> Row:
    """The JSON object in a program's last line; {} if there is none."""
    try:
        told = json.loads(last_line(done))
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def last_line(done: Done) -> str:
    """What a program said last."""
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    return lines[-1] if lines else "it says nothing"


def say(text: str) -> None:
    """At once, also into a pipe."""
    print(text, flush=True)


def address(text: str) -> str:
    """An address of HTTP."""
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError("write an address like http://anka-registry:8089")
    return text


def arguments(words: list[str] | None) -> argparse.Namespace:
    """What was asked for, with what follows from it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--from", dest="source", required=True, type=address, metavar="URL", help="the Anka registry")
    add("--anka-remote", metavar="NAME", help="what `anka registry list-repos` calls it; default: its URL")
    add("--to", required=True, metavar="NAME", help="the s3reg registry: a name of `s3reg add`, or its address")
    add("--template", action="append", default=[], metavar="GLOB", help="only these, by name or id; repeatable")
    add("--tag", action="append", default=[], metavar="GLOB", help="only these tags; repeatable")
    add("--skip", action="append", nargs=2, default=[], metavar=("TEMPLATE", "TAG"), help="not this one; repeatable")
    add("--any-order", action="store_true", help="move a tag although a newer one is there already")
    add("--dry-run", action="store_true", help="say what would be moved; move nothing")
    add("--reserve", type=float, default=20, metavar="GB", help="leave so much of the disk free (20)")
    add("--keep", action="store_true", help="leave the VMs on this Mac")
    add("--library", type=Path, metavar="DIR", help="Anka's library, if it is not where Anka puts it")
    add("--state", type=Path, default=Path.home() / ".s3reg-migrate", metavar="DIR", help="where the journal lies")
    add("--root-token-file", type=Path, metavar="FILE", help="of the Anka registry")
    add("--cert", metavar="FILE", help="a client certificate (PEM) for the Anka registry")
    add("--key", metavar="FILE", help="its key, if it lies elsewhere")
    add("--cacert", metavar="FILE", help="the CA (PEM) of the Anka registry")
    add("--insecure", action="store_true", help="do not check the Anka registry's certificate")
    add("--anka", default=str(ANKA) if ANKA.exists() else "anka", metavar="PROGRAM", help="Anka's own program")
    add("--s3reg", default="s3reg", metavar="PROGRAM", help="this one, if it is not in PATH")
    options = parser.parse_args(words)
    options.anka_remote = options.anka_remote or options.source
    places = [place for place in (options.library, LIBRARY, Path.home()) if place is not None and place.exists()]
    options.disk = places[0]
    return options


def main(words: list[str] | None = None) -> int:
    """Move what the words say; gives the exit code."""
    options = arguments(words)
    move = None
    try:
        move = Move(options, Old(options), Journal(options.state, options.to))
        move.everything()
    except (Stop, OSError) as stop:
        if move is not None:
            move.report()
        print(f"migrate: {stop}\n         the same command goes on where it was", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("migrate: interrupted; the same command goes on where it was", file=sys.stderr)
        return 130
    return move.report()


if __name__ == "__main__":
    sys.exit(main())
