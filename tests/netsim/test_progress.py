"""What progress counts, and when it speaks."""

from __future__ import annotations

import io
import threading
from types import SimpleNamespace

import pytest

from netsim import progress
from netsim.progress import Progress
from p2pfl.events import Evaluated, RoundCompleted, StateChanged, Trained


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class HostClock:
    """Stands in for the time module: the host's seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> HostClock:
    clock = HostClock()
    monkeypatch.setattr(progress, "host", SimpleNamespace(perf_counter=clock.perf_counter))
    return clock


def evaluated(round: int, accuracy: float) -> Evaluated:
    return Evaluated(round, 1.0, 10, 0.5, accuracy, accuracy, ())


def run(shown: Progress, nodes: int, rounds: int) -> None:
    for _ in range(nodes):
        shown.watch(0.0, StateChanged("training"))
    for round in range(1, rounds + 1):
        for _ in range(nodes):
            shown.watch(float(round), Trained(round, 1, 50, 0.1, 1.0))
            shown.watch(float(round), RoundCompleted(round, 1.0))
    for _ in range(nodes):
        shown.watch(rounds + 0.5, StateChanged("done"))


@pytest.mark.parametrize(("nodes", "rounds"), [(20, 20), (4, 5), (1000, 5)])
def test_a_pipe_gets_a_line_for_each_tenth_and_one_at_the_end(
    nodes: int, rounds: int, clock: HostClock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress(nodes, rounds) as shown:
        run(shown, nodes, rounds)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert len(lines) == 11
    assert lines[0].startswith(f"rounds {nodes * rounds // 10}/{nodes * rounds} (10 %)  done 0/{nodes}  t ")
    assert f"(100 %)  done {nodes}/{nodes}  t {rounds}.5 s" in lines[-1]


def test_a_short_run_has_a_line_for_each_completed_round(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(3, 1) as shown:
        run(shown, 3, 1)
    assert [line.split("  ")[0] for line in capsys.readouterr().err.splitlines()] == [
        "rounds 1/3 (33 %)",
        "rounds 2/3 (66 %)",
        "rounds 3/3 (100 %)",
        "rounds 3/3 (100 %)",
    ]


def test_an_error_ends_it_without_a_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress(3, 10)
    shown.watch(0.0, StateChanged("done"))
    with pytest.raises(KeyboardInterrupt), shown:
        raise KeyboardInterrupt
    assert capsys.readouterr().err == ""


def test_accuracy_is_the_mean_of_the_latest_value_of_each_evaluated_node() -> None:
    shown = Progress(10, 5)
    assert "accuracy -" in shown.text()
    for accuracy in (0.1, 0.2, 0.3):  # 3 of 10 nodes evaluate themselves
        shown.watch(1.0, evaluated(1, accuracy))
    assert "accuracy 0.200" in shown.text()
    for accuracy in (0.7, 0.8, 0.9):
        shown.watch(2.0, evaluated(2, accuracy))
    assert "accuracy 0.800" in shown.text()


def test_the_rate_counts_from_the_first_node_that_trains(clock: HostClock) -> None:
    shown = Progress(2, 5)
    clock.now += 50.0  # starting up
    shown.watch(0.0, StateChanged("training"))
    clock.now += 2.0
    shown.watch(1.0, Trained(1, 10, 3000, 0.1, 1.0))
    assert shown.text().endswith("1,500 images/s")


def test_a_terminal_is_redrawn_ten_times_a_second_at_most_and_by_no_thread(
    clock: HostClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    threads = threading.active_count()
    with Progress(2, 1000) as shown:
        assert threading.active_count() == threads
        begun = terminal.tell()
        clock.now += 0.05
        shown.watch(1.0, RoundCompleted(1, 1.0))
        assert terminal.tell() == begun
        clock.now += 0.05
        shown.watch(1.0, RoundCompleted(1, 1.0))
        assert terminal.tell() > begun
        shown.watch(7.0, StateChanged("done"))
    assert "done 1/2  t 7.0 s" in terminal.getvalue()


def test_quiet_makes_a_terminal_like_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with Progress(1, 1, quiet=True) as shown:
        run(shown, 1, 1)
    assert "\x1b" not in terminal.getvalue()
    assert len(terminal.getvalue().splitlines()) == 2
