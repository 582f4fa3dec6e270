"""The values that the parts exchange: frames, prompts and names, which are validated on input, and masks."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any, Final, TypeGuard

import numpy as np
import torch
from jaxtyping import Bool, Float, Int32, Integer, UInt8, UInt16
from torch import Tensor

from mnemask.errors import FrameError, InputError, MaskError, ObjectIdError, counted, missing_extra

MAX_OBJECT_ID = 65_535
MAX_OBJECTS = 256
"""Objects tracked at once. Time and memory grow with each object; track more in several runs, one per group."""
TOO_MANY_REMEDY = "keep those that you want to track, and check that it is a map of ids, not of depth or heat"
MAX_NAME: Final = 80  # characters


def is_whole(value: object) -> TypeGuard[int]:
    """Returns whether a value is a whole number of Python or NumPy; True and False are not."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Returns whether a value is a number of Python; True and False are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def take_numpy_numbers(settings: Any) -> None:
    """Replaces NumPy numbers in a frozen dataclass by Python's, before they are checked and written to files."""
    for field in fields(settings):
        if isinstance(value := getattr(settings, field.name), np.generic):
            object.__setattr__(settings, field.name, value.item())


def check_object_id(object_id: object) -> int:
    """Returns the id as an int, or raises ObjectIdError unless it is a whole number from 1 to 65535."""
    if not is_whole(object_id) or not 1 <= object_id <= MAX_OBJECT_ID:
        raise ObjectIdError(
            f"object id {object_id!r} is not a whole number from 1 to {MAX_OBJECT_ID}", "0 is the background"
        )
    return int(object_id)


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """The class and name that users give to an object.

    Attributes:
        category: its class, such as "camel"; empty if unknown.
        name: its name within the class, such as "Bobby"; empty if unknown.

    Raises:
        InputError: if one of them has more than 80 characters, or some that are not printable.
    """

    category: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        for text in (self.category, self.name):
            check_name(text)

    @classmethod
    def parse(cls, text: str) -> "ObjectInfo":
        """Returns the class and name of "CLASS" or "CLASS:NAME"; raises InputError for what is no text."""
        if not isinstance(text, str):
            raise InputError(f"the name of an object is a {type(text).__name__}", 'give "CLASS" or "CLASS:NAME"')
        category, _, name = (part.strip() for part in text.partition(":"))
        return cls(category, name)

    def __str__(self) -> str:
        """CLASS or CLASS:NAME, empty if both are unknown."""
        return f"{self.category}:{self.name}" if self.name else self.category


def check_name(text: object) -> str:
    """Returns the name, or raises InputError unless it is a string of at most 80 printable characters."""
    if not isinstance(text, str) or len(text) > MAX_NAME or not text.isprintable():
        raise InputError(
            f"name {str(text)[:40]!r} is not a text of at most {MAX_NAME} printable characters", "choose another"
        )
    return text


def object_infos(objects: Mapping[int, ObjectInfo | str] | None) -> dict[int, ObjectInfo]:
    """Returns the names of objects, sorted by id; "camel" and "camel:Bobby" are parsed into an ObjectInfo.

    Raises:
        ObjectIdError: if an id is not from 1 to 65535.
        InputError: if a name is too long or not printable, or the names are not given by id.
    """
    if not isinstance(objects, Mapping | None):
        raise InputError(f"names of objects are a {type(objects).__name__}", 'give them by id, such as {1: "camel"}')
    found = {check_object_id(i): each if isinstance(each, ObjectInfo) else ObjectInfo.parse(each)
             for i, each in (objects or {}).items()}  # fmt: skip
    return dict(sorted(found.items()))


