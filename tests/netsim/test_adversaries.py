"""Adversaries as users write them: tables, flags, and what is wrong with them in one line."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from netsim.adversaries import recorded
from netsim.attacks.attack import Attack
from netsim.attacks.liar import Window
from netsim.scenario import Scenario
from netsim.scenario_file import load, parse, to_toml
from p2pfl.errors import ConfigError

HEAD = "[nodes]\ncount = 10\n\n[stop]\nrounds = 20\n\n"


@dataclass(frozen=True, kw_only=True)
class Own(Attack):
    """A user's own attack."""


def scenario(table: str) -> Scenario:
    return parse(f"{HEAD}[[adversaries]]\n{table}\n", "liars.toml")


def test_nodes_by_number_and_by_list() -> None:
    for nodes in ('"3,7"', "[3, 7]"):
        (found,) = scenario(f'attack = "label-flip"\nnodes = {nodes}').adversaries
        assert found.nodes == (3, 7)


def test_an_amount_is_drawn_from_the_seed_among_the_honest() -> None:
    text = HEAD + '[[adversaries]]\nattack = "nan"\namount = "40%"\n' * 2
    first, second = parse(text, "a").adversaries
    assert (len(first.nodes), len(second.nodes)) == (4, 4)
    assert not set(first.nodes) & set(second.nodes)
    assert parse(text, "b").adversaries == (first, second)
    assert parse("seed = 5\n" + text, "c").adversaries != (first, second)
    assert len(parse(text, "a").honest) == 2


def test_flags_make_one_more_attack() -> None:
    found = load(None, {"nodes": 10, "attack": "a-little:z=1.5,knows=honest", "liars": "40%"})
    (adversary,) = found.adversaries
    assert len(adversary.nodes) == 4
    assert recorded([adversary]) == [
        {"nodes": adversary.nodes, "attack": "a-little", "z": 1.5, "knows": "honest"}
    ]
    assert parse(to_toml(found), "kept").adversaries == (adversary,)


def test_a_spec_may_hold_commas_in_its_values() -> None:
    (found,) = scenario('attack = "label-flip:mapping=3:8,8:3"\nnodes = 1').adversaries
    assert found.options == {"mapping": "3:8,8:3"}


@pytest.mark.parametrize(
    ("times", "window"),
    [
        ("", Window()),
        ("from = 5", Window(5)),
        ('from = "30%"\nuntil = "60%"', Window(7, 12)),
        ("until = 12", Window(1, 12)),
    ],
)
def test_rounds_in_which_they_lie(times: str, window: Window) -> None:
    (found,) = scenario(f'attack = "nan"\nnodes = 1\n{times}').adversaries
    assert found.window == window


def test_a_scenario_with_adversaries_is_kept_as_it_was() -> None:
    one = scenario('attack = "noise"\nsigma = 0.5\nnodes = [3, 7]\nfrom = 5')
    assert parse(to_toml(one), "kept") == one
    assert recorded(one.adversaries) == [{"nodes": (3, 7), "attack": "noise", "sigma": 0.5, "from": 5}]


def test_an_attack_of_ones_own() -> None:
    (found,) = scenario('attack = "tests.netsim.test_adversaries:Own"\nnodes = 1').adversaries
    assert found.attack == Own()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            'attack = "sign-flap"\nnodes = 1',
            "line 8: attack 'sign-flap' is unknown; did you mean 'sign-flip'?",
        ),
        ("nodes = 1", "line 7: attack: which one? One of label-flip,"),
        ('attack = "sign-flip"', "line 7: nodes or amount: say who"),
        (
            'attack = "sign-flip"\nnodes = 1\nfactr = 2',
            "line 10: unknown key 'factr'; did you mean 'factor'?",
        ),
        ('attack = "sign-flip"\nnodes = 1\nfactor = "x"', "line 10: factor must be a value of type float"),
        ('attack = "sign-flip"\nnodes = 1\nfactor = -1.0', "line 10: factor must be above 0"),
        ('attack = "sign-flip"\nnodes = "*"', "line 9: nodes: nobody is left who is honest"),
        ('attack = "a-little"\nnodes = 1', "line 9: a-little needs a group of two"),
        ('attack = "a-little"\nnodes = [1, 2]', "z: for 2 of 10 nodes the paper's formula gives none"),
        ('attack = "label-flip"\nmapping = "3-8"\nnodes = 1', "line 9: mapping '3-8' is neither"),
        ('attack = "nan"\nnodes = 1\nfrom = "soon"', "line 10: from 'soon' is neither a round"),
        ('attack = "nan"\nnodes = 1\nfrom = 9\nuntil = 5', "until: they would end with round 5"),
        ('attack = "nan:z"\nnodes = 1', "line 8: attack 'nan:z': write options as nan:key=value"),
        ('attack = "json:loads"\nnodes = 1', "is not a class made from"),
        ('attack = "no.such:Thing"\nnodes = 1', "cannot be imported"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(table: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        scenario(table)
    assert message in str(caught.value)
    assert str(caught.value).startswith("liars.toml, line ")
    assert "\n" not in str(caught.value)


def test_one_node_has_one_lie_about_its_data() -> None:
    two = 'attack = "label-flip"\nnodes = 1\n[[adversaries]]\nattack = "random-labels"\nnodes = "0-1"'
    with pytest.raises(ConfigError, match="line 12: nodes: node 1 would have two attacks on its data"):
        scenario(two)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"attack": "nan"}, "attack and liars need each other"),
        ({"liars": "2"}, "attack and liars need each other"),
        ({"attack": "nan", "liars": "30"}, "liars 30 is more than there are"),
        ({"attack": "nam", "liars": "2"}, "attack 'nam' is unknown"),
        ({"attack": "a-little:z=1", "liars": "2", "engine": "process"}, "take engine virtual"),
    ],
)
def test_wrong_flags(flags: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, {"nodes": 10, **flags})
    assert str(caught.value).startswith(message) or message in str(caught.value)
    assert "line" not in str(caught.value)


def test_an_unknown_attack_in_its_section_is_said_with_its_line() -> None:
    with pytest.raises(ConfigError, match=r"liars\.toml, line 8: attack 'nam' is unknown"):
        parse(HEAD + '[attack]\nkind = "nam"\nliars = 2\n', "liars.toml")
