"""Every engine says what the network says, as exactly as is stated, and keeps what it has built."""

import copy
import logging
import pickle
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from drawn_clip import drawn_clip
from refusals import refusal

import mnemask as mm
from mnemask.bench.machine import num_threads
from mnemask.engines import ENGINES, fixed_shapes, load_model
from mnemask.engines.fixed_shapes import build_cached, digest
from mnemask.errors import MissingExtraError
from mnemask.model import preprocess
from mnemask.model.stcn import STCN

pytestmark = pytest.mark.precision


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("MNEMASK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Plain(fixed_shapes.FixedShapes):
    """An engine that builds nothing: it runs the modules as they are."""

    def __init__(self, model, folder):
        super().__init__(model, folder)
        self.built, self.loaded, self.inputs = [], [], []

    def build(self, part, module, inputs, folder):
        (folder / "part").write_text(part)
        self.built.append(part)

    def load(self, part, folder):
        assert (folder / "part").read_text() == part
        self.loaded.append(folder.name)

        def run(inputs):
            self.inputs.append(inputs)
            found = self._parts[part](*inputs)
            return found if isinstance(found, tuple) else (found,)

        return run


def masks_of(network, num_objects=1):
    frames, masks = drawn_clip(7, num_objects=num_objects)
    tracker = mm.Tracker(network, policy="lfu", short_side=None)
    first = {k + 1: mask for k, mask in enumerate(masks[0])}
    return [tracker.step(frame, first if t == 0 else None) for t, frame in enumerate(frames)]


def test_the_tracker_takes_an_engine_for_a_network(tiny_model, tmp_path):
    engine = Plain(tiny_model, tmp_path / "built")
    for ours, theirs in zip(masks_of(engine), masks_of(tiny_model), strict=True):
        torch.testing.assert_close(ours.probs, theirs.probs, atol=1e-5, rtol=0)
    assert set(engine.state_dict()) == set(tiny_model.state_dict())
    assert (engine.device, engine.dtype, engine.config) == (tiny_model.device, tiny_model.dtype, tiny_model.config)


def test_what_was_built_is_there_for_the_next_run(tiny_model, tmp_path):
    first, second = Plain(tiny_model, tmp_path / "built"), Plain(tiny_model, tmp_path / "built")
    masks_of(first)
    masks_of(second)
    assert (first.built, second.built) == (["key", "value", "decode"], [])
    assert len(first.loaded) == len(second.loaded) == 3


def test_each_size_is_built_once_and_only_so_many_are_held(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(fixed_shapes, "MAX_BUILT", 2)
    engine = Plain(tiny_model, tmp_path / "built")
    for width in (32, 48, 32, 64, 48):
        engine.encode_key(torch.zeros(1, 3, 32, width))
    assert engine.built == ["key"] * 3
    assert [name.rpartition("x")[2] for name in engine.loaded] == ["32", "48", "64", "48"]


def test_threads_take_turns_and_nothing_is_built_twice(tiny_model, tmp_path):
    inside = []

    class CalibrationModel(Plain):
        def load(self, part, folder):
            run = super().load(part, folder)

            def alone(inputs):
                inside.append(1)
                time.sleep(0.002)  # another thread would come in here
                assert len(inside) == 1
                found = run(inputs)
                inside.pop()
                return found

            return alone

    engine = CalibrationModel(tiny_model, tmp_path / "built")
    with ThreadPoolExecutor(3) as threads:
        together = list(threads.map(lambda _: masks_of(engine), range(3)))
    assert sorted(engine.built) == ["decode", "key", "value"]
    for masks in together:
        assert all(torch.equal(a.labels, b.labels) for a, b in zip(masks, together[0], strict=True))


def test_a_tracker_with_an_engine_can_be_pickled_and_goes_on_with_what_is_built(tiny_model, tmp_path):
    tracker, (frames, masks) = mm.Tracker(Plain(tiny_model, tmp_path / "built"), short_side=None), drawn_clip(3)
    tracker.step(frames[0], {1: masks[0, 0]})
    again = pickle.loads(pickle.dumps(tracker))
    for frame in frames[1:]:
        assert torch.equal(again.step(frame).probs, tracker.step(frame).probs)
    assert again.model.built == ["key", "value", "decode"]


def test_inputs_are_laid_out_as_they_were_built_for(tiny_model, tmp_path):
    engine = Plain(tiny_model, tmp_path / "built")
    features = engine.encode_key(torch.zeros(1, 3, 32, 48))
    engine.decode(torch.zeros(1, 2, 2, 3, 32).movedim(-1, 2), features)
    (image,), (readout, *_) = engine.inputs
    assert image.is_contiguous(memory_format=torch.channels_last)
    assert readout.is_contiguous()


def test_building_says_what_is_built_and_where_it_is_kept(tiny_model, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        masks_of(Plain(tiny_model, tmp_path / "built"), num_objects=2)
    said = caplog.text
    assert "'key' of the network for 96×64 pixels," in said
    assert "'value' of the network for 96×64 pixels and 2 object(s)," in said
    assert "'decode' of the network for 96×64 pixels and 2 object(s)," in said
    assert said.count(f"kept in {tmp_path / 'built'}") == 3


def test_a_build_that_fails_leaves_nothing(tmp_path):
    def build(folder):
        (folder / "half").write_text("")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_cached(tmp_path / "cache" / "part", build)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_written_to_is_said_and_gone_without(tiny_model, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.INFO):
        folder = build_cached(tmp_path / "file" / "part", lambda folder: (folder / "built").touch())
        masks_of(Plain(tiny_model, tmp_path / "file" / "engine"))
    assert [path.name for path in folder.iterdir()] == ["built"]
    assert "MNEMASK_CACHE" in caplog.text
    assert "kept in" not in caplog.text


def test_other_weights_have_another_place_in_the_cache(tiny_model):
    other = STCN(tiny_model.config).requires_grad_(False)
    other.load_state_dict(tiny_model.state_dict())
    assert digest(other, "x") == digest(tiny_model, "x") != digest(tiny_model, "y")
    other.decoder.pred.bias += 1
    assert digest(other, "x") != digest(tiny_model, "x")


def test_weights_that_are_laid_out_for_speed_have_a_name_too():
    assert len(digest(mm.load_model("compact", device="cpu"))) == 24


def test_an_unknown_engine_is_named_with_those_there_are():
    with refusal(mm.InputError, r"int8", r"int8-all"):
        load_model(engine="steam")


def test_eight_bits_are_made_of_float32_only(cache):
    with refusal(mm.InputError, r"float32"):
        load_model(engine="int8", dtype=torch.bfloat16)


def test_what_an_engine_needs_is_said_where_it_is_missing(tiny_model, monkeypatch, cache):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with refusal(MissingExtraError, "openvino"):
        ENGINES["int8"](tiny_model)


def test_keys_are_left_alone_unless_all_is_asked_for(tiny_model, cache):
    image = torch.randn(1, 3, 32, 48)
    assert torch.equal(ENGINES["int8"](tiny_model).encode_key(image).key, tiny_model.encode_key(image).key)
    assert not cache.exists()


@pytest.fixture(scope="module")
def eight_bits(tiny_model, tmp_path_factory):
    """The network in eight bits throughout, an image, and what it makes of the image."""
    image = preprocess.normalize(drawn_clip(1)[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MNEMASK_CACHE", str(tmp_path_factory.mktemp("int8")))
        network = ENGINES["int8-all"](tiny_model)
        yield network, image, network.encode_key(image)


def test_eight_bits_leave_a_trace_but_little_more(tiny_model, eight_bits):
    _, image, found = eight_bits
    expected = tiny_model.encode_key(image)
    for name in ("key", "compressed", "stride16", "stride4"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert 1e-4 < float((ours - theirs).norm() / theirs.norm()) < 0.1, name


def test_eight_bits_can_be_pickled(eight_bits):
    network, image, found = eight_bits
    for again in (pickle.loads(pickle.dumps(network)), copy.deepcopy(network)):
        assert torch.equal(again.encode_key(image).key, found.key)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["int8", "int8-all"])
def test_the_masks_of_eight_bits_are_those_of_the_network(engine, tiny_model, cache):
    found, expected = masks_of(ENGINES[engine](tiny_model), 2), masks_of(tiny_model, 2)
    for ours, theirs in zip(found, expected, strict=True):
        assert float((ours.probs - theirs.probs).abs().mean()) < 0.02


@pytest.mark.slow
def test_compiled_code_has_the_masks_of_the_network(tiny_model, cache):
    found, expected = masks_of(ENGINES["compile"](tiny_model)), masks_of(tiny_model)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.probs, theirs.probs, atol=1e-4, rtol=0)


def test_code_for_so_many_threads_is_not_taken_for_another_number(tiny_model, cache):
    folders = set()
    for count in (1, 2, 1):
        with num_threads(count):
            folders.add(ENGINES["compile"](tiny_model).folder)
    assert len(folders) == 2


def test_code_for_one_processor_is_not_taken_for_another(tiny_model, monkeypatch, cache, tmp_path):
    monkeypatch.setattr(fixed_shapes, "CPU_INFO", tmp_path / "cpuinfo")
    folders = []
    for flags in ("fpu sse avx2", "avx2 fpu sse", "fpu sse avx512f"):
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nvmx flags\t: x\nflags\t\t: {flags}\n\nprocessor\t: 1\n")
        folders.append(ENGINES["compile"](tiny_model).folder)
    assert folders[0] == folders[1] != folders[2]
    (tmp_path / "cpuinfo").unlink()
    monkeypatch.setattr("platform.processor", lambda: "arm")
    assert fixed_shapes.processor() == "arm"


def test_without_a_compiler_the_engine_says_what_to_install(tiny_model, monkeypatch, cache):
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    with refusal(mm.InputError, "install"):
        ENGINES["compile"](tiny_model)
