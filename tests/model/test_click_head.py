from pathlib import Path

import pytest
import torch
from refusals import refusal
from safetensors import safe_open
from safetensors.torch import save_file

from mnemask.errors import CheckpointError, InputError, OutputError
from mnemask.model.checkpoints import key_encoder_id, load_model, save_model
from mnemask.model.click_head import (
    ClickHead,
    ClickHeadConfig,
    GlobalMixing,
    disks,
    load_click_head,
    save_click_head,
    similarities,
)
from mnemask.model.stcn import COMPACT, STCN

NARROW = ClickHeadConfig(channels=(4, 4, 4, 8))


@pytest.fixture(scope="module")
def model() -> STCN:
    return load_model("compact", device="cpu", dtype=torch.float32)


def test_a_head_comes_back_from_its_file_as_it_was_but_for_half_precision(model: STCN, tmp_path: Path) -> None:
    head = ClickHead(NARROW)
    save_click_head(head, key_encoder_id(model), tmp_path / "head.safetensors", note="a test")
    again = load_click_head(model, tmp_path / "head.safetensors")
    assert again.config == NARROW
    for name, value in head.state_dict().items():
        assert torch.allclose(value, again.state_dict()[name], atol=1e-3)
    with safe_open(tmp_path / "head.safetensors", "pt") as file:
        assert file.metadata()["key_encoder"] == key_encoder_id(model)


def test_the_head_beside_a_models_file_is_its_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    torch.manual_seed(0)
    save_model(STCN(COMPACT), path)
    mine = load_model(path, device="cpu", dtype=torch.float32)
    with refusal(CheckpointError, "--model", r"mine.safetensors", r"clicks.safetensors"):
        load_click_head(mine)
    save_click_head(ClickHead(NARROW), key_encoder_id(mine), tmp_path / "clicks.safetensors", note="a test")
    assert load_click_head(mine).config == NARROW
    assert load_click_head(load_model("compact", device="cpu")).config != NARROW


def test_a_file_of_anything_else_is_refused(model: STCN, tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    with pytest.raises(CheckpointError):
        load_click_head(model, path)
    path.write_bytes(b"no weights at all")
    with pytest.raises(CheckpointError):
        load_click_head(model, path)
    save_file({"a": torch.zeros(2)}, path, {"format": "another"})
    with pytest.raises(CheckpointError):
        load_click_head(model, path)
    named = {"format": "mnemask-clicks-1", "key_encoder": key_encoder_id(model)}
    for config in ("", "{}", '{"features": [1], "channels": [1]}', '{"features": [64, 128, 256], "channels": [4]}'):
        save_file({"a": torch.zeros(2)}, path, named | {"config": config})
        with pytest.raises(InputError):
            load_click_head(model, path)
    save_file({"a": torch.zeros(2)}, path, named | {"config": '{"features": [64, 128, 256], "channels": [4, 4, 4, 8]}'})
    with pytest.raises(CheckpointError):
        load_click_head(model, path)


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        save_click_head(ClickHead(NARROW), "", tmp_path / "missing" / "head.safetensors")


def test_the_id_is_that_of_the_key_encoder_alone_and_the_same_in_every_precision(model: STCN) -> None:
    half = load_model("compact", device="cpu", dtype=torch.bfloat16)
    assert key_encoder_id(half) == key_encoder_id(model)
    half.decoder.pred.weight += 1
    assert key_encoder_id(half) == key_encoder_id(model)
    half.key_encoder.layer1[0].conv1.bias[0] += 1
    assert key_encoder_id(half) != key_encoder_id(model)


def test_the_id_is_that_of_the_files_numbers_where_half_precision_would_round_them_twice(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained = STCN(COMPACT)
    trained.key_encoder.conv1.bias.data[0] = 1 + 2**-8 + 2**-13  # above the middle of two bfloat16, in it as float16
    save_model(trained, tmp_path / "mine.safetensors", dtype=torch.float32)
    full, half = (load_model(tmp_path / "mine.safetensors", dtype=dtype) for dtype in (torch.float32, torch.float16))
    assert key_encoder_id(half) == key_encoder_id(full)


def test_disks_lie_where_was_clicked_each_kind_in_its_plane() -> None:
    clicks = torch.tensor([[[21.5, 9.5, 1], [41.5, 29.5, -1], [0, 0, 0]]])
    positive, negative = disks(clicks, (10, 16))[0]
    assert (positive[2, 5], negative[7, 10]) == (1, 1)  # the cells of 4×4 pixels around 21.5, 9.5 and 41.5, 29.5
    assert positive[7, 10] == negative[2, 5] == positive[0, 0] == negative[0, 0] == 0


def test_the_cell_clicked_on_is_most_like_itself_and_no_click_is_like_nothing() -> None:
    embedding = torch.nn.functional.normalize(torch.randn(1, 8, 3, 4, generator=torch.manual_seed(0)), dim=1)
    found = similarities(embedding, torch.tensor([[[40.0, 20.0, 1]]]))[0]
    assert found[0].argmax() == 1 * 4 + 2
    assert (found[1] == -1).all()


def test_clicks_that_fill_a_batch_up_change_nothing(model: STCN) -> None:
    head = ClickHead(NARROW).eval()
    image = torch.randn(1, 3, 48, 64, generator=torch.manual_seed(0))
    features = model.encode_key(image)
    frame = head.prepare(image, features.stride4, features.stride8, features.stride16)
    planes = torch.zeros(1, 2, 12, 16)
    one = head(frame, torch.tensor([[[20.0, 30.0, 1]]]), planes)
    filled = head(frame, torch.tensor([[[20.0, 30.0, 1], [0, 0, 0], [0, 0, 0]]]), planes)
    assert one.shape == (1, 48, 64)
    assert torch.allclose(one, filled, atol=1e-4)


@pytest.mark.parametrize("channels", [(8, 40, 80, 161), (0, 40, 80, 160), (8, 40, 80, 10**9)])
def test_sizes_that_make_no_head_are_refused(channels: tuple[int, ...]) -> None:
    with pytest.raises(InputError):
        ClickHeadConfig(channels=channels)  # type: ignore[arg-type]


def test_attention_is_the_same_with_gradients_and_without() -> None:
    mixing = GlobalMixing(16).eval()
    x = torch.randn(2, 16, 5, 7, generator=torch.manual_seed(0))
    with torch.no_grad():
        fused = mixing(x)
    assert torch.allclose(mixing(x), fused, atol=1e-5)
