"""The trainer on a handful of drawn photographs: it starts from given weights, learns, stops, and goes on."""

import json

import pytest
import torch
from drawn_data import draw_photographs, draw_video
from safetensors.torch import load_file, save_file

from mnemask.model.resnet import ResNet
from mnemask.training.trainer import Recipe, Training


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with photographs, clips and the weights to start from."""
    root = tmp_path_factory.mktemp("data")
    draw_photographs(root)
    draw_video(root)
    torch.manual_seed(0)
    save_file({name: value.clone() for name, value in ResNet(18).state_dict().items()}, root / "imagenet.safetensors")
    return root


def start(data, out, **changes):
    recipe = Recipe(phases=((1.0, 64),), clips_per_process=1, **{"warm_up_steps": 1, **changes})
    out.mkdir(exist_ok=True)
    return Training(recipe, data, data / "imagenet.safetensors", out, rank=0, world=1)


def test_progress_moves_size_rate_and_loss():
    recipe = Recipe()
    assert [recipe.size(progress) for progress in (0, 0.34, 0.36, 0.71, 1, 1.2)] == [192, 192, 256, 320, 320, 320]
    assert recipe.rate(0, 0) == pytest.approx(1 / 60)
    assert recipe.rate(100, 0) == pytest.approx(1)
    assert recipe.rate(100, 1) == pytest.approx(0.02)
    assert [recipe.hard_fraction(progress) for progress in (0, 0.15, 0.55, 1)] == pytest.approx([1, 1, 0.2, 0.2])


def test_a_run_starts_from_the_given_weights_with_the_mask_in_sight(data, tmp_path):
    training = start(data, tmp_path)
    given = load_file(data / "imagenet.safetensors")
    model = training.model
    assert torch.equal(model.key_encoder.layer3[0].conv1.weight, given["layer3.0.conv1.weight"])
    assert torch.equal(model.value_encoder.resnet.conv1.weight[:, :3], given["conv1.weight"])
    assert torch.equal(model.value_encoder.resnet.conv1.weight[:, 3], given["conv1.weight"].sum(1))
    frozen = {name.split(".")[1] for name, value in model.named_parameters() if not value.requires_grad}
    assert frozen == {"conv1", "layer1"}


def test_a_step_changes_what_is_trained_and_nothing_else(data, tmp_path):
    training = start(data, tmp_path)
    before = {name: value.clone() for name, value in training.model.named_parameters()}
    entry = training.train_step(0.0)
    assert {"loss", "iou", "norm"} <= set(entry)
    for name, value in training.model.named_parameters():
        assert torch.equal(value, before[name]) != value.requires_grad, name


def test_a_run_that_was_saved_goes_on_where_it_was(data, tmp_path):
    first = start(data, tmp_path)
    first.train_step(0.0)
    first.step, first.seconds = 1, 30.0
    first.save()
    second = start(data, tmp_path)
    assert (second.step, second.seconds) == (1, 30.0)
    for one, other in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(one, other)
    clip = first.batches.clips[5]
    for training in (first, second):
        training.batches.next = lambda size: [clip]
        training.train_step(0.5)
    for one, other in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_short_run_leaves_weights_a_log_and_a_checkpoint(data, tmp_path):
    start(data, tmp_path, minutes=0.02).run()
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == list(range(1, len(log) + 1))
    assert set(load_file(tmp_path / "model.safetensors")) == set(start(data, tmp_path).model.state_dict())


@pytest.mark.slow
def test_one_clip_is_learnt_by_heart(data, tmp_path):
    training = start(data, tmp_path, learning_rate=3e-4)
    clip = training.batches.clips[0]
    training.batches.next = lambda size: [clip]
    assert [training.train_step(0.1)["iou"] for _ in range(60)][-1] > 0.9
