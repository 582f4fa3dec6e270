import numpy as np
from drawn_clip import drawn_clip

from mnemask import Budget, Tracker
from mnemask.comparison.look import HEAT, MOST_CLICKS, MOST_VOTERS, PINNED, cell_edges, look_into, pixels_to_explain
from mnemask.memory.policies import LFU
from mnemask.memory.tokens import CellGrid


def looked(tiny_model, num_frames=5):
    frames, masks = drawn_clip(num_frames, num_objects=2)
    tracker = Tracker(tiny_model, policy=LFU(write_every=2), budget=Budget(frames=2), short_side=None)
    for t, frame in enumerate(frames):
        tracker.step(frame, {1: masks[0, 0], 2: masks[0, 1]} if t == 0 else None)
    return tracker, look_into(tracker, num_frames - 1)


def test_a_tile_has_a_mark_for_each_remembered_cell(tiny_model):
    tracker, look = looked(tiny_model)
    memory = tracker.memory.provenance()
    assert look["cells"] == len(memory)
    assert sum(count for _, count in look["sources"]) == len(memory)
    for tile in look["tiles"]:
        here = memory.frame == tile["frame"]
        assert len(tile["heat"]) == memory.grid.num_cells
        assert {cell for cell, mark in enumerate(tile["heat"]) if mark != "."} == set(memory.cell[here].tolist())
        pinned = {cell for cell, mark in enumerate(tile["heat"]) if mark in PINNED}
        assert pinned == set(memory.cell[here & memory.pinned].tolist())
        assert tile["topk_count"] == memory.topk_count[here].sum()
    levels = [(HEAT + PINNED).index(mark) % 10 for tile in look["tiles"] for mark in tile["heat"] if mark != "."]
    assert max(levels) == 9  # the cell with the most hits


def test_a_click_says_what_the_tracker_explains(tiny_model):
    tracker, look = looked(tiny_model)
    assert len(look["clicks"]) == 24  # all 4 × 6 cells
    click = look["clicks"][9]
    box = tracker.memory.grid.boxes(np.array([click["cell"]]))[0]
    why = tracker.explain(int((box[1] + box[3]) / 2), int((box[0] + box[2]) / 2))
    assert click["cell"] == why.query
    np.testing.assert_allclose(click["votes"], why.votes, atol=1e-3)
    assert [frame for frame, _, _ in click["from"]] == why.frame[:MOST_VOTERS].tolist()
    assert [cell for _, cell, _ in click["from"]] == why.cell[:MOST_VOTERS].tolist()
    weights = [weight for _, _, weight in click["from"]]
    assert weights == sorted(weights, reverse=True)
    assert sum(weights) <= 1.001


def test_there_is_nothing_to_look_into_before_anything_was_read(tiny_model):
    assert looked(tiny_model, num_frames=1)[1] is None


def test_places_to_click_are_spread_and_few():
    grid = CellGrid((480, 854), 480)
    places = pixels_to_explain(grid)
    assert 100 < len(places) <= MOST_CLICKS
    cells = {grid.cell_at(y, x) for y, x in places}
    assert len(cells) == len(places)
    assert len({cell // grid.shape[1] for cell in cells}) == 10
    assert len(pixels_to_explain(CellGrid((17, 17), None))) >= 1


def test_cells_end_where_the_next_begin():
    grid = CellGrid((480, 854), 480)
    edges = cell_edges(grid)
    assert (len(edges["x"]), len(edges["y"])) == (55, 31)
    assert (edges["x"][0], edges["x"][-1], edges["y"][0], edges["y"][-1]) == (0, 1, 0, 1)
    box = grid.boxes(np.array([54 * 3 + 7]))[0]
    np.testing.assert_allclose(
        box, [edges["x"][7] * 854, edges["y"][3] * 480, edges["x"][8] * 854, edges["y"][4] * 480], atol=0.02
    )
