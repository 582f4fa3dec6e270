"""The main job on a clip that needs no file: drawn with exact masks, segmented, scored, and shown."""

from collections.abc import Callable, Iterator
from pathlib import Path

from jaxtyping import Int32
from PIL import Image
from torch import Tensor

from mnemask.datasets.drawn import DrawnVideo
from mnemask.metrics import Report, SequenceScorer
from mnemask.segment import Progress, segment
from mnemask.tracker import Tracker
from mnemask.types import Frame, Masks
from mnemask.video import contact_sheet

NUM_TILES = 12


def run_demo(
    tracker: Tracker,
    out: Path,
    video: DrawnVideo,
    *,
    on_frame: Callable[[Progress, Masks], None] = lambda progress, masks: None,
) -> tuple[Progress, Report]:
    """Returns what happened and the score; leaves masks, `overlay.mp4`, `contact-sheet.png` and `score.json` in `out`.

    Args:
        tracker: a new one.
        out: the folder, made if missing; an earlier demo in it is replaced.
        video: the clip, with the true masks that it knows.
        on_frame: is called after each frame.
    """
    scorer = SequenceScorer("demo", "davis2017")
    tiles: list[tuple[Frame, Int32[Tensor, "H W"]]] = []
    chosen = {round(tile * (len(video) - 1) / (NUM_TILES - 1)) for tile in range(NUM_TILES)}

    def frames() -> Iterator[Frame]:
        for frame, _ in video:
            yield frame

    def look(progress: Progress, masks: Masks) -> None:
        frame, truth = video[masks.index]
        scorer.add(truth.numpy(), masks.labels.cpu().numpy())
        if masks.index in chosen:
            tiles.append((frame, masks.labels))
        on_frame(progress, masks)

    first = video[0][1]
    prompts = {int(object_id): first == object_id for object_id in first.unique().tolist() if object_id}
    progress = segment(
        frames(),
        tracker,
        out,
        lambda frame: prompts if frame.index == 0 else None,
        overlay=True,
        overwrite=True,
        on_frame=look,
    )
    Image.fromarray(contact_sheet(tiles)).save(out / "contact-sheet.png")
    report = scorer.report()
    (out / "score.json").write_text(report.to_json())
    return progress, report
