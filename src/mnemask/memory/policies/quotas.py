"""How a number of places is shared out among parts that want more than there are."""

from collections.abc import Sequence


def shared_out(total: int, weight: Sequence[float], least: Sequence[int], most: Sequence[int]) -> list[int]:
    """Returns quotas in proportion to weights of 1 or more, each within its limits, that use up the total or the most.

    Each quota is level · weight, cut to its limits; the level that fits is found by halving.
    """

    def at(level: float) -> list[int]:
        return [min(max(int(level * w), low), high) for w, low, high in zip(weight, least, most, strict=True)]

    if sum(most) <= total:
        return list(most)
    fits, exceeds = 0.0, float(max(most))
    for _ in range(64):
        level = (fits + exceeds) / 2
        fits, exceeds = (level, exceeds) if sum(at(level)) <= total else (fits, level)
    quotas = at(fits)
    for part, more in enumerate(at(exceeds)):  # of the parts that are next in line, the first get what is left
        quotas[part] += min(more - quotas[part], total - sum(quotas))
    return quotas
