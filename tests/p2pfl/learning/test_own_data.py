"""A user's own .npz files and folders of pictures, good and bad."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from p2pfl.config import DataConfig
from p2pfl.errors import DataError
from p2pfl.gossip.messages import Task
from p2pfl.learning.data import load
from tests.p2pfl.learning.test_data import rows

# One's own .npz


def npz(path: Path, **changes: Any) -> DataConfig:
    rng = np.random.default_rng(0)
    arrays = {
        "train_images": rng.integers(0, 256, (20, 9, 9), dtype=np.uint8),
        "train_labels": (np.arange(20) % 3).astype(np.uint8)[:, np.newaxis],
        "val_images": rng.integers(0, 256, (4, 9, 9), dtype=np.uint8),
        "test_images": rng.integers(0, 256, (6, 9, 9), dtype=np.uint8),
        "test_labels": (np.arange(6) % 3).astype(np.uint8),
    }
    kept = {name: value for name, value in {**arrays, **changes}.items() if value is not None}
    np.savez(path, **kept)
    return DataConfig(dataset=str(path))


def test_an_npz_has_the_task_of_its_file(tmp_path: Path) -> None:
    data = load(npz(tmp_path / "scans.npz"))
    assert data.task == Task("scans", ("0", "1", "2"), (1, 9, 9), (0.5,), (0.5,))
    assert (len(data.train_labels), len(data.test_labels)) == (20, 6)
    assert list(data.train_labels[:4]) == [0, 1, 2, 0]


def test_an_npz_is_also_found_in_the_data_folder(tmp_path: Path) -> None:
    npz(tmp_path / "scans.npz")
    assert load(DataConfig(dataset="scans.npz", data_dir=str(tmp_path))).task.name == "scans"


def test_an_npz_without_test_images_holds_out_a_fifth(tmp_path: Path) -> None:
    data = load(npz(tmp_path / "scans.npz", test_images=None, test_labels=None))
    assert (len(data.train_labels), len(data.test_labels)) == (17, 3)
    assert not rows(data.train_images) & rows(data.test_images)


@pytest.mark.parametrize("shape", [(9, 9, 3), (3, 9, 9), (9, 9, 1), (1, 9, 9)])
def test_npz_channels_may_be_first_or_last(shape: tuple[int, ...], tmp_path: Path) -> None:
    images = np.arange(20 * 9 * 9 * 3).astype(np.uint8)[: 20 * np.prod(shape)].reshape(20, *shape)
    data = load(npz(tmp_path / "scans.npz", train_images=images, test_images=images[:6]))
    first = images[0].transpose(2, 0, 1) if shape[2] in (1, 3) else images[0]
    assert np.array_equal(data.train_images[0], first)
    assert data.train_images.flags.c_contiguous
    assert data.task.mean == (0.5,) * len(first)


def test_npz_classes_can_be_more_than_this_node_holds(tmp_path: Path) -> None:
    npz(tmp_path / "scans.npz")
    data = load(DataConfig(dataset=str(tmp_path / "scans.npz"), classes=("a", "b", "c", "d")))
    assert data.task.classes == ("a", "b", "c", "d")
    with pytest.raises(DataError, match="labels run from 0 to 2, but there are 2 class names"):
        load(DataConfig(dataset=str(tmp_path / "scans.npz"), classes=("a", "b")))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train_images": None}, "has no array train_images"),
        ({"train_labels": None}, "has no array train_labels"),
        ({"test_labels": None}, "has no array test_labels"),
        ({"test_images": None}, "has no array test_images"),
        ({"train_images": np.zeros((20, 9, 9))}, "images are float64, not uint8"),
        ({"train_images": np.zeros((20, 9), np.uint8)}, "not pictures of 1 or 3 channels"),
        ({"train_images": np.zeros((20, 9, 9, 4), np.uint8)}, "not pictures of 1 or 3 channels"),
        ({"train_images": np.zeros((20, 0, 9), np.uint8)}, "not pictures of 1 or 3 channels"),
        ({"train_images": np.uint8(3)}, "not pictures of 1 or 3 channels"),
        ({"train_images": np.zeros((20, 9, 8), np.uint8)}, "held-out images are uint8 (1, 9, 9)"),
        ({"train_images": np.zeros((19, 9, 9), np.uint8)}, "19 train_images and 20 train_labels"),
        ({"test_images": np.zeros((5, 9, 9), np.uint8)}, "5 held-out images and 6 labels"),
        (
            {"test_images": np.zeros((0, 9, 9), np.uint8), "test_labels": np.zeros(0, int)},
            "no held-out samples",
        ),
        ({"train_labels": np.zeros((20, 14), np.uint8)}, "not one whole number for each picture"),
        ({"train_labels": np.zeros(20)}, "not one whole number for each picture"),
        ({"train_labels": np.array("a")}, "not one whole number for each picture"),
        ({"train_labels": np.int64(1)}, "not one whole number for each picture"),
        ({"train_labels": np.full(20, -1)}, "labels run from -1"),
        ({"train_labels": np.full(20, 2**63, np.uint64)}, "labels run from"),
        ({"train_labels": np.full(20, 2**40)}, "is no class number"),
        ({"train_labels": np.zeros(20, int), "test_labels": np.zeros(6, int)}, "has 1 class;"),
        ({"train_labels": np.array([{}] * 20)}, "cannot read"),
    ],
)
def test_an_npz_of_something_else_is_one_line(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    config = npz(tmp_path / "scans.npz", **changes)
    with pytest.raises(DataError) as caught:
        load(config)
    assert said in str(caught.value)
    assert "scans" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "flipped", "npy", "no array"])
def test_a_damaged_npz_is_one_line(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "scans.npz"
    npz(path)
    whole = path.read_bytes()
    if damage == "npy":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif damage == "no array":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("train_images.npy", b"not an array")
    else:
        middle = bytes([whole[600] ^ 255])
        path.write_bytes(
            {
                "empty": b"",
                "text": b"hello",
                "cut": whole[:700],
                "flipped": whole[:600] + middle + whole[601:],
            }[damage]
        )
    with pytest.raises(DataError) as caught:
        load(DataConfig(dataset=str(path)))
    assert "scans.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


# One's own folder of pictures


def paint(path: Path, shade: int, mode: str = "L", size: tuple[int, int] = (10, 12)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, shade if mode in ("L", "1", "I;16") else (shade,) * len(mode)).save(path)


def gallery(root: Path, mode: str = "L", classes: str = "ab", count: int = 5) -> DataConfig:
    for position, name in enumerate(classes):
        for number in range(count):
            paint(root / name / f"{number}.png", 100 * position + number, mode)
    return DataConfig(dataset=str(root))


def test_a_folder_of_grey_pictures_becomes_28x28(tmp_path: Path) -> None:
    data = load(gallery(tmp_path / "shapes"))
    assert data.task == Task("shapes", ("a", "b"), (1, 28, 28), (0.5,), (0.5,))
    assert (len(data.train_labels), len(data.test_labels)) == (8, 2)
    for images, labels in ((data.train_images, data.train_labels), (data.test_images, data.test_labels)):
        assert np.all(images[labels == 0] < 50)
        assert np.all(images[labels == 1] >= 100)
    assert not rows(data.train_images) & rows(data.test_images)


def test_one_colour_picture_makes_the_folder_32x32_colour(tmp_path: Path) -> None:
    config = gallery(tmp_path / "shapes")
    paint(tmp_path / "shapes" / "b" / "zz.png", 100, "RGB")
    task = load(config).task
    assert (task.input_shape, task.mean) == ((3, 32, 32), (0.5,) * 3)


@pytest.mark.parametrize("mode", ["RGBA", "CMYK"])
def test_other_colours_become_rgb(mode: str, tmp_path: Path) -> None:
    suffix = ".png" if mode == "RGBA" else ".jpg"
    for name in "ab":
        for number in range(2):
            paint(tmp_path / name / f"{number}{suffix}", number, mode)
    assert load(DataConfig(dataset=str(tmp_path))).train_images.shape == (2, 3, 32, 32)


def test_sixteen_bit_greys_keep_their_upper_eight(tmp_path: Path) -> None:
    config = gallery(tmp_path / "x")
    paint(tmp_path / "x" / "a" / "deep.png", 40 * 256 + 200, "I;16")
    data = load(config)
    images = np.concatenate([data.train_images, data.test_images])
    assert 40 in images[:, 0, 0, 0].tolist()
    assert data.task.input_shape == (1, 28, 28)


def test_train_and_test_folders_are_a_published_split(tmp_path: Path) -> None:
    gallery(tmp_path / "train", classes="abc", count=3)
    gallery(tmp_path / "test", classes="ac", count=2)
    data = load(DataConfig(dataset=str(tmp_path)))
    assert data.task.classes == ("a", "b", "c")
    assert list(np.bincount(data.train_labels)) == [3, 3, 3]
    assert list(np.bincount(data.test_labels)) == [2, 0, 2]


def test_classes_that_no_local_folder_has_are_allowed_when_named(tmp_path: Path) -> None:
    gallery(tmp_path, classes="bc")
    data = load(DataConfig(dataset=str(tmp_path), classes=("c", "a", "b")))
    assert data.task.classes == ("c", "a", "b")
    assert set(data.train_labels.tolist()) == {0, 2}
    assert np.all(data.train_images[data.train_labels == 0] >= 100)
    with pytest.raises(DataError, match="has a folder 'c', but the classes are a, b"):
        load(DataConfig(dataset=str(tmp_path), classes=("a", "b")))


def test_one_class_is_enough_if_the_others_are_named(tmp_path: Path) -> None:
    gallery(tmp_path, classes="b")
    with pytest.raises(DataError, match=r"has 1 class folders with pictures \(b\)") as caught:
        load(DataConfig(dataset=str(tmp_path)))
    assert "--classes" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert set(load(DataConfig(dataset=str(tmp_path), classes=("a", "b"))).train_labels.tolist()) == {1}


def test_files_and_folders_that_are_no_pictures_are_passed_over(tmp_path: Path) -> None:
    config = gallery(tmp_path)
    expected = len(load(config).train_labels)
    (tmp_path / "README.txt").write_text("hello")
    (tmp_path / "a" / "Thumbs.db").write_bytes(b"\0")
    (tmp_path / "a" / "._0.png").write_bytes(b"\0")
    (tmp_path / "a" / "more.png").mkdir()
    (tmp_path / ".cache").mkdir()
    shutil.copy(tmp_path / "a" / "0.png", tmp_path / ".cache")
    (tmp_path / "empty").mkdir()
    data = load(config)
    assert data.task.classes == ("a", "b")
    assert len(data.train_labels) == expected


@pytest.mark.parametrize("content", [b"", b"not a picture", None, b"GIF89a"])
def test_a_damaged_picture_is_one_line_that_names_it(content: bytes | None, tmp_path: Path) -> None:
    config = gallery(tmp_path)
    picture = tmp_path / "a" / "3.png"
    if content is None:  # a picture that is cut off in the middle
        noise = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)
        Image.fromarray(noise).save(picture)
        content = picture.read_bytes()[:800]
    picture.write_bytes(content)
    with pytest.raises(DataError, match="cannot read picture") as caught:
        load(config)
    assert str(picture) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = gallery(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match="decompression bomb"):
        load(config)


def test_an_empty_folder_has_no_classes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has 0 class folders"):
        load(DataConfig(dataset=str(tmp_path)))
    with pytest.raises(DataError, match="no training samples"):
        load(DataConfig(dataset=str(tmp_path), classes=("a", "b")))


def test_loading_twice_gives_the_same(tmp_path: Path) -> None:
    config = gallery(tmp_path, "RGB")
    one, other = load(config), load(config)
    assert one.task == other.task
    assert np.array_equal(one.train_images, other.train_images)
    assert np.array_equal(one.test_labels, other.test_labels)
