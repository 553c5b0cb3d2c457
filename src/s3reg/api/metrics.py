"""What is counted, and `/metrics`: in the Prometheus text format, what all workers of the replica counted.

    on the API's port     guarded like a list: who may not list every template sees its own, and no traffic of others
    on a port of its own  beside(): nobody is asked who they are; then the API has no such route

What a stranger sends never makes a series: a route is a pattern of ours, a method one that we know.
"""

from __future__ import annotations

import bisect
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, current_app, g, request
from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as TEXT
from prometheus_client.registry import Collector

from s3reg import __version__
from s3reg.api import requestlog
from s3reg.api.guard import asker
from s3reg.api.stock import stock_of
from s3reg.model.identity import EVERYONE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from flask import Flask
    from prometheus_client.metrics_core import Metric as Family

    from s3reg.api.stock import Stock
    from s3reg.api.tally import Tally
    from s3reg.api.wiring import Wiring
    from s3reg.model.identity import Identity

blueprint = Blueprint("metrics", __name__)

PATH = "/metrics"
BESIDE = {"/livez", "/readyz"}
"""The API's paths that the port beside it has too."""
OTHER = "other"
"""The route of a request that has none of ours, and a method that we do not know."""
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds, in seconds: a list that is kept takes 1 ms, a call of S3 some 20, one that is repeated to the end 30 s."""
_CELLS = len(BUCKETS) + 2
"""One for each bucket, one for what took longer, one for the sum."""
_REFUSED = 400
_KINDS: dict[str, Any] = {
    "counter": CounterMetricFamily,
    "histogram": HistogramMetricFamily,
    "gauge": GaugeMetricFamily,
}


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: what the documents tell of it."""

    name: str
    kind: str
    """counter, histogram or gauge."""
    labels: tuple[str, ...]
    meaning: str


REQUESTS = Metric(
    "s3reg_requests_total", "counter", ("route", "method", "status"), "Requests answered, by the route's pattern."
)
REQUEST_SECONDS = Metric(
    "s3reg_request_seconds", "histogram", ("route",), "Time until an answer was begun, from the whole request on."
)
STORE_CALLS = Metric(
    "s3reg_store_calls_total",
    "counter",
    ("verb", "outcome"),
    "Calls of the store, repeats included in one; the outcome is ok or an error's code.",
)
STORE_SECONDS = Metric(
    "s3reg_store_call_seconds", "histogram", ("verb",), "Time that the store took for a call, its repeats included."
)
LINKS = Metric("s3reg_links_signed_total", "counter", ("kind",), "Links signed, to get or to put an object.")
LOGINS = Metric(
    "s3reg_logins_total", "counter", ("outcome",), "Logins of API keys; the outcome is ok or an error's code."
)
DROPPED = Metric("s3reg_events_dropped_total", "counter", (), "Events that could not be kept.")
SWEPT = Metric(
    "s3reg_last_sweep_timestamp_seconds",
    "gauge",
    (),
    "When the last sweep of the store ended, whoever made it; absent until there was one.",
)
BUILD = Metric("s3reg_build_info", "gauge", ("version",), "Always 1.")
STATE = Metric(
    "anka_registry_state_count",
    "gauge",
    ("state",),
    "1 for the state that it is in, Running or FAIL: is the store read?",
)
DISK_TOTAL = Metric("anka_registry_disk_total_space", "gauge", (), "Bytes in all, as /registry/disk tells them.")
DISK_FREE = Metric("anka_registry_disk_free_space", "gauge", (), "Bytes free; of a bucket 1 PiB.")
DISK_USED = Metric("anka_registry_disk_used_space", "gauge", (), "Their difference; of a bucket what templates hold.")
TEMPLATES = Metric("anka_registry_template_count", "gauge", (), "Templates.")
TEMPLATE_DISK = Metric(
    "anka_registry_template_disk_used", "gauge", ("template_uuid", "template_name"), "Bytes of a template's files."
)
TEMPLATE_TAGS = Metric(
    "anka_registry_template_tags_count", "gauge", ("template_uuid", "template_name"), "Tags of a template."
)
TAG_DISK = Metric(
    "anka_registry_template_tag_disk_used",
    "gauge",
    ("template_uuid", "template_name", "tag_name"),
    "Bytes of the files of a template's version.",
)
COUNTED = (REQUESTS, REQUEST_SECONDS, STORE_CALLS, STORE_SECONDS, LINKS, LOGINS, DROPPED)
"""What workers count."""
ALL = (
    *(*COUNTED, SWEPT, BUILD),
    *(STATE, DISK_TOTAL, DISK_FREE, DISK_USED, TEMPLATES, TEMPLATE_DISK, TEMPLATE_TAGS, TAG_DISK),
)


