"""What training minimises, against its definition picture by picture."""

import pytest
import torch

from mnemask.model.stcn import soft_aggregate
from mnemask.training.losses import bootstrapped_cross_entropy, mean_iou, soft_dice

LOSSES = {
    "cross entropy": lambda probs, labels, valid: bootstrapped_cross_entropy(probs, labels, 1.0),
    "of the hardest": lambda probs, labels, valid: bootstrapped_cross_entropy(probs, labels, 0.2),
    "dice": soft_dice,
    "iou": lambda *case: torch.tensor(mean_iou(*case)),
}


@pytest.fixture
def case():
    torch.manual_seed(0)
    probs = torch.rand(4, 3, 5, 7).softmax(1)
    labels = torch.randint(0, 3, (4, 5, 7))
    return probs, labels, torch.ones(4, 2, dtype=torch.bool)


def test_the_most_wrong_pixels_get_the_largest_gradient():
    logits = torch.tensor([-12.0, -9.0, -3.0, 3.0]).view(1, 1, 1, 4).requires_grad_()
    probs = soft_aggregate(torch.sigmoid(logits)[0])[None]
    bootstrapped_cross_entropy(probs, torch.ones(1, 1, 4, dtype=torch.long), 1.0).backward()
    steps = logits.grad.flatten() * 4
    # One object has P = p² / (p² + (1 − p)²) after soft aggregation, and −log P changes by −2(1 − P) with the logit.
    torch.testing.assert_close(steps, torch.tensor([-2.0, -2.0, -1.995, -0.005]), atol=2e-3, rtol=1e-3)


def of_one_object(case):
    """The case with its second object taken out of pictures 1 and 2."""
    probs, labels, valid = (tensor.clone() for tensor in case)
    valid[1:3, 1] = False
    probs[1:3, 2] = 0
    labels[1:3][labels[1:3] == 2] = 0
    return probs, labels, valid


def test_with_all_pixels_it_is_the_mean_cross_entropy(case):
    probs, labels, _ = case
    expected = -probs.gather(1, labels[:, None]).log().mean()
    torch.testing.assert_close(bootstrapped_cross_entropy(probs, labels, 1.0), expected)


def test_only_the_hardest_pixels_of_each_picture_count(case):
    probs, labels, _ = case
    each = -probs.gather(1, labels[:, None]).log().flatten(1)
    expected = each.sort(descending=True).values[:, : int(0.2 * 35)].mean()
    torch.testing.assert_close(bootstrapped_cross_entropy(probs, labels, 0.2), expected)


@pytest.mark.parametrize("hardest", [1.0, 0.5, 0.2, 0.001])
def test_the_fraction_is_of_the_pixels_that_are_not_ignored(case, hardest):
    probs, labels, _ = case
    labels[0, :3], labels[1, 0, 0], labels[2] = 255, 255, 255
    expected = []
    for picture, truth in zip(probs, labels, strict=True):
        known = truth != 255
        loss = -picture[:, known].gather(0, truth[known][None])[0].log()
        loss = loss.sort(descending=True).values
        expected.append(loss[: max(1, int(hardest * len(loss)))].mean() if len(loss) else torch.tensor(0.0))
    torch.testing.assert_close(bootstrapped_cross_entropy(probs, labels, hardest), torch.stack(expected).mean())


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_pixels_change_nothing_and_get_no_gradient(case, name):
    probs, labels, valid = case
    labels[:, 0] = 255
    wrong = probs.clone()
    wrong[:, :, 0] = wrong[:, [1, 2, 0], 0]
    torch.testing.assert_close(LOSSES[name](probs, labels, valid), LOSSES[name](wrong, labels, valid))
    if name != "iou":
        LOSSES[name](probs.requires_grad_(), labels, valid).backward()
        assert probs.grad[:, :, 0].abs().sum() == 0
        assert probs.grad[:, :, 1:].abs().sum() > 0


@pytest.mark.parametrize("name", LOSSES)
def test_the_mean_of_two_halves_is_the_loss_of_the_whole(case, name):
    probs, labels, valid = of_one_object(case)
    labels[0, :3] = 255
    loss = LOSSES[name]
    halves = [loss(probs[half], labels[half], valid[half]) for half in (slice(0, 2), slice(2, 4))]
    torch.testing.assert_close(torch.stack(halves).mean(), loss(probs, labels, valid))


@pytest.mark.parametrize("name", LOSSES)
def test_objects_that_only_fill_the_batch_do_not_count(case, name):
    probs, labels, valid = of_one_object(case)
    alone = [LOSSES[name](probs[[i]][:, :2], labels[[i]], valid[[i]][:, :1]) for i in (1, 2)]
    both = [LOSSES[name](probs[[i]], labels[[i]], valid[[i]]) for i in (0, 3)]
    torch.testing.assert_close(LOSSES[name](probs, labels, valid), torch.stack(alone + both).mean())


def test_dice_is_zero_for_the_truth_and_large_for_its_opposite(case):
    _, labels, valid = case
    truth = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float()
    assert soft_dice(truth, labels, valid) == pytest.approx(0, abs=1e-6)
    assert soft_dice(truth[:, [1, 2, 0]], labels, valid) > 0.7


def test_iou_counts_an_object_that_is_absent_and_not_predicted_as_right():
    labels, valid = torch.zeros(1, 4, 4, dtype=torch.int64), torch.ones(1, 1, dtype=torch.bool)
    probs = torch.zeros(1, 2, 4, 4)
    probs[:, 0] = 1
    assert mean_iou(probs, labels, valid) == 1
    labels[0, :2] = 1
    assert mean_iou(probs, labels, valid) == 0
