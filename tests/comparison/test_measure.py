import numpy as np
import pytest
from PIL import Image
from refusals import refusal

from mnemask.comparison.frames import Clip
from mnemask.comparison.measure import Truth, agreements, moments, undominated
from mnemask.comparison.track import PolicyFolder, PolicyRun, overlap
from mnemask.errors import InputError, MaskError
from mnemask.io.atomic import safe_name


def labels(*boxes, size=(20, 30)):
    image = np.zeros(size, np.uint8)
    for object_id, top, bottom in boxes:
        image[top:bottom] = object_id
    return image


def clip_of(num_frames):
    return Clip(tuple(f"{i:05d}" for i in range(num_frames)), (None,) * num_frames, (20, 30))


def write(folder, images):
    folder.mkdir(parents=True)
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index:05d}.png")


def test_overlap_is_the_mean_over_the_objects_that_either_shows():
    one, other = labels((1, 0, 10)), labels((1, 5, 10), (2, 10, 12))
    assert overlap(one, other, [1, 2, 3]) == (0.5 + 0.0) / 2
    assert overlap(one, one, [1, 2, 3]) == 1.0
    assert overlap(labels(), labels(), [1]) == 1.0


def test_agreement_is_of_each_pair_in_each_frame(tmp_path):
    write(tmp_path / "a/masks", [labels((1, 0, 10)), labels((1, 0, 10))])
    write(tmp_path / "b/masks", [labels((1, 0, 10)), labels((1, 5, 10))])
    write(tmp_path / "c/masks", [labels((1, 0, 5)), labels()])
    folders = {name: PolicyFolder(tmp_path / name) for name in "abc"}
    seen = []
    found = agreements(folders, clip_of(2), [1], lambda: seen.append(1))
    assert found == {("a", "b"): [1.0, 0.5], ("a", "c"): [0.5, 0.0], ("b", "c"): [0.5, 0.0]}
    assert len(seen) == 2
    assert agreements({"a": folders["a"]}, clip_of(2), [1], lambda: None) == {}


def test_a_damaged_mask_is_named(tmp_path):
    write(tmp_path / "a/masks", [labels((1, 0, 10))])
    (tmp_path / "a/masks/00000.png").write_bytes(b"no picture")
    with refusal(InputError, "cannot"):
        PolicyFolder(tmp_path / "a").labels("00000")


def test_moments_are_the_least_agreement_and_apart_from_each_other():
    values = np.ones(100)
    values[40:45] = [0.3, 0.2, 0.1, 0.2, 0.3]
    values[80] = 0.5
    values[90] = 0.99
    assert moments({("a", "b"): values.tolist()}, 100) == [(42, 0.1), (80, 0.5)]
    assert moments({}, 100) == []
    assert len(moments({("a", "b"): np.linspace(0, 0.5, 100).tolist()}, 100)) == 6


def test_what_nothing_dominates_is_found():
    assert undominated([(1.0, 0.5), (2.0, 0.7), (3.0, 0.6), (1.0, 0.4), (2.0, 0.7)]) == [True, True, False, False, True]
    assert undominated([(1.0, 0.5)]) == [True]


def test_black_and_white_truth_is_one_object(tmp_path):
    truth = tmp_path / "truth"
    write(truth, [np.where(labels((1, 0, 10)) > 0, 255, 0).astype(np.uint8) for _ in range(3)])
    found = Truth.from_folder(truth, clip_of(3))
    assert found.protocol == "davis2016"
    assert (found.labels(0, [1]) == labels((1, 0, 10))).all()


def test_objects_that_nobody_tracks_do_not_count(tmp_path):
    write(tmp_path / "truth", [labels((1, 0, 10), (2, 10, 15)) for _ in range(3)])
    truth = Truth.from_folder(tmp_path / "truth", clip_of(3))
    assert truth.protocol == "davis2017"
    assert set(np.unique(truth.labels(1, [2]))) == {0, 2}


def run_of(given, num_frames):
    """A run in which these objects were given, by frame."""
    times = [0.01] * num_frames
    return PolicyRun("lfu", "LFU", "2 frames", 5, 0.0, given, times, [1] * num_frames, times, 1, {}, [])


def test_an_object_is_scored_only_after_it_was_given(tmp_path):
    both = labels((1, 0, 8), (2, 12, 18))
    write(tmp_path / "truth", [both] * 9)
    write(tmp_path / "lfu/masks", [labels((1, 0, 8))] * 3 + [both] * 2 + [labels((1, 0, 8), (2, 15, 18))] * 4)
    truth, clip, run = Truth.from_folder(tmp_path / "truth", clip_of(9)), clip_of(9), run_of({0: [1], 3: [2]}, 9)
    report = truth.score(PolicyFolder(tmp_path / "lfu"), run, clip)
    first, second = report.objects
    assert (len(first.region_frames), len(second.region_frames)) == (7, len(truth.files) - 1 - 4)
    assert second.region_frames == (1.0, 0.5, 0.5, 0.5)
    curve = truth.curve(report, 9)
    assert curve[0] is None
    assert curve[1:5] == [1.0] * 4
    assert max(curve[5:8]) < 1
    assert curve[8] is None


