"""Data sets: what is read, what is held out, what is kept, and what a user reads when files are wrong."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.error
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from p2pfl.config import DataConfig
from p2pfl.errors import ConfigError, DataError
from p2pfl.gossip.messages import Task
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
