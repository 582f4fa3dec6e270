"""The checkpoint of a run in one file: weights, their average, the optimizer's moments and the progress."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mnemask.errors import CheckpointError, OutputError, printable
from mnemask.io.atomic import replacing, write_file
from mnemask.io.utf8_path import utf8_path
from mnemask.model.checkpoints import check_state, save_tensors

FORMAT = "mnemask-run-1"


@dataclass(frozen=True, slots=True)
class TrainingState:
    """Progress of a run.

    Attributes:
        step: number of completed steps.
        seconds: time spent on them, over all starts of the run.
        settings: the run's settings, as text by name; a run is resumed only with the same ones.
        precision: state of the gradient scaler, empty except for float16.
    """

    step: int
    seconds: float
    settings: Mapping[str, str]
    precision: Mapping[str, float]


def save_run(
    path: Path, model: nn.Module, average: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, done: TrainingState
) -> None:
    """Writes a run atomically and durably: the file is complete or absent, and once written survives a power failure.

    Raises:
        OutputError: the file cannot be written.
    """
    tensors = _tensors(model, average, optimizer)
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    metadata = {
        "format": FORMAT,
        "checksum": _checksum(tensors),
        "step": str(done.step),
        "seconds": repr(done.seconds),
        "settings": json.dumps(dict(done.settings)),
        "precision": json.dumps(dict(done.precision)),
    }
    try:
        with replacing(path, durable=True) as partial:
            save_tensors(partial, tensors, metadata)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"the run cannot be saved to {str(path)!r} ({error})", "make room there, or make it writable"
        ) from error


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def is_finite(model: nn.Module, average: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> bool:
    """Returns whether all numbers of a run are finite; otherwise it could not be resumed."""
    return all(bool(torch.isfinite(value).all()) for value in _tensors(model, average, optimizer).values())


def _tensors(model: nn.Module, average: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Returns weights, their average and the optimizer's moments, by their names in the file."""
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"average/{name}": value for name, value in average.items()}
    for name, parameter in model.named_parameters():
        tensors |= {f"optimizer/{name}/{key}": value for key, value in optimizer.state.get(parameter, {}).items()}
    return tensors


def load_run(
    path: Path, model: nn.Module, average: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> TrainingState:
    """Loads a saved run into its model, average and optimizer, in place, and returns its progress.

    Raises:
        CheckpointError: the file is damaged or not a run of this model.
    """
    try:
        with utf8_path(path) as name, safe_open(name, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        reason = printable(str(error), 120)
        raise CheckpointError(f"the run in {str(path)!r} cannot be read ({reason})", "start a new run") from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{str(path)!r} is not a saved run of mnemask ({FORMAT})", "start a new run")
    if "checksum" in metadata and metadata["checksum"] != _checksum(tensors):
        raise CheckpointError(
            f"the run in {str(path)!r} is damaged: its content does not match its checksum", "start a new run"
        )
    weights = {name.removeprefix("model/"): value for name, value in tensors.items() if name.startswith("model/")}
    check_state(model, weights, str(path))
    model.load_state_dict(weights)
    averaged = {name: value for name, value in tensors.items() if name.startswith("average/")}
    if {name: value.shape for name, value in averaged.items()} != {
        f"average/{name}": value.shape for name, value in average.items()
    }:
        raise CheckpointError(f"the run in {str(path)!r} trained other parts of the network", "start a new run")
    _check_moments(path, model, tensors)
    done = _done(path, metadata)
    for name, value in average.items():
        value.copy_(averaged[f"average/{name}"])
    for name, parameter in model.named_parameters():
        prefix = f"optimizer/{name}/"
        moments = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if moments:
            # Adam counts its steps on the CPU; fused Adam needs the moments in the memory layout of the weights.
            optimizer.state[parameter] = {
                key: value if key == "step" else torch.empty_like(parameter).copy_(value)
                for key, value in moments.items()
            }
    return done


def _check_moments(path: Path, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Raises CheckpointError unless the tensors are finite and the optimizer's moments match the parameters.

    A parameter has all of Adam's moments, or none if it has not been updated yet.
    """
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    for name, value in tensors.items():
        part, _, rest = name.partition("/")
        parameter, _, key = rest.rpartition("/") if part == "optimizer" else (rest, "", "")
        moments = {f"optimizer/{parameter}/{each}" for each in ("step", "exp_avg", "exp_avg_sq")}
        fits = part in ("model", "average") or (
            parameter in shapes
            and name in moments
            and moments <= set(tensors)
            and value.shape == (() if key == "step" else shapes[parameter])
        )
        if not (fits and value.is_floating_point() and bool(torch.isfinite(value).all())):
            raise CheckpointError(
                f"the run in {str(path)!r} is damaged at {name[:120]!r} ({value.dtype}, {tuple(value.shape)})",
                "start a new run",
            )


def _done(path: Path, metadata: Mapping[str, str]) -> TrainingState:
    """Returns the progress of the run; raises CheckpointError if its file does not contain it."""
    try:
        step, seconds = int(metadata["step"]), float(metadata["seconds"])
        settings, precision = json.loads(metadata["settings"]), json.loads(metadata["precision"])
    except (KeyError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"the run in {str(path)!r} does not state its progress ({type(error).__name__})", "start a new run"
        ) from error
    if step < 0 or not 0 <= seconds < math.inf or not isinstance(settings, dict) or not isinstance(precision, dict):
        raise CheckpointError(f"the run in {str(path)!r} states {step} steps in {seconds} s", "start a new run")
    return TrainingState(step, seconds, settings, precision)


def forget_after(log: Path, step: int) -> None:
    """Removes the lines of a log that a run resumed at `step` will write again."""
    lines = log.read_bytes().splitlines()
    write_file(log, b"".join(line + b"\n" for line in lines if 0 <= _step_of(line) <= step))


def has_step(log: Path, step: int) -> bool:
    """Returns whether a log exists and has a line of a step."""
    return log.exists() and any(_step_of(line) == step for line in log.read_bytes().splitlines())


def _step_of(line: bytes) -> int:
    """Returns the step of a log line; -1 for a line left incomplete by a killed run."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return -1
