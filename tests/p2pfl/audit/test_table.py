"""The rows of the table: their cases are possible, and quick ones need no files."""

from __future__ import annotations

import pytest

from p2pfl.audit.table import ROWS, cases, markdown
from p2pfl.errors import ConfigError


def test_every_row_is_a_case_of_its_own() -> None:
    found = cases((), quick=False, seed=3, data_dir="data", colour="cifar10-small.npz")
    assert [row for row, _ in found] == list(ROWS)
    assert (
        len({row.name for row in ROWS})
        == len({row.text + row.name.split("-")[0] for row in ROWS})
        == len(ROWS)
    )
    assert len({repr(config) for _, config in found}) == len(ROWS)
    assert {config.seed for _, config in found} == {3}
    assert {config.dataset for _, config in found} == {"fashion-mnist", "cifar10-small.npz"}


def test_quick_rows_are_one_update_of_digits() -> None:
    for _, config in cases((), quick=True, seed=0, data_dir="data", colour="cifar10"):
        assert (config.dataset, config.data_dir, config.pictures) == ("digits", None, config.together)
        assert config.steps_of_attack <= 40


def test_rows_are_chosen_by_name_in_the_order_of_the_table() -> None:
    found = cases(["cifar", "fashion"], quick=False, seed=0, data_dir=None, colour="cifar10")
    assert [row.name for row, _ in found] == ["fashion", "cifar"]
    with pytest.raises(ConfigError, match="no row is called 'x'"):
        cases(["x"], quick=False, seed=0, data_dir=None, colour="cifar10")


def test_the_table_is_markdown() -> None:
    figures = {
        "row": "fashion", "text": "a gradient", "pictures": 2, "labels_recovered": 0.5, "psnr_min": 1.0,
        "psnr_median": 2.0, "psnr_max": 3.0, "ssim_median": 0.25, "cpu_seconds": 1.6,
    }  # fmt: skip
    assert (
        markdown([figures]).splitlines()[2]
        == "| fashion | a gradient | 2 | 50% | 2.0 (1.0 to 3.0) | 0.25 | 2 |"
    )
