"""Coverage-guided fuzzing of one parser, for as long as one likes; pytest does not collect it.

    pip install atheris
    python tests/fuzz/atheris_parsers.py mask CORPUS -max_total_time=600 -rss_limit_mb=2048 -timeout=20

Targets: mask, weights, bank, result, trace, text. CORPUS is a folder; it is filled with a valid file where it is empty.
"""

import json
import sys
import tempfile
from pathlib import Path

import atheris

from mnemask.memory.trace import TraceFile, read_trace
from mnemask.model.stcn import STCN, STCNConfig
from mnemask.prompts import parse_at, parse_box

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

with atheris.instrument_imports(include=["mnemask", "PIL"]):
    import torch
    from drawn_clip import drawn_clip
    from hostile import outcome
    from PIL import Image

    import mnemask as mm
    from mnemask.evaluation.results import Result
    from mnemask.metrics import ObjectScore, Report

FILE = Path(tempfile.mkdtemp(prefix="mnemask-fuzz-")) / "file"


def written(data: bytes) -> Path:
    """The file that the parsers read, with this content."""
    FILE.write_bytes(data)
    return FILE


def text(data: bytes) -> None:
    """Everything that is typed."""
    typed = data.decode(errors="replace")
    for parse in (parse_box, parse_at, lambda size: mm.Budget(bytes=size)):
        outcome(lambda: parse(typed))  # noqa: B023


def result(data: bytes) -> None:
    """A result of an evaluation, as its folder reads it."""
    try:
        json.dumps(Result.from_dict(json.loads(data)).to_dict(), allow_nan=False)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
        return  # what ResultFolder.load turns into a sentence


def tracked(model: STCN) -> mm.Tracker:
    """A tracker of the smallest frames that is two frames into its video."""
    frames, masks = drawn_clip(2, 32, 32)
    tracker = mm.Tracker(model, short_side=None)
    tracker.step(frames[0], {1: masks[0, 0]})
    tracker.step(frames[1])
    return tracker


def bank(data: bytes, model: STCN) -> None:
    """A saved tracker, which must follow its video once it has loaded."""
    tracker = outcome(lambda: mm.Tracker.load(written(data), model))
    if tracker is not None:
        outcome(lambda: tracker.step(drawn_clip(1, 32, 32)[0][0]))


def write_valid(name: str, path: Path, model: STCN) -> None:
    """Writes a file that the target's parser takes, from which to go."""
    if name == "mask":
        Image.fromarray(drawn_clip(1, 32, 32)[1][0, 0].byte().numpy()).save(path, "PNG")
    elif name == "weights":
        torch.save({"key_comp.weight": torch.zeros(2, 2)}, path)
    elif name == "bank":
        tracked(model).save(path)
    elif name == "result":
        score = ObjectScore.from_frames("camel", 1, [0.9, 0.8], [1.0, 0.9])
        whole = Result("lru", "camel", Report((score,), "davis2017"), (0.1, 0.2), (1.0, 2.0), 9, 9, 1)
        path.write_text(json.dumps(whole.to_dict()))
    elif name == "trace":
        with TraceFile(path) as trace:
            tracker = tracked(model)
            tracker.memory.trace = trace
            tracker.step(drawn_clip(1, 32, 32)[0][0], {2: drawn_clip(1, 32, 32)[1][0, 0]})
    else:
        path.write_text("12,8,20,16")


def main() -> None:
    """Runs one target."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    config = STCNConfig(18, 8, 16, 8, (8, 8, 8))
    model = STCN(config).eval().requires_grad_(False)
    targets = {
        "mask": lambda data: outcome(lambda: mm.read_mask(written(data), antialiased="clean")),
        "weights": lambda data: outcome(lambda: mm.load_model(written(data), device="cpu")),
        "bank": lambda data: bank(data, model),
        "result": result,
        "trace": lambda data: outcome(lambda: list(read_trace(written(data)))),
        "text": text,
    }
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        write_valid(name, folder / "valid", model)
    atheris.Setup([sys.argv[0], *sys.argv[2:]], targets[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
