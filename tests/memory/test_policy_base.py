"""How room is shared out."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mnemask.memory.policies.base import shared_out

parts = st.lists(
    st.tuples(st.floats(1, 1000), st.integers(0, 30), st.integers(0, 60)).map(lambda p: (p[0], p[1], p[1] + p[2])),
    min_size=1,
    max_size=6,
)


@settings(max_examples=50)
@given(parts, st.integers(0, 400))
def test_quotas_use_up_the_total_or_fill_every_part_within_its_limits(parts, spare):
    weight, least, most = (list(column) for column in zip(*parts, strict=True))
    total = sum(least) + spare
    quotas = shared_out(total, weight, least, most)
    assert sum(quotas) == min(total, sum(most))
    assert all(low <= quota <= high for quota, low, high in zip(quotas, least, most, strict=True))


@settings(max_examples=50)
@given(parts, st.integers(0, 400))
def test_parts_within_their_limits_have_the_same_level_up_to_one_token(parts, spare):
    weight, least, most = (list(column) for column in zip(*parts, strict=True))
    quotas = shared_out(sum(least) + spare, weight, least, most)
    has_more = [(quota - 1) / w for quota, w, low in zip(quotas, weight, least, strict=True) if quota > low]
    wants_more = [(quota + 1) / w for quota, w, high in zip(quotas, weight, most, strict=True) if quota < high]
    # Whoever could give has no more than whoever could take, but for the one token that rounding moves.
    assert not has_more or not wants_more or max(has_more) <= min(wants_more) * (1 + 1e-9)


def test_a_worked_example():
    assert shared_out(100, [1.0, 1.0, 8.0], [0, 0, 0], [100, 100, 100]) == [10, 10, 80]
    assert shared_out(100, [1.0, 1.0, 8.0], [0, 0, 0], [4, 100, 100]) == [4, 10, 86]
    assert shared_out(100, [1.0, 1.0, 8.0], [40, 0, 0], [100, 100, 100]) == [40, 6, 54]
