"""A tracker over a benchmark's sequences: from a first mask to a score."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from mnemask.datasets.annotated import AnnotatedVideo
from mnemask.evaluation.protocol import frame_names, objects_in, only_first_masks
from mnemask.given import Prompt
from mnemask.metrics import Report, SequenceScorer
from mnemask.tracker import Tracker
from mnemask.types import Frame, Masks
from mnemask.video.images import read_image


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The outcome for one policy.

    Attributes:
        report: J and F.
        seconds: spent in the tracker, without reading and scoring.
        num_frames: frames that were tracked.
        most_tokens: the most that were ever remembered in a sequence.
        most_bytes: the most bytes that a bank took.
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


def follow(tracker: Tracker, given: AnnotatedVideo) -> Iterator[tuple[Masks, float]]:
    """Yields the masks of each frame and the seconds that the tracker took for them.

    Args:
        tracker: a new one.
        given: the video, with masks of the frames in which objects appear. Each object is given to the tracker once,
            in the first of them that shows it.
    """
    known: set[int] = set()
    for index, (path, name) in enumerate(zip(given.frames, frame_names(given), strict=True)):
        frame = Frame(read_image(path), index, name=name)
        prompts: dict[int, Prompt] = {}
        if index in given.masks:
            labels = torch.from_numpy(given.read_labels(index).astype(np.int32))
            prompts = {label: labels == label for label in objects_in(given, index) if label not in known}
            known |= prompts.keys()
        begin = time.perf_counter()
        masks = tracker.step(frame, prompts or None)
        masks.labels.cpu()  # waits for an accelerator to be done
        yield masks, time.perf_counter() - begin


def track_sequence(tracker: Tracker, sequence: AnnotatedVideo) -> Iterator[Masks]:
    """Yields the masks of each frame; of the annotations, none after the first that shows an object is ever read."""
    return (masks for masks, _ in follow(tracker, only_first_masks(sequence)))


def evaluate(
    make_tracker: Callable[[], Tracker],
    sequences: Iterable[AnnotatedVideo],
    on_sequence: Callable[[str, Report], None] = lambda name, report: None,
) -> Evaluation:
    """Returns the score over all sequences, each followed by a tracker of its own.

    Args:
        make_tracker: returns a new tracker.
        sequences: with masks of all frames or some; frames without are tracked and not scored.
        on_sequence: is told of each sequence that is done.
    """
    reports, seconds, num_frames, most_tokens, most_bytes = [], 0.0, 0, 0, 0
    for sequence in sequences:
        tracker = make_tracker()
        scorer = SequenceScorer(sequence.name, "davis2016" if sequence.single_object else "davis2017")
        for masks, spent in follow(tracker, only_first_masks(sequence)):
            seconds += spent
            num_frames += 1
            stats = tracker.memory.stats()
            most_tokens, most_bytes = max(most_tokens, stats.tokens), max(most_bytes, stats.bank_bytes)
            if masks.index in sequence.masks:
                scorer.add(sequence.read_labels(masks.index), masks.labels.cpu().numpy(), masks.name)
        reports.append(scorer.report())
        on_sequence(sequence.name, reports[-1])
    return Evaluation(Report.merged(reports), seconds, num_frames, most_tokens, most_bytes)
