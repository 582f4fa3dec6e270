import copy
import json
import os
import pickle
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from refusals import refusal
from safetensors.torch import load_file, save_file
from thorough import thorough_but

from mnemask.errors import CheckpointError, OutputError
from mnemask.model.checkpoints import fingerprint, from_stcn, key_encoder_id, load_model, save_model
from mnemask.model.stcn import STCN, STCN_SIZE

TABLE = Path(__file__).parent / "stcn_state_dict.txt"


def published(path=TABLE):
    """A state dict with the names and shapes of a published checkpoint: 218 MB when loaded, a few kB as a file."""
    state = {}
    for line in path.read_text().splitlines():
        name, shape = line.split(" ", 1)
        fill = torch.tensor(0.5 if name.endswith("running_var") else 1e-3)
        state[name] = fill.expand([int(n) for n in shape.strip("()").split(",") if n.strip()])
    return state


def written(folder, state):
    path = folder / "weights.pth"
    torch.save(state, path)
    return path


def complaint(path):
    """The one sentence that loading a file ends with."""
    with pytest.raises(CheckpointError) as caught:
        load_model(path, device="cpu")
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_a_published_checkpoint_loads_into_the_paper_network(tmp_path):
    state = published()
    assert len(state) == 405
    model = load_model(written(tmp_path, state), device="cpu", dtype=torch.float32)
    assert model.config == STCN_SIZE
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    # γ/√(σ² + ε)·W and β + (b - μ)·γ/√(σ² + ε), all of them 0.001 but σ²
    gain = 1e-3 / (0.5 + 1e-5) ** 0.5
    assert model.key_encoder.layer1[0].conv1.weight.flatten()[0].item() == pytest.approx(1e-3 * gain)
    assert model.value_encoder.resnet.layer3[0].conv2.bias[0].item() == pytest.approx(1e-3, rel=1e-5)
    assert model.key_encoder.conv1.bias[0].item() == pytest.approx(1e-3 - 1e-3 * gain)


def test_published_names_end_up_in_their_places():
    # Each tensor is filled with its own number, and BatchNorm does nothing.
    state = {}
    for number, (name, tensor) in enumerate(published().items()):
        fill = 0.0 if name.endswith(("running_mean", "bn1.bias", "bn2.bias", "bn3.bias", "downsample.1.bias")) else 1.0
        norm = ".bn" in name or "downsample.1" in name
        state[name] = torch.tensor(fill if norm else float(number)).expand(tensor.shape)
        if name.endswith("running_var"):
            state[name] = torch.tensor(1 - 1e-5).expand(tensor.shape)
    found = from_stcn(state, Path("stcn.pth"))
    for theirs, ours in {
        "key_encoder.res2.1.conv2.weight": "key_encoder.layer1.1.conv2.weight",
        "key_encoder.layer3.5.conv3.weight": "key_encoder.layer3.5.conv3.weight",
        "key_proj.key_proj.weight": "key_projection.weight",
        "key_comp.bias": "key_compression.bias",
        "value_encoder.layer2.0.downsample.0.bias": "value_encoder.resnet.layer2.0.downsample.0.bias",
        "value_encoder.fuser.attention.ChannelGate.mlp.1.weight": "value_encoder.fuser.attention.squeeze.weight",
        "value_encoder.fuser.attention.ChannelGate.mlp.3.bias": "value_encoder.fuser.attention.excite.bias",
        "value_encoder.fuser.attention.SpatialGate.spatial.conv.weight": "value_encoder.fuser.attention.spatial.weight",
        "value_encoder.fuser.block2.conv1.weight": "value_encoder.fuser.block2.conv1.weight",
        "decoder.up_8_4.out_conv.conv2.bias": "decoder.up_8_4.out_conv.conv2.bias",
    }.items():
        assert found[ours].flatten()[0].item() == pytest.approx(float(state[theirs].flatten()[0]), rel=1e-5), theirs
    with torch.device("meta"):
        assert found.keys() == STCN(STCN_SIZE).state_dict().keys()


