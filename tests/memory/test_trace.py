import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn_clip import drawn_clip
from random_tokens import random_frame, random_tokens, write
from refusals import refusal
from thorough import thorough_but

from mnemask import Budget, InputError, Tracker
from mnemask.config import TrackerConfig
from mnemask.errors import OutputError
from mnemask.memory.bank import MemoryBank
from mnemask.memory.policies import POLICIES
from mnemask.memory.tokens import CellGrid
from mnemask.memory.trace import TraceFile, WriteRecord, read_trace
from mnemask.model import devices


def run(model, policy="lfu-pinned", trace=None):
    """The masks of a clip with a late object, and the tracker."""
    frames, masks = drawn_clip(8, num_objects=2)
    tracker = Tracker(
        model, policy=replace(POLICIES[policy], write_every=2), budget=Budget(frames=2.5), short_side=None
    )
    tracker.memory.trace = trace
    prompts = {0: {1: masks[0, 0]}, 4: {2: masks[4, 1]}}
    return [tracker.step(frame, prompts.get(t)) for t, frame in enumerate(frames)], tracker


def test_masks_are_the_same_to_the_last_bit_with_and_without_a_trace(tiny_model):
    records = []
    traced, tracker = run(tiny_model, "lfu-pinned", records.append)
    plain, _ = run(tiny_model, "lfu-pinned")
    for one, other in zip(traced, plain, strict=True):
        assert np.array_equal(one.probs.numpy(), other.probs.numpy())
        assert np.array_equal(one.labels.numpy(), other.labels.numpy())
    assert len(records) == tracker.memory.stats().writes


@pytest.mark.parametrize("policy", thorough_but(5, POLICIES))
def test_what_the_trace_says_was_written_and_not_evicted_is_what_is_remembered(policy):
    records, remembered = [], set()
    bank = MemoryBank(
        TrackerConfig(POLICIES[policy], Budget() if policy == "keep-all" else Budget(frames=3.5), top_k=3)
    )
    bank.grid, bank.trace = CellGrid((32, 48), None), records.append
    for step in range(12):
        write(bank, step, num_objects=2, pinned=step == 0)
        bank.read(random_frame(6, 1, 50 + step)[0], step)
        record = records[-1]
        remembered |= {(record.frame, cell) for cell in range(6)}
        for gone in (record.evicted, record.left_out):
            cells = set(zip(gone.frame.tolist(), gone.cell.tolist(), strict=True))
            assert len(cells) == len(gone)
            assert cells <= remembered
            remembered -= cells
        memory = bank.provenance()
        assert remembered == set(zip(memory.frame.tolist(), memory.cell.tolist(), strict=True))
        assert record.held == len(memory)
        assert record.capacity == bank.stats().capacity
    assert sum(len(record.evicted) + len(record.left_out) for record in records) == bank.stats().evictions


def test_what_is_kept_of_an_earlier_video_with_more_cells_is_not_taken_for_what_was_evicted():
    earlier = replace(random_tokens([-1], [0], [False]), cell=torch.tensor([30]))  # -1 × 6 + 30 = 4 × 6 + 0
    memory = earlier + replace(random_tokens([4], [0], [False]), cell=torch.tensor([0]))
    new = random_tokens([5], [0], [False])
    record = WriteRecord.from_write(
        memory, new, earlier + new, grid=CellGrid((32, 48), None), policy="fifo", capacity=2
    )
    assert (record.evicted.frame.tolist(), record.evicted.cell.tolist()) == ([12], [0])
    assert len(record.left_out) == record.evicted_earlier == 0


def test_what_goes_of_an_earlier_video_is_counted():
    earlier, new = random_tokens([-2, -1], [0, 0], [False] * 2), random_tokens([5], [0], [False])
    record = WriteRecord.from_write(
        earlier, new, earlier[:1] + new, grid=CellGrid((32, 48), None), policy="fifo", capacity=2
    )
    assert (record.held, len(record.evicted), record.evicted_earlier) == (2, 0, 1)
    assert WriteRecord.from_json(record.to_json()).evicted_earlier == 1


def test_the_evicted_come_with_the_use_they_went_for(tiny_model):
    records = []
    _, tracker = run(tiny_model, "lfu", records.append)
    last = [record for record in records if len(record.evicted)][-1]
    assert (last.evicted.age >= 1).all()
    stayed = tracker.memory.provenance()
    older = stayed.frame < last.frame
    steps_since = tracker.steps - 1 - last.step
    assert np.array_equal(last.evicted.usage, last.evicted.topk_count / last.evicted.age)
    # hits only grow: what stayed had at most its present hits when the others went
    assert last.evicted.usage.max() <= (stayed.topk_count[older] / (stayed.age[older] - steps_since)).min()
    assert last.policy.startswith("LFU(")


