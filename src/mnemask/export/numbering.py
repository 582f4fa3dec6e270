"""The numbers of a run's frames, from its table or from the names of its masks."""

import csv
import logging
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from mnemask.io.atomic import partial_file
from mnemask.io.table import TABLE
from mnemask.pipeline.places import CHECKPOINT
from mnemask.types import index_of_name

logger = logging.getLogger(__name__)


def frames_of_table(out: Path) -> dict[str, tuple[int, float | None]]:
    """Returns number and time of each frame by its name, from the table of a run; empty if there is none.

    For a run that is running or was interrupted, it has the complete lines so far.
    """
    unfinished = partial_file(out / TABLE)
    places = (out / TABLE, unfinished, out / CHECKPOINT / unfinished.name)
    try:
        place = next((path for path in places if path.is_file()), out / TABLE)
        with place.open(newline="", encoding="utf-8", errors="replace") as file:
            return {
                row["name"]: (int(row["frame"]), float(row["seconds"]) if row["seconds"] else None)
                for row in csv.DictReader(line for line in file if line.endswith("\n"))
            }
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def frame_rate(rows: Mapping[str, tuple[int, float | None]]) -> float | None:
    """Returns frames per second from the first and the last time in a table."""
    timed = [(index, seconds) for index, seconds in rows.values() if seconds is not None]
    if len(timed) < 2 or timed[-1][1] <= timed[0][1]:
        return None
    return round((timed[-1][0] - timed[0][0]) / (timed[-1][1] - timed[0][1]), 3)


def numbered(names: list[str], told: Mapping[str, int], out: Path) -> list[tuple[int, str]]:
    """Returns the number of each frame: from the table, otherwise from its name, otherwise its position.

    A table has no row for a frame without tracked objects. If names do not count from 0, the frames in the table give
    the shift; without any, the numbers in names are used if they cover more than half of their range. A warning
    reports gaps.
    """
    if all(name in told for name in names):
        return [(told[name], name) for name in names]
    numbers = [number for name in names if (number := index_of_name(name)) is not None]
    if len(numbers) == len(names):
        shifts = {number - told[name] for number, name in zip(numbers, names, strict=True) if name in told}
        if len(shifts) == 1 or (not shifts and 0 <= _missing(numbers) < len(names)):
            if not shifts and _missing(numbers):
                logger.warning(
                    "%s has no masks for %d of the numbers from %s to %s: the others keep the numbers in their names",
                    *(out, _missing(numbers), names[0], names[-1]),
                )
            shift = shifts.pop() if shifts else 0
            return [(number - shift, name) for number, name in zip(numbers, names, strict=True)]
    ends = [re.search(r"\d{1,9}$", name) for name in names]
    if not told and _missing([-1 if end is None else int(end[0]) for end in ends]) > 0:
        logger.warning(
            "%s has masks from %s to %s with gaps in their numbers, and no table with their frame numbers: they are "
            "numbered from 0 in their order",
            *(out, names[0], names[-1]),
        )
    return list(enumerate(names))


def _missing(numbers: list[int]) -> int:
    """Returns how many numbers are missing between the first and the last; -1 if they do not increase."""
    rise = all(earlier < later for earlier, later in pairwise(numbers))
    return numbers[-1] - numbers[0] + 1 - len(numbers) if rise else -1
