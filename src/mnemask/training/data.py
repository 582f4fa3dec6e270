"""Training sets by name, and batches of clips, which depend on the seed and the step alone."""

import re
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor
from torch.nn.functional import one_hot
from torch.utils.data import DataLoader, Dataset

from mnemask.datasets.annotated import AnnotatedVideo, with_void
from mnemask.datasets.clips import ClipSource, Mixture, TrainingClip
from mnemask.datasets.composite.clips import CompositeClips
from mnemask.datasets.image_sets import IMAGE_SETS, open_image_folder
from mnemask.datasets.real_video import open_real_video
from mnemask.datasets.stcn_augment import ImageClips
from mnemask.datasets.video_clips import FrameClips, VideoClips, has_clips, with_objects
from mnemask.datasets.video_sets import CUSTOM_VIDEO_SETS, VIDEO_SETS, open_video_folders
from mnemask.errors import InputError, MnemaskError
from mnemask.metrics import VOID
from mnemask.model.preprocess import normalize
from mnemask.training.recipes import Recipe

OWN_SETS = {
    "images": "your own pictures: images/ and masks/",
    "frames": "your own videos: frames/ and masks/, or NAME/frames and NAME/masks",
    "composites": "static/NAME/{images,masks} and video/NAME/{frames,masks}, made into moving clips",
}
MIN_MASKS = 3  # frames in a clip
# YouTube-VOS publishes every fifth frame of its training videos.
FRAME_STEPS = {"YouTube-VOS-train": 5}


def parse_data(texts: Sequence[str]) -> dict[str, Path]:
    """Returns the folder of each named set from texts such as "DUTS-TR=/data/DUTS"; case is ignored.

    Raises:
        InputError: a text is not NAME=FOLDER, or a name is unknown or repeated.
    """
    to_train_on = [name for name in VIDEO_SETS if not name.endswith(("-val", "-valid"))]
    names = {name.lower(): name for name in (*IMAGE_SETS, *to_train_on, *OWN_SETS)}
    folders: dict[str, Path] = {}
    for text in texts:
        match = _NAMED_FOLDER.fullmatch(text)
        name = "" if match is None else names.get(match[1].lower(), match[1])
        if match is None or (name not in names.values() and not _is_custom(name)):
            known = ", ".join((*names.values(), *CUSTOM_VIDEO_SETS.names()))
            raise InputError(f"--data {text[:60]!r} names no training set", f"give NAME=FOLDER, with NAME from {known}")
        if name in names.values() and name in folders:
            raise InputError(f"--data names {name} twice", "give each set once")
        folders[name if name in names.values() else CUSTOM_VIDEO_SETS.choose(name)] = Path(match[2])
    return folders


_NAMED_FOLDER = re.compile(r"([^=()]+(?:\(.*\))?)=(.+)", re.DOTALL)


def _is_custom(name: str) -> bool:
    """Returns whether a name refers to user-defined code, or to a set of an installed package."""
    return ":" in name or name.partition("(")[0] in CUSTOM_VIDEO_SETS.names()


def training_data(recipe: Recipe, texts: Sequence[str]) -> Callable[[], ClipSource]:
    """Returns a function that opens the training data of a recipe.

    Args:
        recipe: the recipe; one with a mixture takes a single folder with all its sets.
        texts: that folder, or NAME=FOLDER for each set.

    Raises:
        InputError: as for `parse_data`, or a recipe with a mixture is not given exactly one folder.
    """
    if recipe.mixture is None:
        folders = parse_data(texts)
        return lambda: open_sources(recipe, folders)
    if len(texts) != 1 or not Path(texts[0]).is_dir():
        given = ", ".join(texts) or "no folder"
        raise InputError(
            f"recipe {recipe.name} needs one existing folder, but was given {given[:80]}",
            "give --data FOLDER once, with static/, video/ and video_train/ in the folder",
        )
    root, mixture = Path(texts[0]), recipe.mixture
    return lambda: open_real_video(root, mixture)


def code_of(recipe: Recipe, texts: Sequence[str]) -> str:
    """Returns digests of the source of the user-defined sets among the data that `training_data` opens."""
    names = parse_data(texts) if recipe.mixture is None else {}
    return ", ".join(CUSTOM_VIDEO_SETS.named(name).source for name in names if name in CUSTOM_VIDEO_SETS.known)


