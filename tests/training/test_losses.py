import pytest
import torch

from mnemask.training.losses import bootstrapped_cross_entropy, mean_iou, soft_dice


@pytest.fixture
def case():
    torch.manual_seed(0)
    probs = torch.rand(2, 3, 5, 7).softmax(1)
    labels = torch.randint(0, 3, (2, 5, 7))
    return probs, labels


def test_with_all_pixels_it_is_the_mean_cross_entropy(case):
    probs, labels = case
    expected = -probs.gather(1, labels[:, None]).log().mean()
    assert torch.allclose(bootstrapped_cross_entropy(probs, labels, 1.0), expected)


def test_only_the_hardest_pixels_of_each_picture_count(case):
    probs, labels = case
    each = -probs.gather(1, labels[:, None]).log().flatten(1)
    expected = each.sort(descending=True).values[:, : int(0.2 * 35)].mean()
    assert torch.allclose(bootstrapped_cross_entropy(probs, labels, 0.2), expected)


def test_ignored_pixels_change_nothing(case):
    probs, labels = case
    labels[:, 0] = 255
    wrong = probs.clone()
    wrong[:, :, 0] = wrong[:, [1, 2, 0], 0]
    for loss in (lambda p: bootstrapped_cross_entropy(p, labels, 1.0), lambda p: soft_dice(p, labels)):
        assert torch.allclose(loss(probs), loss(wrong))
    assert mean_iou(probs, labels) == pytest.approx(mean_iou(wrong, labels))


def test_dice_is_zero_for_the_truth_and_large_for_its_opposite(case):
    _, labels = case
    truth = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float()
    assert soft_dice(truth, labels) == pytest.approx(0, abs=1e-6)
    assert soft_dice(truth[:, [1, 2, 0]], labels) > 0.7


def test_iou_counts_an_object_that_is_absent_and_not_predicted_as_right():
    labels = torch.zeros(1, 4, 4, dtype=torch.int64)
    probs = torch.zeros(1, 2, 4, 4)
    probs[:, 0] = 1
    assert mean_iou(probs, labels) == 1
    labels[0, :2] = 1
    assert mean_iou(probs, labels) == 0
