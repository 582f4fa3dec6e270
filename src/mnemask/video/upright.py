"""Pictures turned and mirrored as their display matrix says, which PyAV reports but does not do."""

import math
from collections.abc import Mapping
from typing import cast

import numpy as np
from av.buffer import Buffer
from av.video.frame import VideoFrame
from jaxtyping import UInt8

Matrix = tuple[tuple[float, float], tuple[float, float]]


def upright(rgb: UInt8[np.ndarray, "h w 3"], matrix: Matrix) -> UInt8[np.ndarray, "H W 3"]:
    """Returns the picture as it is meant to be shown."""
    (a, b), (c, d) = matrix
    x_sign, y_sign = a, d
    if swaps_sides(matrix):  # rows become columns
        rgb, x_sign, y_sign = rgb.transpose(1, 0, 2), c, b
    if x_sign > 0 and y_sign > 0 and rgb.strides[1] == 3:
        return rgb
    return np.ascontiguousarray(rgb[:: -1 if y_sign < 0 else 1, :: -1 if x_sign < 0 else 1])


def swaps_sides(matrix: Matrix) -> bool:
    """Returns whether width becomes height: a quarter turn."""
    return abs(matrix[0][0]) < abs(matrix[0][1])


def display_matrix(frame: VideoFrame) -> Matrix:
    """Returns (a, b), (c, d): column x and row y of the stored frame are shown at x' = a x + c y, y' = b x + d y."""
    try:
        data = cast(Mapping[str, Buffer], frame.side_data).get("DISPLAYMATRIX")
    except ValueError:
        # PyAV 18 refuses to list side data when a frame has some that it does not know, such as EXIF. Its rotation
        # (degrees counter-clockwise) it still gives; a mirrored frame stays mirrored.
        turn = math.radians(frame.rotation)
        return (math.cos(turn), -math.sin(turn)), (math.sin(turn), math.cos(turn))
    if data is None:
        return (1.0, 0.0), (0.0, 1.0)
    a, b, _, c, d, *_ = np.frombuffer(bytes(data), np.int32).astype(float).tolist()
    return (a, b), (c, d)
