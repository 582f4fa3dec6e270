"""Training on the processors of one machine: a process per core, gradients averaged, checkpoints every few minutes."""

import json
import math
import os
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int64
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, distributed
from torch.multiprocessing.spawn import spawn
from torch.nn.functional import one_hot

from mnemask.datasets.composite import ClipRecipe, TrainingClip, TrainingClips
from mnemask.model.geometry import normalize
from mnemask.model.stcn import COMPACT, STCN
from mnemask.training.initial import initialise
from mnemask.training.losses import IGNORE, bootstrapped_cross_entropy, mean_iou, soft_dice
from mnemask.training.unroll import unroll

CHECKPOINT_SECONDS = 180


@dataclass(frozen=True, slots=True)
class Recipe:
    """Hyper-parameters of a run.

    Progress goes from 0 to 1 over `minutes` of training, however often it is interrupted.

    Attributes:
        minutes: length of the run.
        phases: (until this progress, side of the square crops in pixels).
        clips_per_process: clips in a step of each process.
        learning_rate: peak; of the key encoder and the value encoder's ResNet a part of it.
        bootstrap_from: progress at which the loss begins to leave out easy pixels.
        bootstrap_to: progress at which only `hardest` of them are left.
    """

    minutes: float = 100
    phases: tuple[tuple[float, int], ...] = ((0.35, 192), (0.7, 256), (1.0, 320))
    clips_per_process: int = 3
    learning_rate: float = 2e-4
    key_encoder_rate: float = 0.35
    value_encoder_rate: float = 0.7
    weight_decay: float = 1e-4
    warm_up_steps: int = 60
    final_rate: float = 0.02
    clip_norm: float = 2.0
    bootstrap_from: float = 0.15
    bootstrap_to: float = 0.55
    hardest: float = 0.2
    dice: float = 0.5
    seed: int = 0

    def size(self, progress: int | float) -> int:
        """Returns the side of the crops in pixels."""
        return next(size for until, size in self.phases if progress < until or until == self.phases[-1][0])

    def rate(self, step: int, progress: int | float) -> float:
        """Returns the factor on the learning rate: warm-up, then a cosine down to `final_rate`."""
        cosine = self.final_rate + (1 - self.final_rate) * (1 + math.cos(math.pi * min(progress, 1))) / 2
        return min(1, (step + 1) / self.warm_up_steps) * cosine

    def hard_fraction(self, progress: int | float) -> float:
        """Returns the fraction of pixels that the loss counts."""
        ramp = (progress - self.bootstrap_from) / (self.bootstrap_to - self.bootstrap_from)
        return 1 - min(max(ramp, 0), 1) * (1 - self.hardest)


class ClipBatches:
    """Batches of clips that have equally many objects: nothing is computed for objects that are not there."""

    def __init__(self, data: Path, recipe: Recipe, seed: int) -> None:
        self.clips = TrainingClips(data, ClipRecipe(size=recipe.phases[0][1]), seed=seed)
        self.clips_per_batch = recipe.clips_per_process
        self.drawn = 0
        self._waiting: dict[int, list[TrainingClip]] = {}

    def next(self, size: int) -> list[TrainingClip]:
        """Returns the next batch of clips with `size` pixels a side."""
        if size != self.clips.recipe.size:
            self.clips.recipe = replace(self.clips.recipe, size=size)
            self._waiting.clear()
        while True:
            clip = self.clips[self.drawn]
            self.drawn += 1
            group = self._waiting.setdefault(clip.num_objects, [])
            group.append(clip)
            if len(group) == self.clips_per_batch:
                return self._waiting.pop(clip.num_objects)


def collate(
    clips: list[TrainingClip],
) -> tuple[Float[Tensor, "B T 3 H W"], Int64[Tensor, "B T H W"], Float[Tensor, "B K H W"]]:
    """Returns normalised frames, labels and the first masks of clips with equally many objects."""
    frames = normalize(torch.from_numpy(np.stack([clip.frames for clip in clips])).movedim(-1, 2))
    labels = torch.from_numpy(np.stack([clip.labels for clip in clips])).long()
    first = labels[:, 0].where(labels[:, 0] != IGNORE, labels.new_zeros(()))
    masks = one_hot(first, clips[0].num_objects + 1).movedim(-1, 1)[:, 1:].float()
    return frames, labels, masks


