"""Tables of documents rebuilt from weights: what is filled in, what is kept, and what is stale."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import results
import results_tables
from results_tables import Step, Table, as_table, printed, written

from mnemask.model.checkpoints import key_encoder_id, save_model
from mnemask.model.click_head import ClickHead, ClickHeadConfig, save_click_head

DOCUMENT = "# Scores\n\n<!-- results:sizes -->\n| old |\n<!-- /results -->\n\nText.\n"
COUNT = (
    "import pathlib; n = pathlib.Path('weights').read_text(); open('runs.txt', 'a').write('.'); print('| a |\\n|', n)"
)


@pytest.fixture
def place(tmp_path):
    """A project with one document, one file of weights, and a step that prints a table of them."""
    (tmp_path / "benchmarks/results").mkdir(parents=True)
    (tmp_path / "README.md").write_text(DOCUMENT)
    (tmp_path / "weights").write_text("1 |")
    step = Step("count", ("python", "-c", COUNT), quick=("fast",), weights=("compact",))
    table = Table("sizes", ("count",), printed)
    weights = {"compact": tmp_path / "weights"}
    return results.Place(tmp_path, tmp_path / "work", tmp_path, weights, {"count": step}, {"sizes": table})


def runs(place):
    path = place.root / "runs.txt"
    return len(path.read_text()) if path.exists() else 0


def test_a_table_is_filled_in_between_its_markers_and_nowhere_else(place):
    assert results.build(place, ())
    assert (place.root / "README.md").read_text() == DOCUMENT.replace("| old |", "| a |\n| 1 |")
    assert results.stale(place) == []


def test_what_is_done_is_not_done_again_until_the_weights_change(place):
    results.build(place, ())
    results.build(place, ())
    assert runs(place) == 1
    (place.root / "weights").write_text("2 |")
    assert results.stale(place) == ["README.md: sizes comes from other weights"]
    results.build(place, ())
    assert runs(place) == 2
    assert "| 2 |" in (place.root / "README.md").read_text()
    assert results.stale(place) == []


def test_a_table_of_other_weights_says_so_until_it_is_rebuilt(place):
    results.build(place, ())
    assert results.note_other_weights(place) == []
    (place.root / "weights").write_text("2 |")
    for _ in range(2):
        assert results.note_other_weights(place) == ["sizes"]
        text = (place.root / "README.md").read_text()
        assert "| 1 |\n\n*Of the weights before (compact " in text
        assert text.count("*") == 2
    assert results.stale(place) == ["README.md: sizes comes from other weights"]
    results.build(place, ())
    assert (place.root / "README.md").read_text() == DOCUMENT.replace("| old |", "| a |\n| 2 |")


def test_a_table_is_stale_when_it_was_never_built_was_edited_or_has_another_command(place):
    assert results.stale(place) == ["README.md: sizes was never built"]
    results.build(place, ())
    readme = place.root / "README.md"
    readme.write_text(readme.read_text().replace("| 1 |", "| 9 |"))
    assert results.stale(place) == ["README.md: sizes is not the table that was built"]
    other = replace(place.steps["count"], command=("python", "-c", "print('| b |')"))
    assert results.stale(replace(place, steps={"count": other})) == ["README.md: sizes comes from another command"]


def test_a_quick_run_changes_no_document(place):
    assert results.build(replace(place, quick=True), ())
    assert (place.root / "README.md").read_text() == DOCUMENT
    assert not place.record.exists()
    assert runs(place) == 1


def test_a_step_that_fails_leaves_documents_as_they_are_and_is_run_again(place):
    broken = replace(place, steps={"count": replace(place.steps["count"], command=("python", "-c", "exit(3)"))})
    assert not results.build(broken, ())
    assert not results.build(broken, ())
    assert (place.root / "README.md").read_text() == DOCUMENT


EXPERIMENT = """
import pathlib, sys
out = pathlib.Path(sys.argv[1])
(out / "runs/one").mkdir(exist_ok=True)
(out / "small").mkdir()
(out / "small/small.png").write_bytes(b"drawn")
(out / "small/small.md").write_text(
    "# Title\\n\\n| run | J&F-Mean | J&F-Low | J&F-High | gain | gain-Low | gain-High | note |\\n"
    "|---|---|---|---|---|---|---|---|\\n"
    "| a | 80.1 | 70.0 | 90.0 | - | - | - | - |\\n"
    "| b | 79.0 | - | - | -1.1 | -2.0 | 0.1 | - |\\n"
    "| c | - | - | - | - | - | - | impossible, see below |\\n* a note\\n"
)
"""


def test_experiments_share_their_runs_and_documents_show_some_columns_and_the_picture(place):
    steps = {
        name: Step(name, ("python", "-c", EXPERIMENT, "{out}", name), shares_runs=True) for name in ("small", "other")
    }
    tables = {name: Table(name, (name,), written, {"small/small.png": f"{name}.png"}) for name in steps}
    (place.root / "README.md").write_text("<!-- results:small -->\n<!-- /results -->\n")
    place = replace(place, steps=steps, tables=tables)
    assert results.build(place, ("small", "other"))
    shown = (
        "| run | J&F | 95 % | gain | 95 % of the gain |\n|---|---|---|---|---|\n"
        "| a | 80.1 | 70.0 to 90.0 |  |  |\n| b | 79.0 |  | -1.1 | -2.0 to 0.1 |\n"
    )
    assert shown in (place.root / "README.md").read_text()
    assert (place.root / "other.png").read_bytes() == b"drawn"
    assert [path.name for path in place.shared_runs.iterdir()] == ["one"]


def test_a_table_of_another_precision_is_stale(place):
    results.build(place, ())
    rounded = replace(place.steps["count"], precision="bfloat16")
    assert results.stale(replace(place, steps={"count": rounded})) == ["README.md: sizes comes from another command"]


def test_a_click_head_of_another_key_encoder_is_trained_on_before_anything_clicks(place, tiny_model, tmp_path):
    save_model(tiny_model, tmp_path / "compact")
    head = ClickHead(ClickHeadConfig(tiny_model.key_encoder.out_channels, (4, 4, 4, 8)))
    save_click_head(head, "of before", tmp_path / "old")
    save_click_head(head, key_encoder_id(tiny_model), tmp_path / "new")
    weights = {"compact": tmp_path / "compact", "clicks": tmp_path / "old"}
    copy = "import pathlib, shutil; pathlib.Path('{out}').mkdir(); shutil.copy('new', '{out}/clicks.safetensors')"
    step = replace(place.steps["count"], command=("python", "-c", "print('| a |')"), weights=("compact", "clicks"))
    train = Step("click-head", ("python", "-c", copy))
    place = replace(place, weights=weights, steps={"count": step, "click-head": train})
    assert not results.build(replace(place, quick=True), ())
    assert results.is_click_head_old(place)
    assert results.build(place, ())
    assert weights["clicks"].read_bytes() == (tmp_path / "new").read_bytes()
    assert results.stale(place) == []


def test_a_marker_without_a_table_is_named(place):
    (place.root / "README.md").write_text(DOCUMENT.replace("sizes", "colours"))
    with pytest.raises(SystemExit, match="colours"):
        results.stale(place)


def test_the_project_s_documents_name_tables_that_there_are_and_every_table_has_its_steps():
    weights = {path.stem: path for path in (results.ROOT / "src/mnemask/model/weights").glob("*.safetensors")}
    place = results.Place(
        results.ROOT, Path("work"), Path("data"), weights, results_tables.STEPS, results_tables.TABLES
    )
    assert {"quality", "davis2016-dev"} <= results.shown(place).keys()
    for table in results_tables.TABLES.values():
        assert place.origin(table)["commands"]
    for step in results_tables.STEPS.values():
        assert step.command[0] == "mnemask" or (results.ROOT / step.command[1]).is_file()


def test_a_table_is_written_as_markdown():
    assert as_table(("a", "b"), [("1", "2")]) == "| a | b |\n|---|---|\n| 1 | 2 |"


def test_the_line_of_a_step_can_be_typed():
    step = Step("one", ("mnemask", "compare", "--setting", "lfu, no kernel"), precision="float32")
    assert step.line == 'MNEMASK_PRECISION=float32 mnemask compare --setting "lfu, no kernel"'
