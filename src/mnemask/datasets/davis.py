"""DAVIS 2016 and 2017 as they are published: frames, annotations and lists of sequences in a folder.

::

    ROOT/JPEGImages/480p/SEQUENCE/00000.jpg …
    ROOT/Annotations/480p/SEQUENCE/00000.png …
    ROOT/ImageSets/2016/val.txt, ROOT/ImageSets/2017/val.txt or ROOT/ImageSets/480p/val.txt
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mnemask.errors import InputError, MaskError
from mnemask.metrics import VOID

_WHERE = "DAVIS is published at davischallenge.org (the archive named trainval-480p)"


def read_annotation(path: Path | str) -> UInt8[np.ndarray, "H W"]:
    """Returns the label stored at each pixel of a mask: palette index or grey value, unchanged.

    Raises:
        MaskError: the file is not an image, or its colours do not say which label is meant.
    """
    try:
        with Image.open(path) as image:
            mode, pixels = image.mode, np.asarray(image)
    except FileNotFoundError:
        raise MaskError(f"there is no mask {path}") from None
    except (OSError, SyntaxError) as error:
        raise MaskError(f"{path} cannot be read as a mask ({error}); copy or write it again") from error
    if pixels.ndim == 3 and pixels.shape[2] >= 3 and (pixels[..., :3] == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    if pixels.ndim != 2 or not (pixels.dtype == np.bool_ or (pixels.min() >= 0 and pixels.max() <= 255)):
        raise MaskError(
            f"{path} is an image of mode {mode}, whose colours do not say which object is where; "
            "save masks as palette or greyscale PNG with one value (0 to 255) for each object"
        )
    return pixels.astype(np.uint8)


@dataclass(frozen=True, slots=True)
class DavisSequence:
    """One video of DAVIS.

    Attributes:
        name: what DAVIS calls it.
        frames: its JPEG files in order.
        annotations: its PNG masks in order; only the first frame's in the test subsets.
        single_object: whether all that is annotated is one object (DAVIS 2016).
    """

    name: str
    frames: tuple[Path, ...]
    annotations: tuple[Path, ...]
    single_object: bool

    def first_mask(self) -> UInt8[np.ndarray, "H W"]:
        """Returns the object id at each pixel of the first frame, 0 for background: what a tracker starts from."""
        labels = read_annotation(self.annotations[0])
        if self.single_object:
            return (labels > 0).astype(np.uint8)
        return np.where(labels == VOID, np.uint8(0), labels)

    def truths(self) -> Iterator[UInt8[np.ndarray, "H W"]]:
        """Returns the annotations one after the other, as stored: DAVIS 2016 has 255 for its object, 2017 for void."""
        return map(read_annotation, self.annotations)


class DavisSequences:
    """The sequences of one subset of DAVIS, checked for being complete when they are opened.

    Args:
        root: the folder that holds JPEGImages, Annotations and ImageSets.
        year: 2016 (one object a sequence) or 2017 (several).
        subset: name of a list in ImageSets, such as "train" or "val".
        resolution: name of the folders below JPEGImages and Annotations.

    Raises:
        InputError: something of it is missing; the message says what was expected where.

    Example:
        for sequence in DavisSequences("DAVIS", year=2016):
            print(sequence.name, len(sequence.frames))
    """

    def __init__(self, root: Path | str, year: int = 2017, subset: str = "val", resolution: str = "480p") -> None:
        root = Path(root)
        if year not in (2016, 2017):
            raise InputError(f"there is no DAVIS of {year} with given masks; use 2016 or 2017")
        for folder in (root / "JPEGImages" / resolution, root / "Annotations" / resolution):
            if not folder.is_dir():
                raise InputError(f"{root} is not DAVIS at {resolution}: there is no folder {folder}; {_WHERE}")
        self._sequences = {
            name: _open_sequence(root, resolution, name, year == 2016, every_frame=not subset.startswith("test"))
            for name in _sequence_names(root, year, subset, resolution)
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The sequences' names, in the order of the subset's list."""
        return tuple(self._sequences)

    def __len__(self) -> int:
        return len(self._sequences)

    def __iter__(self) -> Iterator[DavisSequence]:
        return iter(self._sequences.values())

    def __getitem__(self, name: str) -> DavisSequence:
        if name not in self._sequences:
            raise InputError(f"there is no sequence {name!r} in this subset; it has {', '.join(self._sequences)}")
        return self._sequences[name]


def _sequence_names(root: Path, year: int, subset: str, resolution: str) -> list[str]:
    lists = [root / "ImageSets" / folder / f"{subset}.txt" for folder in (str(year), resolution)]
    found = next((path for path in lists if path.is_file()), None)
    if found is None:
        raise InputError(
            f"{root} has no list of the sequences in {subset!r}: neither {lists[0]} nor {lists[1]}; {_WHERE}"
        )
    # A line is a sequence's name or, in DAVIS 2016, the paths of a frame and its annotation.
    lines = [line.split()[0] for line in found.read_text(encoding="utf-8").splitlines() if line.strip()]
    names = list(dict.fromkeys(Path(line).parent.name if "/" in line else line for line in lines))
    if not names:
        raise InputError(f"{found} is empty; it must name a sequence on each line; {_WHERE}")
    return names


def _open_sequence(root: Path, resolution: str, name: str, single_object: bool, every_frame: bool) -> DavisSequence:
    frames = _files(root / "JPEGImages" / resolution / name, ".jpg")
    annotations = _files(root / "Annotations" / resolution / name, ".png")
    frame_names, mask_names = [path.stem for path in frames], [path.stem for path in annotations]
    if every_frame and frame_names != mask_names:
        alone = sorted(set(frame_names) ^ set(mask_names))
        raise InputError(
            f"sequence {name} of {root} is incomplete: {len(frames)} frames in JPEGImages/{resolution}/{name} but "
            f"{len(annotations)} masks in Annotations/{resolution}/{name}, first without its partner "
            f"{alone[0]}; {_WHERE}"
        )
    if frame_names[0] != mask_names[0]:
        raise InputError(f"sequence {name} of {root} has no mask of its first frame {frame_names[0]}; {_WHERE}")
    return DavisSequence(name, frames, annotations, single_object)


def _files(folder: Path, suffix: str) -> tuple[Path, ...]:
    files = tuple(sorted(path for path in folder.glob(f"*{suffix}") if not path.name.startswith(".")))
    if not files:
        raise InputError(f"there are no {suffix} files in {folder}; is the download complete? {_WHERE}")
    return files
