r"""Measures what each ingredient of the recipe `real-video` is worth, by training and scoring without it.

    python benchmarks/ingredients.py OUT --weights START.safetensors --data DATA [--steps 400] [--devices 2]

START was trained on photographs but not on real video, like the weights of version 0.1. Each variant trains from it in
OUT/VARIANT for the same number of steps, with a falling learning rate and the same seed, and is scored on the clips of
`selection.py` with `diverse` and `lfu`, 2 frames of memory. The script can be stopped and restarted; it prints a
Markdown table of the results so far. "above the whole" is the difference in J&F from the whole recipe, paired by clip,
with a 95 % bootstrap interval over clips: it does not say how much two runs of one recipe differ.
"""

import argparse
import hashlib
import json
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
    """Returns the weights of a variant; trains it if they do not exist yet."""
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
    """Scores weights on all clips, and writes the scores to the variant's folder."""
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
    """Returns the file of the scores of a clip."""
    return run / f"scores-{size}" / f"{name}.json"


def table(args: argparse.Namespace) -> str:
    """Returns Markdown tables of all variants that have been scored, one for each setting."""
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
    """Returns the existing scores of a variant, by clip."""
    names = {clip: f"{clip.kind}-{clip.name}" for clip in clips_of(KINDS, args.data)}
    return {clip: known(file_of(args.out / variant, args.size, name)) for clip, name in names.items()}


def refuse_others(args: argparse.Namespace) -> None:
    """Raises SystemExit if a folder has results of other arguments; else notes these."""
    digest = hashlib.sha256(args.weights.read_bytes()).hexdigest()
    settings = {"steps": args.steps, "seed": args.seed, "data": str(args.data.resolve()), "weights": digest}
    file = args.out / "settings.json"
    if file.exists() and (found := json.loads(file.read_text())) != settings:
        differing = ", ".join(name for name in settings if settings[name] != found.get(name))
        raise SystemExit(f"{args.out} holds results of other {differing}; give another folder")
    args.out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(settings))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="a folder for runs and scores")
    parser.add_argument("--weights", type=Path, required=True, help="to start from")
    parser.add_argument("--data", type=Path, required=True, help="a folder with static, video and video_train")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=7, help="another, with another OUT, shows how two runs differ")
    parser.add_argument("--variant", action="append", choices=VARIANTS, help="only these; by default all")
    parser.add_argument("--devices", type=int, default=2, choices=(1, 2), help="processes of one thread each")
    parser.add_argument("--size", type=int, default=480, help="short side at which frames are processed for scoring")
    parser.add_argument("--table", action="store_true", help="print the existing results and compute nothing")
    args = parser.parse_args()
    args.settings = [in_full(setting, args.size) for setting in SETTINGS]
    if not args.table:
        refuse_others(args)
        for variant in args.variant or VARIANTS:
            score(variant, train(variant, args), args)
    print("\n" + table(args))


if __name__ == "__main__":
    main()
