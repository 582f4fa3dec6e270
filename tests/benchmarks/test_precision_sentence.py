"""What docs/results.md says of bfloat16 agrees with the tables in float32 and in bfloat16."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def rows_of(page, marker):
    """The rows of a marked table as dictionaries."""
    text = (ROOT / "benchmarks/results" / page).read_text(encoding="utf-8")
    table = text.partition(f"<!-- results:{marker} -->\n")[2].partition("<!-- /results -->")[0]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()]
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_the_page_of_results_says_by_how_much_bfloat16_changes_scores():
    exact = {row["policy"]: row for row in rows_of("davis2016-dev.md", "davis2016-dev")}
    rounded = {row["run"]: row for row in rows_of("policies.md", "policies") if row["memory"] == "2 frames"}
    rounded["keep-all"] = next(row for row in rows_of("policies.md", "policies") if row["run"] == "every-5")
    assert set(exact) <= set(rounded)
    most = {
        column: max(abs(float(row[column]) - float(rounded[policy][column])) for policy, row in exact.items())
        for column in ("J&F", "J decay")
    }
    page = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    said = re.search(r"bfloat16 changes J&F by at most (\d\.\d) and the decay of J by at most (\d\.\d)", page)
    assert said
    assert [f"{most['J&F']:.1f}", f"{most['J decay']:.1f}"] == list(said.groups())
