"""One policy on one sequence: tracked to the end, written, and only then scored."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from mnemask.datasets.annotated import read_annotation
from mnemask.engines import load_model
from mnemask.errors import InputError, MnemaskError
from mnemask.evaluation.one_look import one_look
from mnemask.evaluation.protocol import Challenge, frame_names
from mnemask.evaluation.results import Result, ResultFolder
from mnemask.evaluation.run import follow
from mnemask.memory.budget import Budget
from mnemask.memory.policies import policy_named
from mnemask.memory.read import chosen_kernel
from mnemask.metrics import Report, SequenceScorer
from mnemask.model.checkpoints import packaged_weights
from mnemask.model.stcn import STCN
from mnemask.tracker import Tracker
from mnemask.video.writer import MaskWriter


@dataclass(frozen=True, slots=True)
class TrackerSettings:
    """What all trackers of a comparison have in common.

    Attributes:
        model: "compact" or the path of a checkpoint.
        frames: the memory budget in frames; None for what each policy asks for.
        write_every: remember each so many frames; None for what each policy asks for.
        top_k: memories read per query.
        size: short side in pixels at which frames are processed.
        device: "cpu", "cuda", …; None for CUDA where there is one.
        engine: what computes, see `load_model`.
        kernel: how far from where it fits best a memory is read, see `Tracker`; None for the model's own.
    """

    model: str = "compact"
    frames: float | None = None
    write_every: int | None = None
    top_k: int = 20
    size: int = 480
    device: str | None = None
    engine: str = "eager"
    kernel: int | float | None = None

    def tracker(self, policy: str) -> Tracker:
        """Returns a new tracker; raises MnemaskError where a setting or the checkpoint is of no use."""
        chosen = policy_named(policy)
        if self.write_every is not None:
            if self.write_every < 1:
                raise InputError(f"write_every is {self.write_every}; give a whole number from 1, such as 5")
            chosen = replace(chosen, write_every=self.write_every)
        budget = None if self.frames is None else Budget(frames=self.frames)
        return Tracker(self._network(), chosen, budget, top_k=self.top_k, kernel=self.kernel, short_side=self.size)

    def settings(self) -> dict[str, Any]:
        """Returns what distinguishes these trackers from others, as JSON holds it; weights go by their content."""
        network = self._network()
        with (packaged_weights(self.model) or Path(self.model)).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {
            "model": f"{Path(self.model).name}, sha256 {digest[:16]}",
            "frames": self.frames,
            "write_every": self.write_every,
            "top_k": self.top_k,
            "kernel": self.used_kernel(),
            "size": self.size,
            "device": network.device.type,
            "precision": str(network.dtype).removeprefix("torch."),
            "engine": self.engine,
        }

    def used_kernel(self) -> int | float:
        """Returns the kernel that the trackers have; raises InputError for an impossible one."""
        return chosen_kernel(self.kernel, self._network().kernel)

    def _network(self) -> STCN:
        path = packaged_weights(self.model) or Path(self.model)
        state = path.stat() if path.is_file() else None  # what is no file, loading it says
        return _loaded(self.model, self.device, self.engine, state and (state.st_mtime_ns, state.st_size))


@dataclass(frozen=True, slots=True)
class Job:
    """One policy on one sequence."""

    challenge: Challenge
    policy: str
    trackers: TrackerSettings
    folder: ResultFolder

    @property
    def key(self) -> tuple[str, str]:
        """Policy and sequence, by name."""
        return self.policy, self.challenge.name

    def run(self, on_frame: Callable[[], None]) -> Result:
        """Returns the result, which is then in the folder with its masks; `on_frame` is called after each frame."""
        tracker, partial = self.trackers.tracker(self.policy), self.folder.begin(*self.key)
        tracker.model = network = one_look(tracker.model)
        network.begin(self.challenge.name)
        seconds, held, most_tokens, most_bytes = [], [], 0, 0
        with self._named(), MaskWriter(partial) as writer:
            for masks, spent in follow(tracker, self.challenge.given):
                if masks.index in self.challenge.asked:
                    writer.write(masks)
                stats = tracker.memory.stats()
                seconds.append(spent + network.spared())
                held.append(stats.frames)
                most_tokens, most_bytes = max(most_tokens, stats.tokens), max(most_bytes, stats.bank_bytes)
                on_frame()
        with self._named():
            report = score_masks(self.challenge, partial)
        result = Result(
            self.policy,
            self.challenge.name,
            report,
            tuple(seconds),
            tuple(held),
            most_tokens,
            most_bytes,
            torch.get_num_threads(),
            self.challenge.groups,
        )
        self.folder.keep(result, partial)
        return result

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Makes errors say which policy and sequence they are about."""
        try:
            yield
        except MnemaskError as error:
            raise type(error)(f"{self.policy} on {self.challenge.name}: {error}") from error


def score_masks(challenge: Challenge, folder: Path) -> Report | None:
    """Returns the scores of the masks in a folder, or None where the true ones are secret.

    Only here are true masks read, after the last predicted one is written.
    """
    truth = challenge.truth
    if truth is None:
        return None
    scorer = SequenceScorer(
        truth.name, "davis2016" if truth.single_object else "davis2017", late_objects=challenge.late_objects
    )
    names = frame_names(truth)
    for index in sorted(truth.masks):
        scorer.add(truth.read_labels(index), read_annotation(folder / f"{names[index]}.png"), names[index])
    return scorer.report()


@lru_cache(maxsize=1)
def _loaded(model: str, device: str | None, engine: str, state: tuple[int, int] | None) -> STCN:
    """Returns the network of a file in this state: one that training has replaced is loaded anew."""
    return load_model(model, device=device, engine=engine)
