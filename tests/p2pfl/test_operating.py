"""A node in the hands of its operator: the token, and what outlives the process."""

from __future__ import annotations

import json
import logging
import stat
from pathlib import Path

import pytest
import trio

from p2pfl.config import NodeConfig, build
from p2pfl.credentials import take_operator_token
from p2pfl.errors import BadSetting, ConfigError, CredentialError, StorageError
from p2pfl.network.security import Security, on_this_machine
from p2pfl.network.tokens import Token
from p2pfl.operating import operate
from p2pfl.storage.operator import CONTROLS_FILE, TOKEN_FILE, keep_controls, read_controls
from tests.p2pfl.village import Village, Villager

TOKEN = Token("0123456789abcdefghij-operator")


def operated(folder: Path | None, **config: object) -> Villager:
    """One whose operator keeps what is set in `folder`; it does not run."""
    villager = Village().villager(0, **config)
    operate(villager.node, TOKEN, None if folder is None else str(folder))
    return villager


async def change(villager: Villager, **values: object) -> dict[str, object]:
    controlled = villager.node.service.operated
    assert controlled is not None
    await controlled.change(values)
    return controlled.as_dict()


# -- the token


def test_an_operators_token_is_made_kept_and_printed_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = build(NodeConfig, {"state_dir": str(tmp_path)})
    token, given = take_operator_token(config)
    file = tmp_path / TOKEN_FILE
    assert (given, stat.S_IMODE(file.stat().st_mode), file.read_text()) == (False, 0o600, f"{token.text}\n")
    again, _ = take_operator_token(config)
    assert again.text == token.text
    assert token.text not in caplog.text + repr(token) + str(token)


def test_without_a_state_directory_each_start_has_another() -> None:
    first, second = (take_operator_token(NodeConfig())[0] for _ in range(2))
    assert first.text != second.text
    assert len(first.text) >= 43  # 256 bits


def test_a_token_that_is_given_is_not_kept(tmp_path: Path) -> None:
    file = tmp_path / "mine"
    file.write_text(TOKEN.text)
    file.chmod(0o600)
    state = tmp_path / "state"
    state.mkdir()
    for given in ({"control_token_file": str(file)}, {"control_token": TOKEN.text}):
        token, was_given = take_operator_token(build(NodeConfig, {"state_dir": str(state), **given}))
        assert (token.text, was_given, list(state.iterdir())) == (TOKEN.text, True, [])


def test_a_token_that_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / TOKEN_FILE).write_text("short\n")
    with pytest.raises(CredentialError, match=TOKEN_FILE):
        take_operator_token(build(NodeConfig, {"state_dir": str(tmp_path)}))
    with pytest.raises(CredentialError):
        take_operator_token(build(NodeConfig, {"control_token_file": str(tmp_path / "none")}))
    with pytest.raises(ConfigError, match="not both"):
        build(NodeConfig, {"control_token_file": "f", "control_token": TOKEN.text})


def test_the_networks_token_is_not_taken_for_the_operators() -> None:
    Security(token=Token(TOKEN.text + "x"), operator=TOKEN).check_operator()
    Security(operator=TOKEN).check_operator()
    with pytest.raises(CredentialError, match="every node has") as caught:
        Security(token=Token(TOKEN.text), operator=TOKEN).check_operator()
    assert TOKEN.text not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://127.0.0.1:8470", "http://127.0.0.1:8470"),
        ("https://0.0.0.0:8470", "https://127.0.0.1:8470"),
        ("http://[::]:8470", "http://[::1]:8470"),
        ("http://node.test:1", "http://node.test:1"),
    ],
)
def test_the_pages_address_can_be_called_on_this_machine(url: str, shown: str) -> None:
    assert on_this_machine(url) == shown


# -- over a restart


async def test_what_is_set_is_found_again_by_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = operated(tmp_path)
    assert (await change(first, lr=0.02, merge="median", paused=True))["kept"] is True
    with caplog.at_level(logging.WARNING):
        again = operated(tmp_path)
    assert (again.node.config.training.lr, again.status()["merge"]) == (0.02, "median")
    assert again.status()["paused"] is True
    assert "lr=0.02 merge=median" in caplog.text
    assert "p2pfl node resume" in caplog.text
    await change(again, lr=0.1, merge="mean", paused=False)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert operated(tmp_path).node.config.training.lr == 0.1
    assert caplog.text == ""


async def test_without_a_state_directory_nothing_is_kept() -> None:
    assert (await change(operated(None), lr=0.02))["kept"] is False


async def test_what_cannot_be_used_any_more_is_left_and_the_pause_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keep_controls(tmp_path, {"paused": True, "changes": {"merge": ["mean", "krum:f=99"]}})
    again = operated(tmp_path)
    assert (again.node.config.gossip.merge, again.status()["paused"]) == ("mean", True)
    assert "cannot be used any more" in caplog.text


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 99}', b"\xff", b"[" * 9999])
def test_a_damaged_file_ends_the_start_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CONTROLS_FILE).write_bytes(content)
    with pytest.raises(StorageError, match="delete it"):
        operated(tmp_path)


async def test_on_a_full_disk_the_change_holds_and_the_operator_is_told(tmp_path: Path) -> None:
    villager = operated(tmp_path / "gone")
    shown = await change(villager, lr=0.02)
    assert (shown["kept"], villager.node.config.training.lr) == (False, 0.02)
    (tmp_path / "gone").mkdir()
    assert (await change(villager, paused=True))["kept"] is True
    assert read_controls(tmp_path / "gone")["changes"] == {"lr": [0.1, 0.02]}


async def test_of_requests_at_once_the_file_has_the_last(tmp_path: Path) -> None:
    villager = operated(tmp_path)
    async with trio.open_nursery() as nursery:
        for fanout in range(3, 9):
            nursery.start_soon(lambda fanout=fanout: change(villager, fanout=fanout))
    kept = json.loads((tmp_path / CONTROLS_FILE).read_text())
    assert kept["changes"]["fanout"] == [2, villager.node.config.gossip.fanout]


async def test_a_bad_setting_is_named_and_changes_nothing(tmp_path: Path) -> None:
    villager = operated(tmp_path)
    with pytest.raises(BadSetting) as caught:
        await change(villager, lr=0.2, batch_size=0)
    assert (caught.value.field, villager.node.config.training.lr) == ("batch_size", 0.1)
    assert not (tmp_path / CONTROLS_FILE).exists()
