import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusals import refusal

from mnemask.config import TrackerConfig
from mnemask.errors import BudgetError
from mnemask.memory.budget import UNLIMITED, Budget, parse_bytes, read_buffer_bytes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("64MiB", 64 * 2**20),
        ("1.5 GB", 1_500_000_000),
        ("1000000", 1_000_000),
        (" 2 kib ", 2048),
        ("3b", 3),
        ("0.25GiB", 2**28),
        ("10KB", 10_000),
    ],
)
def test_a_size_is_read_as_people_write_it(text, expected):
    assert parse_bytes(text) == expected
    assert Budget(bytes=text).max_bytes == expected


@pytest.mark.parametrize(
    "text", ["", "MiB", "64 parsecs", "-5MB", "1e6", "1,5GB", "0", "0.0MiB", "0.5b", "9" * 400, "64MiB/s"]
)
def test_what_is_no_size_is_refused_with_an_example(text):
    with refusal(BudgetError, r"64MiB"):
        Budget(bytes=text)


@pytest.mark.parametrize("name", ["frames", "tokens", "bytes"])
@pytest.mark.parametrize("value", [0, -1])
def test_an_empty_or_negative_budget_is_refused(name, value):
    with refusal(BudgetError, rf"{value}", rf"{name}"):
        Budget(**{name: value})


def test_numbers_of_numpy_are_numbers(as_users_call_it):
    assert repr(Budget(tokens=np.int64(5))) == repr(Budget(tokens=5))
    assert Budget(frames=np.float32(2.5)) == Budget(frames=2.5)
    config = TrackerConfig(write_every=np.int64(5), top_k=np.int32(20), kmn_sigma=np.float64(0.2))
    assert json.dumps(config.to_dict()) == json.dumps(TrackerConfig(write_every=5, kmn_sigma=0.2).to_dict())
    with refusal(BudgetError, "tokens"):
        Budget(tokens=np.float64(5))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.5])
def test_a_number_of_frames_that_is_no_number_is_refused(value):
    with refusal(BudgetError, "frames"):
        Budget(frames=value)


@pytest.mark.parametrize(
    "wrong", [{"frames": "2"}, {"tokens": 1.5}, {"tokens": True}, {"bytes": 2.5}, {"bytes": [1]}, {"frames": True}]
)
def test_a_budget_of_another_kind_is_refused(wrong, as_users_call_it):
    with refusal(BudgetError, next(iter(wrong))):
        Budget(**wrong)


def test_two_budgets_at_once_are_refused():
    with refusal(BudgetError, "frames"):
        Budget(frames=2, bytes="1MiB")


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (Budget(), UNLIMITED),
        (Budget(frames=2), 200),
        (Budget(frames=2.5), 250),
        (Budget(frames=1), 100),
        (Budget(tokens=100), 100),
        (Budget(tokens=12345), 12345),
    ],
)
def test_frames_and_tokens_are_counted_in_tokens(budget, expected):
    assert budget.capacity(tokens_per_frame=100, bytes_per_token=50, top_k=20) == expected


@given(st.integers(1, 2**24), st.integers(1, 400), st.integers(1, 5000), st.integers(1, 64))
def test_bytes_hold_as_many_tokens_as_fit_beside_the_buffers(spare, tokens_per_frame, bytes_per_token, top_k):
    buffers = read_buffer_bytes(tokens_per_frame, top_k)
    budget = Budget(bytes=buffers + tokens_per_frame * bytes_per_token + spare)
    capacity = budget.capacity(tokens_per_frame, bytes_per_token, top_k)
    assert buffers + capacity * bytes_per_token <= budget.max_bytes < buffers + (capacity + 1) * bytes_per_token


@pytest.mark.parametrize("budget", [Budget(frames=0.5), Budget(tokens=99), Budget(bytes="1MiB")])
def test_less_than_a_frame_is_refused_with_what_would_do(budget):
    with refusal(BudgetError, r"100") as caught:
        budget.capacity(tokens_per_frame=100, bytes_per_token=50, top_k=20)
    assert str(budget) in str(caught.value)


@given(st.sampled_from(["cpu", "cuda"]), st.integers(1, 2**17), st.integers(100, 2**17))
def test_the_size_that_a_refusal_names_is_the_least_that_will_do(kind, tokens_per_frame, bytes_per_token):
    asked = tokens_per_frame, bytes_per_token, 20, torch.device(kind)
    with pytest.raises(BudgetError) as caught:
        Budget(bytes=5).capacity(*asked)
    size = int(str(caught.value).split("at least ")[1].split("MiB,")[0])
    assert Budget(bytes=f"{size}MiB").capacity(*asked) >= tokens_per_frame
    with pytest.raises(BudgetError):
        Budget(bytes=f"{size - 2}MiB").capacity(*asked)


def test_a_budget_names_itself():
    assert [str(budget) for budget in (Budget(), Budget(frames=2.5), Budget(tokens=7), Budget(bytes="8MiB"))] == [
        "no limit",
        "2.5 frames",
        "7 tokens",
        "8MiB",
    ]