def test_one_object_that_is_given_late_is_scored_from_then_on(tmp_path):
    write(tmp_path / "truth", [np.where(labels((1, 0, 10)) > 0, 255, 0).astype(np.uint8)] * 7)
    write(tmp_path / "lfu/masks", [labels()] * 3 + [labels((1, 0, 10))] * 4)
    truth, clip = Truth.from_folder(tmp_path / "truth", clip_of(7)), clip_of(7)
    report = truth.score(PolicyFolder(tmp_path / "lfu"), run_of({3: [1]}, 7), clip)
    assert [score.region_frames for score in report.objects] == [(1.0, 1.0)]
    assert truth.curve(report, 7) == [None, None, None, None, 1.0, 1.0, None]


@pytest.mark.parametrize("to_come", [{3: [2], 0: [1]}, {0: [1], 3: [2], 6: [2]}])
def test_an_object_that_is_given_after_the_last_true_mask_that_shows_it_is_refused(tmp_path, to_come):
    write(tmp_path / "truth", [labels((1, 0, 8), (2, 12, 18))] * 3 + [labels((1, 0, 8))] * 4)
    truth = Truth.from_folder(tmp_path / "truth", clip_of(7))
    with refusal(InputError, "object 2 is given in frame 3", "frame 2"):
        truth.refuse_other_ids(to_come)
    truth.refuse_other_ids({2: [2], 5: [1, 2]})


def test_true_masks_are_found_by_the_names_that_masks_are_written_under(tmp_path):
    write(tmp_path / "truth", [labels((1, 0, 10)) for _ in range(3)])
    for index in range(3):
        (tmp_path / f"truth/{index:05d}.png").rename(tmp_path / f"truth/shot (2)~{index}.png")
    clip = Clip(tuple(safe_name(f"shot (2)~{index}") for index in range(3)), (None,) * 3, (20, 30))
    assert list(Truth.from_folder(tmp_path / "truth", clip).files) == [0, 1, 2]


def test_all_true_masks_are_looked_at_and_not_only_the_first_that_shows_an_object(tmp_path):
    one, other = labels((255, 0, 10)), labels((1, 0, 10), (255, 18, 20))
    write(tmp_path / "void first", [one, other, other])
    assert Truth.from_folder(tmp_path / "void first", clip_of(3)).protocol == "davis2017"
    write(tmp_path / "small later", [other, other, labels((1, 0, 4), size=(10, 30))])
    with refusal(InputError, r"00002\.png", r"\(10"):
        Truth.from_folder(tmp_path / "small later", clip_of(3))
    soft = np.repeat(np.linspace(0, 255, 30).astype(np.uint8)[None], 20, 0)
    write(tmp_path / "soft later", [one, one, soft])
    with refusal(MaskError, r"00002\.png"):
        Truth.from_folder(tmp_path / "soft later", clip_of(3))


def test_palettes_that_contradict_each_other_are_refused(tmp_path):
    both, exchanged = labels((1, 0, 10), (2, 18, 20)), labels((2, 0, 10), (1, 18, 20))
    write(tmp_path / "own palettes", [both, both, exchanged])
    for index, palette in enumerate([(255, 0, 0, 0, 255, 0), (255, 0, 0, 0, 255, 0), (0, 255, 0, 255, 0, 0)]):
        path = tmp_path / "own palettes" / f"{index:05d}.png"
        image = Image.open(path)
        image.putpalette([0, 0, 0, *palette])
        image.save(path)
    with refusal(MaskError, "00002.png has #00ff00 as index 1", "same palette"):
        Truth.from_folder(tmp_path / "own palettes", clip_of(3))


def test_truth_that_does_not_fit_is_refused(tmp_path):
    write(tmp_path / "small", [labels((1, 0, 4), size=(10, 30)) for _ in range(3)])
    with refusal(InputError, r"\(10", r"30", r"\(20"):
        Truth.from_folder(tmp_path / "small", clip_of(3))
    write(tmp_path / "empty", [labels() for _ in range(3)])
    with refusal(InputError, "object"):
        Truth.from_folder(tmp_path / "empty", clip_of(3))
    write(tmp_path / "broken", [labels((1, 0, 4)) for _ in range(3)])
    (tmp_path / "broken/00000.png").write_bytes(b"")
    with refusal(MaskError, "cannot"):
        Truth.from_folder(tmp_path / "broken", clip_of(3))
