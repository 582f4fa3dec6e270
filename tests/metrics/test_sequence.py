import tracemalloc

import numpy as np
import pytest
from refusals import refusal
from scored_sequence import score_sequence

from mnemask.errors import InputError, MaskError, ObjectIdError
from mnemask.metrics import SequenceScorer
from mnemask.metrics.davis import check_labels, check_protocol


def frame(*boxes, size=(60, 80)):
    """Labels with a rectangle (id, y, x, height, width) for each box."""
    labels = np.zeros(size, np.uint8)
    for object_id, y, x, h, w in boxes:
        labels[y : y + h, x : x + w] = object_id
    return labels


def clip(num_frames=6):
    return [frame((1, 5, 5 + 3 * t, 20, 20), (2, 35, 30 + t, 15, 25)) for t in range(num_frames)]


def test_a_perfect_prediction_scores_one_for_each_object():
    report = score_sequence(clip(), clip(), name="boxes")
    assert [(score.sequence, score.object_id, score.j_and_f) for score in report.objects] == [
        ("boxes", 1, 1.0),
        ("boxes", 2, 1.0),
    ]
    assert report.notes == ()


def test_the_first_and_the_last_frame_are_not_scored():
    predictions = clip()
    predictions[0][:], predictions[-1][:] = 0, 0
    report = score_sequence(clip(), predictions)
    assert report.j_and_f == 1
    assert len(report.objects[0].region_frames) == 4


def test_objects_are_scored_separately():
    predictions = clip()
    for labels in predictions:
        labels[labels == 2] = 0
    first, second = score_sequence(clip(), predictions).objects
    assert (first.j_and_f, second.j_and_f) == (1.0, 0.0)


def test_davis2016_takes_every_label_for_the_one_object():
    truths = [np.where(labels > 0, 255, 0).astype(np.uint8) for labels in clip()]
    report = score_sequence(truths, clip(), protocol="davis2016")
    assert len(report.objects) == 1
    assert report.j_and_f == 1
    assert report.protocol == "davis2016"


def test_void_pixels_count_neither_way():
    truths, predictions = clip(), clip()
    for truth, prediction in zip(truths, predictions, strict=True):
        truth[:, 60:] = 255
        prediction[:, 62:75] = 1
    assert score_sequence(truths, predictions).j_and_f == 1
    for truth in truths:
        truth[truth == 255] = 0
    assert score_sequence(truths, predictions).j_and_f < 1


def test_the_scores_equal_the_reference_implementation(oracle):
    rng = np.random.default_rng(0)
    truths = [np.kron(rng.integers(0, 3, (6, 8)), np.ones((8, 8), int)) for _ in range(9)]
    predictions = [np.where(rng.random((48, 64)) < 0.1, np.roll(t, 3, axis=0), t) for t in truths]
    for score in score_sequence(truths, predictions).objects:
        masks = [[labels == score.object_id for labels in video[1:-1]] for video in (predictions, truths)]
        expected = oracle.sequence(*masks)
        found = [score.region.mean, score.region.recall, score.region.decay]
        found += [score.boundary.mean, score.boundary.recall, score.boundary.decay]
        names = [f"{letter}-{name}" for letter in "JF" for name in ("Mean", "Recall", "Decay")]
        assert found == pytest.approx([expected[name] for name in names], abs=1e-12)


def test_late_objects_are_named_or_scored_from_the_frame_after_they_appear():
    truths = clip(8)
    for labels in truths[4:]:
        labels[50:58, 2:20] = 9
    report = score_sequence(truths, truths, name="late")
    assert [score.object_id for score in report.objects] == [1, 2]
    assert report.notes == ("late: objects [9] appear too late to be scored",)
    report = score_sequence(truths, truths, late_objects=True)
    assert [(score.object_id, len(score.region_frames)) for score in report.objects] == [(1, 6), (2, 6), (9, 2)]
    assert report.notes == ()


def test_an_object_that_only_the_last_frames_show_is_named_and_not_scored():
    truths = clip(5)
    truths[3][50:58, 2:20] = 9
    report = score_sequence(truths, truths, name="late", late_objects=True)
    assert [score.object_id for score in report.objects] == [1, 2]
    assert report.notes == ("late: objects [9] appear too late to be scored",)


def test_blank_frames_before_the_first_object_are_not_scored():
    truths = [frame(), frame(), *clip(5)]
    predictions = [frame((7, 0, 0, 9, 9)), frame((7, 0, 0, 9, 9)), *clip(5)]
    report = score_sequence(truths, predictions)
    assert [len(score.region_frames) for score in report.objects] == [3, 3]
    assert report.j_and_f == 1


def test_an_object_that_is_gone_must_be_gone_in_the_prediction():
    truths = [frame((1, 5, 5, 20, 20)), frame(), frame(), frame((1, 5, 5, 20, 20))]
    assert score_sequence(truths, truths).j_and_f == 1
    stayed = [truths[0]] * 4
    assert score_sequence(truths, stayed).j_and_f == 0


def test_scores_of_a_long_video_take_no_memory_for_its_frames():
    scorer = SequenceScorer()
    labels = frame((1, 100, 100, 200, 200), size=(480, 640))
    scorer.add(labels, labels)
    tracemalloc.start()
    for _ in range(40):
        scorer.add(labels.copy(), labels.copy())
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < labels.size / 4
    assert scorer.report().j_and_f == 1


def test_ids_that_the_truth_never_has_are_refused():
    predictions = [np.where(labels == 2, 200, labels) for labels in clip()]
    with refusal(ObjectIdError, r"\[200\]", r"2\]"):
        score_sequence(clip(), predictions, name="boxes")


def test_a_255_mask_scored_by_davis2017_is_told_about_davis2016():
    masks = [np.where(labels > 0, 255, 0).astype(np.uint8) for labels in clip()]
    with refusal(InputError, r"--protocol davis2016.*leave it out"):
        score_sequence(masks, masks)


def test_a_video_with_nothing_between_its_first_and_last_frame_is_refused():
    with refusal(InputError, r"\(2\)"):
        score_sequence(clip(2), clip(2))


def test_frames_of_another_size_are_refused_with_both_sizes():
    small = [labels[::2, ::2] for labels in clip()]
    with refusal(MaskError, r"30x40", r"60x80"):
        score_sequence(clip(), small, name="boxes")
    with refusal(MaskError, r"00007"):
        SequenceScorer().add(clip()[0], small[0], frame="00007")


def test_probabilities_are_refused_where_labels_are_expected():
    with refusal(MaskError, r"float64"):
        check_labels(clip()[0], clip()[0] / 2, "frame 3")
    with refusal(MaskError, r"uint8", r"60", r"80"):
        check_labels(np.stack(clip(3)), clip()[0], "frame 3")


def test_an_unknown_protocol_is_refused():
    with refusal(InputError, r"'davis2018'", r"davis2016", r"davis2017"):
        check_protocol("davis2018")
