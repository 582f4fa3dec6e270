"""Names in the order of their numbers, whatever is a sign, a decimal point or a separator in them."""

import random
from pathlib import Path

import pytest

from mnemask.io.frame_files import find_frames
from mnemask.io.name_order import NameOrder, natural_order

STAMPS = [f"{1764297600 + 0.04 * t + 1e-7 * ((t * 7919) % 3):.7f}".rstrip("0") for t in range(1, 12)]

IN_ORDER = {
    "numbers": [f"frame{i}" for i in range(1, 30)],
    "a minus that separates": [f"frame-{i}" for i in range(1, 30)],
    "a minus that begins the name": [str(i) for i in range(-12, 13)],
    "only negative": [str(i) for i in range(-12, 0)],
    "some negative": [f"t{i}" for i in range(-12, 13)],
    "some negative behind an underscore": [f"z_{i}um" for i in range(-12, 13)],
    "signs of both kinds": [f"z{i:+.1f}um" for i in range(-3, 12)],
    "behind an equals sign": [f"t={i / 10:g}" for i in range(-20, 0)],
    "dates": [f"2026-11-{day}_10-30-{second}" for day in (9, 28) for second in (5, 6, 10)],
    "times as floats": ["t-1.5", "t-1.25", "t-1.0", "t-0.5", "t0.0", "t0.25", "t0.5", "t1.0", "t10.5"],
    "time stamps": STAMPS,
    "times as %g": [f"{i / 8:g}" for i in range(20)],
    "tiny times": [str(i * 1e-5) for i in range(40)],
    "inexact times": [f"t={i * 0.1}" for i in range(-20, 40)],
    "decimal commas": [str(i / 4).replace(".", ",") for i in range(13)],
    "random times": [repr(x) for x in sorted(random.Random(1).uniform(-5, 5) for _ in range(100))],
    "a dot that separates": [f"shot1.{i}" for i in range(1, 13)],
    "a counter that outgrows its zeros": [f"shot010.{i}" for i in range(995, 1012)],
    "versions": [f"v1.{minor}.{patch}" for minor in (2, 10) for patch in (1, 2, 10)],
    "a dot behind a word": [f"frame.{i}" for i in range(1, 13)],
    "capitals": ["frame8", "Frame9", "frame10", "FRAME11"],
    "screenshots": [
        f"Screenshot 2024-05-01 at {time}M"
        for time in ("12.05.00\u202fA", "9.41.00\u202fA", "10.15.30\u202fA", "12.05.00\u202fP", "1.30.00\u202fP")
    ],
    "screenshots in Spanish": [
        f"Captura 2024-02-28 a la(s) {time}"
        for time in ("11.59.58 a. m.", "12.00.01\u202fp.\u00a0m.", "1.00.01\u202fp.\u202fm.", "10.00.01 p.m.")
    ],
    "screenshots in Chinese": [
        f"\u622a\u5c4f2024-02-28 {time}" for time in ("上午11.59.58", "下午12.00.01", "下午1.00.01", "下午10.00.01")
    ],
    "screenshots in Japanese": [
        f"スクリーンショット 2024-02-28 {time}"
        for time in ("午前0.05.00", "午前11.59.58", "午後0.00.01", "午後1.00.01", "午後10.00.01")
    ],
    "screenshots in Korean": [
        f"스크린샷 2024-02-28 {time}" for time in ("오전 11.59.58", "오후 12.00.01", "오후 1.00.01", "오후 10.00.01")
    ],
    "times of half a day": ["cam 1:05 am", "cam 11:59 am", "cam 12:00 pm", "cam 2:30 pm", "cam 2:31 pm"],
    "hashes": ["1e3", "8", "9", "10"],
    "days first": ["28-02-2024", "29-02-2024", "01-03-2024", "02-03-2024"],
    "months first": ["cam_12/30/2023".replace("/", "."), "cam_12.31.2023", "cam_01.01.2024"],
    "months in words": ["2024-Jan-31", "2024-Feb-02", "2024-Mar-01"],
    "days before months in words": ["31Jan2024_2", "31Jan2024_10", "01Feb2024_1"],
    "scenes, shots and frames": ["1_1_0001", "1_1_0002", "1_1_0003", "1_2_0001", "1_2_0002"],
    "numbers around a word that is a month": ["5_oct_0001", "5_oct_0002", "6_oct_0001"],
    "formats of videos": [f"{lines}p{rate}_{i}" for lines, rate in ((720, 30), (1080, 120)) for i in (1, 9, 10)],
    "volumes and pages": [f"v{volume}p{page}" for volume in (1, 2) for page in range(1, 13)],
    "accents of one sign and of two": ["\u00e91", "e\u03012", "\u00e93", "e\u030110"],
    "a month that is only a word": ["may_1", "may_2", "may_10"],
}