def open_sources(recipe: Recipe, folders: dict[str, Path]) -> ClipSource:
    """Returns clips of all sets, each drawn in proportion to its size and the recipe's repetitions.

    Args:
        recipe: recipe with the repetitions; sets that it does not name count once.
        folders: folder of each set, by name.

    Raises:
        InputError: no set is given, or one is missing or incomplete.
    """
    if not folders:
        meant = ", ".join(name for name, _ in recipe.sets)
        raise InputError(
            f"recipe {recipe.name} has nothing to train on", f"give --data NAME=FOLDER; it is meant for {meant}"
        )
    repetitions = dict(recipe.sets)
    sources = [(open_source(name, folder), repetitions.get(name, 1)) for name, folder in folders.items()]
    return Mixture([(source, count * len(source)) for source, count in sources])


def open_source(name: str, folder: Path) -> ImageClips | VideoClips | CompositeClips:
    """Returns the clips of one named set."""
    if name == "composites":
        return CompositeClips(folder)
    if name == "images" or name in IMAGE_SETS:
        return ImageClips(open_image_folder(folder) if name == "images" else IMAGE_SETS[name].open(folder))
    if name == "frames":
        videos = open_video_folders(folder)
    else:
        videos = VIDEO_SETS[name].open(folder) if name in VIDEO_SETS else CUSTOM_VIDEO_SETS.named(name)(folder)
    return VideoClips(videos, frame_step=FRAME_STEPS.get(name, 1))


def open_own_videos(root: Path, max_gap: int) -> ClipSource:
    """Returns clips of your own videos: half of them successive frames, half one frame warped.

    From videos with fewer than three masks, only clips of the second kind are drawn. All masks are read here, so that
    clips begin only with frames that show an object, and a mask that does not fit is found before training.

    Args:
        root: the folder.
        max_gap: maximum distance between successive frames of a clip, in frames; where masks are further apart, the
            successive frames that have masks are used.

    Raises:
        FrameError, MaskError: a mask cannot be used, or does not fit its frame, see `checked_masks`.
        InputError: there are no such videos, or none shows a large enough object.
    """
    videos = with_objects([with_void(video) for video in open_video_folders(root)])
    dense = [video for video in videos if has_clips(video, MIN_MASKS, max_gap)]
    sparse = [_annotated_frames(video) for video in videos if video not in dense]
    sparse = [video for video in sparse if has_clips(video, MIN_MASKS, 1)]
    sources: list[tuple[ClipSource, int | float]] = [(FrameClips(videos), len(dense) + len(sparse) or 1)]
    if dense:
        sources.append((VideoClips(dense), len(dense)))
    if sparse:
        sources.append((VideoClips(sparse, frame_step=max_gap), len(sparse)))
    return Mixture(sources)


def _annotated_frames(video: AnnotatedVideo) -> AnnotatedVideo:
    """The video with only the frames that have masks."""
    frames = [video.frames[index] for index in sorted(video.masks)]
    numbers = dict(enumerate(sorted(video.masks)))
    masks = {number: video.masks[index] for number, index in numbers.items()}
    too_little = {number for number, index in numbers.items() if index in video.too_little}
    return replace(video, frames=frames, masks=masks, too_little=frozenset(too_little))


# Seeds for different purposes must differ in their first number: numpy treats (1, 2) and (1, 2, 0) as the same.
CLIPS, COUNTS = 1, 2


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of clips; those with fewer than K objects are padded with objects that are not `valid`."""

    frames: UInt8[Tensor, "B T H W 3"]
    labels: UInt8[Tensor, "B T H W"]
    valid: Bool[Tensor, "B K"]

    def to(self, device: torch.device) -> "Batch":
        """Returns the batch on a device."""
        return Batch(*(part.to(device, non_blocking=True) for part in (self.frames, self.labels, self.valid)))

    def pin_memory(self) -> "Batch":
        """Returns the batch in page-locked memory, which a GPU can read asynchronously."""
        return Batch(self.frames.pin_memory(), self.labels.pin_memory(), self.valid.pin_memory())

    def images(self) -> Float[Tensor, "B T 3 H W"]:
        """Returns the normalised frames."""
        return normalize(self.frames.movedim(-1, 2))

    def targets(self) -> tuple[Int64[Tensor, "n H W"], Bool[Tensor, "n K"]]:
        """Returns the targets of the loss: labels and objects of all frames after the first, clip by clip."""
        later = self.labels[:, 1:]
        return later.flatten(0, 1).long(), self.valid.repeat_interleave(later.shape[1], 0)

    def first_masks(self) -> Float[Tensor, "B K H W"]:
        """Returns each object's mask in the first frame; unknown pixels are background."""
        first = self.labels[:, 0].long()
        known = first.where(first != VOID, first.new_zeros(()))
        return one_hot(known, self.valid.shape[1] + 1).movedim(-1, 1)[:, 1:].float()


