"""deploy/: alerts and dashboard use figures that a node has, and what Prometheus can read."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from p2pfl.config import ThriftConfig
from p2pfl.exposition import Exposition
from p2pfl.thrift import Thrift
from tests.p2pfl.village import Village

DEPLOY = Path(__file__).parents[2] / "deploy"
ALERTS, DASHBOARD = DEPLOY / "alerts.yml", DEPLOY / "grafana.json"
NAME = re.compile(r"\bp2pfl_\w+")
SELECTOR = re.compile(r"(p2pfl_\w+)\{([^}]*)\}")
# What Prometheus itself puts on every series.
OF_THE_SCRAPE = {"job", "instance"}
NEEDED = {"Down", "TrainingStalled", "PeersLost", "RefusalsRising", "StorageFailing"}


@pytest.fixture(scope="module")
def page() -> str:
    node = Village().villager(0).node
    node.service.thrift = Thrift(ThriftConfig(bytes_per_hour=10**6), lambda: 0.0)
    return Exposition(node.gossip, node.service).metrics()[1].decode()


@pytest.fixture(scope="module")
def names(page: str) -> set[str]:
    """Of all series that a node can have."""
    found = set()
    for family in text_string_to_metric_families(page):
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
        found.update(family.name + suffix for suffix in suffixes.get(family.type, [""]))
    return found


@pytest.fixture(scope="module")
def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.fixture(scope="module")
def dashboard() -> Any:
    return json.loads(DASHBOARD.read_text(encoding="utf-8"))


def targets(dashboard: Any) -> list[tuple[str, str]]:
    return [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel["targets"]]


def test_alerts_use_figures_that_exist(names: set[str], rules: list[dict[str, Any]]) -> None:
    used = {name for rule in rules for name in NAME.findall(rule["expr"])}
    assert len(used) > 5
    assert used <= names


def test_alerts_are_whole_and_cover_what_goes_wrong(rules: list[dict[str, Any]]) -> None:
    alerts = [rule["alert"] for rule in rules]
    assert len(set(alerts)) == len(alerts)
    assert not [word for word in NEEDED if not any(alert.endswith(word) for alert in alerts)]
    for rule in rules:
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"].keys() == {"summary", "description"}


def test_the_dashboard_uses_figures_that_exist(names: set[str], dashboard: Any) -> None:
    used = {name for _, expression in targets(dashboard) for name in NAME.findall(expression)}
    assert len(used) > 20
    assert used <= names
    variables = json.dumps(dashboard["templating"])
    assert set(NAME.findall(variables)) <= names


def test_labels_that_are_asked_for_exist(page: str, dashboard: Any, rules: list[dict[str, Any]]) -> None:
    known: dict[str, set[str]] = {
        "p2pfl_requests_total": {"mode", "outcome"},
        "p2pfl_request_duration_seconds_bucket": {"mode", "le"},
        "p2pfl_refused_total": {"reason"},
    }
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            known.setdefault(sample.name, set()).update(sample.labels)
    for expression in [*(rule["expr"] for rule in rules), *(shown for _, shown in targets(dashboard))]:
        for name, selector in SELECTOR.findall(expression):
            asked = {part.split("=")[0].strip(" !~") for part in selector.split(", ")}
            assert asked - OF_THE_SCRAPE <= known.get(name, set()), expression


def test_panels_have_a_place_each(dashboard: Any) -> None:
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    cells = [
        (place["x"] + dx, place["y"] + dy)
        for place in places
        for dx in range(place["w"])
        for dy in range(place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    assert dashboard["uid"] == "p2pfl"


PROMTOOL = shutil.which("promtool")


@pytest.mark.skipif(PROMTOOL is None, reason="promtool, of Prometheus, is not here")
def test_prometheus_own_tool_takes_page_and_alerts(page: str) -> None:
    assert PROMTOOL is not None
    for arguments, given in (["metrics"], page), (["rules", str(ALERTS)], ""):
        done = subprocess.run(
            [PROMTOOL, "check", *arguments], input=given, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
