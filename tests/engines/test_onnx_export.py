"""The exported graphs say what the network says, and a clip run with them alone has the tracker's masks."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from drawn_clip import drawn_clip
from refusals import refusal

import mnemask as mm
from mnemask.errors import OutputError
from mnemask.export import export_onnx
from mnemask.memory.read import KMNKernel, key_energy, read_top_k
from mnemask.model import preprocess

pytestmark = pytest.mark.precision

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "onnx_clip.py"
SIZE = (60, 90)  # with padding 64×96: 4 × 6 cells, 48 tokens
KERNEL = 0.3

RUN_WITHOUT_TORCH = """
import runpy, sys, pathlib, numpy
class Refused:
    def find_spec(self, name, *rest):
        assert name.split(".")[0] not in ("torch", "mnemask"), f"{name} is imported"
sys.meta_path.insert(0, Refused())
folder, clip, out = sys.argv[1:]
given = numpy.load(clip)
segment = runpy.run_path(EXAMPLE)["segment"]
numpy.save(out, numpy.stack(list(segment(pathlib.Path(folder), given["frames"], given["first"]))))
"""


@pytest.fixture(scope="module")
def network(tiny_model, tmp_path_factory):
    """The tiny network for two objects, exported."""
    folder = tmp_path_factory.mktemp("network")
    written = export_onnx(tiny_model, folder, mm.TrackerConfig(kmn_sigma=KERNEL), size=SIZE, num_objects=2)
    assert [path.name for path in written] == ["key.onnx", "read.onnx", "decode.onnx", "value.onnx", "network.json"]
    assert sorted(folder.iterdir()) == sorted(written)
    return folder


def run(network, name, *inputs):
    state = onnxruntime.InferenceSession(network / f"{name}.onnx", providers=["CPUExecutionProvider"])
    arrays = (value.contiguous().numpy() for value in inputs)
    return [torch.from_numpy(value) for value in state.run(None, dict(zip(input_names(state), arrays, strict=True)))]


def input_names(state):
    return [value.name for value in state.get_inputs()]


def test_key_value_and_decoder_say_what_the_network_says(network, tiny_model):
    frame = torch.randint(0, 256, (*SIZE, 3), dtype=torch.uint8)
    image = preprocess.pad(preprocess.normalize(frame.movedim(2, 0)))[None]
    expected = tiny_model.encode_key(image)
    key, compressed, stride16, stride8, stride4 = run(network, "key", frame)
    torch.testing.assert_close(key, preprocess.cells(expected.key[0]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(stride4, expected.stride4, atol=1e-4, rtol=1e-4)

    probs = torch.rand(3, 64, 96).softmax(0)
    (value,) = run(network, "value", frame, stride16, probs)
    torch.testing.assert_close(
        value, preprocess.cells(tiny_model.encode_value(image, expected, probs[None, 1:])[0]), atol=1e-4, rtol=1e-4
    )

    readout = torch.randn(2, 24, 32)
    (found,) = run(network, "decode", readout, compressed, stride8, stride4)
    logits = tiny_model.decode(readout.unflatten(1, (4, 6)).movedim(3, 1)[None], expected)[0]
    torch.testing.assert_close(found, mm.model.stcn.soft_aggregate(logits.sigmoid()), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("length", [24, 31, 48])
def test_the_read_sees_only_what_is_written(network, length):
    query, key, value = torch.randn(24, 8), torch.randn(48, 8), torch.randn(2, 48, 32)
    readout, index, weight = run(network, "read", query, key, value, torch.tensor(length))
    expected = read_top_k(query, key[:length], key_energy(key[:length]), 20, kernel=KMNKernel(4 * KERNEL, 6))
    assert torch.equal(index, expected.index)
    torch.testing.assert_close(weight, expected.weight)
    torch.testing.assert_close(readout, expected.gather(value[:, :length]), atol=1e-5, rtol=1e-5)


def test_a_clip_without_pytorch_has_the_masks_of_the_tracker(network, tiny_model, tmp_path):
    frames, masks = drawn_clip(17, *SIZE, num_objects=2)  # writes at 0, 5, 10 and 15 into room for two frames
    first = masks[0, 0].int() + 2 * masks[0, 1].int()
    tracker = mm.Tracker(tiny_model, policy="lfu", budget=mm.Budget(frames=2), kmn_sigma=KERNEL, short_side=None)
    expected = [
        tracker.step(frame, {1: first == 1, 2: first == 2} if t == 0 else None).labels for t, frame in enumerate(frames)
    ]
    assert tracker.memory.stats().evictions == 48

    clip, out = tmp_path / "clip.npz", tmp_path / "labels.npy"
    np.savez(clip, frames=frames.movedim(1, 3).numpy(), first=first.numpy())
    program = RUN_WITHOUT_TORCH.replace("EXAMPLE", repr(str(EXAMPLE)))
    subprocess.run([sys.executable, "-c", program, network, clip, out], check=True, timeout=300)

    found, expected = np.load(out), torch.stack(expected).numpy()
    assert len(np.unique(expected[-1])) == 3, "both objects are there to the end, or this test says little"
    for object_id in (1, 2):
        ours, theirs = found == object_id, expected == object_id
        assert (ours & theirs).sum() / (ours | theirs).sum() >= 0.999


def test_a_clip_of_another_size_is_refused_with_the_exported_one(network):
    segment = runpy.run_path(str(EXAMPLE))["segment"]
    frame, first = np.zeros((30, 40, 3), np.uint8), np.ones((30, 40), np.uint8)
    with pytest.raises(SystemExit, match="exported size, 90x60"):
        next(segment(network, [frame], first))


def test_network_json_says_what_one_must_know_to_run_it(network, tiny_model):
    facts = json.loads((network / "network.json").read_text())
    assert facts["padding"] == {"left": 3, "right": 3, "top": 2, "bottom": 2}
    assert (facts["cells"], facts["capacity"], facts["top_k"], facts["num_objects"]) == (24, 48, 20, 2)
    assert (facts["grid"], facts["kmn_sigma"]) == ([4, 6], KERNEL)
    assert (facts["opset"], facts["format"]) == (20, "mnemask-onnx-1")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"size": (8, 90)}, "8 pixels"),
        ({"num_objects": 0}, "0 objects"),
        ({"config": mm.TrackerConfig(budget=mm.Budget(frames=0.5))}, "0.5 frames"),
        ({"config": mm.TrackerConfig(budget=mm.Budget(tokens=99))}, "99 tokens"),
        ({"config": mm.TrackerConfig(metric="dot")}, "metric dot"),
    ],
)
def test_what_cannot_be_exported_is_said_before_anything_is_written(wrong, named, tiny_model, tmp_path):
    with refusal(mm.InputError, named):
        export_onnx(tiny_model, tmp_path / "network", **wrong)
    assert not (tmp_path / "network").exists()


def test_a_folder_that_holds_a_network_is_not_written_over(network, tiny_model):
    with refusal(mm.InputError, "already"):
        export_onnx(tiny_model, network, size=SIZE)


def test_a_graph_of_ones_own_is_not_replaced(tiny_model, tmp_path):
    (tmp_path / "key.onnx").write_text("mine")
    with refusal(OutputError, "key.onnx"):
        export_onnx(tiny_model, tmp_path, size=SIZE)
    assert (tmp_path / "key.onnx").read_text() == "mine"


def test_a_network_that_could_not_be_replaced_whole_is_none(tiny_model, tmp_path):
    (tmp_path / "network.json").write_text("of another network")
    (tmp_path / "key.onnx").mkdir()
    with refusal(OutputError, "cannot"):
        export_onnx(tiny_model, tmp_path, size=SIZE, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["key.onnx"]
