"""A tracker over a benchmark's sequences: from a first mask to a score."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch

from mnemask.datasets.annotated import AnnotatedVideo
from mnemask.metrics import VOID, Report, SequenceScorer
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


def track_sequence(tracker: Tracker, sequence: AnnotatedVideo) -> Iterator[Masks]:
    """Yields the masks of each frame; of the annotations, only the first is ever read."""
    given = sequence.first_annotated
    labels = torch.from_numpy(sequence.read_labels(given))
    prompts = {int(label): labels == label for label in labels.unique().tolist() if label not in (0, VOID)}
    for index, path in enumerate(sequence.frames):
        frame = Frame(read_image(path), index, name=path.stem)
        yield tracker.step(frame, prompts if index == given else None)


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
        begin = time.perf_counter()
        for masks in track_sequence(tracker, sequence):
            seconds += time.perf_counter() - begin
            num_frames += 1
            stats = tracker.memory.stats()
            most_tokens, most_bytes = max(most_tokens, stats.tokens), max(most_bytes, stats.bank_bytes)
            if masks.index in sequence.masks:
                scorer.add(sequence.read_labels(masks.index), masks.labels.cpu().numpy(), masks.name)
            begin = time.perf_counter()
        reports.append(scorer.report())
        on_sequence(sequence.name, reports[-1])
    return Evaluation(Report.merged(reports), seconds, num_frames, most_tokens, most_bytes)
