import numpy as np
import pytest
import torch
from drawn_clip import drawn_clip
from refusals import refusal
from safetensors import safe_open
from safetensors.torch import save_file

from mnemask import Budget, InputError, Tracker
from mnemask.config import TrackerConfig
from mnemask.errors import CheckpointError
from mnemask.inspection import inspect_bank
from mnemask.memory.bank import MemoryBank
from mnemask.memory.introspection import Provenance, read_provenance
from mnemask.memory.policies import LFU
from mnemask.memory.storage import digest_of, load_bank, save_bank

ARRAYS = (
    "frame",
    "cell",
    "topk_count",
    "attention_mass",
    "age",
    "mask_fraction",
    "pinned",
    "row",
    "column",
    "box",
    "usage",
)


@pytest.fixture(scope="module")
def tracker(tiny_model):
    """A tracker that has written frames 0, 2, 4 and 6 of a clip, forgotten some of them, and read frame 7."""
    frames, masks = drawn_clip(8, 70, 100, num_objects=2)
    tracker = Tracker(tiny_model, policy=LFU(write_every=2), budget=Budget(frames=2.5), short_side=48)
    for t, frame in enumerate(frames):
        tracker.step(frame, {1: masks[0, 0], 5: masks[0, 1]} if t == 0 else None)
    return tracker


@pytest.fixture
def altered(tracker, tmp_path):
    """Saves the tracker with one fact in its file changed, and returns that file."""

    def save(**facts):
        tracker.save(tmp_path / "a.bank")
        tokens, stated = load_bank(tmp_path / "a.bank", torch.device("cpu"))
        save_bank(tmp_path / "b.bank", tokens, {**stated, **facts})
        return tmp_path / "b.bank"

    return save


def test_provenance_is_what_the_tokens_say(tracker):
    memory, tokens = tracker.memory.provenance(), tracker.memory.tokens
    assert len(memory) == len(tokens) == int(2.5 * memory.grid.num_cells)
    assert memory.frame.tolist() == tokens.frame.tolist()
    assert memory.topk_count.tolist() == tokens.topk_count.tolist()
    assert memory.mask_fraction.tolist() == tokens.mask_fraction.tolist()
    assert memory.pinned.tolist() == (tokens.frame == 0).tolist()
    assert (memory.row * memory.grid.shape[1] + memory.column).tolist() == tokens.cell.tolist()
    assert memory.age.tolist() == (7 - tokens.written_at).tolist()
    assert memory.usage[0] == memory.topk_count[0] / 7
    assert memory.box[:, 2].max() == 100
    assert memory.box[:, 3].max() == 70


def test_a_box_encloses_what_its_share_tells_of(tracker):
    memory = tracker.memory.provenance()
    _, masks = drawn_clip(8, 70, 100, num_objects=2)
    first = memory.frame == 0
    for box, mask_fraction in zip(memory.box[first], memory.mask_fraction[0, first], strict=True):
        left, top, right, bottom = box.round().astype(int)
        if 16 <= left <= right <= 84 and 16 <= top <= bottom <= 54:
            assert masks[0, 0, top:bottom, left:right].float().mean() == pytest.approx(mask_fraction, abs=0.15)


def test_provenance_stays_as_it_was_when_memory_goes_on(tiny_model):
    frames, masks = drawn_clip(4)
    tracker = Tracker(tiny_model, policy="keep-all", short_side=None)
    tracker.step(frames[0], {1: masks[0, 0]})
    memory = tracker.memory.provenance()
    tracker.memory.tokens.mask_fraction.fill_(0.5)
    assert float(memory.mask_fraction.max()) > 0.7
    tracker.step(frames[1])
    assert (memory.topk_count.sum(), memory.age.max()) == (0, 0)


def test_a_saved_tracker_tells_the_same_without_video_and_model(tracker, tmp_path):
    tracker.save(tmp_path / "a.bank")
    live, saved = tracker.memory.provenance(), read_provenance(tmp_path / "a.bank")
    loaded = Tracker.load(tmp_path / "a.bank", tracker.model).memory.provenance()
    for each in (saved, loaded):
        assert each.grid == live.grid
        assert all(np.array_equal(getattr(each, name), getattr(live, name)) for name in ARRAYS)


