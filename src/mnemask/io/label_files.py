"""Label maps wherever they are kept: image files, an FFV1 video, COCO run lengths.

A map inside a video or a JSON file has a path too, as if the file were a folder: `masks.mkv/00012`, `masks.json/00012`.
"""

import json
import warnings
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from av.error import FFmpegError
from av.video.stream import VideoStream
from jaxtyping import Bool, UInt8, UInt16
from PIL import Image

from mnemask.errors import MaskError, MissingExtraError
from mnemask.io.containers import open_container
from mnemask.io.name_order import natural_order
from mnemask.io.pictures import check_size
from mnemask.io.raster import DAMAGED_IMAGE_ERRORS, IMAGE_SUFFIXES, TOO_LARGE_ERRORS, orientation_of, turned

Labels = UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"]

VIDEO, RUN_LENGTHS = ".mkv", ".json"
_GREY_FORMATS = ("gray", "gray16le")
_LARGEST_ID = 65_535


def label_paths(place: Path) -> list[Path]:
    """Returns the paths of the label maps in a folder, 9.png before 10.png, or inside the one file of labels there.

    Args:
        place: a folder of PNG files, one that holds a label video or COCO run lengths (`masks.mkv`, `masks.json`), or
            such a file itself.

    Raises:
        MaskError: such a file is damaged, or is no label video and no COCO file.
    """
    if place.is_file():
        return _inside(place) if place.suffix.lower() in (VIDEO, RUN_LENGTHS) else []
    if not place.is_dir():
        return []
    files = [path for path in place.iterdir() if path.is_file() and not path.name.startswith(".")]
    if images := [path for path in files if path.suffix.lower() == ".png"]:
        return natural_order(images)
    holders = [path for path in files if path.name in (f"masks{VIDEO}", f"masks{RUN_LENGTHS}")]
    return _inside(min(holders)) if holders else []


def labels_by_name(paths: list[Path], names: list[str]) -> Mapping[str, Path]:
    """Returns the label map of each frame that has one, by the frame's name without suffix.

    A video keeps no names. If it has as many maps as there are frames, they are taken in order; otherwise a map belongs
    to the frame of its number.
    """
    by_name = {path.stem if _holder(path) is None else path.name: path for path in paths}
    holder = _holder(paths[0]) if paths else None
    if holder is None or holder.suffix.lower() != VIDEO or by_name.keys() & set(names):
        return by_name
    if len(paths) == len(names):
        return dict(zip(names, paths, strict=True))
    numbered = {int(path.name): path for path in paths}
    return {name: numbered[at] for at, name in enumerate(names) if at in numbered}


