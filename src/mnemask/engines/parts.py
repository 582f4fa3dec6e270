"""The network's parts for whoever computes them in another way: as modules from tensors to tensors, and to override."""

from jaxtyping import Float
from torch import Tensor, nn

from mnemask.model.stcn import STCN, KeyFeatures


class SharedWeights(STCN):
    """An STCN with the weights of another one, whose methods are to be overridden."""

    def __init__(self, model: STCN) -> None:
        super(STCN, self).__init__()
        self.config, self.content = model.config, model.content
        for name, part in model.named_children():
            self.add_module(name, part)
        self.train(model.training)


class KeyPart(nn.Module):
    """`STCN.encode_key`, with the features as a tuple in the order of KeyFeatures."""

    def __init__(self, network: STCN) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        key, compressed, stride16, stride8, stride4 = self.network.encode_key(image)
        return key, compressed, stride16, stride8, stride4


class ValuePart(nn.Module):
    """`STCN.encode_value`, from what it needs of the features."""

    def __init__(self, network: STCN) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        image: Float[Tensor, "B 3 H W"],
        stride16: Float[Tensor, "B C16 h w"],
        masks: Float[Tensor, "B K H W"],
    ) -> Float[Tensor, "B K Cv h w"]:
        unused = stride16[:, :0]
        return self.network.encode_value(image, KeyFeatures(unused, unused, stride16, unused, unused), masks)


class DecodePart(nn.Module):
    """`STCN.decode`, from what it needs of the features."""

    def __init__(self, network: STCN) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        readout: Float[Tensor, "B K Cv h w"],
        compressed: Float[Tensor, "B Cc h w"],
        stride8: Float[Tensor, "B C8 h8 w8"],
        stride4: Float[Tensor, "B C4 h4 w4"],
    ) -> Float[Tensor, "B K H W"]:
        unused = compressed[:, :0]
        return self.network.decode(readout, KeyFeatures(unused, compressed, unused, stride8, stride4))
