"""What every row stands on: disks, servers, nodes with libraries, a folder to work in; all gone when the bench ends."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sys
import tempfile
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench import measure, servers
from bench.corpus import GB, ROOM, Corpus, corpus

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bench.measure import Run, Side
    from bench.servers import Minio

VM = "bench"
DISK = "disk.img"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the bench was asked for."""

    gb: float
    rounds: int
    cache: Path
    work: Path | None
    trees: tuple[str, ...]
    settled: str
    """How the machine is settled before every timed run: what `measure.settle` takes."""
    templates: int = 10_000
    """In the registry that is listed."""


@dataclass
class Node:
    """A machine with the command line and a library. `inside`: words before each command, as `ip netns exec`."""

    library: Path
    registry: str
    inside: tuple[str, ...] = ()
    vm: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def disk(self) -> Path:
        """The disk of the VM that it pushes."""
        # The name of a layer belongs to one VM: two templates in one library would share the file.
        return self.library / "img_lib" / DISK

    def has(self, image: Path) -> Node:
        """Let the VM's disk be this one: a new file under the old name, as after a change, without a copy."""
        for name in ("vm_lib", "img_lib", "state_lib"):
            (self.library / name).mkdir(parents=True, exist_ok=True)
        folder = self.library / "vm_lib" / self.vm
        folder.mkdir(exist_ok=True)
        drives = f"hard_drives:\n- controller: ablk\n  pci_slot: 4\n  file: {DISK}\n"
        text = f"name: {VM}-{self.vm[:8]}\nuuid: {self.vm}\nversion: 1\nram: 4G\ncpu:\n  cores: 2\n{drives}"
        (folder / "config.yaml").write_text(text)
        self.disk.unlink(missing_ok=True)
        try:
            os.link(image, self.disk)
        except OSError:
            shutil.copyfile(image, self.disk)
        return self

    def command(self, *words: object) -> list[object]:
        """What a person would type."""
        program = [*self.inside, sys.executable, "-m", "s3reg.cli.main", "-j"]
        return [*program, "--library", self.library, "-a", self.registry, *words]

    def push(self, tag: str, *more: str) -> Run:
        """`s3reg push`."""
        return measure.run(self.command("push", self.vm, "-t", tag, *more), servers.environment())

    def push_told(self, tag: str) -> Run:
        """The same push by the library, which says how much was stored before compression."""
        program = [*self.inside, sys.executable, "-m", "bench.driver", "push", "--registry", self.registry]
        words: list[object] = [*program, "--library", self.library, self.vm, tag]
        return measure.run(words, library_environment())

    def pull(self, ref: str, tag: str, *more: str) -> Run:
        """`s3reg pull`."""
        return measure.run(self.command("pull", ref, "-t", tag, *more), servers.environment())

    def forget(self) -> None:
        """Its library, gone."""
        shutil.rmtree(self.library, ignore_errors=True)


def library_environment() -> dict[str, str]:
    """For a program of the bench's own: it imports this package."""
    home = str(Path(__file__).parents[1])
    return servers.environment(PYTHONPATH=os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])]))


@dataclass
class Lab:
    """The bench at work."""

    asked: Asked
    folder: Path
    ending: contextlib.ExitStack
    used: dict[float, Corpus] = field(default_factory=dict)
    """The disks that rows asked for, by their data in GB."""
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _minio: Minio | None = None
    _registry: str | None = None

    @property
    def corpus(self) -> Corpus:
        """The disk and its update."""
        return self.disks(self.asked.gb)

    def disks(self, gb: float) -> Corpus:
        """A disk of another size and its update."""
        if gb not in self.used:
            self.used[gb] = corpus(gb, self.asked.cache, self.asked.trees)
        return self.used[gb]

    @property
    def minio(self) -> Minio:
        """The S3 server of this run."""
        if self._minio is None:
            self._minio = self.ending.enter_context(servers.minio(self.folder / "minio"))
        return self._minio

    @property
    def registry(self) -> str:
        """The address of a registry on it."""
        if self._registry is None:
            self._registry = self.ending.enter_context(self.registry_on(self.minio.bucket(self.new("registry"))))
        return self._registry

    @contextlib.contextmanager
    def registry_on(
        self, store: str, signing: str | None = None, settings: Mapping[str, str] | None = None
    ) -> Iterator[str]:
        """A registry of its own."""
        log = self.folder / "registry.log"
        endpoint = self.minio.endpoint
        with servers.registry(store, log, endpoint=endpoint, signing=signing, settings=settings) as url:
            yield url

    def node(self, registry: str | None = None, inside: tuple[str, ...] = ()) -> Node:
        """A machine that has nothing yet."""
        return Node(self.folder / self.new("node"), registry or self.registry, inside)

    def alternate(self, sides: Sequence[Side], *, least: int = 1) -> dict[str, list[Run]]:
        """What each side took in so many rounds as were asked for, `least` at least."""
        return measure.alternate(sides, max(least, self.asked.rounds), self.asked.settled)

    def new(self, word: str) -> str:
        """A name that was not used before."""
        return f"{word}-{next(self._numbers)}"

    def clear_store(self) -> None:
        """Drop the packs that were sent so far: no row needs what another pushed."""
        measure.run(["rm", "-rf", *sorted((self.minio.folder / "data").glob("registry-*/packs/main/*"))])


@contextlib.contextmanager
def lab(asked: Asked) -> Iterator[Lab]:
    """A bench; whatever it starts or writes outside the cache is gone when the block ends."""
    parent = asked.work or asked.cache
    parent.mkdir(parents=True, exist_ok=True)
    # At most the raw disk on the store, a copy of it that came down whole, and packs of half its data.
    needed, free = int(asked.gb * GB * (2 * ROOM + 0.5)), shutil.disk_usage(parent).free
    if free < needed:
        raise SystemExit(
            f"bench: {parent} has {free / GB:.0f} GB free, a run needs {needed / GB:.0f}: make bench GB=2, or CACHE=DIR"
        )
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=parent))
    with contextlib.ExitStack() as ending:
        ending.callback(shutil.rmtree, folder, ignore_errors=True)
        yield Lab(asked, folder, ending)
