"""Rebuilds the numbers of README, model card, docs and benchmarks/results from the weights in the package.

    make results                                  # all tables that documents show; hours on a CPU
    python benchmarks/results.py --quick          # the same steps on a few frames: minutes, no document changes
    python benchmarks/results.py --only quality   # some tables, or steps by name
    python benchmarks/results.py --check          # computes nothing; lists stale tables, with exit code 1 if any
    python benchmarks/results.py --note           # computes nothing; marks tables of other weights until rebuilt
    python benchmarks/results.py --list           # every step and table

A document shows a table between `<!-- results:NAME -->` and `<!-- /results -->`; the text between them is replaced.
Tables are defined in `results_tables.py`. Each table is stored in benchmarks/results/built.json with the SHA-256 of the
weights and the commands that it comes from. It is stale if one of these has changed, or if it was edited by hand.
Better weights need not wait for hours of tables: build the most important ones with `--only`; `--note` adds a line
under the others that they are of the previous weights.

A step is one command with its own folder under runs/results. A step that is done is not run again for the same weights;
one that was stopped continues if its command can. A step that fails is reported, and the others are still run.

If the key encoder of `compact` is not the one that the click head in the package was trained for, the head is trained
further and replaced before any step that uses clicks. `--only click-head` does only that.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from results_tables import CLICK_HEAD, STEPS, TABLES, Step, Table

from mnemask.model.checkpoints import load_model
from mnemask.model.click_head import key_encoder_id, read_click_head

ROOT = Path(__file__).resolve().parents[1]
MARKED = re.compile(r"(<!-- results:([\w-]+) -->\n)(.*?)(<!-- /results -->)", re.DOTALL)


@dataclass(frozen=True)
class Place:
    """Where tables are and what they are made from.

    Attributes:
        root: root of the repository, with the documents.
        work: folder for the output of steps, kept between calls.
        data: folder with davis2016-dev, static and video_train.
        weights: files of weights by name.
        steps: steps by name.
        tables: tables by name.
        quick: whether steps run on a few frames only.
    """

    root: Path
    work: Path
    data: Path
    weights: Mapping[str, Path]
    steps: Mapping[str, Step]
    tables: Mapping[str, Table]
    quick: bool = False

    @property
    def record(self) -> Path:
        return self.root / "benchmarks/results/built.json"

    @property
    def shared_runs(self) -> Path:
        """Folder of the runs of experiments; each has a subfolder named after its settings, including the weights."""
        return self.work / "experiment-runs"

    def documents(self) -> list[Path]:
        """Every Markdown file that may show tables."""
        found = [self.root / "README.md", *self.root.glob("docs/*.md"), *self.root.glob("benchmarks/results/*.md")]
        return sorted(path for path in found if path.is_file())

    def built(self) -> dict[str, dict]:
        return json.loads(self.record.read_text(encoding="utf-8")) if self.record.exists() else {}

    def folder(self, step: Step) -> Path:
        """Returns the folder of a step, which depends on its weights and its command."""
        text = json.dumps([self.hashes(step.weights), step.line, self.quick and step.quick])
        return self.work / f"{step.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def hashes(self, names: Iterable[str]) -> dict[str, str]:
        return {name: hashlib.sha256(self.weights[name].read_bytes()).hexdigest() for name in sorted(set(names))}

    def origin(self, table: Table) -> dict:
        """Returns what a table depends on, in the form of the record."""
        steps = [self.steps[name] for name in table.steps]
        return {
            "weights": self.hashes(name for step in steps for name in step.weights),
            "commands": {step.name: step.line for step in steps},
        }


def shown(place: Place) -> dict[str, list[tuple[Path, str]]]:
    """Returns the documents that show each table, with the text there; raises SystemExit for unknown names."""
    found: dict[str, list[tuple[Path, str]]] = {}
    for path in place.documents():
        for _, name, text, _ in MARKED.findall(path.read_text(encoding="utf-8")):
            if name not in place.tables:
                raise SystemExit(f"{path} shows results:{name}; expected one of {', '.join(place.tables)}")
            found.setdefault(name, []).append((path, text.strip("\n")))
    return found


def stale(place: Place) -> list[str]:
    """Returns a line for each table in a document that does not come from the current weights and commands."""
    built, lines = place.built(), []
    for name, places in shown(place).items():
        entry, origin = built.get(name), place.origin(place.tables[name])
        for path, text in places:
            if entry is None:
                reason = "was never built"
            elif entry["weights"] != origin["weights"]:
                reason = "comes from other weights"
            elif entry["commands"] != origin["commands"]:
                reason = "comes from another command"
            elif entry["markdown"] != text:
                reason = "is not the table that was built"
            else:
                continue
            lines.append(f"{path.relative_to(place.root)}: {name} {reason}")
    return lines


def note_other_weights(place: Place) -> list[str]:
    """Adds a line under each table of other weights that says so, until it is rebuilt; returns their names."""
    built, noted = place.built(), []
    for name in shown(place):
        entry = built.get(name)
        if entry is None or entry["weights"] == place.origin(place.tables[name])["weights"]:
            continue
        before = ", ".join(f"{weights} {sha[:12]}" for weights, sha in sorted(entry["weights"].items()))
        write_table(place, name, f"{entry['markdown']}\n\n*Of the weights before ({before}), not yet of today's.*")
        noted.append(name)
    return noted


def run_step(place: Place, step: Step) -> Path | None:
    """Runs a step unless it is done; returns its folder, or None if its command failed."""
    folder = place.folder(step)
    if (folder / "done").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    if step.shares_runs and not (runs := folder / "out/runs").exists():
        place.shared_runs.mkdir(parents=True, exist_ok=True)
        runs.parent.mkdir(exist_ok=True)
        runs.symlink_to(place.shared_runs)
    words = [*step.command, *(step.quick if place.quick else ())]
    command = [word.format(data=place.data, out=folder / "out") for word in words]
    if command[0] in ("python", "mnemask"):
        command = [sys.executable, *(["-m", "mnemask"] if command[0] == "mnemask" else []), *command[1:]]
    print(f"{step.name}: {' '.join(command)}", flush=True)
    environment = os.environ | ({"MNEMASK_PRECISION": step.precision} if step.precision else {})
    with (folder / "output.part").open("w", encoding="utf-8") as output:
        code = subprocess.run(command, stdout=output, cwd=place.root, env=environment, check=False).returncode
    if code:
        print(f"{step.name}: exit code {code}; run this command again to continue", file=sys.stderr)
        return None
    (folder / "output.part").replace(folder / "output.md")
    (folder / "done").touch()
    return folder


def is_click_head_old(place: Place) -> bool:
    """Returns whether the click head of the package was trained for another key encoder than that of `compact`."""
    _, wanted = read_click_head(place.weights["clicks"])
    return wanted != key_encoder_id(load_model(str(place.weights["compact"]), device="cpu"))


def renew_click_head(place: Place) -> bool:
    """Trains the package's click head further for the current key encoder; returns whether it now fits."""
    print(f"{place.weights['clicks'].name} is for another key encoder than {place.weights['compact'].name}", flush=True)
    if place.quick:
        print("without --quick it is trained on first; steps that click will fail", file=sys.stderr)
        return False
    if (folder := run_step(place, place.steps[CLICK_HEAD])) is None:
        return False
    replace_file(place.weights["clicks"], (folder / "out/clicks.safetensors").read_bytes())
    return True


