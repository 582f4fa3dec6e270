"""What tells the hyper-parameters of a custom policy apart in every process: weights and code by their digests."""

import hashlib
import inspect
import json
import re
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, nn

from mnemask.model.checkpoints import sha256_of
from mnemask.plugins import source_digest

DIGITS = 12
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def recorded(values: dict[str, Any]) -> dict[str, Any]:
    """Returns hyper-parameters as JSON can hold them.

    Numbers and texts stay as they are; a tensor, an array, a network or a function gives its name or shape, and a
    digest. Anything else gives its `repr`, which holds an address in memory if its class does not define one.
    """
    found: dict[str, Any] = json.loads(json.dumps(_plain(values)), parse_constant=str)  # Infinity is not JSON
    return found


def holds_address(value: object) -> bool:
    """Returns whether what `recorded` gave for a value holds an address, which differs in the next process."""
    return ADDRESS.search(json.dumps(value)) is not None


def _plain(value: object, outer: tuple[object, ...] = ()) -> object:
    """Returns a value as JSON can hold it; `outer` are the values that it is part of, which it may refer back to."""
    if value is None or isinstance(value, str | int | float):
        return value
    around = [each is value for each in outer]
    if any(around):
        return f"the value {len(outer) - around.index(True)} levels above"
    outer = (*outer, value)
    if isinstance(value, dict):
        if all(key is None or isinstance(key, str | int | float) for key in value):
            return {key: _plain(each, outer) for key, each in value.items()}
        return [[_plain(key, outer), _plain(each, outer)] for key, each in value.items()]
    if isinstance(value, list | tuple):
        return [_plain(each, outer) for each in value]
    if isinstance(value, nn.Module):
        return _network(value, outer)
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)} {_digest(value.tobytes())}"
    if isinstance(value, Tensor):
        return f"{value.dtype} {list(value.shape)} {sha256_of({'': value}, value.dtype)[:DIGITS]}"
    parts = _parts(value)
    return repr(value) if parts is None else _plain(parts, outer)


def _parts(value: object) -> object:
    """Returns what a function, a class, a dataclass or a set consists of; None for anything else."""
    if isinstance(value, partial):
        return {"function": value.func, "holds": [value.args, value.keywords]}
    if inspect.ismethod(value):
        return {"function": value.__func__, "holds": [value.__self__]}
    if inspect.isroutine(value) or inspect.isclass(value):
        return _code(value)
    if is_dataclass(value):
        return {"class": type(value), **{field.name: getattr(value, field.name) for field in fields(value)}}
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)  # texts are in another order in each process
    return None


def _network(network: nn.Module, outer: tuple[object, ...]) -> str:
    """Returns the class of a network with a digest of its weights, its settings, and the code of its parts."""
    settings = {name: value for name, value in vars(network).items() if not name.startswith("_")}
    own = {"class": type(network), **settings, **dict(network.named_children())}
    own |= {**dict(network.named_parameters(recurse=False)), **dict(network.named_buffers(recurse=False))}
    text = json.dumps(_plain(own, outer))
    if ADDRESS.search(text):  # a digest would hide it
        return text
    return f"{_name(type(network))} {_digest(text.encode())}"


def _code(code: Any) -> object:
    """Returns the name of a function or a class with a digest of its source, and what a function has closed over."""
    named = f"{_name(code)} {source_digest(code)}".rstrip()
    held = [cell.cell_contents for cell in getattr(code, "__closure__", None) or ()]
    held += [getattr(code, name) for name in ("__defaults__", "__kwdefaults__") if getattr(code, name, None)]
    return {"function": named, "holds": held} if held else named


def _name(code: Any) -> str:
    return f"{getattr(code, '__module__', '')}:{getattr(code, '__qualname__', code)}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:DIGITS]
