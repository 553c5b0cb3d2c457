"""Traces, as a collector gets them: a real receiver of OTLP over HTTP, which decodes what is sent."""

import contextlib
import http.server
import subprocess
import sys
import threading

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

import faults
import loglines
from push_calls import API, Push
from s3reg import telemetry
from s3reg.api import create_app, traces
from s3reg.errors import SettingInvalid, StoreUnavailable
from s3reg.settings import Settings

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SECONDS = 60
ERROR = 2


class Collector(http.server.ThreadingHTTPServer):
    """What it was sent, at which path; `status`: what it answers."""

    def __init__(self, status=200):
        super().__init__(("127.0.0.1", 0), _Taking)
        self.status = status
        self.paths, self.spans, self.resources = set(), [], []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def named(self, name):
        return [span for span in self.spans if span.name == name]


class _Taking(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        told = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
        self.server.paths.add(self.path)
        for part in told.resource_spans:
            self.server.resources.append(facts(part.resource))
            self.server.spans += [span for scope in part.scope_spans for span in scope.spans]
        self.send_response(self.server.status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        """It shares stderr with the tests."""


def facts(of):
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in of.attributes}


@contextlib.contextmanager
def collecting(status=200):
    with Collector(status) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@contextlib.contextmanager
def traced(url, store, folder):
    """Asks a registry that tells `url` of its traces; at the end, all were told."""
    app = create_app(Settings(store=str(folder), traces=url), store)
    yield app.test_client()
    traces.finish(app)


@pytest.fixture
def settled():
    """Nothing of a traced app is left for other tests."""
    yield
    assert telemetry.request_id() is None


def test_a_request_is_a_span_and_each_call_of_the_store_one_below_it(store, tmp_path, settled):
    with collecting() as collector, traced(collector.url, store, tmp_path / "store") as http:
        http.get("/registry/vm")
        head = {"X-Request-Id": "mine-7", "traceparent": PARENT}
        assert http.get(f"{API}/template?ref=SeCrEt", headers=head).status_code == 404
    (span,) = collector.named(f"GET {API}/template")
    assert collector.paths == {"/v1/traces"}
    assert span.trace_id.hex() == PARENT.split("-")[1]
    assert span.parent_span_id.hex() == PARENT.split("-")[2]
    assert facts(span) == {
        "s3reg.request_id": "mine-7",
        "http.request.method": "GET",
        "http.route": f"{API}/template",
        "http.response.status_code": 404,
    }
    below = [one for one in collector.spans if one.parent_span_id == span.span_id]
    assert below
    for one in below:
        assert one.name == "store " + facts(one)["s3reg.store.verb"]
        assert facts(one)["s3reg.store.outcome"] == "ok"
        assert span.start_time_unix_nano <= one.start_time_unix_nano <= one.end_time_unix_nano
        assert one.end_time_unix_nano <= span.end_time_unix_nano
    assert "SeCrEt" not in str(collector.spans)
    assert collector.resources[0]["service.name"] == "s3reg"


def test_no_key_link_or_credential_is_in_a_span(store, tmp_path):
    with collecting() as collector, traced(collector.url + "/v1/traces", store, tmp_path / "store") as http:
        Push([http], tag="v1").run()
        http.get("/registry/vm", headers={"Authorization": "Bearer c2VjcmV0LWFuZC1sb25nLWVub3VnaA=="})
    assert collector.paths == {"/v1/traces"}
    assert {key for span in collector.spans for key in facts(span)} <= {
        *("s3reg.request_id", "http.request.method", "http.route", "http.response.status_code"),
        *("s3reg.store.verb", "s3reg.store.outcome"),
    }
    assert {facts(span).get("http.route", "") for span in collector.spans} >= {"/objects/<path:key>"}
    for word in ("signature", "packs/main", "heads/", "c2VjcmV0"):
        assert word not in str(collector.spans)


@pytest.mark.parametrize("parent", ["", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "x" * 10_000, "ü", PARENT + "\t-"])
def test_a_parent_that_is_none_begins_a_trace(store, tmp_path, parent):
    with collecting() as collector, traced(collector.url, store, tmp_path / "store") as http:
        assert http.get("/none", environ_overrides={"HTTP_TRACEPARENT": parent}).status_code == 404
    (span,) = collector.spans
    assert (span.name, span.parent_span_id) == ("GET", b"")


def test_a_stranger_s_words_name_no_span_and_probes_are_none(store, tmp_path):
    with collecting() as collector, traced(collector.url, store, tmp_path / "store") as http:
        http.open("/wp-login.php", method="PROPFIND")
        http.get("/livez")
        http.get("/readyz")
    assert [span.name for span in collector.spans] == ["_OTHER"]


class Down(faults.Wrapped):
    def _call(self, call, act):
        raise StoreUnavailable(store="s", reason="no route to host")


def test_a_store_that_fails_marks_its_spans_and_the_request_s(store, tmp_path):
    with collecting() as collector, traced(collector.url, Down(store), tmp_path / "store") as http:
        assert http.get("/registry/vm").status_code == 503
    assert {span.status.code for span in collector.spans} == {ERROR}
    assert {facts(span).get("s3reg.store.outcome") for span in collector.spans} == {None, "store-unavailable"}


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", None], ids=["nobody there", "refuses"])
def test_a_collector_that_takes_nothing_costs_no_request_and_one_line(store, tmp_path, monkeypatch, url):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "1")
    lines = loglines.taken()
    with collecting(status=400) as collector, traced(url or collector.url, store, tmp_path / "store") as http:
        for _ in range(5):
            assert http.get("/registry/vm").status_code == 200
    (lost,) = lines("traces-lost")
    assert lost["spans"] >= 5
    assert lines("library") == []


def test_a_collector_that_never_answers_holds_nobody_up_at_the_end(store, tmp_path, monkeypatch):
    monkeypatch.setattr(traces, "SECONDS", 0.1)
    held, lines = threading.Event(), loglines.taken()
    with collecting() as collector:
        collector.finish_request = lambda *_: held.wait(SECONDS)
        with traced(collector.url, store, tmp_path / "store") as http:
            assert http.get("/registry/vm").status_code == 200
        held.set()
    (lost,) = lines("traces-lost")
    assert "in time" in lost["reason"]


PROGRAM = """
import sys
from s3reg.api import create_app
from s3reg.settings import Settings
from s3reg.cli import server
app = create_app(Settings(store=sys.argv[1]))
assert app.test_client().get("/registry/vm").status_code == 200
print(any(name.partition(".")[0] == "opentelemetry" for name in sys.modules))
"""


def test_nothing_of_it_is_loaded_without_the_setting(tmp_path):
    program = [sys.executable, "-c", PROGRAM, str(tmp_path / "store")]
    done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_the_setting_without_the_extra_says_what_to_install(monkeypatch, tmp_path):
    for name in [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "s3reg.api.spans", raising=False)
    traces.check(None)
    for start in (traces.check, lambda url: create_app(Settings(store=str(tmp_path), traces=url))):
        with pytest.raises(SettingInvalid, match=r"pip install 's3reg\[traces\]'"):
            start("http://collector")
