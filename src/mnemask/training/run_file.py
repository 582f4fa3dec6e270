"""A run between two sittings: weights, their average, the optimizer's moments and what has been done, in one file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mnemask.errors import CheckpointError, OutputError
from mnemask.model.checkpoints import check_state
from mnemask.model.stcn import STCN

FORMAT = "mnemask-run-1"


@dataclass(frozen=True, slots=True)
class Done:
    """How far a run has come.

    Attributes:
        step: steps done.
        seconds: spent on them, all sittings together.
        settings: each setting of the run, as text; a run goes on only with the same ones.
        precision: state of the gradient scaler, empty but for float16.
    """

    step: int
    seconds: float
    settings: Mapping[str, str]
    precision: Mapping[str, float]


def save_run(
    path: Path, model: STCN, average: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, done: Done
) -> None:
    """Writes a run, atomically: the file is there whole or not at all.

    Raises:
        OutputError: if the place cannot be written to.
    """
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"average/{name}": value for name, value in average.items()}
    for name, parameter in model.named_parameters():
        tensors |= {f"optimizer/{name}/{key}": value for key, value in optimizer.state.get(parameter, {}).items()}
    metadata = {
        "format": FORMAT,
        "step": str(done.step),
        "seconds": repr(done.seconds),
        "settings": json.dumps(dict(done.settings)),
        "precision": json.dumps(dict(done.precision)),
    }
    temporary = path.with_suffix(".tmp")
    try:
        save_file({name: value.detach().contiguous() for name, value in tensors.items()}, temporary, metadata)
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"the run cannot be saved to {str(path)!r} ({error}); make room there") from error


def load_run(path: Path, model: STCN, average: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> Done:
    """Puts a saved run back into its model, average and optimizer, in place.

    Raises:
        CheckpointError: the file is damaged or no run of this model.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"the run in {str(path)!r} cannot be read ({error}); start it afresh") from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{str(path)!r} is no saved run of mnemask ({FORMAT}); start the run afresh")
    weights = {name.removeprefix("model/"): value for name, value in tensors.items() if name.startswith("model/")}
    check_state(model, weights, str(path))
    model.load_state_dict(weights)
    averaged = {name.removeprefix("average/") for name in tensors if name.startswith("average/")}
    if averaged != set(average):
        raise CheckpointError(f"the run in {str(path)!r} trained other parts of the network; start it afresh")
    for name, value in average.items():
        value.copy_(tensors[f"average/{name}"])
    for name, parameter in model.named_parameters():
        prefix = f"optimizer/{name}/"
        moments = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if moments:
            # Adam counts its steps on the CPU; the moments lie where the weights are.
            optimizer.state[parameter] = {
                key: value if key == "step" else value.to(parameter, memory_format=torch.preserve_format)
                for key, value in moments.items()
            }
    return Done(
        int(metadata["step"]),
        float(metadata["seconds"]),
        json.loads(metadata["settings"]),
        json.loads(metadata["precision"]),
    )


def forget_after(log: Path, step: int) -> None:
    """Removes the lines of a log that a run taken up again at `step` will write anew."""
    if not log.exists():
        return
    lines = [line for line in log.read_text().splitlines() if json.loads(line)["step"] <= step]
    log.write_text("".join(f"{line}\n" for line in lines))