def fill(place: Place, name: str, markdown: str) -> None:
    """Records a table, then writes it into each document that shows it."""
    built = place.built() | {name: {**place.origin(place.tables[name]), "markdown": markdown}}
    replace_file(place.record, (json.dumps(built, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode())
    write_table(place, name, markdown)


def write_table(place: Place, name: str, markdown: str) -> None:
    """Writes a table into each document that shows it."""
    for path, _ in shown(place).get(name, ()):
        text = path.read_text(encoding="utf-8")
        filled = MARKED.sub(lambda m: f"{m[1]}{markdown}\n{m[4]}" if m[2] == name else m[0], text)
        replace_file(path, filled.encode())


def replace_file(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)


def build(place: Place, only: Sequence[str]) -> bool:
    """Builds the requested tables, by default those that documents show; returns whether every step succeeded."""
    wanted = [table for name, table in place.tables.items() if name in (only or shown(place))]
    wanted += [table for table in place.tables.values() if table not in wanted and set(table.steps) & set(only)]
    clicks = CLICK_HEAD in only or any(
        "clicks" in place.steps[name].weights for table in wanted for name in table.steps
    )
    good = not (clicks and is_click_head_old(place)) or renew_click_head(place)
    for table in wanted:
        folders = [folder for name in table.steps if (folder := run_step(place, place.steps[name]))]
        if len(folders) < len(table.steps):
            good = False
            continue
        markdown = table.render(folders).strip("\n")
        print(f"\n{table.name}{' (quick)' if place.quick else ''}\n\n{markdown}\n", flush=True)
        if not place.quick:
            for source, target in table.pictures.items():
                replace_file(place.root / target, (folders[0] / "out" / source).read_bytes())
            fill(place, table.name, markdown)
    return good


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data", help="davis2016-dev, static, video_train")
    parser.add_argument("--work", type=Path, default=ROOT / "runs/results", help="folder for the output of steps")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="only these tables or steps")
    parser.add_argument("--quick", action="store_true", help="a few frames of each step; documents are not changed")
    parser.add_argument("--check", action="store_true", help="list stale tables; exit code 1 if there are any")
    parser.add_argument("--note", action="store_true", help="mark tables that come from other weights")
    parser.add_argument("--list", action="store_true", help="print every step and table")
    args = parser.parse_args()
    if unknown := sorted(set(args.only) - STEPS.keys() - TABLES.keys()):
        parser.error(f"there is no table or step {unknown[0]!r}; --list prints all")
    return args


def main() -> int:
    args = arguments()
    weights = {path.stem: path for path in (ROOT / "src/mnemask/model/weights").glob("*.safetensors")}
    place = Place(ROOT, args.work.resolve(), args.data.resolve(), weights, STEPS, TABLES, args.quick)
    if args.list:
        for table in TABLES.values():
            print(f"{table.name}: {', '.join(table.steps)}")
        for step in STEPS.values():
            print(f"\n{step.name} ({step.time}): {step.line}")
        return 0
    if args.check:
        lines = stale(place)
        print("\n".join(lines) or "every table is that of the weights in the package")
        return int(bool(lines))
    if args.note:
        print("\n".join(note_other_weights(place)) or "every table is that of the weights in the package")
        return 0
    return int(not build(place, args.only))


if __name__ == "__main__":
    sys.exit(main())
