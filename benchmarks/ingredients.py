r"""What each ingredient of the recipe `real-video` brings: the whole recipe, and the recipe without one, scored alike.

    python benchmarks/ingredients.py OUT --weights START.safetensors --data DATA [--steps 400] [--devices 2]

START knows photographs and not yet real video, as the weights of version 0.1 do. Each variant trains from it in
OUT/VARIANT for the same number of steps, with a falling learning rate and the same seed, and is scored on the clips of
`selection.py` with `diverse` and `lfu`, 2 frames of memory. Can be stopped and started again; prints a Markdown table
of what there is. "above the whole" is J&F over the objects of all clips, clip by clip, with a 95 % bootstrap interval
over clips: it does not say how far two runs of one recipe lie apart.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from selection import KINDS, Task, above, cell, clips_of, in_full, known, report

from mnemask.evaluation.suite import run_jobs
from mnemask.training.recipes import INGREDIENTS

START, WHOLE = "start", "whole"
VARIANTS = (START, WHOLE, *INGREDIENTS)
SETTINGS = ("diverse", "lfu")


def train(variant: str, args: argparse.Namespace) -> Path:
    """Returns the weights of a variant, trained where they are not there yet."""
    out = Path(args.out / variant)
    weights = args.weights if variant == START else out / "model.safetensors"
    if not weights.exists():
        command = [sys.executable, "-m", "mnemask", "train", "real-video", "--weights", str(args.weights)]
        command += ["--data", str(args.data), "--decay", "--steps", str(args.steps), "--seed", str(args.seed)]
        command += ["--devices", str(args.devices), "--workers", "0", "-o", str(out), "--resume"]
        command += [] if variant == WHOLE else ["--without", variant]
        subprocess.run(command, check=True)
    return weights


def score(variant: str, weights: Path, args: argparse.Namespace) -> None:
    """Scores weights on all clips, and keeps that in the variant's folder."""
    tasks = []
    for clip in clips_of(KINDS, args.data):
        file = file_of(args.out / variant, args.size, f"{clip.kind}-{clip.name}")
        missing = tuple(setting for setting in args.settings if setting not in known(file))
        if missing:
            file.parent.mkdir(parents=True, exist_ok=True)
            tasks.append(Task(str(weights), clip, missing, file, args.data, args.size, None))
    for done in run_jobs(tasks, args.devices, on_frames=lambda frames: None):
        print(done, flush=True)


def file_of(run: Path, size: int, name: str) -> Path:
    """Where the scores of a clip are kept."""
    return run / f"scores-{size}" / f"{name}.json"


def table(args: argparse.Namespace) -> str:
    """All variants that are scored, setting by setting."""
    lines = []
    for setting in args.settings:
        lines += [f"| `{setting}` | " + " | ".join(KINDS) + " | above the whole |", "|---" * (len(KINDS) + 2) + "|"]
        whole = scores_of(WHOLE, args)
        for variant in VARIANTS:
            found = scores_of(variant, args)
            reports = [report(found, kind, setting) for kind in KINDS]
            if all(reports):
                cells = [cell(one, kind == "real") for one, kind in zip(reports, KINDS, strict=True)]
                gain = "–" if variant == WHOLE else above(found, setting, whole, setting)
                name = f"without {variant}" if variant in INGREDIENTS else variant
                lines.append(f"| {' | '.join([name, *cells, gain])} |")
        lines.append("")
    return "\n".join(lines)


def scores_of(variant: str, args: argparse.Namespace) -> dict:
    """The scores that there are, by clip."""
    names = {clip: f"{clip.kind}-{clip.name}" for clip in clips_of(KINDS, args.data)}
    return {clip: known(file_of(args.out / variant, args.size, name)) for clip, name in names.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="a folder for runs and scores")
    parser.add_argument("--weights", type=Path, required=True, help="to start from")
    parser.add_argument("--data", type=Path, required=True, help="a folder with static, video and video_train")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=7, help="another one for another OUT: how far two runs lie apart")
    parser.add_argument("--variant", action="append", choices=VARIANTS, help="these alone; by default all")
    parser.add_argument("--devices", type=int, default=2, choices=(1, 2), help="processes of one thread each")
    parser.add_argument("--size", type=int, default=480, help="short side that the network sees when it is scored")
    parser.add_argument("--table", action="store_true", help="print what there is and compute nothing")
    args = parser.parse_args()
    args.settings = [in_full(setting, args.size) for setting in SETTINGS]
    if not args.table:
        for variant in args.variant or VARIANTS:
            score(variant, train(variant, args), args)
    print("\n" + table(args))


if __name__ == "__main__":
    main()
