"""`mnemask significance` as its user runs it, on results that are written here."""

import json
import re
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from mnemask.cli import app
from mnemask.evaluation.results import Result
from mnemask.evaluation.tables import overall_rows
from mnemask.metrics import ObjectScore, Report


def result(policy, sequence, scores, secret=False):
    """Four frames of as many objects as there are scores."""
    objects = tuple(
        ObjectScore.from_frames(sequence, number, [score] * 4, [score] * 4) for number, score in enumerate(scores, 1)
    )
    return Result(policy, sequence, None if secret else Report(objects, "davis2017"), (0.5,) * 4, (1.0,) * 4, 8, 9, 1)


def write(out, above, sequences=8, seed=0, secret=False):
    """Writes results of policies that are above the first one by so much, and returns them."""
    rng, results = np.random.default_rng(seed), []
    for number in range(sequences):
        base = rng.uniform(0.4, 0.8, 1 + number % 2)
        for policy, more in above.items():
            scores = (base + more + rng.normal(0, 0.01)).tolist()
            results.append(result(policy, f"s{number}", scores, secret))
            path = out / "results" / policy / f"s{number}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(results[-1].to_dict()))
    return results


def significance(*arguments):
    """Returns the exit code and the output with its line breaks taken out."""
    done = CliRunner().invoke(app, ["significance", *map(str, arguments)], env={"COLUMNS": "300"})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, re.sub(r"\s+", " ", done.output)


def test_a_policy_is_compared_with_all_others_in_words_and_tables(tmp_path):
    write(tmp_path, {"lfu": 0.0, "newest:Newest(scale=2)": 0.08, "fifo": -0.001})
    code, output = significance(tmp_path, "--a", "newest:Newest(scale=2)", "--power", 2)
    assert code == 0, output
    for fact in ("against lfu: +", "against fifo", "better on 8 of 8", "p = 0.016", "A difference of 2 would show on"):
        assert fact in output
    code, output = significance(tmp_path, "--a", "lfu", "--b", "fifo", "--format", "latex")
    assert code == 0
    assert output.startswith(r"\begin{tabular}")
    code, output = significance(tmp_path, "--a", "lfu", "--b", "fifo", "--format", "markdown", "--per-sequence")
    assert code == 0
    assert output.count("| s") == 9


def test_hidden_files_of_a_killed_evaluation_are_no_results(tmp_path):
    write(tmp_path, {"lfu": 0.0, "fifo": 0.05})
    (tmp_path / "results/lfu/.mnemask-12-34.partial.json").write_text("")
    assert significance(tmp_path, "--a", "lfu")[0] == 0


def test_a_policy_of_ones_own_is_named_as_for_evaluate_and_one_that_changes_nothing_is_told(tmp_path):
    for number in range(6):
        for policy in ("lfu", "newest:Newest(scale=2)"):
            path = tmp_path / "results" / policy / f"s{number}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(result(policy, f"s{number}", [0.5]).to_dict()))
    code, output = significance(tmp_path, "--a", "some/newest.py:Newest(scale=2)", "--b", "lfu")
    assert code == 0, output
    assert "newest:Newest(scale=2) against lfu: +0.0" in output
    assert "No score differs" in output


def test_several_folders_or_a_folder_of_them_are_runs(tmp_path):
    for seed in range(3):
        write(tmp_path / f"seed{seed}", {"lfu": 0.0, "mine": 0.02}, seed=seed)
    by_name = significance(tmp_path, "--a", "mine", "--b", "lfu", "--format", "json")
    one_by_one = [tmp_path / f"seed{seed}" for seed in range(3)]
    assert by_name == significance(*one_by_one, "--a", "mine", "--b", "lfu", "--format", "json")
    assert "By run" in significance(tmp_path, "--a", "mine", "--b", "lfu")[1]


def test_results_of_other_weights_are_named_by_their_folder(tmp_path):
    write(tmp_path / "before", {"lfu": 0.0})
    write(tmp_path / "after", {"lfu": 0.05})
    code, output = significance(tmp_path / "before", "--a", tmp_path / "after/results/lfu", "--b", "lfu")
    assert code == 0, output
    assert re.search(r"lfu: \+[45]\.", output)
    write(tmp_path / "both", {"lfu": 0.0, "fifo": -0.05})
    code, output = significance(tmp_path / "both", "--a", tmp_path / "both/results/lfu")
    assert code == 0, output
    assert "against fifo" in output
    assert "against lfu" not in output, "it is the same policy by another name"


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (["--a", "nope"], "there are fifo, lfu"),
        (["--a", "lfu", "--b", "lfu"], "itself"),
        (["--a", "lfu", "--measure", "K"], "J&F"),
        (["--a", "lfu", "--power", 0], "difference of 0"),
        (["--a", "lfu", "--level", 2], "level"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(tmp_path, arguments, fact):
    write(tmp_path, {"lfu": 0.0, "fifo": 0.1})
    code, output = significance(tmp_path, *arguments)
    assert code == 2, output
    assert fact in output


def test_results_that_are_missing_secret_damaged_or_of_an_experiment_are_refused(tmp_path):
    assert "no results" in significance(tmp_path, "--a", "lfu")[1]
    write(tmp_path / "lab/runs/2-frames", {"lfu": 0.0})
    assert "2-frames" in significance(tmp_path / "lab", "--a", "lfu")[1]
    write(tmp_path / "secret", {"lfu": 0.0, "fifo": 0.0}, secret=True)
    assert "secret" in significance(tmp_path / "secret", "--a", "lfu")[1]
    (tmp_path / "secret/results/lfu/s0.json").write_text("{")
    assert "s0.json" in significance(tmp_path / "secret", "--a", "lfu")[1]


def test_the_table_of_an_evaluation_compares_with_the_first_policy(tmp_path):
    first, better, same = overall_rows(write(tmp_path, {"lfu": 0.0, "better": 0.05, "same": 0.0}))
    assert (first["gain"], first["p"]) == (None, None)
    assert better["gain"] == pytest.approx(better["J&F-Mean"] - first["J&F-Mean"])
    assert better["p"] == pytest.approx(2 * 2 / 2**8)  # the smallest there is, of two comparisons
    assert same["p"] > 0.05


@pytest.mark.parametrize("change", [{"made_of": "other"}, {"frame_seconds": [0.5] * 5, "frame_memory": [1.0] * 5}])
def test_scores_of_different_videos_are_not_compared(tmp_path, change):
    write(tmp_path, {"lfu": 0.0, "mine": 0.02})
    for path in (tmp_path / "results").rglob("*.json"):
        facts = {**json.loads(path.read_text()), "made_of": "one"}
        path.write_text(json.dumps(facts | (change if path.parent.name == "mine" else {})))
    code, output = significance(tmp_path, "--a", "mine", "--b", "lfu")
    assert code == 2
    assert "s0.json" in output


def test_a_run_that_is_given_twice_or_copied_does_not_count_twice(tmp_path):
    write(tmp_path / "one", {"lfu": 0.0, "mine": 0.02})
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    for other, word in (("one", "twice"), ("copy", "copy")):
        code, output = significance(tmp_path / "one", tmp_path / other, "--a", "mine", "--b", "lfu")
        assert code == 2
        assert word in output
