"""The parts of a frame: each as the tracker computes it, and as the plain path does."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mnemask.bench.plain import PlainSTCN, plain_answer, plain_read
from mnemask.config import TrackerConfig
from mnemask.memory.bank import MemoryBank
from mnemask.model import preprocess
from mnemask.model.stcn import STCN, most_probable, soft_aggregate
from mnemask.types import Frame

TOP_K = 20


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a frame's work.

    Attributes:
        name: what it is.
        num_objects: for how many.
        fast: computes it as the tracker does.
        plain: computes the same plainly.
        flops: floating-point operations of the fast way, convolutions and products of matrices only.
        bytes: that must be read or written at least: weights, inputs and outputs.
    """

    name: str
    num_objects: int
    fast: Callable[[], object]
    plain: Callable[[], object]
    flops: int
    bytes: int


@torch.no_grad()
def network_parts(model: STCN, plain: PlainSTCN, frame: Frame, short_side: int, num_objects: int) -> list[Part]:
    """Returns key encoder, value encoder, decoder, and the way from the objects' probabilities to labels."""
    working = preprocess.working_size(frame.size, short_side)
    pixels = preprocess.normalize(preprocess.resize(frame.image.to(model.device).float(), working))
    image = preprocess.pad(pixels)[None]
    fast_image = image.to(model.dtype, memory_format=torch.channels_last)
    height, width = image.shape[2:]
    masks = torch.rand(num_objects, height, width, device=model.device) / num_objects
    fast_masks = masks[None].to(model.dtype)
    features, plain_features = model.encode_key(fast_image), plain.encode_key(image)
    value = model.encode_value(fast_image, features, fast_masks)
    plain_value = value[0].float().contiguous()

    def answer() -> Tensor:
        inside = preprocess.resize(preprocess.unpad(soft_aggregate(masks), working), frame.size)
        return most_probable(inside, range(num_objects + 1))

    seen = list(features)
    encoder = [model.key_encoder, model.key_projection, model.key_compression]
    return [
        part(
            "key encoder",
            num_objects,
            lambda: model.encode_key(fast_image),
            lambda: plain.encode_key(image),
            [fast_image, *seen, *parameters_of(encoder)],
        ),
        part(
            "value encoder",
            num_objects,
            lambda: model.encode_value(fast_image, features, fast_masks),
            lambda: plain.encode_value(image, plain_features, masks),
            [fast_image, fast_masks, features.stride16, value, *parameters_of([model.value_encoder])],
        ),
        part(
            "decoder",
            num_objects,
            lambda: model.decode(value, features),
            lambda: plain.decode(plain_value, plain_features),
            [value, *seen, masks, *parameters_of([model.decoder])],
        ),
        part(
            "labels",
            num_objects,
            answer,
            lambda: plain_answer(masks, working, frame.size),
            [masks, frame.image, frame.image],
        ),
    ]


@torch.no_grad()
def read_part(model: STCN, query: Float[Tensor, "P Ck"], num_objects: int, num_frames: int) -> Part:
    """Returns a memory read from a bank of this many frames with random content."""
    bank = MemoryBank(TrackerConfig(policy="keep-all", top_k=TOP_K))
    count, channels = num_frames * len(query), model.config.value_channels
    key = torch.randn(count, query.shape[1], device=query.device) * query.std()
    value = torch.randn(num_objects, count, channels, device=query.device)
    share = torch.full((num_objects, count), 0.5, device=query.device)
    bank.write(key, value.to(model.dtype), share, frame=0, step=0, pins=torch.zeros_like(share, dtype=torch.bool))
    plain_keys, plain_query = key.T.contiguous(), query.T.contiguous()
    plain_values = value.movedim(2, 1).flatten(0, 1).contiguous()
    gathered = [query[:, :1].expand(-1, TOP_K * channels * num_objects), plain_values[:, : len(query)]]
    return part(
        f"read, {num_frames} frames",
        num_objects,
        lambda: bank.read(query, 1),
        lambda: plain_read(plain_query, plain_keys, plain_values, TOP_K),
        [key, query, *gathered],
    )


def part(
    name: str, num_objects: int, fast: Callable[[], object], plain: Callable[[], object], touched: Iterable[Tensor]
) -> Part:
    """Returns a part, with its operations counted by running it once."""
    from torch.utils.flop_counter import FlopCounterMode  # slow to import, and only needed here

    with FlopCounterMode(display=False) as counter:
        fast()
    moved = sum(tensor.numel() * tensor.element_size() for tensor in touched)
    return Part(name, num_objects, fast, plain, counter.get_total_flops(), moved)


def parameters_of(modules: Sequence[torch.nn.Module]) -> list[Tensor]:
    """Returns the parameters of several modules."""
    return [parameter for module in modules for parameter in module.parameters()]
