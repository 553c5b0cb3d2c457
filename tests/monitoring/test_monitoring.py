"""The dashboard and the alert rules ask for what a registry tells, and Prometheus takes them."""

import itertools
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

import servers
from push_calls import Push
from s3reg.api import create_app, metrics
from s3reg.errors import by_code
from s3reg.registry import Registry
from s3reg.settings import Settings
from s3reg.store.files import FilesStore
from scraped import scraped

HOME = Path(__file__).parents[2]
RULES = HOME / "monitoring/alerts.yaml"
CASES = Path(__file__).with_name("alerts_test.yaml")
DASHBOARD = HOME / "monitoring/grafana-dashboard.json"
OF_PROMETHEUS = {"up"}
SELECTOR = re.compile(r"\b([a-z][a-z0-9_]*)\{([^{}]*)\}")
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')
GROUPING = re.compile(r"\b(?:by|without) \(([^)]*)\)")
METRIC = re.compile(r"\b(?:s3reg|anka)_\w+")


def rules():
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panels():
    return json.loads(DASHBOARD.read_text())["panels"]


def asked():
    """Every expression, by what it is for."""
    found = {rule["alert"]: rule["expr"] for rule in rules()}
    return found | {f"{panel['title']} {target['refId']}": target["expr"] for panel, target in targets()}


def targets():
    return [(panel, target) for panel in panels() for target in panel.get("targets", ())]


def promtool(*arguments):
    done = subprocess.run(
        [servers.needs("promtool"), *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def scrape(tmp_path_factory):
    """Of a registry in which something has happened."""
    folder = tmp_path_factory.mktemp("watched") / "store"
    app = create_app(Settings(store=str(folder)))
    Push([app.test_client()]).run()
    Registry(FilesStore(folder)).sweep()
    return scraped(app.test_client().get("/metrics").text)


def test_every_metric_that_is_asked_for_is_one_that_a_registry_tells_with_these_labels(scrape):
    has = {}
    for name, labels in scrape.samples:
        has.setdefault(name, {"job", "instance"}).update(dict(labels))
    for what, expr in asked().items():
        used = {name for name, _ in SELECTOR.findall(expr)} | set(METRIC.findall(expr))
        assert used, what
        assert used <= set(has) | OF_PROMETHEUS, (what, used - set(has))
        labels = {label for label, _, _ in MATCHER.findall(expr)}
        labels |= {label.strip() for group in GROUPING.findall(expr) for label in group.split(",")}
        there = {"job", "instance"}.union(*(has.get(name, set()) for name in used))
        assert labels <= there, (what, labels - there)


def test_every_metric_of_ours_is_on_the_dashboard():
    shown = {name for _, target in targets() for name in METRIC.findall(target["expr"])}
    assert {row.name for row in metrics.ALL} <= {re.sub("_(bucket|sum|count)$", "", name) for name in shown} | shown


def test_outcomes_and_routes_that_are_named_exist():
    codes = {"ok", "internal", *by_code()}
    rules_of_ours = {rule.rule for rule in create_app(Settings(store="/nowhere")).url_map.iter_rules()}
    for what, expr in asked().items():
        for label, _, value in MATCHER.findall(expr):
            known = codes if label == "outcome" else rules_of_ours if label == "route" else None
            for one in value.split("|") if known else ():
                assert any(re.fullmatch(one, name) for name in known), (what, one)


def test_prometheus_takes_the_rules():
    promtool("check", "rules", RULES)


def test_each_alert_is_raised_when_it_should_be_and_only_then():
    promtool("test", "rules", CASES)


def test_of_each_alert_it_is_tried_that_it_is_raised_and_that_it_is_not():
    tried = {(True, rule["alert"]): False for rule in rules()} | {(False, rule["alert"]): False for rule in rules()}
    for case in yaml.safe_load(CASES.read_text())["tests"]:
        for row in case["alert_rule_test"]:
            tried[bool(row["exp_alerts"]), row["alertname"]] = True
    assert [one for one, was in tried.items() if not was] == []


def test_prometheus_takes_what_the_dashboard_asks(tmp_path):
    said = [
        {"record": f"panel:{number}", "expr": target["expr"].replace("$__rate_interval", "5m").replace("$job", ".*")}
        for number, (_, target) in enumerate(targets())
    ]
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": said}]}))
    promtool("check", "rules", file)


def test_the_dashboard_can_be_imported_anywhere():
    found = json.loads(DASHBOARD.read_text())
    assert "id" not in found, "it would replace another one of that number"
    ids = [panel["id"] for panel in found["panels"]]
    assert len(set(ids)) == len(ids)
    variables = {variable["name"] for variable in found["templating"]["list"]}
    assert variables == {"datasource", "job"}
    for panel, target in targets():
        assert panel["datasource"]["uid"] == target["datasource"]["uid"] == "${datasource}"
        assert 'job=~"$job"' in target["expr"]


def test_no_panel_lies_on_another():
    for one, other in itertools.combinations(panels(), 2):
        a, b = one["gridPos"], other["gridPos"]
        apart = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert apart, (one["title"], other["title"])


def test_the_readme_names_every_alert():
    told = set(re.findall(r"^\| `(\w+)` \|", (HOME / "monitoring/README.md").read_text(), re.MULTILINE))
    assert told == {rule["alert"] for rule in rules()}