class Metrics:
    """What this process counts, and where what it counts is added up. Safe between threads."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        # A counter that appears with its first event has no rate then.
        self.dropped(0)
        self._count(LOGINS, "ok", by=0)
        for method in ("get", "put"):
            self.signed(method, 0)

    def called(self, verb: str, outcome: str, seconds: float) -> None:
        """A call of the store."""
        self._count(STORE_CALLS, verb, outcome)
        self._observe(STORE_SECONDS, seconds, verb)

    def signed(self, method: str, links: int) -> None:
        """Links of a method."""
        self._count(LINKS, method, by=links)

    def dropped(self, events: int) -> None:
        """Events that could not be kept."""
        self._count(DROPPED, by=events)

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """A request."""
        self._count(REQUESTS, route, method if method in METHODS else OTHER, str(status))
        self._observe(REQUEST_SECONDS, seconds, route)

    def logged_in(self, outcome: str) -> None:
        """A login, or what should have become one."""
        self._count(LOGINS, outcome)

    def families(self) -> Iterator[Family]:
        """What all workers of the replica counted, together."""
        added: dict[tuple[str, ...], list[float]] = {}
        for key, cells in self._tally.board.read():
            sums = added.setdefault(key, [0.0] * len(cells))
            added[key] = [one + more for one, more in zip(sums, cells, strict=True)]
        made: dict[str, Any] = {metric.name: _family(metric) for metric in COUNTED}
        for (name, *labels), sums in sorted(added.items()):
            if isinstance(made[name], HistogramMetricFamily):
                made[name].add_metric(labels, _cumulated(sums[:-1]), sums[-1])
            else:
                made[name].add_metric(labels, sums[0])
        yield from made.values()

    def _count(self, metric: Metric, *labels: str, by: float = 1) -> None:
        self._tally.add((metric.name, *labels), ((0, by),))

    def _observe(self, metric: Metric, seconds: float, *labels: str) -> None:
        bucket = bisect.bisect_left(BUCKETS, seconds)
        self._tally.add((metric.name, *labels), ((bucket, 1), (_CELLS - 1, seconds)), cells=_CELLS)


class Page:
    """`/metrics` of one app."""

    def __init__(self, metrics: Metrics, held: Wiring) -> None:
        self.metrics = metrics
        self._stock: Stock = stock_of(held)

    def text(self, by: Identity) -> bytes:
        """All of it. An asker that may not list every template sees those that it may, and nothing of what others do."""
        stock = list(self._of_stock(by))  # first: what it asks of the store is counted too
        counted = self.metrics.families() if by.domains() is None else ()
        return bytes(generate_latest(_Collected([*counted, *stock])))

    def _of_stock(self, by: Identity) -> Iterator[Family]:
        yield _gauge(BUILD, [((__version__,), 1)])
        seen = self._stock.seen()
        yield _gauge(STATE, [(("Running",), seen is not None), (("FAIL",), seen is None)])
        if seen is None:
            return
        if seen.swept is not None and by.domains() is None:
            yield _gauge(SWEPT, [((), seen.swept)])
        heads, room = seen.by(by)
        yield _gauge(DISK_TOTAL, [((), room.total)])
        yield _gauge(DISK_FREE, [((), room.free)])
        yield _gauge(DISK_USED, [((), room.total - room.free)])
        yield _gauge(TEMPLATES, [((), len(heads))])
        yield _gauge(TEMPLATE_DISK, [((head.id, head.name), head.size) for head in heads])
        yield _gauge(TEMPLATE_TAGS, [((head.id, head.name), len(head.versions)) for head in heads])
        # Of a damaged head two versions may have one tag: Prometheus takes no series twice.
        sizes = {(head.id, head.name, entry.tag): entry.size for head in heads for entry in head.versions}
        yield _gauge(TAG_DISK, list(sizes.items()))


class _Collected(Collector):
    """Families that are there already, as the library takes them."""

    def __init__(self, families: list[Family]) -> None:
        self._families = families

    def collect(self) -> list[Family]:
        return self._families


def install(app: Flask, page: Page, *, served: bool) -> None:
    """Count every request of `app`; `served`: it has `/metrics` itself."""
    app.extensions["s3reg-metrics"] = page
    app.before_request(_begin)
    app.after_request(_count)
    if served:
        app.register_blueprint(blueprint)


def of(app: Flask) -> Metrics:
    """What `app` counts with."""
    page: Page = app.extensions["s3reg-metrics"]
    return page.metrics


def beside(app: Flask) -> Callable[[dict[str, Any], Any], Iterable[bytes]]:
    """The WSGI application of a port of its own: the app's metrics and health, and nothing else of it."""
    page: Page = app.extensions["s3reg-metrics"]

    def answer(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path in BESIDE:
            return app.wsgi_app(environ, start)
        if path != PATH or environ["REQUEST_METHOD"] != "GET":
            return Response("/metrics, /livez, /readyz\n", 404, mimetype="text/plain")(environ, start)
        return _answer(page.text(EVERYONE))(environ, start)

    return answer


@blueprint.get(PATH)
def show() -> Response:
    """What there is to be seen of the replica, for Prometheus."""
    page: Page = current_app.extensions["s3reg-metrics"]
    return _answer(page.text(asker()))


def _answer(text: bytes) -> Response:
    return Response(text, 200, {"Cache-Control": "no-store"}, content_type=TEXT)


def _begin() -> None:
    g.counted_from = time.perf_counter()


def _count(answer: Response) -> Response:
    metrics = of(current_app)
    seconds = time.perf_counter() - g.counted_from if "counted_from" in g else 0.0
    metrics.answered(requestlog.route() or OTHER, request.method, answer.status_code, seconds)
    # A login is made by two calls. What the first of them refuses is one that was refused; what it gives is none yet.
    if answer.status_code >= _REFUSED and request.endpoint in {"tap.hand", "tap.shake"}:
        metrics.logged_in(g.get("code") or "internal")
    elif request.endpoint == "tap.shake":
        metrics.logged_in("ok")
    return answer


def _family(metric: Metric) -> Family:
    made: Family = _KINDS[metric.kind](metric.name, metric.meaning, labels=metric.labels)
    return made


def _gauge(metric: Metric, values: Iterable[tuple[tuple[str, ...], float]]) -> Family:
    family = GaugeMetricFamily(metric.name, metric.meaning, labels=metric.labels)
    for labels, value in values:
        family.add_metric(labels, value)
    return family


def _cumulated(counts: Iterable[float]) -> list[tuple[str, float]]:
    """Each bucket's bound, as it is written, and how many took at most so long."""
    so_far, found = 0.0, []
    for bound, count in zip((*map(str, BUCKETS), "+Inf"), counts, strict=True):
        so_far += count
        found.append((bound, so_far))
    return found
