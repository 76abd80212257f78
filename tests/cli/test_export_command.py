"""`p2pfl node export` and `p2pfl node import`: what they say, and their exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfl.storage.directory import StateDirectory, newest
from tests.cli.outcome import Run, error_line
from tests.p2pfl.storage.states import checkpoint


@pytest.fixture
def state(tmp_path: Path) -> str:
    directory = StateDirectory(tmp_path / "state")
    directory.save(checkpoint(round=12))
    directory.close()
    return str(tmp_path / "state")


def test_a_model_goes_out_and_in_again(run: Run, state: str, tmp_path: Path) -> None:
    file, other = str(tmp_path / "model.safetensors"), str(tmp_path / "other")
    out = run("node", "export", "--state-dir", state, file)
    assert (out.exit_code, out.output) == (0, f"wrote {file}: small of tiny, 7 weights, after round 12\n")
    into = run("node", "import", "--state-dir", other, file)
    assert (into.exit_code, into.output) == (0, f"{other} starts from {file}: small of tiny, round 0\n")
    found, _ = newest(Path(other))
    assert found is not None
    assert found.weights.tobytes() == checkpoint(round=12).weights.tobytes()


def test_nothing_is_replaced_unless_told(run: Run, state: str, tmp_path: Path) -> None:
    file = str(tmp_path / "model.safetensors")
    for words, said in (
        (("node", "export", "--state-dir", state, file), "is there already"),
        (("node", "import", "--state-dir", state, file), "holds a state already"),
    ):
        run("node", "export", "--state-dir", state, file)
        refused = run(*words)
        assert refused.exit_code == 1
        assert said in error_line(refused)
        assert run(*words, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("export", "model.safetensors"), 2, "Missing option '--state-dir'"),
        (("import", "--state-dir", "state"), 2, "Missing argument 'FILE'"),
        (("export", "--state-dir", "/nowhere", "x"), 1, "/nowhere cannot be read"),
        (("import", "--state-dir", "state", "/nowhere/x"), 1, "/nowhere/x cannot be read"),
        (("import", "--state-dir", "state", "/nowhere/x", "--task", "t"), 2, "--classes and --task say more"),
    ],
)
def test_a_users_mistake_is_one_line_and_an_exit_code(
    run: Run, words: tuple[str, ...], code: int, said: str
) -> None:
    result = run("node", *words)
    assert result.exit_code == code
    assert said in error_line(result)
