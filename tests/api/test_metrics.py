"""`/metrics`: what it counts, to whom it shows what, and that no stranger makes a series."""

import re
import threading
from pathlib import Path

import pytest
from werkzeug.test import Client

from access_kit import Closed
from faults import FailsOnCall, Paused, Wrapped
from push_calls import TEMPLATE, Push
from s3reg.api import create_app, metrics
from s3reg.errors import StoreUnavailable
from s3reg.model import format as fmt
from s3reg.model.template import EventKind
from s3reg.registry import Registry
from s3reg.registry.events import WAITING
from s3reg.settings import Settings
from scraped import scraped

REQUESTS = "s3reg_requests_total"
SWEPT = "s3reg_last_sweep_timestamp_seconds"
PAGE = Path(__file__).parents[2] / "docs/reference/metrics.md"


def scrape(http, **more):
    answer = http.get("/metrics", **more)
    assert answer.status_code == 200, answer.text
    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    return scraped(answer.text)


def test_a_request_counts_by_the_pattern_of_its_route_its_method_and_its_status(http):
    for _ in range(3):
        http.get("/registry/vm")
    http.get("/registry/vm?id=nix")
    http.get(f"/transfer/v1/sessions/{'0' * 32}")
    http.delete("/registry/status")
    found = scrape(http)
    assert found.value(REQUESTS, route="/registry/vm", method="GET", status="200") == 3
    assert found.value(REQUESTS, route="/registry/vm", method="GET", status="400") == 1
    assert found.total(REQUESTS, route="/transfer/v1/sessions/<sid>") == 1
    assert found.value(REQUESTS, route="other", method="DELETE", status="405") == 1
    assert found.total(REQUESTS) == 6
    assert scrape(http).value(REQUESTS, route="/metrics", method="GET", status="200") == 1


def test_the_time_of_each_request_lies_in_one_bucket_and_those_above_it(http):
    for _ in range(5):
        http.get("/livez")
    found = scrape(http)
    counts = [
        found.value("s3reg_request_seconds_bucket", route="/livez", le=bound)
        for bound in (*map(str, metrics.BUCKETS), "+Inf")
    ]
    assert counts == sorted(counts)
    assert counts[-1] == found.value("s3reg_request_seconds_count", route="/livez") == 5
    assert found.value("s3reg_request_seconds_sum", route="/livez") > 0


def test_what_a_stranger_sends_makes_no_series(http):
    http.get("/livez")
    scrape(http)
    before = len(scrape(http).samples)
    for number in range(20):
        http.get(f"/no/such/{number}", query_string={"x": number}, headers={"X-Request-Id": f"id-{number}"})
        http.get(f"/transfer/v1/sessions/nix-{number}")
        http.open("/livez", method=f"BREW{number}")
        http.get("/registry/vm", query_string={"id": f"nix-{number}"})
    found = scrape(http)
    assert found.labels(REQUESTS, "route") == {
        *("/livez", "/metrics", "other", "/transfer/v1/sessions/<sid>", "/registry/vm")
    }
    assert found.labels(REQUESTS, "method") == {"GET", "other"}
    # A count for each route and status that were not there before, and a histogram for each route.
    assert len(found.samples) - before < 4 + 3 * (len(metrics.BUCKETS) + 3) + 8 * (len(metrics.BUCKETS) + 4)
    text = http.get("/metrics").text
    assert "nix" not in text
    assert "BREW" not in text


def test_calls_of_the_store_and_links_that_were_signed_are_counted(http, push):
    assert scrape(http).total("s3reg_links_signed_total") == 0
    push()
    found = scrape(http)
    assert found.value("s3reg_store_calls_total", verb="put", outcome="ok") > 0
    assert found.value("s3reg_store_calls_total", verb="get", outcome="object-not-found") > 0
    calls = found.total("s3reg_store_calls_total", verb="put")
    assert found.value("s3reg_store_call_seconds_count", verb="put") == calls
    signed = found.value("s3reg_links_signed_total", kind="put")
    assert signed > 0
    assert found.value("s3reg_links_signed_total", kind="get") == 0
    plan = http.get(f"/transfer/v1/plan?ref={TEMPLATE}")
    assert plan.status_code == 200, plan.text
    found = scrape(http)
    assert found.value("s3reg_links_signed_total", kind="get") == len(re.findall(r'"url":', plan.text)) > 0
    assert found.value("s3reg_links_signed_total", kind="put") == signed


