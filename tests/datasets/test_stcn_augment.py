"""The augmentation of the thesis, and clips of photographs by it."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from refusals import refusal

from mnemask.datasets.annotated import AnnotatedImage
from mnemask.datasets.clips import ClipShape
from mnemask.datasets.composite.appearance import LUMA, tint_matrix
from mnemask.datasets.stcn_augment import (
    MEAN_COLOUR,
    AffineJitter,
    ClipColourJitter,
    ColourJitter,
    ColourTransform,
    ImageClips,
    StillAugmentation,
    VideoAugmentation,
    render,
    warp_labels,
)
from mnemask.errors import FrameError, InputError, MaskError

NO_COLOUR = ColourJitter(0.0, 0.0, 0.0)
PLAIN_LOOK = ClipColourJitter(NO_COLOUR, NO_COLOUR, grey=0.0)
AS_IT_IS = AffineJitter(0.0, 0.0)
WHOLE = {"area": (1.0, 1.0), "aspect": (1.0, 1.0), "affine": AS_IT_IS, "look": PLAIN_LOOK}


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (height, width, 3), dtype=np.uint8)


def rendered(augmentation, picture, size, seed=0, num_frames=2):
    rng = np.random.default_rng(seed)
    views = augmentation.views(rng, picture.shape[:2], ClipShape(size, num_frames))
    return render(rng, augmentation.look, [picture] * num_frames, views, size)


@pytest.mark.parametrize(
    "augmentation",
    [VideoAugmentation(flip=0.0, **WHOLE), StillAugmentation((1.0, 1.0), 0.0, AS_IT_IS, PLAIN_LOOK)],
)
def test_without_change_a_picture_stays_as_it_is_to_the_pixel(augmentation) -> None:
    picture = noise(64, 64)
    assert (rendered(augmentation, picture, 64) == picture).all()


def test_a_clip_that_is_only_mirrored_is_the_mirror_image_to_the_pixel() -> None:
    picture = noise(64, 64)
    for augmentation in (
        VideoAugmentation(flip=1.0, **WHOLE),
        StillAugmentation((1.0, 1.0), 1.0, AS_IT_IS, PLAIN_LOOK),
    ):
        assert (rendered(augmentation, picture, 64) == picture[:, ::-1]).all()


def test_enlarged_and_reduced_pictures_lie_where_a_resize_puts_them() -> None:
    augmentation = VideoAugmentation(flip=0.0, **WHOLE)
    small, large = noise(32, 32), noise(256, 256)
    inside = slice(2, -2)  # beyond its border a resize repeats the picture
    resized = cv2.resize(small, (64, 64), interpolation=cv2.INTER_LINEAR)
    assert np.abs(rendered(augmentation, small, 64)[0][inside, inside] - resized[inside, inside].astype(int)).max() <= 6
    reduced = cv2.resize(large, (64, 64), interpolation=cv2.INTER_AREA)
    assert (rendered(augmentation, large, 64)[0] == reduced).all()


def test_a_picture_reduced_by_an_odd_factor_is_not_shifted() -> None:
    ramp = np.repeat(np.linspace(0, 250, 251).astype(np.uint8)[None, :, None], 251, 0).repeat(3, 2)
    shown = rendered(VideoAugmentation(flip=0.0, **WHOLE), ramp, 64)[0][30, :, 0].astype(float)
    expected = (np.arange(64) + 0.5) * 251 / 64 - 0.5
    assert np.abs(shown - expected)[2:-2].max() < 1


@pytest.mark.parametrize("augmentation", [VideoAugmentation(), StillAugmentation()])
def test_frames_share_the_flip_and_nothing_is_at_the_same_place(augmentation) -> None:
    signs = []
    for seed in range(30):
        views = augmentation.views(np.random.default_rng(seed), (90, 120), ClipShape(64, 4))
        turned = np.sign(np.linalg.det(views[:, :, :2]))
        assert len(set(turned.tolist())) == 1
        assert len(np.unique(views.round(6), axis=0)) == 4
        signs.append(turned[0])
    assert 5 < signs.count(-1) < 25


def test_affine_maps_stay_within_their_limits_and_reach_them() -> None:
    maps = AffineJitter(20.0, 10.0, (0.9, 1.1)).draw(np.random.default_rng(0), 2000, (30.0, 40.0))
    first, second = maps[:, :2, 0], maps[:, :2, 1]
    angle = np.rad2deg(np.arctan2(first[:, 1], first[:, 0]))
    scale = np.linalg.norm(first, axis=1)
    shear = np.rad2deg(np.arctan((first * second).sum(1) / scale**2))
    for values, low, high in ((angle, -20, 20), (scale, 0.9, 1.1), (shear, -10, 10)):
        assert values.min() == pytest.approx(low, abs=0.01 * (high - low))
        assert values.max() == pytest.approx(high, abs=0.01 * (high - low))
    assert maps @ np.array([30.0, 40.0, 1.0]) == pytest.approx(np.tile([30.0, 40.0, 1.0], (2000, 1)))


@pytest.mark.parametrize("picture", [(480, 854), (100, 100), (300, 200), (40, 400)])
def test_a_crop_of_a_video_lies_inside_it_and_covers_the_share_asked_for(picture: tuple[int, int]) -> None:
    corners = np.array([[-0.5, 63.5, -0.5, 63.5], [-0.5, -0.5, 63.5, 63.5], [1, 1, 1, 1]])
    shares = []
    for seed in range(60):
        views = VideoAugmentation(affine=AS_IT_IS).views(np.random.default_rng(seed), picture, ClipShape(64, 2))
        linear = np.vstack((views[0], [0, 0, 1]))
        x, y, _ = np.linalg.inv(linear) @ corners
        assert min(x.min(), y.min()) > -0.5001
        assert x.max() < picture[1] - 0.4999
        assert y.max() < picture[0] - 0.4999
        shares.append(np.ptp(x) * np.ptp(y) / (picture[0] * picture[1]))
    assert max(shares) <= 1.0001
    if picture != (40, 400):  # no such crop fits there
        assert 0.3599 <= min(shares) < 0.5


def test_beyond_the_picture_is_the_mean_colour_and_background() -> None:
    augmentation = StillAugmentation((0.5, 0.5), 0.0, AS_IT_IS, PLAIN_LOOK)
    views = augmentation.views(np.random.default_rng(0), (64, 64), ClipShape(64, 2))
    white = np.full((64, 64, 3), 255, np.uint8)
    frames = render(np.random.default_rng(0), PLAIN_LOOK, [white] * 2, views, 64)
    labels = warp_labels(np.ones((64, 64), np.uint8), [1], views[0], 64)
    assert (frames[0][:15] == MEAN_COLOUR).all()
    assert (frames[0][17:47, 17:47] == 255).all()
    assert not labels[:15].any()
    assert labels[17:47, 17:47].all()


def test_no_label_is_invented_between_two_that_meet() -> None:
    labels = np.full((64, 64), 1, np.uint8)
    labels[:, 32:] = 9
    labels[40:] = 255
    for seed in range(20):
        for view in StillAugmentation().views(np.random.default_rng(seed), (64, 64), ClipShape(96, 2)):
            warped = warp_labels(labels, [1, 9, 255], view, 96)
            assert set(np.unique(warped)) <= {0, 1, 9, 255}
            # No gap where they meet either: only a pixel in which three share may be nobody's.
            covered = warp_labels(np.ones_like(labels), [1], view, 96)
            assert np.count_nonzero((warped == 0) & (covered == 1)) <= 4


def test_labels_that_were_not_asked_for_are_background() -> None:
    labels = np.full((32, 32), 3, np.uint8)
    assert not warp_labels(labels, [1, 2], np.eye(2, 3), 32).any()


def test_colours_change_as_brightness_contrast_saturation_and_hue_one_after_the_other() -> None:
    picture = np.random.default_rng(0).integers(90, 160, (16, 16, 3), dtype=np.uint8)
    colours = ColourTransform(tint_matrix(0.1, 0.2), contrast=1.2, brightness=0.9)
    expected = picture @ tint_matrix(0.1, 0.2).T
    grey = (picture @ LUMA).mean()
    expected = 0.9 * (1.2 * (expected - grey) + grey)
    assert np.abs(colours.apply(picture) - expected).max() < 1  # OpenCV counts in fixed point


def test_two_changes_of_colour_are_one_after_the_other() -> None:
    picture = np.random.default_rng(0).integers(90, 160, (16, 16, 3), dtype=np.uint8)
    jitter, rng = ColourJitter(0.1, 0.05, 0.05, 0.0), np.random.default_rng(1)
    for _ in range(10):
        first, second = jitter.draw(rng), jitter.draw(rng)
        difference = first.then(second).apply(picture).astype(int) - second.apply(first.apply(picture))
        assert np.abs(difference).max() <= 2


def test_frames_are_all_grey_or_all_in_colour() -> None:
    augmentation = VideoAugmentation(
        look=ClipColourJitter(ColourJitter(0.1, 0.03, 0.03), ColourJitter(0.01, 0.01, 0.01), 0.5)
    )
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[...] = (200, 90, 30)
    greys = 0
    for seed in range(30):
        frames = rendered(augmentation, picture, 64, seed, num_frames=3)[:, 30:34, 30:34]
        is_grey = [bool((np.ptp(frame, axis=-1) <= 1).all()) for frame in frames]
        assert len(set(is_grey)) == 1
        greys += is_grey[0]
    assert 5 < greys < 25


def test_frames_have_a_jitter_of_colour_of_their_own() -> None:
    picture = np.full((64, 64, 3), 128, np.uint8)
    augmentation = VideoAugmentation(look=ClipColourJitter(NO_COLOUR, ColourJitter(0.2, 0.0, 0.0), 0.0))
    frames = rendered(augmentation, picture, 64, num_frames=4)
    assert len({int(frame[32, 32, 0]) for frame in frames}) > 2
    assert all(102 <= frame[32, 32, 0] <= 154 for frame in frames)


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
