"""The devices, precisions and torch modes in which the network computes."""

import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from mnemask.errors import BudgetError, FrameError, InputError, counted
from mnemask.types import describe

log = logging.getLogger(__name__)

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
VARIABLE = "MNEMASK_PRECISION"
DEFERRED = ("cuda",)  # devices on which a step does not wait for the check that its outputs are finite


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """Returns an available device: the requested one, by default CUDA if there is any, else the CPU.

    Args:
        device: "cpu", "cuda", "cuda:1", "mps".

    Raises:
        InputError: if the device is unknown, or not on this machine.
    """
    name = str(device) if device is not None else "cuda" if torch.cuda.is_available() else "cpu"
    cuda = re.fullmatch(r"cuda(?::(\d+))?", name)
    if (
        name == "cpu"
        or (name == "mps" and torch.backends.mps.is_available())
        or (cuda and int(cuda[1] or 0) < torch.cuda.device_count())
    ):
        return torch.device(name)
    present = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        present.append("mps")
    raise InputError(f"device {name!r} is unknown or not on this machine", f"use one of {', '.join(present)}")


def preferred_dtype(device: torch.device) -> torch.dtype:
    """Returns bfloat16 if it is native (AMX, AVX512-BF16, recent GPUs), float16 on older GPUs, else float32.

    The environment variable MNEMASK_PRECISION overrides this. The default is chosen nowhere else.

    Raises:
        InputError: if the variable does not name a precision.
    """
    wanted = os.environ.get(VARIABLE)
    if wanted:
        if wanted not in PRECISIONS:
            raise InputError(f"{VARIABLE} is {wanted[:40]!r}", f"set it to one of {', '.join(PRECISIONS)}, or unset it")
        return PRECISIONS[wanted]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    native = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if device.type == "cpu" and native else torch.float32


def upload(tensor: Shaped[Tensor, "*shape"], device: torch.device) -> Shaped[Tensor, "*shape"]:
    """Returns a tensor on a device; a GPU copies it from pinned memory, so that the host does not wait."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


class _Held:
    """A context that holds a mode of the whole process from the entry of the first thread to the exit of the last."""

    def __init__(self, mode: Callable[[], AbstractContextManager[None]]) -> None:
        self._lock, self._inside, self._mode, self._stack = threading.Lock(), 0, mode, ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._stack.enter_context(self._mode())
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._stack.close()


@contextmanager
def _full_convolutions() -> Iterator[None]:
    # Newer versions of torch have a mode for convolutions. If it is used, the older switch is ignored or rejected.
    newer = getattr(torch.backends.cudnn, "conv", None)
    switch, name, full = (newer, "fp32_precision", "ieee") if newer else (torch.backends.cudnn, "allow_tf32", False)
    before = getattr(switch, name)
    setattr(switch, name, full)
    yield
    setattr(switch, name, before)


@contextmanager
def _full_products() -> Iterator[None]:
    newer: list[tuple[Any, str]] = []
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:  # the program has set the newer modes, one per backend, which this function cannot return
        before, backends = "", (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
        newer = [(backend, backend.fp32_precision) for backend in backends]
    if before == "highest":  # not set again, which would override a newer mode that the program sets later
        yield
        return
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before or "highest")
    for backend, precision in newer:
        backend.fp32_precision = precision


_FULL_CONVOLUTIONS, _FULL_PRODUCTS = _Held(_full_convolutions), _Held(_full_products)


def _take_one_thread_if_forked() -> None:
    """Makes torch use one thread in a process that was forked from one that had imported mnemask, with a warning.

    Torch's threads do not survive a fork: if the parent had used them, its child would wait for them forever. Whether
    it had cannot be found out.
    """
    # By way of `sys.modules`: the parent may have imported the package alone, which imports its parts on first use.
    if os.getpid() != sys.modules["mnemask"].imported_by and torch.get_num_threads() > 1:
        log.warning(
            "this process was forked, and the threads of torch do not survive that, so it computes with one; to use "
            'more, start processes with multiprocessing.get_context("spawn"), and to silence this, call '
            "torch.set_num_threads(1) before"
        )
        torch.set_num_threads(1)


@contextmanager
def isolated_torch_modes() -> Iterator[None]:
    """Isolates the computations in a `with` block or function from the torch modes that a caller has set.

    Inference mode, autocast, the default device and the precision of matrix products have their default values, and
    gradients are off. The default dtype is shared by all threads and does not change: tensors are created with an
    explicit dtype. In a forked process, torch uses one thread.
    """
    _take_one_thread_if_forked()
    with ExitStack() as stack:
        stack.enter_context(_FULL_PRODUCTS)
        stack.enter_context(torch.inference_mode(False))  # else the memory could not be used outside of it
        stack.enter_context(torch.no_grad())
        for kind in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


def without_tf32(on_gpu: bool) -> AbstractContextManager[None]:
    """Returns a context in which a GPU's float32 convolutions keep all 24 bits of the significand; TF32 keeps 11."""
    return _FULL_CONVOLUTIONS if on_gpu else nullcontext()


@contextmanager
def out_of_memory_named(size: tuple[int, int], num_objects: int) -> Iterator[None]:
    """Converts out-of-memory errors of a device, in a `with` block, to a BudgetError that names the settings to use."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        reason, objects = str(error).split(". ")[0], counted(num_objects, "object")
        raise BudgetError(
            f"the device ran out of memory on a frame of {describe(size)} with {objects} ({reason})",
            "process smaller frames (--size), keep fewer tokens (--frames, --budget), or track fewer objects",
        ) from error


def _all_finite(numbers: Float[Tensor, "..."]) -> Bool[Tensor, ""]:
    """Returns whether all numbers are finite; testing min and max (NaN if any is NaN) takes a tenth of the time."""
    ends = torch.stack(torch.aminmax(numbers)) if numbers.numel() else numbers.flatten()
    return torch.isfinite(ends).all()


class FiniteCheck:
    """Checks whether the network's outputs for a frame are finite.

    Reading the result makes the host wait for the device. On a GPU, its transfer therefore starts immediately, and it
    is read when the next frame is given, or before the frame is written to memory.

    Args:
        index: index of the frame.
        **numbers: the outputs for it, by name.
    """

    def __init__(self, index: int, **numbers: Float[Tensor, "..."]) -> None:
        self.index, self._names = index, tuple(numbers)
        flags = torch.stack([_all_finite(each) for each in numbers.values()])
        self.deferred = flags.device.type in DEFERRED
        self._flags = flags.to("cpu", non_blocking=self.deferred)
        self._sent = torch.cuda.Event() if flags.is_cuda else None
        if self._sent is not None:
            self._sent.record(torch.cuda.current_stream(flags.device))  # which may not be the current device

    def require(self) -> None:
        """Raises FrameError unless all numbers are finite, before they are kept in memory or written."""
        if self._sent is not None:
            self._sent.synchronize()
        for what, finite in zip(self._names, self._flags.tolist(), strict=True):
            if not finite:
                raise FrameError(
                    f"the network's {what} for frame {self.index} are not finite, so they give no masks",
                    "use unmodified published weights, and float32 if the precision was lowered (--dtype float32)",
                )
