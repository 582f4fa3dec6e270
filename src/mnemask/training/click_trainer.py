"""Training of the click head with simulated clicks on a frozen key encoder; recipe and data determine the result."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from mnemask.errors import InputError
from mnemask.model.checkpoints import key_encoder_id, sha256_of
from mnemask.model.click_head import ClickHead, ClickHeadConfig, PreparedFrame, save_click_head
from mnemask.model.preprocess import normalize
from mnemask.model.stcn import STCN
from mnemask.training.click_data import (
    Click,
    ClickCrop,
    ClickPictures,
    corrupt_mask,
    drawn_box,
    first_clicks,
    iou,
    next_click,
)
from mnemask.training.losses import Cosine, can_fuse, normalized_focal, soft_dice
from mnemask.training.run import TrainingReport, TrainingRun

CROPS = 3  # numpy's seeds for different purposes differ in their first number; 1 and 2 are those of `data`


@dataclass(frozen=True, slots=True)
class ClickRecipe:
    """Hyper-parameters of a run; with a seed, the data and the key encoder they determine its result.

    Attributes:
        steps: number of updates of the weights.
        batch: number of pictures per step, with two objects each.
        rounds: number of successive masks per object, all in the loss; a click is added before each but the first.
        sizes: pairs of a fraction of the steps and the side of the crops until then, in pixels.
        learning_rate: learning rate of AdamW, before the schedule's factor.
        ema: decay of the moving average of the weights, which is a run's result.
        seed: seed of the weights, pictures and clicks.
    """

    steps: int = 2000
    batch: int = 4
    rounds: int = 3
    sizes: tuple[tuple[float, int], ...] = ((0.85, 256), (1.0, 320))
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    clip_norm: float = 3.0
    ema: float = 0.995
    seed: int = 0

    @classmethod
    def fine_tuning(cls, *, steps: int = 800, seed: int = 0) -> "ClickRecipe":
        """Returns the recipe that adapts a trained head to a key encoder that was trained further."""
        return cls(steps=steps, learning_rate=5e-4, seed=seed)

    def size(self, step: int) -> int:
        """Returns the side of a step's crops in pixels."""
        return next(size for until, size in self.sizes if step < until * self.steps or until >= 1)


@dataclass(frozen=True, slots=True)
class ClickReport(TrainingReport):
    """Progress of a run: means over the steps since the last report.

    Attributes:
        ious: mean IoU after each round, on the training crops.
        pictures_per_second: speed since this start of the run.
    """

    ious: tuple[float, ...]
    pictures_per_second: float


class ClickSequence:
    """One object of a crop, and the prompts of the simulated user so far."""

    def __init__(
        self, truth: UInt8[np.ndarray, "S S"], other: UInt8[np.ndarray, "S S"], rng: np.random.Generator
    ) -> None:
        self.truth, self.rng = truth, rng
        self.previous: Bool[np.ndarray, "S S"] = np.zeros(truth.shape, bool)
        self.box: tuple[int, int, int, int] | None = None
        self.clicks: list[Click] = []
        start = rng.random()
        if start < 0.4:
            self.clicks = first_clicks(truth, rng, 1, 0)
        elif start < 0.6:
            self.clicks = first_clicks(truth, rng, int(rng.integers(1, 4)), int(rng.integers(0, 3)))
        elif start < 0.8:
            self.box = drawn_box(truth, rng)
            self.clicks = first_clicks(truth, rng, int(rng.random() < 0.4), 0)
        else:
            self.previous = corrupt_mask(truth, other, rng)
            self.add_click(self.previous)

    def add_click(self, predicted: Bool[np.ndarray, "S S"]) -> None:
        """Adds a click in the largest error, if there is one."""
        click = next_click(self.truth, predicted, self.rng)
        self.clicks += [] if click is None else [click]

    def go_on(self, predicted: Bool[np.ndarray, "S S"]) -> None:
        """Adds a click and keeps the mask as the previous one, or sometimes an empty mask instead."""
        self.add_click(predicted)
        self.previous = predicted if self.rng.random() < 0.85 else np.zeros_like(predicted)

    def planes(self) -> Float[np.ndarray, "2 S S"]:
        """Returns the previous mask and the inside of the box."""
        inside = np.zeros(self.truth.shape, np.float32)
        if self.box is not None:
            x, y, width, height = self.box
            inside[y : y + height, x : x + width] = 1
        return np.stack((self.previous.astype(np.float32), inside))


