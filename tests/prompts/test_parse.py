from pathlib import Path

import pytest
from refusals import refusal

from mnemask.errors import MaskError, ObjectIdError
from mnemask.prompts import PromptPlan, parse_at, parse_box, parse_click
from mnemask.prompts.clicks import check_clicks
from mnemask.prompts.parse import ClickAt


def test_a_box_is_four_whole_numbers():
    assert parse_box("120, 80,200,160") == (120, 80, 200, 160)
    assert parse_box("-4,0,20,9") == (-4, 0, 20, 9)


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "1.5,2,3,4", "a,b,c,d", "1 2 3 4", "1,2,3,"])
def test_other_text_is_not_a_box(text):
    with refusal(MaskError, "height"):
        parse_box(text)


@pytest.mark.parametrize("text", ["1,2,0,4", "1,2,3,-4"])
def test_a_box_has_an_inside(text):
    with refusal(MaskError, "least"):
        parse_box(text)


def test_a_mask_at_a_frame_is_a_number_and_a_path():
    assert parse_at("240=dog.png") == (240, None, Path("dog.png"))
    assert parse_at("0=folder/a=b.png") == (0, None, Path("folder/a=b.png"))


def test_a_mask_at_a_frame_may_say_whose_it_is():
    assert parse_at("240:2=dog.png") == (240, 2, Path("dog.png"))
    assert parse_at("7=C:3=d.png") == (7, None, Path("C:3=d.png"))
    for id_ in (0, 65536):
        with refusal(ObjectIdError, rf"{id_}"):
            parse_at(f"240:{id_}=dog.png")


@pytest.mark.parametrize(
    "text",
    ["", "240", "dog.png", "=dog.png", "240=", "-1=dog.png", "2.5=dog.png", "x=dog.png", "4:=a.png", "4:x=a.png"],
)
def test_other_text_is_not_a_mask_at_a_frame(text):
    with refusal(MaskError, r"FRAME=MASK"):
        parse_at(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1=320,200", ClickAt(None, 1, 320, 200, True)),
        (" 12 = 3.5 , 0 ", ClickAt(None, 12, 3.5, 0, True)),
        ("240:2=5,6", ClickAt(240, 2, 5, 6, True)),
        ("1=-4,+7", ClickAt(None, 1, -4, 7, True)),  # that it lies outside is known with the frame
    ],
)
def test_a_click_is_an_object_and_a_place_in_the_first_frame_or_another(text, expected):
    assert parse_click(text) == expected
    assert parse_click(text, positive=False) == expected._replace(positive=False)


@pytest.mark.parametrize(
    "text", ["", "320,200", "1=320", "1=3,2,1", "x=1,2", "1=a,b", "1:2:3=4,5", "1=nan,2", "1=1e9,2"]
)
def test_anything_else_is_no_click(text):
    with pytest.raises(MaskError):
        parse_click(text)


@pytest.mark.parametrize("text", ["0=1,2", "65536=1,2"])
def test_a_click_on_an_impossible_id_is_refused(text):
    with pytest.raises(ObjectIdError):
        parse_click(text)


def test_fractions_are_no_pixels():
    click = parse_click("1=0.2,0.35")
    with refusal(MaskError, "fractions"):
        check_clicks([(click.x, click.y)], [])
    with refusal(MaskError, "fractions"):
        PromptPlan(None, [], [], clean=False, clicks=["1=0.2,0.35"])
    assert check_clicks([(0, 0.5)], []) == ([(0, 0.5)], [])
