"""Two objects with real motion and exact masks: one video's object is pasted into another and crosses its path."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mnemask.datasets.annotated import AnnotatedVideo
from mnemask.datasets.composite.appearance import affine_path, log_uniform
from mnemask.datasets.composite.layers import Layer
from mnemask.datasets.composite.photographs import read_rgb
from mnemask.datasets.pasted_clips import covered_by, cut_out_of
from mnemask.datasets.published import DavisSequences
from mnemask.datasets.synthetic.generated import Visibility
from mnemask.datasets.synthetic.texture import Rng
from mnemask.errors import FrameError, InputError, MaskError
from mnemask.evaluation.benchmark import ping_pong_index
from mnemask.types import Frame, describe

HOST, GUEST = 1, 2
MAX_GROWTH = 1.6  # more would only show pixels
MAX_SHARE = 0.5  # the largest size of a guest, as a share of the frame's sides

# Host, guest and seed. Objects of DAVIS 2016 validation that are complete enough to be cut out:
DAVIS_PAIRS = (
    ("camel", "dog", 0),
    ("dog", "camel", 1),
    ("breakdance", "drift-chicane", 2),
    ("car-shadow", "breakdance", 3),
    ("drift-chicane", "soapbox", 4),
    ("kite-surf", "camel", 5),
    ("soapbox", "car-shadow", 6),
    ("bmx-trees", "dog", 7),
)
# and those of the training sequences that the `real-video` recipe leaves out, to choose weights and policies by:
SELECTION_PAIRS = (
    ("bus", "scooter-gray", 0),
    ("dance-jump", "mallard-fly", 1),
    ("drift-turn", "motocross-bumps", 2),
    ("mallard-fly", "dance-jump", 3),
    ("motocross-bumps", "drift-turn", 4),
    ("scooter-gray", "dance-jump", 5),
)


@dataclass(frozen=True, slots=True)
class ObjectTrack:
    """Where an annotated object is, one row per frame; frames without it are interpolated from their neighbours.

    Attributes:
        centre: centre of its box as x, y, in pixels.
        box: width and height of its box, in pixels.
        area: its area in pixels.
    """

    centre: Float[np.ndarray, "T 2"]
    box: Float[np.ndarray, "T 2"]
    area: Float[np.ndarray, " T"]

    @classmethod
    def from_video(cls, sequence: AnnotatedVideo, num_frames: int) -> "ObjectTrack":
        """Returns the track of a video played to and fro; raises MaskError if its first mask has no object."""
        rows = np.full((len(sequence.frames), 5), np.nan)
        for index, row in enumerate(rows):
            mask = _read_mask(sequence, index)
            if area := cv2.countNonZero(mask):
                left, top, width, height = cv2.boundingRect(mask)
                row[:] = left + width / 2, top + height / 2, width, height, area
        shown = np.flatnonzero(~np.isnan(rows[:, 0]))
        if not len(shown) or shown[0]:
            raise MaskError(f"{sequence.masks[0]} shows no object", "give a video that begins with its object")
        filled = np.stack([np.interp(np.arange(len(rows)), shown, column[shown]) for column in rows.T], 1)
        played = filled[[ping_pong_index(index, len(rows)) for index in range(num_frames)]]
        return cls(played[:, :2], played[:, 2:4], played[:, 4])


class CopyPasteVideo:
    """Frames, exact masks and visibility, `video[i]`, of the host's video with the guest's object in it.

    The guest moves as in its own video and, in addition, from one side of the host's object to the other in front of
    it, and back behind it. The shorter of the two videos is played to and fro.

    Example:
        sequences = DavisSequences("DAVIS", year=2016)
        for frame, labels, truth in CopyPasteVideo(sequences["camel"], sequences["dog"]):
            print(frame.index, truth[1].visible, truth[2].visible)

    Args:
        host: a video of one object, which becomes 1, with a mask for each frame.
        guest: a video of one object, which becomes 2, with a mask for each frame.
        seed: 0 or more; it decides the size and path of the guest.

    Raises:
        InputError: a video lacks masks or has several objects, or the seed is negative.
        MaskError: a video does not show its object in the first frame.
    """

    def __init__(self, host: AnnotatedVideo, guest: AnnotatedVideo, seed: int = 0) -> None:
        if seed < 0:
            raise InputError(f"seed {seed} is negative", "give 0 or more")
        for sequence in (host, guest):
            if not sequence.single_object or len(sequence.masks) != len(sequence.frames):
                raise InputError(
                    f"{sequence.name} has {len(sequence.masks)} masks for {len(sequence.frames)} frames and "
                    f"{'one object' if sequence.single_object else 'maybe several objects'}",
                    "give a video of one object with a mask of each frame",
                )
        self.host, self.guest, self.name = host, guest, f"{host.name}+{guest.name}"
        self.num_frames = max(len(host.frames), len(guest.frames))
        height, width = _read_mask(host, 0).shape
        self.size = (height, width)
        host_track, guest_track = (ObjectTrack.from_video(sequence, self.num_frames) for sequence in (host, guest))
        self._to_host = guest_path(np.random.default_rng(seed), host_track, guest_track, self.size)

    def __len__(self) -> int:
        return self.num_frames

    def __getitem__(self, index: int) -> tuple[Frame, UInt8[Tensor, "H W"], dict[int, Visibility]]:
        """Returns the frame, the id at each pixel and the Visibility of both objects."""
        if not 0 <= index < self.num_frames:
            raise IndexError(f"frame {index} of a video of {self.num_frames}")
        before, host = _read(self.host, index)
        if host.shape != self.size:
            raise MaskError(
                f"{self.host.name} has a mask of {describe(host.shape)} after one of {describe(self.size)}",
                "give a video of one size",
            )
        picture, labels = before.copy(), host.copy()
        layer = self._guest(index)
        if layer is not None:
            layer.paint(0, picture, labels)
        inside = int(np.count_nonzero(labels == GUEST))
        if index > turning_frame(self.num_frames):  # now the host's object is in front
            picture = covered_by(before, host, picture)
            labels[host > 0] = HOST
        whole = int(np.count_nonzero(host))
        truth = {
            HOST: Visibility.from_areas(int(np.count_nonzero(labels == HOST)), whole, whole),
            GUEST: Visibility.from_areas(int(np.count_nonzero(labels == GUEST)), inside, layer.area(0) if layer else 0),
        }
        image = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
        return Frame(image, index), torch.from_numpy(labels), truth

    def __iter__(self) -> Iterator[tuple[Frame, UInt8[Tensor, "H W"], dict[int, Visibility]]]:
        return (self[index] for index in range(self.num_frames))

    def _guest(self, index: int) -> Layer | None:
        """Returns the guest's object in this frame, cut out with a soft edge; None if the frame does not show it."""
        picture, mask = _read(self.guest, index)
        if not mask.any():
            return None
        pixels, corner = cut_out_of(picture, mask)
        to_host = self._to_host[index : index + 1].copy()
        to_host[..., 2] += to_host[..., :2] @ corner
        return Layer(pixels, GUEST, to_host, None, np.zeros(1), np.zeros((1, 2)))