def read_labels(path: Path | str) -> Labels:
    """Returns the label stored at each pixel: palette index, grey value or id, unchanged, upright.

    The values are uint8 where none is above 255, else uint16.

    Raises:
        MaskError: the file is missing, damaged or no mask, or its colours do not say which label is meant.
    """
    path = Path(path)
    if (holder := _holder(path)) is not None:
        return _opened(holder).read(path.name)
    if path.suffix.lower() in (VIDEO, RUN_LENGTHS) and path.is_file():
        opened = _opened(path)
        return opened.read(next(iter(opened.maps)))
    mode, pixels = load_stored(path)
    if pixels.ndim == 3 and pixels.shape[2] >= 3 and (pixels[..., :3] == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    if pixels.ndim != 2 or pixels.dtype.kind not in "bui" or pixels.min() < 0 or pixels.max() > _LARGEST_ID:
        raise MaskError(
            f"{path} is an image of mode {mode}, whose colours do not say which object is where",
            f"save masks as palette or greyscale PNG with one value (0 to 255, in 16 bits to {_LARGEST_ID}) for "
            "each object",
        )
    return _narrow(pixels)


def load_stored(path: Path | str, mode: str | None = None) -> tuple[str, np.ndarray[Any, np.dtype[Any]]]:
    """Returns the mode in which an image is stored, and its upright pixels as stored or converted to another mode."""
    try:
        with Image.open(path) as image:
            return image.mode, turned(np.asarray(image.convert(mode) if mode else image), orientation_of(image))
    except FileNotFoundError:
        raise MaskError(f"there is no mask {path}", "add it, or give another path") from None
    except (*DAMAGED_IMAGE_ERRORS, *TOO_LARGE_ERRORS) as error:
        raise MaskError(f"{path} cannot be read as a mask ({error})", "copy or write it again") from error


def holds_labels(path: Path) -> bool:
    """Returns whether a path names a label map inside a file, or a file of several."""
    return _holder(path) is not None or (path.suffix.lower() in (VIDEO, RUN_LENGTHS) and path.is_file())


@dataclass(frozen=True)
class _LabelFile:
    """The label maps of one file by name, compressed: a map of a megapixel takes a few kilobytes."""

    path: Path
    maps: Mapping[str, bytes]
    shapes: Mapping[str, tuple[tuple[int, int], str]]

    def read(self, name: str) -> Labels:
        if name not in self.maps:
            raise MaskError(
                f"{self.path} has no mask {name}", f"it has {len(self.maps)}, such as {next(iter(self.maps))}"
            )
        shape, dtype = self.shapes[name]
        labels: Labels = np.frombuffer(zlib.decompress(self.maps[name]), dtype).reshape(shape)
        return labels

    @classmethod
    def from_file(cls, path: Path, maps: Iterator[tuple[str, Labels]]) -> "_LabelFile":
        packed: dict[str, bytes] = {}
        shapes: dict[str, tuple[tuple[int, int], str]] = {}
        for name, labels in maps:
            packed[name] = zlib.compress(labels.tobytes(), 1)
            shapes[name] = (labels.shape[0], labels.shape[1]), labels.dtype.str
        if not packed:
            raise MaskError(f"{path} holds no mask", "write it again")
        return cls(path, packed, shapes)


def _holder(path: Path) -> Path | None:
    """Returns the file that a path leads into; None for one of its own."""
    parent = path.parent
    return parent if parent.suffix.lower() in (VIDEO, RUN_LENGTHS) and parent.is_file() else None


def _inside(holder: Path) -> list[Path]:
    return [holder / name for name in _opened(holder).maps]


def _opened(path: Path) -> _LabelFile:
    state = path.stat()
    return _read_file(path.resolve(), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=64)
def _read_file(path: Path, modified: int, size: int) -> _LabelFile:
    """Returns what is in a file in this state: one that was written anew is read anew."""
    return _LabelFile.from_file(path, _of_video(path) if path.suffix.lower() == VIDEO else _of_run_lengths(path))


def _of_video(path: Path) -> Iterator[tuple[str, Labels]]:
    times: list[float] = []
    maps: list[Labels] = []
    try:
        with open_container(f"file:{path}", {"protocol_whitelist": "file"}) as container:
            stream = container.streams.best("video")
            if not isinstance(stream, VideoStream) or stream.codec_context.pix_fmt not in _GREY_FORMATS:
                raise MaskError(f"{path} is no label video", "expected grey FFV1, as `segment --format ffv1` writes")
            check_size(stream.codec_context.width, stream.codec_context.height, str(path))
            for frame in container.decode(stream):
                times.append(frame.time or 0.0)
                maps.append(_narrow(np.asarray(frame.to_ndarray())))
    except (FFmpegError, OSError) as error:
        raise MaskError(f"{path} cannot be read as a label video ({error.strerror})", "write it again") from error
    yield from zip((f"{number:05d}" for number in _numbers(times)), maps, strict=True)


def _numbers(times: list[float]) -> list[int]:
    """Returns the numbers of the frames shown at these times, of an even video; else they are counted."""
    step = min((after - before for before, after in pairwise(times)), default=0.0)
    numbers = [round(time / step) for time in times] if step > 0 else []
    even = all(abs(time - number * step) <= 0.2 * step for time, number in zip(times, numbers, strict=False))
    return numbers if even and len(set(numbers)) == len(times) else list(range(len(times)))


def _of_run_lengths(path: Path) -> Iterator[tuple[str, Labels]]:
    try:
        from pycocotools import mask as coco
    except ImportError as error:
        raise MissingExtraError(f"{path} needs pycocotools to be read", "pip install 'mnemask[rle]'") from error
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        of_image: dict[int, list[Mapping[str, Any]]] = {}
        for annotation in content["annotations"]:
            of_image.setdefault(int(annotation["image_id"]), []).append(annotation)
        for image in content["images"]:
            height, width = int(image["height"]), int(image["width"])
            check_size(width, height, str(path))
            labels = np.zeros((height, width), np.uint16)
            for annotation in of_image.get(int(image["id"]), ()):
                encoded = annotation["segmentation"]
                if not (isinstance(encoded, dict) and isinstance(encoded["counts"], str)):
                    encoded = coco.frPyObjects(encoded, height, width)
                labels[_decoded(coco, encoded)] = int(annotation.get("track_id", annotation["category_id"]))
            name = str(image["file_name"])
            yield (Path(name).stem if name.lower().endswith(IMAGE_SUFFIXES) else name), _narrow(labels)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise MaskError(
            f"{path} cannot be read as COCO run lengths ({type(error).__name__}: {error})", "write it again"
        ) from error


def _decoded(coco: Any, encoded: Any) -> Bool[np.ndarray, "H W"]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools with NumPy 2
        seen = coco.decode(encoded)
    return np.asarray(seen.any(axis=2) if seen.ndim == 3 else seen > 0)


def _narrow(pixels: np.ndarray[Any, np.dtype[Any]]) -> Labels:
    labels: Labels = pixels.astype(np.uint8 if pixels.dtype == np.bool_ or pixels.max() <= 255 else np.uint16)
    return labels