class ClickRounds(nn.Module):
    """Predicts masks in several rounds of clicks on a batch of objects."""

    def __init__(self, head: ClickHead, rounds: int) -> None:
        super().__init__()
        self.head, self.rounds = head, rounds

    def forward(
        self, image: Tensor, features: tuple[Tensor, Tensor, Tensor], sequences: Sequence[ClickSequence]
    ) -> Tensor:
        """Returns the logits [rounds N S S] of N objects, the same number for each image."""
        prepared: PreparedFrame = self.head.prepare(image, *features).repeat(len(sequences) // len(image))
        rounds: list[Tensor] = []
        for number in range(self.rounds):
            if number:
                masks = (rounds[-1].detach() > 0).cpu().numpy()
                for sequence, mask in zip(sequences, masks, strict=True):
                    sequence.go_on(mask)
            planes = torch.from_numpy(np.stack([sequence.planes() for sequence in sequences])).to(image.device)
            clicks = pad_clicks([sequence.clicks for sequence in sequences]).to(image.device)
            rounds.append(self.head(prepared, clicks, F.avg_pool2d(planes, 4)))
        return torch.stack(rounds)


def pad_clicks(clicks: Sequence[Sequence[Click]]) -> Float[Tensor, "B N 3"]:
    """Returns the clicks of several objects as one tensor, padded with clicks of sign 0."""
    longest = max(1, *map(len, clicks))
    rows = [[*map(tuple, each), *[(0, 0, 0)] * (longest - len(each))] for each in clicks]
    return torch.tensor(rows, dtype=torch.float32)


class ClickTraining(TrainingRun[ClickReport]):
    """A run that trains a click head, new or resumed from `out/latest.safetensors`.

    Args:
        fabric: launched Fabric with one process.
        recipe: all hyper-parameters.
        pictures: pictures to click on.
        model: network with the key encoder that the head is for; it is not changed.
        out: folder of the run: `latest.safetensors`, `log.jsonl` and, with each save, `clicks.safetensors`.
        minutes: time after which the run saves and stops; None trains to the end.
        start: head to start from, which may have been trained for another key encoder; None for a new one.

    Raises:
        InputError: `out` contains a run with other settings, or `start` reads features of other widths.
        CheckpointError: the run in `out` is damaged.
    """

    def __init__(
        self,
        fabric: Fabric,
        recipe: ClickRecipe,
        pictures: ClickPictures,
        model: STCN,
        out: Path,
        minutes: float | None = None,
        start: ClickHead | None = None,
    ) -> None:
        self.recipe, self.pictures, self.model = recipe, pictures, model
        self.key_encoder = key_encoder_id(model)
        torch.manual_seed(recipe.seed)
        self.head = _new_head(model, start).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.AdamW(
            self.head.parameters(),
            recipe.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=recipe.weight_decay,
            fused=can_fuse(fabric),
        )
        begins_with = "random numbers" if start is None else sha256_of(start.state_dict(), torch.float32)[:16]
        super().__init__(
            fabric,
            recipe,
            out,
            network=self.head,
            trained=dict(self.head.named_parameters()),
            module=ClickRounds(self.head, recipe.rounds),
            optimizer=optimizer,
            minutes=minutes,
            fixed={"head": repr(self.head.config), "key encoder": self.key_encoder, "first weights": begins_with},
        )
        self.schedule = Cosine(warm_up=50)
        self._recent: list[tuple[float, tuple[float, ...]]] = []

    def advance(self) -> None:
        """Performs one update of the weights."""
        self._recent.append(self.train_step())

    def report(self, per_second: float) -> ClickReport:
        """Returns the mean of the steps since the last report."""
        losses, ious = zip(*self._recent, strict=True)
        self._recent.clear()
        return ClickReport(self.step, float(np.mean(losses)), tuple(np.mean(ious, 0).round(4).tolist()), per_second)

    def train_step(self) -> tuple[float, tuple[float, ...]]:
        """Performs one update of the weights; returns its loss and the mean IoU after each round."""
        recipe = self.recipe
        crops, rngs = self._draw()
        sequences = [
            ClickSequence(truth, crop.truths[1 - row], rng)
            for crop, rng in zip(crops, rngs, strict=True)
            for row, truth in enumerate(crop.truths)
        ]
        images = torch.from_numpy(np.stack([crop.image for crop in crops])).to(self.fabric.device)
        normal = normalize(images.movedim(-1, 1)).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            features = self.model.encode_key(normal.to(self.model.dtype))
        at_strides = (features.stride4, features.stride8, features.stride16)
        logits = self.module(normal, at_strides, sequences)
        truths = torch.from_numpy(np.stack([sequence.truth for sequence in sequences])).to(self.fabric.device)
        flat, labels = logits.float().flatten(0, 1), truths.long().repeat(recipe.rounds, 1, 1)
        probs = torch.sigmoid(flat)[:, None]
        there = torch.ones(len(labels), 1, dtype=torch.bool, device=labels.device)
        # The background's plane is not used.
        loss = normalized_focal(flat, labels) + soft_dice(probs.expand(-1, 2, -1, -1), labels, there)
        self.fabric.backward(loss)
        self.update_weights(recipe.clip_norm, self.schedule.rate(self.step, recipe.steps))
        masks = (logits.detach() > 0).cpu().numpy()
        ious = tuple(
            float(np.mean([iou(sequence.truth, mask) for sequence, mask in zip(sequences, each, strict=True)]))
            for each in masks
        )
        return float(loss.detach()), ious

    def averaged_head(self) -> ClickHead:
        """Returns a copy of the head with the averaged weights."""
        head = ClickHead(self.head.config)
        head.load_state_dict(self.average.weights)
        return head.to(self.fabric.device, memory_format=torch.channels_last).eval().requires_grad_(False)  # type: ignore[call-overload, no-any-return]

    def save(self) -> None:
        """Saves the current state of the run, and the averaged head as `clicks.safetensors`.

        Raises:
            InputError: the weights are no longer finite; the previous files are kept.
            OutputError: a file cannot be written.
        """
        super().save()
        note = f"{self.step} steps of {self.recipe.batch} pictures, seed {self.recipe.seed}"
        save_click_head(self.averaged_head(), self.key_encoder, self.out / "clicks.safetensors", note=note)

    def _draw(self) -> tuple[list[ClickCrop], list[np.random.Generator]]:
        """Returns this step's crops and the generators of their clicks, which depend on the step alone."""
        recipe, size = self.recipe, self.recipe.size(self.step)
        numbers = range(self.step * recipe.batch, (self.step + 1) * recipe.batch)
        rngs = [np.random.default_rng((CROPS, recipe.seed, number)) for number in numbers]
        return [self.pictures.draw(rng, size) for rng in rngs], rngs


def _new_head(model: STCN, start: ClickHead | None) -> ClickHead:
    """Returns a head for the features of a model's key encoder, with the weights of `start` if given."""
    widths = tuple(model.key_encoder.out_channels)
    if start is None:
        return ClickHead(ClickHeadConfig(widths))  # type: ignore[arg-type]
    if start.config.features != widths:
        raise InputError(
            f"the head to start from reads features of {start.config.features} channels, but the model has {widths}",
            "start without --weights",
        )
    head = ClickHead(start.config)
    head.load_state_dict(start.state_dict())
    return head
