"""Scores many memory policies on the same frames at once: J, F and paired differences, as a Markdown table.

    python benchmarks/policy_lab.py OUT [--davis ROOT] [--set SET ...] [--trial NAME ...] [--size 240] [--model PATH]

The policies are those of `policy_trials.py`. Sets: "davis" (DAVIS 2016 val), "pasted" (pairs of its objects that
cross), "ping-pong" (its sequences played to and fro), "drawn" (generated clips to choose by) and "held-out" (generated
clips to confirm with). Policies on one clip share its key features. Scores are kept in OUT, one file each, and are not
computed again; `--table` computes none. Frames are resized to the height `--size` and scored at that size.
"""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import torch
from clips import HELD_OUT, Clip, HeldOutClip, drawn, follow, pair_names, pasted
from copy_paste import DAVIS_PAIRS
from jaxtyping import Float, UInt8
from policy_trials import TRIALS

import mnemask as mm
from mnemask.datasets.composite.photographs import read_rgb
from mnemask.datasets.published import DavisSequences
from mnemask.engines.parts import FeatureCache
from mnemask.evaluation.benchmark import ping_pong
from mnemask.metrics import SequenceScorer, bootstrap_interval
from mnemask.model.checkpoints import packaged_weights

DRAWN = (
    HeldOutClip("drawn-pair", 2, 300),
    HeldOutClip("drawn-screened", 2, 301, num_occluders=1),
    HeldOutClip("drawn-doubled", 2, 302, lookalikes=True, num_occluders=1),
    HeldOutClip("drawn-three", 3, 303, lookalikes=True),
    HeldOutClip("drawn-four", 4, 304, num_occluders=1),
    HeldOutClip("drawn-crowd", 4, 305, num_occluders=2),
)
SETS = ("davis", "pasted", "ping-pong", "drawn", "held-out")
REFERENCES = ("keep-all", "lfu")
Moment = tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"]]


def clips(kind: str, davis: Path | None) -> list[Clip]:
    names: Sequence[str]
    if kind in ("davis", "ping-pong"):
        names = DavisSequences(needed(davis), 2016).names
    elif kind == "pasted":
        names = pair_names(DAVIS_PAIRS)
    else:
        names = [clip.name for clip in (DRAWN if kind == "drawn" else HELD_OUT)]
    return [Clip(kind, name) for name in names]


def moments(clip: Clip, davis: Path | None) -> Iterator[Moment]:
    """Yields the frames and labels of a clip, at full size."""
    if clip.kind in ("davis", "ping-pong"):
        video = DavisSequences(needed(davis), 2016)[clip.name]
        video = ping_pong(video, 2) if clip.kind == "ping-pong" else video
        yield from ((read_rgb(path), video.read_labels(index)) for index, path in enumerate(video.frames))
        return
    if clip.kind == "pasted":
        video = pasted(clip.name, DAVIS_PAIRS, DavisSequences(needed(davis), 2016))
    else:
        video = drawn(clip.name, (*DRAWN, *HELD_OUT)).open()
    for frame, labels, _ in video:
        yield np.ascontiguousarray(frame.image.numpy().transpose(1, 2, 0)), labels.numpy()


def needed(davis: Path | None) -> Path:
    if davis is None:
        sys.exit("this set needs --davis ROOT, the root of DAVIS 2016")
    return davis


def resized(moment: Moment, size: int) -> Moment:
    picture, labels = moment
    height, width = labels.shape
    if height <= size:
        return picture, labels
    to = (round(width * size / height), size)
    labels = cv2.resize(labels, to, interpolation=cv2.INTER_NEAREST_EXACT)
    return cv2.resize(picture, to, interpolation=cv2.INTER_AREA), labels


def score(clip: Clip, trials: Sequence[str], args: argparse.Namespace) -> None:
    """Tracks a clip with all trials in step, and writes their scores."""
    torch.set_num_threads(1)
    network = FeatureCache(mm.load_model(args.model))
    # Reads are those of STCN; benchmarks/results/kmn-kernel.md says what the KMN kernel changes.
    trackers = {
        name: mm.Tracker(network, policy=TRIALS[name].policy, kmn_sigma=0.0, short_side=None) for name in trials
    }
    scorers = {name: SequenceScorer(clip.name) for name in trials}
    follow((resized(moment, args.size) for moment in moments(clip, args.davis)), trackers, scorers, (network,))
    for name, scorer in scorers.items():
        file = result_file(args, name, clip)
        file.parent.mkdir(parents=True, exist_ok=True)
        facts = {"policy": str(TRIALS[name].policy), **scorer.report().to_dict()}
        file.with_suffix(".part").write_text(json.dumps(facts))
        file.with_suffix(".part").replace(file)


