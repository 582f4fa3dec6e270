"""The network compiled ahead of time by torch's Inductor, with the weights frozen into it."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch._inductor import aoti_compile_and_package, aoti_load_package
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler

from mnemask.engines.fixed_shapes import FixedShapes, Runner, cache_folder, digest
from mnemask.errors import InputError
from mnemask.model.stcn import STCN

PACKAGE = "part.pt2"


class Compiled(FixedShapes):
    """An STCN of machine code made for this processor; in the precision and on the device of the model.

    Raises:
        InputError: there is no C++ compiler.
    """

    def __init__(self, model: STCN) -> None:
        try:
            compiler = get_cpp_compiler()
        except InvalidCxxCompiler as error:
            raise InputError(
                "the engine 'compile' needs a C++ compiler, and found none",
                "install g++, name one in the environment variable CXX, or use the engine 'eager'",
            ) from error
        # Inductor writes the number of threads into the code.
        machine = torch.backends.cpu.get_cpu_capability(), f"{torch.get_num_threads()} threads", str(model.device)
        super().__init__(model, cache_folder() / "compile" / digest(model, compiler, *machine))

    def build(self, part: str, module: nn.Module, inputs: tuple[Tensor, ...], folder: Path) -> None:
        """Writes a package of machine code."""
        exported = torch.export.export(module, inputs, strict=False)
        aoti_compile_and_package(exported, package_path=str(folder / PACKAGE), inductor_configs={"freezing": True})

    def load(self, part: str, folder: Path) -> Runner:
        """Returns what runs a package."""
        package = aoti_load_package(str(folder / PACKAGE))

        def run(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
            found = package(*inputs)
            return found if isinstance(found, tuple) else (found,)

        return run
