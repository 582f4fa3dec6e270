"""How every picture of an experiment looks: one sheet, one set of colours that all eyes tell apart."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnemask.comparison.line_chart import OKABE_ITO
from mnemask.errors import OutputError
from mnemask.extras import missing_extra
from mnemask.video.files import temporary_file
from mnemask.video.written import Written

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = OKABE_ITO
# Objects lie on photographs, where the bright ones of these come first.
OBJECT_COLORS = ((240, 100, 0), (86, 180, 233), (240, 228, 66), (0, 170, 120), (230, 140, 190), (0, 114, 178))
INK, FAINT = "#222222", "#8a8a8a"

STYLE: dict[str, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "figure.dpi": 150,
    "savefig.dpi": 150,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "mnemask",  # the same figure is the same file
}


@contextmanager
def figure(width: float, height: float) -> Iterator["Figure"]:
    """Yields an empty figure in the project's style, to be drawn and saved within; it needs no display.

    Args:
        width: in inches.
        height: in inches.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.style import context
    except ImportError as error:
        raise missing_extra("figures need matplotlib", "figures") from error
    with context(STYLE):
        # Not pyplot's: drawn by Agg, or as SVG, and forgotten when nobody holds it.
        yield Figure(figsize=(width, height), layout="constrained")


def require_matplotlib() -> None:
    """Raises MissingExtraError where no figure could be drawn."""
    with figure(1.0, 1.0):
        pass


def save(drawn: "Figure", path: Path) -> Path:
    """Returns the path of the picture, whose suffix says what it becomes, once it is written whole.

    Raises:
        OutputError: it cannot be written, or has the place of a file that is no earlier picture.
    """
    partial = temporary_file(path)
    try:
        drawn.savefig(partial, metadata={"Date": None} if path.suffix == ".svg" else None)
        Written(path.parent).publish(partial, path)
    except OSError as error:
        raise OutputError(f"cannot write {str(path)!r} ({error.strerror}); make room there") from error
    finally:
        partial.unlink(missing_ok=True)
    return path
