"""Configuration: every key survives a round trip, every bad value is refused in words."""

from __future__ import annotations

import dataclasses
import re
import tomllib
import types
from typing import Any, Literal, Union, get_args, get_origin

import pytest

from netsim.config import SimConfig
from p2pfl.config import (
    Key,
    NodeConfig,
    TrainingConfig,
    build,
    check_url,
    flatten,
    keys,
    parse_listen,
    parse_shard,
)
from p2pfl.errors import ConfigError
from p2pfl.profiles import EDGE
from tests.p2pfl.odd_paths import ODD_PATHS

KINDS = (NodeConfig, SimConfig)

# A value other than the default, for keys that do not take just any string.
SAMPLES: dict[str, object] = {
    "listen": "0.0.0.0:0",
    "advertise": "https://node.example:443",
    "call_from": "192.168.1.5",
    "train_hours": ["22:00-06:00"],
    "peers": ["http://10.0.0.1:8470", "http://[::1]:8470"],
    "shard": "2/4",
    "latency": "1.5s",
    "bootstrap": 3,
    "workers": "3",
    "job_limit": "1min",
    "edge_list": "edges.txt",
    "topology": "ring",
    "merge": "krum:f=2",
    "redraw": "5s",
    "jitter": "5ms",
    "bandwidth": "1Mbit/s",
    "uplink": "64kbit/s",
    "downlink": "2MB/s",
    "speed": "uniform:500,1500",
    "stragglers": "10%",
    "slowdown": 3.0,
    "skew": "2s",
    "crash": "30%",
    "restart": "50%",
    "restart_after": "lognormal:5s,0.5",
    "leave": "2",
    "join_late": "1",
    "hang": "3",
    "hang_for": "7s",
    "window": "5s-20s",
    "uptime": "60s",
    "downtime": "9s",
    "attack": "label-flip",
    "liars": "40%",
    "baselines": ["isolated", "fedavg:median"],
    "cyclic_order": ["2", "0"],
    "virtual_time": "300s",
}

# What a key needs beside it to have a meaning.
BESIDE: dict[str, dict[str, object]] = {
    "tls_cert": {"tls_key": "k", "tls_ca": "a"},
    "tls_key": {"tls_cert": "c", "tls_ca": "a"},
    "tls_ca": {"tls_cert": "c", "tls_key": "k"},
    "profile": {key: flatten(NodeConfig())[key.replace("_", "-")] for key in EDGE},  # they win over it
    "edge_list": {"topology": "edges"},
    "redraw": {"topology": "random-regular"},
    "attack": {"liars": "2"},
    "liars": {"attack": "noise"},
}

ALL_KEYS = [pytest.param(kind, key, id=f"{kind.__name__}-{key.name}") for kind in KINDS for key in keys(kind)]
SHOWN_KEYS = [case for case in ALL_KEYS if not case.values[1].secret]  # type: ignore[union-attr]
SECRET = "not-to-be-shown-anywhere"


def another(key: Key) -> object:
    """A valid value of the key's type that is not its default."""
    kind = key.type
    if key.name in SAMPLES:
        return SAMPLES[key.name]
    if get_origin(kind) in (types.UnionType, Union):
        (kind,) = (member for member in get_args(kind) if member is not type(None))
    if get_origin(kind) is Literal:
        return next(choice for choice in get_args(kind) if choice != key.default)
    if get_origin(kind) is tuple:
        return ["a", "b"]
    if kind is bool:
        return not key.default
    if kind is int:
        return int(key.default or 0) + 1
    return 0.5 if kind is float else "something"


@pytest.mark.parametrize(("kind", "key"), SHOWN_KEYS)
def test_key_survives_build_and_flatten(kind: type[Any], key: Key) -> None:
    value = another(key)
    beside = BESIDE.get(key.name, {})
    config = build(kind, {key.name: value, **beside})
    shown = key.name.replace("_", "-")
    assert flatten(config)[shown] == value
    assert build(kind, flatten(config)) == config
    assert build(kind, {shown: value, **beside}) == config
    others = {name for name, default in flatten(build(kind, {})).items() if flatten(config)[name] != default}
    assert others <= {shown, *beside}


