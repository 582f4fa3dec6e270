"""Drawing on a dark sheet: text, tiles, bars, and the cells of a frame (stored ones tinted, others dimmed)."""

from functools import cache

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8
from PIL import Image, ImageDraw, ImageFont

from mnemask.memory.introspection import Provenance
from mnemask.memory.tokens import CellGrid

PAPER, PANEL, INK, FAINT = (20, 22, 27), (38, 42, 50), (238, 240, 244), (150, 156, 168)
MARGIN = 24
Color = tuple[int, int, int]
Place = int | float


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


class Canvas:
    """An RGB picture to draw on; all positions are in pixels from the left and top.

    Args:
        width: the sheet's width.
        height: the sheet's height.
    """

    def __init__(self, width: int, height: int) -> None:
        self._image = Image.new("RGB", (width, height), PAPER)
        self._draw = ImageDraw.Draw(self._image)

    def text(self, left: Place, top: Place, text: str, size: int = 16, color: Color = INK) -> None:
        """Writes one line."""
        self._draw.text((left, top), text, color, _font(size))

    def paste(self, left: int, top: int, picture: UInt8[np.ndarray, "h w 3"]) -> None:
        """Pastes a picture."""
        self._image.paste(Image.fromarray(picture), (left, top))

    def fill(self, left: Place, top: Place, width: Place, height: Place, color: Color) -> None:
        """Fills a rectangle, at least one pixel large."""
        self._draw.rectangle((left, top, left + max(width, 1) - 1, top + max(height, 1) - 1), color)

    def bar(self, left: Place, top: Place, width: Place, height: Place, part: Place, color: Color) -> None:
        """Draws a bar that is filled to a fraction, 0 to 1."""
        self.fill(left, top, width, height, PANEL)
        if part > 0:
            self.fill(left, top, width * min(part, 1), height, color)

    def picture(self) -> UInt8[np.ndarray, "H W 3"]:
        """Returns the sheet."""
        return np.array(self._image)


def fitted(picture: UInt8[np.ndarray, "H W 3"], width: int) -> UInt8[np.ndarray, "h w 3"]:
    """Returns the picture at another width, with the same aspect ratio."""
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    way = cv2.INTER_AREA if width < picture.shape[1] else cv2.INTER_CUBIC
    resized: UInt8[np.ndarray, "h w 3"] = cv2.resize(picture, (width, height), interpolation=way)
    return resized


def width_within(width: int, height: int, picture: UInt8[np.ndarray, "H W 3"]) -> int:
    """Returns the width at which a picture fits into this width and height."""
    fitting: int = round(height * picture.shape[1] / picture.shape[0])
    return max(1, min(width, fitting))


def heat_colors(heat: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape 3"]:
    """Returns the RGB colour of each heat from 0 (violet) through green to 1 (yellow): viridis, colour-blind safe."""
    steps = np.clip(np.asarray(heat) * 255, 0, 255).astype(np.uint8)
    scale = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_VIRIDIS)[:, 0, ::-1]
    colors: UInt8[np.ndarray, "*shape 3"] = scale[steps]
    return colors


def heat_color(heat: float) -> Color:
    """Returns the RGB colour of one heat."""
    red, green, blue = heat_colors(np.array([heat]))[0].tolist()
    return red, green, blue


DIM = 0.4
TINT = 0.7
NO_PICTURE = 150  # grey instead of a frame if no video is given


def draw_remembered(
    image: UInt8[np.ndarray, "H W 3"] | None,
    memory: Provenance,
    frame: int,
    *,
    width: int = 640,
) -> UInt8[np.ndarray, "h w 3"]:
    """Returns a source frame with the stored cells tinted by top-k count, and pinned ones outlined in white.

    The highest count in memory has the hottest colour, on a logarithmic scale.

    Args:
        image: RGB, the frame itself; None draws the cells on plain grey.
        memory: the tokens, of any frames.
        frame: the frame to draw.
        width: the picture's width in pixels.
    """
    tile = ground(image, memory.grid, width)
    here = memory.frame == frame
    most = int(memory.topk_count.max(initial=1))
    heat = np.full(memory.grid.num_cells, -1.0)
    heat[memory.cell[here]] = heat_of(memory.topk_count[here], most)
    tile = tinted(tile, memory.grid, heat)
    pinned = np.zeros(memory.grid.num_cells, bool)
    pinned[memory.cell[here & memory.pinned]] = True
    return outlined(tile, memory.grid, pinned, INK)


def heat_of(topk_count: Int64[np.ndarray, " N"], most: int) -> Float[np.ndarray, " N"]:
    """Returns the heat of a top-k count, 0 to 1, on a logarithmic scale: few cells have most of the counts."""
    heat: Float[np.ndarray, " N"] = np.log1p(topk_count) / np.log1p(max(most, 1))
    return heat


def ground(image: UInt8[np.ndarray, "H W 3"] | None, grid: CellGrid, width: int) -> UInt8[np.ndarray, "h w 3"]:
    """Returns the frame at a width, plain grey if there is none."""
    if image is None:
        height = max(1, round(grid.size[0] * width / grid.size[1]))
        return np.full((height, width, 3), NO_PICTURE, np.uint8)
    return fitted(image, width)


def tinted(
    tile: UInt8[np.ndarray, "h w 3"], grid: CellGrid, heat: Float[np.ndarray, " P"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Returns the tile with each cell in the colour of its heat, 0 to 1; cells of negative heat are dimmed and grey."""
    cells = grid.cells_under(tile.shape[0], tile.shape[1])
    grey = cv2.cvtColor(tile, cv2.COLOR_RGB2GRAY)[..., None]
    color = heat_colors(np.clip(heat, 0, 1))[cells]
    # The tint follows the picture's brightness: flat colour would wash out a bright picture and hide a dark one.
    warm = tile * (1 - TINT) + color * (0.55 + 0.45 * grey / 255) * TINT
    warm = np.where(_edges(cells)[..., None], warm * 0.75, warm)
    picture: UInt8[np.ndarray, "h w 3"] = np.where((heat >= 0)[cells][..., None], warm, grey * DIM).astype(np.uint8)
    return picture


def outlined(
    tile: UInt8[np.ndarray, "h w 3"],
    grid: CellGrid,
    chosen: Bool[np.ndarray, " P"],
    color: Color = FAINT,
    thickness: int = 2,
) -> UInt8[np.ndarray, "h w 3"]:
    """Returns the tile with a line around the chosen cells, inside the frame, so that a full frame has a border."""
    inside = np.pad(chosen[grid.cells_under(tile.shape[0], tile.shape[1])].astype(np.uint8), thickness)
    core = cv2.erode(inside, np.ones((3, 3), np.uint8), iterations=thickness)
    line = (inside > core)[thickness:-thickness, thickness:-thickness]
    picture: UInt8[np.ndarray, "h w 3"] = np.where(line[..., None], np.array(color, np.uint8), tile)
    return picture


def _edges(cells: Int64[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Returns the first row and column of pixels of each cell."""
    edges = np.zeros(cells.shape, bool)
    edges[1:] |= cells[1:] != cells[:-1]
    edges[:, 1:] |= cells[:, 1:] != cells[:, :-1]
    return edges
