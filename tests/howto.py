"""The pages of docs/howto, typed as they stand: `Reader` types a page's commands and sees what they print.

    ```sh              commands, a line each; one that ends with `\\` goes on in the next; or a script, if it has a loop
    ```text            directly behind them: what they print on a terminal, word for word but for ids, times and sizes; … is
                       anything

A block that begins with `# on the node` is typed on a machine of that name: it has a home of its own. A command that ends
with `# exit code 8` must end so, and one with `# refused, exit code 4` within a minute.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import running
import servers
from s3reg.cli.main import run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pytest

PAGES = Path(__file__).parents[1] / "docs" / "howto"
WHERE = "localhost:8089"
"""Of the registry, on the pages."""
ELSEWHERE = re.compile(r"# on (.+)\n")
CODE = re.compile(r"# (refused, )?exit code (\d+)$")
SOON = 60
"""Seconds until what is refused must be refused."""
_HEADING_OR_BLOCK = re.compile(
    r"^#+ (?P<heading>[^\n]+)$|^(?P<indent> *)```sh\n(?P<sh>.*?)^ *```\n(?:\s*^ *```text\n(?P<text>.*?)^ *```$)?",
    re.DOTALL | re.MULTILINE,
)
_VARYING = (
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "<template>"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<digest>"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "<id>"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d"), "<time>"),
    (re.compile(r"\b(?!0 bytes)[\d.]+ (bytes|[kMG]B)"), "<size>"),
    (re.compile(r"\b\d+ (s|min) ago"), "<age>"),
    (re.compile(r"--seed \d+"), "--seed <seed>"),
)
_BESIDE = re.compile(r"\w+: .* \(\d+ %\)|making it durable|\d{4}-\d\d-\d\dT\S+Z |\s*\(request \S+\)$")
"""Progress, and the log: both move on. An error's request id is another one each time."""


@dataclass(frozen=True)
class Block:
    """Commands of a page, and what it says that they print."""

    heading: str
    """What they stand under."""
    commands: str
    prints: str | None


def blocks(page: str) -> list[Block]:
    """The commands of a page, block by block, without the indent of a list."""
    found, heading = [], ""
    for match in _HEADING_OR_BLOCK.finditer((PAGES / page).read_text()):
        if match["heading"]:
            heading = match["heading"]
        if match["sh"] is not None:
            commands, prints = (_unindented(match[name], match["indent"]) for name in ("sh", "text"))
            assert commands is not None
            found.append(Block(heading, commands, prints))
    return found


def typed(folder: Path, script: str) -> str:
    """What the commands print to stdout, in a shell that must end well."""
    command = ["sh", "-c", script]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=running.SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass
