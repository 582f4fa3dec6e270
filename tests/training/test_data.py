"""Training sets by name, and one's own frames."""

import pickle
import signal
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from drawn_data import draw_photographs, draw_video
from PIL import Image
from refusals import refusal

import mnemask.errors
from mnemask.datasets.clips import ClipShape, TrainingClip
from mnemask.datasets.video_sets import open_video_folders
from mnemask.errors import FrameError, InputError, MaskError, MnemaskError
from mnemask.training.data import Batches, _begin_worker, load, open_own_videos, open_sources, parse_data
from mnemask.training.recipes import RECIPES, finetune, main, static


def draw_own_video(folder, values, count=4):
    """A square that moves; masks hold `values`."""
    for name in ("frames", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for t in range(count):
        mask = np.zeros((64, 96), np.uint8)
        mask[10:40, 10 + 4 * t : 40 + 4 * t] = values[0]
        if len(values) > 1:
            mask[42:60, 60:90] = values[1]
        frame = np.repeat((mask > 0)[..., None] * np.uint8(150) + np.uint8(40), 3, axis=2)
        Image.fromarray(frame).save(folder / "frames" / f"{t:03}.jpg")
        Image.fromarray(mask).save(folder / "masks" / f"{t:03}.png")


def test_sets_are_named_with_their_folders_whatever_the_capitals():
    assert {name: str(path) for name, path in parse_data(["duts-tr=/a", "Frames=/b=c"]).items()} == {
        "DUTS-TR": "/a",
        "frames": "/b=c",
    }


@pytest.mark.parametrize("text", ["duts-tr", "duts-tr=", "=x", "nothing=x", "DAVIS-2017-val=x"])
def test_what_is_no_training_set_is_refused_with_the_names_that_are(text):
    with refusal(InputError, r"NAME=FOLDER", r"NAME", r"YouTube-VOS-train"):
        parse_data([text])


def test_a_set_given_twice_is_refused():
    with refusal(InputError, r"ECSSD"):
        parse_data(["ecssd=a", "ECSSD=b"])


def test_a_recipe_without_data_says_what_it_is_meant_for():
    with refusal(InputError, r"--data", r"NAME=FOLDER", r"BIG", r"HRSOD", r"DUTS-TR", r"FSS-1000", r"ECSSD"):
        open_sources(static(10), {})


def test_sets_are_drawn_from_by_size_and_repetition(tmp_path):
    draw_photographs(tmp_path)
    draw_video(tmp_path)
    draw_own_video(tmp_path / "own", [1])
    mixture = open_sources(finetune(10), {"composites": tmp_path, "frames": tmp_path / "own"})
    sizes = [len(source) for source in mixture.sources]
    assert mixture.shares == pytest.approx(np.array(sizes) / sum(sizes))
    clip = mixture.draw(np.random.default_rng(0), ClipShape(64))
    assert clip.frames.shape == (3, 64, 64, 3)


def test_black_and_white_masks_are_one_object_and_numbered_ones_several(tmp_path):
    draw_own_video(tmp_path / "white", [255])
    draw_own_video(tmp_path / "ids", [1, 2])
    ids, white = open_video_folders(tmp_path)
    assert (ids.name, ids.single_object) == ("ids", False)
    assert (white.name, white.single_object) == ("white", True)


def test_own_videos_give_clips_even_where_one_frame_has_a_mask(tmp_path):
    draw_own_video(tmp_path / "one", [255])
    for mask in sorted((tmp_path / "one" / "masks").iterdir())[1:]:
        mask.unlink()
    clips = open_own_videos(tmp_path, 10)
    assert len(clips.sources) == 1
    clip = clips.draw(np.random.default_rng(0), ClipShape(64))
    assert set(np.unique(clip.labels)) == {0, 1}
    draw_own_video(tmp_path / "many", [1, 2])
    assert len(open_own_videos(tmp_path, 10).sources) == 2


def test_own_masks_further_apart_than_a_clip_may_reach_follow_each_other(tmp_path):
    draw_own_video(tmp_path / "sparse", [255], count=15)
    for mask in sorted((tmp_path / "sparse" / "masks").iterdir()):
        if int(mask.stem) % 7:
            mask.unlink()
    _, followed = open_own_videos(tmp_path, 5).sources
    clip = followed.draw(np.random.default_rng(0), ClipShape(64, max_gap=5))
    places = [np.argwhere(labels == 1).mean() for labels in clip.labels]
    assert len(set(places)) == 3


def test_an_object_of_255_beside_other_grey_levels_is_learnt_as_one(tmp_path):
    draw_own_video(tmp_path / "own", [200, 255])
    clips = open_own_videos(tmp_path, 10)
    drawn = [clips.draw(np.random.default_rng(seed), ClipShape(64, max_objects=2)) for seed in range(10)]
    assert 2 in {clip.num_objects for clip in drawn}
    assert not any((clip.labels == 255).any() for clip in drawn)


def test_ids_of_own_videos_stay_apart_in_one_frame_warped(tmp_path):
    draw_own_video(tmp_path / "own", [1, 2], count=1)
    clips = open_own_videos(tmp_path, 10)
    drawn = [clips.draw(np.random.default_rng(seed), ClipShape(64, max_objects=2)) for seed in range(10)]
    assert 2 in {clip.num_objects for clip in drawn}
    pairs = [clip for clip in drawn if clip.num_objects == 2]
    assert all({1, 2} <= set(np.unique(clip.labels[0])) for clip in pairs)


def show_object_in(masks, shown):
    """Masks of these frames show a square, and all others nothing."""
    for mask in masks.iterdir():
        labels = np.zeros((64, 96), np.uint8)
        labels[10:40, 30:60] = 255 * (int(mask.stem) in shown)
        Image.fromarray(labels).save(mask)


@pytest.mark.parametrize("shown", [{0}, {50}, {99}, {20, 21, 70}])
def test_clips_of_own_videos_begin_where_an_object_is_however_few_frames_show_it(tmp_path, shown):
    draw_own_video(tmp_path, [255], count=100)
    show_object_in(tmp_path / "masks", shown)
    clips = open_own_videos(tmp_path, 10)
    assert len(clips.sources) == 2
    for seed in range(40):
        assert clips.draw(np.random.default_rng(seed), ClipShape(64, 3, 2, 10)).num_objects == 1


def test_sparse_masks_of_own_videos_begin_clips_where_an_object_is(tmp_path):
    draw_own_video(tmp_path, [255], count=60)
    for mask in sorted((tmp_path / "masks").iterdir()):
        if int(mask.stem) % 12:
            mask.unlink()
    show_object_in(tmp_path / "masks", {24})
    _, followed = open_own_videos(tmp_path, 5).sources
    for seed in range(20):
        assert followed.draw(np.random.default_rng(seed), ClipShape(64, 3, 2, 5)).num_objects == 1


def test_own_masks_without_an_object_or_with_a_speck_are_refused_when_opened(tmp_path):
    draw_own_video(tmp_path, [255])
    show_object_in(tmp_path / "masks", set())
    with refusal(InputError, r"no object in 4 masks", r"0\.2 %"):
        open_own_videos(tmp_path, 10)
    speck = np.zeros((64, 96), np.uint8)
    speck[5, 5:7] = 255
    Image.fromarray(speck).save(tmp_path / "masks" / "001.png")
    with refusal(InputError, r"largest object in 4 masks has 2 pixels", r"0\.2 %"):
        open_own_videos(tmp_path, 10)


@pytest.mark.parametrize("values", [[255], [1, 2]])
def test_own_masks_and_frames_of_another_size_are_refused_when_opened(tmp_path, values):
    draw_own_video(tmp_path, values)
    mask, frame = tmp_path / "masks" / "002.png", tmp_path / "frames" / "002.jpg"
    Image.open(mask).resize((48, 32), Image.Resampling.NEAREST).save(mask)
    with refusal(MaskError, r"masks.002\.png", "48x32", "96x64"):
        open_own_videos(tmp_path, 10)
    Image.open(frame).resize((48, 32)).save(frame)
    with refusal(FrameError, r"002\.jpg", "48x32", "96x64"):
        open_own_videos(tmp_path, 10)


def test_void_in_own_masks_is_no_object_and_not_background(tmp_path):
    draw_own_video(tmp_path / "own", [1, 255], count=1)
    clips = open_own_videos(tmp_path, 10)
    drawn = [clips.draw(np.random.default_rng(seed), ClipShape(64)) for seed in range(10)]
    assert {clip.num_objects for clip in drawn} == {1}
    assert {0, 1, 255} == set(np.unique([clip.labels for clip in drawn]))


def test_a_damaged_frame_is_reported_the_same_whichever_process_draws_it(tmp_path):
    draw_own_video(tmp_path, [255])
    batches = Batches(open_own_videos(tmp_path, 10), replace(finetune(4), batch=1))
    for frame in (tmp_path / "frames").iterdir():
        frame.write_bytes(frame.read_bytes()[:300])
    reported = []
    for workers in (0, 1):
        with refusal(FrameError, r"frames.\d{3}\.jpg") as caught:
            next(load(batches, 0, workers, pin=False))
        reported.append(str(caught.value))
    assert reported[0] == reported[1]
    assert "Traceback" not in reported[1]


def test_every_error_comes_whole_from_another_process():
    kinds = [kind for kind in vars(mnemask.errors).values() if isinstance(kind, type)]
    for kind in kinds:
        copy = pickle.loads(pickle.dumps(kind("the folder is full", "make room")))
        assert type(copy) is kind
        assert isinstance(copy, MnemaskError)
        assert (copy.problem, copy.remedy) == ("the folder is full", "make room")


def test_the_stages_are_those_of_the_thesis():
    stage1, stage2 = static(), main()
    assert (stage1.steps, stage1.batch, stage1.max_objects) == (300_000, 16, 1)
    assert (stage2.steps, stage2.batch, stage2.min_objects, stage2.max_objects) == (150_000, 8, 2, 2)
    for stage in (stage1, stage2):
        assert (stage.optimizer, stage.learning_rate, stage.weight_decay, stage.betas) == (
            "adam",
            1e-5,
            1e-7,
            (0.9, 0.999),
        )
        assert (stage.bootstrap.start, stage.bootstrap.end, stage.bootstrap.hardest) == (20_000, 70_000, 0.15)
        half = stage.steps // 2
        assert [stage.schedule.rate(step, stage.steps) for step in (0, half - 1, half)] == [1.0, 1.0, 0.1]
        assert stage.shape(0, 1).size == 384
    gaps = [stage2.shape(int(stage2.steps * share), 1).max_gap for share in (0, 0.1, 0.2, 0.3, 0.4, 0.89, 0.9)]
    assert gaps == [5, 10, 15, 20, 25, 25, 5]


def test_objects_of_a_step_are_drawn_from_the_fewest_to_the_most():
    class Source:
        def draw(self, rng, shape):
            counts.append(shape.max_objects)
            pixels = np.zeros((shape.num_frames, 16, 16), np.uint8)
            return TrainingClip(np.stack([pixels] * 3, -1), pixels, 1)

    for least, seen in ((2, {2, 3}), (3, {3})):
        counts = []
        batches = Batches(Source(), replace(main(40), batch=1, min_objects=least, max_objects=3))
        for step in range(40):
            batches[step]
        assert set(counts) == seen
    with refusal(InputError, r"3 to 2 objects"):
        replace(main(), min_objects=3)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_of_few_steps_is_the_same_run_in_short(name):
    whole, short = RECIPES[name](), RECIPES[name](50)
    for share in (0.0, 0.2, 0.5, 0.99):
        one, other = whole.shape(int(whole.steps * share), 1), short.shape(int(50 * share), 1)
        # How many frames a step's clips have is drawn, where it changes.
        assert (one.size, one.max_gap) == (other.size, other.max_gap)
        assert whole.bootstrap.fraction(int(whole.steps * share)) == pytest.approx(
            short.bootstrap.fraction(int(50 * share)), abs=0.05
        )


def test_ctrl_c_reaches_the_process_that_trains_and_not_those_that_draw_clips():
    before = signal.getsignal(signal.SIGINT), cv2.getNumThreads(), torch.get_num_threads()
    try:
        _begin_worker(0)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before[0])
        cv2.setNumThreads(before[1])
        torch.set_num_threads(before[2])
