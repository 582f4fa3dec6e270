"""What the network computes on, in which precision, and in which of torch's modes."""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from mnemask.errors import BudgetError, FrameError, InputError
from mnemask.types import describe

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
VARIABLE = "MNEMASK_PRECISION"
DEFERRED = ("cuda",)  # devices on which a step does not wait to learn whether its numbers are finite


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """Returns a device that is there: the one asked for, by default CUDA where there is one, else the CPU.

    Args:
        device: "cpu", "cuda", "cuda:1", "mps".

    Raises:
        InputError: it is no such device, or not on this machine.
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
    raise InputError(f"there is no device {name!r} here that mnemask computes on", f"found {', '.join(present)}")


def preferred_dtype(device: torch.device) -> torch.dtype:
    """Returns bfloat16 where it is native (AMX, AVX512-BF16, recent GPUs), float16 on older GPUs, else float32.

    The environment variable MNEMASK_PRECISION names another one. This is the only place that chooses.

    Raises:
        InputError: the variable names no precision.
    """
    wanted = os.environ.get(VARIABLE)
    if wanted:
        if wanted not in PRECISIONS:
            raise InputError(
                f"{VARIABLE} is {wanted[:40]!r}", f"set it to one of {', '.join(PRECISIONS)}, or to nothing"
            )
        return PRECISIONS[wanted]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    native = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if device.type == "cpu" and native else torch.float32


def upload(tensor: Shaped[Tensor, "*shape"], device: torch.device) -> Shaped[Tensor, "*shape"]:
    """Returns a tensor on a device; a GPU copies it from pinned memory, so that the host does not wait for that."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@contextmanager
def isolated_torch_modes() -> Iterator[None]:
    """Within it, no mode of torch that a caller has set changes what is computed.

    Gradients, inference mode, autocast and the default device are as if nobody had set them. The default dtype is the
    same for all threads and stays as it is: tensors are made with a dtype of their own.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(mode=False))  # else the memory could not be used outside of it
        stack.enter_context(torch.no_grad())
        for kind in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


class _WithoutTF32:
    """Within it TF32 is off, until the last thread has left: the flag is one for the whole process."""

    def __init__(self) -> None:
        self._lock, self._inside, self._before = threading.Lock(), 0, True

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                torch.backends.cudnn.allow_tf32 = self._before


_WITHOUT_TF32 = _WithoutTF32()


def without_tf32(on_gpu: bool) -> AbstractContextManager[None]:
    """Within it, a GPU's convolutions in float32 keep all 24 bits of the significand, where TF32 keeps 11."""
    return _WITHOUT_TF32 if on_gpu else nullcontext()


@contextmanager
def out_of_memory_named(size: tuple[int, int], num_objects: int) -> Iterator[None]:
    """Within it, a device that is out of memory is a BudgetError that says which knobs there are."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = str(error).split(". ")[0]
        raise BudgetError(
            f"the device ran out of memory on a frame of {describe(size)} with {num_objects} objects ({reason})",
            "process smaller frames (--size), remember less (--frames, --budget), or track fewer objects",
        ) from error


class FiniteCheck:
    """Whether what the network computed for a frame is finite.

    To ask makes the host wait for the device. On a GPU the answer is therefore sent for at once and looked at when the
    next frame comes, or before the frame is written to memory.

    Args:
        key: of the frame.
        masks: probabilities of each object.
        index: of the frame.
    """

    def __init__(self, key: Float[Tensor, "..."], masks: Float[Tensor, "..."], index: int) -> None:
        self.index, self.deferred = index, key.device.type in DEFERRED
        flags = torch.stack((torch.isfinite(key).all(), torch.isfinite(masks).all()))
        self._flags = flags.to("cpu", non_blocking=self.deferred)
        self._sent = torch.cuda.Event() if flags.is_cuda else None
        if self._sent is not None:
            self._sent.record()

    def require(self) -> None:
        """Raises FrameError unless all numbers are finite, before they are remembered or written."""
        if self._sent is not None:
            self._sent.synchronize()
        for what, finite in zip(("keys", "masks"), self._flags.tolist(), strict=True):
            if not finite:
                raise FrameError(
                    f"the network's {what} for frame {self.index} are not finite, so no masks can be made of them",
                    "use the weights as they were published, and float32 where the precision was lowered "
                    "(--dtype float32)",
                )
