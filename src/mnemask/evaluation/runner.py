"""Runs one policy on one sequence: the masks are tracked to the end and written, and only then scored."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mnemask.config import TrackerConfig
from mnemask.datasets.annotated import AnnotatedVideo, with_void
from mnemask.engines import load_model
from mnemask.engines.parts import cached_features
from mnemask.errors import InputError, MnemaskError, OutputError
from mnemask.evaluation.benchmark import BenchmarkSequence, frame_names, objects_in, only_first_masks
from mnemask.evaluation.results import Result, ResultFolder, digest_of
from mnemask.io.image_sequences import levels_of_frames
from mnemask.io.images import read_image
from mnemask.io.label_files import read_labels
from mnemask.io.writer import MaskWriter
from mnemask.memory.policies import Policy, policy_named, saved_unless_built_in
from mnemask.memory.read import resolve_kmn_sigma
from mnemask.metrics import Protocol, Report, SequenceScorer
from mnemask.model.checkpoints import fingerprint, packaged_weights
from mnemask.model.stcn import STCN
from mnemask.tracker import Tracker
from mnemask.types import Frame, Masks, Prompt


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of one policy on all sequences.

    Attributes:
        report: J and F.
        seconds: the time spent in the tracker, without reading and scoring.
        num_frames: the number of frames tracked.
        most_tokens: the highest number of tokens in memory in any sequence.
        most_bytes: the highest number of bytes in a bank.
    """

    report: Report
    seconds: float
    num_frames: int
    most_tokens: int
    most_bytes: int

    @property
    def frames_per_second(self) -> float:
        """Total frames / total time."""
        return self.num_frames / self.seconds


def timed(
    tracker: Tracker, frames: Iterable[Frame], prompts: Callable[[Frame], Mapping[int, Prompt | None] | None]
) -> Iterator[tuple[Frame, Masks, float]]:
    """Yields each frame with its masks and the seconds that the tracker took for them.

    Args:
        tracker: a new tracker.
        frames: the frames of the video; the time to read them is not counted.
        prompts: returns the given masks of a frame by object id, or None.
    """
    for frame in frames:
        known = prompts(frame)
        begin = time.perf_counter()
        masks = tracker.step(frame, known)
        masks.labels.cpu()  # waits for an accelerator to finish
        tracker.settle()
        yield frame, masks, time.perf_counter() - begin


def follow(tracker: Tracker, given: AnnotatedVideo) -> Iterator[tuple[Masks, float]]:
    """Returns an iterator over the masks of each frame and the seconds that the tracker took for them.

    Args:
        tracker: a new tracker.
        given: the video, with masks of the frames in which objects appear. Each object is given to the tracker once,
            in the first of them that shows it.
    """
    known: set[int] = set()

    def prompts(frame: Frame) -> dict[int, Prompt | None] | None:
        if frame.index not in given.masks:
            return None
        labels = torch.from_numpy(given.read_labels(frame.index).astype(np.int32))
        new = [label for label in objects_in(given, frame.index) if label not in known]
        known.update(new)
        return {label: labels == label for label in new}

    named = enumerate(zip(given.frames, frame_names(given), strict=True))
    levels = levels_of_frames(given.frames)
    frames = (Frame(read_image(path, levels), index, name=name) for index, (path, name) in named)
    return ((masks, seconds) for _, masks, seconds in timed(tracker, frames, prompts))


