"""What computes the network: torch as it is, or something that was built for it."""

from collections.abc import Callable
from pathlib import Path

import torch

from mnemask.errors import InputError
from mnemask.model import checkpoints
from mnemask.model.stcn import STCN


def _compiled(model: STCN) -> STCN:
    from mnemask.engines.fixed_shapes import Compiled

    return Compiled(model)


def _int8(model: STCN) -> STCN:
    from mnemask.engines.openvino import Int8

    return Int8(model)


def _int8_all(model: STCN) -> STCN:
    from mnemask.engines.openvino import Int8All

    return Int8All(model)


ENGINES: dict[str, Callable[[STCN], STCN]] = {
    "eager": lambda model: model,
    "compile": _compiled,
    "int8": _int8,
    "int8-all": _int8_all,
}
ON_CPU = ("int8", "int8-all")  # in float32, if nothing else is said


def load_model(
    name: str | Path = "compact",
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    engine: str = "eager",
) -> STCN:
    """Returns a network ready to track.

    Args:
        name: "compact", whose weights are part of the package, or the path of a checkpoint: a safetensors file of
            mnemask, or a published STCN file as it is (stcn.pth, s03, s012, or a stage-0 file with 4 input channels).
        device: "cpu", "cuda", "mps", …; by default CUDA where there is one.
        dtype: of the convolutions; by default `$MNEMASK_PRECISION`, else bfloat16 where the processor computes in it,
            else float32. Keys and distances are always float32.
        engine: what computes: "eager", torch as it is; "compile", "int8" or "int8-all", built once for each size of
            frames and number of objects. The masks of the last two differ a little (docs/speed.md).

    Raises:
        CheckpointError: if the file is missing, damaged, foreign, or carries code; every misfitting tensor is named.
        InputError: if there is no such device, precision or engine, or the engine cannot compute on this device in
            this precision.
        MissingExtraError: if what the engine needs is not installed.
    """
    if engine not in ENGINES:
        raise InputError(f"engine {engine!r} is unknown", f"choose one of {', '.join(ENGINES)}")
    if engine in ON_CPU:
        device, dtype = device or "cpu", dtype or torch.float32
    return ENGINES[engine](checkpoints.load_model(name, device=device, dtype=dtype))
