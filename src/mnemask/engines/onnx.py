"""Exports the network and a memory of fixed capacity as ONNX files, which run without PyTorch.

The exported graphs are the tracker's steps as modules of fixed shapes with plain arrays as inputs. The shapes are those
of the legend in `mnemask.memory.tokens`; Hp and Wp are the padded sides of the frame.
"""

import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from mnemask.config import TrackerConfig
from mnemask.engines.fixed_shapes import quiet_compilers
from mnemask.engines.parts import DecodePart, KeyPart, ValuePart
from mnemask.errors import InputError, OutputError, missing_extra
from mnemask.io.atomic import replacing, write_file
from mnemask.memory.read import KMNKernel, affinity, key_energy
from mnemask.model import preprocess
from mnemask.model.checkpoints import fingerprint
from mnemask.model.stcn import STCN, STRIDE, soft_aggregate
from mnemask.types import describe
from mnemask.version import __version__


def prepared(frame: UInt8[Tensor, "H W 3"]) -> Float[Tensor, "1 3 Hp Wp"]:
    """Returns a frame as the network's input."""
    return preprocess.pad(preprocess.normalize(frame.movedim(2, 0)))[None]


class KeyGraph(nn.Module):
    """Encodes a frame: its keys, and the features for `DecodeGraph` and `ValueGraph`."""

    outputs = ("key", "compressed", "stride16", "stride8", "stride4")

    def __init__(self, network: STCN) -> None:
        super().__init__()
        self.part = KeyPart(network)

    def forward(self, frame: UInt8[Tensor, "H W 3"]) -> tuple[Float[Tensor, "P Ck"], Tensor, Tensor, Tensor, Tensor]:
        """Returns the keys, and the inputs of the other graphs."""
        key, *features = self.part(prepared(frame))
        compressed, stride16, stride8, stride4 = features
        return preprocess.cells(key[0]), compressed, stride16, stride8, stride4


class ReadGraph(nn.Module):
    """Reads a memory of fixed capacity, of which the first `length` tokens are written."""

    outputs = ("readout", "index", "weight")

    def __init__(self, top_k: int, kernel: KMNKernel | None) -> None:
        super().__init__()
        self.top_k, self.kernel = top_k, kernel

    def forward(
        self,
        query_key: Float[Tensor, "P Ck"],
        memory_key: Float[Tensor, "N Ck"],
        memory_value: Float[Tensor, "K N Cv"],
        length: Int64[Tensor, ""],
    ) -> tuple[Float[Tensor, "K P Cv"], Int64[Tensor, "P k"], Float[Tensor, "P k"]]:
        """Returns each query's readout for each object, with the tokens that it comes from and their weights."""
        alike = affinity(query_key, memory_key, key_energy(memory_key))
        if self.kernel is not None:
            place = self.kernel.of_memories(query_key, memory_key, "l2")
            alike = alike + self.kernel.of_queries(query_key) @ place.T
        unwritten = torch.arange(memory_key.shape[0]) >= length
        best, index = torch.topk(alike.masked_fill(unwritten, -torch.inf), self.top_k, dim=-1)
        weight = best.softmax(-1)
        chosen = memory_value.index_select(1, index.flatten()).unflatten(1, index.shape)  # [K P k Cv]
        return (weight[:, None] @ chosen).squeeze(2), index, weight


class DecodeGraph(nn.Module):
    """Decodes readouts to probabilities, background first, including the padding."""

    outputs = ("probs",)

    def __init__(self, network: STCN) -> None:
        super().__init__()
        self.part = DecodePart(network)

    def forward(
        self, readout: Float[Tensor, "K P Cv"], compressed: Tensor, stride8: Tensor, stride4: Tensor
    ) -> Float[Tensor, "K1 Hp Wp"]:
        """Returns probabilities that sum to 1."""
        cells = compressed.shape[2:]
        planes = readout.unflatten(1, cells).movedim(3, 1)[None]
        return soft_aggregate(self.part(planes, compressed, stride8, stride4)[0].sigmoid())


class ValueGraph(nn.Module):
    """Encodes a frame and its probabilities: the values to store."""

    outputs = ("value",)

    def __init__(self, network: STCN) -> None:
        super().__init__()
        self.part = ValuePart(network)

    def forward(
        self, frame: UInt8[Tensor, "H W 3"], stride16: Tensor, probs: Float[Tensor, "K1 Hp Wp"]
    ) -> Float[Tensor, "K P Cv"]:
        """Returns a value per object and cell."""
        return preprocess.cells(self.part(prepared(frame), stride16, probs[None, 1:])[0])


OPSET = 20
FORMAT = "mnemask-onnx-1"
MAX_SIDE, MAX_OBJECTS, MAX_FRAMES = 16_384, 64, 1_000


