import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn_data import draw_photographs, draw_video, write

from mnemask.datasets.composite import ClipRecipe, TrainingClip, TrainingClips, keep_visible
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


def check(clip: TrainingClip, recipe: ClipRecipe) -> None:
    assert clip.frames.shape == (recipe.num_frames, recipe.size, recipe.size, 3)
    assert clip.labels.shape == clip.frames.shape[:3]
    assert 1 <= clip.num_objects <= recipe.max_objects
    assert set(np.unique(clip.labels).tolist()) <= {*range(clip.num_objects + 1), 255}
    for label in range(1, clip.num_objects + 1):
        assert np.count_nonzero(clip.labels[0] == label) >= 0.002 * recipe.size**2


@pytest.mark.parametrize("kind", ONLY)
def test_every_object_is_in_the_first_frame_and_labels_stay_in_range(root: Path, kind: str) -> None:
    recipe = ClipRecipe(size=96, **ONLY[kind])
    clips = TrainingClips(root, recipe)
    for index in range(15):
        check(clips[index], recipe)


def test_a_clip_depends_on_seed_and_index_alone(root: Path) -> None:
    recipe = ClipRecipe(size=64)
    clips, others = TrainingClips(root, recipe, seed=3), TrainingClips(root, recipe, seed=3)
    for index in (5, 1, 2, 5):
        clip, other = clips[index], pickle.loads(pickle.dumps(others))[index]
        assert np.array_equal(clip.frames, other.frames)
        assert np.array_equal(clip.labels, other.labels)
    assert not np.array_equal(clips[1].frames, clips[2].frames)
    assert not np.array_equal(clips[1].frames, TrainingClips(root, recipe, seed=4)[1].frames)


def test_the_recipe_may_change_between_clips(root: Path) -> None:
    clips = TrainingClips(root, ClipRecipe(size=64, real=0.0))
    assert clips[0].frames.shape == (3, 64, 64, 3)
    clips.recipe = replace(clips.recipe, size=80, num_frames=5, max_objects=3, **ONLY["real"])
    check(clips[0], clips.recipe)


def test_things_do_move_and_composites_have_up_to_two_objects(root: Path) -> None:
    clips = TrainingClips(root, ClipRecipe(size=64, **ONLY["composite"]))
    drawn = [clips[index] for index in range(20)]
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
    with pytest.raises(InputError, match=r"no photographs in .*nowhere/static; expected .*/NAME/images"):
        TrainingClips(tmp_path / "nowhere")
    draw_photographs(tmp_path)
    with pytest.raises(InputError, match=r"no video in .*/video; expected .*/NAME/frames"):
        TrainingClips(tmp_path)
    check(TrainingClips(tmp_path, ClipRecipe(size=64, real=0.0))[0], ClipRecipe(size=64))


def test_photographs_without_objects_are_reported(tmp_path: Path) -> None:
    draw_photographs(tmp_path, ("empty",))
    for mask in (tmp_path / "static" / "empty" / "masks").iterdir():
        write(mask, np.zeros((96, 128), np.uint8))
    with pytest.raises(InputError, match="had no object to follow"):
        TrainingClips(tmp_path, ClipRecipe(**ONLY["warped"]))[0]


@pytest.mark.parametrize("bad", [{"num_frames": 1}, {"size": 8}, {"max_objects": 0}, {"composite": -1.0}])
def test_an_impossible_recipe_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InputError, match="expected"):
        ClipRecipe(**bad)


@pytest.mark.shared
def test_clips_from_the_real_photographs_are_sound() -> None:
    if not SHARED.is_dir():
        pytest.skip(f"no data in {SHARED}")
    for kind in ONLY.values():
        recipe = ClipRecipe(size=128, **kind)
        clips = TrainingClips(SHARED, recipe)
        for index in range(8):
            check(clips[index], recipe)
