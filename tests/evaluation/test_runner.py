import numpy as np
import pytest
from drawn_benchmark import draw_video, write_png
from PIL import Image
from refusals import refusal

from mnemask.datasets.annotated import AnnotatedVideo
from mnemask.datasets.video_sets import open_video_folders
from mnemask.errors import InputError
from mnemask.evaluation.benchmark import Benchmark, objects_in, only_first_masks
from mnemask.evaluation.runner import evaluate, follow
from mnemask.tracker import Tracker

BRIGHT = np.kron(np.array([[900, 300], [4000, 100]], np.uint16), np.ones((24, 32), np.uint16))  # of 12 bits


@pytest.fixture
def draw(tmp_path):
    """Returns a clip of 6 frames, in which object 1 moves beside void, with masks of some frames."""

    def draw(masked, single_object=False):
        rng = np.random.default_rng(0)
        frames, masks = [], {}
        for index in range(6):
            labels = np.zeros((48, 64), np.uint8)
            labels[10:30, 5 + 3 * index : 25 + 3 * index] = 1
            labels[40:, 50:] = 255
            picture = np.where(labels[..., None] == 1, (200, 40, 40), rng.integers(60, 90, (48, 64, 3)))
            frames.append(tmp_path / f"{index}.jpg")
            Image.fromarray(picture.astype(np.uint8)).save(frames[-1])
            if index in masked:
                masks[index] = tmp_path / f"{index}.png"
                Image.fromarray(labels).save(masks[index])
        return AnnotatedVideo("clip", tuple(frames), masks, single_object)

    return draw


def test_only_the_first_annotation_is_given_to_the_tracker_and_void_is_no_object(tiny_model, draw):
    video = draw(masked=(1, 3, 4))
    (video.masks[3]).write_bytes(b"never read")
    answers = [masks for masks, _ in follow(Tracker(tiny_model, short_side=48), only_first_masks(video))]
    assert [masks.object_ids for masks in answers] == [(), (1,), (1,), (1,), (1,), (1,)]
    assert [masks.index for masks in answers] == list(range(6))


def test_frames_without_masks_are_tracked_and_not_scored(tiny_model, draw):
    told = []
    outcome = evaluate(
        lambda: Tracker(tiny_model, short_side=48), [draw(masked=(0, 2, 5))], lambda name, report: told.append(name)
    )
    assert outcome.num_frames == 6
    assert [len(score.region_frames) for score in outcome.report.objects] == [1]
    assert told == ["clip"]
    assert 0 <= outcome.report.j_and_f <= 1
    assert outcome.most_tokens > 0


def test_a_video_of_one_object_is_scored_as_davis_2016_is(tiny_model, draw):
    outcome = evaluate(lambda: Tracker(tiny_model, short_side=48), [draw(masked=range(6), single_object=True)])
    assert outcome.report.protocol == "davis2016"
    assert [len(score.region_frames) for score in outcome.report.objects] == [4]


def test_one_tracker_for_all_videos_is_refused(tiny_model, draw):
    videos, used = [draw(masked=(0, 2, 4))] * 2, Tracker(tiny_model, short_side=48)
    with refusal(InputError, "6 frames already"):
        evaluate(lambda: used, videos)


def test_frames_of_12_bits_are_as_bright_as_a_reader_gives_them(tmp_path, tiny_model):
    for index in range(3):
        Image.fromarray(BRIGHT // (index + 1)).save(tmp_path / f"{index}.png")
    Image.fromarray(np.uint8(BRIGHT > 1000)).save(tmp_path / "mask.png")
    frames = tuple(tmp_path / f"{index}.png" for index in range(3))
    tracker = Tracker(tiny_model, short_side=48)
    seen, step = [], tracker.step
    tracker.step = lambda frame, known: (seen.append(int(frame.image.max())), step(frame, known))[1]
    list(follow(tracker, AnnotatedVideo("clip", frames, {0: tmp_path / "mask.png"}, single_object=False)))
    assert seen == [249, 125, 83]


def test_255_is_the_object_or_the_void_that_it_is_on_the_command_line(tmp_path, tiny_model):
    draw_video(tmp_path / "frames", tmp_path / "masks", late=0)
    for path in (tmp_path / "masks").iterdir():
        with Image.open(path) as image:
            labels = np.asarray(image)
        write_png(path, np.array([0, 127, 255], np.uint8)[labels])
    (sequence,) = Benchmark(tmp_path, "folder").open()
    assert objects_in(sequence.given, 0) == [127, 255]
    scored = evaluate(lambda: Tracker(tiny_model, short_side=48), open_video_folders(tmp_path)).report
    assert [score.object_id for score in scored.objects] == [127, 255]
