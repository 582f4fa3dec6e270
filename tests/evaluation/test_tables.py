import csv
import io
import json

import pytest
from refusals import refusal

from mnemask.errors import InputError
from mnemask.evaluation.results import Result
from mnemask.evaluation.tables import FORMATS, cells, overall_rows, sequence_rows, to_latex, write_tables
from mnemask.metrics import ObjectScore, Report


def result(policy, sequence, region, boundary, seconds=0.5, groups=None, secret=False):
    """Four frames of as many objects as there are scores."""
    objects = tuple(
        ObjectScore.from_frames(sequence, object_id, [j] * 4, [f] * 4)
        for object_id, (j, f) in enumerate(zip(region, boundary, strict=True), 1)
    )
    report = None if secret else Report(objects, "davis2017")
    return Result(policy, sequence, report, (seconds,) * 4, (1.0, 1.0, 2.0, 2.0), 800, 2**21, 1, groups or {})


RESULTS = [
    result("fifo", "dogs", (0.9, 0.6), (0.8, 0.5)),
    result("fifo", "car_1", (0.4,), (0.3,), seconds=0.1),
    result("lru", "dogs", (0.7, 0.7), (0.7, 0.7)),
    result("lru", "car_1", (0.7,), (0.7,)),
]


def test_a_policys_scores_are_means_over_objects_and_its_speed_is_frames_by_time():
    fifo, lru = overall_rows(RESULTS)
    assert fifo["policy"] == "fifo"
    assert fifo["sequences"] == 2
    assert fifo["J-Mean"] == pytest.approx((0.9 + 0.6 + 0.4) / 3)
    assert fifo["F-Recall"] == pytest.approx(1 / 3)
    assert fifo["frames/s"] == pytest.approx(8 / 2.4)
    assert fifo["frames held"] == pytest.approx(1.5)
    assert (fifo["most frames"], fifo["MiB"]) == (2, 2)
    assert fifo["J&F-Low"] <= fifo["J&F-Mean"] <= fifo["J&F-High"]
    assert [lru["J&F-Low"], lru["J&F-High"]] == pytest.approx([0.7, 0.7])


def test_a_row_for_each_policy_and_sequence():
    rows = sequence_rows(RESULTS)
    assert [(row["policy"], row["sequence"], row["frames"]) for row in rows[:2]] == [
        ("fifo", "dogs", 4),
        ("fifo", "car_1", 4),
    ]
    assert rows[0]["J&F-Mean"] == pytest.approx(0.7)


def test_one_sequence_has_no_interval_and_a_secret_one_no_scores():
    assert overall_rows(RESULTS[:1])[0]["J&F-Low"] is None
    (row,) = overall_rows([result("fifo", "apes", (), (), secret=True)])
    assert list(row) == ["policy", "sequences", "frames/s", "frames held", "most frames", "MiB"]


def test_names_in_latex_are_text():
    assert r"\textbackslash{}a\{b\}\textasciicircum{}2\_1 &" in to_latex([{"name": r"\a{b}^2_1", "J-Mean": 0.5}])


def test_kinds_that_training_shows_are_told_from_others():
    several = [
        result("fifo", "dogs", (0.9, 0.5), (0.8, 0.4), groups={1: "seen", 2: "unseen"}),
        result("fifo", "apes", (0.7,), (0.6,), groups={1: "seen"}),
    ]
    (row,) = overall_rows(several)
    assert [row[name] for name in ("J-seen", "J-unseen", "F-seen", "F-unseen", "G-Mean")] == pytest.approx(
        [0.8, 0.5, 0.7, 0.4, 0.6]
    )
    (row,) = overall_rows(several[1:])
    assert (row["J-seen"], row["J-unseen"], row["G-Mean"]) == (0.7, None, None)


def test_every_format_tells_the_same(tmp_path):
    rows = write_tables(RESULTS, tmp_path / "tables")
    names = [f"{name}.{suffix}" for name in ("overall", "sequences") for suffix in FORMATS]
    assert sorted(path.name for path in (tmp_path / "tables").glob("[!.]*")) == sorted(names)
    text = {name: (tmp_path / "tables" / name).read_text() for name in names}
    exact = overall_rows(RESULTS)
    assert rows == exact == json.loads(text["overall.json"])
    read = list(csv.DictReader(io.StringIO(text["overall.csv"])))
    assert [float(row["J-Mean"]) for row in read] == [row["J-Mean"] for row in exact]
    header, fifo, _ = cells(rows)
    assert fifo[header.index("J-Mean")] == "63.3"
    assert fifo[header.index("frames/s")] == "3.33"
    assert text["overall.md"].splitlines()[0] == f"| {' | '.join(header)} |"
    assert text["overall.md"].splitlines()[2] == f"| {' | '.join(fifo)} |"
    assert r"J\&F-Mean" in text["overall.tex"]
    assert " & ".join(fifo) + r" \\" in text["overall.tex"]
    assert r"car\_1" in text["sequences.tex"]
    assert text["overall.tex"].startswith(r"\begin{tabular}{lr")


def test_no_results_make_no_table(tmp_path):
    with refusal(InputError, "results"):
        write_tables([], tmp_path)
