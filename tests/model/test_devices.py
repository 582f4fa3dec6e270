from operator import attrgetter
from threading import Event, Thread
from types import SimpleNamespace

import pytest
import torch
from refusals import refusal

from mnemask.errors import InputError
from mnemask.model.checkpoints import load_model
from mnemask.model.devices import choose_device, isolated_torch_modes, preferred_dtype, upload, without_tf32

pytestmark = pytest.mark.precision


def test_a_device_that_is_there_is_taken_and_the_cpu_always_is():
    assert choose_device("cpu") == choose_device(torch.device("cpu")) == torch.device("cpu")
    assert choose_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["abacus", "cuda:99", "cuda:-1", "cpu:0:0", ""])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(name):
    with refusal(InputError, rf"'{name}'"):
        choose_device(name)


def test_the_cpu_computes_in_what_it_is_fast_at(monkeypatch):
    monkeypatch.delenv("MNEMASK_PRECISION", raising=False)
    native = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    assert preferred_dtype(torch.device("cpu")) == (torch.bfloat16 if native else torch.float32)


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_a_variable_chooses_the_precision_on_any_processor(monkeypatch, name):
    monkeypatch.setenv("MNEMASK_PRECISION", name)
    assert preferred_dtype(torch.device("cpu")) == getattr(torch, name)
    assert load_model("compact", device="cpu").dtype == getattr(torch, name)
    assert load_model("compact", device="cpu", dtype=torch.float32).dtype == torch.float32


def test_a_variable_that_names_no_precision_is_refused(monkeypatch):
    monkeypatch.setenv("MNEMASK_PRECISION", "double")
    with refusal(InputError, r"MNEMASK_PRECISION"):
        load_model("compact", device="cpu")


def test_matrix_products_are_full_until_the_last_thread_has_left():
    inside, leave = Event(), Event()

    def stay():
        with isolated_torch_modes():
            inside.set()
            leave.wait(10)

    thread = Thread(target=stay)
    torch.set_float32_matmul_precision("medium")
    try:
        thread.start()
        inside.wait(10)
        with isolated_torch_modes():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "highest"
        leave.set()
        thread.join()
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="this PyTorch has one mode for all backends")
def test_matrix_products_are_full_where_a_program_has_set_the_mode_of_each_backend():
    products = torch.backends.cuda.matmul
    products.fp32_precision = "tf32"
    try:
        with isolated_torch_modes():
            assert products.fp32_precision == "ieee"
        assert products.fp32_precision == "tf32"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="this PyTorch has one mode for all backends")
@pytest.mark.parametrize(
    ("backend", "mode"),
    [("backends", "tf32"), ("backends.cudnn", "ieee"), ("backends.cudnn.conv", "ieee"), ("backends.mkldnn", "bf16")],
)
def test_convolutions_are_full_whatever_mode_a_program_has_set(backend, mode):
    backend, convolutions = attrgetter(backend)(torch), torch.backends.cudnn.conv
    backend.fp32_precision = mode
    try:
        before = convolutions.fp32_precision
        with without_tf32(True):
            assert convolutions.fp32_precision == "ieee"
        assert convolutions.fp32_precision == before
    finally:
        backend.fp32_precision = "none"
        torch.backends.cudnn.allow_tf32 = True  # the default, also of the newer mode


def test_convolutions_are_full_where_pytorch_has_only_the_older_switch(monkeypatch):
    older = SimpleNamespace(allow_tf32=True)
    monkeypatch.setattr(torch.backends, "cudnn", older)
    with without_tf32(True):
        assert older.allow_tf32 is False
    assert older.allow_tf32 is True


def test_what_a_gpu_is_sent_is_pinned_first_and_not_waited_for(monkeypatch):
    sent, frame = [], torch.zeros((3, 4, 5), dtype=torch.uint8)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: sent.append("pinned") or self)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *where, **how: sent.append((*where, how)) or self)
    upload(frame, torch.device("cuda"))
    upload(frame, torch.device("cpu"))
    to_gpu, to_cpu = ((torch.device(kind), {"non_blocking": True}) for kind in ("cuda", "cpu"))
    assert sent == ["pinned", to_gpu, to_cpu]
