import json
import math

import numpy as np
import pytest
from refusals import refusal

from mnemask.errors import InputError
from mnemask.metrics import ObjectScore, Report, bootstrap_interval, statistics


def report(*means, sequence="a", protocol="davis2017"):
    """A report with one object for each mean of J and F, where J is above F by 0.1."""
    objects = [ObjectScore.from_frames(sequence, i + 1, [m + 0.05], [m - 0.05]) for i, m in enumerate(means)]
    return Report(tuple(objects), protocol)


def test_mean_recall_and_decay_of_eight_frames():
    values = np.array([1, 1, 1, 0.5, 0.5, 0.5, 0.2, 0.0])
    result = statistics(values)
    assert result.mean == pytest.approx(4.7 / 8)
    assert result.recall == 3 / 8  # 0.5 itself is a miss
    # The quarters meet at frames 1, 2.75, 4.5, 6.25 and 8, rounded, and share the frames they meet at.
    assert result.decay == pytest.approx(1 - (0.5 + 0.2 + 0.0) / 3)


def test_one_frame_does_not_decay():
    assert statistics(np.array([0.7])).decay == 0


def test_nan_is_left_out_of_the_mean_and_counts_as_a_miss():
    result = statistics(np.array([math.nan, 0.8, 0.6, 0.6, 0.6, math.nan]))
    assert result.mean == pytest.approx(0.65)
    assert result.recall == pytest.approx(4 / 6)
    assert result.decay == pytest.approx(0.8 - 0.6)
    assert math.isnan(statistics(np.full(4, math.nan)).mean)


def test_no_frame_has_no_statistics():
    with refusal(InputError, "scored"):
        statistics(np.array([]))


def test_decay_past_256_frames_compares_the_true_quarters_unless_the_official_error_is_asked_for():
    rising = np.arange(400) / 400
    assert statistics(rising).decay == pytest.approx((50 - 349) / 400)  # frames 0 to 100 against 299 to 399
    assert statistics(rising, official_decay=True).decay == pytest.approx((50 - 93) / 400)  # against 43 to 143
    assert math.isnan(statistics(np.arange(300) / 300, official_decay=True).decay)  # against 224 to 43: none
    short = np.random.default_rng(0).random(255)
    assert statistics(short) == statistics(short, official_decay=True)


@pytest.mark.parametrize("num_frames", [1, 2, 3, 5, 7, 10, 97, 256, 300, 400, 700])
def test_statistics_equal_the_reference_implementation(oracle, num_frames):
    if num_frames == 256:
        num_frames = 255  # the reference overflows there under NumPy 2
    rng = np.random.default_rng(num_frames)
    truths = rng.random((num_frames, 3, 4)) < 0.6
    predictions = truths ^ (rng.random((num_frames, 3, 4)) < np.linspace(0, 0.5, num_frames)[:, None, None])
    expected = oracle.sequence(predictions, truths)
    both = zip(predictions, truths, strict=True)
    result = statistics(np.array([oracle.region(p, t) for p, t in both]), official_decay=True)
    found = [result.mean, result.recall, result.decay]
    assert found == pytest.approx([expected[f"J-{name}"] for name in ("Mean", "Recall", "Decay")], nan_ok=True)


def test_overall_numbers_are_means_over_objects_and_not_over_sequences():
    merged = Report.merged([report(0.9, 0.6, sequence="two"), report(0.3, sequence="one")], notes=["left out"])
    assert merged.j_and_f == pytest.approx(0.6)
    assert merged.region.mean == pytest.approx(0.65)
    assert merged.boundary.mean == pytest.approx(0.55)
    assert merged.notes == ("left out",)
    assert [(row["name"], round(row["J&F-Mean"], 6)) for row in merged.rows()] == [
        ("two", 0.75),
        ("one", 0.3),
        ("all", 0.6),
    ]
    assert [row["name"] for row in merged.rows("object")] == ["two_1", "two_2", "one_1", "all"]


def test_reports_of_different_protocols_are_not_averaged():
    with refusal(InputError, r"davis2016", r"davis2017"):
        Report.merged([report(0.5), report(0.5, protocol="davis2016")])
    with refusal(InputError, "scored"):
        Report.merged([])


def test_json_holds_every_number_and_null_where_there_is_none():
    lasting = ObjectScore.from_frames("long", 3, [0.9] * 300, [0.8] * 300, official_decay=True)
    content = json.loads(Report.merged([report(0.6), Report((lasting,), "davis2017")]).to_json(frames=True))
    assert content["protocol"] == "davis2017"
    assert content["all"]["J-Mean"] == pytest.approx((0.65 + 0.9) / 2)
    assert content["all"]["J&F-Interval"] == pytest.approx([0.6, 0.85])
    assert content["sequences"]["long"]["J-Decay"] is None
    assert content["objects"][1]["object"] == 3
    assert content["objects"][1]["num_frames"] == len(content["objects"][1]["J"]) == 300
    assert json.loads(report(0.6).to_json())["all"]["J&F-Interval"] is None
    assert "J" not in json.loads(report(0.6).to_json())["objects"][0]


def test_the_interval_is_repeatable_and_holds_the_mean():
    values = np.random.default_rng(1).normal(0.8, 0.1, 40)
    low, high = bootstrap_interval(values)
    assert (low, high) == bootstrap_interval(values)
    assert low < values.mean() < high
    error = values.std() / math.sqrt(40)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_the_interval_draws_sequences_whole():
    alike = Report.merged([report(*[0.9] * 9, sequence="crowd"), report(0.5, sequence="lone")])
    low, high = alike.interval()
    assert (low, high) == pytest.approx((0.5, 0.9))
    scores = np.random.default_rng(1).normal(0.8, 0.1, 40)
    assert bootstrap_interval(scores, np.full(40, 9.0)) == pytest.approx(bootstrap_interval(scores))
    heavy = bootstrap_interval(np.append(scores, 0.1), np.append(np.ones(40), 1e4))
    assert heavy[0] == pytest.approx(0.1, abs=0.01)


def test_an_interval_of_one_sequence_is_refused():
    with pytest.raises(InputError):
        bootstrap_interval(np.array([0.5]))
