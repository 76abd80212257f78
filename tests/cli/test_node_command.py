"""`p2pfl node start`: flags, file and environment become one configuration, or one line says why not."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args, get_origin

import pytest

from p2pfl import standalone
from p2pfl.config import NodeConfig, build, flatten, keys
from p2pfl.errors import ConfigError
from p2pfl.task_file import TasksConfig
from tests.cli.outcome import Run, error_line

Start = Callable[..., NodeConfig]
Reload = Callable[[], NodeConfig] | None


@pytest.fixture
def start(run: Run, monkeypatch: pytest.MonkeyPatch) -> Start:
    """start("--fanout", "3") -> the configuration that the node would run with."""
    configs: list[NodeConfig] = []

    def record(config: NodeConfig, *, reload: Reload) -> int:
        configs.append(config)
        return 0

    monkeypatch.setattr(standalone, "start", record)

    def invoke(*arguments: str) -> NodeConfig:
        result = run("node", "start", *arguments)
        assert (result.exit_code, result.output) == (0, "")
        return configs.pop()

    return invoke


@pytest.fixture
def toml(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        path = tmp_path / "node.toml"
        path.write_text(text)
        return str(path)

    return write


def test_no_flags_give_the_defaults(start: Start) -> None:
    assert start() == NodeConfig()


def test_every_key_is_a_flag_with_its_help(run: Run) -> None:
    words = " ".join(run("node", "start", "--help").stdout.split())
    shown = words.replace("- ", "-")  # the help breaks lines behind hyphens
    for key in keys(NodeConfig):
        assert re.search(rf"--{key.name.replace('_', '-')}\b", shown)
        assert key.help.replace("- ", "-") in shown
        if get_origin(key.type) is not None and all(isinstance(choice, str) for choice in get_args(key.type)):
            assert f"<{'|'.join(get_args(key.type))}>" in shown


def test_flags_of_each_type_arrive(start: Start) -> None:
    config = start(
        *("--peers", "http://a:1,http://b:2", "--peers", "http://c:3"),
        *("--rounds", "7", "--lr", "0.5", "--gossip", "push", "--exit-when-done", "--seed", "3"),
    )
    assert config.peers == ("http://a:1", "http://b:2", "http://c:3")
    assert (config.training.rounds, config.training.lr, config.seed) == (7, 0.5, 3)
    assert (config.gossip.gossip, config.exit_when_done) == ("push", True)


def test_every_key_is_read_from_the_file(start: Start, toml: Callable[[str], str]) -> None:
    config = build(NodeConfig, {"peers": ["http://a:1"], "seed": 5, "local-steps": 9, "exit-when-done": True})
    lines = (
        f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}"
        for key, value in flatten(config).items()
    )
    assert start("--config", toml("\n".join(lines))) == config


def test_flags_win_over_the_file(start: Start, toml: Callable[[str], str]) -> None:
    path = toml("rounds = 5\nfanout = 3\nlocal_steps = 2\nexit-when-done = true\nlog-level = 'error'")
    config = start("--config", path, "--rounds", "20", "--local-steps", "4", "--no-exit-when-done")
    assert config.training.rounds == 20  # given, though equal to the default
    assert config.training.local_steps == 4
    assert config.exit_when_done is False
    assert (config.gossip.fanout, config.log_level) == (3, "error")


def test_flag_mends_what_the_file_alone_would_break(start: Start, toml: Callable[[str], str]) -> None:
    path = toml("lr-schedule = 'cosine'\nrounds = 0")
    assert start("--config", path, "--rounds", "8").training.rounds == 8


def test_data_directory_comes_from_the_environment(
    start: Start, toml: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P2PFL_DATA", "/environment")
    assert start().data.data_dir == "/environment"
    assert start("--config", toml("data-dir = '/file'")).data.data_dir == "/environment"
    assert start("--data-dir", "/flag").data.data_dir == "/flag"


def test_exit_code_of_the_node_is_the_commands(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standalone, "start", lambda config, reload: 3)
    assert run("node", "start").exit_code == 3
    monkeypatch.setattr(standalone, "start", lambda config, reload: None)
    assert run("node", "start").exit_code == 0


def test_file_can_be_read_again_and_flags_still_win(
    run: Run, toml: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reloads: list[Reload] = []
    monkeypatch.setattr(standalone, "start", lambda config, reload: reloads.append(reload))
    path = toml("peers = ['http://a:1']\nrounds = 5")
    assert run("node", "start", "--config", path, "--rounds", "7", "--fixed-peers").exit_code == 0
    assert run("node", "start", "--rounds", "7").exit_code == 0
    again, none = reloads
    assert none is None
    assert again is not None
    toml("peers = ['http://b:2', 'http://c:3']\nrounds = 6")
    config = again()
    assert config.peers == ("http://b:2", "http://c:3")
    assert (config.training.rounds, config.gossip.fixed_peers) == (7, True)
    toml("fanout = 0")
    with pytest.raises(ConfigError, match=r"node\.toml: fanout must be at least 1"):
        again()
    Path(path).unlink()
    with pytest.raises(ConfigError, match="cannot read the configuration file"):
        again()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--fanout", "0"], "fanout must be at least 1"),
        (["--fanout", "two"], "Invalid value for '--fanout'"),
        (["--fanout", "1.5"], "Invalid value for '--fanout'"),
        (["--lr", "fast"], "Invalid value for '--lr'"),
        (["--lr", "nan"], "lr must be above 0"),
        (
            ["--gossip", "shout"],
            "Invalid value for '--gossip': 'shout' is not one of 'push', 'pull', 'push-pull'",
        ),
        (["--log-level", "loud"], "'loud' is not one of 'debug', 'info', 'warning', 'error'"),
        (["--lr-schedule", "cosine", "--rounds", "0"], "cosine needs a number of rounds; give --rounds"),
        (["--local-epochs", "1", "--local-steps", "1"], "exclude each other"),
        (["--listen", "127.0.0.1:http"], "is not HOST:PORT"),
        (["--listen", "127.0.0.1:70000"], "is not HOST:PORT"),
        (["--shard", "3/3"], "is not I/N"),
        (["--peers", "http://a:1,b:2"], "'b:2' is not http://HOST:PORT"),
        (["--advertise", "http://a:1/x"], "advertise: 'http://a:1/x' is not"),
        (["--seed", "-1"], "seed must be 0 or more"),
        (["--min-peers", "9", "--view-size", "8"], "min-peers 9 is more than view-size 8 can hold"),
        (
            ["--fixed-peers", "--peers", "http://a:1", "--min-peers", "2"],
            "min-peers 2 is more than the 1 fixed peers",
        ),
        (["--config", "missing.toml"], "cannot read the configuration file missing.toml: No such file"),
        (["--config", "."], "cannot read the configuration file .: Is a directory"),
    ],
)
def test_bad_flag_is_one_line_and_exit_code_2(run: Run, flags: list[str], message: str) -> None:
    result = run("node", "start", *flags)
    assert result.exit_code == 2
    assert message in error_line(result)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fan-out = 3", "node.toml: unknown key 'fan-out'; did you mean 'fanout'?"),
        ("[training]\nlr = 1", "node.toml: unknown key 'training'"),
        ("fanout = 0", "node.toml: fanout must be at least 1"),
        ("fanout = '3'", "node.toml: fanout must be a value of type int, not '3'"),
        ("peers = [1]", "node.toml: peers must be a list of strings"),
        ("gossip = 'shout'", "node.toml: gossip must be one of push, pull, push-pull"),
        ("local-steps = 1\nlocal_steps = 2", "node.toml: 'local-steps' and 'local_steps' are the same key"),
        ("config = 'other.toml'", "node.toml: unknown key 'config'"),
        ("fanout 3", "node.toml is not TOML: "),
        ("fanout = 1\nfanout = 2", "node.toml is not TOML: "),
    ],
)
def test_bad_file_is_named(run: Run, toml: Callable[[str], str], text: str, message: str) -> None:
    result = run("node", "start", "--config", toml(text))
    assert result.exit_code == 2
    assert message in error_line(result)


def test_file_of_other_bytes_is_named(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_bytes(b"\xff\xfe\x00")
    assert "node.toml is not TOML" in error_line(run("node", "start", "--config", str(path)))


def test_a_file_of_several_tasks_is_read_and_read_again(
    run: Run, toml: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[TasksConfig, Callable[[], TasksConfig]]] = []
    monkeypatch.setattr(standalone, "start_several", lambda config, reload: started.append((config, reload)))
    path = toml('listen = "127.0.0.1:1"\nlog-level = "error"\n[tasks.a]\nrounds = 3\n[tasks.b]\n')
    result = run("node", "start", "--tasks", path, "--listen", "127.0.0.1:2")
    assert (result.exit_code, result.output) == (0, "")
    [(config, reload)] = started
    assert [(name, task.listen) for name, task in config.tasks.items()] == [
        ("a", "127.0.0.1:2"),
        ("b", "127.0.0.1:2"),
    ]
    assert config.tasks["a"].training.rounds == 3
    Path(path).write_text('[tasks.a]\npeers = ["http://a:1/tasks/a"]\n')
    assert reload().tasks["a"].peers == ("http://a:1/tasks/a",)
    assert reload().shared.listen == "127.0.0.1:2"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config", "FILE"], "--config is of one node, --tasks of several; give one of them"),
        (["--rounds", "3"], "--rounds belongs to a task; give it in [tasks.NAME] of "),
        (["--listen", "x"], "listen 'x' is not HOST:PORT"),
    ],
)
def test_bad_flags_beside_a_file_of_several_tasks(
    run: Run, toml: Callable[[str], str], flags: list[str], message: str
) -> None:
    path = toml("[tasks.a]\n")
    result = run("node", "start", "--tasks", path, *(path if flag == "FILE" else flag for flag in flags))
    assert result.exit_code == 2
    assert message in error_line(result)


def test_bad_flag_beside_a_good_file_does_not_blame_the_file(run: Run, toml: Callable[[str], str]) -> None:
    result = run("node", "start", "--config", toml("rounds = 3"), "--fanout", "0")
    assert error_line(result).startswith("fanout must be at least 1")


TOKEN = "correct-horse-battery-staple"


def test_a_token_on_the_command_line_is_warned_of(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    configs: list[NodeConfig] = []
    monkeypatch.setattr(standalone, "start", lambda config, reload: configs.append(config))
    for given in (
        run("node", "start", "--token", TOKEN),
        run("node", "status", "127.0.0.1:1", "--token", TOKEN),
    ):
        assert "p2pfl: warning: other users of this machine can read --token" in given.stderr
        assert "--token-file, or set P2PFL_TOKEN" in given.stderr
        assert TOKEN not in given.output
    monkeypatch.setenv("P2PFL_TOKEN", TOKEN)
    assert run("node", "start").output == ""
    assert [config.security.token for config in configs] == [TOKEN, TOKEN]


def test_a_token_comes_from_one_place(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2PFL_TOKEN", TOKEN)
    result = run("node", "start", "--token-file", "any")
    assert (result.exit_code, error_line(result)) == (2, "give the token or token-file, not both")


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--tls-cert", "c"], 2, "tls-cert alone would not give mutual TLS; give --tls-cert, --tls-key and"),
        (["--tls-cert", "c", "--tls-key", "k", "--tls-ca", "a"], 1, "cannot read c: No such file"),
        (["--token-file", "missing"], 1, "cannot read missing: No such file"),
        (["--max-requests", "-1"], 2, "max-requests must be 0"),
    ],
)
def test_what_cannot_keep_strangers_out_does_not_start(
    run: Run, flags: list[str], code: int, message: str
) -> None:
    """Nothing is loaded, and nothing listens: there is no way on without TLS or token."""
    result = run("node", "start", *flags)
    assert result.exit_code == code
    assert message in error_line(result)
    assert "listening" not in result.output


def test_a_weak_token_does_not_start(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2PFL_TOKEN", "hunter2")
    result = run("node", "start")
    assert result.exit_code == 1
    assert "the token is too easy to guess" in error_line(result)
    assert "hunter2" not in result.output


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "allow.txt cannot be read: No such file or directory"),
        (b"", "allow.txt names nobody"),
        (b"# nobody yet\n", "allow.txt names nobody"),
        (b"k" + b"0" * 32 + b"\nmy laptop\n", "allow.txt, line 2: 'my laptop' does not begin with an"),
        (b"\xff\xfe", "allow.txt is not a text of UTF-8"),
    ],
)
def test_a_list_that_lets_nobody_in_or_is_wrong_starts_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bytes | None, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path("allow.txt").write_bytes(text)
    result = run("node", "start", "--allow", "allow.txt")
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in error_line(result)


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (("--fanout", "0"), 2, "fanout must be at least 1"),
        (("--lr-schedule", "cosine", "--rounds", "0"), 2, "cosine needs a number of rounds"),
        (("--shard", "4/4"), 2, "shard '4/4'"),
        (("--shard", "0/5000"), 2, "5000"),
        (("--dataset", "nowhere.npz"), 1, "nowhere.npz"),
        (("--dataset", "mnist", "--data-dir", "empty"), 1, "digits"),
        (("--model", "no.such:factory"), 1, "no.such"),
        (("--state-dir", "/proc/nope"), 1, "state-dir"),
        (("--journal", "/proc/nope/journal"), 1, "journal"),
    ],
)
def test_a_users_mistake_is_one_line_and_an_exit_code(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("node", "start", "--listen", "127.0.0.1:0", *flags)
    assert result.exit_code == code
    assert said in error_line(result)