def test_a_file_gives_the_records_back(tiny_model, tmp_path):
    records = []
    with TraceFile(tmp_path / "a.jsonl") as trace:
        run(tiny_model, "lfu-pinned", lambda record: (trace(record), records.append(record)))
    again = list(read_trace(tmp_path / "a.jsonl"))
    assert len(again) == len(records) > 3
    for one, other in zip(again, records, strict=True):
        assert (one.frame, one.step, one.policy, one.capacity, one.held) == (
            other.frame,
            other.step,
            other.policy,
            other.capacity,
            other.held,
        )
        for name in ("evicted", "left_out"):
            mine, theirs = getattr(one, name), getattr(other, name)
            assert mine.grid == theirs.grid
            assert np.array_equal(mine.box, theirs.box)
            assert np.array_equal(mine.topk_count, theirs.topk_count)
            assert mine.mask_fraction == pytest.approx(theirs.mask_fraction, abs=6e-4)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda tracker: pickle.loads(pickle.dumps(tracker))])
@pytest.mark.parametrize("deferred", [(), ("cpu",)])
def test_a_copy_of_a_tracker_goes_on_without_its_trace(tiny_model, tmp_path, monkeypatch, copied, deferred):
    monkeypatch.setattr(devices, "DEFERRED", deferred)
    frame = drawn_clip(1)[0][0]
    with TraceFile(tmp_path / "trace.jsonl") as trace:
        _, tracker = run(tiny_model, trace=trace)
        before = len(list(read_trace(trace.path)))
        again = copied(tracker)
        assert torch.equal(again.step(frame).labels, tracker.step(frame).labels)
        assert again.memory.trace is None
        assert tracker.memory.trace is trace
    assert len(list(read_trace(trace.path))) == before + 1


def test_a_trace_is_not_written_over_another_unless_asked(tiny_model, tmp_path):
    path = tmp_path / "a.jsonl"
    with TraceFile(path) as trace:
        run(tiny_model, "lfu", trace)
    before = path.read_bytes()
    with refusal(OutputError, "already"):
        TraceFile(path)
    with TraceFile(path, overwrite=True) as trace:
        assert path.read_bytes() == before  # until there is something to write
        run(tiny_model, "lfu-pinned", trace)
    assert len(list(read_trace(path))) > 3
    assert path.read_bytes() != before


def test_a_file_that_is_no_trace_is_never_written_over(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("precious")
    with refusal(OutputError, r"a\.jsonl"):
        TraceFile(path, overwrite=True)
    assert path.read_text() == "precious"


def test_a_place_that_cannot_be_written_to_stops_the_step_and_leaves_no_trace(tiny_model, tmp_path):
    frames, masks = drawn_clip(1)
    tracker = Tracker(tiny_model, short_side=None)
    tracker.memory.trace = TraceFile(tmp_path / "no folder" / "a.jsonl")
    with refusal(OutputError, "cannot"):
        tracker.step(frames[0], {1: masks[0, 0]})
    assert (tracker.memory.tokens, tracker.steps, tracker.object_ids) == (None, 0, ())


def test_a_line_that_was_cut_off_is_named_after_all_lines_before_it(tiny_model, tmp_path):
    path = tmp_path / "a.jsonl"
    with TraceFile(path) as trace:
        run(tiny_model, "lfu-pinned", trace)
    whole = path.read_text()
    path.write_text(whole[: len(whole) - 20])
    read = []
    with refusal(InputError, rf"{whole.count(chr(10))}"):
        read.extend(iter_into(read, read_trace(path)))
    assert len(read) == whole.count("\n") - 1


def iter_into(found, records):
    for record in records:
        found.append(record)
    return ()


@pytest.mark.parametrize("line", ["", "[]", "{}", '"frame"', "null", "{1", '{"size": [1]}'])
def test_lines_that_are_no_records_are_refused(tmp_path, line):
    (tmp_path / "a.jsonl").write_text(line + "\n")
    with refusal(InputError, "line"):
        list(read_trace(tmp_path / "a.jsonl"))


def test_a_record_whose_columns_do_not_fit_together_is_refused(tiny_model):
    records = []
    run(tiny_model, "lfu", records.append)
    line = records[-1].to_json()
    for old, new in (('"cell":[', '"cell":[99,'), ('"topk_count":[', '"topk_count":[1,'), ('"size":[64', '"size":[16')):
        with pytest.raises(ValueError, match="its c"):
            WriteRecord.from_json(line.replace(old, new, 1))


def test_a_missing_trace_is_named(tmp_path):
    with refusal(InputError, "file"):
        list(read_trace(tmp_path / "none.jsonl"))
