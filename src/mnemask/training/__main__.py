"""`python -m mnemask.training DATA --imagenet WEIGHTS -o RUN`: trains the compact model's weights."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from mnemask.training.trainer import Recipe, train


def main(
    data: Annotated[Path, typer.Argument(help="Folder that holds static/NAME/{images,masks} and video/NAME/{…}.")],
    imagenet: Annotated[Path, typer.Option(help="ResNet-18 weights, safetensors, torchvision's names.")],
    out: Annotated[Path, typer.Option("-o", help="Folder of the run; an unfinished run in it goes on.")],
    minutes: Annotated[float, typer.Option(help="How long to train, all sittings together.")] = Recipe().minutes,
    processes: Annotated[int, typer.Option(help="Processes of one thread; one per core.")] = 2,
) -> None:
    """Train the compact model from ImageNet weights on photographs and clips with masks."""
    train(replace(Recipe(), minutes=minutes), data, imagenet, out, processes)


if __name__ == "__main__":
    typer.run(main)
