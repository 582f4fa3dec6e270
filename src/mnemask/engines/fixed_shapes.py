"""A network that is built for one size of frames and number of objects at a time."""

import logging
import time
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemask.engines.cache import kept
from mnemask.engines.quiet import quiet_compilers
from mnemask.model.parts import DecodePart, KeyPart, SharedWeights, ValuePart
from mnemask.model.stcn import STCN, KeyFeatures

logger = logging.getLogger(__name__)

MAX_BUILT = 12  # four sizes or numbers of objects, of three parts each; the one used longest ago is dropped
Runner = Callable[[Sequence[Tensor]], Sequence[Tensor]]


class FixedShapes(SharedWeights):
    """An STCN whose three methods run what was built ahead for the shapes of their inputs.

    It shares the weights of the network it was made from. What is built is kept in a folder for later runs, and at
    most MAX_BUILT of it in memory.

    Args:
        model: on the device and in the precision to compute in.
        folder: of these weights and this engine only, see `mnemask.engines.cache.digest`.
    """

    def __init__(self, model: STCN, folder: Path) -> None:
        super().__init__(model)
        self.folder = folder
        # In a dict, which is no child of a module: the weights must not be listed a second time.
        self._parts: dict[str, nn.Module] = {
            "key": KeyPart(model).eval(),
            "value": ValuePart(model).eval(),
            "decode": DecodePart(model).eval(),
        }
        self._built: OrderedDict[str, Runner] = OrderedDict()

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
        """Returns what runs a built part."""

    def _run(self, part: str, *inputs: Tensor) -> Sequence[Tensor]:
        # What is built takes its inputs for laid out as they were then.
        laid_out = tuple(
            tensor.detach().contiguous(
                memory_format=torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
            )
            for tensor in inputs
        )
        name = "-".join((part, *("x".join(map(str, tensor.shape)) for tensor in laid_out)))
        if name not in self._built:
            folder = kept(self.folder / name, lambda partial: self._build(part, laid_out, partial))
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
        logger.info("… built in %.0f s, and kept in %s", time.perf_counter() - begin, self.folder)
