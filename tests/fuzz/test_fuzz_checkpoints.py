"""Weights from strangers: damaged, mislabelled, or carrying code."""

import io
import json
import os
import pickle
import zipfile

import pytest
import torch
from hostile import anything, bounded, garbled, mutations, outcome
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save, save_file

import mnemask as mm
from mnemask.model.checkpoints import FORMAT, save_model
from mnemask.training.init import read_resnet

CONFIG = {
    "key_depth": 18,
    "key_channels": 8,
    "value_channels": 32,
    "compressed_channels": 16,
    "decoder_channels": [16, 16, 16],
    "shortcut_kernel": 3,
}


def load(place, data=None):
    """A network with finite parameters, or a refusal."""
    if data is not None:
        place.write_bytes(data)
    model = outcome(lambda: mm.load_model(place, device="cpu"))
    outcome(lambda: read_resnet(place))
    if model is not None:
        assert all(bool(torch.isfinite(value).all()) for value in model.state_dict().values())
    return model


@pytest.fixture(scope="module")
def valid(tiny_model, tmp_path_factory):
    """The bytes of a safetensors file and of a zipped pickle: whole, but of another network."""
    path = tmp_path_factory.mktemp("valid") / "weights"
    save_model(tiny_model, path)
    with safe_open(path, "pt") as file:
        small = {name: file.get_tensor(name) for name in list(file.keys())[:3]}
    zipped = io.BytesIO()
    torch.save({"key_comp.weight": torch.zeros(2, 2), "key_encoder.bn1.running_mean": torch.zeros(2)}, zipped)
    return path.read_bytes(), save(small, {"format": FORMAT, "config": json.dumps(CONFIG)}), zipped.getvalue()


@bounded
@given(data=st.data())
@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, of legacy files
def test_damaged_weights_are_read_or_refused(place, valid, data):
    whole = data.draw(st.sampled_from(valid[1:]))
    load(place, data.draw(st.one_of(st.binary(max_size=300), mutations(whole))))


@bounded
@given(
    header=st.one_of(st.binary(max_size=60), anything.map(lambda value: json.dumps(value).encode())),
    claim=st.booleans(),
)
def test_any_header_is_read_or_refused(place, header, claim):
    length = 2**62 if claim else len(header)
    load(place, length.to_bytes(8, "little") + header)


@bounded
@given(config=st.one_of(anything, garbled(CONFIG)))
def test_any_description_of_a_network_is_read_or_refused(place, config):
    save_file({"key_projection.bias": torch.zeros(8)}, place, {"format": FORMAT, "config": json.dumps(config)})
    assert load(place) is None


@pytest.mark.parametrize("config", ["", "{", "[" * 100_000, '{"key_depth":' * 50_000, "\x1b]0;title\x07"])
def test_a_garbled_description_of_a_network_is_refused(place, config):
    save_file({}, place, {"format": FORMAT, "config": config})
    assert load(place) is None


TYPES = [torch.float64, torch.bfloat16, torch.float8_e4m3fn, torch.complex64, torch.bool, torch.uint8, torch.int64]


@pytest.mark.precision
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", ["key_projection.weight", "decoder.pred.bias", "key_encoder.conv1.weight"])
def test_weights_of_any_type_are_read_or_refused(place, tiny_model, dtype, name):
    state = tiny_model.state_dict()
    save_file({**state, name: state[name].to(dtype)}, place, {"format": FORMAT, "config": json.dumps(CONFIG)})
    model = load(place)
    assert (model is not None) == (dtype in (torch.float64, torch.bfloat16, torch.int64))
    if model is not None:
        expected = torch.float32 if name.startswith("key_projection") else model.dtype
        assert model.state_dict()[name].dtype == expected


@pytest.mark.parametrize("name", ["a\nb", "\x1b]0;title\x07", "x" * 10_000, ""])
def test_odd_names_of_tensors_are_not_repeated_raw(place, name):
    save_file({name: torch.zeros(1)}, place, {"format": FORMAT, "config": json.dumps(CONFIG)})
    assert load(place) is None
    torch.save({name: torch.zeros(1)}, place)
    assert load(place) is None


UNUSUAL = {
    "sparse": lambda: torch.zeros(4, 4).to_sparse(),
    "compressed rows": lambda: torch.zeros(2, 2).to_sparse_csr(),
    "without storage": lambda: torch.zeros(2, device="meta"),
    "quantized": lambda: torch.quantize_per_tensor(torch.zeros(2, 2), 0.1, 0, torch.qint8),
    "complex": lambda: torch.zeros(2, dtype=torch.complex64),
    "whole numbers": lambda: torch.zeros(2, dtype=torch.int64),
    "8 bits": lambda: torch.zeros(2, dtype=torch.float8_e4m3fn),
    "nested": lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
}


@pytest.mark.parametrize("kind", UNUSUAL)
@pytest.mark.filterwarnings("ignore")  # torch's, of features in beta
def test_unusual_tensors_are_refused(place, kind):
    tensor, names = UNUSUAL[kind](), ("weight", "bias", "running_mean", "running_var")
    torch.save({"key_comp.weight": tensor, **{f"key_encoder.bn1.{name}": tensor for name in names}}, place)
    assert load(place) is None
    torch.save({"conv1.weight": torch.zeros(2, 1, 1, 1), **{f"bn1.{name}": tensor for name in names}}, place)
    assert load(place) is None


class Canary:
    """Unpickled, it leaves a folder behind."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@bounded
@given(data=st.data())
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_code_in_weights_is_never_run(place, data):
    canary = place.with_name("canary")
    bomb = io.BytesIO()
    torch.save({"key_comp.weight": Canary(canary)}, bomb)
    plain = [pickle.dumps({"key_comp.weight": Canary(canary)}, protocol) for protocol in range(5)]
    whole = data.draw(st.sampled_from([bomb.getvalue(), *plain]))
    load(place, data.draw(st.one_of(st.just(whole), mutations(whole))))
    assert not canary.exists()


class Claim:
    """Unpickled, it takes as much memory as it says, with torch's restricted unpickler too."""

    def __reduce__(self):
        return bytearray, (400 * 2**20,)


def test_a_claim_of_memory_is_refused_before_it_is_granted(place):
    torch.save({"key_comp.weight": Claim()}, place)
    assert load(place) is None


def test_a_decompression_bomb_is_refused_before_it_is_unpacked(place):
    archive = io.BytesIO()
    torch.save({"key_comp.weight": torch.zeros(4)}, archive)
    with (
        zipfile.ZipFile(archive) as whole,
        zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed,
    ):
        for name in whole.namelist():
            packed.writestr(name, bytes(400 * 2**20) if name.endswith("data/0") else whole.read(name))
    assert place.stat().st_size < 4 * 2**20
    assert load(place) is None
