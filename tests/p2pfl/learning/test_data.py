"""Data sets: what is read, what is held out, what is kept, and what a user reads when files are wrong."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import urllib.error
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from p2pfl.config import DataConfig
from p2pfl.errors import ConfigError, DataError, P2pflError
from p2pfl.gossip.messages import Task
from p2pfl.learning import published
from p2pfl.learning.data import data_folder, load
from p2pfl.learning.dataset import Dataset, hold_out
from p2pfl.learning.vision import torchvision

DATA = os.environ.get("P2PFL_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="P2PFL_DATA does not name a folder with MNIST and others")


def rows(images: Any) -> set[bytes]:
    return {image.tobytes() for image in images}


# Digits


def test_digits_are_those_of_scikit_learn() -> None:
    data, reference = load(DataConfig()), load_digits()
    assert data.task.name == "digits"
    assert data.task.classes == tuple("0123456789")
    images = np.concatenate([data.train_images, data.test_images])
    labels = np.concatenate([data.train_labels, data.test_labels])
    assert images.shape == (1797, 1, 8, 8)
    assert images.dtype == np.uint8
    ours = sorted((label, image.tobytes()) for image, label in zip(images, labels.tolist(), strict=True))
    scaled = np.rint(reference.images * 255 / 16).astype(np.uint8)
    theirs = sorted(
        (int(label), image.tobytes()) for image, label in zip(scaled, reference.target, strict=True)
    )
    assert ours == theirs
    assert (images.min(), images.max()) == (0, 255)


def test_the_normalisation_of_digits_is_that_of_its_training_images() -> None:
    data = load(DataConfig())
    assert data.task.mean[0] == pytest.approx((data.train_images / 255).mean(), abs=1e-4)
    assert data.task.std[0] == pytest.approx((data.train_images / 255).std(), abs=1e-4)


def test_the_split_of_digits_is_fixed_stratified_and_disjoint() -> None:
    one, other = load(DataConfig()), load(DataConfig(partition_seed=5))
    assert len(one.test_labels) == pytest.approx(0.2 * 1797, abs=5)
    assert np.array_equal(one.test_images, other.test_images)
    assert np.array_equal(one.train_images, other.train_images)
    whole = np.bincount(np.concatenate([one.train_labels, one.test_labels]))
    assert np.abs(np.bincount(one.test_labels) - 0.2 * whole).max() <= 0.5
    assert not rows(one.train_images) & rows(one.test_images)


def test_digits_need_neither_torch_nor_torchvision_nor_scikit_learn_imported() -> None:
    program = (
        "import sys; from p2pfl.config import DataConfig; from p2pfl.learning import data, partition\n"
        "d = data.load(DataConfig()); partition.shards(d, DataConfig(), 3)\n"
        "sys.exit(','.join({'torch', 'torchvision', 'sklearn', 'PIL'} & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_digits_without_scikit_learn_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match="install scikit-learn"):
        load(DataConfig())


def test_hold_out_takes_one_of_a_small_class_and_none_of_a_single_sample() -> None:
    labels = np.array([0, 0, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2])
    train, held = hold_out(labels)
    assert np.array_equal(np.bincount(labels[held], minlength=3), [1, 0, 2])
    assert np.array_equal(np.sort(np.concatenate([train, held])), np.arange(13))


# Names


def test_task_and_class_names_can_be_given() -> None:
    names = tuple("abcdefghij")
    task = load(DataConfig(task="mine", classes=names)).task
    assert (task.name, task.classes) == ("mine", names)
    with pytest.raises(ConfigError, match="digits has 10 classes, not 2"):
        load(DataConfig(classes=("a", "b")))
    with pytest.raises(ConfigError, match="a name occurs twice"):
        load(DataConfig(classes=("a", "a")))


@pytest.mark.parametrize("name", ["", "minst", "no/such/folder", "absent.npz", "\0"])
def test_an_unknown_data_set_lists_the_known_ones(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="digits, mnist, fashion-mnist, cifar10") as caught:
        load(DataConfig(dataset=name, data_dir=str(tmp_path)))
    assert "\n" not in str(caught.value)


def test_the_data_folder_is_the_given_one_or_the_users() -> None:
    assert data_folder(DataConfig(data_dir="~/x")) == Path.home() / "x"
    assert data_folder(DataConfig()).name == "p2pfl"


@pytest.mark.parametrize(
    "wrong",
    [
        {"train_images": np.zeros((2, 1, 4, 4), np.float32)},
        {"train_images": np.zeros((2, 1, 4, 5), np.uint8)},
        {"train_images": np.zeros((0, 1, 4, 4), np.uint8), "train_labels": np.zeros(0, np.int64)},
        {"train_labels": np.array([0, 2])},
        {"train_labels": np.array([-1, 0])},
        {"train_labels": np.array([0, 1, 1])},
        {"train_labels": np.array([0, 1], np.int32)},
        {"writers": np.zeros(3, np.int64)},
        {"task": Task("t", ("only",), (1, 4, 4), (0.5,), (0.5,))},
    ],
)
def test_arrays_that_do_not_agree_are_refused(wrong: dict[str, Any]) -> None:
    images, labels = np.zeros((2, 1, 4, 4), np.uint8), np.array([0, 1])
    task = Task("t", ("a", "b"), (1, 4, 4), (0.5,), (0.5,))
    good: dict[str, Any] = {
        "task": task,
        "train_images": images,
        "train_labels": labels,
        "test_images": images,
        "test_labels": labels,
    }
    Dataset(**good)
    with pytest.raises(DataError, match=r"^t\b"):
        Dataset(**{**good, **wrong})


# Data sets that torchvision reads


def write_idx(folder: Path, samples: int = 20) -> None:
    """A tiny MNIST in the published format: 4 bytes of magic number, big-endian sizes, bytes."""
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        sizes = np.array([0x00000803, samples, 28, 28], ">u4").tobytes()
        (folder / f"{part}-images-idx3-ubyte").write_bytes(sizes + bytes(range(samples)) * 784)
        sizes = np.array([0x00000801, samples], ">u4").tobytes()
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(
            sizes + bytes(number % 10 for number in range(samples))
        )


@pytest.mark.parametrize(("name", "kind"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_idx_files_are_read_where_torchvision_keeps_them(name: str, kind: str, tmp_path: Path) -> None:
    write_idx(tmp_path / kind / "raw")
    data = load(DataConfig(dataset=name, data_dir=str(tmp_path)))
    assert data.train_images.shape == (20, 1, 28, 28)
    assert data.train_images.dtype == np.uint8
    assert list(data.train_labels) == list(range(10)) * 2
    assert data.train_labels.dtype == np.int64
    assert data.task.name == name
    assert data.writers is None


def test_writers_are_read_when_they_are_there(tmp_path: Path) -> None:
    write_idx(tmp_path / "MNIST" / "raw")
    config = DataConfig(dataset="mnist", data_dir=str(tmp_path), keep_writers=2)
    with pytest.raises(ConfigError, match="does not say who wrote what"):
        load(config)
    np.save(tmp_path / "MNIST" / "writers-train.npy", np.repeat([9, 4, 7, 2], 5).astype(np.uint16))
    data = load(config)
    assert data.writers is not None
    assert list(np.unique(data.writers)) == [2, 4]
    assert len(data.train_labels) == 10
    assert len(data.test_labels) == 20
    with pytest.raises(ConfigError, match="4 writers here, not 5"):
        load(DataConfig(dataset="mnist", data_dir=str(tmp_path), keep_writers=5))
    np.save(tmp_path / "MNIST" / "writers-train.npy", np.zeros(19))
    with pytest.raises(DataError, match="names 19 writers for 20 samples"):
        load(config)
    np.save(tmp_path / "MNIST" / "writers-train.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(DataError, match=r"writers-train\.npy is damaged"):
        load(config)


@pytest.mark.parametrize("content", [b"", b"\0\0\x08\x03", b"\0\0\x08\x03" + bytes(12) + b"x", b"PK" * 50])
def test_a_damaged_file_is_one_line_that_names_the_folder(content: bytes, tmp_path: Path) -> None:
    write_idx(tmp_path / "MNIST" / "raw")
    (tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(DataError, match="MNIST") as caught:
        load(DataConfig(dataset="mnist", data_dir=str(tmp_path)))
    assert "\n" not in str(caught.value)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10"])
def test_missing_data_without_a_network_says_where_to_put_the_files(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    patience = socket.getdefaulttimeout()
    with pytest.raises(DataError, match=r"put .* into .*--dataset digits, which needs no files") as caught:
        load(DataConfig(dataset=name, data_dir=str(tmp_path / "new")))
    assert "no network" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""
    assert list((tmp_path / "new").iterdir()) == []
    assert socket.getdefaulttimeout() == patience


@pytest.mark.usefixtures("offline")
def test_a_data_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"is not in .*file/x"):
        load(DataConfig(dataset="mnist", data_dir=str(tmp_path / "file" / "x")))


def test_a_download_lands_whole_beside_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the files are there already; the rest comes; what was there and is not asked for stays."""
    write_idx(tmp_path / "MNIST" / "raw")
    (tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    (tmp_path / "MNIST" / "notes.txt").write_text("mine")

    def download(root: str, download: bool) -> None:
        assert download
        print("progress")
        write_idx(Path(root) / "MNIST" / "raw", samples=30)

    monkeypatch.setattr(torchvision("datasets"), "MNIST", download)
    data = load(DataConfig(dataset="mnist", data_dir=str(tmp_path)))
    assert len(data.train_labels) == 30
    assert sorted(path.name for path in tmp_path.iterdir()) == ["MNIST"]
    assert (tmp_path / "MNIST" / "notes.txt").read_text() == "mine"


def test_cifar10_is_turned_into_channels_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fake:
        base_folder, train_list, test_list = "batches", [["one", ""]], [["two", ""]]
        meta = {"filename": "meta"}  # noqa: RUF012

        def __init__(self, root: Path, train: bool) -> None:
            self.data = np.zeros((4, 32, 32, 3), np.uint8)
            self.data[:, 5, 7, 2] = 200 if train else 100
            self.targets = [3, 9, 0, 1]

    (tmp_path / "batches").mkdir()
    for name in ("one", "two", "meta"):
        (tmp_path / "batches" / name).touch()
    monkeypatch.setattr(torchvision("datasets"), "CIFAR10", Fake)
    data = load(DataConfig(dataset="cifar10", data_dir=str(tmp_path)))
    assert data.train_images.shape == (4, 3, 32, 32)
    assert (data.train_images[0, 2, 5, 7], data.test_images[0, 2, 5, 7]) == (200, 100)
    assert data.train_images.flags.c_contiguous
    assert list(data.train_labels) == [3, 9, 0, 1]
    assert data.task.classes[9] == "truck"


def test_unverified_cifar10_files_are_never_unpickled(tmp_path: Path) -> None:
    """torchvision compares checksums first, so a file that runs code when unpickled does not run it."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    kind = torchvision("datasets").CIFAR10
    trap = b"cbuiltins\nexec\n(S'raise SystemExit(\"unpickled\")'\ntR."
    for name in [name for name, _ in (*kind.train_list, *kind.test_list)] + ["batches.meta"]:
        (folder / name).write_bytes(trap)
    with pytest.raises(DataError, match="cifar-10-batches-py is damaged"):
        load(DataConfig(dataset="cifar10", data_dir=str(tmp_path)))


@needs_data
def test_real_mnist_and_fashion_have_their_published_mean_and_deviation() -> None:
    for name, writers in (("mnist", 539), ("fashion-mnist", 0)):
        data = load(DataConfig(dataset=name, data_dir=DATA))
        assert (data.train_images.shape, len(data.test_labels)) == ((60000, 1, 28, 28), 10000)
        assert data.task.mean[0] == pytest.approx(data.train_images.mean() / 255, abs=1e-4)
        assert data.task.std[0] == pytest.approx(data.train_images.std() / 255, abs=1e-4)
        assert writers == (0 if data.writers is None else len(np.unique(data.writers)))


@needs_data
def test_a_real_medmnist_file_and_a_colour_one_are_read_from_the_data_folder() -> None:
    pneumonia = load(DataConfig(dataset="pneumoniamnist.npz", data_dir=DATA, classes=("normal", "pneumonia")))
    assert (len(pneumonia.train_labels), len(pneumonia.test_labels)) == (2428, 468)
    assert pneumonia.task == Task("pneumoniamnist", ("normal", "pneumonia"), (1, 28, 28), (0.5,), (0.5,))
    colour = load(DataConfig(dataset="cifar10-small.npz", data_dir=DATA))
    assert colour.train_images.shape == (10000, 3, 32, 32)
    assert colour.task.classes == tuple("0123456789")


# Filters


def test_keep_classes_makes_another_task_in_training_and_held_out_data() -> None:
    whole, kept = load(DataConfig()), load(DataConfig(keep_classes=("7", "3")))
    assert (kept.task.name, kept.task.classes) == ("digits[3,7]", ("3", "7"))
    assert kept.task.digest != whole.task.digest
    assert np.array_equal(kept.train_images, whole.train_images[np.isin(whole.train_labels, [3, 7])])
    assert np.array_equal(kept.test_images[kept.test_labels == 1], whole.test_images[whole.test_labels == 7])
    assert set(kept.train_labels.tolist()) == {0, 1}
    assert kept.train_labels.dtype == np.int64


def test_keeping_all_classes_is_the_same_task() -> None:
    assert load(DataConfig(keep_classes=tuple("9876543210"))).task == load(DataConfig()).task


def test_keep_per_class_keeps_shares_of_training_data_only() -> None:
    whole = load(DataConfig())
    config = DataConfig(keep_per_class=("0=1.0", "1=0.5", "2=0", "3=0.001", "rest=0.075"))
    kept, again = load(config), load(config)
    before = np.bincount(whole.train_labels)
    expected = [before[0], round(before[1] / 2), 0, 1, *[round(0.075 * count) for count in before[4:]]]
    assert list(np.bincount(kept.train_labels)) == expected
    assert kept.task == whole.task
    assert np.array_equal(kept.test_images, whole.test_images)
    assert np.array_equal(kept.train_images, again.train_images)
    assert rows(kept.train_images) < rows(whole.train_images)
    other = load(DataConfig(keep_per_class=config.keep_per_class, partition_seed=1))
    assert not np.array_equal(kept.train_images, other.train_images)


def test_what_is_kept_of_a_class_does_not_depend_on_the_other_classes() -> None:
    one = load(DataConfig(keep_per_class=("4=0.1",)))
    other = load(DataConfig(keep_per_class=("4=0.1", "rest=0.5")))
    assert np.array_equal(
        one.train_images[one.train_labels == 4], other.train_images[other.train_labels == 4]
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"keep_classes": ("3", "10")}, "keep-classes: digits has no class '10'; its classes are 0, 1"),
        ({"keep_classes": ("3",)}, "keep-classes: keep at least 2"),
        ({"keep_classes": ("3", "3")}, "keep-classes: keep at least 2"),
        ({"keep_per_class": ("0",)}, "'0' is not CLASS=SHARE"),
        ({"keep_per_class": ("0=",)}, "'0=' is not CLASS=SHARE"),
        ({"keep_per_class": ("0=2",)}, "'0=2' is not CLASS=SHARE"),
        ({"keep_per_class": ("0=nan",)}, "'0=nan' is not CLASS=SHARE"),
        ({"keep_per_class": ("0=-1",)}, "'0=-1' is not CLASS=SHARE"),
        ({"keep_per_class": ("x=1",)}, "no class 'x'"),
        ({"keep_per_class": ("0=1", "0=0.5")}, "class 0 occurs twice"),
        ({"keep_per_class": ("rest=0",)}, "keep no training samples"),
        ({"keep_writers": 1}, "keep-writers: digits does not say who wrote what"),
        ({"keep_classes": ("3", "7"), "keep_per_class": ("0=1",)}, "no class '0'; its classes are 3, 7"),
    ],
)
def test_filters_that_fit_nothing_are_one_line(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(DataConfig(**options))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


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


def test_every_error_is_one_of_ours() -> None:
    assert issubclass(DataError, P2pflError)
    assert set(published.PUBLISHED) == {"digits", "mnist", "fashion-mnist", "cifar10"}