def test_a_secret_is_in_no_text_that_is_made_of_a_configuration() -> None:
    config = build(NodeConfig, {"token": SECRET, "name": "kitchen"})
    assert config.security.token == SECRET
    assert "kitchen" in repr(config)
    assert SECRET not in repr(config) + repr(config.security) + repr(flatten(config))
    for wrong in ([SECRET], {SECRET: SECRET}, {"token": SECRET, "token_file": SECRET, "rounds": SECRET}):
        values = wrong if isinstance(wrong, dict) and "token" in wrong else {"token": wrong}
        with pytest.raises(ConfigError) as caught:
            build(NodeConfig, {key: value for key, value in values.items() if key != "rounds"})
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "given", [("tls_cert",), ("tls_key",), ("tls_ca",), ("tls_cert", "tls_key"), ("tls_key", "tls_ca")]
)
def test_a_part_of_mutual_tls_is_refused(given: tuple[str, ...]) -> None:
    with pytest.raises(
        ConfigError, match="would not give mutual TLS; give --tls-cert, --tls-key and --tls-ca"
    ):
        build(NodeConfig, dict.fromkeys(given, "file"))


@pytest.mark.parametrize("key", ["peers", "advertise"])
def test_a_node_with_tls_has_no_plain_addresses(key: str) -> None:
    tls = dict.fromkeys(("tls_cert", "tls_key", "tls_ca"), "file")
    build(NodeConfig, {**tls, key: "https://192.0.2.1:8470"})
    with pytest.raises(ConfigError, match=f"{key}: 'http://192.0.2.1:8470' is plain HTTP, .* give https://"):
        build(NodeConfig, {**tls, key: "http://192.0.2.1:8470"})


@pytest.mark.parametrize(("kind", "key"), ALL_KEYS)
def test_key_refuses_a_value_of_another_type(kind: type[Any], key: Key) -> None:
    with pytest.raises(ConfigError, match=key.name.replace("_", "-")):
        build(kind, {key.name: {"a": "table"}})


@pytest.mark.parametrize(("kind", "key"), ALL_KEYS)
def test_key_has_a_help_sentence(kind: type[Any], key: Key) -> None:
    assert key.help.endswith((".", "]")), key.help