def evaluate(
    make_tracker: Callable[[], Tracker],
    sequences: Iterable[AnnotatedVideo],
    on_sequence: Callable[[str, Report], None] = lambda name, report: None,
) -> Evaluation:
    """Returns the scores over all sequences, each tracked with a new tracker.

    Args:
        make_tracker: returns a new tracker on each call.
        sequences: videos with masks of all frames or some; frames without a mask are tracked but not scored. If a video
            does not state what 255 is, its masks decide, as in `mnemask evaluate`.
        on_sequence: called with the name and the report of each finished sequence.

    Raises:
        InputError: a tracker has been used before.
    """
    reports, seconds, num_frames, most_tokens, most_bytes = [], 0.0, 0, 0, 0
    for sequence in map(with_void, sequences):
        tracker = make_tracker()
        if tracker.steps:
            raise InputError(
                f"the tracker for {sequence.name} has tracked {tracker.steps} frames already",
                "return a new one each time, as with lambda: Tracker(model)",
            )
        scorer = _scorer(sequence)
        for masks, spent in follow(tracker, only_first_masks(sequence)):
            seconds += spent
            num_frames += 1
            stats = tracker.stats()
            most_tokens, most_bytes = max(most_tokens, stats.tokens), max(most_bytes, stats.bank_bytes)
            if masks.index in sequence.masks:
                scorer.add(sequence.read_labels(masks.index), masks.labels.cpu().numpy(), masks.name)
        reports.append(scorer.report())
        on_sequence(sequence.name, reports[-1])
    return Evaluation(Report.merged(reports), seconds, num_frames, most_tokens, most_bytes)


@dataclass(frozen=True, slots=True)
class TrackerFactory:
    """Makes the trackers of an evaluation or a comparison, in this process or another one.

    Attributes:
        config: the settings of the trackers.
        model: "compact" or the path of a checkpoint.
        device: "cpu", "cuda", …; None for CUDA if available.
        engine: the engine that runs the network, see `load_model`.
        weights: the fingerprint that the network must have, see `with_these_weights`; empty for any.
    """

    config: TrackerConfig = field(default_factory=TrackerConfig)
    model: str = "compact"
    device: str | None = None
    engine: str = "eager"
    weights: str = ""

    def with_policy(self, policy: Policy | str) -> "TrackerFactory":
        """Returns a factory whose trackers have this policy."""
        # The policy itself, which can be sent to other processes, rather than a name registered only in this one.
        policy = policy_named(policy) if isinstance(policy, str) else policy
        return replace(self, config=replace(self.config, policy=policy))

    def with_these_weights(self) -> "TrackerFactory":
        """Returns a factory that raises InputError, in any process, once the checkpoint holds other weights."""
        return replace(self, weights=fingerprint(self._network()))

    def tracker(self) -> Tracker:
        """Returns a new tracker; raises MnemaskError if a setting or the checkpoint cannot be used."""
        return Tracker(self._network(), self.config)

    def settings(self) -> dict[str, Any]:
        """Returns the settings that all these trackers share, as JSON can hold them; weights are named by content."""
        self._network()  # reports a missing or foreign file
        with (packaged_weights(self.model) or Path(self.model)).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        network = self._network()  # again, as the file may have been replaced before it was hashed
        config = self.config.to_dict()
        del config["policy"]
        return {
            "model": f"{Path(self.model).name}, sha256 {digest[:16]}",
            **config,
            "kmn_sigma": self.used_kmn_sigma(),
            "device": network.device.type,
            "precision": str(network.dtype).removeprefix("torch."),
            "engine": self.engine,
        }

    def used_kmn_sigma(self) -> int | float:
        """Returns the σ of the KMN kernel that the trackers use."""
        return resolve_kmn_sigma(self.config.kmn_sigma, self._network().kmn_sigma)

    def _network(self) -> STCN:
        path = packaged_weights(self.model) or Path(self.model)
        state = path.stat() if path.is_file() else None  # loading reports a missing file
        network = _loaded(self.model, self.device, self.engine, state and (state.st_mtime_ns, state.st_size))
        if self.weights and fingerprint(network) != self.weights:
            raise InputError(
                f"{self.model} was replaced while it was evaluated",
                "evaluate a copy that stays as it is; results so far are those of the earlier weights",
            )
        return network


