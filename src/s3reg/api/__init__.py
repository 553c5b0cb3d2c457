"""HTTP in, HTTP out: parse, ask the registry, render.

everything        requestlog.py its id, and its line in the log; traces.py its spans
                  guard.py      who asks, and may they; needs.py says what each route needs
/tap/v1/*         tap.py        the login of API keys
/registry/* /log  anka.py       as the clients of an Anka registry expect it; selectors.py reads, shapes.py answers
/v1/apikey        apikeys.py    API keys; /api/v1/apikey too
/admin/*          permissions.py what its groups may do with templates
/api/v1/*         controller.py what an Anka controller answers of its registry
/transfer/v1/*    transfer.py   the native API; openapi.py describes it; its parts:
                  access.py     keys, groups, who may do what
                  events.py     what was reported and noted
                  sessions.py   the pushes under way
                  trash.py      single versions, and what was removed
                  usage.py      what templates take on the store
/objects/*        objects.py    signed links of a store in a directory
/livez /readyz /  health.py
/metrics          metrics.py    what all workers counted (tally.py), and what there is (stock.py)
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from flask import Flask

from s3reg import wire
from s3reg.api import (
    access,
    anka,
    apikeys,
    audit,
    controller,
    events,
    guard,
    headers,
    health,
    metrics,
    objects,
    peer,
    permissions,
    render,
    requestlog,
    sessions,
    tap,
    traces,
    transfer,
    trash,
    usage,
)
from s3reg.api.tally import Board
from s3reg.api.wiring import Wiring
from s3reg.store import links
from s3reg.store.files import FilesStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from s3reg.api.tally import Tally
    from s3reg.settings import Settings
    from s3reg.store import ObjectStore

_SLASHES = re.compile(r"/{2,}")


def create_app(
    settings: Settings,
    store: ObjectStore | None = None,
    *,
    clock: Callable[[], float] = time.time,
    tally: Tally | None = None,
) -> Flask:
    """The WSGI application over the store that the settings name, or over `store`. To be made after a fork.

    `clock`: what access control takes for the time, in seconds since 1970. `tally`: what this process counts with; default:
    one that it shares with nobody.

    Touches the network with the first request only. Raises SettingInvalid, and what opening the store raises.
    """
    app = Flask(__name__, static_folder=None)
    # One more than is taken: of a body without a length Flask reads so much and stops, and what is too much must show.
    app.config["MAX_CONTENT_LENGTH"] = wire.LARGEST_BODY + 1
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.merge_slashes = False
    spans = traces.opened(settings.traces)
    counted = metrics.Metrics(tally or Board().tally(0))
    held = Wiring(
        settings,
        store,
        clock=clock,
        observers=[counted.called, *([spans.called] if spans else [])],
        signings=[counted.signed],
        dropped=counted.dropped,
    )
    app.extensions["s3reg"] = held
    metrics.install(app, metrics.Page(counted, held), served=settings.metrics_listen is None)
    render.install_errors(app)
    requestlog.install(app)
    headers.install(app)
    audit.install(app)
    peer.install(app, clock)
    guard.install(app)
    for part in (health, tap, anka, apikeys, permissions, controller, transfer, access, events, trash, sessions, usage):
        app.register_blueprint(part.blueprint)
    if isinstance(held.store, FilesStore):
        app.register_blueprint(objects.blueprint)
    traces.install(app, spans)
    app.wsgi_app = requestlog.named(_tidy_paths(app.wsgi_app))  # type: ignore[method-assign]  # Flask's own way to wrap it
    return app


def _tidy_paths(inner: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """Take `//registry/vm/` for `/registry/vm`: clients join URLs naively, and do not follow redirects with a body."""

    def outer(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if not path.startswith(links.PREFIX):
            environ["PATH_INFO"] = _SLASHES.sub("/", path).rstrip("/") or "/"
        return inner(environ, start)

    return outer