def copy_paste_videos(sequences: DavisSequences) -> list[CopyPasteVideo]:
    """Returns the videos of those `DAVIS_PAIRS` whose sequences are both there, always the same ones.

    Raises:
        InputError: there is no pair.
    """
    pairs = [pair for pair in DAVIS_PAIRS if {pair[0], pair[1]} <= set(sequences.names)]
    if not pairs:
        raise InputError(f"no pair among the sequences {', '.join(sequences.names)}", "give those of DAVIS 2016 val")
    return [CopyPasteVideo(sequences[host], sequences[guest], seed) for host, guest, seed in pairs]


def guest_path(rng: Rng, host: ObjectTrack, guest: ObjectTrack, size: tuple[int, int]) -> Float[np.ndarray, "T 2 3"]:
    """Returns the maps from the guest's frames to the host's, in pixels (x, y): size and path of a guest.

    In frame 0 and in the turning frame the boxes of both objects are apart; in between, their centres meet.
    """
    num_frames = len(host.area)
    scale = log_uniform(rng, 0.7, 1.2) * float(np.sqrt(np.median(host.area) / np.median(guest.area)))
    scale = min(scale, MAX_GROWTH, *(MAX_SHARE * np.array(size[::-1]) / guest.box.max(0)).tolist())
    offset = host.centre - scale * guest.centre
    # Only the slow part of both motions is aligned: each object keeps its fast motion.
    even = cv2.GaussianBlur(offset, (1, 0), sigmaX=0.1, sigmaY=num_frames / 12, borderType=cv2.BORDER_REPLICATE)
    ends = [0, turning_frame(num_frames)]
    apart = (host.box[ends, 0] + scale * guest.box[ends, 0]) / 2 + np.abs(offset - even)[ends, 0]
    side = 1 if host.centre[0, 0] < size[1] / 2 else -1
    swing = side * 1.05 * apart.max() * np.cos(np.pi * np.arange(num_frames) / max(1, ends[1]))
    lift = rng.uniform(-0.15, 0.15) * np.median(host.box[:, 1])
    position = even + np.stack((swing, np.full(num_frames, lift)), 1)
    still = np.zeros(num_frames)
    return affine_path((0.0, 0.0), position, still, np.full((num_frames, 2), scale), still)


def turning_frame(num_frames: int) -> int:
    """Returns the frame in which a guest turns back: it is in front up to then, and behind from then on."""
    return num_frames // 2


def _read(sequence: AnnotatedVideo, index: int) -> tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"]]:
    """Returns a frame and its mask of 0 and 1, of a video played to and fro."""
    at = ping_pong_index(index, len(sequence.frames))
    picture, mask = read_rgb(sequence.frames[at]), _read_mask(sequence, at)
    if picture.shape[:2] != mask.shape:
        raise FrameError(
            f"{sequence.frames[at]} has {describe(picture.shape[:2])}, its mask {describe(mask.shape)}",
            "give frames and masks of one size",
        )
    return picture, mask


def _read_mask(sequence: AnnotatedVideo, index: int) -> UInt8[np.ndarray, "H W"]:
    return (sequence.read_labels(index) > 0).astype(np.uint8)
