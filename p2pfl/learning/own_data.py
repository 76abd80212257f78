"""A user's own pictures: a .npz file, or a folder with a folder for each class.

The normalisation is a constant here, mean 0.5 and deviation 0.5: computed from the data it would differ
from node to node, and with it the task.
"""

from __future__ import annotations

import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from p2pfl.errors import DataError
from p2pfl.gossip.messages import Task
from p2pfl.learning.dataset import Dataset, Images, Labels, hold_out

GREY = (1, 28, 28)  # (C, H, W) of a folder of grey pictures only: as MNIST
COLOUR = (3, 32, 32)  # of any other folder: as CIFAR-10

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
_UNREADABLE = (  # what numpy raises for a damaged .npz, or for another file of that name
    OSError,
    ValueError,
    TypeError,
    EOFError,
    KeyError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)
_GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16L", "I;16B")  # Pillow's


def read_npz(path: Path, classes: tuple[str, ...]) -> Dataset:
    """Arrays named as in MedMNIST: train_images, train_labels, test_images, test_labels.

    Images: (n, H, W), (n, H, W, C) or (n, C, H, W) uint8 of 1 or 3 channels; labels: (n,) or (n, 1) integers.
    Without test_images a fifth of the training data is held out; val_* is neither trained on nor held out.
    classes: names in label order; () names them 0, 1, ... up to the largest label in the file.
    """
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files if key.startswith(("train_", "test_"))}
    except _UNREADABLE as error:
        raise DataError(f"cannot read {path}: {_line(error)}") from error
    held = "test_images" in arrays or "test_labels" in arrays
    for name in ("train_images", "train_labels", *(("test_images", "test_labels") if held else ())):
        if name not in arrays:
            raise DataError(
                f"{path} has no array {name}; it needs train_images, train_labels and, if the "
                "held-out data is in the file, test_images, test_labels"
            )
    images, labels = _images(path, arrays["train_images"]), _labels(path, arrays["train_labels"])
    if len(images) != len(labels):
        raise DataError(f"{path} has {len(images)} train_images and {len(labels)} train_labels")
    if held:
        test_images, test_labels = _images(path, arrays["test_images"]), _labels(path, arrays["test_labels"])
    else:
        train, test = hold_out(labels)
        images, test_images = images[train], images[test]
        labels, test_labels = labels[train], labels[test]
    if not classes:
        largest = max((int(part.max()) for part in (labels, test_labels) if len(part)), default=0)
        if largest >= len(labels) + len(test_labels):
            raise DataError(f"{path}: label {largest} is no class number; labels count from 0")
        classes = tuple(str(label) for label in range(largest + 1))
    return Dataset(_task(path.stem, classes, images.shape[1:]), images, labels, test_images, test_labels)


def read_folder(path: Path, classes: tuple[str, ...]) -> Dataset:
    """Pictures in `path`/CLASS, or in `path`/train/CLASS and `path`/test/CLASS, and nowhere deeper.

    If every picture is grey they become GREY, otherwise COLOUR, stretched to that size. Without train and
    test folders a fifth of each class is held out. What is no picture by its suffix is not looked at.
    classes: names in label order, of which some may have no folder here; () takes the folders' names, sorted.
    """
    published = (path / "train").is_dir() and (path / "test").is_dir()
    parts = [_pictures(path / part) for part in (("train", "test") if published else (".",))]
    found = sorted({name for part in parts for name in part})
    if not classes:
        classes = tuple(found)
        if len(found) < 2:
            raise DataError(
                f"{path} has {len(found)} class folders with pictures ({', '.join(found) or 'none'}); give "
                "it 2 or more, or --classes with all names if other nodes have the others"
            )
    for name in found:
        if name not in classes:
            raise DataError(f"{path} has a folder {name!r}, but the classes are {', '.join(classes)}")
    shape = _shape([picture for part in parts for pictures in part.values() for picture in pictures])
    arrays = [_read(part, classes, shape) for part in parts]
    if published:
        (images, labels), (test_images, test_labels) = arrays
    else:
        ((images, labels),) = arrays
        train, test = hold_out(labels)
        images, test_images = images[train], images[test]
        labels, test_labels = labels[train], labels[test]
    return Dataset(_task(path.resolve().name, classes, shape), images, labels, test_images, test_labels)


