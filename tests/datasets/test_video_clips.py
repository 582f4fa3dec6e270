from pathlib import Path

import cv2
import numpy as np
from refusals import refusal

from mnemask.datasets.annotated import AnnotatedVideo
from mnemask.datasets.clips import ClipShape
from mnemask.datasets.stcn_augment import AffineJitter, ClipColourJitter, ColourJitter, VideoAugmentation
from mnemask.datasets.video_clips import VideoClips
from mnemask.errors import FrameError, InputError, MaskError

# The whole picture as it is, so that frames can be recognised.
PLAIN = VideoAugmentation(
    (1.0, 1.0),
    (1.0, 1.0),
    0.0,
    AffineJitter(0.0, 0.0),
    ClipColourJitter(ColourJitter(0.0, 0.0, 0.0), ColourJitter(0.0, 0.0, 0.0), 0.0),
)
# Object id in the mask: where it is, and its green and blue.
OBJECTS = {3: (slice(8, 24), (60, 200)), 7: (slice(28, 40), (120, 60)), 12: (slice(44, 60), (220, 140))}


def draw_video(root: Path, name: str = "boxes", count: int = 20, every: int = 1, ids=(3, 7, 12), single_object=False):
    """Frame t has the red 10 t; three boxes drift to the right; the lowest rows are void."""
    frames, masks = [], {}
    (root / name).mkdir()
    for t in range(count):
        picture = np.zeros((64, 64, 3), np.uint8)
        mask = np.zeros((64, 64), np.uint8)
        for object_id in ids:
            rows, (green, blue) = OBJECTS[object_id]
            picture[rows, 10 + t : 30 + t, :2] = (blue, green)
            mask[rows, 10 + t : 30 + t] = 255 if single_object else object_id
        picture[..., 2] = 10 * t
        if not single_object:
            mask[62:] = 255
        frames.append(root / name / f"{t}.bmp")
        assert cv2.imwrite(str(frames[t]), picture)
        if t % every == 0:
            masks[t] = root / name / f"{t}.png"
            assert cv2.imwrite(str(masks[t]), mask)
    return AnnotatedVideo(name, tuple(frames), masks, single_object)


