"""/metrics: what it says of a node, in what form, and what it must never say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from p2pfl import errors
from p2pfl.clock import Clock
from p2pfl.events import CheckpointFailed, Diverged, Exchanged, Trained
from p2pfl.exposition import OTHER, Exposition
from p2pfl.gossip.merge.distance import BLOCK, relative_distances
from p2pfl.network.app import make_app
from tests.p2pfl.network.sites import Site, app_of, call
from tests.p2pfl.village import Village, Villager, live_until_done


def page(exposition: Exposition) -> str:
    kind, body = exposition.metrics()
    assert kind == "text/plain; version=0.0.4; charset=utf-8"
    return body.decode()


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Each sample by its name and its labels' values, as the client's own parser reads them."""
    return {
        (sample.name, *(sample.labels[key] for key in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def two_that_met() -> tuple[Villager, Exposition]:
    """One of two nodes that are done, and its page."""
    village = Village()
    ann, bob = village.villager(0), village.villager(1, (0,))
    exposition = Exposition(ann.node.gossip, ann.node.service)
    await live_until_done(village, ann, bob)
    for _, event in ann.seen:
        exposition.note(event)
    return ann, exposition


@pytest.mark.virtual
async def test_the_page_says_what_the_status_and_the_events_say() -> None:
    ann, exposition = await two_that_met()
    found, status = samples(page(exposition)), ann.status()
    assert found["p2pfl_round",] == status["round"] == 3
    assert found["p2pfl_age_samples",] == pytest.approx(status["age"])
    assert found["p2pfl_held_out_accuracy_ratio",] == status["accuracy"] == 0.875
    assert found["p2pfl_state", "done"] == 1
    assert sum(value for key, value in found.items() if key[0] == "p2pfl_state") == 1
    assert found["p2pfl_trained_samples_total",] == sum(event.samples for event in ann.events(Trained))
    assert found["p2pfl_peers", "alive"] == 1
    asked = [event for event in ann.events(Exchanged) if event.mode == "push-pull"]
    assert found["p2pfl_requests_total", "push-pull", "ok"] == len(asked) > 0
    assert found["p2pfl_request_duration_seconds_count", "push-pull"] == len(asked)
    assert found["p2pfl_exchange_size_bytes_sum", "push-pull"] == sum(e.sent + e.received for e in asked)
    assert 0 <= found["p2pfl_consensus_distance_ratio",] <= found["p2pfl_consensus_distance_max_ratio",] < 1
    assert found["p2pfl_checkpoints_total",] == len(ann.saved)
    assert found["p2pfl_checkpoint_round",] == 3


@pytest.mark.virtual
async def test_names_and_units_are_as_prometheus_has_them() -> None:
    _, exposition = await two_that_met()
    families = list(text_string_to_metric_families(page(exposition)))
    assert len({family.name for family in families}) == len(families) > 30
    for family in families:
        assert family.name.startswith("p2pfl_")
        assert family.documentation.endswith(".")
        names = {sample.name for sample in family.samples}
        assert not any(name.endswith("_created") for name in names)
        if family.type == "counter":
            assert all(name.endswith("_total") for name in names), names
        if family.type == "histogram":
            assert family.name.endswith(("_seconds", "_bytes"))


@pytest.mark.virtual
async def test_labels_never_hold_what_a_peer_chose() -> None:
    ann, exposition = await two_that_met()
    before = len(samples(page(exposition)))
    chosen = [f"reason-{i}" for i in range(50)]
    for reason in chosen:
        error = errors.Refused("no", cause=reason, http_status=400)
        ann.node.service.reject(error, "192.0.2.1", f"peer-{reason}")
        failed = Exchanged("push", f"id-{reason}", "http://192.0.2.1:1", 0, 0, False, 0.1, reason)
        exposition.note(failed)
    ann.node.service.reject(errors.Truncated("short"), "192.0.2.1", "eve")
    text = page(exposition)
    found = samples(text)
    assert found["p2pfl_refused_total", OTHER] == len(chosen)
    assert found["p2pfl_refused_total", "truncated"] == 1
    assert found["p2pfl_requests_total", "push", OTHER] == len(chosen)
    assert len(found) <= before + 6
    for secret in ("reason-", "192.0.2.1", "eve", "id1"):
        assert secret not in text


async def test_what_is_not_known_is_left_out_and_trouble_is_shown() -> None:
    villager = Village().villager(0)
    exposition = Exposition(villager.node.gossip, villager.node.service)
    found = samples(page(exposition))
    for name in ("held_out_accuracy_ratio", "held_out_loss", "training_loss", "consensus_distance_ratio"):
        assert (f"p2pfl_{name}",) not in found
    assert villager.node.service.storage is not None
    villager.node.service.storage.problem = "No space left on device"
    exposition.note(CheckpointFailed(1, "No space left on device"))
    exposition.note(Diverged(1, math.nan))
    found = samples(page(exposition))
    assert found["p2pfl_storage_problem",] == found["p2pfl_checkpoint_failures_total",] == 1
    assert found["p2pfl_diverged_rounds_total",] == 1


async def test_each_node_has_a_registry_of_its_own() -> None:
    village = Village()
    ann, bob = village.villager(0), village.villager(1)
    pages = [Exposition(one.node.gossip, one.node.service) for one in (ann, bob)]
    pages[0].note(Trained(1, 2, 64, 0.5, 1.0))
    trained = [samples(page(one))["p2pfl_trained_samples_total",] for one in pages]
    assert trained == [64, 0]
    assert not [family.name for family in REGISTRY.collect() if family.name.startswith("p2pfl")]


async def test_the_route_serves_the_page_of_a_node_that_has_one() -> None:
    site = Site(page=("text/plain; version=0.0.4; charset=utf-8", b"p2pfl_round 3.0\n"))
    answer = await call(app_of(site), "GET", "/metrics")
    assert (answer.status, answer.body) == (200, b"p2pfl_round 3.0\n")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_a_simulated_node_has_no_page_and_watches_nothing() -> None:
    villager = Village().villager(0)
    assert villager.node.gossip.watch_merge is None
    app = make_app(villager.node.service, Clock())
    assert (await call(app, "GET", "/metrics")).status == 404


@pytest.mark.virtual
async def test_ready_is_who_has_data_and_company_or_was_told_of_nobody() -> None:
    village = Village()
    alone, lost = village.villager(0), village.villager(1, (7,))
    assert alone.node.service.lacks() == []
    assert lost.node.service.lacks() == ["peer"]
    assert village.villager(2, min_peers=1).node.service.lacks() == ["peer"]
    assert village.villager(3, discover="mdns").node.service.lacks() == ["peer"]
    empty = village.villager(4)
    empty.node.gossip.samples = 0
    assert empty.node.service.lacks() == ["data"]
    ann, _ = await two_that_met()
    assert ann.node.service.lacks() == []
    ann.node.gossip.view.gone("id1")  # it had company once: being alone now is not as it should be
    ann.node.gossip.membership.members.clear()
    assert ann.node.service.lacks() == ["peer"]


@pytest.mark.parametrize("size", [1, 7, BLOCK, BLOCK + 1, 3 * BLOCK - 5])
def test_distances_are_those_of_the_formula(size: int) -> None:
    rng = np.random.default_rng(size)
    own = rng.normal(size=size).astype(np.float32)
    others = [own + rng.normal(scale=scale, size=size).astype(np.float32) for scale in (0.0, 1e-3, 2.0)]
    slow = [float(np.linalg.norm(x.astype(float) - own) / np.linalg.norm(own.astype(float))) for x in others]
    assert relative_distances(own, others) == pytest.approx(slow, rel=1e-4)


def test_distances_beyond_measure_are_infinite() -> None:
    zero, huge = np.zeros(4, np.float32), np.full(4, 3e38, np.float32)
    assert relative_distances(zero, [zero, huge]) == [0.0, math.inf]
    assert relative_distances(np.ones(4, np.float32), [huge]) == [math.inf]
