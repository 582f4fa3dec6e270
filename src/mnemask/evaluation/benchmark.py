"""Benchmarks: what a tracker is given, for which frames it must return masks, and what only the scorer sees."""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, overload

import numpy as np

from mnemask.choices import DATASETS
from mnemask.datasets.annotated import AnnotatedVideo, check_masks, refuse_mixed, with_void
from mnemask.datasets.published import DavisSequences, ObjectMeta, open_long_video, open_youtube_vos, read_meta
from mnemask.datasets.video_sets import CUSTOM_VIDEO_SETS, open_video_folders
from mnemask.errors import InputError, listed
from mnemask.io.atomic import safe_name
from mnemask.plugins import NAME

logger = logging.getLogger(__name__)

PUBLISHED = ("davis2016", "davis2017", "youtube-vos", "long-video")
SUBSETS = {"davis2016": "val", "davis2017": "val", "youtube-vos": "valid"}


def ping_pong_index(index: int, length: int) -> int:
    """Returns the frame of a video of `length` frames that is shown at `index` if it is played to its end and back."""
    place = index % max(1, 2 * (length - 1))
    return min(place, 2 * (length - 1) - place) if length > 1 else 0


def ping_pong(video: AnnotatedVideo, times: int) -> AnnotatedVideo:
    """Returns the video played forwards and backwards `times` times, with its masks in both directions.

    It begins and ends with the first frame and repeats no frame in a row, so it has 2 · times · (frames - 1) + 1
    frames; no list of them is built. Since the scene returns to its beginning, what the tracker has lost by then is
    drift, and any additional cost per frame is growth.

    Raises:
        InputError: `times` is below 1, or the video has only one frame.
    """
    if times < 1:
        raise InputError(f"{video.name} cannot be played forwards and backwards {times} times", "give 1 or more")
    if len(video.frames) < 2:
        raise InputError(
            f"{video.name} has {len(video.frames)} frame, so it cannot be played backwards", "give two or more"
        )
    length = 2 * times * (len(video.frames) - 1) + 1
    return replace(
        video,
        frames=FoldedFrames(video.frames, length),
        masks=FoldedMasks(video.masks, len(video.frames), length),
    )


@dataclass(frozen=True, slots=True)
class FoldedFrames(Sequence[Path]):
    """The files of `once`, played forwards and backwards, up to a length."""

    once: Sequence[Path]
    length: int

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Path, ...]: ...
    def __getitem__(self, index: int | slice) -> Path | tuple[Path, ...]:
        places = range(self.length)[index]
        if isinstance(places, range):
            return tuple(self[place] for place in places)
        return self.once[ping_pong_index(places, len(self.once))]

    def __len__(self) -> int:
        return self.length


@dataclass(frozen=True, slots=True, eq=False)
class FoldedMasks(Mapping[int, Path]):
    """The masks of `once`, a video of `num_frames` frames, at each index where their frames are shown."""

    once: Mapping[int, Path]
    num_frames: int
    length: int

    def __getitem__(self, index: int) -> Path:
        if index not in range(self.length):
            raise KeyError(index)
        return self.once[ping_pong_index(index, self.num_frames)]

    def __iter__(self) -> Iterator[int]:
        return (index for index in range(self.length) if ping_pong_index(index, self.num_frames) in self.once)

    def __len__(self) -> int:
        period = 2 * (self.num_frames - 1)
        # Each period shows a frame on the way to the end and on the way back; for the first and last it is the same.
        ways = {(index, way) for index in self.once for way in (index, (period - index) % period)}
        return sum(len(range(way, self.length, period)) for _, way in ways)


