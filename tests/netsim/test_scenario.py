"""Scenario files: what they mean, and which line is at fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from netsim import scenario_file
from netsim.scenario import PlannedEvent
from netsim.scenario_file import load, parse, ready, ready_text, to_toml
from netsim.units import Distribution, Moment
from p2pfl.errors import ConfigError

WHOLE = """\
# everything at once
seed = 3
engine = "virtual"

[nodes]
count = 20
dataset = "digits"
model = "softmax"
lr = 0.05

[[nodes.group]]
name = "edge"
amount = 5
nat = true
lr = 0.01
local-steps = 3
speed = 100
uplink = "1Mbit/s"

[[nodes.group]]
name = "core"
nodes = "0-3"

[topology]
kind = "sampling"
bootstrap = 4

[links]
latency = "lognormal:40ms,0.5"
loss = 0.1

[[links.rule]]
from = "edge"
to = "core"
loss = 0.5
bandwidth = "64kbit/s"

[devices]
stragglers = 2
drift = 0.01

[faults]
crash = "10%"

[[faults.event]]
kind = "cut"
at = "40%"
lasting = "20%"
parts = 2

[[faults.event]]
kind = "hang"
at = "3s"
lasting = "2s"
nodes = "core"

[baselines]
methods = ["isolated"]

[evaluation]
evaluate-every = 2

