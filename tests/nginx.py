"""nginx before registries, with what a document tells people to write into its configuration."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from typing import TYPE_CHECKING

import servers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SOURCE = "127.0.0.2"
"""Where this nginx connects from, so that a registry can tell it from everybody else on the machine."""
_SECONDS = 60
_CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    proxy_bind {source};
{inner}
}}
"""


def snippet(page: Path, **instead: str) -> str:
    """The page's one block for nginx. `instead`: directive → what it says here; each must be there."""
    (text,) = re.findall(r"```nginx\n(.*?)```", page.read_text(), re.DOTALL)
    for directive, value in instead.items():
        text, count = re.subn(rf"(?m)^(\s*){directive} .*;.*$", rf"\g<1>{directive} {value};", text)
        assert count, f"{page} has no {directive}"
    return text


def upstream(text: str, name: str, addresses: Mapping[str, str]) -> str:
    """`text` with other servers: HOST:PORT as written → as it is here."""
    for written, here in addresses.items():
        assert f"server {written} " in text, f"{name} has no server {written}"
        text = text.replace(f"server {written} ", f"server {here} ")
    return text


@contextlib.contextmanager
def running(folder: Path, inner: str, port: int) -> Iterator[None]:
    """nginx with this inside of `http`, once it listens at `port`."""
    program = servers.needs("nginx")
    _needs_source()
    folder.mkdir(parents=True, exist_ok=True)
    configuration, log = folder / "nginx.conf", folder / "nginx.log"
    configuration.write_text(_CONFIGURATION.format(folder=folder, source=SOURCE, inner=inner))
    command = [program, "-p", str(folder), "-e", str(log), "-c", str(configuration)]
    with servers.until_stdin_ends(command, log, {}):
        deadline = time.monotonic() + _SECONDS
        while not listens(port):
            told = log.read_text()
            assert "[emerg]" not in told, told
            assert time.monotonic() < deadline, told
            time.sleep(0.02)
        yield


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def _needs_source() -> None:
    with socket.socket() as sock:
        try:
            sock.bind((SOURCE, 0))
        except OSError:
            servers.lacking(f"nginx before replicas (no address {SOURCE}; macOS: ifconfig lo0 alias {SOURCE})")
