"""Runs a comparison from the video to the page; finished parts are not computed again."""

import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mnemask.comparison.frames import FrameStore
from mnemask.comparison.measure import Comparison, Truth, agreements, moments
from mnemask.comparison.page import page_of
from mnemask.comparison.track import PolicyFolder, PolicyRun, WayBack, track_back, track_policy
from mnemask.errors import InputError
from mnemask.evaluation.results import ResultFolder
from mnemask.evaluation.runner import TrackerFactory
from mnemask.evaluation.tables import to_csv
from mnemask.io import VideoReader
from mnemask.io.atomic import safe_name
from mnemask.io.written import Written
from mnemask.memory.policies import policy_named, saved_unless_built_in
from mnemask.pipeline import PromptFunction
from mnemask.pipeline.expected import Expected
from mnemask.pipeline.run import masks_to_come
from mnemask.tracker import Tracker
from mnemask.types import Frame
from mnemask.version import __version__

LOOKS = 4
FILES = ("compare.json", "compare.csv", "frames.csv", "compare.html")


@dataclass(slots=True)
class CompareProgress:
    """The progress of a comparison.

    Attributes:
        stage: the current stage, in a few words.
        frames: the number of frames done in this stage.
        total: the number of frames of this stage; None if the source does not report it.
        reused: the policies whose results existed already.
        begin: the start of this stage, by time.perf_counter.
    """

    stage: str = "reading"
    frames: int = 0
    total: int | None = None
    reused: tuple[str, ...] = ()
    begin: float = field(default_factory=time.perf_counter)

    @property
    def frames_per_second(self) -> float:
        """Frames of this stage per second."""
        return self.frames / max(time.perf_counter() - self.begin, 1e-9)


class _Steps:
    """Reports each frame of each stage to a listener."""

    def __init__(self, listener: Callable[[CompareProgress], None]) -> None:
        self._listener, self.progress = listener, CompareProgress()

    def stage(self, name: str, total: int | None) -> Callable[[], None]:
        """Starts a new stage and returns the function to call after each of its frames."""
        self.progress = CompareProgress(name, 0, total, self.progress.reused)
        self._listener(self.progress)
        return self._advance

    def reuse(self, policy: str) -> None:
        """Notes that a policy's earlier result is reused."""
        self.progress.reused = (*self.progress.reused, policy)

    def _advance(self) -> None:
        self.progress.frames += 1
        self._listener(self.progress)


def compare_video(
    source: str | Path,
    new_prompts: Callable[[], PromptFunction],
    policies: Sequence[str],
    out: str | Path,
    trackers: TrackerFactory | None = None,
    *,
    gt: str | Path | None = None,
    masks: Collection[Path] = (),
    consistency: bool = True,
    overwrite: bool = False,
    settings: Mapping[str, Any] | None = None,
    on_progress: Callable[[CompareProgress], None] = lambda progress: None,
) -> Comparison:
    """Tracks with each policy, compares the results, and writes `OUT/compare.html`, `.json`, `.csv`, `frames.csv`.

    The video is read once to its end and once for each policy; only a few frames are in memory at a time. During the
    run, OUT also holds the frames as JPEG. A policy's results are kept in `OUT/policies/NAME` and not computed again.

    Args:
        source: a video file, or a folder or glob of images, which can be read several times.
        new_prompts: returns a function that returns the given masks of a frame by object id, or None; called for each
            policy.
        policies: names in `POLICIES`. The budget applies to policies that have one; keep-all and first-and-latest have
            none.
        out: the folder, created if missing.
        trackers: the network, and the settings that all trackers share.
        gt: folder of true masks with the names of the frames; masks are then scored by J and F.
        masks: files that are not frames, even if they are stored among them.
        consistency: whether, without true masks, each policy also tracks back from its last mask, which doubles the
            time.
        overwrite: whether to start over in a folder that holds a comparison.
        settings: further settings that must not change between calls, such as which masks are given.
        on_progress: called after each frame.

    Raises:
        InputError: a policy, the video, the masks or the true masks cannot be used, or masks are given beyond the end.
        OutputError: `out` cannot be written to, or holds a comparison with other settings.
    """
    policies = list(dict.fromkeys(policies))
    if not policies:
        raise InputError("there is no policy to compare", "name one or more, such as diverse and keep-all")
    trackers = trackers or TrackerFactory()
    for policy in policies:
        trackers_for(policy, trackers).tracker()  # raises its errors before the video is read
    out, steps = Path(out), _Steps(on_progress)
    common = {"mnemask": __version__, "video": str(source), **(settings or {}), **trackers.settings()}
    written = Written(out)
    written.refuse_foreign(*(out / name for name in FILES))
    with ExitStack() as stack:
        reader = stack.enter_context(VideoReader(source, masks=masks))
        first_prompts = [new_prompts()]
        given = masks_to_come(first_prompts[0])
        Expected.of(reader).refuse_beyond(given)
        _open(out, common, overwrite)
        on_read = steps.stage("reading", reader.num_frames)
        store = stack.enter_context(FrameStore(reader, out / ".frames.partial", on_read))
        Expected(len(store.clip), counted=True).refuse_beyond(given)
        truth = None if gt is None else Truth.from_folder(Path(gt), store.clip)

        def checked_prompts() -> PromptFunction:
            prompts = first_prompts.pop() if first_prompts else new_prompts()
            if truth is not None and not runs:  # before the first policy is tracked
                truth.refuse_other_ids(masks_to_come(prompts))
            return prompts

        tracking = _Tracking(reader, store, checked_prompts, trackers, out / "policies", steps)
        runs: dict[str, PolicyRun] = {}
        ways_back: dict[str, WayBack] = {}
        for policy in policies:
            runs[policy] = tracking.there(policy)
            if truth is None and consistency:
                ways_back[policy] = tracking.back(runs[policy])
        folders = {policy: tracking.folder(policy) for policy in policies}
        on_compared = steps.stage("comparing", len(store.clip))
        comparison = _compared(reader.name, store, common, runs, ways_back, folders, truth, on_compared)
        page = page_of(comparison, folders, store, truth, reader.frames_per_second)
    _write(written, comparison, page)
    return comparison


