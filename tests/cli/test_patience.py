"""How long a command waits for a registry that is away."""

import socket
import threading

from s3reg.cli.node import TRIES_TO_ASK
from s3reg.client.connection import TRIES


def test_who_only_asks_is_told_soon_that_nobody_answers(s3reg):
    """Anka's plugin for Buildkite asks one registry after the other with `list`, until one answers."""
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up():
            while True:
                try:
                    caller, _ = server.accept()
                except OSError:
                    return
                asked.append(caller)
                caller.close()

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        done = s3reg("list", "-a", f"http://127.0.0.1:{server.getsockname()[1]}")
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert done.code == 10
    assert "does not answer" in done.err
    # The last one asks whether it is TLS that is spoken there.
    assert TRIES_TO_ASK <= len(asked) <= TRIES_TO_ASK + 1 < TRIES
