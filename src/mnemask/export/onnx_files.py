"""The network and a memory of fixed room as ONNX files, to be run without PyTorch."""

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mnemask.engines.quiet import quiet_compilers
from mnemask.errors import InputError, OutputError
from mnemask.export.graphs import DecodeGraph, KeyGraph, ReadGraph, ValueGraph
from mnemask.extras import missing_extra
from mnemask.memory.read import Kernel, chosen_kernel
from mnemask.model import geometry
from mnemask.model.checkpoints import fingerprint
from mnemask.model.stcn import STCN, STRIDE
from mnemask.types import describe
from mnemask.version import __version__
from mnemask.video.files import partial_file, write_whole

OPSET = 20
FORMAT = "mnemask-onnx-1"
MAX_SIDE, MAX_OBJECTS, MAX_FRAMES = 16_384, 64, 1_000


def export_onnx(
    model: STCN,
    folder: Path | str,
    *,
    size: tuple[int, int] = (480, 854),
    num_objects: int = 1,
    frames: int | float = 2,
    top_k: int = 20,
    kernel: int | float | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Writes key.onnx, read.onnx, decode.onnx, value.onnx and network.json, and returns their paths.

    Args:
        model: in float32 on the CPU, of the engine "eager".
        folder: made if missing.
        size: height and width of the frames, which are processed as they are.
        num_objects: all of them are given in the first frame.
        frames: room of the memory, in frames' worth of tokens, 1 or more.
        top_k: memories read per query.
        kernel: how far from where it fits best a memory is read, see `Tracker`; None for the model's own.
        overwrite: whether a folder that holds a network may be written to.

    Raises:
        InputError: a size or number that is impossible, or a model that is not in float32 on the CPU.
        OutputError: the folder holds a network already, or cannot be written to.
        MissingExtraError: onnx or onnxscript are not installed.
    """
    folder = Path(folder)
    kernel = chosen_kernel(kernel, model.kernel)
    check_request(model, size, num_objects, frames, top_k)
    check_installed()
    if not overwrite and (folder / "network.json").exists():
        raise OutputError(
            f"{str(folder)!r} already holds an exported network; choose another folder, or overwrite it (--overwrite)"
        )
    facts = describe_export(model, size, num_objects, frames, top_k, kernel)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Written last: graphs of two networks side by side, as an interrupt may leave them, are none.
        (folder / "network.json").unlink(missing_ok=True)
        written = [write_graph(folder / f"{name}.onnx", *of) for name, of in example_calls(model, facts).items()]
        write_whole(folder / "network.json", (json.dumps(facts, indent=2) + "\n").encode())
    except OSError as error:
        raise OutputError(f"cannot write to {str(folder)!r} ({error.strerror}); give another folder") from error
    return [*written, folder / "network.json"]


def check_request(model: STCN, size: tuple[int, int], num_objects: int, frames: int | float, top_k: int) -> None:
    """Raises InputError for what cannot be exported."""
    if model.device.type != "cpu" or model.dtype != torch.float32 or type(model) is not STCN:
        raise InputError(
            f"a {type(model).__name__} in {model.dtype} on {model.device} cannot be exported; load it with "
            "device='cpu', dtype=torch.float32 and engine='eager'"
        )
    if not STRIDE <= min(size) <= max(size) <= MAX_SIDE:
        raise InputError(f"frames of {describe(size)} cannot be exported; give sides from {STRIDE} to {MAX_SIDE}")
    if not 1 <= num_objects <= MAX_OBJECTS:
        raise InputError(f"{num_objects} objects cannot be exported; give 1 to {MAX_OBJECTS}")
    if not 1 <= frames <= MAX_FRAMES:
        raise InputError(f"a memory of {frames} frames cannot be exported; give 1 to {MAX_FRAMES}")
    if top_k < 1:
        raise InputError(f"top_k is {top_k}; give a whole number from 1, such as 20")


def check_installed() -> None:
    """Raises MissingExtraError unless the exporter is there."""
    for name in ("onnx", "onnxscript"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise missing_extra(f"the export needs {name}", "export") from error


def describe_export(
    model: STCN, size: tuple[int, int], num_objects: int, frames: int | float, top_k: int, kernel: int | float
) -> dict[str, Any]:
    """Returns what network.json says: all that whoever runs the graphs must know."""
    left, right, top, bottom = geometry.padding(size)
    rows, columns = (size[0] + top + bottom) // STRIDE, (size[1] + left + right) // STRIDE
    capacity = int(frames * rows * columns)
    return {
        "format": FORMAT,
        "mnemask": __version__,
        "network": fingerprint(model),
        "opset": OPSET,
        "size": list(size),
        "padding": {"left": left, "right": right, "top": top, "bottom": bottom},
        "num_objects": num_objects,
        "grid": [rows, columns],
        "cells": rows * columns,
        "capacity": capacity,
        "top_k": min(top_k, capacity),
        "kernel": kernel,
        "key_channels": model.config.key_channels,
        "value_channels": model.config.value_channels,
    }


def example_calls(
    model: STCN, facts: Mapping[str, Any]
) -> dict[str, tuple[nn.Module, tuple[Tensor, ...], tuple[str, ...]]]:
    """Returns each graph by name, with inputs of the shapes it is exported for and the names of its outputs."""
    num_objects, cells, capacity = facts["num_objects"], facts["cells"], facts["capacity"]
    height, width = facts["size"]
    pad = facts["padding"]
    frame = torch.zeros((height, width, 3), dtype=torch.uint8)
    key_graph = KeyGraph(model).eval()
    with torch.no_grad():
        key, compressed, stride16, stride8, stride4 = key_graph(frame)
    memory_key = torch.zeros((capacity, key.shape[1]))
    memory_value = torch.zeros((num_objects, capacity, model.config.value_channels))
    kernel = Kernel.of_share(facts["kernel"], tuple(facts["grid"]))
    readout = torch.zeros((num_objects, cells, model.config.value_channels))
    probs = torch.zeros((num_objects + 1, height + pad["top"] + pad["bottom"], width + pad["left"] + pad["right"]))
    return {
        "key": (key_graph, (frame,), KeyGraph.outputs),
        "read": (
            ReadGraph(facts["top_k"], kernel),
            (key, memory_key, memory_value, torch.tensor(cells)),
            ReadGraph.outputs,
        ),
        "decode": (DecodeGraph(model).eval(), (readout, compressed, stride8, stride4), DecodeGraph.outputs),
        "value": (ValueGraph(model).eval(), (frame, stride16, probs), ValueGraph.outputs),
    }


def write_graph(path: Path, graph: nn.Module, inputs: tuple[Tensor, ...], outputs: tuple[str, ...]) -> Path:
    """Writes one graph, whole or not at all, and returns its path."""
    with quiet_compilers():
        program = torch.onnx.export(
            graph, inputs, output_names=outputs, opset_version=OPSET, dynamo=True, verbose=False
        )
    assert program is not None, "without a file name the exporter returns the program"
    partial = partial_file(path)
    try:
        program.save(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path
