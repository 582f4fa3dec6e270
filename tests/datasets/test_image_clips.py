from pathlib import Path

import cv2
import numpy as np
import pytest
from refusals import refusal

from mnemask.datasets.annotated import AnnotatedImage
from mnemask.datasets.clips import ClipShape
from mnemask.datasets.image_clips import ImageClips
from mnemask.errors import FrameError, InputError, MaskError

SHAPE = ClipShape(size=96, num_frames=3)


def draw_image(root: Path, name: str, value: int = 255, radius: int = 30, mask_size: tuple[int, int] = (100, 140)):
    """A disc that is red on a blue ground, and white in the mask."""
    picture = np.full((100, 140, 3), (200, 40, 30), np.uint8)  # BGR
    mask = np.zeros(mask_size, np.uint8)
    for canvas, colour in ((picture, (30, 40, 200)), (mask, (value,))):
        cv2.circle(canvas, (70, 50), radius, colour, -1)
    assert cv2.imwrite(str(root / f"{name}.jpg"), picture)
    assert cv2.imwrite(str(root / f"{name}.png"), mask)
    return AnnotatedImage(name, root / f"{name}.jpg", root / f"{name}.png", 127 if value > 127 else 0)


def test_samples_of_one_photograph_show_its_object_where_the_labels_are(tmp_path: Path) -> None:
    clips = ImageClips([draw_image(tmp_path, "disc")])
    for seed in range(10):
        clip = clips.draw(np.random.default_rng(seed), SHAPE)
        assert clip.frames.shape == (3, 96, 96, 3)
        assert clip.labels.shape == (3, 96, 96)
        assert clip.frames.dtype == clip.labels.dtype == np.uint8
        assert clip.num_objects == 1
        assert set(np.unique(clip.labels)) <= {0, 1}
        red, _, blue = np.moveaxis(clip.frames.astype(int), -1, 0)
        coloured = np.abs(red - blue) > 70
        if coloured.mean() > 0.3:  # not a grey clip
            assert np.mean((red > blue)[coloured] != (clip.labels == 1)[coloured]) < 0.02


def test_samples_of_one_photograph_differ(tmp_path: Path) -> None:
    clip = ImageClips([draw_image(tmp_path, "disc")]).draw(np.random.default_rng(0), SHAPE)
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert (clip.labels[one] != clip.labels[other]).any()
        assert (clip.frames[one] != clip.frames[other]).any()


def test_a_clip_depends_on_the_generator_alone(tmp_path: Path) -> None:
    clips = ImageClips([draw_image(tmp_path, f"disc{n}", radius=20 + n) for n in range(5)])
    first = clips.draw(np.random.default_rng(7), SHAPE)
    clips.draw(np.random.default_rng(8), SHAPE)
    again = clips.draw(np.random.default_rng(7), SHAPE)
    assert (first.frames == again.frames).all()
    assert (first.labels == again.labels).all()


def test_masks_of_ones_are_objects_too(tmp_path: Path) -> None:
    white = ImageClips([draw_image(tmp_path, "white")]).draw(np.random.default_rng(0), SHAPE)
    ones = ImageClips([draw_image(tmp_path, "ones", value=1)]).draw(np.random.default_rng(0), SHAPE)
    assert (white.labels == ones.labels).all()


def test_photographs_without_an_object_are_passed_over_until_none_is_left(tmp_path: Path) -> None:
    empty, disc = draw_image(tmp_path, "empty", value=0), draw_image(tmp_path, "disc")
    for seed in range(5):
        assert ImageClips([empty, disc]).draw(np.random.default_rng(seed), SHAPE).num_objects == 1
    with refusal(InputError, r"empty\.jpg"):
        ImageClips([empty]).draw(np.random.default_rng(0), SHAPE)


def test_bad_files_are_named(tmp_path: Path) -> None:
    turned = draw_image(tmp_path, "turned", mask_size=(140, 100))
    with refusal(MaskError, r"turned\.png", r"\(140", r"100", r"turned\.jpg", r"\(100", r"140"):
        ImageClips([turned]).draw(np.random.default_rng(0), SHAPE)
    damaged = draw_image(tmp_path, "damaged")
    damaged.image.write_bytes(b"no picture")
    with refusal(FrameError, r"damaged\.jpg"):
        ImageClips([damaged]).draw(np.random.default_rng(0), SHAPE)
    damaged.mask.write_bytes(b"no mask")
    with refusal(MaskError, r"damaged\.png"):
        ImageClips([damaged]).draw(np.random.default_rng(0), SHAPE)


def test_no_images_are_refused() -> None:
    with refusal(InputError, "images"):
        ImageClips([])


@pytest.mark.shared
def test_real_horses_fill_a_clip(shared_data: Path) -> None:
    folder = shared_data / "static" / "weizmann_horses"
    images = [
        AnnotatedImage(path.stem, path, folder / "masks" / f"{path.stem}.png")
        for path in sorted((folder / "images").iterdir())[:20]
    ]
    for seed in range(4):
        clip = ImageClips(images).draw(np.random.default_rng(seed), ClipShape())
        assert clip.frames.shape == (3, 384, 384, 3)
        assert 0.02 < (clip.labels[0] == 1).mean() < 0.9
