"""PSNR and SSIM against scikit-image; pairs of pictures."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from p2pfl.audit import similarity
from p2pfl.errors import SetupError

metrics = pytest.importorskip("skimage.metrics")

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 20)])
@pytest.mark.parametrize("noise", [0.5, 0.05, 1e-4])
def test_figures_are_those_of_scikit_image(shape: tuple[int, ...], noise: float) -> None:
    original = RNG.random(shape)
    shown = np.clip(original + RNG.normal(0, noise, shape), 0, 1)
    assert similarity.psnr(original, shown) == pytest.approx(
        metrics.peak_signal_noise_ratio(original, shown, data_range=1)
    )
    assert similarity.ssim(original, shown) == pytest.approx(
        metrics.structural_similarity(original, shown, data_range=1, channel_axis=0)
    )


def test_equal_pictures_have_figures_that_a_file_can_hold() -> None:
    picture = RNG.random((1, 5, 5))  # smaller than the usual window
    assert similarity.psnr(picture, picture) == 200
    assert similarity.ssim(picture, picture) == pytest.approx(1)


def test_pairs_are_found_whatever_the_order() -> None:
    originals = RNG.random((6, 1, 4, 4))
    order = RNG.permutation(6)
    shown = originals[order] + RNG.normal(0, 0.05, originals.shape)
    pairs = similarity.pairing(originals, shown)
    assert (order[pairs] == np.arange(6)).all()


def test_labels_in_common_count_as_often_as_they_are_there() -> None:
    assert similarity.in_common([1, 1, 2], [1, 2, 2]) == 2
    assert similarity.in_common([3], [3]) == 1
    assert similarity.in_common([0, 1], [2, 3]) == 0


@pytest.mark.parametrize(
    ("module", "package"), [("skimage.metrics", "scikit-image"), ("scipy.optimize", "scipy")]
)
def test_a_missing_extra_is_one_line(module: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SetupError) as caught:
        similarity.require()
    assert str(caught.value) == f"p2pfl audit needs {package}: pip install 'p2pfl-gossip[audit]'"
