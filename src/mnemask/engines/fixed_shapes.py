"""Networks that are built for fixed frame sizes and numbers of objects, by torch's Inductor or another compiler.

The built parts are cached on disk, so that the next run does not build them again. Messages of the compilers about
their internals are silenced, since users cannot act on them.
"""

import atexit
import hashlib
import logging
import os
import platform
import shutil
import tempfile
import threading
import time
import warnings
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

import mnemask.model
from mnemask.engines.parts import DecodePart, KeyPart, SharedWeights, ValuePart
from mnemask.errors import InputError, OutputError
from mnemask.model.checkpoints import content_of
from mnemask.model.stcn import STCN, KeyFeatures

logger = logging.getLogger(__name__)

NOISY_LOGGERS = ("torch.onnx", "torch.export", "onnxscript")


@contextmanager
def quiet_compilers() -> Iterator[None]:
    """Silences the warnings of compilers and exporters in a `with` block; their errors are raised unchanged."""
    logs, root = [logging.getLogger(name) for name in NOISY_LOGGERS], logging.getLogger()
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    root.addFilter(_is_error)  # for messages to the root logger, as OpenVINO's; other loggers are not affected
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeFilter(_is_error)
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


def cache_folder() -> Path:
    """Returns `$MNEMASK_CACHE`, or `mnemask` in the user's cache folder; it may be deleted at any time."""
    chosen = os.environ.get("MNEMASK_CACHE")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mnemask"


def digest(model: STCN, *compilers: str) -> str:
    """Returns a unique name for these weights, the code that runs them and the compilers."""
    found = hashlib.sha256(repr((content_of(model), str(model.dtype), torch.__version__, *compilers)).encode())
    for folder in (Path(mnemask.model.__path__[0]), Path(__file__).parent):
        for source in sorted(folder.glob("*.py")):
            found.update(source.read_bytes())
    return found.hexdigest()[:24]


