"""Weights: where they are, how they are identified, and how they are loaded without executing code."""

import hashlib
import json
import mmap
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from mnemask.errors import CheckpointError, InputError, OutputError, listed, printable
from mnemask.io.atomic import replacing
from mnemask.io.utf8_path import utf8_path
from mnemask.model.devices import PRECISIONS, choose_device, isolated_torch_modes, preferred_dtype
from mnemask.model.resnet import fold_batch_norm
from mnemask.model.stcn import COMPACT, STCN, STCN_SIZE, STCNConfig


def read_pickled(path: Path) -> dict[str, Tensor]:
    """Returns the named tensors of a file that torch.save wrote; raises CheckpointError for anything else."""
    _refuse_bombs(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    # The restricted unpickler may raise any error for hostile or damaged bytes.
    except Exception as error:
        reason = printable(str(error) or type(error).__name__, 120)
        raise CheckpointError(
            f"weights {str(path)!r} cannot be read without executing code, or are damaged ({reason})",
            "give a plain state dict or a safetensors file",
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise CheckpointError(f"weights {str(path)!r} are not a state dict of named tensors", "save model.state_dict()")
    return state


def _refuse_bombs(path: Path) -> None:
    """Raises CheckpointError for a small file that would take a lot of memory.

    torch.save stores the parts of its archive uncompressed, while torch.load inflates compressed ones, of any size. And
    the restricted unpickler calls bytearray(n) for any n; no state dict needs that.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        try:
            claimed = sum(part.file_size for part in zipfile.ZipFile(file).infolist())
        except (zipfile.BadZipFile, ValueError, NotImplementedError):
            claimed = 0  # not an archive: an older file, or one that torch.load rejects
        if size and claimed <= size:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                if content.find(b"bytearray") < 0:
                    return
    raise CheckpointError(
        f"weights {str(path)!r} have {size} bytes and are empty, or would unpack to more, unlike those of a network "
        "(damaged, or a decompression bomb)",
        "fetch them again",
    )


SIZES = {"compact": COMPACT, "stcn": STCN_SIZE}
FORMAT = "mnemask-stcn-1"
# int64: BatchNorm's count of batches.
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64)
NAMED_FAULTS = 20
FIRST_CONVOLUTION = "value_encoder.resnet.conv1.weight"

# STCN's names (left) are the same as ours except for these prefixes.
STCN_NAMES = {
    "key_encoder.res2.": "key_encoder.layer1.",
    "key_proj.key_proj.": "key_projection.",
    "key_comp.": "key_compression.",
    "value_encoder.fuser.attention.ChannelGate.mlp.1.": "value_encoder.fuser.attention.squeeze.",
    "value_encoder.fuser.attention.ChannelGate.mlp.3.": "value_encoder.fuser.attention.excite.",
    "value_encoder.fuser.attention.SpatialGate.spatial.conv.": "value_encoder.fuser.attention.spatial.",
    "value_encoder.fuser.": "value_encoder.fuser.",
    "value_encoder.": "value_encoder.resnet.",
}


@isolated_torch_modes()
def load_model(
    name: str | Path = "compact", *, device: str | torch.device | None = None, dtype: torch.dtype | None = None
) -> STCN:
    """Returns a network ready to track, as the public `mnemask.load_model` does for the engine "eager"."""
    if not isinstance(name, str | Path):
        raise InputError(f"the weights are a {type(name).__name__}", 'give "compact" or the path of a checkpoint')
    chosen = choose_device(device)
    if dtype is not None and dtype not in (*PRECISIONS.values(), torch.float64):
        raise InputError(f"dtype is {dtype!r:.40}", "give torch.float32, torch.bfloat16 or torch.float16")
    packaged = packaged_weights(str(name))
    config, state = read_checkpoint(packaged or Path(name))
    with torch.device("meta"):
        model = STCN(config)
    model.path = None if packaged else Path(name)
    check_state(model, state, str(name))
    model.load_state_dict({key: value.float() for key, value in state.items()}, assign=True)
    content = content_of(model), _key_encoder_of(model)
    in_precision(model, chosen, dtype or preferred_dtype(chosen))
    _remember(model, *content)
    return model


def in_precision(model: STCN, device: torch.device, dtype: torch.dtype) -> STCN:
    """Moves a model to a device, ready to track, and returns it; all but the keys is then computed in `dtype`."""
    for name, part in model.named_children():
        part.to(device, torch.float32 if name == "key_projection" else dtype)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.eval().requires_grad_(False)


def packaged_weights(name: str) -> Path | None:
    """Returns the file of a named model, None if `name` is a path."""
    if name not in SIZES:
        return None
    path = Path(str(files("mnemask.model") / "weights" / f"{name}.safetensors"))
    if not path.exists():
        raise CheckpointError(
            f"model {name!r} has no weights in this package",
            "give the path of a checkpoint, such as a published file (stcn.pth) for stcn",
        )
    return path


def read_checkpoint(path: Path) -> tuple[STCNConfig, dict[str, Tensor]]:
    """Returns the network's sizes and its unchecked tensors, with our names and without BatchNorm."""
    metadata, state = read_tensors(path)
    if metadata.get("format") == FORMAT:
        return _read_config(metadata.get("config", ""), path), state
    return STCN_SIZE, from_stcn(state, path)


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Returns the metadata and the tensors of a safetensors file or a plain state dict, without executing code.

    Raises:
        CheckpointError: if there is no such file, or it holds anything else.
    """
    if not path.is_file():
        raise CheckpointError(
            f"weights {str(path)!r} are not a file", f"give one of {', '.join(SIZES)} or the path of a checkpoint"
        )
    with path.open("rb") as file:
        start = file.read(9)
    metadata: dict[str, str] = {}
    if start[8:] != b"{":
        state = read_pickled(path)
    else:
        try:
            with utf8_path(path) as name, safe_open(name, "pt") as weights:
                metadata = weights.metadata() or {}
                state = {key: weights.get_tensor(key) for key in weights.keys()}  # noqa: SIM118
        except SafetensorError as error:
            reason = printable(str(error), 120)
            raise CheckpointError(f"weights {str(path)!r} are damaged ({reason})", "fetch them again") from error
    _check_plain(state, path)
    return metadata, state


def _check_plain(state: Mapping[str, Tensor], path: Path) -> None:
    """Raises CheckpointError for tensors that torch can save but a network cannot have."""
    for name, value in state.items():
        if value.layout != torch.strided or value.is_nested or value.dtype not in DTYPES or value.device.type != "cpu":
            kind = f"{value.dtype}, {value.layout}, on {value.device}{', nested' if value.is_nested else ''}"
            raise CheckpointError(
                f"tensor {printable(name, 80)!r} of weights {str(path)!r} is {kind}",
                "save plain floating-point tensors",
            )


def _read_config(text: str, path: Path) -> STCNConfig:
    try:
        values = json.loads(text)
        return STCNConfig(**{**values, "decoder_channels": tuple(values["decoder_channels"])})
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(
            f"weights {str(path)!r} do not describe a network of mnemask ({printable(str(error), 200)}): "
            f"{printable(text, 200)!r}",
            "write them with save_model",
        ) from error


def from_stcn(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Returns a published STCN state dict with our names, BatchNorm folded, and 4 input channels extended to 5.

    Stage-0 files have no channel for other objects; STCN's own evaluation gives that channel zero weights.
    """
    if "key_comp.weight" not in state:
        raise CheckpointError(
            f"weights {str(path)!r} hold {len(state)} tensors such as {printable(next(iter(state), 'none'), 80)!r} but "
            f"no key_comp.weight, so they are neither mnemask's (format {FORMAT}) nor STCN's",
            "give a file written by mnemask or a published STCN checkpoint",
        )
    try:
        folded = fold_batch_norm(state)
    except CheckpointError as error:
        raise CheckpointError(
            f"weights {str(path)!r} cannot be used: {printable(error.problem, 400)}", error.remedy
        ) from error
    renamed = {}
    for name, value in folded.items():
        if not name.endswith("num_batches_tracked"):
            prefix = next((prefix for prefix in STCN_NAMES if name.startswith(prefix)), "")
            renamed[STCN_NAMES.get(prefix, "") + name.removeprefix(prefix)] = value
    return with_others_channel(renamed)


def with_others_channel(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns a state dict with the channel of other objects' masks; its weights are zero if it was missing."""
    first = state.get(FIRST_CONVOLUTION)
    if first is None or first.ndim != 4 or first.shape[1] != 4:
        return dict(state)
    return {**state, FIRST_CONVOLUTION: torch.cat((first, torch.zeros_like(first[:, :1])), dim=1)}


def check_state(model: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Raises CheckpointError, naming the first tensors that are missing, unexpected, of wrong shape or not finite."""
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in state.items()}
    faults = [f"missing {key} {shape}" for key, shape in expected.items() if key not in found]
    faults += [f"unexpected {printable(key, 80)} {shape}" for key, shape in found.items() if key not in expected]
    faults += [
        f"{key} is {found[key]}, expected {shape}"
        for key, shape in expected.items()
        if key in found and found[key] != shape
    ]
    # Only tensors of the right shape are small enough to be inspected: a file may claim any size.
    fitting = [key for key, shape in found.items() if expected.get(key) == shape]
    faults += [f"{key} is not finite" for key in fitting if not bool(torch.isfinite(state[key]).all())]
    if faults:
        raise CheckpointError(
            f"weights {name!r} do not fit the network: {listed(faults, NAMED_FAULTS, '; ')}",
            "fetch them again, or give those of an STCN",
        )


def save_model(model: STCN, path: Path, *, dtype: torch.dtype = torch.float16, note: str = "") -> None:
    """Writes the weights as safetensors, atomically.

    Raises:
        OutputError: if the place cannot be written to.
    """
    metadata = {"format": FORMAT, "config": json.dumps(asdict(model.config)), "note": note}
    write_weights(path, model.state_dict(), dtype, metadata)


def write_weights(path: Path, weights: Mapping[str, Tensor], dtype: torch.dtype, metadata: dict[str, str]) -> None:
    """Writes tensors and metadata as safetensors, atomically; raises OutputError if that fails."""
    state = {name: weight.detach().to(dtype).contiguous() for name, weight in weights.items()}
    try:
        with replacing(path) as partial:
            save_tensors(partial, state, metadata)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"weights cannot be written to {str(path)!r} ({error})", "make room or give an existing folder"
        ) from error


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file with sorted metadata, so that the same content gives the same bytes."""
    data = save(dict(tensors), dict(metadata))
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.write(memoryview(data)[end:])


def fingerprint(model: STCN) -> str:
    """Returns the identity of a network's weights: its depth, and the start of the SHA-256 of their content.

    For a network from `load_model`, it is that of the numbers in the file, on any device and in any precision.
    Otherwise, or if weights were changed or replaced since, it is that of the present weights. Changes through a
    weight's `.data` are not detected, as torch does not count them.
    """
    content, _ = _content(model)
    return f"ResNet-{model.config.key_depth}, sha256 {content[:16]}"


def key_encoder_id(model: STCN) -> str:
    """Returns the identity of a key encoder: the SHA-256 of its tensors, rounded to bfloat16.

    For a network from `load_model`, it is that of the numbers in the file, as for `fingerprint`: if these were rounded
    to float16 first, some would differ.
    """
    _, key_encoder = _content(model)
    return key_encoder


def _content(model: STCN) -> tuple[str, str]:
    """Returns the SHA-256 of all weights and that of the key encoder's, computed again if weights have changed."""
    if model.content is None or model.content[0] != _changes(model):
        _remember(model, content_of(model), _key_encoder_of(model))
    assert model.content is not None
    return model.content[1:]


def _remember(model: STCN, content: str, key_encoder: str) -> None:
    """Stores the result of `_content` until weights change."""
    model.content = _changes(model), content, key_encoder


def _key_encoder_of(model: STCN) -> str:
    return sha256_of(model.key_encoder.state_dict(), torch.bfloat16)


def content_of(model: STCN) -> str:
    """Returns the SHA-256 of the sizes of a network and of its weights, in float32."""
    lines = {f"\n{name}": tensor for name, tensor in model.state_dict().items()}  # the first one ends the line of sizes
    return sha256_of(lines, torch.float32, json.dumps(asdict(model.config)).encode())


def sha256_of(tensors: Mapping[str, Tensor], dtype: torch.dtype, begin: bytes = b"") -> str:
    """Returns the SHA-256 of `begin` and of tensors converted to a dtype, in the order of their names."""
    digest = hashlib.sha256(begin)
    for name, tensor in sorted(tensors.items()):
        rounded = tensor.detach().to("cpu", dtype, copy=True, memory_format=torch.contiguous_format)
        digest.update(f"{name} {tuple(rounded.shape)}\n".encode())
        digest.update(rounded.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _changes(model: STCN) -> dict[Tensor, int]:
    """Returns how often each weight was changed in place, which tensors of inference mode do not count.

    As keys, tensors are equal only if they are the same object; a deep copy of the network has those of the copy.
    """
    return {weight: 0 if weight.is_inference() else weight._version for weight in model.parameters()}
