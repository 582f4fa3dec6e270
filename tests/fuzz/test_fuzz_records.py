"""Results, traces, runs and typed settings as nobody wrote them."""

import gc
import json

import pytest
import torch
from hostile import anything, bounded, few, garbled, mutations, outcome
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

import mnemask as mm
from mnemask.evaluation.results import Result, ResultFolder
from mnemask.evaluation.tables import write_tables
from mnemask.memory.budget import parse_bytes
from mnemask.memory.policies import LFU
from mnemask.memory.trace import TraceFile, read_trace
from mnemask.metrics import ObjectScore, Report
from mnemask.model.stcn import STCN
from mnemask.training.checkpoint import TrainingState, load_run, save_run
from mnemask.training.data import parse_data

RESULT = Result(
    "lfu-pinned",
    "camel",
    Report((ObjectScore.from_frames("camel", 1, [0.9, 0.8], [1.0, 0.9]),), "davis2017", ("a note",)),
    (0.1, 0.2, 0.3),
    (1.0, 1.0, 2.0),
    3240,
    5_000_000,
    2,
    {1: "seen"},
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of results that holds one."""
    folder = ResultFolder.open(tmp_path_factory.mktemp("results"), {"size": 480})
    folder.keep(RESULT, folder.begin("lfu-pinned", "camel"))
    return folder


def look(folder, text):
    """Reads a result of this text and uses it as tables do."""
    (folder.out / "results/lfu-pinned/camel.json").write_text(text, errors="replace")
    result = outcome(lambda: folder.load("lfu-pinned", "camel"))
    if result is not None:
        assert (result.policy, result.sequence) == ("lfu-pinned", "camel")
        json.dumps(result.to_dict(), allow_nan=False)
        outcome(lambda: write_tables([result], folder.out / "tables"))


def test_a_result_is_read_as_it_was_written(folder):
    (folder.out / "results/lfu-pinned/camel.json").write_text(json.dumps(RESULT.to_dict()))
    assert folder.load("lfu-pinned", "camel") == RESULT


@bounded
@given(saved=st.one_of(anything, garbled(RESULT.to_dict())))
def test_any_result_is_used_or_refused(folder, saved):
    look(folder, json.dumps(saved))


@bounded
@given(data=mutations(json.dumps(RESULT.to_dict()).encode()))
def test_a_damaged_result_is_used_or_refused(folder, data):
    look(folder, data.decode(errors="replace"))


@pytest.mark.parametrize(
    "text", ["", "[" * 100_000, '{"scores":' * 50_000, "1" * 5_000, "\0", '{"policy": 1' + "0" * 5000 + "}"]
)
def test_a_garbled_result_is_refused(folder, text):
    look(folder, text)
    (folder.out / "settings.json").write_text(text)
    assert outcome(lambda: ResultFolder.open(folder.out, {"size": 480})) is None
    (folder.out / "settings.json").write_text('{"size": 480}')


@pytest.fixture(scope="module")
def trace_line(tiny_model, tmp_path_factory):
    """A line of a trace, as values."""
    from drawn_clip import drawn_clip

    frames, masks = drawn_clip(4)
    path = tmp_path_factory.mktemp("trace") / "t.jsonl"
    tracker = mm.Tracker(tiny_model, policy=LFU(write_every=1), budget=mm.Budget(frames=2), short_side=None)
    with TraceFile(path) as trace:
        tracker.memory.trace = trace
        for t in range(4):
            tracker.step(frames[t], {1: masks[0, 0]} if t == 0 else None)
    record = json.loads(path.read_text().splitlines()[-1])
    few = {
        name: column[:2] if name != "mask_fraction" else [row[:2] for row in column]
        for name, column in record["evicted"].items()
    }
    return {**record, "evicted": few}


@bounded
@given(data=st.data())
def test_any_trace_is_read_or_refused(place, trace_line, data):
    value = data.draw(st.one_of(anything, garbled(trace_line)))
    place.write_text(json.dumps(value) + "\n")
    for record in outcome(lambda: list(read_trace(place))) or ():
        assert record.evicted.box.shape == (len(record.evicted), 4)
        record.to_json()


@pytest.mark.parametrize("line", ["", "[" * 100_000, '{"size":' * 50_000, "1" * 5_000, '{"frame": 1e999}'])
def test_a_garbled_trace_is_refused(place, line):
    place.write_text(line + "\n")
    assert outcome(lambda: list(read_trace(place))) is None


sizes = st.one_of(
    st.text(max_size=20), st.text(alphabet="0123456789.eE+- kKmMgGiIbB٣²", max_size=24), st.just("9" * 5_000)
)


@bounded
@given(size=sizes)
def test_any_size_is_a_number_of_bytes_or_refused(size):
    number = outcome(lambda: parse_bytes(size))
    assert number is None or 0 < number < 2**62


@bounded
@given(frames=anything, tokens=anything, size=st.one_of(anything, sizes), cells=st.integers(1, 10**6))
def test_any_budget_has_a_capacity_or_is_refused(frames, tokens, size, cells):
    for limits in ({"frames": frames}, {"tokens": tokens}, {"bytes": size}, {"frames": frames, "bytes": size}):
        budget = outcome(lambda: mm.Budget(**limits))  # noqa: B023
        capacity = budget and outcome(lambda: budget.capacity(cells, 1000, 20))  # noqa: B023
        assert capacity is None or capacity >= cells


@bounded
@given(
    texts=st.lists(
        st.one_of(st.text(max_size=30), st.just("9" * 9_000), st.sampled_from(["images=a", "IMAGES=\0", "="])),
        max_size=3,
    )
)
def test_any_training_data_are_folders_or_refused(texts):
    outcome(lambda: parse_data(texts))


@pytest.fixture(scope="module")
def run(tiny_model, tmp_path_factory):
    """A saved training run of one step: its bytes, tensors and metadata, and how to load one."""
    path = tmp_path_factory.mktemp("run") / "run.safetensors"

    model = STCN(tiny_model.config)

    def fresh():
        model.load_state_dict(tiny_model.state_dict())
        average = {"decoder.pred.bias": torch.zeros(1)}
        return model, average, torch.optim.Adam([model.decoder.pred.bias, model.key_projection.bias])

    model, average, optimizer = fresh()
    model.decoder.pred.bias.grad, model.key_projection.bias.grad = torch.ones(1), torch.ones(8)
    optimizer.step()
    save_run(path, model, average, optimizer, TrainingState(1, 2.0, {"recipe": "compact"}, {"scale": 65536.0}))
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return path.read_bytes(), tensors, file.metadata(), fresh


def go_on(place, fresh):
    """Loads a run and makes a step; what loads must train."""
    model, average, optimizer = fresh()
    done = outcome(lambda: load_run(place, model, average, optimizer))
    if done is not None:
        assert done.step >= 0
        model.decoder.pred.bias.grad, model.key_projection.bias.grad = torch.ones(1), torch.ones(8)
        optimizer.step()
        assert bool(torch.isfinite(model.decoder.pred.bias).all())
    gc.collect()  # tracebacks and optimizers hold on to tensors until then


def test_a_run_goes_on_as_it_was_saved(place, run):
    place.write_bytes(run[0])
    model, average, optimizer = run[3]()
    assert load_run(place, model, average, optimizer) == TrainingState(
        1, 2.0, {"recipe": "compact"}, {"scale": 65536.0}
    )


@few
@given(data=st.data())
def test_a_damaged_run_goes_on_or_is_refused(place, run, data):
    place.write_bytes(data.draw(mutations(run[0])))
    go_on(place, run[3])


@few
@given(data=st.data())
def test_any_words_about_a_run_go_on_or_are_refused(place, run, data):
    _, tensors, metadata, fresh = run
    words = dict(metadata)
    for name in data.draw(st.lists(st.sampled_from(sorted(metadata)), min_size=1, max_size=2)):
        text = st.one_of(st.text(max_size=10), anything.map(json.dumps), st.just("[" * 10_000), st.just("9" * 5_000))
        words[name] = data.draw(text)
    save_file(tensors, place, words)
    go_on(place, fresh)


@pytest.mark.parametrize("change", ["cut", "type", "nan", "gone"])
@pytest.mark.parametrize(
    "part", ["optimizer/decoder.pred.bias/exp_avg", "optimizer/decoder.pred.bias/step", "average/decoder.pred.bias"]
)
def test_any_moments_of_a_run_go_on_or_are_refused(place, run, part, change):
    _, tensors, metadata, fresh = run
    tensors = dict(tensors)
    if change == "gone":
        del tensors[part]
    else:
        changed = {"cut": torch.zeros(3), "type": tensors[part].to(torch.complex64), "nan": tensors[part] * torch.nan}
        tensors[part] = changed[change]
    save_file(tensors, place, metadata)
    go_on(place, fresh)
