"""Scores weights and policies for selection, on clips that are neither training data nor the test set.

    python benchmarks/selection.py WEIGHTS [WEIGHTS ...] --data DATA [--quick] [--dev] [--trained]
    python benchmarks/selection.py WEIGHTS --data DATA --kind real --setting diverse --setting "lfu, every=3, kernel=0"

Real: the six sequences of DAVIS 2016's training set that the recipe `real-video` leaves out (every second frame, 400
pixels, so that a write interval of 5 is 10 frames of the video). Pasted: the object of one of them moves through
another, so there are two ids. Generated: drawn clips of 2 to 4 objects. By default each of four policies is scored with
the weights' own kernel and without one. A setting is a policy, followed by any of these after commas:

    own kernel, no kernel, kernel=0.15   σ of the KMN kernel
    top-k=40                             number of tokens that each query reads
    every=3                              the write interval
    frames=4                             the budget
    latest=0.3                           the part of the budget that the latest frame may take (`WithLatest`); give
                                         `every` before it
    on-growth=0.25                       write sooner once an object is larger by this part than in any frame written
    certainty=0.9                        write only frames whose masks are at least this certain
    tta=flip, tta=flip+scales            average over views of each frame, see `TrackerConfig.tta`
    stride8=8                            weight of the second affinity, see `TrackerConfig.stride8_weight`

All settings share the output of the key encoder. The column "choose by" is the mean of two numbers: the J&F of real
clips and the mean J&F of the other two kinds. "above the first" is the difference in J&F from the table's first row,
over all clips shown and paired by clip. If several weights are given, each is also compared with the first, setting by
setting. Brackets are 95 % bootstrap intervals over clips.

Each process has one thread and a niceness of 10. The scores of each clip and setting are kept in `--out`, in a folder
for the weights' content, the precision and the tracking code, so that a stopped run continues, and the table is printed
from the scores so far. `--dev` also scores `davis2016-dev`, for the record, in a table of its own that is not used for
selection. So do `--crossing`, for pairs of its objects that cross, and `--trained`, for seven sequences that
`real-video` trains on: how far they are above the real clips shows overfitting.
"""

import argparse
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from clips import HELD_OUT, Clip, drawn, follow, pair_names, pasted
from copy_paste import DAVIS_PAIRS, SELECTION_PAIRS

import mnemask as mm
from mnemask.datasets.annotated import AnnotatedVideo
from mnemask.datasets.published import DavisSequences
from mnemask.datasets.real_video import SELECTION, VIDEO_FOLDERS
from mnemask.engines.parts import FeatureCache
from mnemask.evaluation.suite import run_jobs
from mnemask.io.images import read_image
from mnemask.memory.policies import WithLatest
from mnemask.metrics import Report, SequenceScorer, bootstrap_interval
from mnemask.metrics.report import ObjectScore
from mnemask.model.checkpoints import packaged_weights
from mnemask.model.devices import preferred_dtype
from mnemask.model.stcn import STCN
from mnemask.types import Frame

POLICIES = ("diverse", "lfu", "keep-all", "first-and-latest")
DEFAULT_SETTINGS = [f"{policy}, {kernel}" for kernel in ("own kernel", "no kernel") for policy in POLICIES]
KINDS = ("real", "pasted", "generated")
FOR_THE_RECORD = {
    "dev": "davis2016-dev",
    "crossing": "pairs of objects of davis2016-dev, one pasted into the other's video",
    "trained": "sequences that were trained on",
}
ONE_OBJECT = ("real", "dev", "trained")  # sequences of DAVIS 2016
TRAINED = ("bear", "bmx-bumps", "breakdance-flare", "hockey", "kite-walk", "motorbike", "paragliding")


Config = mm.TrackerConfig
PARTS: dict[str, Callable[[Config, str], Config]] = {
    "own kernel": lambda config, _: config,
    "no kernel": lambda config, _: replace(config, kmn_sigma=0.0),
    "kernel": lambda config, value: replace(config, kmn_sigma=float(value)),
    "every": lambda config, value: replace(config, write_every=int(value)),
    "top-k": lambda config, value: replace(config, top_k=int(value)),
    "frames": lambda config, value: replace(config, budget=mm.Budget(frames=float(value))),
    "on-growth": lambda config, value: replace(config, write_on_growth=float(value)),
    "certainty": lambda config, value: replace(config, write_above_certainty=float(value)),
    "stride8": lambda config, value: replace(config, stride8_weight=float(value)),
    "tta": lambda config, value: replace(config, tta=value.replace("+", ",")),
    "latest": lambda config, value: replace(
        config, policy=WithLatest(config.used_policy(), share=float(value)), write_every=None
    ),
}