@pytest.mark.parametrize("kind", IN_ORDER)
def test_names_are_in_the_order_that_a_person_would_count(kind):
    names = IN_ORDER[kind]
    shuffled = random.Random(0).sample(names, len(names))
    assert [path.stem for path in natural_order(Path(f"{name}.png") for name in shuffled)] == names


def test_what_may_be_read_in_two_ways_is_said(tmp_path):
    for name in ("x_-1", "x_-2"):
        (tmp_path / f"{name}.png").write_bytes(b"")
    assert [path.stem for path in find_frames(tmp_path).paths] == ["x_-1", "x_-2"]
    assert NameOrder.of(["x_-1", "x_-2"]).doubts
    assert NameOrder.of(["a1.3", "a1.14", "a2.9"]).doubts
    assert NameOrder.of(["a1p3", "a1p14", "a2p9"]).doubts
    assert "day" in NameOrder.of(["02-03-2024", "03-02-2024", "04-01-2024"]).doubts[0]
    assert not any(NameOrder.of(names).doubts for names in IN_ORDER.values())


@pytest.mark.parametrize(
    "names",
    [
        [f"take-{i:03d}" for i in range(1, 6)] + [f"take2-{i:03d}" for i in range(1, 6)],
        ["frame0000", *(f"frame-{i:04d}" for i in range(1, 5))],
        [*(f"shot-{i}" for i in range(1, 9)), "shot9"],
        ["img-1", "img-2", "img-3", "img4", "img5"],
        ["img-1", "img-2", "img-3", "img5", "img6"],
        ["img-1", "img-2", "img-3", "img1", "img2", "img3"],
    ],
)
def test_a_minus_before_numbers_that_do_not_go_through_zero_separates_and_that_is_said(names):
    order = NameOrder.of(names)
    assert not order.signed
    assert "separator" in order.doubts[0]
    of_one = [name for name in names if name.startswith(names[1].split("-")[0] + "-")]
    ordered = [path.stem for path in natural_order(Path(f"{name}.png") for name in reversed(names))]
    assert [name for name in ordered if name in of_one] == of_one


def test_a_minus_that_may_also_separate_is_said():
    assert "read as a sign" in NameOrder.of(["t-3", "t-2", "t-1", "t0"]).doubts[0]


@pytest.mark.parametrize(
    ("names", "fact"),
    [
        ([f"frame {i:,}" for i in range(997, 1004)], "thousands"),
        ([f"frame {i:,}".replace(",", ".") for i in range(990, 1200, 7)], "thousands"),
        *(([f"f{i:,}".replace(",", sign) for i in range(990, 1200, 7)], "thousands") for sign in "' _\u2019\u202f"),
        (["30Jan24", "31Jan24", "01Feb24"], "day"),
        ([*"yz", "aa", "ab"], "letters"),
        (["f_y", "f_z", "f_aa"], "letters"),
        (["0p0", "0p25", "0p5", "0p75", "1p0"], "decimal point"),
        ([f"z_{i / 8:g}um_1080p60".replace(".", "p") for i in range(-10, 12)], "decimal point"),
    ],
)
def test_what_is_counted_in_an_unusual_way_is_in_order_and_that_is_said(names, fact):
    shuffled = random.Random(0).sample(names, len(names))
    assert [path.stem for path in natural_order(Path(f"{stem}.png") for stem in shuffled)] == names
    assert fact in " ".join(NameOrder.of(shuffled).doubts)


