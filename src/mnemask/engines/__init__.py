"""Engines that compute the network: plain torch, or parts that are compiled for it."""

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
ON_CPU = ("int8", "int8-all")  # on the CPU in float32, unless specified otherwise


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
            mnemask, or an unmodified published STCN file (stcn.pth, s03, s012, or a stage-0 file with 4 input
            channels).
        device: "cpu", "cuda", "mps", …; by default CUDA if available.
        dtype: the precision of the convolutions; by default `$MNEMASK_PRECISION`, else bfloat16 if the processor
            supports it natively, else float16 on a CUDA GPU and float32 elsewhere. Keys and distances are always
            float32.
        engine: "eager" for plain torch; "compile", "int8" or "int8-all", which are built once for each frame size and
            number of objects. The last two need a CPU and float32, which are then the defaults, and their masks
            differ a little (docs/speed.md).

    Raises:
        CheckpointError: if the file is missing, damaged, foreign, or carries code; tensors that do not fit are named.
        InputError: if there is no such device, precision or engine, or the engine does not support this device in
            this precision.
        MissingExtraError: if a package that the engine needs is not installed.
    """
    if engine not in ENGINES:
        raise InputError(f"engine {engine!r} is unknown", f"choose one of {', '.join(ENGINES)}")
    if engine in ON_CPU:
        device, dtype = device or "cpu", dtype or torch.float32
    return ENGINES[engine](checkpoints.load_model(name, device=device, dtype=dtype))
