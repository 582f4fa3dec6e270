"""Measures time and buffers of a memory read, and of the original's dense product; prints Markdown.

    python benchmarks/read_speed.py [--frames 2 20 100] [--objects 1] [--value-channels 512] [--threads 2] [--rounds 7]

The keys are random, with realistic norms; queries are one frame of 480×854. Both ways are timed in turns; times are
medians and, in brackets, quartiles. The dense read computes the whole matrix of affinities, N × 1,620, and multiplies
the values by it. "buffers" is the peak allocation of a read in addition to the memory, "difference" the largest
difference between the two readouts, relative to their standard deviation. "near" is the same read with the KMN kernel.
To try it out: --frames 2 --rounds 1.
"""

import argparse
from collections.abc import Callable

import torch
from plain import plain_read
from torch.profiler import ProfilerActivity, profile

from mnemask.bench.machine import heading, interleaved
from mnemask.config import TrackerConfig
from mnemask.memory.bank import MemoryBank
from mnemask.memory.budget import Budget
from mnemask.memory.policies import KeepAll
from mnemask.memory.tokens import CellGrid

CELLS, KEY_CHANNELS, TOP_K = 30 * 54, 64, 20
CPU = torch.device("cpu")


def random_bank(num_frames: int, num_objects: int, value_channels: int) -> MemoryBank:
    bank = MemoryBank(TrackerConfig(KeepAll(), Budget(), top_k=TOP_K))
    count = num_frames * CELLS
    bank.write(
        1.5 * torch.randn(count, KEY_CHANNELS),
        torch.randn(num_objects, count, value_channels),
        torch.rand(num_objects, count),
        frame=0,
        step=0,
        pins=torch.zeros(num_objects, count, dtype=torch.bool),
    )
    return bank


def reading_near(bank: MemoryBank) -> MemoryBank:
    """Returns a bank of the same tokens that is read with the KMN kernel."""
    near = MemoryBank(TrackerConfig(KeepAll(), Budget(), top_k=TOP_K, kmn_sigma=0.2))
    near.restore(bank.tokens, bank.counts())
    near.grid = CellGrid((480, 854), 480)
    return near


def peak_mib(action: Callable[[], object]) -> float:
    """Returns the peak allocation of an action in MiB, as PyTorch's profiler records it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        kept = action()
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    del kept
    return peak / 2**20


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=(2, 20, 100))
    parser.add_argument("--objects", type=int, default=1)
    parser.add_argument("--value-channels", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    print(f"{heading(CPU)} {args.objects} object(s), values of {args.value_channels} channels.\n")
    columns = ("bank, frames", "dense ms", "mnemask ms", "ratio", "dense buffers MiB", "mnemask buffers MiB")
    columns += ("difference", "near ms", "of mnemask's", "near buffers MiB")
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for num_frames in args.frames:
        bank = random_bank(num_frames, args.objects, args.value_channels)
        assert bank.tokens is not None
        close = reading_near(bank)
        query = 1.5 * torch.randn(CELLS, KEY_CHANNELS)
        plain_query, plain_keys = query.T.contiguous(), bank.tokens.key.T.contiguous()
        plain_values = bank.tokens.value.movedim(2, 1).flatten(0, 1).contiguous()
        actions = {
            "dense": lambda q=plain_query, k=plain_keys, v=plain_values: plain_read(q, k, v, TOP_K),
            "read": lambda bank=bank, q=query: bank.read(q, 1),
            "near": lambda bank=close, q=query: bank.read(q, 1),
        }
        times = interleaved(actions, args.rounds, CPU)
        buffers = {name: peak_mib(action) for name, action in actions.items()}
        expected = actions["dense"]().T.unflatten(1, (args.objects, -1)).transpose(0, 1)
        difference = float((actions["read"]() - expected).abs().max() / expected.std())
        dense, read, near = times["dense"], times["read"], times["near"]
        print(
            f"| {num_frames} | {dense.milliseconds} | {read.milliseconds} | {dense.median / read.median:.1f} | "
            f"{buffers['dense']:.0f} | {buffers['read']:.0f} | {difference:.0e} | {near.milliseconds} | "
            f"{near.median / read.median:.1f} | {buffers['near']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