[stop]
rounds = 7
virtual-time = "300s"
"""


def test_every_section_arrives() -> None:
    scenario = parse(WHOLE, "whole.toml")
    config = scenario.config
    assert (config.seed, config.nodes, config.training.rounds) == (3, 20, 7)
    assert (config.topology.topology, config.bootstrap_peers) == ("sampling", 4)
    assert config.links.latency_of == Distribution("lognormal", 0.04, 0.5)
    assert (config.devices.stragglers, config.faults.crash) == ("2", "10%")
    assert config.baselines.baselines == ("isolated",)
    edge, core = scenario.groups
    assert len(edge.nodes) == 5
    assert core.nodes == (0, 1, 2, 3)
    assert (edge.nat, edge.uplink, edge.speed) == (True, 125_000, Distribution("constant", 100))
    (rule,) = scenario.rules
    assert (rule.senders, rule.receivers, rule.loss, rule.bandwidth) == (edge.nodes, core.nodes, 0.5, 8000)
    cut, hang = scenario.events
    assert cut.lasting == Moment(share=0.2)
    assert sorted(len(part) for part in cut.parts) == [10, 10]
    assert hang == PlannedEvent("hang", Moment(3.0), (0, 1, 2, 3), (), Moment(2.0))


def test_a_group_trains_by_its_own_values() -> None:
    scenario = parse(WHOLE, "whole.toml")
    edge = scenario.groups[0].nodes[0]
    other = next(node for node in range(4, 20) if node not in scenario.groups[0].nodes)
    assert (scenario.training_of(edge).lr, scenario.training_of(edge).local_steps) == (0.01, 3)
    assert (scenario.training_of(other).lr, scenario.training_of(other).local_steps) == (0.05, None)


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "whole.toml"
    file.write_text(WHOLE)
    scenario = load(str(file), {"nodes": 10, "loss": 0.2, "seed": 4})
    assert (scenario.config.nodes, scenario.config.links.loss, scenario.config.seed) == (10, 0.2, 4)
    assert len(scenario.groups[0].nodes) == 5


def test_a_written_scenario_reads_as_the_same() -> None:
    scenario = parse(WHOLE, "whole.toml")
    assert parse(to_toml(scenario), "copy.toml") == scenario


def test_without_faults_only_the_conditions_of_the_network_stay() -> None:
    plain = parse(WHOLE, "whole.toml").without_faults()
    assert (plain.config.links.loss, plain.config.devices.stragglers, plain.events) == (0.0, "0", ())
    assert plain.rules[0].loss is None
    assert plain.rules[0].bandwidth == 8000
    assert parse(to_toml(plain), "copy.toml") == plain


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed = 3", "seed = -1", "seed must be 0 or more"),
        ("count = 20", "count = 0", "nodes must be at least 1"),
        ("count = 20", "cuont = 20", "unknown key 'cuont' in [nodes]; did you mean 'count'?"),
        ("loss = 0.1", "loss = 1.1", "loss must be a share between 0 and 1"),
        ("loss = 0.1", "crash = 1", "'crash' belongs in [faults], not in [links]"),
        ("[links]", "[link]", "unknown section [link]; did you mean [links]?"),
        ("crash = \"10%\"", "crash = 21", "crash 21 is more than there are: 20"),
        ("from = \"edge\"", "from = \"egde\"", "from: there is no group 'egde'; groups: edge, core"),
        ("loss = 0.5", "loss = true", "loss must be a value of type float"),
        ("loss = 0.5", "loss = 2.5", "loss must be a share between 0 and 1"),
        ("kind = \"hang\"", "kind = \"hnag\"", "kind must be one of crash"),
        ("nodes = \"core\"", "nodes = \"99\"", "nodes: there is no node 99; the last of 20 is 19"),
        ("nat = true", "nta = true", "unknown key 'nta'"),
        ("local-steps = 3", "model = \"mlp\"", "model belongs to the whole run"),
        ("local-steps = 3", "batch-size = 0", "batch-size must be at least 1"),
        ("amount = 5", "amount = 25", "amount 25 is more than there are: 20"),
        ("rounds = 7", "rounds = \"x\"", "rounds must be a value of type int"),
        ("parts = 2", "parts = 1", "parts must be at least 2"),
    ],
)  # fmt: skip
def test_errors_name_key_and_line(old: str, new: str, message: str) -> None:
    assert WHOLE.count(old) >= 1
    with pytest.raises(ConfigError) as caught:
        parse(WHOLE.replace(old, new, 1), "whole.toml")
    line = WHOLE.count("\n", 0, WHOLE.index(old)) + 1
    assert str(caught.value).startswith(f"whole.toml, line {line}: {message}")


def test_what_is_not_toml_is_said_with_its_line() -> None:
    with pytest.raises(ConfigError, match=r"^whole\.toml is not TOML: .*line 2"):
        parse("seed = 1\nnodes\n", "whole.toml")


def test_a_wrong_flag_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    file = tmp_path / "whole.toml"
    file.write_text(WHOLE)
    with pytest.raises(ConfigError, match=r"^seed must be 0 or more$"):
        load(str(file), {"seed": -1})


def test_what_only_virtual_time_can_do_is_refused_for_processes() -> None:
    for old, new in (("loss = 0.1", "corruption = 0.1"), ("stragglers = 2", 'skew = "1s"')):
        text = WHOLE.replace(old, new).replace('engine = "virtual"', 'engine = "process"')
        with pytest.raises(ConfigError, match="not possible with engine process; use virtual"):
            parse(text, "whole.toml")


def test_equal_seeds_choose_equal_nodes_and_others_do_not() -> None:
    assert parse(WHOLE, "a").groups == parse(WHOLE, "b").groups
    assert parse(WHOLE, "a").groups != parse(WHOLE.replace("seed = 3", "seed = 4"), "b").groups


@pytest.mark.parametrize("name", sorted(ready()))
def test_ready_scenarios_load_and_describe_themselves(name: str) -> None:
    scenario = load(name, {})
    assert parse(to_toml(scenario), name) == scenario
    assert 20 <= len(ready()[name]) <= 140
    assert scenario_file.parse(ready_text(name), name).config.nodes >= 2


def test_an_unknown_ready_scenario_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no ready scenario .qiuck.; did you mean .quick."):
        load("qiuck", {})


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"cannot read the scenario none\.toml: No such file"):
        load("none.toml", {})
