"""Training of the network on clips with Lightning Fabric: one or more processes, on CPU or GPU, resumable."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from lightning_fabric import Fabric
from torch import Tensor

from mnemask.datasets.clips import ClipSource
from mnemask.errors import InputError, missing_extra
from mnemask.io.visualize import draw_overlay
from mnemask.metrics import VOID
from mnemask.model.checkpoints import save_model
from mnemask.model.stcn import STCN
from mnemask.training.checkpoint import has_step
from mnemask.training.clip_tracker import ClipTracker
from mnemask.training.data import Batch, Batches, load
from mnemask.training.losses import bootstrapped_cross_entropy, can_fuse, make_optimizer, mean_iou, soft_dice
from mnemask.training.recipes import Recipe
from mnemask.training.run import TrainingReport, TrainingRun

PICTURES_EVERY = 500


@dataclass(frozen=True, slots=True)
class StepReport(TrainingReport):
    """Progress of a run at the last logged step.

    Attributes:
        steps: number of steps of the whole run.
        iou: mean IoU of the predicted masks on the training clips.
        rate: learning rate.
        norm: norm of the gradient before clipping.
        clips_per_second: speed since this start of the run, over all processes.
    """

    steps: int
    iou: float
    rate: float
    norm: float
    clips_per_second: float


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Options that may differ between starts of a run without changing its result.

    Attributes:
        workers: number of processes per training process that draw clips ahead; 0 draws them between steps.
        parts: number of parts of a step, for gradient accumulation; more parts need less memory.
        minutes: time after which the run saves and stops, to be resumed later; None trains to the end.
        validate_every: number of steps between two validations.
    """

    workers: int = 0
    parts: int = 1
    minutes: float | None = None
    validate_every: int = 1000