def result_file(args: argparse.Namespace, trial: str, clip: Clip) -> Path:
    folder: Path = args.out / f"{args.digest}-{args.size}" / trial / clip.kind
    return folder / f"{clip.name}.json"


def known(args: argparse.Namespace, trial: str, clip: Clip) -> dict[str, float] | None:
    """Returns mean J, F and decay and the number of objects, or None without scores of the trial as it is now."""
    file = result_file(args, trial, clip)
    facts = json.loads(file.read_text()) if file.exists() else {}
    if facts.get("policy") != str(TRIALS[trial].policy):
        return None
    overall = facts["all"]
    return {
        "J": 100 * overall["J-Mean"],
        "F": 100 * overall["F-Mean"],
        "decay": 100 * overall["J-Decay"],
        "objects": len(facts["objects"]),
    }


def table(args: argparse.Namespace, kind: str, names: Sequence[str]) -> str:
    """Returns a Markdown table over the clips that both references have; trials without all of them are left out."""
    scores = {name: [known(args, name, clip) for clip in args.clips[kind]] for name in {*names, *REFERENCES}}
    shown = [i for i in range(len(args.clips[kind])) if all(scores[name][i] for name in REFERENCES)]
    rows: list[tuple[float, str]] = []

    def column(name: str, key: str) -> Float[np.ndarray, " S"]:
        return np.array([(scores[name][i] or {}).get(key, np.nan) for i in shown])

    for name in names:
        j, f, decay, weights = (column(name, key) for key in ("J", "F", "decay", "objects"))
        if not shown or np.isnan(j).any():
            continue
        mean = [float(np.average(part, weights=weights)) for part in (j, f, (j + f) / 2, decay)]
        cells = [name, *(f"{value:.1f}" for value in mean)]
        for reference in REFERENCES:
            gain = (j + f - column(reference, "J") - column(reference, "F")) / 2
            low, high = bootstrap_interval(gain, weights=weights) if len(shown) > 1 else (np.nan, np.nan)
            mean_gain, low, high = (
                round(float(value), 1) + 0.0 for value in (np.average(gain, weights=weights), low, high)
            )
            cells.append(f"{mean_gain:+.1f} ({low:+.1f} to {high:+.1f})")
        rows.append((mean[2], "| " + " | ".join((*cells, TRIALS[name].hypothesis)) + " |"))
    head = f"{kind}: {len(shown)} clips, {args.size} high, weights {args.digest}\n\n"
    head += f"| {kind}, trial | J | F | J&F | decay | J&F − `keep-all` (95 %) | J&F − `lfu` (95 %) | hypothesis |\n"
    return head + "|---" * 8 + "|\n" + "\n".join(row for _, row in sorted(rows, reverse=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for scores; made if missing")
    parser.add_argument("--davis", type=Path, help="root of DAVIS 2016")
    parser.add_argument("--model", default="compact")
    parser.add_argument("--set", action="append", choices=SETS, help="by default those that need no --davis")
    parser.add_argument("--trial", action="append", choices=list(TRIALS))
    parser.add_argument("--clip", action="append", help="only these clips")
    parser.add_argument("--size", type=int, default=480)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="only print existing scores")
    args = parser.parse_args()
    weights = packaged_weights(args.model) or Path(args.model)
    args.digest = hashlib.sha256(weights.read_bytes()).hexdigest()[:8]
    names = args.trial or list(TRIALS)
    kinds = args.set or ["drawn", "held-out"]
    args.clips = {
        kind: [one for one in clips(kind, args.davis) if not args.clip or one.name in args.clip] for kind in kinds
    }
    if not args.table:
        run(args, names)
    for kind in kinds:
        print(table(args, kind, names), end="\n\n", flush=True)


def run(args: argparse.Namespace, names: Sequence[str]) -> None:
    todo = {
        clip: missing
        for several in args.clips.values()
        for clip in several
        if (missing := [name for name in names if known(args, name, clip) is None])
    }
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(args.processes, get_context("spawn"), max_tasks_per_child=1) as pool:
        futures = {pool.submit(score, clip, missing, args): clip for clip, missing in todo.items()}
        for done, future in enumerate(as_completed(futures), 1):
            future.result()
            print(f"{done} of {len(todo)}: {futures[future]}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
