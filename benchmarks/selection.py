"""What weights and policies are chosen by: clips that nothing was trained on and that are not the test set.

    python benchmarks/selection.py WEIGHTS [WEIGHTS ...] --data DATA [--out runs/selection] [--quick] [--dev]

Real: the six sequences of DAVIS 2016's training set that the recipe `real-video` leaves out (every second frame, 400
pixels, so that a write interval of 5 is 10 frames of the video). Pasted: the object of one of them moves through
another, two ids. Generated: drawn clips of 2 to 4 objects. Each of four policies is scored with the weights' own kernel
and without one; all of them share what the key encoder says of a frame. The column "choose by" is the mean of the J&F
of real clips and the mean of the other two; brackets are 95 % bootstrap intervals over clips.

One thread, and a niceness of its own. Each clip's scores are kept in `--out` under the weights' content, so that a run
that was stopped goes on, and the table is printed from what there is. `--dev` scores `davis2016-dev` too, for the
record, in a table of its own: nothing is chosen by it.
"""

import argparse
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

import mnemask as mm
from mnemask.datasets.annotated import AnnotatedVideo
from mnemask.datasets.copy_paste import SELECTION_PAIRS, CopyPasteVideo
from mnemask.datasets.davis import DavisSequences
from mnemask.datasets.real_video import SELECTION
from mnemask.datasets.synthetic.video import HELD_OUT
from mnemask.datasets.video_sets import open_video_folders
from mnemask.evaluation.runner import FeatureCache
from mnemask.io.images import read_image
from mnemask.metrics import Report, SequenceScorer
from mnemask.metrics.report import ObjectScore
from mnemask.model.checkpoints import packaged_weights
from mnemask.model.stcn import STCN
from mnemask.types import Frame

POLICIES = ("diverse", "lfu", "keep-all", "first-and-latest")
KERNELS = {"own kernel": None, "no kernel": 0.0}
TRIALS = {f"{policy}, {name}": (policy, kmn_sigma) for name, kmn_sigma in KERNELS.items() for policy in POLICIES}
KINDS = ("real", "pasted", "generated")


@dataclass(frozen=True)
class Clip:
    """A clip by its kind and name."""

    kind: str
    name: str


def all_clips(dev: Path | None) -> list[Clip]:
    pairs = [f"{host}+{guest}" for host, guest, _ in SELECTION_PAIRS]
    named = {"real": SELECTION, "pasted": pairs, "generated": [clip.name for clip in HELD_OUT]}
    if dev is not None:
        named["dev"] = DavisSequences(dev, 2016).names
    return [Clip(kind, name) for kind, names in named.items() for name in names]


class ClipReader:
    """Opens clips by name."""

    def __init__(self, data: Path) -> None:
        self.data = data
        videos = open_video_folders(data / "video_train" / "davis2016_train", single_object=True)
        self.real = {video.name: video for video in videos if video.name in SELECTION}

    def frames(self, clip: Clip) -> Iterator[tuple[Frame, np.ndarray]]:
        """Yields frames and labels."""
        if clip.kind == "real":
            return _annotated(self.real[clip.name])
        if clip.kind == "dev":
            return _annotated(DavisSequences(self.data / "davis2016-dev", 2016)[clip.name])
        if clip.kind == "pasted":
            host, guest, seed = next(pair for pair in SELECTION_PAIRS if f"{pair[0]}+{pair[1]}" == clip.name)
            drawn = iter(CopyPasteVideo(self.real[host], self.real[guest], seed))
        else:
            drawn = iter(next(one for one in HELD_OUT if one.name == clip.name).open())
        return ((frame, labels.numpy()) for frame, labels, _ in drawn)


def _annotated(video: AnnotatedVideo) -> Iterator[tuple[Frame, np.ndarray]]:
    for index, path in enumerate(video.frames):
        yield Frame(read_image(path), index), video.read_labels(index)


def score(network: STCN, reader: ClipReader, clip: Clip, trials: Sequence[str], args: argparse.Namespace) -> dict:
    """Returns the scores of each trial on a clip, as JSON holds them; all trials follow it in step."""
    shared = FeatureCache(network)
    trackers = {
        name: mm.Tracker(shared, policy=TRIALS[name][0], kmn_sigma=TRIALS[name][1], short_side=args.size)
        for name in trials
    }
    protocol = "davis2016" if clip.kind in ("real", "dev") else "davis2017"
    scorers = {name: SequenceScorer(clip.name, protocol) for name in trials}
    for number, (frame, labels) in enumerate(islice(reader.frames(clip), args.frames)):
        shared.begin(f"{clip.name} {number}")  # the frames before are not looked at again
        prompts = {int(k): torch.from_numpy(labels == k) for k in np.unique(labels) if k} if number == 0 else None
        for name, tracker in trackers.items():
            scorers[name].add(labels, tracker.step(frame, prompts).labels.numpy().astype(np.uint8))
    return {
        name: [[each.object_id, each.region_frames, each.boundary_frames] for each in scorer.report().objects]
        for name, scorer in scorers.items()
    }


