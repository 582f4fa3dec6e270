from pathlib import Path

import pytest

from mnemask.errors import MaskError, ObjectIdError
from mnemask.prompts import parse_at, parse_box


def test_a_box_is_four_whole_numbers():
    assert parse_box("120, 80,200,160") == (120, 80, 200, 160)
    assert parse_box("-4,0,20,9") == (-4, 0, 20, 9)


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "1.5,2,3,4", "a,b,c,d", "1 2 3 4", "1,2,3,"])
def test_other_text_is_not_a_box(text):
    with pytest.raises(MaskError, match=r"is not x,y,width,height .* such as"):
        parse_box(text)


@pytest.mark.parametrize("text", ["1,2,0,4", "1,2,3,-4"])
def test_a_box_has_an_inside(text):
    with pytest.raises(MaskError, match="at least 1"):
        parse_box(text)


def test_a_mask_at_a_frame_is_a_number_and_a_path():
    assert parse_at("240=dog.png") == (240, None, Path("dog.png"))
    assert parse_at("0=folder/a=b.png") == (0, None, Path("folder/a=b.png"))


def test_a_mask_at_a_frame_may_say_whose_it_is():
    assert parse_at("240:2=dog.png") == (240, 2, Path("dog.png"))
    assert parse_at("7=C:3=d.png") == (7, None, Path("C:3=d.png"))
    for id_ in (0, 65536):
        with pytest.raises(ObjectIdError, match=f"object id {id_} "):
            parse_at(f"240:{id_}=dog.png")


@pytest.mark.parametrize(
    "text",
    ["", "240", "dog.png", "=dog.png", "240=", "-1=dog.png", "2.5=dog.png", "x=dog.png", "4:=a.png", "4:x=a.png"],
)
def test_other_text_is_not_a_mask_at_a_frame(text):
    with pytest.raises(MaskError, match="is not FRAME=MASK"):
        parse_at(text)
