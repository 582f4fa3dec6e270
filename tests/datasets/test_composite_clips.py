import pickle
from pathlib import Path

import numpy as np
import pytest
from drawn_data import draw_photographs, draw_video, write
from refusals import refusal

from mnemask.datasets.clips import ClipShape, TrainingClip, keep_visible
from mnemask.datasets.composite.clips import CompositeClips, CompositeRecipe
from mnemask.errors import InputError

ONLY = {
    "composite": {"composite": 1.0, "warped": 0.0, "real": 0.0},
    "warped": {"composite": 0.0, "warped": 1.0, "real": 0.0},
    "real": {"composite": 0.0, "warped": 0.0, "real": 1.0},
}
SHARED = Path(__file__).resolve().parents[2] / "../shared/data"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    draw_photographs(root)
    draw_video(root)
    return root


def draw(clips: CompositeClips, shape: ClipShape, seed: int) -> TrainingClip:
    return clips.draw(np.random.default_rng(seed), shape)


def check(clip: TrainingClip, shape: ClipShape) -> None:
    assert clip.frames.shape == (shape.num_frames, shape.size, shape.size, 3)
    assert clip.labels.shape == clip.frames.shape[:3]
    assert 1 <= clip.num_objects <= shape.max_objects
    assert set(np.unique(clip.labels).tolist()) <= {*range(clip.num_objects + 1), 255}
    for label in range(1, clip.num_objects + 1):
        assert np.count_nonzero(clip.labels[0] == label) >= 0.002 * shape.size**2


@pytest.mark.parametrize("kind", ONLY)
def test_every_object_is_in_the_first_frame_and_labels_stay_in_range(root: Path, kind: str) -> None:
    clips = CompositeClips(root, CompositeRecipe(**ONLY[kind]))
    for shape in (ClipShape(96), ClipShape(80, 5, 3)):
        for seed in range(12):
            check(draw(clips, shape, seed), shape)


def test_a_clip_depends_on_the_generator_alone(root: Path) -> None:
    clips, shape = CompositeClips(root), ClipShape(64)
    others = pickle.loads(pickle.dumps(clips))
    for seed in (5, 1, 2, 5):
        clip, other = draw(clips, shape, seed), draw(others, shape, seed)
        assert np.array_equal(clip.frames, other.frames)
        assert np.array_equal(clip.labels, other.labels)
    assert not np.array_equal(draw(clips, shape, 1).frames, draw(clips, shape, 2).frames)


def test_things_do_move_and_composites_have_up_to_two_objects(root: Path) -> None:
    clips = CompositeClips(root, CompositeRecipe(**ONLY["composite"]))
    drawn = [draw(clips, ClipShape(64), seed) for seed in range(20)]
    assert {clip.num_objects for clip in drawn} == {1, 2}
    assert all(not np.array_equal(clip.frames[0], clip.frames[1]) for clip in drawn)
    assert sum(not np.array_equal(clip.labels[0], clip.labels[1]) for clip in drawn) > 15


def test_an_object_that_the_first_frame_hides_is_background() -> None:
    labels = np.zeros((2, 40, 40), np.uint8)
    labels[1, :10] = 1
    labels[:, 20:30] = 2
    labels[:, 39] = 255
    kept, num_objects = keep_visible(labels, 2)
    assert num_objects == 1
    assert np.array_equal(kept == 1, labels == 2)
    assert np.array_equal(kept == 255, labels == 255)
    assert not kept[1, :10].any()


def test_a_missing_folder_is_named_with_what_was_expected_there(root: Path, tmp_path: Path) -> None:
    with refusal(InputError, r"nowhere/static", r"/NAME/images"):
        CompositeClips(tmp_path / "nowhere")
    draw_photographs(tmp_path)
    with refusal(InputError, r"/video", r"/NAME/frames"):
        CompositeClips(tmp_path)
    check(draw(CompositeClips(tmp_path, CompositeRecipe(real=0.0)), ClipShape(64), 0), ClipShape(64))


def test_photographs_without_objects_are_reported(tmp_path: Path) -> None:
    draw_photographs(tmp_path, ("empty",))
    for mask in (tmp_path / "static" / "empty" / "masks").iterdir():
        write(mask, np.zeros((96, 128), np.uint8))
    clips = CompositeClips(tmp_path, CompositeRecipe(**ONLY["warped"]))
    with refusal(InputError, "object"):
        draw(clips, ClipShape(64), 0)


@pytest.mark.parametrize("bad", [{"num_frames": 1}, {"size": 8}, {"max_objects": 0}, {"max_gap": 0}])
def test_an_impossible_shape_is_refused(bad: dict[str, int]) -> None:
    with refusal(InputError, "expected"):
        ClipShape(**bad)


def test_shares_below_zero_are_refused() -> None:
    with refusal(InputError, "expected"):
        CompositeRecipe(composite=-1.0)


@pytest.mark.shared
def test_clips_from_the_real_photographs_are_sound() -> None:
    if not SHARED.is_dir():
        pytest.skip(f"no data in {SHARED}")
    for kind in ONLY.values():
        clips = CompositeClips(SHARED, CompositeRecipe(**kind))
        for seed in range(8):
            check(draw(clips, ClipShape(128), seed), ClipShape(128))
