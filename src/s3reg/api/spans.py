"""Spans to a collector: OpenTelemetry, by OTLP over HTTP.

Nobody waits for the collector: a span goes into a queue with an end, and one thread sends what is there. What the setting
does not say — headers with a credential, the sampler, a CA — OpenTelemetry takes from its own variables:
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from s3reg import __version__
from s3reg.telemetry import emit, request_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

PATH = "/v1/traces"
"""Of a collector whose address has none (OTLP/HTTP, "Endpoint URLs for OTLP/HTTP")."""
MOST_WAITING = 4096
"""Spans; what comes when so many wait is dropped."""
BATCH = 512
QUIET_SECONDS = 60.0
"""Between two lines about a collector that does not take what it is sent."""
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
OTHER = "_OTHER"
"""A method that nobody knows, as the semantic conventions call it: a stranger makes no names."""
_EXPECTED = {"ok", "object-not-found", "precondition-failed"}
"""Outcomes that are answers, and no failures of the store."""
_FAULT = 500


class Spans:
    """The spans of one process. Safe between threads."""

    def __init__(self, url: str) -> None:
        # Its own lines repeat each try; what was lost is told by `_Told`.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        parts = urlsplit(url)
        exporter = _Told(OTLPSpanExporter(endpoint=url if parts.path.strip("/") else url.rstrip("/") + PATH))
        self._provider = TracerProvider(
            resource=Resource.create(
                {
                    "service.name": os.environ.get("OTEL_SERVICE_NAME") or "s3reg",
                    "service.version": __version__,
                    "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
                }
            ),
            # `finish` does that, in bounded time.
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, max_queue_size=MOST_WAITING, max_export_batch_size=BATCH)
        )
        self._tracer = self._provider.get_tracer("s3reg", __version__)

    @contextlib.contextmanager
    def request(self, parent: str | None) -> Iterator[None]:
        """A span for the request answered meanwhile; below `parent`, if that is a traceparent (W3C Trace Context)."""
        above = TraceContextTextMapPropagator().extract({"traceparent": parent or ""})
        facts = {"s3reg.request_id": request_id() or ""}
        with self._tracer.start_as_current_span(
            "request", above, SpanKind.SERVER, facts, record_exception=False, set_status_on_exception=False
        ):
            yield

    def answered(self, method: str, route: str | None, status: int) -> None:
        """How the request at hand was answered; `route`: the pattern that it fits."""
        span = trace.get_current_span()
        method = method if method in METHODS else OTHER
        span.update_name(f"{method} {route}" if route else method)
        span.set_attribute("http.request.method", method)
        span.set_attribute("http.response.status_code", status)
        if route:
            span.set_attribute("http.route", route)
        if status >= _FAULT:
            span.set_status(StatusCode.ERROR)

    def called(self, verb: str, outcome: str, seconds: float) -> None:
        """The store was called for the request at hand, if any, and took so long until now."""
        if not trace.get_current_span().is_recording():
            return
        ended = time.time_ns()
        facts = {"s3reg.store.verb": verb, "s3reg.store.outcome": outcome}
        span = self._tracer.start_span(
            f"store {verb}", kind=SpanKind.CLIENT, attributes=facts, start_time=ended - int(seconds * 1e9)
        )
        if outcome not in _EXPECTED:
            span.set_status(StatusCode.ERROR)
        span.end(ended)

    def finish(self, seconds: float) -> None:
        """Send what waits; takes at most so long. Nothing is sent afterwards."""
        thread = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        thread.start()
        thread.join(seconds)
        if thread.is_alive():
            emit("traces-lost", level=logging.WARNING, reason="the collector did not take the last of them in time")


class _Told(SpanExporter):
    """An exporter, and a line about what it could not send: once a minute."""

    def __init__(self, exporter: SpanExporter, clock: Callable[[], float] = time.monotonic) -> None:
        self._exporter = exporter
        self._clock = clock
        self._lost = 0
        self._told: float | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send them. Never raises: what the exporter meets is counted as a loss."""
        try:
            result = self._exporter.export(spans)
        except Exception:  # noqa: BLE001 - a collector's answer is no reason to end the thread
            result = SpanExportResult.FAILURE
        if result is not SpanExportResult.SUCCESS:
            self._lost += len(spans)
            now = self._clock()
            if self._told is None or now >= self._told + QUIET_SECONDS:
                self._told = now
                self._tell()
        return result

    def shutdown(self) -> None:
        """Tell what was not told yet."""
        if self._lost:
            self._tell()
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing waits here."""
        return self._exporter.force_flush(timeout_millis)

    def _tell(self) -> None:
        emit("traces-lost", level=logging.WARNING, spans=self._lost)
        self._lost = 0
