"""Charts and outlines: what is drawn is what there is."""

import re
import xml.etree.ElementTree as ET

import cv2
import numpy as np

from mnemask.comparison.charts import COLORS, DASHES, Line, Point, line_chart, percent, scatter, style_of
from mnemask.comparison.frames import display_size, outlines, picture_data


def svg_of(figure):
    return ET.fromstring(re.search(r"<svg viewBox=.*?</svg>", figure, re.S)[0])


def test_a_line_goes_from_edge_to_edge_and_breaks_where_there_is_no_value():
    chart = line_chart("key", "title", "hint", [Line("a", [0.2, 0.4, None, 0.6, 0.4])], percent)
    path = re.search(r'<path data-line="0"[^>]* d="([^"]+)"', chart)[1]
    points = re.findall(r"([ML])([\d.]+) ([\d.]+)", path)
    assert [(pen, float(x)) for pen, x, _ in points] == [("M", 0), ("L", 250), ("M", 750), ("L", 1000)]
    heights = [float(y) for _, _, y in points]
    assert heights[1] == heights[3]
    assert heights[2] < heights[1] < heights[0]  # up is more


def test_a_value_between_frames_without_one_is_a_dot():
    chart = line_chart("key", "title", "hint", [Line("a", [0.2, None, 0.4, None, 0.6, 0.7])], percent)
    path = re.search(r'<path data-line="0"[^>]* d="([^"]+)"', chart)[1]
    # SVG draws nothing where the pen is only moved to; a line of no length has round caps.
    assert [part.count("h0") + part.count("L") > 0 for part in path.split("M")[1:]] == [True] * 3


def test_names_in_a_chart_are_text():
    assert "<i>" not in line_chart("key", "title", "hint", [Line("<i>", [1.0])], percent)
    assert "<i>" not in scatter("title", "x", "y", [Point("<i>", 1.0, 0.5, "#000", True)])


def test_the_first_lines_look_different():
    assert len({style_of(number) for number in range(len(COLORS) * len(DASHES))}) == 32


def test_points_lie_where_their_numbers_say_and_their_names_do_not_overlap():
    names = ["lfu", "lfu-pinned", "keep-all", "fifo"]
    points = [Point(name, 10.0 + n, 0.5 + 0.0001 * n, COLORS[n], n == 3) for n, name in enumerate(names)]
    points.append(Point("far", 1000.0, 0.9, COLORS[4], True))
    drawn = svg_of(scatter("title", "MiB", "J", points, log_x=True))
    circles = {circle[0].text.split(":")[0]: circle for circle in drawn.iter("circle")}
    x = {name: float(circle.get("cx")) for name, circle in circles.items()}
    assert x["lfu"] < x["lfu-pinned"] < x["keep-all"] < x["fifo"] < x["far"]
    assert float(circles["far"].get("cy")) < float(circles["lfu"].get("cy"))
    assert circles["lfu"].get("fill") == "none"
    assert circles["far"].get("fill") == COLORS[4]
    rows = [float(text.get("y")) for text in drawn.iter("text") if text.text in names]
    assert all(abs(a - b) >= 14 for n, a in enumerate(rows) for b in rows[:n])
    assert all(0 <= float(text.get("x")) <= 380 for text in drawn.iter("text"))


def test_an_outline_encloses_its_object_and_leaves_its_hole_open():
    labels = np.zeros((200, 300), np.int32)
    labels[40:160, 60:200] = 7
    labels[80:120, 100:150] = 0
    labels[10:20, 10:30] = 300
    paths = outlines(labels, (200, 300))
    assert set(paths) == {"7", "300"}
    rings = [
        np.array([[int(n) for n in point.split()] for point in ring.split("L")], np.int32)
        for ring in re.findall(r"M([^Z]+)Z", paths["7"])
    ]
    assert len(rings) == 2
    filled = cv2.fillPoly(np.zeros((200, 300), np.uint8), rings, 1)  # even-odd, as the page fills it
    mask = labels == 7
    assert (filled.astype(bool) & mask).sum() / (filled.astype(bool) | mask).sum() > 0.97
    assert outlines(np.zeros((20, 30), np.int32), (20, 30)) == {}


def test_pictures_are_at_most_480_pixels_long_and_never_enlarged():
    assert display_size((480, 854)) == (270, 480)
    assert display_size((1000, 500)) == (480, 240)
    assert display_size((100, 160)) == (100, 160)
    assert picture_data(np.zeros((100, 160, 3), np.uint8), (50, 80)).startswith("UklGR")  # RIFF