def _task(name: str, classes: tuple[str, ...], shape: tuple[int, ...]) -> Task:
    return Task(name, classes, shape, (0.5,) * shape[0], (0.5,) * shape[0])


def _images(path: Path, array: npt.NDArray[np.generic]) -> Images:
    if array.dtype != np.uint8:
        raise DataError(f"{path}: images are {array.dtype}, not uint8 from 0 to 255")
    if array.ndim == 3:
        array = array[:, np.newaxis]
    elif array.ndim == 4 and array.shape[3] in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    if array.ndim != 4 or array.shape[1] not in (1, 3) or 0 in array.shape[2:]:
        raise DataError(f"{path}: images of shape {array.shape} are not pictures of 1 or 3 channels")
    return np.ascontiguousarray(array, dtype=np.uint8)


def _labels(path: Path, array: npt.NDArray[np.generic]) -> Labels:
    if array.dtype.kind not in "iu" or array.ndim == 0 or array.shape[1:] not in ((), (1,)):
        raise DataError(
            f"{path}: labels are {array.dtype} {array.shape}, not one whole number for each picture"
        )
    return array.reshape(-1).astype(np.int64)


def _pictures(folder: Path) -> dict[str, list[Path]]:
    """The pictures of each class folder that has any, both in the order of their names."""
    found: dict[str, list[Path]] = {}
    try:
        for place in sorted(folder.iterdir()):
            if place.is_dir() and not place.name.startswith((".", "__")):
                pictures = [file for file in sorted(place.iterdir()) if file.suffix.lower() in _SUFFIXES]
                pictures = [file for file in pictures if not file.name.startswith(".") and file.is_file()]
                if pictures:
                    found[place.name] = pictures
    except OSError as error:
        raise DataError(f"cannot read {folder}: {_line(error)}") from error
    return found


def _shape(pictures: list[Path]) -> tuple[int, int, int]:
    from PIL import Image  # torchvision brings it; nobody else needs to wait for its import

    for picture in pictures:
        try:
            with Image.open(picture, formats=_FORMATS) as opened:
                if opened.mode not in _GREY_MODES:
                    return COLOUR
        except Exception as error:  # a damaged picture makes Pillow raise nearly anything
            raise DataError(f"cannot read picture {picture}: {_line(error)}") from error
    return GREY


def _read(
    part: dict[str, list[Path]], classes: tuple[str, ...], shape: tuple[int, int, int]
) -> tuple[Images, Labels]:
    images = [_picture(picture, shape) for name in classes for picture in part.get(name, ())]
    labels = [label for label, name in enumerate(classes) for _ in part.get(name, ())]
    return np.array(images, dtype=np.uint8).reshape(-1, *shape), np.array(labels, dtype=np.int64)


def _picture(path: Path, shape: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """(C, H, W) uint8. Raises DataError for what Pillow cannot read or thinks too large to be a picture."""
    from PIL import Image

    channels, height, width = shape
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as opened:
                picture: Image.Image = opened
                if picture.mode.startswith("I"):  # 16 bits, of which Pillow would keep the lower 8
                    deep = np.asarray(picture).clip(0, 65535) // 256
                    picture = Image.fromarray(deep.astype(np.uint8))
                picture = picture.convert("L" if channels == 1 else "RGB")
                pixels = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    except Exception as error:  # a damaged picture makes Pillow raise nearly anything
        raise DataError(f"cannot read picture {path}: {_line(error)}") from error
    return pixels.reshape(height, width, channels).transpose(2, 0, 1)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