@pytest.mark.parametrize("kind", KINDS)
def test_no_two_keys_share_a_name(kind: type[Any]) -> None:
    names = [key.name for key in keys(kind)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("kind", KINDS)
def test_defaults_are_valid(kind: type[Any]) -> None:
    assert build(kind, {}) == kind()


def test_config_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        NodeConfig().seed = 1  # type: ignore[misc]


def test_unknown_key_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown key 'local-epoch'; did you mean 'local-epochs'"):
        build(NodeConfig, {"local-epoch": 1})
    with pytest.raises(ConfigError, match=r"unknown key 'zzz'$"):
        build(NodeConfig, {"zzz": 1})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fanout": 0}, "fanout must be at least 1"),
        ({"settle": -1}, "settle must be 0 or more"),
        ({"interval": float("nan")}, "interval must be"),
        ({"interval": float("inf")}, "interval must be"),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"lr": float("nan")}, "lr must be above 0"),
        ({"momentum": 1.0}, "momentum must be in"),
        ({"weight-decay": -1.0}, "weight-decay must be"),
        ({"batch-size": 0}, "batch-size must be"),
        ({"rounds": -1}, "rounds must be"),
        ({"local-epochs": 0}, "local-epochs must be"),
        ({"local-steps": 0}, "local-steps must be"),
        ({"local-epochs": 1, "local-steps": 1}, "exclude each other"),
        ({"lr-schedule": "cosine", "rounds": 0}, "cosine needs a number of rounds"),
        ({"lr-schedule": "linear"}, "lr-schedule must be one of constant, cosine, not 'linear'"),
        ({"threads": 0}, "threads must be"),
        ({"seed": -1}, "seed must be"),
        ({"seed": 1.0}, "seed must be a value of type int"),
        ({"seed": True}, "seed must be a value of type int"),
        ({"exit-when-done": 1}, "exit-when-done must be a value of type bool"),
        ({"name": "n" * 65}, "at most 64 characters"),
        ({"view-size": 0}, "view-size must be"),
        ({"min-peers": 65}, "more than view-size 64 can hold"),
        ({"wait": -1.0}, "wait must be"),
        ({"linger": -1.0}, "linger must be"),
        ({"peers": "localhost:8470"}, "'localhost:8470' is not http://HOST:PORT"),
        ({"peers": [1]}, "peers must be a list of strings"),
        ({"advertise": "http://host"}, "advertise: 'http://host' is not"),
        ({"call-from": "node.example"}, "call-from: 'node.example' is not an IP address"),
        ({"shard": "4/4"}, "shard '4/4' is not I/N"),
        ({"listen": "8470"}, "listen '8470' is not HOST:PORT"),
        ({"evaluate-every": -1}, "evaluate-every must be"),
        ({"evaluate-samples": -1}, "evaluate-samples must be"),
        ({"keep-writers": 0}, "keep-writers must be"),
        ({"partition-seed": -1}, "partition-seed must be"),
    ],
)
def test_bad_value_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        build(NodeConfig, values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nodes": 0}, "nodes must be"),
        ({"rounds": 0}, "rounds must be at least 1"),
        ({"nodes": 4, "bootstrap": 4}, "bootstrap must be below nodes"),
        ({"latency": "fast"}, "latency 'fast' is not a duration"),
        ({"workers": "0"}, "workers must be"),
        ({"engine": "quantum"}, "engine must be one of"),
    ],
)
def test_bad_simulation_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        build(SimConfig, values)


def test_comma_lists_and_repetition_are_the_same() -> None:
    comma = build(NodeConfig, {"peers": "http://a:1, http://b:2"})
    assert comma == build(NodeConfig, {"peers": ["http://a:1", "http://b:2"]})
    assert comma.peers == ("http://a:1", "http://b:2")


def test_whole_number_in_a_file_is_a_float_where_one_is_wanted() -> None:
    assert build(NodeConfig, tomllib.loads("lr = 1")).training.lr == 1.0


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:8470", ("::1", 8470)),
        ("node.example:65535", ("node.example", 65535)),
    ],
)
def test_listen_addresses(text: str, pair: tuple[str, int]) -> None:
    assert parse_listen(text) == pair


@pytest.mark.parametrize("text", ["", ":1", "host", "host:", "host:port", "host:65536", "host:-1"])
def test_bad_listen_addresses(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_listen(text)


@pytest.mark.parametrize("text", ["", "1", "/", "1/", "/2", "2/2", "-1/2", "0/0", "a/b", "0/1/2", "0.5/1"])
def test_bad_shards(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_shard(text)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host:1",
        "ftp://host:1",
        "http://:1",
        "http://host",
        "http://host:x",
        "http://host:70000",
        "http://host:1/path",
        "http://host:1?query",
        "http://host:1#fragment",
        "http://user@host:1",
        "http://[::1:1",
        *(f"http://host:1{path}" for path in ODD_PATHS if path != "/tasks/a/"),
    ],
)
def test_bad_urls(url: str) -> None:
    with pytest.raises(ConfigError, match="is not http://HOST:PORT"):
        check_url("peers", url)


@pytest.mark.parametrize("url", ["http://host:1", "http://host:1/", "https://[::1]:1/tasks/x-rays"])
def test_good_urls(url: str) -> None:
    check_url("peers", url)
    assert build(NodeConfig, {"peers": url}).peers == (url,)


@pytest.mark.parametrize(
    ("values", "samples", "steps"),
    [({}, 100, 4), ({}, 96, 3), ({"local_epochs": 2}, 100, 8), ({"local_steps": 7}, 100, 7), ({}, 1, 1)],
)
def test_steps_of_a_round(values: dict[str, int], samples: int, steps: int) -> None:
    assert build(TrainingConfig, values).steps(samples) == steps
