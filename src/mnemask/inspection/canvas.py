"""A dark sheet of paper: text, tiles, bars, and where they go."""

from functools import cache

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

PAPER, PANEL, INK, FAINT = (20, 22, 27), (38, 42, 50), (238, 240, 244), (150, 156, 168)
MARGIN = 24
Color = tuple[int, int, int]
Place = int | float


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


class Canvas:
    """An RGB picture that is drawn on from left and top; all places are in pixels.

    Args:
        width: of the sheet.
        height: of the sheet.
    """

    def __init__(self, width: int, height: int) -> None:
        self._image = Image.new("RGB", (width, height), PAPER)
        self._draw = ImageDraw.Draw(self._image)

    def text(self, left: Place, top: Place, text: str, size: int = 16, color: Color = INK) -> None:
        """Writes one line."""
        self._draw.text((left, top), text, color, _font(size))

    def paste(self, left: int, top: int, picture: UInt8[np.ndarray, "h w 3"]) -> None:
        """Puts a picture."""
        self._image.paste(Image.fromarray(picture), (left, top))

    def fill(self, left: Place, top: Place, width: Place, height: Place, color: Color) -> None:
        """Fills a rectangle, at least one pixel large."""
        self._draw.rectangle((left, top, left + max(width, 1) - 1, top + max(height, 1) - 1), color)

    def bar(self, left: Place, top: Place, width: Place, height: Place, part: Place, color: Color) -> None:
        """Draws a bar that is filled up to a part, 0 to 1."""
        self.fill(left, top, width, height, PANEL)
        if part > 0:
            self.fill(left, top, width * min(part, 1), height, color)

    def picture(self) -> UInt8[np.ndarray, "H W 3"]:
        """Returns the sheet."""
        return np.array(self._image)


def fitted(picture: UInt8[np.ndarray, "H W 3"], width: int) -> UInt8[np.ndarray, "h w 3"]:
    """Returns the picture at another width, its shape kept."""
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    way = cv2.INTER_AREA if width < picture.shape[1] else cv2.INTER_CUBIC
    resized: UInt8[np.ndarray, "h w 3"] = cv2.resize(picture, (width, height), interpolation=way)
    return resized


def width_within(width: int, height: int, picture: UInt8[np.ndarray, "H W 3"]) -> int:
    """Returns the width at which a picture of any shape fits into this width and height."""
    fitting: int = round(height * picture.shape[1] / picture.shape[0])
    return max(1, min(width, fitting))


def heat_colors(heat: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape 3"]:
    """Returns the RGB colour of each heat from 0 (violet) over green to 1 (yellow): viridis, legible to everyone."""
    steps = np.clip(np.asarray(heat) * 255, 0, 255).astype(np.uint8)
    scale = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_VIRIDIS)[:, 0, ::-1]
    colors: UInt8[np.ndarray, "*shape 3"] = scale[steps]
    return colors


def heat_color(heat: float) -> Color:
    """Returns the RGB colour of one heat."""
    red, green, blue = heat_colors(np.array([heat]))[0].tolist()
    return red, green, blue
