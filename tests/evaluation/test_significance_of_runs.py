"""Results that are compared, read from the folders of several runs."""

import json

import pytest
from refusals import refusal

from mnemask.errors import InputError
from mnemask.evaluation.results import Result, read_result
from mnemask.evaluation.significance import compared
from mnemask.metrics import ObjectScore, Report


def write(out, *policies, seconds=0.1):
    """Writes a result of each policy on one sequence, of four frames."""
    report = Report((ObjectScore.from_frames("dogs", 1, [0.5] * 4, [0.5] * 4),), "davis2017")
    for policy in policies:
        path = out / "results" / policy / "dogs.json"
        path.parent.mkdir(parents=True)
        result = Result(policy, "dogs", report, (seconds,) * 4, (1.0,) * 4, 8, 9, 1)
        path.write_text(json.dumps(result.to_dict()))
    return out


def test_a_policy_that_one_run_lacks_is_not_among_those_that_are_there(tmp_path):
    runs = [write(tmp_path / "one", "lfu", "mine", "fifo"), write(tmp_path / "two", "lfu", "fifo", seconds=0.2)]
    (tmp_path / "two/results/mine").mkdir()  # of a run that was killed before its first result
    with refusal(InputError, r"no results of 'mine' in .*two") as caught:
        compared(runs, "lfu", ["mine"])
    assert caught.value.remedy == "there are fifo, lfu"


@pytest.mark.parametrize("content", ["{", "[]", '{"scores": null}', "\xff"])
def test_a_file_that_is_no_result_is_named_once(tmp_path, content):
    path = tmp_path / "dogs.json"
    path.write_text(content, encoding="latin-1")
    with refusal(InputError, "dogs.json") as caught:
        read_result(path)
    assert str(caught.value).count("dogs.json") == 1
