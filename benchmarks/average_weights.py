"""Averages the weights of several runs into one file, as the weights in the package were made.

    python benchmarks/average_weights.py OUT.safetensors 1=run1/model.safetensors 1=run2/model.safetensors 3=compact

Each argument is WEIGHT=FILE, or WEIGHT=compact for the weights in the package; WEIGHTs need not sum to 1. Runs that
started from the same weights can be averaged; runs that started from different random weights cannot.
"""

import argparse
import sys
from pathlib import Path

import torch

import mnemask as mm
from mnemask.model.checkpoints import save_model
from mnemask.model.stcn import STCN


def averaged(parts: list[tuple[float, str]]) -> STCN:
    """Returns a network with the weighted mean of all tensors, in float64 and rounded once."""
    total = sum(weight for weight, _ in parts)
    models = [mm.load_model(file, device="cpu", dtype=torch.float32) for _, file in parts]
    if any(model.config != models[0].config for model in models):
        raise mm.InputError("the networks are of different sizes; average those of one")
    states = [model.state_dict() for model in models]
    mean = {
        name: sum(state[name].double() * (weight / total) for (weight, _), state in zip(parts, states, strict=True))
        for name in states[0]
    }
    models[0].load_state_dict(mean)
    return models[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("parts", nargs="+", metavar="WEIGHT=FILE")
    args = parser.parse_args()
    try:
        parts = [(float(weight), file) for weight, _, file in (part.partition("=") for part in args.parts)]
    except ValueError:
        parser.error("expected WEIGHT=FILE, such as 1=run/model.safetensors")
    if min(weight for weight, _ in parts) <= 0:
        parser.error("weights must be above 0")
    try:
        save_model(averaged(parts), args.out, note=f"average of {len(parts)} runs")
    except mm.MnemaskError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