@dataclass(frozen=True, slots=True)
class BenchmarkSequence:
    """One task of a benchmark: a video, its prompts, and the frames whose masks are required.

    Attributes:
        given: the video as the tracker may see it, with only the masks in which an object first appears.
        asked: indices of the frames whose masks are required.
        truth: the video with all masks, only for the scorer; None if they are secret.
        late_objects: whether objects that appear after the first frame with objects are scored.
        groups: "seen" or "unseen" in training, by object id; empty if unknown.
    """

    given: AnnotatedVideo
    asked: Collection[int]
    truth: AnnotatedVideo | None
    late_objects: bool = False
    groups: Mapping[int, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The video's name."""
        return self.given.name


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Videos and the rules of a benchmark.

    =========== ========================================= ============================ ==============================
    dataset     given                                     required                     scored
    =========== ========================================= ============================ ==============================
    davis2016   the first mask, as one object             every frame                  all but the first and the last
    davis2017   the first mask                            every frame                  all but the first and the last
    youtube-vos each object's mask where it appears first frames that meta.json names  those with masks; "valid": none
    long-video  the first mask                            frames with masks            those but the first and the last
    folder      the first mask that shows an object       every frame                  as for long-video
    others      the first mask that shows an object       every frame                  as for long-video
    =========== ========================================= ============================ ==============================

    Args:
        root: the data set's folder.
        dataset: one of the above, or a name in `mnemask.datasets.video_sets.CUSTOM_VIDEO_SETS`.
        subset: the subset of DAVIS ("val" by default) or YouTube-VOS ("valid" by default).
        ping_pong: how many times each video is played forwards and backwards; None to play it once, forwards.
        all_frames: whether to track through all frames of YouTube-VOS, 30 per second, instead of every fifth.
        single_object: whether everything in a mask of "folder" is one object, even if it has several values.

    Raises:
        InputError: the data set is unknown, or does not have one of the options given.

    Example:
        for sequence in Benchmark("DAVIS", "davis2017").open():
            print(sequence.name, len(sequence.given.masks), len(sequence.asked))
    """

    root: Path | str
    dataset: str
    subset: str | None = None
    ping_pong: int | None = None
    all_frames: bool = False
    single_object: bool = False

    def __post_init__(self) -> None:
        if self.dataset not in DATASETS:
            known = (*DATASETS, *CUSTOM_VIDEO_SETS.names())
            if NAME.fullmatch(self.dataset) and self.dataset not in known:
                raise InputError(f"there is no data set {self.dataset!r}", f"choose one of {', '.join(known)}")
            CUSTOM_VIDEO_SETS.named(self.dataset)
        if self.subset is not None and self.dataset not in SUBSETS:
            raise InputError(f"{self.dataset} has no subsets, but {self.subset!r} was given", "leave it out")
        if self.all_frames and self.dataset != "youtube-vos":
            raise InputError(f"all frames of {self.dataset} are tracked anyway", "leave all_frames (--all-frames) out")
        if self.single_object and self.dataset != "folder":
            raise InputError(f"{self.dataset} defines its objects itself", "leave --single-object out")
        if self.ping_pong is not None and self.secret:
            raise InputError(
                f"the masks of {self.dataset} {self.chosen_subset} are secret: ping-pong cannot be scored",
                "take another subset",
            )
        object.__setattr__(self, "root", Path(self.root))

    @property
    def chosen_subset(self) -> str:
        """The given subset, or the data set's default; empty if it has no subsets."""
        return self.subset or SUBSETS.get(self.dataset, "")

    @property
    def secret(self) -> bool:
        """Whether the true masks are secret, so that only the first ones are there and nothing can be scored."""
        return self.chosen_subset.startswith(("valid", "test"))

    @property
    def submission_top(self) -> str:
        """The top folder that the server expects in a submission's zip; empty for none."""
        return "Annotations" if self.dataset == "youtube-vos" else ""

    def open(self, sequences: Iterable[str] = ()) -> list[BenchmarkSequence]:
        """Returns the tasks for the named videos, or for all.

        Raises:
            InputError: the data set is missing or incomplete, has no such video, or a video has too few masks to score.
        """
        wanted = list(dict.fromkeys(sequences))
        videos = {video.name: video for video in self._videos()}
        for name in videos:
            if not _names_a_file(name):
                raise InputError(f"a video is called {name!r}, which cannot name a file", "give it another name")
        if unknown := [name for name in wanted if name not in videos]:
            raise InputError(f"there is no sequence {unknown[0]!r} in {self.root}", f"it has {listed(videos)}")
        meta = read_meta(Path(self.root) / self.chosen_subset / "meta.json") if self.dataset == "youtube-vos" else {}
        seen = self._seen_categories() if meta else frozenset()
        chosen = [videos[name] for name in wanted or videos]
        refuse_mixed(chosen, "score them separately, or treat each mask as one object (--single-object)")
        return [self._pose(video, meta.get(video.name, {}), seen) for video in chosen]

    def settings(self) -> dict[str, Any]:
        """Returns the values that identify this benchmark, as JSON can hold them."""
        return asdict(self) | {"root": str(Path(self.root).resolve()), "subset": self.chosen_subset}

    def _videos(self) -> Iterable[AnnotatedVideo]:
        match self.dataset:
            case "davis2016" | "davis2017":
                return DavisSequences(self.root, int(self.dataset.removeprefix("davis")), self.chosen_subset)
            case "youtube-vos":
                return open_youtube_vos(self.root, self.chosen_subset, self.all_frames)
            case "long-video":
                return open_long_video(self.root)
        if self.dataset == "folder":
            return open_video_folders(self.root, self.single_object or None)
        return CUSTOM_VIDEO_SETS.named(self.dataset)(Path(self.root))

    def _pose(
        self, video: AnnotatedVideo, objects: Mapping[int, ObjectMeta], seen: frozenset[str | None]
    ) -> BenchmarkSequence:
        if not self.secret and len(video.masks) < 3:
            raise InputError(
                f"{video.name} has masks of only {len(video.masks)} of its frames; scoring needs three or more, since "
                "neither the first nor the last is scored",
                "add masks, or name the other videos (--sequence)",
            )
        if self.dataset not in PUBLISHED:
            check_masks(video)
        video = with_void(video)
        numbers = {path.stem: number for number, path in enumerate(video.frames)}
        named = {numbers[stem] for thing in objects.values() for stem in thing.stems}
        late = self.dataset == "youtube-vos" and not self.secret
        arrivals = _arrivals(video, objects, numbers) if late else set()
        if self.ping_pong is not None:
            video = ping_pong(video, self.ping_pong)
        if self.ping_pong is not None or self.dataset == "long-video":
            asked = frozenset(video.masks)
        else:
            asked = frozenset(named.union(video.masks) if objects else range(len(video.frames)))
        if self.dataset != "youtube-vos":
            return BenchmarkSequence(only_first_masks(video), asked, None if self.secret else video)
        if self.secret:  # each published mask shows an object's first appearance
            return BenchmarkSequence(video, asked, None, late_objects=True)
        known = {object_id: thing.category for object_id, thing in objects.items() if seen and thing.category}
        groups = {object_id: "seen" if category in seen else "unseen" for object_id, category in known.items()}
        return BenchmarkSequence(only_first_masks(video, arrivals), asked, video, late_objects=True, groups=groups)

    def _seen_categories(self) -> frozenset[str | None]:
        """Returns the categories of objects in the training set; empty if its meta.json is missing."""
        of_training = Path(self.root) / "train/meta.json"
        if not of_training.is_file():
            return frozenset()
        return frozenset(thing.category for things in read_meta(of_training).values() for thing in things.values())


def _names_a_file(name: object) -> bool:
    """Returns whether a video's name can name a folder and a file, and be written into JSON and tables."""
    if not isinstance(name, str) or name in ("", ".", "..") or any(sign in name for sign in "/\\\0"):
        return False
    return not any("\ud800" <= sign <= "\udfff" for sign in name)  # bytes of a file name that are not UTF-8


def _arrivals(video: AnnotatedVideo, objects: Mapping[int, ObjectMeta], numbers: Mapping[str, int]) -> set[int]:
    """Returns the frames in which objects appear: for each, the first listed in meta.json whose mask does show it.

    `numbers` maps the names of frames to their indices.
    """
    shown: dict[int, set[int]] = {}
    found = set()
    for object_id, thing in objects.items():
        for stem in thing.stems:
            index = numbers[stem]
            if index in video.masks and index not in shown:
                shown[index] = set(np.unique(video.read_labels(index)).tolist())
            if object_id in shown.get(index, ()):
                found.add(index)
                break
        else:
            logger.warning("no mask of %s shows object %d, which is in meta.json: left out", video.name, object_id)
            continue
        if stem != thing.stems[0]:
            logger.warning(
                "object %d of %s is not in the mask of frame %s, where it appears by meta.json: it is given in %s",
                *(object_id, video.name, thing.stems[0], stem),
            )
    return found


def only_first_masks(video: AnnotatedVideo, arrivals: Iterable[int] | None = None) -> AnnotatedVideo:
    """Returns the video with only the masks of the frames `arrivals`, so that its user cannot read any other.

    Args:
        video: a video with masks.
        arrivals: the frames in which objects first appear; by default the first frame with an object in its mask.

    Raises:
        InputError: no mask shows an object.
    """
    if arrivals is None:
        first = next((index for index in sorted(video.masks) if objects_in(video, index)), None)
        if first is None:
            raise InputError(
                f"no mask of {video.name} shows an object",
                "mark one, or leave this video out (name the others: --sequence)",
            )
        arrivals = [first]
    return replace(video, masks={index: video.masks[index] for index in sorted(arrivals)})


def objects_in(video: AnnotatedVideo, index: int) -> list[int]:
    """Returns the ids of the objects that a frame's mask shows."""
    return [object_id for object_id in np.unique(video.read_labels(index)).tolist() if object_id not in (0, video.void)]


def frame_names(video: AnnotatedVideo) -> Sequence[str]:
    """Returns the name of each frame's mask: the frame's own, or the frame's index if several share a name."""
    names = [safe_name(path.stem) for path in video.frames]
    return names if len(set(names)) == len(names) else [f"{number:06d}" for number in range(len(names))]