def collate(clips: list[TrainingClip]) -> Batch:
    """Returns a batch of clips, padded to the largest number of objects in one of them."""
    counts = torch.tensor([clip.num_objects for clip in clips])
    return Batch(
        torch.from_numpy(np.stack([clip.frames for clip in clips])),
        torch.from_numpy(np.stack([clip.labels for clip in clips])),
        torch.arange(int(counts.max())) < counts[:, None],
    )


class Batches(Dataset[Batch]):
    """The batches of one process; item `i` is part i mod `parts` of step i // `parts`.

    A step's clips are numbered across all processes and parts, so that two processes with two clips each see the same
    clips as one process with four. All clips of a step have the same maximum number of objects, drawn per step, so that
    no computation is wasted on a second object in a single-object step.

    Args:
        source: source of the clips.
        recipe: recipe, which determines number, size and order of the clips.
        parts: number of parts of a step over which gradients are accumulated.
        rank: index of the process, from 0.
        world: number of processes.
    """

    def __init__(self, source: ClipSource, recipe: Recipe, parts: int = 1, rank: int = 0, world: int = 1) -> None:
        self.source, self.recipe = source, recipe
        self.parts, self.rank, self.world = parts, rank, world
        self.clips_per_part = recipe.batch // (parts * world)

    def __len__(self) -> int:
        return self.recipe.steps * self.parts

    def __getitem__(self, index: int) -> Batch:
        step, seed = index // self.parts, self.recipe.seed
        least, most = self.recipe.min_objects, self.recipe.max_objects
        num_objects = least + int(np.random.default_rng((COUNTS, seed, step)).integers(most - least + 1))
        shape = self.recipe.shape(step, num_objects)
        first = (index * self.world + self.rank) * self.clips_per_part
        numbers = range(first, first + self.clips_per_part)
        return collate([self.source.draw(np.random.default_rng((CLIPS, seed, n)), shape) for n in numbers])


class BatchesOrErrors(Dataset[Batch | MnemaskError]):
    """The batches, with an error in place of each that cannot be made.

    Torch replaces the message of an error that a worker raises with the worker's traceback.
    """

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __getitem__(self, index: int) -> Batch | MnemaskError:
        try:
            return self.batches[index]
        except MnemaskError as error:
            return error


def load(batches: Batches, from_step: int, workers: int, pin: bool) -> Iterator[Batch]:
    """Yields the batches from a step on; `workers` processes draw them ahead, with 0 each is drawn on demand.

    Raises:
        MnemaskError: a clip cannot be drawn; it is raised when its batch is due.
        InputError: a process was killed.
    """
    loader = DataLoader(
        BatchesOrErrors(batches),
        batch_size=None,
        sampler=range(from_step * batches.parts, len(batches)),
        num_workers=workers,
        worker_init_fn=_begin_worker,
        pin_memory=pin,
        prefetch_factor=4 if workers else None,
        # Not forked from this process: a fork of a process with threads may hang.
        multiprocessing_context="forkserver" if workers else None,
    )
    return _unless_error(iter(loader))


def _unless_error(items: Iterator[Batch | MnemaskError]) -> Iterator[Batch]:
    """Yields the batches; raises the error that came in place of one, or InputError if a process was killed."""
    try:
        for item in items:
            if isinstance(item, MnemaskError):
                raise item
            yield item
    except RuntimeError as error:
        if not str(error).startswith(_KILLED):  # torch has no type for it
            raise
        raise InputError(
            "a process that prepares clips was killed, most likely because memory, or shared memory, ran out",
            "continue with --resume and fewer --workers; 0 needs no shared memory",
        ) from error


_KILLED = ("DataLoader worker (pid", "Pin memory thread exited")


def _begin_worker(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent stops, and needs clips
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
