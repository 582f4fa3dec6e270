"""Simulates how long 1,000 clips take on 100 GPUs, with discrete events; prints Markdown.

    python benchmarks/batch_simulation.py [--clips 1000] [--gpus 100] [--seed 0]

A clip is read from shared storage, decoded, computed and written, all at the same time and at the rate of the slowest
of these. All running clips share the storage for reading and writing; each GPU has a few cores for decoding. A worker
first starts Python and reads the weights. Between two events (a clip or a start ends) all rates are constant, so the
simulation is exact for this model. `Farm` has the parameters; set them to those of your cluster.
"""

import argparse
from dataclasses import dataclass, replace

import numpy as np

from mnemask.manifest.schedule import Clip, in_order


@dataclass(frozen=True)
class Farm:
    """A cluster.

    Attributes:
        gpus: number of GPUs, with one worker on each.
        compute: frames/s of a GPU, for tracking alone.
        decode: frames/s of the cores that serve a GPU; 1080p H.264 decodes at about 150 frames/s a core.
        storage: bytes/s of the shared storage, for all workers together.
        frame_bytes: bytes of a compressed frame and its mask.
        start: seconds until a worker is ready: Python, PyTorch, CUDA.
        weights: bytes of the weights, which each worker then reads.
        longest_first: whether the longest clips start first, as in `mnemask batch`, or clips start in listed order.
    """

    gpus: int = 100
    compute: float = 40.0
    decode: float = 300.0
    storage: float = 1e9
    frame_bytes: float = 40e3
    start: float = 20.0
    weights: float = 60e6
    longest_first: bool = True


def lengths(clips: int, seed: int) -> np.ndarray:
    """Returns the frames of each clip: log-normal, half below 900 (36 s at 25 frames/s), one in 100 above 20,000."""
    drawn = np.random.default_rng(seed).lognormal(np.log(900), 1.35, clips)
    return np.clip(drawn, 30, 90_000).round()


def simulate(farm: Farm, frames: np.ndarray) -> dict[str, float]:
    """Returns the total seconds, the seconds until the first GPU idles, and the share of time that GPUs are busy."""
    clips = [Clip(str(number), number, {}, size=int(count)) for number, count in enumerate(frames)]
    waiting = [float(clip.size) for clip in (in_order(clips) if farm.longest_first else clips)]
    left = np.full(farm.gpus, farm.weights)  # bytes of weights, then frames of the clip
    loading, running = np.ones(farm.gpus, bool), np.ones(farm.gpus, bool)
    now, busy, first_idle = farm.start, 0.0, None
    while running.any():
        wanted = np.where(loading, farm.storage, min(farm.compute, farm.decode) * farm.frame_bytes) * running
        bytes_per_second = wanted * share(wanted, farm.storage)
        rate = np.where(loading, bytes_per_second, bytes_per_second / farm.frame_bytes)
        with np.errstate(divide="ignore", invalid="ignore"):
            step = np.where(running, left / rate, np.inf).min()
        busy += step * float((rate / farm.compute)[running & ~loading].sum())
        now, left = now + step, left - rate * step
        for gpu in np.flatnonzero(running & (left <= 1e-6 * np.maximum(rate, 1))):
            loading[gpu] = False
            if waiting:
                left[gpu] = waiting.pop(0)
            else:
                running[gpu] = False
                first_idle = now if first_idle is None else first_idle
    return {"seconds": now, "first_idle": first_idle or now, "busy": busy / (now * farm.gpus)}


def share(wanted: np.ndarray, storage: float) -> np.ndarray:
    """Returns the fraction of its demand that each gets: max-min fair, so that small demands are met in full."""
    got, room = np.zeros_like(wanted), storage
    order = np.argsort(wanted)
    for place, index in enumerate(order):
        got[index] = min(wanted[index], room / (len(order) - place))
        room -= got[index]
    return np.divide(got, wanted, out=np.zeros_like(wanted), where=wanted > 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--gpus", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    frames, base = lengths(args.clips, args.seed), Farm(gpus=args.gpus)
    ideal = frames.sum() / (base.gpus * base.compute)
    print(f"{args.clips} clips, {frames.sum():,.0f} frames, the longest {frames.max():,.0f}; {args.gpus} GPUs.")
    print(
        f"All GPUs busy all the time: {ideal:,.0f} s; the longest clip alone: {frames.max() / base.compute:,.0f} s.\n"
    )
    cases = {
        "as in the text": base,
        "clips as they are listed, not by size": replace(base, longest_first=False),
        "storage 100 MB/s": replace(base, storage=100e6),
        "storage 50 MB/s": replace(base, storage=50e6),
        "decoding 30 frames/s (one slow core a GPU)": replace(base, decode=30.0),
        "weights of 500 MB": replace(base, weights=500e6),
        "GPUs twice as fast": replace(base, compute=80.0),
        "no clip above 9,000 frames (cut into parts)": base,
    }
    print("| case | time, s | GPUs busy | the first GPU idles after, s |\n|---|---|---|---|")
    for name, farm in cases.items():
        cut = np.concatenate([parts(count) for count in frames]) if "cut" in name else frames
        found = simulate(farm, cut)
        print(f"| {name} | {found['seconds']:,.0f} | {100 * found['busy']:.0f} % | {found['first_idle']:,.0f} |")


def parts(count: float, most: float = 9000) -> np.ndarray:
    """Returns the lengths of equal parts of a clip, each at most `most` frames."""
    number = int(np.ceil(count / most))
    return np.full(number, count / number)


if __name__ == "__main__":
    main()