def frame_name(index: int, num_frames: int | None = None) -> str:
    """Returns the default file name of a frame; names sort in the order of the frames, however many there are.

    It is the index in five digits, or in as many as the last of `num_frames` has. An index with more digits gets a
    letter in front, as in 99999 and a100000, since the length of a camera's video is not known in advance.
    """
    digits = max(5, len(str((num_frames or 1) - 1)))
    text = f"{index:0{digits}d}"
    return text if len(text) == digits else f"{chr(ord('a') + len(text) - digits - 1)}{text}"


def index_of_name(name: str) -> int | None:
    """Returns the index in a name from `frame_name`, None for other names."""
    return int(name.lstrip(_LETTERS)) if _INDEX_NAME.fullmatch(name) else None


_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_INDEX_NAME = re.compile(r"[a-z]?\d{5,}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a video.

    Attributes:
        image: RGB, values 0 to 255.
        index: position in the video, from 0.
        seconds: presentation time, None if the source has none (a folder of images).
        name: name of this frame's output files, without a suffix.
        pixel_aspect: width of a displayed pixel divided by its height, as for DV and DVD; 1 for square pixels.
        ycbcr: the picture as the video stores it, at full chroma resolution, 8 bits or 10 in 16; RGB and grey of more
            than 8 bits are converted. Only if the reader is asked for it (`originals`) and the video has it.
        duration: seconds for which it is shown; None if the source does not state that.
    """

    image: UInt8[Tensor, "3 H W"]
    index: int
    seconds: float | None = None
    name: str = ""
    pixel_aspect: Fraction = Fraction(1)
    ycbcr: UInt8[np.ndarray, "3 H W"] | UInt16[np.ndarray, "3 H W"] | None = None
    duration: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.image, Tensor):
            raise FrameError(
                f"the picture of a Frame is a {type(self.image).__name__}", "give a tensor, or use Frame.from_picture"
            )
        if not is_whole(self.index) or self.index < 0:
            raise FrameError(f"the index of a Frame is {self.index!r:.40}", "give its position in the video, from 0")
        shape = self.image.shape
        if self.image.ndim != 3 or shape[0] != 3 or 0 in shape or self.image.dtype != torch.uint8:
            raise FrameError(
                f"frame {self.index} is {self.image.dtype} of shape {tuple(self.image.shape)}",
                "expected torch.uint8 RGB of shape (3, height, width)",
            )
        if not self.name:
            object.__setattr__(self, "name", frame_name(self.index))

    @classmethod
    def from_picture(cls, picture: "Picture", index: int) -> "Frame":
        """Returns a Frame of any picture that `rgb_image` takes; a Frame is returned unchanged."""
        return picture if isinstance(picture, Frame) else cls(rgb_image(picture, f"frame {index}"), index)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image.shape[1], self.image.shape[2]


Picture = Frame | UInt8[Tensor, "3 H W"] | UInt8[np.ndarray, "H W 3"]
AnyPicture = Frame | UInt8[Tensor, "3 _ _"] | UInt8[np.ndarray, "_ _ 3"]  # of several videos, whose sizes may differ


def rgb_image(picture: "Picture", what: str = "picture") -> UInt8[Tensor, "3 H W"]:
    """Returns a picture as a uint8 RGB tensor; its layout rule applies to every function that takes a picture.

    NumPy arrays are [H W 3] and tensors are [3 H W], uint8 from 0 to 255. Only the type decides, even for a picture of
    3x3 pixels. Nothing is guessed: grey, RGBA and float pictures, and those in the other layout, are rejected with the
    expression that converts them. A tensor is not copied and stays on its device.

    Args:
        picture: a Frame, a tensor or an array.
        what: the picture's name in messages.

    Raises:
        FrameError: for anything else, or a picture without pixels.
    """
    if isinstance(picture, Frame):
        return picture.image
    if not isinstance(picture, Tensor | np.ndarray):
        raise FrameError(
            f"{what} is a {type(picture).__name__}",
            "expected a Frame, a tensor or an array"
            + (': convert a Pillow image with np.asarray(x.convert("RGB"))' if hasattr(picture, "convert") else ""),
        )
    _refuse_without_numbers(picture, what, FrameError)
    is_array = isinstance(picture, np.ndarray)
    channels = 2 if is_array else 0
    fits = picture.ndim == 3 and picture.shape[channels] == 3 and 0 not in picture.shape
    if not fits or picture.dtype not in (np.uint8, torch.uint8):
        kind, layout = ("array", "(height, width, 3)") if is_array else ("tensor", "(3, height, width)")
        remedy = _conversion(tuple(picture.shape), is_array) if not fits else ""
        if not remedy and "float" in str(picture.dtype):
            if 0 not in picture.shape and float(picture.max()) > 1:
                remedy = "convert values from 0 to 255 with x.round() as uint8"
            else:
                remedy = "convert values from 0 to 1 with (255 * x).round() as uint8"
        elif not remedy and "int" in str(picture.dtype):
            wide = "x" if is_array else "x.int()"  # torch cannot divide its uint16
            remedy = f"convert values up to 255 with x as uint8, those up to 65535 with ({wide} // 257) as uint8"
        raise FrameError(
            f"{what} is a {picture.dtype} {kind} of shape {tuple(picture.shape)}",
            f"expected uint8 RGB of shape {layout}" + (remedy and f": {remedy}"),
        )
    if isinstance(picture, Tensor):
        return picture
    # Read-only arrays and reversed views (BGR to RGB) are copied: torch accepts neither.
    return torch.from_numpy(np.require(picture, requirements=("C", "W"))).movedim(-1, 0)


def _refuse_without_numbers(tensor: object, what: str, error: type[InputError]) -> None:
    """Raises the error for a tensor on the meta device, which holds no data, a sparse one, and a masked array."""
    if isinstance(tensor, np.ma.MaskedArray) and (num_masked := int(np.count_nonzero(tensor.mask))):
        raise error(f"{what} is an array with {counted(num_masked, 'masked value')}", "fill it, as in x.filled(0)")
    if isinstance(tensor, Tensor) and (tensor.is_meta or tensor.layout != torch.strided):
        kind = "on the meta device, without data" if tensor.is_meta else f"of layout {tensor.layout}"
        raise error(
            f"{what} is a tensor {kind}", "expected a dense tensor with data (x.to_dense() converts sparse ones)"
        )


def _conversion(shape: tuple[int, ...], is_array: bool) -> str:
    """Returns how to convert a picture of this shape, empty if that is not clear."""
    if len(shape) == 2:
        return "repeat a grey picture three times, " + (
            "np.stack([x] * 3, axis=-1)" if is_array else "x.expand(3, -1, -1)"
        )
    if len(shape) == 4 and shape[0] == 1:
        return "give one picture, x[0]"
    if len(shape) != 3 or 0 in shape:
        return ""
    if shape[0 if is_array else 2] == 3:
        return "swap the axes, " + ("x.transpose(1, 2, 0)" if is_array else "x.permute(2, 0, 1)")
    channels = shape[2 if is_array else 0]
    if channels == 1:
        return "repeat a grey picture three times, " + ("x.repeat(3, axis=2)" if is_array else "x.expand(3, -1, -1)")
    if channels == 4:
        return "leave the alpha channel out, " + ("x[..., :3]" if is_array else "x[:3]")
    return ""


def describe(size: tuple[int, int] | None) -> str:
    """Returns a (height, width) as text, "width×height pixels"."""
    return "no size" if size is None else f"{size[1]}×{size[0]} pixels"


@dataclass(frozen=True, slots=True)
class Masks:
    """The segmentation of one frame.

    Attributes:
        labels: the caller's object id at each pixel, 0 for the background.
        probs: K + 1 probabilities, background first, then the objects in the order of `object_ids`; sums to 1.
        object_ids: the caller's object ids.
        index: the frame's position in the video.
        name: the frame's name, used by writers.
    """

    labels: Int32[Tensor, "H W"]
    probs: Float[Tensor, "K1 H W"]
    object_ids: tuple[int, ...]
    index: int = 0
    name: str = ""

    def to_supervision(self, objects: Mapping[int, ObjectInfo | str] | None = None) -> Any:
        """Returns `supervision.Detections` of the visible objects.

        They have `mask`, `xyxy`, `confidence` (mean probability in the mask), `tracker_id` (the object's id),
        `class_id` (from 0, in the order of `objects`) and `data["class_name"]`.

        Args:
            objects: the objects' names by id, such as {1: "camel"}; others have the class "object".

        Raises:
            MissingExtraError: if supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise missing_extra("Detections need supervision", "supervision") from error
        infos = object_infos(objects)
        classes = list(dict.fromkeys([*(info.category for info in infos.values() if info.category), "object"]))
        labels, probs = self.labels.cpu().numpy(), self.probs.float().cpu().numpy()
        rows = [(row, i, labels == i) for row, i in enumerate(self.object_ids, 1) if (labels == i).any()]
        if not rows:
            return supervision.Detections.empty()
        masks = np.stack([mask for _, _, mask in rows])
        names = [infos.get(i, ObjectInfo()).category or "object" for _, i, _ in rows]
        return supervision.Detections(
            xyxy=supervision.mask_to_xyxy(masks).astype(np.float32),
            mask=masks,
            confidence=np.array([probs[row][mask].mean() for row, _, mask in rows]),
            class_id=np.array([classes.index(name) for name in names]),
            tracker_id=np.array([i for _, i, _ in rows]),
            data={"class_name": np.array(names)},
        )

    def mask(self, object_id: int) -> Tensor:
        """Returns the bool mask [H W] of one object; raises ObjectIdError for an id that is not tracked."""
        if object_id not in self.object_ids:
            raise ObjectIdError(f"object id {object_id} is not tracked", f"tracked ids are {list(self.object_ids)}")
        return self.labels == object_id


class Objects:
    """The ids of the tracked objects, in the order of their rows."""

    def __init__(self, ids: Iterable[int] = ()) -> None:
        self._ids: list[int] = []
        for object_id in ids:
            self.add(object_id)

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, object_id: int) -> bool:
        return object_id in self._ids

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids, by row."""
        return tuple(self._ids)

    def add(self, object_id: int) -> None:
        """Adds a new id as the next row; raises ObjectIdError if there are MAX_OBJECTS already."""
        if len(self._ids) == MAX_OBJECTS:
            raise ObjectIdError(
                f"object id {object_id} would be the {MAX_OBJECTS + 1}th object",
                f"remove others first (at most {MAX_OBJECTS} can be tracked at once), or track it in a separate run",
            )
        self._ids.append(check_object_id(object_id))

    def row(self, object_id: int) -> int:
        """Returns the row of an id; raises ObjectIdError if it is not tracked."""
        if object_id not in self._ids:
            raise ObjectIdError(f"object id {object_id!r} is not tracked", f"tracked ids are {self._ids or 'none'}")
        return self._ids.index(object_id)

    def remove(self, object_id: int) -> int:
        """Returns the row that an id had; raises ObjectIdError if it is not tracked."""
        row = self.row(object_id)
        del self._ids[row]
        return row


# Of any size, since prompts may be given for several videos; `validate_prompts` compares it with the frame's.
Prompt = Bool[Tensor, "_ _"] | Bool[np.ndarray, "_ _"]
LabelMap = Integer[Tensor, "_ _"] | Integer[np.ndarray, "_ _"]
Prompts = Mapping[int, Prompt | None] | LabelMap
ValidPrompts = dict[int, Bool[Tensor, "H W"]]  # validated, on the network's device, without overlap


def validate_prompts(prompts: Prompts, frame: Frame, device: torch.device) -> tuple[ValidPrompts, list[int]]:
    """Returns the masks of prompts by object id, and the objects that are gone; where masks overlap, the first wins.

    Args:
        prompts: masks by object id, None for an object that is gone; or a label map, 0 for the background and each
            other value an object.
        frame: the frame that they are given for.
        device: the device for the masks.

    Raises:
        MaskError: if a mask is empty, covered by those before it, not bool, or of another size than the frame; if a
            label map has fractions, another size, or no object.
        ObjectIdError: if an id is not from 1 to 65535.
    """
    if isinstance(prompts, Tensor | np.ndarray):
        prompts = _by_id(prompts, frame)
    if not isinstance(prompts, Mapping):
        raise MaskError(
            f"prompts are a {type(prompts).__name__}", "expected the masks by object id, {id: mask}, or a label map"
        )
    given: ValidPrompts = {}
    gone = []
    taken = torch.zeros(frame.size, dtype=torch.bool, device=device)
    for object_id, prompt in prompts.items():
        check_object_id(object_id)
        if prompt is None:
            gone.append(int(object_id))
            continue
        free = checked_mask(object_id, prompt, frame.size).to(device) & ~taken
        if not bool(free.any()):
            raise MaskError(
                f"the mask of object {object_id} in frame {frame.index} is empty, or covered by those given before it",
                "mark its pixels, leave it out, or give None for an object that is gone",
            )
        given[int(object_id)] = free
        taken |= free
    return given, gone


def _by_id(labels: LabelMap, frame: Frame) -> dict[int, Prompt]:
    """Returns the mask of each object in a label map."""
    shape, kind = tuple(labels.shape), str(labels.dtype).removeprefix("torch.")
    if kind == "bool":
        raise MaskError("the prompt is one bool mask without the id of its object", "give {id: mask}")
    _refuse_without_numbers(labels, "the label map", MaskError)
    whole = labels.dtype.kind in "iu" if isinstance(labels, np.ndarray) else "int" in kind  # in either byte order
    if shape != frame.size or not whole:
        raise MaskError(
            f"the label map is {kind} of shape {shape}",
            f"expected whole numbers of the frame's {frame.size}, 0 for the background and each object's id at its "
            "pixels",
        )
    plain = labels.cpu().numpy() if isinstance(labels, Tensor) else labels
    ids = [check_object_id(int(value)) for value in np.unique(plain) if value != 0]
    if not ids:
        raise MaskError(
            f"the label map of frame {frame.index} marks no object",
            "leave it out, or give {id: None} for each object that is gone",
        )
    if len(ids) > MAX_OBJECTS:
        raise MaskError(
            f"the label map of frame {frame.index} marks {len(ids)} objects, more than {MAX_OBJECTS}",
            TOO_MANY_REMEDY,
        )
    return {object_id: plain == object_id for object_id in ids}


def checked_mask(object_id: int, prompt: object, size: tuple[int, int]) -> Bool[Tensor, "H W"]:
    """Returns the mask of an object as a tensor; raises MaskError unless it is a bool tensor or array of this size."""
    if not isinstance(prompt, Tensor | np.ndarray):
        raise MaskError(
            f"the mask of object {object_id} is a {type(prompt).__name__}",
            f"expected a bool tensor or array of the frame's {size}",
        )
    _refuse_without_numbers(prompt, f"the mask of object {object_id}", MaskError)
    fits = tuple(prompt.shape) == size
    if not fits or prompt.dtype not in (torch.bool, np.bool_):
        raise MaskError(
            f"the mask of object {object_id} is {prompt.dtype} of shape {tuple(prompt.shape)}",
            f"expected bool of the frame's {size}" + (": compare its values, as in mask > 0" if fits else ""),
        )
    # A tensor can share only contiguous, writable memory.
    return prompt if isinstance(prompt, Tensor) else torch.from_numpy(np.require(prompt, requirements=("C", "W")))
