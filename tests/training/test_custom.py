"""Losses, regularizers and data sets of one's own: tried before a run, used in it, and part of its settings."""

import json
import sys

import numpy as np
import pytest
from drawn_benchmark import draw_video, write_png
from PIL import Image
from refusals import refusal
from training_run import start

from mnemask.datasets.video_sets import CUSTOM_VIDEO_SETS
from mnemask.errors import InputError
from mnemask.evaluation.benchmark import Benchmark
from mnemask.training.custom import LOSSES, REGULARIZERS
from mnemask.training.data import open_sources, parse_data
from mnemask.training.recipes import main
from mnemask.training.regularizers import Dropout, Reallocation

SOURCE = """
from pathlib import Path
import torch
from mnemask.datasets.annotated import AnnotatedVideo
from mnemask.training.regularizers import Dropout

def brier(probs, labels, valid, weight=1.0):
    known = labels != 255
    right = probs.gather(1, labels.where(known, labels.new_zeros(()))[:, None])[:, 0]
    return weight * ((1 - right) ** 2 * known).sum() / known.sum().clamp_min(1)

def vector(probs, labels, valid): return probs.mean((1, 2, 3))
def infinite(probs, labels, valid): return (probs.sum() - probs.sum()).log()
def constant(probs, labels, valid): return torch.zeros(())
def careless(probs, labels, valid): return probs.gather(1, labels[:, None]).mean()

class Flat:
    def __init__(self, much=0.5): self.much = much
    def weights(self, affinity, inside):
        return (1 - self.much) * affinity.softmax(-1) + self.much / affinity.shape[-1]
class Mine(Dropout):
    def weights(self, affinity, inside): return affinity.softmax(-1)
class Short:
    def weights(self, affinity, inside): return affinity[..., :1]

def beside(root, only=None):
    frames = sorted(Path(root).glob("*/*.jpg"))
    masks = {n: f.with_suffix(".png") for n, f in enumerate(frames)}
    return [AnnotatedVideo("clip", frames, masks, True)]
def of_ids(root, **void):
    frames = sorted((Path(root) / "frames").iterdir())
    masks = dict(enumerate(sorted((Path(root) / "masks").iterdir())))
    return [AnnotatedVideo("clip", frames, masks, False, **void)]
def nothing(root): return []
def maskless(root): return [AnnotatedVideo("clip", sorted(Path(root).glob("*/*.jpg")), {}, True)]
def broken(root): return [1 / 0]
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    path = tmp_path / "my_training.py"
    path.write_text(SOURCE)
    monkeypatch.setattr(sys, "path", list(sys.path))
    sys.modules.pop("my_training", None)
    yield str(path)
    for name in [name for name in CUSTOM_VIDEO_SETS.known if name.startswith("my_training:")]:
        del CUSTOM_VIDEO_SETS.known[name]
    sys.modules.pop("my_training", None)


def test_a_loss_and_a_regularizer_of_ones_own_are_trained_with_and_belong_to_the_run(own, tmp_path):
    loss = LOSSES.named(f"{own}:brier(weight=2)", own_code=True)
    regularizer = REGULARIZERS.named(f"{own}:Flat(much=0.2)", own_code=True)
    training = start(tmp_path / "run", steps=2, loss=loss, regularizer=regularizer)
    training.run()
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert 0 < losses[0] < 2
    assert start(tmp_path / "run", steps=2, loss=loss, regularizer=regularizer).finished
    with refusal(InputError, "loss.*brier"):
        start(tmp_path / "run", steps=2, regularizer=regularizer)
    other = LOSSES.named(f"{own}:brier(weight=3)", own_code=True)
    with refusal(InputError, "weight=2"):
        start(tmp_path / "run", steps=2, loss=other, regularizer=regularizer)


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        ("vector", r"shape \(3,\)"), ("infinite", "random"), ("constant", "no gradient"), ("careless", "line 15"),
        ("brier(sharpness=2)", "weight"), ("Flat", "is a Flat"), ("nowhere", "brier.*careless.*Flat"),
    ],
)  # fmt: skip
def test_a_loss_that_cannot_be_minimised_is_refused_before_the_run(own, name, fact, as_users_call_it):
    with refusal(InputError, fact):
        LOSSES.named(f"{own}:{name}", own_code=True)


def test_regularizers_have_one_grammar_and_what_is_none_is_refused(own, as_users_call_it):
    assert REGULARIZERS.named("dropout(q=0.3, after_softmax=True)") == Dropout(0.3, True)
    assert REGULARIZERS.named("reallocation('post-softmax')") == Reallocation("post-softmax")
    assert REGULARIZERS.named(f"{own}:Mine", own_code=True) != Dropout()  # its weights are another function
    for text, fact in (
        ("dropout(q=2)", "2"),
        (f"{own}:Short", "shape"),
        (f"{own}:brier", "weights"),
        ("none", "dropout"),
    ):
        with refusal(InputError, fact):
            REGULARIZERS.named(text, own_code=True)


def test_a_data_set_of_ones_own_is_trained_and_evaluated_on(own, tmp_path):
    draw_video(tmp_path / "set/clip", tmp_path / "set/clip", 6, scale=255)
    folders = parse_data([f"{own}:beside(only=1)={tmp_path / 'set'}"])
    assert list(folders) == ["my_training:beside(only=1)"]
    assert open_sources(main(4), folders)
    (sequence,) = Benchmark(tmp_path / "set", "my_training:beside(only=1)").open()
    assert (sequence.name, len(sequence.given.masks), len(sequence.asked)) == ("clip", 1, 6)
    faults = {"nothing": "0 videos", "broken": "ZeroDivisionError.*line 36", "maskless": "clip without masks"}
    for name, fact in faults.items():
        with refusal(InputError, fact):
            open_sources(main(4), parse_data([f"{own}:{name}={tmp_path / 'set'}"]))
    for text in (f"{own}=x", "=x", "nowhere=", "DAVIS-2017-val=x"):
        with refusal(InputError, "FOLDER"):
            parse_data([text])
    for name, fact in (("unheard-of:thing", "command line"), ("unheard-of", "davis2016")):
        with refusal(InputError, fact):
            Benchmark(tmp_path, name)


@pytest.mark.parametrize(("scale", "guess"), [(1, 255), (127, None)])
def test_void_is_what_a_data_set_of_ones_own_states_and_else_what_its_masks_tell(own, tmp_path, caplog, scale, guess):
    draw_video(tmp_path / "set/frames", tmp_path / "set/masks", late=0)
    for path in (tmp_path / "set/masks").iterdir():  # beside 255, 127 is a grey level and 1 a small id
        with Image.open(path) as image:
            labels = np.asarray(image)
        write_png(path, np.select([labels == 1, labels == 2], [scale, 255], 0).astype(np.uint8))

    def opened(arguments):
        (sequence,) = Benchmark(tmp_path / "set", CUSTOM_VIDEO_SETS.choose(f"{own}:of_ids{arguments}")).open()
        assert sequence.given.void == sequence.truth.void
        return sequence.truth.void

    assert opened("") == guess
    assert opened("(void=None)") is None
    assert opened("(void_stated=true)") == 255
    with refusal(InputError, "clip", "void 200"):
        opened("(void=200)")
