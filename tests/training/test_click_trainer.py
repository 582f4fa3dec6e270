import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_click_data import write_picture

from mnemask.errors import CheckpointError, InputError, OutputError
from mnemask.model.checkpoints import load_model
from mnemask.model.click_head import load_click_head, packaged_click_head, read_click_head
from mnemask.model.stcn import STCN
from mnemask.training.click_trainer import ClickRecipe, ClickTraining
from mnemask.training.launch import launch_clicks

RECIPE = ClickRecipe(steps=4, batch=1, sizes=((0.5, 32), (1.0, 48)))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for name, box in (("a", (10, 10, 30, 20)), ("b", (30, 5, 25, 45))):
        write_picture(root / "static" / "things", name, [box, (60, 40, 15, 15)])
    return root


@pytest.fixture(scope="module")
def model() -> STCN:
    return load_model("compact", device="cpu")


def weights(training: ClickTraining) -> dict[str, torch.Tensor]:
    return training.average.weights


def test_a_run_that_was_cut_off_and_taken_up_again_ends_with_the_same_bits(
    data: Path, model: STCN, tmp_path: Path
) -> None:
    whole = launch_clicks(RECIPE, data, model, tmp_path / "whole", accelerator="cpu")
    first = launch_clicks(RECIPE, data, model, tmp_path / "parts", accelerator="cpu", minutes=0.0)
    assert first.step == 1
    second = launch_clicks(RECIPE, data, model, tmp_path / "parts", accelerator="cpu", resume=True)
    assert whole.finished
    assert second.finished
    assert all(torch.equal(value, weights(second)[name]) for name, value in weights(whole).items())
    # What the run leaves is a head for this model.
    head = load_click_head(model, tmp_path / "whole" / "clicks.safetensors")
    assert sum(parameter.numel() for parameter in head.parameters()) < 2_000_000
    assert json.loads((tmp_path / "whole" / "log.jsonl").read_text().splitlines()[-1])["step"] == 4


def test_the_models_own_weights_stay_as_they_are(data: Path, tmp_path: Path) -> None:
    model = load_model("compact", device="cpu")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    launch_clicks(ClickRecipe(steps=1, batch=1, sizes=((1.0, 32),)), data, model, tmp_path, accelerator="cpu")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_run_goes_on_only_when_asked_to_and_only_with_the_same_settings(
    data: Path, model: STCN, tmp_path: Path
) -> None:
    launch_clicks(RECIPE, data, model, tmp_path, accelerator="cpu", minutes=0.0)
    with pytest.raises(InputError):
        launch_clicks(RECIPE, data, model, tmp_path, accelerator="cpu")
    other = ClickRecipe(steps=5, batch=1, sizes=RECIPE.sizes)
    with pytest.raises(InputError):
        launch_clicks(other, data, model, tmp_path, accelerator="cpu", resume=True)


def test_a_head_of_another_key_encoder_is_trained_on_and_said_to_be(
    data: Path, model: STCN, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changed = load_model("compact", device="cpu")
    with torch.no_grad():
        changed.key_encoder.layer1[0].conv1.bias += 0.01
    recipe = ClickRecipe.fine_tuning(steps=1)
    recipe = replace(recipe, batch=1, sizes=((1.0, 32),), learning_rate=1e-6)
    training = launch_clicks(recipe, data, changed, tmp_path / "run", accelerator="cpu", weights=packaged_click_head())
    packaged, _ = read_click_head(packaged_click_head())
    load_click_head(changed, tmp_path / "run" / "clicks.safetensors")  # which reads that key encoder
    left = read_click_head(tmp_path / "run" / "clicks.safetensors")[0].state_dict()
    assert all(torch.allclose(value, left[name], atol=1e-3) for name, value in packaged.state_dict().items())
    assert [record.module for record in caplog.records if record.levelname == "WARNING"] == ["launch"]
    # Taken up again with other first weights, it is another run.
    with pytest.raises(InputError):
        launch_clicks(recipe, data, changed, tmp_path / "run", accelerator="cpu", resume=True)
    assert training.finished


def test_files_of_others_in_the_folder_are_not_replaced(data: Path, model: STCN, tmp_path: Path) -> None:
    (tmp_path / "clicks.safetensors").write_bytes(b"mine")
    with pytest.raises(OutputError):
        launch_clicks(RECIPE, data, model, tmp_path, accelerator="cpu", minutes=0.0)
    assert (tmp_path / "clicks.safetensors").read_bytes() == b"mine"


def test_a_damaged_run_is_refused(data: Path, model: STCN, tmp_path: Path) -> None:
    launch_clicks(RECIPE, data, model, tmp_path, accelerator="cpu", minutes=0.0)
    saved = tmp_path / "latest.safetensors"
    saved.write_bytes(saved.read_bytes()[:1000])
    with pytest.raises(CheckpointError):
        launch_clicks(RECIPE, data, model, tmp_path, accelerator="cpu", resume=True)