class Reader:
    """Somebody who types what a page says: on the registry's machine, and on others that share its folder.

    What is not s3reg goes to a shell; s3reg runs in this process, because thirty of its own take half a minute.
    """

    folder: Path
    stack: contextlib.ExitStack
    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch
    instead: Mapping[str, str]
    """What stands for a word or a part of one on the page: addresses, stores."""

    def __post_init__(self) -> None:
        for name in [name for name in os.environ if name.startswith(("S3REG_", "ANKA_"))]:
            self.monkeypatch.delenv(name)
        self.monkeypatch.chdir(self.folder)
        self.monkeypatch.setenv("PATH", str(self._programs()), prepend=os.pathsep)
        address = f"localhost:{servers.free_port()}"
        self.instead = {WHERE: address, **self.instead}
        self.listen = address.replace("localhost", "127.0.0.1")
        self.registry = contextlib.ExitStack()
        self.stack.callback(self.registry.close)
        self.stack.callback(signal.signal, signal.SIGTERM, signal.getsignal(signal.SIGTERM))

    def _programs(self) -> Path:
        """A folder with s3reg in it, for what goes to a shell."""
        place = self.folder / "bin" / "s3reg"
        place.parent.mkdir()
        place.write_text(f'#!/bin/sh\nexec {shlex.join(running.PROGRAM)} "$@"\n')
        place.chmod(0o755)
        return place.parent

    def follow(self, block: Block) -> list[tuple[str, str]]:
        """Type the lines of a block, and see that they print what the page says; each of them, and what it printed."""
        elsewhere = ELSEWHERE.match(block.commands)
        self.at(elsewhere[1] if elsewhere else "here")
        text = block.commands.removeprefix(elsewhere[0] if elsewhere else "").replace("\\\n", " ")
        lines = [text] if re.search(r"^(for|if|while) ", text, re.MULTILINE) else text.splitlines()
        said = [(line, self.type(line, on_a_terminal=block.prints is not None)) for line in lines if line.strip()]
        if block.prints is not None:
            printed = "".join(text for _, text in said)
            for word, ours in self.instead.items():
                printed = printed.replace(ours, word)
            assert _fits(printed, block.prints), f"{block.commands}prints\n{printed}"
        return said

    def at(self, machine: str) -> None:
        """Sit down at this machine."""
        home = self.folder / machine.replace(" ", "-")
        home.mkdir(exist_ok=True)
        self.monkeypatch.setenv("HOME", str(home))

    def type(self, line: str, *, on_a_terminal: bool = False) -> str:
        """What a line prints: to stdout, or all that a terminal shows of it but for progress."""
        for word, ours in self.instead.items():
            line = line.replace(word, ours)
        if not line.startswith("s3reg "):
            return typed(self.folder, line)
        words = shlex.split(line, comments=True)
        assert not set(line.partition("#")[0]) & set("$|;&<>`"), "this needs a shell"
        words = [str(Path(word).expanduser()) if word.startswith("~/") else word for word in words[1:]]
        if words[:1] == ["serve"]:
            return self.serve(words[1:])
        wanted = CODE.search(line)
        code, until = int(wanted[2]) if wanted else 0, time.monotonic() + SOON
        done = self.s3reg(words, on_a_terminal=on_a_terminal)
        while done.code != code and wanted and wanted[1] and time.monotonic() < until:
            done = self.s3reg(words, on_a_terminal=on_a_terminal)
        assert done.code == code, (line, done)
        return done.err + done.out if on_a_terminal else done.out

    def s3reg(self, words: list[str], *, on_a_terminal: bool) -> running.Outcome:
        """Run the program."""
        self.capsys.readouterr()
        with self._screen() if on_a_terminal else contextlib.nullcontext([]) as shown:
            code = run(words)
        out, err = self.capsys.readouterr()
        return running.Outcome(code, "".join(shown) + out, err)

    @contextlib.contextmanager
    def _screen(self) -> Iterator[list[str]]:
        """A wide terminal instead of stdout; in the end the list has what it showed."""
        ours, theirs = pty.openpty()
        shown: list[str] = []

        def watch() -> None:
            with contextlib.suppress(OSError):
                while data := os.read(ours, 65536):
                    pieces.append(data)

        pieces: list[bytes] = []
        watching = threading.Thread(target=watch)
        watching.start()
        with self.monkeypatch.context() as patch, os.fdopen(theirs, "w") as screen:
            for name, value in (("TERM", "dumb"), ("COLUMNS", "1000"), ("LINES", "50")):
                patch.setenv(name, value)
            patch.setattr(sys, "stdout", screen)
            yield shown
        watching.join(timeout=running.SECONDS)
        os.close(ours)
        shown.append(b"".join(pieces).decode().replace("\r\n", "\n"))

    def serve(self, arguments: list[str]) -> str:
        """In the other terminal: what ran there is ended first. It listens where there is room, whatever the page says."""
        self.registry.close()
        if "--listen" in arguments:
            at = arguments.index("--listen")
            arguments = [*arguments[:at], *arguments[at + 2 :]]
        store = {name: value for name, value in os.environ.items() if name.startswith("S3REG_S3_")}
        serving = running.serving(self.folder, *arguments, "--workers", "1", listen=self.listen, **store)
        self.registry.enter_context(serving)
        return ""


def _unindented(text: str | None, indent: str) -> str | None:
    return None if text is None else "".join(line.removeprefix(indent) for line in text.splitlines(True))


def _fits(printed: str, quoted: str) -> bool:
    """Whether it is what a page quotes."""
    lines, wanted = _comparable(printed), _comparable(quoted)
    patterns = [".*".join(map(re.escape, line.split("…"))) for line in wanted]
    return len(lines) == len(wanted) and all(map(re.fullmatch, patterns, lines))


def _comparable(text: str) -> list[str]:
    """The lines of what is shown, without what is never the same twice."""
    for varying, name in _VARYING:
        text = varying.sub(name, text)
    return [" ".join(line.split()) for line in text.splitlines() if line.strip() and not _BESIDE.match(line)]