def test_a_stage_0_checkpoint_gets_a_channel_of_zeros_for_the_other_objects(tmp_path):
    state = published()
    state["value_encoder.conv1.weight"] = state["value_encoder.conv1.weight"][:, :4]
    model = load_model(written(tmp_path, state), device="cpu", dtype=torch.float32)
    weight = model.value_encoder.resnet.conv1.weight
    assert weight.shape == (64, 5, 7, 7)
    assert torch.count_nonzero(weight[:, 4]) == 0
    assert torch.count_nonzero(weight[:, :4]) == weight[:, :4].numel()


@pytest.mark.parametrize(
    "name",
    [
        "decoder.pred.weight",
        "key_encoder.conv1.weight",
        "key_encoder.layer2.0.bn1.weight",
        "value_encoder.layer1.0.bn2.running_var",
        "value_encoder.bn1.bias",
        "value_encoder.conv1.weight",
    ],
)
def test_a_missing_tensor_is_named(tmp_path, name):
    state = published()
    del state[name]
    assert name.removeprefix("value_encoder.") in complaint(written(tmp_path, state))


def test_every_fault_of_a_file_is_named_in_one_sentence(tmp_path):
    state = published()
    del state["decoder.pred.bias"]
    state["decoder.extra.weight"] = torch.zeros(3)
    state["key_comp.weight"] = state["key_comp.weight"][:, :7]
    message = complaint(written(tmp_path, state))
    assert "missing decoder.pred.bias (1,)" in message
    assert "unexpected decoder.extra.weight (3,)" in message
    assert "key_compression.weight is (512, 7, 3, 3), expected (512, 1024, 3, 3)" in message


@pytest.mark.parametrize(
    "name", ["key_encoder.bn1.running_var", "key_encoder.res2.0.bn3.weight", "value_encoder.conv1.bias"]
)
@pytest.mark.parametrize("shape", thorough_but(1, [(), (7,), (1, 64)]))
def test_a_tensor_that_does_not_fit_its_batch_norm_is_named(tmp_path, name, shape):
    state = published()
    state[name] = torch.ones(shape)
    assert name.removeprefix("value_encoder.") in complaint(written(tmp_path, state))


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("decoder.pred.weight", "decoder.pred.weight is not finite"),
        ("key_encoder.layer2.0.bn1.running_mean", "key_encoder.layer2.0.bn1.running_mean is not finite"),
        ("key_proj.key_proj.bias", "key_projection.bias is not finite"),
    ],
)
@pytest.mark.parametrize("value", thorough_but(1, [float("nan"), float("inf")]))
def test_a_tensor_that_is_not_finite_is_named(tmp_path, name, named, value):
    state = published()
    state[name] = torch.tensor(value).expand(state[name].shape)
    assert named in complaint(written(tmp_path, state))


def test_a_tensor_that_claims_to_be_huge_is_refused_before_it_is_touched(tmp_path):
    state = published()
    state["decoder.pred.weight"] = torch.zeros(()).expand(10**9, 10**6)  # four bytes in the file, 4 PB in memory
    assert "decoder.pred.weight is (1000000000, 1000000)" in complaint(written(tmp_path, state))


class Hostile:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("dump", [torch.save, lambda payload, path: path.write_bytes(pickle.dumps(payload))])
def test_a_file_that_carries_code_is_refused_and_the_code_is_not_run(tmp_path, dump):
    trace, path = tmp_path / "was-here", tmp_path / "hostile.pth"
    dump({"key_comp.weight": Hostile(trace)}, path)
    assert "without executing code" in complaint(path)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Hostile(trace)))  # the trap does work
    assert trace.exists()


def test_a_truncated_file_is_refused(tmp_path):
    path = written(tmp_path, published())
    path.write_bytes(path.read_bytes()[:-2000])
    assert "damaged" in complaint(path)


@pytest.mark.parametrize("keep", [0, 5, 200, -1])
def test_a_truncated_safetensors_file_is_refused(tmp_path, keep, tiny_model):
    path = tmp_path / "weights.safetensors"
    save_model(tiny_model, path)
    path.write_bytes(path.read_bytes()[:keep])
    assert "damaged" in complaint(path)


