"""Masks as they travel, and what the page asks for."""

import inspect
import re
from importlib.resources import files

import pytest
import torch

import mnemask as mm
from mnemask.studio.api import labels_to_bytes, mask_from_bytes
from mnemask.studio.clicks import ColourClicks

SIZE = (40, 60)


def area(top, left, bottom, right):
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


LARGE, SMALL = area(5, 5, 30, 25), area(5, 45, 12, 55)


def test_masks_travel_as_runs():
    assert len(labels_to_bytes(LARGE.int() + 700 * SMALL.int())) < 1200
    assert labels_to_bytes(torch.zeros(2, 3, dtype=torch.int32)).hex() == "03000000020000000000000006000000"
    data = torch.tensor([3, 2, 1, 2, 3], dtype=torch.int32).numpy().tobytes()
    assert mask_from_bytes(data, (2, 3)).tolist() == [[False, True, True], [False, False, False]]


@pytest.mark.parametrize("data", [b"", b"\0", b"\3\0\0\0\2\0\0\0", b"\xff" * 400])
def test_what_is_no_mask_of_the_frame_is_refused(data):
    with pytest.raises(ValueError):
        mask_from_bytes(data, (2, 3))


def test_a_first_click_finds_an_object_by_its_colour_alone():
    image = torch.full((3, 80, 100), 60, dtype=torch.uint8)
    image[0, 20:60, 30:70] = 220
    mask = ColourClicks(mm.Frame(image, 0)).mask([(50, 40)])
    assert mask[40, 50]
    assert not mask[5, 5]


def test_the_page_calls_actions_by_the_names_that_they_have():
    script = files("mnemask.studio").joinpath("static/app.js").read_text()
    asked = re.findall(r"\bdo: \"(\w+)\"((?:, \w+(?:: [^,{}]+)?)*)", script)
    asked += re.findall(r"\bstudio\.turn\(\"(\w+)\"()\)", script)
    methods = {
        "settings": mm.Project.change_settings,
        **{name: getattr(mm.Project, name, None) for name, _ in asked if name != "settings"},
    }
    assert {"add_object", "clear_key", "undo", "redo"} <= methods.keys()
    for name, more in asked:
        parameters = inspect.signature(methods[name]).parameters.values()
        known = {each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD}
        free = any(each.kind is each.VAR_KEYWORD for each in parameters)
        names = re.findall(r", (\w+)", more)
        assert free or set(names) <= known, f"{name} takes {sorted(known)} and the page sends {names}"