def known(file: Path) -> dict:
    return json.loads(file.read_text()) if file.exists() else {}


def report(found: dict[Clip, dict], kind: str, trial: str) -> Report | None:
    """The scores of a trial over all clips of a kind; None where one is still missing."""
    clips = {clip: scores for clip, scores in found.items() if clip.kind == kind}
    if not clips or any(trial not in scores for scores in clips.values()):
        return None
    objects = [ObjectScore.from_frames(clip.name, *entry) for clip, scores in clips.items() for entry in scores[trial]]
    return Report(tuple(objects), kind)


def cell(one: Report | None, decay: bool) -> str:
    if one is None:
        return "–"
    j, f, both = (100 * value for value in (one.region.mean, one.boundary.mean, one.j_and_f))
    low, high = one.interval() if len(one.by_sequence) > 1 else (np.nan, np.nan)
    after = f", decay {100 * one.region.decay:.1f}" if decay else ""
    return f"{j:.1f} / {f:.1f} / **{both:.1f}** [{100 * low:.1f}, {100 * high:.1f}]{after}"


def table(found: dict[Clip, dict], kinds: Sequence[str]) -> str:
    """A Markdown table, a row for each trial."""
    choose = len(kinds) == len(KINDS)
    columns = [f"{kind}: J / F / J&F" for kind in kinds] + ["choose by"] * choose
    lines = ["| trial | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for trial in TRIALS:
        reports = [report(found, kind, trial) for kind in kinds]
        if not any(reports):
            continue
        cells = [cell(one, kind in ("real", "dev")) for one, kind in zip(reports, kinds, strict=True)]
        if choose:
            scores = [one.j_and_f for one in reports if one is not None]
            cells.append(f"{50 * (scores[0] + (scores[1] + scores[2]) / 2):.1f}" if len(scores) == len(KINDS) else "–")
        lines.append(f"| {trial} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="+", help="compact, or a file")
    parser.add_argument("--data", type=Path, required=True, help="a folder with video_train/davis2016_train")
    parser.add_argument("--out", type=Path, default=Path("runs/selection"), help="where scores are kept")
    parser.add_argument("--trial", action="append", choices=TRIALS, help="these alone")
    parser.add_argument("--kind", action="append", choices=KINDS, help="these alone")
    parser.add_argument("--size", type=int, default=480, help="short side that the network sees")
    parser.add_argument("--frames", type=int, help="the first so many of each clip")
    parser.add_argument("--quick", action="store_true", help="--size 240 --frames 20: to see that it runs")
    parser.add_argument("--dev", action="store_true", help="davis2016-dev too, for the record")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="print what there is and compute nothing")
    args = parser.parse_args()
    if args.quick:
        args.size, args.frames = 240, 20
    return args


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    if hasattr(os, "nice"):
        os.nice(max(0, 10 - os.nice(0)))
    reader = ClipReader(args.data)
    clips = all_clips(args.data / "davis2016-dev" if args.dev else None)
    clips = [clip for clip in clips if clip.kind == "dev" or clip.kind in (args.kind or KINDS)]
    for weights in args.weights:
        content = (packaged_weights(weights) or Path(weights)).read_bytes()
        folder = args.out / f"{hashlib.sha256(content).hexdigest()[:12]}-{args.size}-{args.frames or 'all'}"
        files = {clip: folder / f"{clip.kind}-{clip.name}.json" for clip in clips}
        network = None
        for clip, file in files.items():
            there = known(file)
            missing = [trial for trial in args.trial or TRIALS if trial not in there]
            if args.table or not missing:
                continue
            network = network or mm.load_model(weights)
            folder.mkdir(parents=True, exist_ok=True)
            there |= score(network, reader, clip, missing, args)
            file.with_suffix(".part").write_text(json.dumps(there))
            file.with_suffix(".part").replace(file)
            print(f"{weights}: {clip.kind} {clip.name}", flush=True)
        found = {clip: known(file) for clip, file in files.items()}
        print(f"\n{weights} ({folder.name})\n\n{table(found, [k for k in KINDS if k in (args.kind or KINDS)])}\n")
        if args.dev:
            print(f"davis2016-dev, for the record; nothing is chosen by it\n\n{table(found, ['dev'])}\n")


if __name__ == "__main__":
    main()