@pytest.mark.parametrize("content", [b"", b"hello, these are not weights\n", b"PK\x03\x04", b"\x80\x02}", bytes(100)])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    assert "damaged" in complaint(path)


@pytest.mark.parametrize(
    "payload", [[1, 2], {"state": {"weight": torch.zeros(1)}}, {1: torch.zeros(1)}, torch.zeros(2)]
)
def test_a_pickle_that_is_no_state_dict_is_refused(tmp_path, payload):
    path = written(tmp_path, payload)
    assert "not a state dict" in complaint(path)


def test_weights_of_another_project_are_refused(tmp_path):
    path = written(tmp_path, {"backbone.conv1.weight": torch.zeros(2)})
    assert "backbone.conv1.weight" in complaint(path)
    path = tmp_path / "other.safetensors"
    save_file({"backbone.conv1.weight": torch.zeros(2)}, path)
    assert "neither mnemask's" in complaint(path)


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"config": "no JSON"},
        {"config": "[]"},
        {"config": '{"key_depth": 18}'},
        {"config": json.dumps({**asdict(STCN_SIZE), "key_depth": 19})},
        {"config": json.dumps({**asdict(STCN_SIZE), "colour": "blue"})},
        {"config": json.dumps({**asdict(STCN_SIZE), "value_channels": 10**9})},
        {"config": json.dumps({**asdict(STCN_SIZE), "decoder_channels": 5})},
    ],
)
def test_a_garbled_description_of_the_network_is_refused(tmp_path, metadata, as_users_call_it):
    path = tmp_path / "weights.safetensors"
    save_file({"key_projection.weight": torch.zeros(2)}, path, {"format": "mnemask-stcn-1", **metadata})
    complaint(path)


def test_a_folder_and_a_missing_file_are_refused(tmp_path):
    assert "not a file" in complaint(tmp_path)
    assert "not a file" in complaint(tmp_path / "missing.pth")


def test_saved_weights_come_back_with_the_sizes_of_the_network(tmp_path, tiny_model):
    path = tmp_path / "tiny.safetensors"
    save_model(tiny_model, path, dtype=torch.float32)
    loaded = load_model(path, device="cpu", dtype=torch.float32)
    assert loaded.config == tiny_model.config
    theirs = tiny_model.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in loaded.state_dict().items())
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.safetensors"]


def test_lower_precision_leaves_the_key_projection_as_it_was(tmp_path, tiny_model):
    path = tmp_path / "tiny.safetensors"
    save_model(tiny_model, path, dtype=torch.float32)
    loaded = load_model(path, device="cpu", dtype=torch.bfloat16)
    assert loaded.dtype == torch.bfloat16
    assert loaded.key_projection.weight.dtype == torch.float32
    assert torch.equal(loaded.key_projection.weight, tiny_model.key_projection.weight)


def test_weights_are_saved_in_half_precision_by_default(tmp_path, tiny_model):
    path = tmp_path / "tiny.safetensors"
    save_model(tiny_model, path)
    assert {value.dtype for value in load_file(path).values()} == {torch.float16}


def test_a_place_that_cannot_be_written_to_is_named(tmp_path, tiny_model):
    path = tmp_path / "missing" / "tiny.safetensors"
    with refusal(OutputError, "missing"):
        save_model(tiny_model, path)


def test_weights_that_are_exchanged_or_changed_are_other_weights():
    model = load_model("compact", device="cpu", dtype=torch.bfloat16)
    published = fingerprint(model), key_encoder_id(model)
    twin = copy.deepcopy(model)
    assert (fingerprint(twin), key_encoder_id(twin)) == published
    state = {name: weight + 0.01 for name, weight in model.state_dict().items()}
    model.load_state_dict(state, assign=True)
    assert fingerprint(model) != published[0]
    assert key_encoder_id(model) != published[1]
    twin.key_encoder.conv1.bias += 1
    assert fingerprint(twin) not in (published[0], fingerprint(model))