def build_cached(target: Path, build: Callable[[Path], None]) -> Path:
    """Returns `target`, a folder that `build` has filled, now or in an earlier run; it is written atomically.

    If the cache cannot be written to, a temporary folder for this process is used instead, with a warning.

    Raises:
        OutputError: if that cannot be written to either.
    """
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        return _for_this_process(target, build, error)
    try:
        build(partial)
        if not target.is_dir():
            partial.rename(target)
            logger.info("… and kept in %s for later runs", target.parent)
    except OSError as error:
        if not target.is_dir():  # otherwise, another process has built the same in the meantime
            return _for_this_process(target, build, error)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _for_this_process(target: Path, build: Callable[[Path], None], why: OSError) -> Path:
    """Returns a temporary folder that `build` has filled, which is deleted when the process ends."""
    logger.warning(
        "the cache %s cannot be written to (%s), so the next run will build the engine again; set MNEMASK_CACHE to "
        "another folder",
        target.parent,
        why.strerror,
    )
    try:
        folder = Path(tempfile.mkdtemp(prefix="mnemask-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        build(folder)
    except OSError as error:
        raise OutputError(
            f"neither the cache {str(target.parent)!r} ({why.strerror}) nor a temporary folder ({error.strerror}) "
            "can be written to",
            "set the environment variable MNEMASK_CACHE to another folder",
        ) from error
    return folder


_turn = threading.RLock()  # a built part has one set of buffers, and uses all cores: threads take turns
MAX_BUILT = 12  # four sizes or numbers of objects, of three parts each; the least recently used one is dropped
Runner = Callable[[Sequence[Tensor]], Sequence[Tensor]]


class FixedShapes(SharedWeights):
    """An STCN whose three methods run parts that were built for the shapes of their inputs.

    It shares the weights of the original network. Built parts are kept in a folder for later runs, and at most
    MAX_BUILT of them in memory.

    Args:
        model: the network, on the device and in the precision to compute in.
        folder: the folder, for these weights and this engine only; see `mnemask.engines.fixed_shapes.digest`.
    """

    def __init__(self, model: STCN, folder: Path) -> None:
        super().__init__(model)
        self.folder = folder
        # In a dict, which is not registered as a child module, so that the weights are not listed twice.
        self._parts: dict[str, nn.Module] = {
            "key": KeyPart(model).eval(),
            "value": ValuePart(model).eval(),
            "decode": DecodePart(model).eval(),
        }
        self._built: OrderedDict[str, Runner] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """Returns the state without the built parts: no compiler's can be pickled, and a copy loads them again."""
        return vars(self) | {"_built": OrderedDict()}

    def encode_key(self, image: Float[Tensor, "B 3 H W"]) -> KeyFeatures:
        """Returns keys and features of images, see STCN."""
        return KeyFeatures(*self._run("key", image))

    def encode_value(
        self, image: Float[Tensor, "B 3 H W"], features: KeyFeatures, masks: Float[Tensor, "B K H W"]
    ) -> Float[Tensor, "B K Cv h w"]:
        """Returns a value per object and cell, see STCN."""
        return self._run("value", image, features.stride16, masks)[0]

    def decode(self, readout: Float[Tensor, "B K Cv h w"], features: KeyFeatures) -> Float[Tensor, "B K H W"]:
        """Returns the logit of each object at each pixel, see STCN."""
        return self._run("decode", readout, features.compressed, features.stride8, features.stride4)[0]

    @abstractmethod
    def build(self, part: str, module: nn.Module, inputs: tuple[Tensor, ...], folder: Path) -> None:
        """Writes into a folder what `load` needs to run the module on inputs of these shapes."""

    @abstractmethod
    def load(self, part: str, folder: Path) -> Runner:
        """Returns a function that runs a built part."""

    def _run(self, part: str, *inputs: Tensor) -> Sequence[Tensor]:
        # A built part expects its inputs in the memory layout that they had when it was built.
        laid_out = tuple(
            tensor.detach().contiguous(
                memory_format=torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
            )
            for tensor in inputs
        )
        name = "-".join((part, *("x".join(map(str, tensor.shape)) for tensor in laid_out)))
        with _turn:
            if name not in self._built:
                folder = build_cached(self.folder / name, lambda partial: self._build(part, laid_out, partial))
                self._built[name] = self.load(part, folder)
                if len(self._built) > MAX_BUILT:
                    self._built.popitem(last=False)
            self._built.move_to_end(name)
            return self._built[name](laid_out)

    def _build(self, part: str, inputs: tuple[Tensor, ...], folder: Path) -> None:
        height, width = (inputs[-1].shape[2] * 4, inputs[-1].shape[3] * 4) if part == "decode" else inputs[0].shape[2:]
        objects = 0 if part == "key" else (inputs[0] if part == "decode" else inputs[-1]).shape[1]
        of = f" and {objects} object(s)" if objects else ""
        logger.info("building part %r of the network for %d×%d pixels%s, once …", part, width, height, of)
        begin = time.perf_counter()
        with quiet_compilers(), torch.no_grad():
            self.build(part, self._parts[part], inputs, folder)
        logger.info("… built in %.0f s", time.perf_counter() - begin)


PACKAGE = "part.pt2"
CPU_INFO = Path("/proc/cpuinfo")


def processor() -> str:
    """Returns the instruction sets of this computer's processor, or its name where the system does not list them.

    Computers that share a home folder share the cache, and code for one of them may not run on the others.
    """
    try:
        lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":") for line in lines)
    flags = next((value for name, _, value in named if name.strip() in ("flags", "Features")), "")
    return " ".join(sorted(flags.split())) or platform.processor()


def _device(device: torch.device) -> tuple[str, ...]:
    """Returns the device, for a GPU with its name and the version of its instructions."""
    if device.type != "cuda":
        return (str(device),)
    return str(device), torch.cuda.get_device_name(device), str(torch.cuda.get_device_capability(device))


class Compiled(FixedShapes):
    """An STCN compiled to machine code for this processor, in the precision and on the device of the model.

    Raises:
        InputError: if there is no C++ compiler.
    """

    def __init__(self, model: STCN) -> None:
        from torch._inductor.cpp_builder import get_cpp_compiler  # half a second, which other engines do not need
        from torch._inductor.exc import InvalidCxxCompiler

        try:
            compiler = get_cpp_compiler()
        except InvalidCxxCompiler as error:
            raise InputError(
                "the engine 'compile' needs a C++ compiler, but found none",
                "install g++, set the environment variable CXX to a compiler, or use the engine 'eager'",
            ) from error
        # Inductor compiles the number of threads into the code, and uses all instructions of the processor.
        machine = processor(), f"{torch.get_num_threads()} threads", *_device(model.device)
        super().__init__(model, cache_folder() / "compile" / digest(model, compiler, *machine))

    def build(self, part: str, module: nn.Module, inputs: tuple[Tensor, ...], folder: Path) -> None:
        """Writes a package of machine code."""
        from torch._inductor import aoti_compile_and_package

        exported = torch.export.export(module, inputs, strict=False)
        aoti_compile_and_package(exported, package_path=str(folder / PACKAGE), inductor_configs={"freezing": True})

    def load(self, part: str, folder: Path) -> Runner:
        """Returns a function that runs a package."""
        from torch._inductor import aoti_load_package

        package = aoti_load_package(str(folder / PACKAGE))

        def run(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
            found = package(*inputs)
            return found if isinstance(found, tuple) else (found,)

        return run
