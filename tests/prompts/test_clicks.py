import cv2
import numpy as np
import pytest
import torch
from refusals import refusal

from mnemask.datasets.synthetic.drawn import DrawnVideo
from mnemask.errors import BudgetError, CheckpointError, FrameError, MaskError
from mnemask.model.checkpoints import load_model
from mnemask.model.stcn import STCN
from mnemask.prompts.clicks import ClickSegmenter, ClickSession, mask_from_clicks, passes, pointed_at
from mnemask.types import Frame

HEIGHT, WIDTH = 180, 260


def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A red disk and a blue square on noisy green, [H W 3], and the masks of both."""
    rng = np.random.default_rng(0)
    image = np.full((HEIGHT, WIDTH, 3), (90, 140, 80)) + rng.normal(0, 10, (HEIGHT, WIDTH, 3))
    disk = cv2.circle(np.zeros((HEIGHT, WIDTH), np.uint8), (70, 90), 45, 1, -1) > 0
    square = np.zeros((HEIGHT, WIDTH), bool)
    square[50:120, 160:230] = True
    image[disk], image[square] = (210, 50, 40), (40, 60, 200)
    return np.clip(image, 0, 255).astype(np.uint8), disk, square


def overlap(mask: torch.Tensor, truth: np.ndarray) -> float:
    found = mask.numpy()
    return np.count_nonzero(found & truth) / np.count_nonzero(found | truth)


@pytest.fixture(scope="module")
def model() -> STCN:
    return load_model("compact", device="cpu")


@pytest.fixture(scope="module")
def segmenter(model: STCN) -> ClickSegmenter:
    return ClickSegmenter(model, short_side=240)


@pytest.fixture(scope="module")
def session(segmenter: ClickSegmenter) -> ClickSession:
    return segmenter.open(drawn()[0])


def test_a_click_gives_the_mask_of_the_object_under_it_and_not_of_the_other(session: ClickSession) -> None:
    _, disk, square = drawn()
    for place, truth in (((70, 90), disk), ((195, 85), square)):
        mask = session.mask([place])
        assert mask.dtype == torch.bool
        assert overlap(mask, truth) > 0.4
    assert session.probs is not None
    assert torch.equal(session.probs > 0.5, mask)


def test_a_click_beside_the_object_takes_away_what_was_taken_along(session: ClickSession) -> None:
    _, disk, square = drawn()
    both = torch.from_numpy(disk | square)
    mask = session.mask([(70, 90)], [(195, 85)], previous=both)
    assert overlap(mask, disk) > overlap(both, disk)


def test_a_box_alone_and_a_click_beside_the_object_alone_need_something_to_go_by(session: ClickSession) -> None:
    _, disk, square = drawn()
    assert overlap(session.mask(box=(25, 45, 91, 91)), disk) > 0.6
    assert session.mask((), [(195, 85)], previous=torch.from_numpy(disk | square)).shape == disk.shape
    with pytest.raises(MaskError):
        session.mask()
    with pytest.raises(MaskError):
        session.mask((), [(5, 5)])
    with pytest.raises(MaskError):
        session.mask(previous=torch.from_numpy(disk))


@pytest.mark.parametrize(
    "click", [(260, 10), (-1, 10), (10, 180), (float("nan"), 3), (3,), (1, 2, 3), (1e300, 0), (float("inf"), 0)]
)
def test_a_click_outside_the_frame_is_refused_on_either_side(session: ClickSession, click: tuple[float, ...]) -> None:
    with pytest.raises(MaskError):
        session.mask([click])
    with pytest.raises(MaskError):
        session.mask([(70, 90)], [click])


def test_clicks_that_are_no_list_are_refused(session: ClickSession, as_users_call_it: None) -> None:
    with pytest.raises(MaskError, match="list"):
        session.mask(5)  # type: ignore[arg-type]


def test_a_click_on_the_last_pixel_is_inside(session: ClickSession) -> None:
    assert session.mask([(259, 179)]).shape == (HEIGHT, WIDTH)


def test_one_place_cannot_be_object_and_background(session: ClickSession) -> None:
    with pytest.raises(MaskError):
        session.mask([(70, 90)], [(70.4, 90.2)])
    twice = session.mask([(70, 90), (70, 90)])
    assert twice.any()


@pytest.mark.parametrize(
    "wrong", [np.zeros((10, 10), bool), np.zeros((HEIGHT, WIDTH)), torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)]
)
def test_a_mask_to_correct_of_another_kind_is_refused(session: ClickSession, wrong: torch.Tensor | np.ndarray) -> None:
    with pytest.raises(MaskError):
        session.mask([(70, 90)], previous=wrong)


@pytest.mark.parametrize("box", [(300, 20, 30, 30), (10, 10, 0, 5)])
def test_a_box_that_holds_nothing_is_refused(session: ClickSession, box: tuple[int, int, int, int]) -> None:
    with pytest.raises(MaskError):
        session.mask(box=box)


def test_arrays_tensors_and_frames_of_one_picture_give_one_mask(segmenter: ClickSegmenter) -> None:
    image, _, _ = drawn()
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    masks = [segmenter.open(picture).mask([(70, 90)]) for picture in (image, tensor, Frame(tensor, 7))]
    assert torch.equal(masks[0], masks[1])
    assert torch.equal(masks[0], masks[2])


def test_a_mask_depends_on_what_is_given_alone_and_not_on_what_was_asked_before(segmenter: ClickSegmenter) -> None:
    image, disk, _ = drawn()
    session = segmenter.open(image)
    first = session.mask([(70, 90)], [(195, 85)])
    session.mask([(195, 85)], previous=torch.from_numpy(disk))
    assert torch.equal(session.mask([(70, 90)], [(195, 85)]), first)
    assert torch.equal(segmenter.open(image).mask([(70, 90)], [(195, 85)]), first)


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (300, 7), (481, 479)])
def test_frames_of_any_size_are_taken(model: STCN, size: tuple[int, int]) -> None:
    segmenter = ClickSegmenter(model, short_side=32)
    image = np.zeros((*size, 3), np.uint8)
    assert segmenter.open(image).mask([(size[1] - 1, size[0] - 1)]).shape == size


def test_a_long_frame_is_taken_at_a_smaller_size_and_refused_only_if_too_long_at_any(
    segmenter: ClickSegmenter,
) -> None:
    assert segmenter.open(np.zeros((8, 4000, 3), np.uint8)).mask([(10, 4)]).shape == (8, 4000)
    with refusal(FrameError, "4000×2 pixels", "crop") as caught:
        segmenter.open(np.zeros((2, 4000, 3), np.uint8))
    assert "--size" not in str(caught.value)


def test_a_device_without_memory_is_named(segmenter: ClickSegmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_memory(*_: torch.Tensor) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(segmenter.head, "prepare", without_memory)
    with refusal(BudgetError, "memory", f"{WIDTH}×{HEIGHT} pixels with 1 object "):
        segmenter.open(drawn()[0])


def test_the_function_gives_what_a_session_gives(model: STCN) -> None:
    image, *_ = drawn()
    mask = mask_from_clicks(image, [(70, 90)], [(195, 85)], model=model)
    assert torch.equal(mask, ClickSegmenter(model).open(image).mask([(70, 90)], [(195, 85)]))


@pytest.mark.parametrize("object_id", [1, 2])
def test_one_click_deep_inside_finds_an_object(model: STCN, object_id: int) -> None:
    frame, labels, *_ = next(iter(DrawnVideo(2, (240, 360), num_objects=2, seed=1)))
    truth = np.asarray(labels == object_id)
    depth = cv2.distanceTransform(truth.astype(np.uint8), cv2.DIST_L2, 5)
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    assert overlap(mask_from_clicks(frame, [(int(x), int(y))], model=model), truth) > 0.8


def test_a_head_for_another_key_encoder_is_refused() -> None:
    model = load_model("compact", device="cpu")
    model.key_encoder.conv1.weight[0, 0, 0, 0] += 1
    with pytest.raises(CheckpointError):
        ClickSegmenter(model)


def test_a_head_fits_its_key_encoder_in_every_precision_and_whatever_else_the_model_holds() -> None:
    model = load_model("compact", device="cpu", dtype=torch.float32)
    model.decoder.pred.weight += 1
    assert ClickSegmenter(model).open(drawn()[0]).mask([(70, 90)]).any()


@pytest.mark.parametrize("num_clicks", [0, 1, 2, 7, 8, 9, 100])
def test_clicks_that_come_at_once_are_added_little_by_little_and_all_are_seen_twice(num_clicks: int) -> None:
    assert passes(num_clicks, has_mask=True) == [num_clicks, num_clicks]
    seen = passes(num_clicks, has_mask=False)
    assert seen == sorted(seen)
    assert seen[-2:] == [num_clicks, num_clicks]
    assert len(seen) <= 9


def pieces(*boxes: tuple[int, int, int, int]) -> torch.Tensor:
    mask = torch.zeros(64, 96, dtype=torch.bool)
    for x, y, width, height in boxes:
        mask[y : y + height, x : x + width] = True
    return mask


def test_of_a_mask_those_pieces_are_meant_that_are_clicked_on_or_lie_mostly_in_the_earlier_mask_or_the_box() -> None:
    first, second, third = (8, 8, 16, 16), (40, 8, 16, 16), (72, 8, 16, 16)
    found, nothing = pieces(first, second, third), torch.zeros(2, 16, 24)
    clicks = torch.tensor([[12.0, 12.0, 1], [45.0, 12.0, -1], [0.0, 0.0, 0]])
    assert torch.equal(pointed_at(found, clicks, nothing), pieces(first))
    earlier = nothing.clone()
    earlier[0, 2:6, 18:22], earlier[1, 2:6, 10:11] = 1, 1  # all of the third, a quarter of the second
    assert torch.equal(pointed_at(found, clicks, earlier), pieces(first, third))
    assert torch.equal(pointed_at(found, clicks[1:], earlier), pieces(third))
    assert not pointed_at(found, clicks[1:], nothing).any()


def test_a_click_beside_the_object_takes_a_whole_small_piece_of_the_earlier_mask() -> None:
    large, small = (8, 8, 40, 40), (72, 8, 16, 16)
    found = pieces(large, small)
    earlier = found[None, 1::4, 1::4].float()
    on_small, on_large = torch.tensor([[75.0, 12.0, -1]]), torch.tensor([[12.0, 12.0, -1]])
    assert torch.equal(pointed_at(found, on_small, earlier), pieces(large))
    assert torch.equal(pointed_at(found, on_large, earlier), found)
    both = torch.cat((on_small, torch.tensor([[80.0, 20.0, 1]])))
    assert torch.equal(pointed_at(found, both, earlier), found)


def test_a_mask_does_not_depend_on_those_asked_for_before(session: ClickSession) -> None:
    first = session.mask([(70, 90)])
    session.mask([(20, 30)], box=(25, 45, 91, 91))
    assert torch.equal(session.mask([(70, 90)]), first)