def test_logins_count_by_how_they_ended(tmp_path):
    closed = Closed(tmp_path / "store")
    closed.key("ci")
    closed.key("another")
    assert closed.hand("nobody").status_code == 401
    assert closed.shake("ci", "x" * 64).status_code == 401
    found = scrape(closed.http, headers=closed.root)
    assert found.value("s3reg_logins_total", outcome="ok") == 2
    assert found.total("s3reg_logins_total") == 4
    assert found.labels("s3reg_logins_total", "outcome") <= {"ok", "unauthenticated", "credential-refused"}


def test_events_that_find_no_room_or_that_the_store_does_not_take_are_counted(tmp_path, store):
    create_app(Settings(), store).extensions["s3reg"].registry()  # a store of ours, from here on
    paused = Paused(store, "put", prefix="events/")
    failing = FailsOnCall(paused, 2, StoreUnavailable(store="it", reason="away"), verb="put", prefix="events/")
    app = create_app(Settings(store=str(tmp_path / "store")), failing)
    http = app.test_client()
    http.post("/log", json={"number": "first"})
    assert paused.reached.wait(60)
    for number in range(WAITING[EventKind.REPORT] + 3):
        assert http.post("/log", json={"number": number}).status_code == 200
    assert scrape(http).value("s3reg_events_dropped_total") == 3
    paused.release()
    app.extensions["s3reg"].finish(60)
    assert scrape(http).value("s3reg_events_dropped_total") == 3 + WAITING[EventKind.REPORT]


def test_the_names_of_ankas_exporter_tell_what_lists_tell(three, http):
    listed = http.get("/registry/v2/vm").json["body"]
    assert listed
    found = scrape(http)
    assert found.value("anka_registry_state_count", state="Running") == 1
    assert found.value("anka_registry_state_count", state="FAIL") == 0
    assert found.value("anka_registry_template_count") == len(listed)
    for row in listed:
        labels = {"template_uuid": row["id"], "template_name": row["name"]}
        assert found.value("anka_registry_template_disk_used", **labels) == row["size"]
        versions = http.get(f"/registry/vm?id={row['id']}").json["body"]["versions"]
        assert found.value("anka_registry_template_tags_count", **labels) == len(versions) == 3
        for version in versions:
            assert (
                found.value("anka_registry_template_tag_disk_used", tag_name=version["tag"], **labels)
                == version["size"]
            )
    disk = http.get("/registry/disk").json["body"]
    total, free, used = (found.value(f"anka_registry_disk_{what}_space") for what in ("total", "free", "used"))
    assert total == disk["total"]
    assert total >= free >= 0
    assert used == total - free


def test_of_a_bucket_what_is_used_is_what_templates_hold(three, settings):
    class Bucket(Wrapped):
        def room(self):
            return None

    http = create_app(settings, Bucket(three)).test_client()
    sizes = sum(row["size"] for row in http.get("/registry/v2/vm").json["body"])
    found = scrape(http)
    assert found.value("anka_registry_disk_used_space") == sizes > 0
    assert found.value("anka_registry_disk_free_space") == 1 << 50


def test_names_with_every_character_are_read_as_they_are(http, push):
    push(name='we"ird\\ ⌘ name', tag="täg")
    found = scrape(http)
    assert found.labels("anka_registry_template_tags_count", "template_name") == {'we"ird\\ ⌘ name'}
    assert found.labels("anka_registry_template_tag_disk_used", "tag_name") == {"täg"}


def test_it_is_guarded_like_a_list_and_hides_what_a_list_hides(tmp_path):
    closed = Closed(tmp_path / "store", authorization=True)
    Push([closed.client(closed.root)]).run()
    assert closed.http.get("/metrics").status_code == 401
    closed.group("blind", "index")
    assert closed.http.get("/metrics", headers=closed.key("blind", ["blind"])).status_code == 403
    closed.group("stranger", "list_vms", templates={})
    found = scrape(closed.http, headers=closed.key("stranger", ["stranger"]))
    assert found.value("anka_registry_template_count") == 0
    assert found.value("anka_registry_disk_used_space") == 0
    assert not found.labels("anka_registry_template_disk_used", "template_uuid")
    closed.group("reader", "list_vms", templates={TEMPLATE: ["list"]})
    found = scrape(closed.http, headers=closed.key("reader", ["reader"]))
    assert found.labels("anka_registry_template_disk_used", "template_uuid") == {TEMPLATE}
    assert not {name for name in found.names if name.startswith("s3reg_")} - {"s3reg_build_info"}
    assert REQUESTS in scrape(closed.http, headers=closed.root).names
    assert scrape(closed.http, headers=closed.root).value("anka_registry_template_count") == 1


