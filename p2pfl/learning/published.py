"""The data sets that come with a name: digits, and those that torchvision reads and downloads."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import importlib.util
import math
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from p2pfl.errors import DataError
from p2pfl.gossip.messages import Task
from p2pfl.learning.dataset import Dataset, Images, Labels, Writers, hold_out

STALLED = 30.0  # seconds without a byte after which a download has failed

_TEN = tuple("0123456789")
_CLOTHES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_THINGS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

# Mean and deviation per channel of the published training images scaled to [0, 1]; constants, since they
# are part of the task and must be equal at nodes that hold different parts of the data.
DIGITS = Task("digits", _TEN, (1, 8, 8), (0.3050,), (0.3758,))
MNIST = Task("mnist", _TEN, (1, 28, 28), (0.1307,), (0.3081,))
FASHION = Task("fashion-mnist", _CLOTHES, (1, 28, 28), (0.2860,), (0.3530,))
CIFAR10 = Task("cifar10", _THINGS, (3, 32, 32), (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))


def digits(folder: Path) -> Dataset:
    """1,797 digits of 8x8 in 17 greys, which scikit-learn carries (UCI, Alpaydin and Kaynak 1998).

    Read without importing scikit-learn, whose import takes longer than all of this; `folder` is not used.
    """
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise DataError("digits comes with scikit-learn, which is not installed; install scikit-learn")
    table = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
    try:
        with gzip.open(table) as lines:
            rows = np.loadtxt(
                lines, delimiter=",", dtype=np.float32
            )  # (1797, 65): 64 values of 0 to 16, label
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {table}: {error}; install scikit-learn again") from error
    images = np.rint(rows[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    labels = rows[:, -1].astype(np.int64)
    train, test = hold_out(labels)
    return Dataset(DIGITS, images[train], labels[train], images[test], labels[test])


def mnist(folder: Path) -> Dataset:
    """70,000 digits of 28x28, with the training images' writers if `MNIST/writers-train.npy` is there."""
    return _idx(folder, MNIST, "MNIST", _writers(folder / "MNIST" / "writers-train.npy"))


def fashion_mnist(folder: Path) -> Dataset:
    """70,000 pictures of clothes of 28x28 (Xiao, Rasul, Vollgraf 2017)."""
    return _idx(folder, FASHION, "FashionMNIST", None)


def cifar10(folder: Path) -> Dataset:
    """60,000 colour pictures of 32x32 (Krizhevsky 2009).

    Its files are pickles; torchvision opens them only after their published checksums agreed.
    """
    from p2pfl.learning.vision import torchvision

    kind = torchvision("datasets").CIFAR10
    names = [name for name, _ in (*kind.train_list, *kind.test_list)] + [kind.meta["filename"]]
    _find(folder, "cifar10", kind, [Path(kind.base_folder) / name for name in names])

    def read(train: bool) -> tuple[Images, Labels]:
        part = kind(folder, train=train)
        return np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)), np.array(part.targets, dtype=np.int64)

    with _readable(folder / kind.base_folder):
        return Dataset(CIFAR10, *read(True), *read(False))


PUBLISHED: dict[str, Callable[[Path], Dataset]] = {
    "digits": digits,
    "mnist": mnist,
    "fashion-mnist": fashion_mnist,
    "cifar10": cifar10,
}


def _idx(folder: Path, task: Task, kind: str, writers: Writers | None) -> Dataset:
    """The four files of MNIST and of what imitates it, under `folder`/`kind`/raw.

    torchvision downloads them. To read them needs none of it: its import takes a second, and memory that a
    small device has better uses for.
    """

    def download(fresh: str, *, download: bool) -> object:
        from p2pfl.learning.vision import torchvision

        return getattr(torchvision("datasets"), kind)(fresh, download=download)

    raw = Path(kind) / "raw"
    names = [f"{part}-{what}-ubyte" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1")]
    _find(folder, task.name, download, [raw / name for name in names])

    def read(part: str) -> tuple[Images, Labels]:
        images = _array(folder / raw / f"{part}-images-idx3-ubyte", 3)
        labels = _array(folder / raw / f"{part}-labels-idx1-ubyte", 1)
        return images[:, np.newaxis], labels.astype(np.int64)

    with _readable(folder / raw):
        return Dataset(task, *read("train"), *read("t10k"), writers)


def _array(path: Path, dimensions: int) -> Images:
    """An IDX file of unsigned bytes: 0, 0, 8, how many dimensions, each in four bytes, then the values.

    ValueError if it is something else. Format: LeCun, Cortes and Burges, the MNIST database.
    """
    with path.open("rb") as file:
        magic, expected = file.read(4), bytes([0, 0, 8, dimensions])
        if magic != expected:
            raise ValueError(f"it begins with {magic.hex()}, not {expected.hex()}")
        shape = np.frombuffer(file.read(4 * dimensions), ">u4")
        values = np.fromfile(file, np.uint8)
    if len(shape) != dimensions or values.size != math.prod(shape.tolist()):
        raise ValueError(f"it has {values.size} values for the shape {shape.tolist()}")
    return values.reshape(shape.tolist())


def _writers(path: Path) -> Writers | None:
    if not path.exists():
        return None
    with _readable(path):
        writers: Writers = np.load(path, allow_pickle=False).astype(np.int64)
        return writers


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Whatever a reader says of a damaged file becomes one DataError."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, AssertionError, KeyError, EOFError, TypeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} is damaged ({reason}); delete it to download it again") from error


def _find(folder: Path, name: str, kind: Callable[..., object], files: list[Path]) -> None:
    """Download the data set if one of `files` (below `folder`) is missing; DataError if that fails.

    torchvision downloads into a folder of its own beside, and only whole files are moved into place: an
    interrupted download or a second node at the same moment leaves nothing half-written.
    """
    if all((folder / file).is_file() for file in files):
        return
    patience = socket.getdefaulttimeout()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{name}-") as fresh:
            socket.setdefaulttimeout(STALLED)  # torchvision sets no time limit of its own
            with contextlib.redirect_stdout(sys.stderr):  # stdout belongs to the node's own lines
                kind(fresh, download=True)
            for file in files:
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (Path(fresh) / file).replace(folder / file)
    except (OSError, RuntimeError, EOFError, http.client.HTTPException) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise DataError(
            f"{name} is not in {folder} and cannot be downloaded ({reason}); put {files[0].name} and its "
            f"companions into {folder / files[0].parent}, or take --dataset digits, which needs no files"
        ) from error
    finally:
        socket.setdefaulttimeout(patience)