def _open(out: Path, common: Mapping[str, Any], overwrite: bool) -> None:
    """Creates the folder of the policies; raises OutputError if an existing one was made with other settings."""
    folder = out / "policies"
    written = Written(folder)
    if overwrite:
        for path in folder.glob("[!.]*/"):
            written.remove_folder(path)
    if not any(folder.glob("[!.]*/")):
        written.remove(folder / "settings.json")
    ResultFolder.open(folder, common)


def _compared(
    video: str,
    store: FrameStore,
    common: Mapping[str, Any],
    runs: Mapping[str, PolicyRun],
    ways_back: Mapping[str, WayBack],
    folders: Mapping[str, PolicyFolder],
    truth: Truth | None,
    on_frame: Callable[[], None],
) -> Comparison:
    """Returns the measures of the masks of all policies."""
    clip = store.clip
    reports = {} if truth is None else {name: truth.score(folders[name], run, clip) for name, run in runs.items()}
    curves = {} if truth is None else {name: truth.curve(report, len(clip)) for name, report in reports.items()}
    object_ids = sorted({object_id for run in runs.values() for object_id in run.object_ids})
    agreement = agreements(folders, clip, object_ids, on_frame)
    parted = moments(agreement, len(clip))
    return Comparison(video, clip, common, runs, agreement, parted, reports, curves, ways_back)


def trackers_for(policy: str, trackers: TrackerFactory) -> TrackerFactory:
    """Returns the factory of a policy's trackers; without a budget if the policy has none, such as keep-all."""
    budget = None if policy_named(policy).default_frames is None else trackers.config.budget
    return replace(trackers, config=replace(trackers.config, policy=policy, budget=budget))


def look_frames(num_frames: int) -> list[int]:
    """Returns the frames after which the memory is recorded: evenly spaced, including the last."""
    return sorted({max(1, (num_frames - 1) * (number + 1) // LOOKS) for number in range(LOOKS)})


@dataclass(frozen=True, slots=True)
class _Tracking:
    """Tracks one video with one policy after another; results that exist in the folder are reused."""

    video: Iterable[Frame]
    store: FrameStore
    new_prompts: Callable[[], PromptFunction]
    trackers: TrackerFactory
    out: Path
    steps: _Steps

    def folder(self, policy: str) -> PolicyFolder:
        return PolicyFolder(self.out / safe_name(policy))

    def tracker(self, policy: str) -> Tracker:
        return trackers_for(policy, self.trackers).tracker()

    def there(self, policy: str) -> PolicyRun:
        found, num_frames = self.folder(policy).run(), len(self.store.clip)
        if found is not None:
            if len(found.seconds) != num_frames:
                raise InputError(
                    f"{self.folder(policy).path} holds {len(found.seconds)} frames, but the video has {num_frames}",
                    "give another folder, or start over (--overwrite)",
                )
            if found.own_policy != saved_unless_built_in(policy, policy_named(policy)):
                raise InputError(
                    f"{self.folder(policy).path} was made with other parameters or an earlier version of {policy}",
                    "give another folder, or start over (--overwrite)",
                )
            self.steps.reuse(policy)
            return found
        on_frame, looks = self.steps.stage(policy, num_frames), look_frames(num_frames)
        prompts = self.new_prompts()
        tracker, folder = self.tracker(policy), self.folder(policy)
        own = saved_unless_built_in(policy, policy_named(policy))
        return track_policy(self.video, tracker, policy, prompts, folder, looks, on_frame, own)

    def back(self, run: PolicyRun) -> WayBack:
        folder = self.folder(run.policy)
        found = folder.way_back()
        if found is not None:
            return found
        on_frame = self.steps.stage(f"{run.policy}, back", len(self.store.clip) - min(run.given))
        return track_back(self.store, self.tracker(run.policy), run, folder, on_frame)


def _write(written: Written, comparison: Comparison, page: str) -> None:
    files = {
        "compare.json": json.dumps(comparison.to_dict(), indent=1, allow_nan=False) + "\n",
        "compare.csv": to_csv(comparison.rows()),
        "frames.csv": to_csv(comparison.frame_rows()),
        "compare.html": page,
    }
    for name, text in files.items():
        written.write(written.folder / name, text)