def read_setting(setting: str, size: int) -> Config:
    """Returns the config of a tracker by the text of a setting.

    Raises:
        ValueError: a part is not known, or has no such value.
    """
    policy, *parts = (part.strip() for part in setting.split(","))
    config = Config(policy, short_side=size)
    for part in parts:
        name, _, value = part.partition("=")
        if name not in PARTS:
            raise ValueError(f"{part!r} of the setting {setting!r} is unknown; there are {', '.join(PARTS)}")
        config = PARTS[name](config, value)
    return config


def in_full(setting: str, size: int) -> str:
    """Returns the text that identifies scores: the setting, with the policy's own growth if it has one."""
    growth = read_setting(setting, size).used_policy().write_on_growth
    return setting if "on-growth" in setting or not growth else f"{setting}, on-growth={growth:g}"


def clips_of(kinds: Sequence[str], data: Path) -> list[Clip]:
    """Returns the clips of these kinds, which are in `KINDS` or `FOR_THE_RECORD`."""
    names = {
        "real": lambda: SELECTION,
        "pasted": lambda: pair_names(SELECTION_PAIRS),
        "generated": lambda: [clip.name for clip in HELD_OUT],
        "dev": lambda: DavisSequences(data / "davis2016-dev", 2016).names,
        "crossing": lambda: pair_names(DAVIS_PAIRS),
        "trained": lambda: TRAINED,
    }
    return [Clip(kind, name) for kind in kinds for name in names[kind]()]


