from pathlib import Path

import numpy as np
from drawn_data import draw_photographs
from PIL import Image
from refusals import refusal

from mnemask.datasets.composite.photographs import SetRule, StaticImages, choose_objects, read_rgb
from mnemask.errors import FrameError, InputError, MaskError


def drawn_mask() -> np.ndarray:
    mask = np.full((100, 100), 3, np.uint8)
    mask[20:50, 20:50] = 1
    mask[60:62, 10:90] = 2
    return mask


def test_segments_that_are_background_or_slivers_are_no_objects() -> None:
    for seed in range(10):
        chosen = choose_objects(np.random.default_rng(seed), drawn_mask(), SetRule(kind="segments"), 2)
        assert [np.count_nonzero(mask) for mask in chosen] == [900]


def test_parts_are_one_object_in_a_set_whose_union_is_the_object() -> None:
    mask = np.where(drawn_mask() == 3, 0, drawn_mask()).astype(np.uint8)
    chosen = choose_objects(np.random.default_rng(0), mask, SetRule(kind="union"), 2)
    assert len(chosen) == 1
    assert not (~chosen[0] & (mask > 0)).any()


def test_instances_do_not_overlap_and_specks_are_left_out() -> None:
    mask = drawn_mask()
    mask[mask > 1] = 0
    mask[70:95, 60:90] = 7
    mask[0:3, 0:3] = 9
    counts = set()
    for seed in range(20):
        chosen = choose_objects(np.random.default_rng(seed), mask, SetRule(), 2)
        counts.add(len(chosen))
        assert (np.sum(chosen, axis=0) <= 1).all()
        assert all(np.count_nonzero(one) >= 700 for one in chosen)
    assert counts == {1, 2}


def test_what_nobody_knows_beside_ids_is_no_object_and_alone_255_is_one() -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[60:90, 60:90] = 255
    assert choose_objects(np.random.default_rng(0), mask, SetRule(), 2)[0].sum() == 900
    mask[10:50, 10:50] = 1
    for seed in range(20):
        assert [one.sum() for one in choose_objects(np.random.default_rng(seed), mask, SetRule(), 2)] == [1600]


def test_a_cut_out_holds_the_object_and_fades_at_its_edge(tmp_path: Path) -> None:
    draw_photographs(tmp_path, ("discs",))
    images = StaticImages(tmp_path / "static")
    cut_out = images.draw_cut_out(np.random.default_rng(0))
    assert cut_out.area > 500
    assert not cut_out.pixels[[0, -1], :, 3].any()
    assert not cut_out.pixels[:, [0, -1], 3].any()


def test_files_that_are_no_pictures_are_named(tmp_path: Path) -> None:
    draw_photographs(tmp_path, ("discs",), 1)
    folder = tmp_path / "static" / "discs"
    (folder / "images" / "0000.jpg").write_bytes(b"not a picture")
    with refusal(FrameError, r"0000\.jpg"):
        StaticImages(tmp_path / "static").draw_image(np.random.default_rng(0))
    (folder / "masks" / "0000.png").write_bytes(b"not a mask")
    with refusal(MaskError, r"0000\.png"):
        StaticImages(tmp_path / "static").draw_cut_out(np.random.default_rng(0))
    (folder / "masks" / "0000.png").unlink()
    with refusal(InputError, r"0000\.png"):
        StaticImages(tmp_path / "static")


def test_palette_masks_and_webp_photographs_are_read_as_others_are(tmp_path: Path) -> None:
    draw_photographs(tmp_path, ("discs",), 1)
    plain = StaticImages(tmp_path / "static").draw_cut_out(np.random.default_rng(0))
    folder = tmp_path / "static" / "discs"
    indexed = Image.open(folder / "masks" / "0000.png").convert("P")
    indexed.putdata(list(Image.open(folder / "masks" / "0000.png").get_flattened_data()))
    indexed.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    indexed.save(folder / "masks" / "0000.png")
    Image.open(folder / "images" / "0000.jpg").save(folder / "images" / "0000.webp", lossless=True)
    (folder / "images" / "0000.jpg").unlink()
    same = StaticImages(tmp_path / "static").draw_cut_out(np.random.default_rng(0))
    assert np.array_equal(plain.pixels[..., 3], same.pixels[..., 3])


def test_a_jpeg_that_was_cut_off_is_refused_and_not_half_grey(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)).save(whole)
    assert read_rgb(whole).shape == (64, 96, 3)
    (tmp_path / "tail.jpg").write_bytes(whole.read_bytes() + b"made by a camera")
    assert read_rgb(tmp_path / "tail.jpg").shape == (64, 96, 3)
    (tmp_path / "film.jpg").write_bytes(whole.read_bytes() + bytes(5000))
    assert read_rgb(tmp_path / "film.jpg").shape == (64, 96, 3)
    for length in (0, 900, len(whole.read_bytes()) - 100):
        (tmp_path / "cut.jpg").write_bytes(whole.read_bytes()[:length])
        with refusal(FrameError, "cut.jpg"):
            read_rgb(tmp_path / "cut.jpg")