@pytest.mark.parametrize("tta", ["flip", "0.8", "1.5", "flip,1.5"])
def test_a_saved_tracker_of_several_views_tells_of_the_first_one(tiny_model, tmp_path, tta):
    frames, masks = drawn_clip(4, 70, 100)
    tracker = Tracker(tiny_model, policy=LFU(write_every=2), short_side=48, tta=tta)
    for t, frame in enumerate(frames):
        tracker.step(frame, {1: masks[0, 0]} if t == 0 else None)
    tracker.save(tmp_path / "views.bank")
    live, saved = tracker.memory.provenance(), read_provenance(tmp_path / "views.bank")
    assert saved.grid == live.grid
    assert all(np.array_equal(getattr(saved, name), getattr(live, name)) for name in ARRAYS)
    inspect_bank(tmp_path / "views.bank", tmp_path / "look")


@pytest.mark.parametrize("num_tokens", [-1, None, True, 10**6])
def test_a_file_with_an_impossible_number_of_tokens_is_refused(altered, num_tokens):
    bank = altered(num_tokens=num_tokens)
    with refusal(CheckpointError, "tokens"):
        read_provenance(bank)


def test_ages_grow_while_the_memory_is_frozen(tracker, tmp_path):
    frozen, before = tracker.fork(), tracker.memory.provenance()
    frozen.memory.frozen = True
    for frame in drawn_clip(3, 70, 100)[0]:
        frozen.step(frame)
    frozen.save(tmp_path / "frozen.bank")
    loaded = Tracker.load(tmp_path / "frozen.bank", tracker.model)
    for now in (frozen.memory.provenance(), read_provenance(tmp_path / "frozen.bank"), loaded.memory.provenance()):
        assert now.age.tolist() == (before.age + 3).tolist()
        assert now.topk_count.tolist() == before.topk_count.tolist()


@pytest.mark.parametrize("steps", [-1, None, "8", 2**70])
def test_a_file_with_an_impossible_number_of_frames_is_refused(altered, steps):
    bank = altered(steps=steps)
    with refusal(CheckpointError, "frames"):
        read_provenance(bank)


def test_columns_can_be_read_back(tracker):
    live = tracker.memory.provenance()
    again = Provenance.from_columns(live.grid, live.columns())
    for name in ARRAYS:
        assert getattr(again, name) == pytest.approx(getattr(live, name), abs=6e-4), name


def test_before_the_first_prompt_nothing_is_remembered_and_before_the_first_frame_nothing_is_known(
    tiny_model, tmp_path
):
    tracker = Tracker(tiny_model, short_side=None)
    tracker.save(tmp_path / "new.bank")
    for call in (tracker.memory.provenance, lambda: read_provenance(tmp_path / "new.bank")):
        with refusal(InputError, "frame"):
            call()
    tracker.step(drawn_clip(1)[0][0])
    tracker.save(tmp_path / "one.bank")
    for memory in (tracker.memory.provenance(), read_provenance(tmp_path / "one.bank")):
        assert (len(memory), memory.box.shape, memory.mask_fraction.shape) == (0, (0, 4), (0, 0))


def test_a_bank_by_itself_must_be_told_the_size_of_frames():
    with refusal(InputError, r"memory\.grid"):
        MemoryBank(TrackerConfig(LFU(), Budget())).provenance()


@pytest.mark.parametrize("cell", [-1, 10_000])
def test_a_file_with_cells_outside_of_all_frames_is_refused(tracker, tmp_path, cell):
    tracker.save(tmp_path / "a.bank")
    with safe_open(tmp_path / "a.bank", "pt") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    tensors["cell"] = torch.full_like(tensors["cell"], cell)
    metadata["sha256"] = digest_of(metadata["facts"], tensors)
    save_file(tensors, tmp_path / "b.bank", metadata)
    with refusal(CheckpointError, rf"{cell}"):
        read_provenance(tmp_path / "b.bank")