@pytest.mark.parametrize(
    "names", [["t99.5", "t99.625", "t99.75", "t99.875", "t100", "t100.125"], ["t99", "t99.333", "t99.667", "t100"]]
)
def test_decimals_past_a_hundred_are_no_thousands(names):
    assert [path.stem for path in natural_order(Path(f"{stem}.png") for stem in reversed(names))] == names


@pytest.mark.parametrize(
    "names",
    [
        ["12-30-23", "12-31-23", "01-01-24"],
        ["28.2.24", "29.2.24", "1.3.24"],
        ["235900_31012024", "000100_01022024"],
        ["2359_2024-01-31", "0001_2024-02-01"],
        ["30012024", "31012024", "01022024"],
        ["\u7b2c\u4e00", "\u7b2c\u4e8c", "\u7b2c\u5341"],
    ],
)
def test_dates_out_of_order_and_numbers_in_words_are_a_doubt(names):
    assert len(NameOrder.of(names).doubts) == 1


@pytest.mark.parametrize(
    "names",
    [
        ["950us", "1ms", "2ms", "10ms"],
        ["900ms", "1s", "1.5s"],
        ["z_900 \u00b5m", "z_1 mm"],
        ["3mm_900us", "3mm_1ms"],
        ["59s", "1min", "61s"],
    ],
)
def test_numbers_with_different_units_are_a_doubt(names):
    assert any("different units" in doubt for doubt in NameOrder.of(names).doubts)


@pytest.mark.parametrize(
    "names",
    [
        ["950ms", "1000ms"],
        ["0.5s", "1s", "1.25s"],
        ["1h2m3s", "1h10m3s"],
        ["9h", "9h30m"],
        [f"1{letter}" for letter in "abcdefghijklmnopqrs"],
        ["cover", "1ms", "2ms"],
        ["1m_5s", "2m_5s"],
    ],
)
def test_numbers_with_one_unit_at_each_place_are_no_doubt(names):
    assert not any("units" in doubt for doubt in NameOrder.of(names).doubts)


@pytest.mark.parametrize(
    "names",
    [
        [f"10-{minute:02d}-{second:02d}" for minute in (5, 6) for second in (1, 30, 59)],
        [f"{scene:02d}-{shot:02d}-{take:02d}" for scene in (1, 2) for shot in (1, 2) for take in (1, 2)],
        [f"IMG_20240131_{i:06d}" for i in range(235957, 235960)] + ["IMG_20240201_000000"],
        [f"{i:08d}" for i in range(12011999, 12012010)],
        [f"t{i / 4:.3f}" for i in range(12)],
        [f"a{i},{j:03d}" for i in (1, 2) for j in (500, 750)],
        ["\u7b2c\u4e09\u56de_1", "\u7b2c\u4e09\u56de_2"],
        ["as", "be", "c"],
    ],
)
def test_numbers_that_could_be_dates_and_are_in_order_are_no_doubt(names):
    assert not NameOrder.of(names).doubts


@pytest.mark.parametrize("name", ["{:05x}", "{:x}", "f_{:04X}", "{:03x}_rgb"])
@pytest.mark.parametrize(
    "numbers", [range(5, 300), range(0, 300, 7), range(0x9E, 0xA3), [*range(5, 300, 3), *range(305, 400, 3)]]
)
def test_hexadecimal_numbers_are_known_by_their_even_steps_and_that_is_said(name, numbers):
    names = [name.format(number) for number in numbers]
    shuffled = random.Random(0).sample(names, len(names))
    assert [path.stem for path in natural_order(Path(f"{stem}.png") for stem in shuffled)] == names
    assert "hexadecimal" in NameOrder.of(shuffled).doubts[0]


@pytest.mark.parametrize("names", [["1", "2", "a"], ["a", "b", "c"], ["1a", "1b", "2a", "2b"], ["8", "9", "cafe"], []])
def test_other_names_with_letters_are_no_hexadecimal_numbers(names):
    assert NameOrder.of(names).hexadecimal is None
