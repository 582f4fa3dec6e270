import json

import numpy as np
import pytest
import torch
from refusals import refusal

from mnemask import Budget, Frame, InputError
from mnemask.memory.read import affinity, key_energy
from mnemask.model import preprocess
from mnemask.step import Step


def query_keys(tracker, frame):
    """The keys of a frame's cells."""
    with torch.no_grad():
        return preprocess.cells(tracker.model.encode_key(Step.accept(tracker, frame, None).image()).key[0])


@pytest.mark.parametrize("policy", ["lfu", "keep-all"])
def test_an_explanation_is_the_read_that_was_made_also_where_the_frame_was_written(make, clip, policy):
    frames, masks = clip
    tracker = make(policy, budget=Budget(frames=2) if policy == "lfu" else None, top_k=5)
    tracker.step(frames[0], {3: masks[0, 0], 8: masks[0, 1]})
    for t in range(1, 7):
        before = tracker.memory.tokens
        tracker.step(frames[t])
        keys = query_keys(tracker, Frame(frames[t], t))
        for y, x in ((0, 0), (40, 50), (63, 95)):
            found = tracker.explain(y, x)
            query = y // 16 * 6 + x // 16
            alike = affinity(keys[query : query + 1], before.key, key_energy(before.key))[0]
            best, index = alike.topk(5)
            assert (found.index, found.y, found.x, found.query, found.object_ids) == (t, y, x, query, (3, 8))
            assert found.frame.tolist() == before.frame[index].tolist()
            assert found.cell.tolist() == before.cell[index].tolist()
            assert found.weight == pytest.approx(best.softmax(0).expand(2, -1).numpy(), abs=1e-5)
            assert found.mask_fraction == pytest.approx(before.mask_fraction[:, index].numpy())
            assert found.votes == pytest.approx((found.weight * found.mask_fraction).sum(1))
            left, top, right, bottom = found.query_box
            assert left <= x < right
            assert top <= y < bottom


def test_pixels_of_a_cell_are_explained_alike_and_explaining_changes_nothing(make, clip):
    frames, masks = clip
    tracker, twin = make(), make()
    for t in range(7):
        found, expected = (each.step(frames[t], {1: masks[0, 0]} if t == 0 else None) for each in (tracker, twin))
        assert torch.equal(found.probs, expected.probs)
        if t:
            one, other = tracker.explain(17, 20), tracker.explain(31, 31)
            assert one.frame.tolist() == other.frame.tolist()
            assert one.weight.tolist() == other.weight.tolist()


def test_a_late_object_is_explained_by_the_memories_it_could_read(make, clip):
    frames, masks = clip
    tracker = make("keep-all", top_k=4)
    for t in range(7):
        tracker.step(frames[t], {0: {1: masks[0, 0]}, 5: {2: masks[5, 1]}}.get(t))
        if t == 5:
            assert tracker.explain(0, 0).object_ids == (1,)  # the other one was not there when memory was read
    found = tracker.explain(30, 30)
    assert found.object_ids == (1, 2)
    assert found.weight.sum(1) == pytest.approx([1, 1])
    assert (found.weight > 0).sum(1).tolist() == [4, 4]
    assert set(found.frame[found.weight[1] > 0].tolist()) == {5}
    mean = found.weight.mean(0)
    assert (mean[:-1] >= mean[1:]).all()


def test_json_holds_an_explanation(make, clip):
    frames, masks = clip
    tracker = make()
    tracker.step(frames[0], {7: masks[0, 0]})
    tracker.step(frames[1])
    told = tracker.explain(5, 90).to_dict()
    assert (told["y"], told["x"], told["frame"]) == (5, 90, 1)
    assert list(told["votes"]) == ["7"]
    assert sum(told["memories"]["weight"][0]) == pytest.approx(1, abs=2e-3)


def test_tokens_of_an_earlier_video_have_no_box_since_its_frames_may_have_another_size(make, clip):
    frames, masks = clip
    before, tracker = make("keep-all"), make("keep-all")
    before.step(frames[0], {7: masks[0, 0]})
    tracker.warm_start(before)
    for frame in frames[:2]:
        tracker.step(frame.transpose(1, 2))
    found = tracker.explain(90, 5)
    old = found.frame < 0
    assert old.any()
    assert np.array_equal(np.isnan(found.box), np.repeat(old[:, None], 4, axis=1))
    assert np.array_equal(found.box[~old], found.grid.boxes(found.cell[~old]))
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))["memories"]["box"]
    assert [box is None for box in told] == old.tolist()


def test_without_a_read_there_is_nothing_to_explain(make, clip, tmp_path, as_users_call_it):
    frames, masks = clip
    tracker = make()

    def refused():
        with refusal(InputError, "explain"):
            tracker.explain(0, 0)

    refused()
    tracker.step(frames[0])
    refused()
    tracker.step(frames[1], {1: masks[1, 0], 2: masks[1, 1]})
    refused()
    tracker.step(frames[2])
    with refusal(InputError, "outside"):
        tracker.explain(64, 0)
    for place in ((3.7, 2.2), ("1", 0)):
        with refusal(InputError, "not a pixel"):
            tracker.explain(*place)
    tracker.save(tmp_path / "a.bank")
    tracker.remove(1)
    refused()
    tracker = type(tracker).load(tmp_path / "a.bank", tracker.model)
    refused()
    tracker.step(frames[3])
    assert tracker.explain(0, 0).index == 3