def export_onnx(
    model: STCN,
    folder: Path | str,
    config: TrackerConfig | None = None,
    *,
    size: tuple[int, int] = (480, 854),
    num_objects: int = 1,
    overwrite: bool = False,
) -> list[Path]:
    """Writes key.onnx, read.onnx, decode.onnx, value.onnx and network.json, and returns their paths.

    Args:
        model: the network, in float32 on the CPU, with the engine "eager".
        folder: the folder, created if missing.
        config: how the memory is read, and its capacity: a budget in frames, 1 or more. Which tokens are kept is up to
            the program that runs the graphs.
        size: height and width of the frames, which are processed at this size.
        num_objects: the number of objects, all of which are given in the first frame.
        overwrite: whether a folder that holds a network may be written to.

    Raises:
        InputError: if a size, number or setting cannot be exported, or the model is not in float32 on the CPU.
        OutputError: if the folder already holds a network, or cannot be written to.
        MissingExtraError: if onnx or onnxscript is not installed.
    """
    folder = Path(folder)
    config = (config or TrackerConfig()).filled(model.kmn_sigma)
    check_request(model, size, num_objects, config)
    check_installed()
    if not overwrite and (folder / "network.json").exists():
        raise OutputError(
            f"{str(folder)!r} already holds an exported network", "choose another folder, or overwrite it (--overwrite)"
        )
    facts = describe_export(model, size, num_objects, config)
    calls = example_calls(model, facts)
    taken = [path for name in calls if os.path.lexists(path := folder / f"{name}.onnx")]
    if taken and not overwrite:
        raise OutputError(f"{str(taken[0])!r} already exists", "choose another folder, or replace it (--overwrite)")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Written last: an interrupt may leave graphs of two networks, which are not an export.
        (folder / "network.json").unlink(missing_ok=True)
        written = [write_graph(folder / f"{name}.onnx", *of) for name, of in calls.items()]
        write_file(folder / "network.json", json.dumps(facts, indent=2) + "\n")
    except OSError as error:
        raise OutputError(f"cannot write to {str(folder)!r} ({error.strerror})", "give another folder") from error
    return [*written, folder / "network.json"]


def check_request(model: STCN, size: tuple[int, int], num_objects: int, config: TrackerConfig) -> None:
    """Raises InputError for a request that cannot be exported."""
    if model.device.type != "cpu" or model.dtype != torch.float32 or type(model) is not STCN:
        raise InputError(
            f"a {type(model).__name__} in {model.dtype} on {model.device} cannot be exported",
            "load it with device='cpu', dtype=torch.float32 and engine='eager'",
        )
    if not STRIDE <= min(size) <= max(size) <= MAX_SIDE:
        raise InputError(f"frames of {describe(size)} cannot be exported", f"give sides from {STRIDE} to {MAX_SIDE}")
    if not 1 <= num_objects <= MAX_OBJECTS:
        raise InputError(f"{num_objects} objects cannot be exported", f"give 1 to {MAX_OBJECTS}")
    budget = config.used_budget()
    if budget.frames is None or not 1 <= budget.frames <= MAX_FRAMES:
        raise InputError(f"a memory of {budget} cannot be exported", f"give 1 to {MAX_FRAMES} frames")
    if config.metric != "l2" or config.stride8_weight:
        raise InputError(
            f"the metric {config.metric} and stride8_weight {config.stride8_weight:g} cannot be exported",
            "give the metric l2, and stride8_weight 0",
        )


def check_installed() -> None:
    """Raises MissingExtraError unless the packages of the exporter are installed."""
    for name in ("onnx", "onnxscript"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise missing_extra(f"the export needs {name}", "export") from error


def describe_export(model: STCN, size: tuple[int, int], num_objects: int, config: TrackerConfig) -> dict[str, Any]:
    """Returns the content of network.json: all that a program needs to run the graphs."""
    left, right, top, bottom = preprocess.padding(size)
    rows, columns = (size[0] + top + bottom) // STRIDE, (size[1] + left + right) // STRIDE
    capacity = int((config.used_budget().frames or 0) * rows * columns)
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
        "top_k": min(config.top_k, capacity),
        "kmn_sigma": config.kmn_sigma,
        "key_channels": model.config.key_channels,
        "value_channels": model.config.value_channels,
    }


def example_calls(
    model: STCN, facts: Mapping[str, Any]
) -> dict[str, tuple[nn.Module, tuple[Tensor, ...], tuple[str, ...]]]:
    """Returns each graph by name, with inputs of the shapes to export and the names of its outputs."""
    num_objects, cells, capacity = facts["num_objects"], facts["cells"], facts["capacity"]
    height, width = facts["size"]
    pad = facts["padding"]
    frame = torch.zeros((height, width, 3), dtype=torch.uint8)
    key_graph = KeyGraph(model).eval()
    with torch.no_grad():
        key, compressed, stride16, stride8, stride4 = key_graph(frame)
    memory_key = torch.zeros((capacity, key.shape[1]))
    memory_value = torch.zeros((num_objects, capacity, model.config.value_channels))
    kernel = KMNKernel.from_sigma(facts["kmn_sigma"], tuple(facts["grid"]))
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
    """Writes one graph, atomically, and returns its path."""
    with quiet_compilers():
        program = torch.onnx.export(
            graph, inputs, output_names=outputs, opset_version=OPSET, dynamo=True, verbose=False
        )
    assert program is not None, "without a file name the exporter returns the program"
    with replacing(path) as partial:
        program.save(partial)
    return path