@dataclass(frozen=True, slots=True)
class Job:
    """One policy on one sequence."""

    sequence: BenchmarkSequence
    policy: str
    trackers: TrackerFactory
    folder: ResultFolder

    @property
    def key(self) -> tuple[str, str]:
        """Names of the policy and the sequence."""
        return self.policy, self.sequence.name

    def run(self, on_frame: Callable[[], None]) -> Result:
        """Returns the result, after saving it with its masks in the folder; `on_frame` is called after each frame."""
        tracker, made_of = self.trackers.tracker(), digest_of(self.sequence)
        own_policy = self._own_policy()
        partial = self.folder.begin(*self.key)
        tracker.model = network = cached_features(tracker.model)
        network.begin(self.sequence.name)
        seconds, held, most_tokens, most_bytes = [], [], 0, 0
        with self._named(), MaskWriter(partial) as writer:
            for masks, spent in follow(tracker, self.sequence.given):
                if masks.index in self.sequence.asked:
                    writer.write(masks)
                stats = tracker.stats()
                seconds.append(spent + network.spared())
                held.append(stats.frames)
                most_tokens, most_bytes = max(most_tokens, stats.tokens), max(most_bytes, stats.bank_bytes)
                on_frame()
        with self._named():
            report = score_masks(self.sequence, partial)
            if digest_of(self.sequence) != made_of:
                raise InputError("frames or masks were changed while they were tracked", "evaluate it again")
        result = Result(
            self.policy,
            self.sequence.name,
            report,
            tuple(seconds),
            tuple(held),
            most_tokens,
            most_bytes,
            torch.get_num_threads(),
            self.sequence.groups,
            own_policy,
            made_of,
        )
        self.folder.keep(result, partial)
        return result

    def found(self) -> Result | None:
        """Returns the result in the folder, or None; "seen" and "unseen" are taken from the current data set.

        Raises:
            OutputError: the result was made with another policy of that name, with other parameters or an earlier
                version of it, or with frames, masks or required frames that have changed since.
        """
        result, wanted = self.folder.load(*self.key), self._own_policy()
        if result is not None and result.made_of not in ("", digest_of(self.sequence)):
            raise OutputError(
                f"{str(self.folder.out)!r} holds outdated results of {self.sequence.name}: its frames, its masks, or "
                "which of them are given or required, have changed since",
                f"give another folder, or delete results/*/{self.sequence.name}.json there",
            )
        if result is not None and dict(result.own_policy) != wanted:
            changed = [
                f"{name} {result.own_policy.get(name)!r}, now {wanted.get(name)!r}"
                for name in dict.fromkeys((*result.own_policy, *wanted))
                if result.own_policy.get(name) != wanted.get(name)
            ]
            raise OutputError(
                f"{str(self.folder.out)!r} holds results of an earlier {self.policy} ({'; '.join(changed)})",
                f"give another folder, or delete results/{self.policy} there",
            )
        return None if result is None else replace(result, groups=self.sequence.groups)

    def _own_policy(self) -> dict[str, Any]:
        return saved_unless_built_in(self.policy, self.trackers.config.used_policy())

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Adds the names of the policy and the sequence to errors."""
        try:
            yield
        except MnemaskError as error:
            raise type(error)(f"{self.policy} on {self.sequence.name}: {error.problem}", error.remedy) from error


def score_masks(sequence: BenchmarkSequence, folder: Path) -> Report | None:
    """Returns the scores of the masks in a folder, or None if the true ones are secret.

    True masks are read only here, after the last predicted mask is written.
    """
    truth = sequence.truth
    if truth is None:
        return None
    scorer = _scorer(truth, late_objects=sequence.late_objects)
    names = frame_names(truth)
    for index in sorted(truth.masks):
        scorer.add(truth.read_labels(index), read_labels(folder / f"{names[index]}.png"), names[index])
    return scorer.report()


def _scorer(truth: AnnotatedVideo, *, late_objects: bool = False) -> SequenceScorer:
    protocol: Protocol = "davis2016" if truth.single_object else "davis2017"
    return SequenceScorer(truth.name, protocol, late_objects=late_objects, void=truth.void)


@lru_cache(maxsize=1)
def _loaded(model: str, device: str | None, engine: str, state: tuple[int, int] | None) -> STCN:
    """Returns the network; `state` (time and size of its file) makes a file that training has replaced load again."""
    return load_model(model, device=device, engine=engine)