class Training(TrainingRun[StepReport]):
    """A run that trains a network on clips, new or resumed from `out/latest.safetensors`.

    Args:
        fabric: launched Fabric, which determines devices, processes and precision.
        recipe: all hyper-parameters.
        source: source of the clips.
        model: network with the weights to start from.
        out: folder of the run: `latest.safetensors`, `log.jsonl`, `board/` and, at the end, `model.safetensors`.
        options: options that may differ between starts of the run.
        validate: function that returns a model's scores by name, higher being better.
        branch_from: a run's file to continue from, see `TrainingRun`.
        origin: what the run was made from, such as its data, as text by name; a change when it is resumed is logged.

    Raises:
        InputError: the batch cannot be divided, or `out` contains a run with other settings.
        CheckpointError: the run in `out` or `branch_from` is damaged.
    """

    def __init__(
        self,
        fabric: Fabric,
        recipe: Recipe,
        source: ClipSource,
        model: STCN,
        out: Path,
        options: RunOptions = RunOptions(),
        validate: Callable[[STCN], dict[str, float]] | None = None,
        branch_from: Path | None = None,
        origin: Mapping[str, str] | None = None,
    ) -> None:
        if recipe.batch % (fabric.world_size * options.parts):
            raise InputError(
                f"a batch of {recipe.batch} clips cannot be divided among {fabric.world_size} processes in "
                f"{options.parts} parts each",
                "choose numbers that divide it",
            )
        self.recipe, self.options, self.validate = recipe, options, validate
        self.model = model.float().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        trained = {n: p for n, p in model.named_parameters() if not n.startswith(recipe.frozen or ("\0",))}
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in trained)
        self.clips = ClipTracker(model, recipe.regularizer)
        super().__init__(
            fabric,
            recipe,
            out,
            network=self.model,
            trained=trained,
            module=self.clips,
            optimizer=make_optimizer(recipe, trained, fused=can_fuse(fabric)),
            minutes=options.minutes,
            fixed={"network": repr(self.model.config)},
            origin={f"its {name}": value for name, value in (origin or {}).items()},
            branch_from=branch_from,
        )
        self.batches = Batches(source, recipe, options.parts, fabric.global_rank, fabric.world_size)

    def run(self, on_step: Callable[[StepReport], None] = lambda report: None) -> None:
        """Trains to the end, until `stop` is called, or until `options.minutes` are over; saves in each case.

        If a scoring is due at the present step and missing, because it was interrupted, it comes first.
        """
        pin = self.fabric.device.type == "cuda"
        self._loaded = load(self.batches, self.step, self.options.workers, pin)
        with TensorBoard(self.out / "board", self.step, self.fabric.is_global_zero) as self._board:
            if self._scoring_is_due() and self._has_no_scores():
                self._score()
            super().run(on_step)

    def save(self) -> None:
        """Saves the current state of the run and, at its end, the averaged weights as `model.safetensors`.

        Raises:
            InputError: the weights are no longer finite; the previous files are kept.
            OutputError: a file cannot be written.
        """
        super().save()
        if self.finished and self.fabric.is_global_zero:
            note = f"recipe {self.recipe.name}, {self.step} steps of {self.recipe.batch} clips"
            save_model(self.averaged_model(), self.out / "model.safetensors", dtype=torch.float32, note=note)
        self.fabric.barrier()

    def advance(self) -> None:
        """Performs one update of the weights with the next batch."""
        self._last = self.train_step(self._loaded)

    def train_step(self, batches: Iterator[Batch]) -> tuple[Tensor, Tensor | None, Batch, Tensor]:
        """Performs one update of the weights; returns loss, gradient norm, and the last batch and its probabilities."""
        recipe, parts = self.recipe, self.options.parts
        # Randomness within a step (dropout) depends on the step alone, so that a resumed run is identical.
        torch.manual_seed(hash((recipe.seed, self.step, self.fabric.global_rank)))
        total = torch.zeros((), device=self.fabric.device)
        for part in range(parts):
            batch = next(batches).to(self.fabric.device)
            with self.fabric.no_backward_sync(self.module, enabled=part + 1 < parts):
                self.clips.plan = recipe.plan(self.step, batch.frames.shape[1])
                probs = self.module(batch.images(), batch.first_masks(), batch.valid)
                loss = self._loss(probs, batch) / parts
                self.fabric.backward(loss)
            total += loss.detach()
        norm = self.update_weights(recipe.clip_norm, recipe.schedule.rate(self.step, recipe.steps))
        return total, norm, batch, probs.detach()

    def averaged_model(self) -> STCN:
        """Returns a copy of the network with the averaged weights, ready to track."""
        model = STCN(self.model.config)
        model.load_state_dict(self.model.state_dict() | self.average.weights)
        return model.to(self.fabric.device, memory_format=torch.channels_last).eval().requires_grad_(False)  # type: ignore[call-overload, no-any-return]

    def report(self, per_second: float) -> StepReport:
        """Returns a report of the last step."""
        loss, norm, batch, probs = self._last
        iou = mean_iou(probs.flatten(0, 1), *batch.targets())
        rate = self.optimizer.param_groups[-1]["lr"]
        size = float("nan") if norm is None else float(norm)
        return StepReport(self.step, float(loss), self.recipe.steps, iou, rate, size, per_second)

    def after_step(self, report: StepReport | None) -> None:
        """Writes curves and pictures, and scores the weights if that is due."""
        if report:
            names = ("loss", "iou", "rate", "norm", "clips_per_second")
            self._board.scalars(self.step, {name: getattr(report, name) for name in names})
        if self.step == 1 or self.step % PICTURES_EVERY == 0:
            _, _, batch, probs = self._last
            self._board.pictures(self.step, batch, probs)
        if self._scoring_is_due():
            self._score()

    def _scoring_is_due(self) -> bool:
        on_time = self.step > 0 and self.step % self.options.validate_every == 0
        return self.validate is not None and (on_time or self.finished)

    def _has_no_scores(self) -> bool:
        """Whether the present step is missing from the scores, seen by the first process: all must do the same."""
        path = self.out / "validation.jsonl"
        missing: bool = self.fabric.broadcast(not has_step(path, self.step))
        return missing

    def _score(self) -> None:
        assert self.validate is not None
        self.save()  # before validation, which may fail
        if self.fabric.is_global_zero:
            scores = self.validate(self.averaged_model())
            self.add_line("validation.jsonl", {"step": self.step, **scores})
            self._board.scalars(self.step, scores)
        self.fabric.barrier()

    def _loss(self, probs: Tensor, batch: Batch) -> Tensor:
        flat = probs.flatten(0, 1)
        truth, valid = batch.targets()
        if self.recipe.loss is not None:
            return self.recipe.loss(flat, truth, valid)
        loss = bootstrapped_cross_entropy(flat, truth, self.recipe.bootstrap.fraction(self.step))
        if self.recipe.dice:
            loss = loss + self.recipe.dice * soft_dice(flat, truth, valid)
        return loss


class TensorBoard:
    """Writes curves and pictures for `tensorboard --logdir`; does nothing on processes other than the first.

    Args:
        folder: folder to write to.
        done: number of completed steps; entries of an earlier start of the run about later ones are hidden.
        active: whether this process writes.

    Raises:
        MissingExtraError: tensorboard is not installed.
    """

    def __init__(self, folder: Path, done: int, active: bool) -> None:
        self._writer = None
        if active:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise missing_extra("training writes TensorBoard files", "train") from error
            self._writer = SummaryWriter(str(folder), purge_step=done + 1)

    def __enter__(self) -> "TensorBoard":
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer:
            self._writer.close()

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Adds a point to each named curve."""
        if self._writer:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def pictures(self, step: int, batch: Batch, probs: Float[Tensor, "B t C H W"]) -> None:
        """Adds the batch's first clip, with the predicted masks above the true ones."""
        if self._writer:
            self._writer.add_image("clip", strip(batch, probs), step, dataformats="HWC")


def strip(batch: Batch, probs: Float[Tensor, "B t C H W"]) -> UInt8[np.ndarray, "H2 W2 3"]:
    """Returns the frames of a batch's first clip in a row with the predicted masks, and below with the true masks."""
    frames, truth = batch.frames[0].cpu().numpy(), batch.labels[0].cpu().numpy()
    known = np.where(truth == VOID, 0, truth)
    said = np.concatenate((known[:1], probs[0].argmax(1).byte().cpu().numpy()))
    rows = [
        np.concatenate([draw_overlay(frame, label) for frame, label in zip(frames, labels, strict=True)], axis=1)
        for labels in (said, known)
    ]
    return np.concatenate(rows)
