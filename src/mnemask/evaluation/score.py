"""Scores folders of predicted masks against folders of true ones; `mnemask.metrics.davis` describes the protocols."""

from pathlib import Path

import numpy as np

from mnemask.datasets.annotated import void_of
from mnemask.datasets.mask_checks import TrueMaskChecks
from mnemask.errors import InputError, counted, listed
from mnemask.io.image_formats import cut_outs_in
from mnemask.io.images import IMAGE_SUFFIXES
from mnemask.io.label_files import (
    file_of,
    label_paths,
    labels_by_name,
    load_stored,
    map_name,
    number_of,
    only_annotated,
    read_labels,
    with_unlisted,
)
from mnemask.io.written import INDEX, is_preview
from mnemask.metrics import VOID, Protocol, Report, SequenceScorer
from mnemask.metrics.davis import check_protocol

Pairs = list[tuple[Path, Path | None]]  # true masks, and predictions; None for a frame that is known to be empty


def score_folder(
    gt_dir: Path | str,
    pred_dir: Path | str,
    protocol: Protocol = "davis2017",
    official_decay: bool = False,
) -> Report:
    """Returns the scores of the masks in one folder against those in another.

    Both hold a folder of masks for each sequence, or both are such a folder: PNG files of 8 or 16 bits, a label video
    (masks.mkv) or COCO run lengths (masks.json). All sequences in both are scored, and the notes name the others.
    Masks are matched by name; predictions of frames that are not annotated are ignored. If one side has only frame
    numbers, as label videos and CVAT tracks do, masks are matched by the numbers in the other side's names (00012), or
    in order if both sides have the same number of masks. Predictions in tracks of CVAT or in MOTS need not list frames
    without objects; the notes give the number of these.

    Args:
        gt_dir: the folder of true masks, such as DAVIS's Annotations/480p.
        pred_dir: the folder of predicted masks.
        protocol: "davis2016" or "davis2017".
        official_decay: whether to repeat the official tool's decay, which is wrong past 256 frames.

    Raises:
        InputError: a folder, a sequence or a frame is missing, a file does not hold a mask of the right size, the
            palettes of a sequence contradict each other, or one side has frame numbers and the other has names without
            any.
    """
    check_protocol(protocol)
    pairs, notes = _pair_folders(Path(gt_dir), Path(pred_dir))
    reports = []
    for name, files in pairs.items():
        scorer = SequenceScorer(name, protocol, official_decay=official_decay)
        undecided = has_ids = protocol == "davis2017"
        checks = TrueMaskChecks(has_ids), TrueMaskChecks(has_ids)
        for number, (truth, prediction) in enumerate(files):
            labels = {path: read_labels(path) for path in (truth, prediction) if path}
            for side, path in zip(checks, (truth, prediction), strict=True):
                if path:
                    side.add(path, labels[path])
            if undecided and (labels[truth] == VOID).any():
                scorer.void, undecided = void_of(path for path, _ in files[number:]), False
            predicted = labels[prediction] if prediction else np.zeros_like(labels[truth])
            scorer.add(labels[truth], predicted, (prediction or truth).name)
        reports.append(scorer.report())
    return Report.merged(reports, notes)


def _pair_folders(gt_dir: Path, pred_dir: Path) -> tuple[dict[str, Pairs], list[str]]:
    """Returns the paired files of each sequence to score, and notes on what was left out or is not listed."""
    truths, predictions = _find_masks(gt_dir), _find_masks(pred_dir)
    if isinstance(truths, list) and isinstance(predictions, list):
        truths, predictions = {gt_dir.name: truths}, {gt_dir.name: predictions}
    if isinstance(truths, list) or isinstance(predictions, list):
        single, several = (gt_dir, pred_dir) if isinstance(truths, list) else (pred_dir, gt_dir)
        cut_outs = next(iter(cut_outs_in(several).values()), {})
        if any(load_stored(path)[0] == "RGBA" for path in cut_outs.values()):
            raise InputError(
                f"{several} holds cut-outs, which do not say which object each pixel shows",
                "give masks: those of a run with --format png, or those of mnemask export RUN --to coco",
            )
        raise InputError(
            f"{single} holds the masks of one sequence",
            "give two such folders, or two that hold a folder for each sequence",
        )
    names = [name for name in truths if name in predictions]
    if not names:
        raise InputError(
            f"no sequence is in both folders: {gt_dir} has {listed(truths)}, {pred_dir} has {listed(predictions)}",
            "give the folders of predictions the names of the true ones",
        )
    notes = []
    for folder, found, other in (gt_dir, truths, predictions), (pred_dir, predictions, truths):
        if alone := [name for name in other if name not in found]:
            are = counted(len(alone), "sequence is", "sequences are")
            notes.append(f"{are} not in {folder} and so not scored: {listed(alone)}")
    pairs = {name: _pair_files(name, truths[name], predictions[name], pred_dir) for name in names}
    notes += [
        f"{unlisted} of {counted(len(pairs[name]), 'annotated frame')} of {name} are not listed in "
        f"{file_of(predictions[name][0])}, and so have no object there"
        for name in names
        if (unlisted := sum(prediction is None for _, prediction in pairs[name]))
    ]
    return pairs, notes


def _find_masks(folder: Path) -> list[Path] | dict[str, list[Path]]:
    """Returns the folder's masks or, if it has none, those of each subfolder by its name."""
    if not folder.exists():
        raise InputError(f"there is no folder {folder}", "give a folder with *.png or SEQUENCE/*.png in it")
    if masks := [path for path in label_paths(folder) if not is_preview(path)]:
        return masks
    if (folder / INDEX).is_file() and (run := folder / "masks").is_dir():
        raise InputError(f"there are no masks in {folder} itself", f"give {run}, which a run wrote")
    inside = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    found = {path.name: masks for path in inside if (masks := label_paths(path))}
    if not found:
        others = {*IMAGE_SUFFIXES} - {".png"}
        image = next((path for path in folder.rglob("*") if path.suffix.lower() in others), None)
        hint = f" ({image.name} is not read: images of masks must be PNG)" if image else ""
        if deep := next(iter(sorted(folder.glob("*/*/*.png"))), None):  # as in NAME/masks, which `evaluate` reads
            hint = f" (those in {deep.parent} lie too deep)"
        raise InputError(f"there are no masks in {folder}{hint}", "give a folder with *.png or SEQUENCE/*.png in it")
    return found


def _pair_files(name: str, truths: list[Path], predictions: list[Path], pred_dir: Path) -> Pairs:
    truths = only_annotated(truths)
    names = [map_name(path) for path in truths]
    known = with_unlisted(predictions, [number_of(name) for name in names])
    by_stem = labels_by_name(known, names)  # often only every fifth frame has a true mask
    numbered = None not in map(number_of, by_stem)
    truth_of = labels_by_name(truths, list(by_stem), None if numbered else range(len(by_stem)))
    paired = set(truth_of.values())
    missing = [truth_of[name] for name in truth_of if name not in by_stem]
    missing += [path for path in truths if path not in paired]
    if missing:
        raise InputError(
            f"the predictions of {name} in {pred_dir} lack {len(missing)} of {len(truths)} annotated frames, first "
            f"{missing[0].name}",
            f"they have {listed([path.name for path in predictions])}",
        )
    unlisted = set(known).difference(predictions)
    found = ((truth, by_stem[name]) for name, truth in truth_of.items())
    return [(truth, None if prediction in unlisted else prediction) for truth, prediction in found]