def test_while_the_store_is_away_it_says_so_and_what_was_counted_shows(tmp_path, store):
    class Away(Wrapped):
        def relist(self, prefix, before=None):
            raise StoreUnavailable(store="it", reason="away")

    http = create_app(Settings(store=str(tmp_path / "store")), Away(store)).test_client()
    assert http.get("/registry/vm").status_code == 503
    found = scrape(http)
    assert found.value("anka_registry_state_count", state="FAIL") == 1
    assert found.value("anka_registry_state_count", state="Running") == 0
    assert found.value("anka_registry_template_count") is None
    assert found.value(REQUESTS, route="/registry/vm", method="GET", status="503") == 1
    assert found.value("s3reg_store_calls_total", verb="relist", outcome="store-unavailable") == 2


def test_scrapes_at_once_list_the_store_once(three, settings):
    http = create_app(settings, three).test_client()
    barrier, found = threading.Barrier(4), []

    def ask():
        barrier.wait(60)
        found.append(scrape(http).value("anka_registry_template_count"))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1] * 4
    assert scrape(http).total("s3reg_store_calls_total", verb="relist") == 1


def test_with_a_port_of_its_own_the_api_has_no_metrics_and_that_port_nothing_else(tmp_path):
    closed = Closed(tmp_path / "store", metrics_listen="127.0.0.1:0")
    Push([closed.client(closed.root)]).run()
    assert closed.http.get("/metrics", headers=closed.root).status_code == 404
    own = Client(metrics.beside(closed.app))
    found = scraped(own.get("/metrics").text)
    assert found.value("anka_registry_template_count") == 1
    assert found.value(REQUESTS, route="other", method="GET", status="404") == 1
    assert own.get("/livez").status_code == own.get("/readyz").status_code == 200
    for path in ("/", "/registry/vm", "/metrics/", "//metrics", "/registry/status", "/transfer/v1/templates"):
        assert own.get(path).status_code == 404, path
    assert own.open("/metrics", method="POST").status_code == 404


def rows_of_the_page():
    return {
        (name, kind, tuple(re.findall(r"`(\w+)`", labels)), meaning)
        for name, kind, labels, meaning in re.findall(
            r"^\| `(\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", PAGE.read_text(), re.MULTILINE
        )
    }


def test_the_page_names_every_metric_as_the_code_does():
    assert rows_of_the_page() == {(row.name, row.kind, row.labels, row.meaning) for row in metrics.ALL}


def test_every_metric_has_the_labels_that_the_page_says(three, http):
    Registry(three).sweep()
    http.get("/registry/vm")
    text = http.get("/metrics").text
    found = scraped(text)
    for row in metrics.ALL:
        name = f"{row.name}_count" if row.kind == "histogram" else row.name
        has = [dict(labels) for sample, labels in found.samples if sample == name]
        assert has, row.name
        assert all(set(labels) == set(row.labels) for labels in has), row.name
        assert f"# TYPE {row.name} {row.kind}\n" in text


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.0011, 29.9, 30.0, 31.0, 1e6])
def test_a_time_lies_in_the_bucket_whose_bound_it_does_not_exceed(seconds):
    from s3reg.api.tally import Board

    counted = metrics.Metrics(Board().tally(0))
    counted.called("get", "ok", seconds)
    (family,) = [one for one in counted.families() if one.name == "s3reg_store_call_seconds"]
    found = {dict(sample.labels).get("le"): sample.value for sample in family.samples if "bucket" in sample.name}
    assert found == {str(bound): float(seconds <= bound) for bound in metrics.BUCKETS} | {"+Inf": 1.0}


def test_a_sweep_that_another_process_made_shows(tmp_path):
    closed = Closed(tmp_path / "store", authorization=True)
    assert scrape(closed.http, headers=closed.root).value(SWEPT) is None
    Registry(closed.store).sweep()
    when = closed.store.stat(fmt.SWEPT_KEY).modified
    other = closed.replica()
    assert scrape(other.http, headers=other.root).value(SWEPT) == pytest.approx(when, abs=0.001)
    closed.group("stranger", "list_vms", templates={})
    assert SWEPT not in scrape(other.http, headers=closed.key("stranger", ["stranger"])).names