class ClipReader:
    """Opens clips by name."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.real = {video.name: video for video in VIDEO_FOLDERS[0].open(data / "video_train")}

    @property
    def dev(self) -> DavisSequences:
        """The sequences of davis2016-dev, by name."""
        return DavisSequences(self.data / "davis2016-dev", 2016)

    def frames(self, clip: Clip) -> Iterator[tuple[Frame, np.ndarray]]:
        """Yields frames and labels."""
        if clip.kind in ("real", "trained"):
            return _annotated(self.real[clip.name])
        if clip.kind == "dev":
            return _annotated(self.dev[clip.name])
        if clip.kind in ("pasted", "crossing"):
            videos, pairs = (self.real, SELECTION_PAIRS) if clip.kind == "pasted" else (self.dev, DAVIS_PAIRS)
            video = pasted(clip.name, pairs, videos)
        else:
            video = drawn(clip.name).open()
        return ((frame, labels.numpy()) for frame, labels, _ in video)


def _annotated(video: AnnotatedVideo) -> Iterator[tuple[Frame, np.ndarray]]:
    for index, path in enumerate(video.frames):
        yield Frame(read_image(path), index), video.read_labels(index)


@dataclass(frozen=True)
class Task:
    """A clip to score settings on with some weights, and the file of their scores."""

    weights: str
    clip: Clip
    settings: tuple[str, ...]
    file: Path
    data: Path
    size: int
    frames: int | None

    def run(self, on_frame: Callable[[], None]) -> str:
        """Scores all settings in step and adds them to the file; returns the names of weights and clip."""
        os.nice(max(0, 10 - os.nice(0)))
        torch.set_num_threads(1)
        scores = self._scores(on_frame)
        part = self.file.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(known(self.file) | scores))
        part.replace(self.file)
        return f"{self.weights}: {self.clip.kind} {self.clip.name}"

    def _scores(self, on_frame: Callable[[], None]) -> dict:
        """Returns the scores of each setting, as JSON holds them."""
        clip, trackers = self.clip, self._trackers()
        protocol = "davis2016" if clip.kind in ONE_OBJECT else "davis2017"
        scorers = {text: SequenceScorer(clip.name, protocol) for text in trackers}
        frames = islice(ClipReader(self.data).frames(clip), self.frames)
        follow(frames, trackers, scorers, {tracker.model for tracker in trackers.values()}, on_frame)
        return {
            text: [[each.object_id, each.region_frames, each.boundary_frames] for each in scorer.report().objects]
            for text, scorer in scorers.items()
        }

    def _trackers(self) -> dict[str, mm.Tracker]:
        """Returns a tracker for each setting; they share the output of the key encoder."""
        network = FeatureCache(loaded(self.weights))
        return {text: mm.Tracker(network, read_setting(text, self.size)) for text in self.settings}


@lru_cache(maxsize=1)
def loaded(weights: str) -> STCN:
    return mm.load_model(weights)


def known(file: Path) -> dict:
    return json.loads(file.read_text()) if file.exists() else {}


def report(found: dict[Clip, dict], kind: str, setting: str) -> Report | None:
    """Returns the scores of a setting over all clips of a kind; None if one is still missing."""
    clips = {clip: scores for clip, scores in found.items() if clip.kind == kind}
    if not clips or any(setting not in scores for scores in clips.values()):
        return None
    entries = [(clip.name, entry) for clip, scores in clips.items() for entry in scores[setting]]
    return Report(tuple(ObjectScore.from_frames(name, *entry) for name, entry in entries), kind)


def cell(one: Report | None, decay: bool) -> str:
    if one is None:
        return "–"
    j, f, both = (100 * value for value in (one.region.mean, one.boundary.mean, one.j_and_f))
    low, high = one.interval() if len(one.by_sequence) > 1 else (np.nan, np.nan)
    after = f", decay {100 * one.region.decay:.1f}" if decay else ""
    return f"{j:.1f} / {f:.1f} / **{both:.1f}** [{100 * low:.1f}, {100 * high:.1f}]{after}"


def above(found: dict[Clip, dict], setting: str, before: dict[Clip, dict], first: str) -> str:
    """Returns the gain in J&F over another setting or other weights, over the objects of all clips that both have."""
    both = [(found[clip], before[clip]) for clip in found if setting in found[clip] and first in before[clip]]
    gains = [
        [np.nanmean(a[1:]) - np.nanmean(b[1:]) for a, b in zip(s[setting], t[first], strict=True)] for s, t in both
    ]
    if (found is before and setting == first) or len(gains) < 2:
        return "–"
    means, counts = np.array([np.mean(each) for each in gains]), np.array([len(each) for each in gains], float)
    low, high = bootstrap_interval(means, weights=counts)
    return f"{100 * np.average(means, weights=counts):+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def table(found: dict[Clip, dict], kinds: Sequence[str], settings: Sequence[str]) -> str:
    """Returns a Markdown table with a row for each setting."""
    choose = len(kinds) == len(KINDS)
    columns = [f"{kind}: J / F / J&F" for kind in kinds] + ["choose by"] * choose + ["above the first"]
    lines = ["| setting | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for setting in settings:
        reports = [report(found, kind, setting) for kind in kinds]
        if not any(reports):
            continue
        cells = [cell(one, kind in ONE_OBJECT) for one, kind in zip(reports, kinds, strict=True)]
        if choose:
            scores = [one.j_and_f for one in reports if one is not None]
            cells.append(f"{50 * (scores[0] + (scores[1] + scores[2]) / 2):.1f}" if len(scores) == len(KINDS) else "–")
        shown = {clip: scores for clip, scores in found.items() if clip.kind in kinds}
        lines.append(f"| {setting} | " + " | ".join([*cells, above(shown, setting, shown, settings[0])]) + " |")
    return "\n".join(lines)


def gain_table(found: dict[Clip, dict], before: dict[Clip, dict], kinds: Sequence[str], settings: Sequence[str]) -> str:
    """Returns a Markdown table of the gains of weights over others, for each kind and for all clips."""
    lines = ["| setting | " + " | ".join([*kinds, "all"]) + " |", "|---" * (len(kinds) + 2) + "|"]
    for setting in settings:
        parts = [{clip: scores for clip, scores in found.items() if clip.kind == kind} for kind in kinds]
        parts.append({clip: scores for clip, scores in found.items() if clip.kind in kinds})
        lines.append("| " + " | ".join([setting, *(above(part, setting, before, setting) for part in parts)]) + " |")
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="+", help="compact, or a file")
    parser.add_argument("--data", type=Path, required=True, help="a folder with video_train/davis2016_train")
    parser.add_argument("--out", type=Path, default=Path("runs/selection"), help="where scores are kept")
    parser.add_argument("--setting", action="append", help='only these, such as "lfu, every=3, no kernel"')
    parser.add_argument("--kind", action="append", choices=KINDS, help="only these")
    parser.add_argument("--clip", action="append", help="only these, by name")
    parser.add_argument("--size", type=int, default=480, help="short side at which frames are processed")
    parser.add_argument("--frames", type=int, help="use only the first FRAMES frames of each clip")
    parser.add_argument("--quick", action="store_true", help="--size 240 --frames 20: to see that it runs")
    parser.add_argument("--dev", action="store_true", help="also score davis2016-dev, for the record")
    parser.add_argument("--crossing", action="store_true", help="also score crossing pairs of its objects")
    parser.add_argument("--trained", action="store_true", help="also score seven training sequences")
    parser.add_argument("--processes", type=int, default=1, choices=(1, 2), help="of one thread each")
    parser.add_argument("--table", action="store_true", help="print the existing scores and compute nothing")
    parser.add_argument("--write", type=Path, help="a Markdown file for the tables")
    args = parser.parse_args()
    if args.quick:
        args.size, args.frames = 240, 20
    # A wrong setting is refused before anything is computed.
    args.settings = [in_full(setting, args.size) for setting in args.setting or DEFAULT_SETTINGS]
    return args


def main() -> None:
    args = arguments()
    recorded = [kind for kind in FOR_THE_RECORD if getattr(args, kind)]
    kinds = [kind for kind in KINDS if kind in (args.kind or KINDS)]
    clips = [clip for clip in clips_of([*kinds, *recorded], args.data) if not args.clip or clip.name in args.clip]
    kinds = [kind for kind in kinds if any(clip.kind == kind for clip in clips)]
    folders = {weights: folder_of(weights, args) for weights in args.weights}
    tasks = [] if args.table else list(tasks_of(clips, folders, args))
    for done in run_jobs(tasks, args.processes, on_frames=lambda frames: None):
        print(done, flush=True)
    tables = []
    of_first: dict[Clip, dict] = {}
    for weights, folder in folders.items():
        found = {clip: known(file_of(folder, clip)) for clip in clips}
        names = "" if not args.clip else f" on {', '.join(clip.name for clip in clips)}"
        tables.append(f"{weights} ({folder.name}){names}\n\n{table(found, kinds, args.settings)}\n")
        of_first = of_first or found
        if found is not of_first:
            tables.append(f"above {args.weights[0]}\n\n{gain_table(found, of_first, kinds, args.settings)}\n")
        for kind in recorded:
            title = f"{FOR_THE_RECORD[kind]}; nothing is chosen by it"
            tables.append(f"{title}\n\n{table(found, [kind], args.settings)}\n")
            if found is not of_first:
                tables.append(f"above {args.weights[0]}\n\n{gain_table(found, of_first, [kind], args.settings)}\n")
    print("\n" + "\n".join(tables))
    if args.write is not None:
        args.write.write_text("# Settings on the selection clips\n\n" + "\n".join(tables))


def folder_of(weights: str, args: argparse.Namespace) -> Path:
    """Returns the folder for scores, named after the weights' content and all else that scores depend on."""
    content = (packaged_weights(weights) or Path(weights)).read_bytes()
    precision = str(preferred_dtype(torch.device("cpu"))).removeprefix("torch.")
    parts = hashlib.sha256(content).hexdigest()[:12], args.size, args.frames or "all", precision, code_digest()
    return Path(args.out / "-".join(map(str, parts)))


def code_digest() -> str:
    """Returns a digest of the code that tracks and of the code that makes the clips and scores them."""
    package = Path(mm.__file__).parent
    files = [Path(__file__).with_name(f"{name}.py") for name in ("clips", "copy_paste")]
    files += [package / f"{name}.py" for name in ("tracker", "step", "state", "config", "types")]
    parts = "memory", "model", "engines", "datasets", "metrics"
    files += [path for part in parts for path in (package / part).rglob("*.py")]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(files))).hexdigest()[:6]


def file_of(folder: Path, clip: Clip) -> Path:
    return folder / f"{clip.kind}-{clip.name}.json"


def tasks_of(clips: Sequence[Clip], folders: dict[str, Path], args: argparse.Namespace) -> Iterator[Task]:
    """Yields the tasks that remain to be scored."""
    for weights, folder in folders.items():
        folder.mkdir(parents=True, exist_ok=True)
        for clip in clips:
            file = file_of(folder, clip)
            missing = tuple(setting for setting in args.settings if setting not in known(file))
            if missing:
                yield Task(weights, clip, missing, file, args.data, args.size, args.frames)


if __name__ == "__main__":
    main()