class Training:
    """A run on one process of `world`; `run` trains until the recipe's minutes are over."""

    def __init__(self, recipe: Recipe, data: Path, imagenet: Path, out: Path, rank: int, world: int) -> None:
        self.recipe, self.out, self.rank, self.world = recipe, out, rank, world
        torch.manual_seed(recipe.seed)
        self.model = STCN(COMPACT)
        initialise(self.model, imagenet)
        self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model.key_encoder.conv1.requires_grad_(False)
        self.model.key_encoder.layer1.requires_grad_(False)
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self._groups(), weight_decay=recipe.weight_decay)
        self.step, self.seconds = 0, 0.0
        if (out / "latest.safetensors").exists():
            self.load()
        # Another seed after a restart: clips already seen do not come again.
        self.batches = ClipBatches(data, recipe, seed=recipe.seed + world * self.step * 100 + rank)

    def _groups(self) -> list[dict[str, object]]:
        recipe, groups = self.recipe, []
        parts = (
            (self.model.key_encoder, recipe.key_encoder_rate),
            (self.model.value_encoder.resnet, recipe.value_encoder_rate),
        )
        slow = {id(parameter) for part, _ in parts for parameter in part.parameters()}
        for part, factor in parts:
            trained = [parameter for parameter in part.parameters() if parameter.requires_grad]
            groups.append({"params": trained, "factor": factor})
        groups.append({"params": [p for p in self.parameters if id(p) not in slow], "factor": 1.0})
        return groups

    def run(self) -> None:
        """Trains to the end, leaving `latest.safetensors`, `log.jsonl` and, last, `model.safetensors` in `out`."""
        saved = last = time.monotonic()
        while (progress := self.seconds / 60 / self.recipe.minutes) < 1:
            entry = self.train_step(progress)
            now = time.monotonic()
            # All processes must agree on the progress, or they would draw different sizes and stop at different steps.
            self.seconds = self._mean(self.seconds + now - last)
            last = now
            self.step += 1
            if self.rank == 0:
                entry |= {"step": self.step, "minutes": round(self.seconds / 60, 3), "size": self.recipe.size(progress)}
                with (self.out / "log.jsonl").open("a") as log:
                    log.write(json.dumps(entry) + "\n")
                if now - saved > CHECKPOINT_SECONDS:
                    self.save()
                    saved = now
        if self.rank == 0:
            self.save()
            write_atomically(self.out / "model.safetensors", self.model.state_dict(), {"recipe": str(self.recipe)})

    def train_step(self, progress: int | float) -> dict[str, float]:
        """Does one step of the optimizer; returns what the log keeps of it."""
        recipe = self.recipe
        frames, labels, masks = collate(self.batches.next(recipe.size(progress)))
        probs = unroll(self.model, frames, masks).flatten(0, 1)
        truth = labels[:, 1:].flatten(0, 1)
        loss = bootstrapped_cross_entropy(probs, truth, recipe.hard_fraction(progress))
        loss = loss + recipe.dice * soft_dice(probs, truth)
        self.optimizer.zero_grad()
        loss.backward()
        norm = self._share_gradients()
        rate = recipe.rate(self.step, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.learning_rate * rate * group["factor"]
        self.optimizer.step()
        return {"loss": float(loss.detach()), "iou": mean_iou(probs, truth), "norm": norm, "objects": masks.shape[1]}

    def _share_gradients(self) -> float:
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.parameters]
        if self.world > 1:
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            distributed.all_reduce(flat)
            flat /= self.world
            for parameter, part in zip(self.parameters, flat.split([p.numel() for p in self.parameters]), strict=True):
                parameter.grad = part.view_as(parameter)
        return float(torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip_norm))

    def _mean(self, value: float) -> float:
        if self.world == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64)
        distributed.all_reduce(tensor)
        return float(tensor / self.world)

    def save(self) -> None:
        """Writes model and optimizer, atomically."""
        state = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for index, parameter in enumerate(p for group in self.optimizer.param_groups for p in group["params"]):
            for name, value in self.optimizer.state[parameter].items():
                state[f"optimizer.{index}.{name}"] = value
        progress = {"step": str(self.step), "seconds": str(self.seconds), "recipe": json.dumps(asdict(self.recipe))}
        write_atomically(self.out / "latest.safetensors", state, progress)

    def load(self) -> None:
        """Continues from `latest.safetensors`."""
        with safe_open(self.out / "latest.safetensors", "pt") as file:
            progress = file.metadata()
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        self.step, self.seconds = int(progress["step"]), float(progress["seconds"])
        self.model.load_state_dict({n.removeprefix("model."): v for n, v in state.items() if n.startswith("model.")})
        for index, parameter in enumerate(p for group in self.optimizer.param_groups for p in group["params"]):
            prefix = f"optimizer.{index}."
            self.optimizer.state[parameter] = {
                name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
            }


def write_atomically(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Writes a safetensors file that is there whole or not at all."""
    temporary = path.with_suffix(".tmp")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata)
    temporary.replace(path)


def end_with_parent(parent: int) -> None:
    """Ends this process when its parent is gone, so that a run that was killed leaves nothing that goes on."""
    while os.getppid() == parent:
        time.sleep(2)
    os._exit(1)


def train_process(rank: int, world: int, recipe: Recipe, data: Path, imagenet: Path, out: Path) -> None:
    """Runs one of `world` processes; each has one thread, for two threads slow down when anything else runs."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
    if world > 1:
        store = distributed.FileStore(  # type: ignore[attr-defined]
            str(out / f"rendezvous.{os.getppid()}"), world
        )
        distributed.init_process_group("gloo", store=store, rank=rank, world_size=world)
    Training(recipe, data, imagenet, out, rank, world).run()


def train(recipe: Recipe, data: Path, imagenet: Path, out: Path, processes: int = 2) -> None:
    """Trains the compact model and leaves `model.safetensors` in `out`; continues if `out` holds an unfinished run.

    Args:
        recipe: hyper-parameters.
        data: folder that holds `static/` and `video/`.
        imagenet: ResNet-18 weights, safetensors.
        out: folder of the run.
        processes: how many; one per core.
    """
    out.mkdir(parents=True, exist_ok=True)
    spawn(train_process, (processes, recipe, data, imagenet, out), nprocs=processes)