def times(clip) -> list[int]:
    return [int(frame[0, 0, 0]) // 10 for frame in clip.frames]


def draws(clips: VideoClips, shape: ClipShape, count: int = 40):
    return [clips.draw(np.random.default_rng(seed), shape) for seed in range(count)]


def test_frames_are_in_order_forwards_or_backwards_and_within_the_gap(tmp_path: Path) -> None:
    clips = VideoClips([draw_video(tmp_path)], PLAIN)
    gaps, starts, backwards = [], [], 0
    for clip in draws(clips, ClipShape(64, 4, 2, max_gap=4), 100):
        steps = np.diff(times(clip))
        backwards += bool((steps < 0).all())
        assert (steps > 0).all() or (steps < 0).all()
        gaps += np.abs(steps).tolist()
        starts.append(min(times(clip)))
    assert set(gaps) == {1, 2, 3, 4}
    assert set(starts) == set(range(17))
    assert 30 < backwards < 70


def test_only_frames_with_masks_are_shown(tmp_path: Path) -> None:
    clips = VideoClips([draw_video(tmp_path, every=3)], PLAIN)
    steps = set()
    for clip in draws(clips, ClipShape(64, 3, 2, max_gap=6)):
        assert all(t % 3 == 0 for t in times(clip))
        steps |= set(np.abs(np.diff(times(clip))).tolist())
    assert steps == {3, 6}


def test_a_gap_between_masks_is_not_crossed(tmp_path: Path) -> None:
    video = draw_video(tmp_path)
    masks = {t: path for t, path in video.masks.items() if t not in range(6, 12)}
    clips = VideoClips([AnnotatedVideo("gap", video.frames, masks, False)], PLAIN)
    sides = {tuple(t > 8 for t in times(clip)) for clip in draws(clips, ClipShape(64, 3, 2, max_gap=5))}
    assert sides == {(False,) * 3, (True,) * 3}


def test_where_a_file_stands_for_five_frames_the_gap_counts_frames(tmp_path: Path) -> None:
    clips = VideoClips([draw_video(tmp_path)], PLAIN, frame_step=5)
    steps = {abs(int(s)) for clip in draws(clips, ClipShape(64, 3, 2, max_gap=14)) for s in np.diff(times(clip))}
    assert steps == {1, 2}


def test_videos_too_short_for_a_clip_are_passed_over(tmp_path: Path) -> None:
    videos = [draw_video(tmp_path, "short", 2), draw_video(tmp_path, "sparse", 12, every=5), draw_video(tmp_path)]
    clips = VideoClips(videos, PLAIN)
    assert max(max(times(clip)) for clip in draws(clips, ClipShape(64, 3, 2, max_gap=2))) > 12
    with refusal(InputError, "videos"):
        VideoClips(videos[:2], PLAIN).draw(np.random.default_rng(0), ClipShape(64, 3, 2, max_gap=4))


def test_objects_are_chosen_at_random_and_the_others_are_background(tmp_path: Path) -> None:
    clips = VideoClips([draw_video(tmp_path)], PLAIN)
    greens = {green for _, (green, _) in OBJECTS.values()}
    seen = set()
    for clip in draws(clips, ClipShape(64, 3, 2, max_gap=3)):
        assert clip.num_objects == 2
        assert clip.frames.dtype == clip.labels.dtype == np.uint8
        assert set(np.unique(clip.labels)) == {0, 1, 2, 255}
        chosen = []
        for label in (1, 2):
            (green,) = set(clip.frames[clip.labels == label][:, 1].tolist())
            shown = clip.frames[..., 1] == green
            assert (shown == (clip.labels == label)).all()
            chosen.append(green)
        assert len(set(chosen)) == 2
        seen.add(tuple(chosen))
    assert seen == {(a, b) for a in greens for b in greens if a != b}


def test_no_more_objects_than_asked_for_or_there_are(tmp_path: Path) -> None:
    clips = VideoClips([draw_video(tmp_path)], PLAIN)
    assert {clip.num_objects for clip in draws(clips, ClipShape(64, 3, 1), 10)} == {1}
    assert {clip.num_objects for clip in draws(clips, ClipShape(64, 3, 9), 10)} == {3}


def test_only_objects_that_the_first_frame_shows_are_followed(tmp_path: Path) -> None:
    video = draw_video(tmp_path, count=6)
    for t in (0, 1, 2):
        mask = cv2.imread(str(video.masks[t]), cv2.IMREAD_UNCHANGED)
        mask[mask == 12] = 0
        assert cv2.imwrite(str(video.masks[t]), mask)
    for clip in draws(VideoClips([video], PLAIN), ClipShape(64, 3, 3)):
        assert clip.num_objects == (3 if times(clip)[0] > 2 else 2)


def test_void_stays_void_but_is_the_object_in_sets_of_one_object(tmp_path: Path) -> None:
    several = VideoClips([draw_video(tmp_path, "several")], PLAIN).draw(np.random.default_rng(0), ClipShape(64))
    assert (several.labels[:, 62:] == 255).all()
    assert not (several.labels[:, :62] == 255).any()
    one = VideoClips([draw_video(tmp_path, "one", ids=(3, 7), single_object=True)], PLAIN)
    for clip in draws(one, ClipShape(64), 5):
        assert clip.num_objects == 1
        assert set(np.unique(clip.labels)) == {0, 1}
        assert ((clip.labels == 1) == (clip.frames[..., 1] > 0)).all()


def test_augmented_labels_lie_on_their_objects_and_none_is_invented(tmp_path: Path) -> None:
    clips = VideoClips([draw_video(tmp_path, ids=(3, 12))])
    for clip in draws(clips, ClipShape(96, 3, 2), 30):
        assert set(np.unique(clip.labels)) <= {0, *range(1, clip.num_objects + 1), 255}
        for label in range(1, clip.num_objects + 1):
            found = clip.frames[clip.labels == label][:, 1].astype(int)
            if found.size > 300:  # of slivers, most is soft border
                assert np.mean(np.abs(found - np.median(found)) > 30) < 0.2


def test_a_clip_depends_on_the_generator_alone(tmp_path: Path) -> None:
    videos = [draw_video(tmp_path, f"video{n}", 8 + n) for n in range(3)]
    clips = VideoClips(videos)
    first = clips.draw(np.random.default_rng(7), ClipShape(64))
    clips.draw(np.random.default_rng(8), ClipShape(64, max_gap=2))
    again = clips.draw(np.random.default_rng(7), ClipShape(64))
    fresh = VideoClips(videos).draw(np.random.default_rng(7), ClipShape(64))
    for other in (again, fresh):
        assert (first.frames == other.frames).all()
        assert (first.labels == other.labels).all()


def test_videos_without_objects_are_passed_over_until_none_is_left(tmp_path: Path) -> None:
    empty, boxes = draw_video(tmp_path, "empty", ids=()), draw_video(tmp_path)
    assert all(clip.num_objects == 2 for clip in draws(VideoClips([empty, boxes], PLAIN), ClipShape(64), 5))
    with refusal(InputError, "object"):
        VideoClips([empty], PLAIN).draw(np.random.default_rng(0), ClipShape(64))


def test_files_of_another_size_are_named(tmp_path: Path) -> None:
    video = draw_video(tmp_path, count=3)
    shape, rng = ClipShape(64, 3, 2, max_gap=1), np.random.default_rng(0)
    assert cv2.imwrite(str(video.frames[1]), np.zeros((32, 64, 3), np.uint8))
    with refusal(FrameError, r"1\.bmp", r"\(32", r"64", r"\(64"):
        VideoClips([video], PLAIN).draw(rng, shape)
    assert cv2.imwrite(str(video.masks[1]), np.zeros((64, 32), np.uint8))
    with refusal(MaskError, r"1\.png", r"\(64", r"32"):
        VideoClips([video], PLAIN).draw(rng, shape)


def test_no_videos_and_no_steps_are_refused(tmp_path: Path) -> None:
    with refusal(InputError, "videos"):
        VideoClips([])
    with refusal(InputError, "frame"):
        VideoClips([draw_video(tmp_path, count=3)], frame_step=0)


def test_frames_of_12_bits_are_as_bright_as_their_video_makes_them(tmp_path: Path) -> None:
    video = draw_video(tmp_path, count=6)
    for frame in video.frames:
        deep = cv2.imread(str(frame)).astype(np.uint16) * 16
        assert cv2.imwrite(str(frame.with_suffix(".tif")), deep)
    deep_video = AnnotatedVideo("deep", tuple(each.with_suffix(".tif") for each in video.frames), video.masks, False)
    shallow, deep = (
        VideoClips([each], PLAIN).draw(np.random.default_rng(0), ClipShape(64, 3, 2)) for each in (video, deep_video)
    )
    assert np.abs(shallow.frames.astype(int) - deep.frames).max() <= 1
