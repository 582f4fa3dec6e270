"""What training minimises: bootstrapped cross-entropy (thesis 4.2) and a soft dice term."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

IGNORE = 255


def bootstrapped_cross_entropy(
    probs: Float[Tensor, "B C H W"], labels: Int64[Tensor, "B H W"], hardest: float
) -> Float[Tensor, ""]:
    """Returns the mean of −log p over the hardest fraction of each picture's pixels.

    Args:
        probs: soft-aggregated probabilities, background first.
        labels: the true class; 255 is ignored.
        hardest: 0 to 1; 1 means all pixels.
    """
    loss = F.nll_loss(probs.clamp_min(1e-7).log(), labels, ignore_index=IGNORE, reduction="none").flatten(1)
    if hardest >= 1:
        return loss.mean()
    return loss.topk(int(hardest * loss.shape[1]), dim=1, sorted=False).values.mean()


def soft_dice(probs: Float[Tensor, "B C H W"], labels: Int64[Tensor, "B H W"]) -> Float[Tensor, ""]:
    """Returns 1 − dice, averaged over the objects; a small object weighs as much as a large one."""
    counted = labels != IGNORE
    truth = F.one_hot(labels.where(counted, labels.new_zeros(())), probs.shape[1]).movedim(-1, 1)[:, 1:].float()
    guess = probs[:, 1:] * counted[:, None]
    truth = truth * counted[:, None]
    overlap = 2 * (guess * truth).sum((2, 3)) + 1
    return (1 - overlap / (guess.sum((2, 3)) + truth.sum((2, 3)) + 1)).mean()


@torch.no_grad()
def mean_iou(probs: Float[Tensor, "B C H W"], labels: Int64[Tensor, "B H W"]) -> float:
    """Returns the mean IoU of the objects after the argmax; 1 where neither has a pixel."""
    guess = torch.where(labels == IGNORE, IGNORE, probs.argmax(1))
    scores = []
    for row in range(1, probs.shape[1]):
        union = ((guess == row) | (labels == row)).sum((1, 2))
        overlap = ((guess == row) & (labels == row)).sum((1, 2))
        scores.append(torch.where(union > 0, overlap / union.clamp_min(1), 1.0))
    return float(torch.stack(scores).mean())
