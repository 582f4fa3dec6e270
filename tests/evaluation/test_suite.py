"""Runs of policies over a small benchmark: what is kept, what is taken up again, and what is refused."""

import dataclasses
import json
import re
import shutil
import zipfile

import numpy as np
import pytest
import torch
from drawn_benchmark import draw_davis, draw_video, draw_youtube_vos
from PIL import Image
from refusals import refusal

from mnemask.config import TrackerConfig
from mnemask.errors import InputError, MaskError, OutputError
from mnemask.evaluation.benchmark import Benchmark
from mnemask.evaluation.results import Result, ResultFolder
from mnemask.evaluation.runner import Job, TrackerFactory, score_masks
from mnemask.evaluation.suite import run_benchmark, run_jobs
from mnemask.evaluation.tables import write_submission
from mnemask.io.written import INDEX
from mnemask.memory.budget import Budget
from mnemask.memory.policies import LFU, POLICIES
from mnemask.model.checkpoints import save_model


@pytest.fixture(scope="module")
def tiny(tiny_model, tmp_path_factory):
    """Settings of a tracker that is quick."""
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_model(tiny_model, path, dtype=torch.float32)
    return TrackerFactory(TrackerConfig(short_side=48), str(path), device="cpu")


@pytest.fixture
def davis(tmp_path):
    return Benchmark(draw_davis(tmp_path / "davis"), "davis2016")


class Interrupting:
    """Counts frames and interrupts at one of them, as Ctrl-C does."""

    def __init__(self, at=None):
        self.at, self.frames, self.reports = at, 0, []

    def __call__(self, progress):
        self.reports.append(dataclasses.replace(progress))
        self.frames = progress.frames
        if self.frames == self.at:
            raise KeyboardInterrupt


def files_of(out):
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted((out / "masks").rglob("*.png"))}


def test_each_policy_and_sequence_has_masks_and_scores(davis, tiny, tmp_path):
    told = Interrupting()
    results = run_benchmark(davis, ["lfu", "fifo"], tmp_path / "out", tiny, on_progress=told)
    assert [(result.policy, result.sequence) for result in results] == [
        ("lfu", "bear"), ("lfu", "dog"), ("fifo", "bear"), ("fifo", "dog"),
    ]  # fmt: skip
    assert len(files_of(tmp_path / "out")) == 20
    mask = Image.open(tmp_path / "out/masks/lfu/dog/00000.png")
    assert mask.mode == "P"
    assert set(np.unique(mask)) == {0, 1}
    first = results[0]
    assert first.report.protocol == "davis2016"
    assert len(first.report.objects[0].region_frames) == 3
    assert (first.num_frames, len(first.frame_memory)) == (5, 5)
    assert first.frames_held == pytest.approx(1)
    assert first.most_tokens == 12
    assert (told.reports[0].done, told.reports[-1].done, told.reports[-1].frames) == (0, 4, 20)


def test_a_run_that_was_interrupted_goes_on_where_it_stopped(davis, tiny, tmp_path):
    whole = run_benchmark(davis, ["lfu"], tmp_path / "whole", tiny)
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(davis, ["lfu"], tmp_path / "out", tiny, on_progress=Interrupting(at=8))
    assert [path.name for path in (tmp_path / "out/results/lfu").iterdir()] == ["bear.json"]
    assert (tmp_path / "out/masks/lfu/.dog.partial").is_dir()
    assert not (tmp_path / "out/masks/lfu/dog").exists()
    told = Interrupting()
    resumed = run_benchmark(davis, ["lfu"], tmp_path / "out", tiny, on_progress=told)
    assert (told.reports[0].found, told.reports[0].total_frames, told.frames) == (1, 5, 5)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")
    assert not (tmp_path / "out/masks/lfu/.dog.partial").exists()
    assert [result.report for result in resumed] == [result.report for result in whole]


def test_what_is_there_is_not_made_again_and_more_policies_may_be_added(davis, tiny, tmp_path):
    run_benchmark(davis, ["lfu"], tmp_path, tiny, sequences=["dog"])
    before = (tmp_path / "results/lfu/dog.json").stat().st_mtime_ns
    told = Interrupting()
    results = run_benchmark(davis, ["lfu", "lru", "lfu"], tmp_path, tiny, sequences=["dog"], on_progress=told)
    assert [result.policy for result in results] == ["lfu", "lru"]
    assert told.frames == 5
    assert (tmp_path / "results/lfu/dog.json").stat().st_mtime_ns == before


def test_masks_that_were_deleted_are_made_again(davis, tiny, tmp_path):
    run_benchmark(davis, ["lfu"], tmp_path, tiny, sequences=["dog"])
    before = files_of(tmp_path)
    for path in (tmp_path / "masks/lfu/dog").iterdir():
        path.unlink()
    (tmp_path / "masks/lfu/dog").rmdir()
    run_benchmark(davis, ["lfu"], tmp_path, tiny, sequences=["dog"])
    assert files_of(tmp_path) == before


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"short_side": 32}, "short_side = 48, and now it is 32"),
        ({"budget": Budget(frames=3.0)}, "budget = None, and now it is"),
        ({"write_every": 1}, "write_every = None, and now it is 1"),
        ({"top_k": 9}, "top_k = 20, and now it is 9"),
    ],
)
def test_a_folder_is_for_one_kind_of_tracker(davis, tiny, tmp_path, changed, named):
    run_benchmark(davis, ["lfu"], tmp_path, tiny, sequences=["dog"])
    other = dataclasses.replace(tiny, config=dataclasses.replace(tiny.config, **changed))
    with refusal(OutputError, named):
        run_benchmark(davis, ["lfu"], tmp_path, other, sequences=["dog"])


def test_weights_go_by_their_content_and_not_by_their_name(davis, tiny, tiny_model, tmp_path):
    same = tmp_path / "elsewhere" / "tiny.safetensors"
    same.parent.mkdir()
    shutil.copy(tiny.model, same)
    ResultFolder.open(tmp_path / "out", tiny.settings())
    ResultFolder.open(tmp_path / "out", dataclasses.replace(tiny, model=str(same)).settings())
    other = tmp_path / "other" / "tiny.safetensors"
    other.parent.mkdir()
    with torch.no_grad():
        tiny_model.decoder.pred.bias.add_(1)
        save_model(tiny_model, other, dtype=torch.float32)
        tiny_model.decoder.pred.bias.sub_(1)
    with refusal(OutputError, r"'tiny.safetensors", r"sha256"):
        ResultFolder.open(tmp_path / "out", dataclasses.replace(tiny, model=str(other)).settings())


def test_weights_that_were_replaced_are_loaded_anew(tiny, tiny_model, tmp_path):
    trackers = dataclasses.replace(tiny, model=str(shutil.copy(tiny.model, tmp_path / "last.safetensors")))
    before = trackers.tracker().model
    assert trackers.tracker().model is before
    with torch.no_grad():
        tiny_model.decoder.pred.bias.add_(1)
        save_model(tiny_model, tmp_path / "last.safetensors", dtype=torch.float32)
        tiny_model.decoder.pred.bias.sub_(1)
    torch.testing.assert_close(trackers.tracker().model.decoder.pred.bias, before.decoder.pred.bias + 1)


@pytest.mark.parametrize(("processes", "done", "kept"), [(1, 1, 2), (2, 0, 0)])
def test_weights_that_are_replaced_during_a_run_end_it(davis, tiny, tiny_model, tmp_path, processes, done, kept):
    trackers = dataclasses.replace(tiny, model=str(shutil.copy(tiny.model, tmp_path / "last.safetensors")))
    with torch.no_grad():
        tiny_model.decoder.pred.bias.add_(1)
        save_model(tiny_model, tmp_path / "next.safetensors", dtype=torch.float32)
        tiny_model.decoder.pred.bias.sub_(1)

    def replace_weights(progress):
        if progress.done == done and (tmp_path / "next.safetensors").exists():
            (tmp_path / "next.safetensors").replace(trackers.model)

    arguments = (davis, ["lfu", "fifo"], tmp_path / "out", trackers)
    with refusal(InputError, "last.safetensors was replaced"):
        run_benchmark(*arguments, processes=processes, on_progress=replace_weights)
    assert len(list((tmp_path / "out/results").rglob("*.json"))) == kept


def test_a_place_that_cannot_be_cleared_is_named(davis, tiny, tmp_path):
    (tmp_path / "masks/lfu").mkdir(parents=True)
    (tmp_path / "masks/lfu/dog").write_text("a file where a folder is to be")
    with refusal(OutputError, r"masks/lfu/dog"):
        run_benchmark(davis, ["lfu"], tmp_path, tiny, sequences=["dog"])


@pytest.mark.parametrize("poison", ["absent", "garbage", "other masks"])
def test_masks_do_not_depend_on_the_truth_after_the_first_frame(davis, tiny, tmp_path, poison):
    folder, truth = ResultFolder.open(tmp_path / "out", {}), davis.root / "Annotations/480p/dog"
    (sequence,) = davis.open(["dog"])
    Job(sequence, "lfu", tiny, folder).run(lambda: None)
    clean = files_of(tmp_path / "out")
    for path in [path for path in truth.iterdir() if path.stem != "00000"]:
        if poison == "absent":
            path.unlink()
        elif poison == "garbage":
            path.write_bytes(b"never read")
        else:
            Image.fromarray(np.full((48, 64), 255, np.uint8)).save(path)
    poisoned = Job(sequence, "lfu", tiny, ResultFolder.open(tmp_path / "again", {}))
    frames = []
    if poison == "other masks":
        assert poisoned.run(lambda: frames.append(1)).report.region.mean < 0.5
        assert files_of(tmp_path / "again") == clean
    elif poison == "absent":  # known before anything is tracked
        with refusal(InputError, r"00001\.png"):
            poisoned.run(lambda: frames.append(1))
        assert not frames
        return
    else:
        with refusal(MaskError, r"00001\.png"):
            poisoned.run(lambda: frames.append(1))
        assert [*files_of(tmp_path / "again").values()] == [*clean.values()]
    assert len(frames) == 5


def test_a_mask_that_is_changed_while_it_is_tracked_gives_no_result(davis, tiny, tmp_path):
    (sequence,) = davis.open(["dog"])
    path, folder = davis.root / "Annotations/480p/dog/00002.png", ResultFolder.open(tmp_path / "out", {})
    job = Job(sequence, "lfu", tiny, folder)
    with refusal(InputError, "dog", "changed while"):
        job.run(lambda: Image.fromarray(np.full((48, 64), 255, np.uint8)).save(path))
    assert job.found() is None


def test_a_secret_benchmark_has_no_scores_but_a_submission(tiny, tmp_path):
    benchmark = Benchmark(draw_youtube_vos(tmp_path / "yv"), "youtube-vos")
    (result,) = run_benchmark(benchmark, ["lfu"], tmp_path / "out", tiny)
    assert result.report is None
    target = tmp_path / "out/submission/lfu.zip"
    write_submission(tmp_path / "out/masks/lfu", ["apes"], target, benchmark.submission_top)
    with zipfile.ZipFile(target) as archive:
        assert archive.namelist() == [f"Annotations/apes/{5 * index:05d}.png" for index in range(5)]
        with archive.open("Annotations/apes/00010.png") as file:
            mask = Image.open(file)
            assert mask.mode == "P"
            assert 2 in np.unique(mask)
    with refusal(InputError, "masks"):
        write_submission(tmp_path / "out/masks/lfu", ["bees"], target)
    assert {path.name for path in target.parent.iterdir()} == {"lfu.zip", INDEX}


def test_objects_that_come_late_are_scored_where_masks_are_known(tiny, tmp_path):
    benchmark = Benchmark(draw_youtube_vos(tmp_path / "yv"), "youtube-vos", "train")
    (result,) = run_benchmark(benchmark, ["lfu"], tmp_path / "out", tiny)
    assert [(score.object_id, len(score.region_frames)) for score in result.report.objects] == [(1, 3), (2, 1)]
    assert result.groups == {1: "seen", 2: "seen"}
    saved = json.loads((tmp_path / "out/results/lfu/frogs.json").read_text())
    again = Result.from_dict(saved)
    assert again.report == result.report
    assert again.groups == result.groups
    assert again.to_dict() == saved


def test_a_video_played_to_and_fro_is_scored_all_along(davis, tiny, tmp_path):
    benchmark = dataclasses.replace(davis, ping_pong=2)
    (result,) = run_benchmark(benchmark, ["first-and-latest"], tmp_path, tiny, sequences=["dog"])
    assert result.num_frames == 17
    assert len(result.report.objects[0].region_frames) == 15
    assert len(files_of(tmp_path)) == 17


def test_perfect_masks_score_one(davis, tmp_path):
    (sequence,) = davis.open(["dog"])
    assert score_masks(sequence, davis.root / "Annotations/480p/dog").j_and_f == 1


def test_a_damaged_result_is_named_with_the_way_out(davis, tiny, tmp_path):
    run_benchmark(davis, ["lfu"], tmp_path, tiny, sequences=["dog"])
    for text in ("{", '{"policy": "lfu"}', "[3]"):
        (tmp_path / "results/lfu/dog.json").write_text(text)
        with refusal(InputError, r"dog\.json"):
            run_benchmark(davis, ["lfu"], tmp_path, tiny, sequences=["dog"])


def test_what_went_wrong_says_where_and_what_is_done_stays(davis, tiny, tmp_path):
    (davis.root / "JPEGImages/480p/dog/00003.jpg").write_bytes(b"no picture")
    with refusal(InputError, r"00003\.jpg"):
        run_benchmark(davis, ["lfu"], tmp_path, tiny)
    assert [path.name for path in (tmp_path / "results/lfu").iterdir()] == ["bear.json"]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"processes": 0}, "0 processes"),
        ({"policies": ["oracle"]}, "policy 'oracle' is unknown"),
        ({"trackers": TrackerFactory(model="nowhere.pth")}, "nowhere.pth"),
    ],
)
def test_arguments_are_checked_before_anything_is_written(davis, tmp_path, wrong, named):
    arguments = {"benchmark": davis, "policies": ["lfu"], "out": tmp_path / "out"} | wrong
    with pytest.raises(ValueError, match=named):
        run_benchmark(**arguments)
    assert not (tmp_path / "out").exists()


def test_several_processes_make_the_same_masks(davis, tiny, tmp_path):
    alone = run_benchmark(davis, ["lfu"], tmp_path / "alone", tiny)
    told = Interrupting()
    together = run_benchmark(davis, ["lfu"], tmp_path / "together", tiny, processes=2, on_progress=told)
    assert files_of(tmp_path / "together") == files_of(tmp_path / "alone")
    assert [result.report for result in together] == [result.report for result in alone]
    assert {result.threads for result in together} == {1}
    assert told.reports[-1].done == 2


@dataclasses.dataclass(frozen=True)
class ByLambda(LFU):
    score: object = lambda tokens: tokens.written_at


def test_a_policy_that_cannot_be_sent_to_another_process_is_refused_with_the_way_out(davis, tiny, tmp_path):
    by_lambda = dataclasses.replace(tiny, config=dataclasses.replace(tiny.config, policy=ByLambda()))
    jobs = [Job(sequence, "own", by_lambda, ResultFolder(tmp_path)) for sequence in davis.open()]
    with refusal(InputError, "lambda", "one process"):
        next(run_jobs(jobs, 2, lambda frames: None))


def test_an_error_in_another_process_arrives_as_it_is(davis, tiny, tmp_path):
    (davis.root / "JPEGImages/480p/bear/00002.jpg").write_bytes(b"no picture")
    with refusal(InputError, r"00002\.jpg"):
        run_benchmark(davis, ["lfu"], tmp_path, tiny, sequences=["bear"], processes=2)


@pytest.mark.parametrize("what", ["mask", "frame"])
def test_results_of_a_video_that_has_changed_since_are_refused_and_not_reported(davis, tiny, tmp_path, what):
    run_benchmark(davis, ["lfu"], tmp_path / "out", tiny)
    folder, suffix = ("Annotations", "png") if what == "mask" else ("JPEGImages", "jpg")
    changed = sorted((davis.root / folder / "480p").rglob(f"*.{suffix}"))[1]
    with Image.open(changed) as image:
        turned = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    turned.save(changed, quality=31) if what == "frame" else turned.save(changed)
    with refusal(OutputError, changed.parent.name, "changed since"):
        run_benchmark(davis, ["lfu"], tmp_path / "out", tiny)
    shutil.rmtree(tmp_path / "out")
    assert run_benchmark(davis, ["lfu"], tmp_path / "out", tiny)


@pytest.mark.parametrize("suffix", [".ppm", ".TIFF"])
def test_any_pixel_of_an_uncompressed_frame_counts(tiny, tmp_path, suffix):
    draw_video(tmp_path / "video/frames", tmp_path / "video/masks")
    for path in (tmp_path / "video/frames").iterdir():
        Image.open(path).resize((240, 180)).save(path.with_suffix(suffix))
        path.unlink()
    for path in (tmp_path / "video/masks").iterdir():
        Image.open(path).resize((240, 180), Image.Resampling.NEAREST).save(path)
    run_benchmark(Benchmark(tmp_path / "video", "folder"), ["lfu"], tmp_path / "out", tiny)
    changed = tmp_path / f"video/frames/00002{suffix}"
    image = Image.open(changed).copy()
    image.paste((255, 255, 255), (50, 30, 200, 60))
    size = changed.stat().st_size
    image.save(changed)
    assert changed.stat().st_size == size
    with refusal(OutputError, "changed since"):
        run_benchmark(Benchmark(tmp_path / "video", "folder"), ["lfu"], tmp_path / "out", tiny)


def test_results_of_another_task_on_the_same_files_are_refused_and_seen_is_what_training_shows_now(tiny, tmp_path):
    root = draw_youtube_vos(tmp_path / "yv")
    shutil.copytree(root / "train", root / "held-out")
    benchmark = Benchmark(root, "youtube-vos", "held-out")

    def scored():
        return run_benchmark(benchmark, ["lfu"], tmp_path / "out", tiny)[0]

    def changed(subset, old, new):
        text = (root / subset / "meta.json").read_text()
        assert old in text
        (root / subset / "meta.json").write_text(text.replace(old, new))

    assert scored().groups == {1: "seen", 2: "seen"}
    changed("train", '"ape"', '"bat"')
    assert scored().groups == {1: "seen", 2: "unseen"}
    changed("held-out", '"frames": ["00010", ', '"frames": [')  # object 2 is given one mask later
    with refusal(OutputError, "frogs", "given"):
        scored()


@pytest.mark.parametrize("name", ["mine", "lfu(write_every=2)"])
def test_another_policy_of_a_name_that_is_not_built_in_has_no_results_of_the_one_before(
    davis, tiny, tmp_path, monkeypatch, name
):
    def scored(write_every):
        monkeypatch.setitem(POLICIES, name, LFU(write_every=write_every))
        return run_benchmark(davis, [name, "lfu"], tmp_path, tiny, sequences=["dog"])

    scored(2)
    with refusal(OutputError, re.escape(name), "write_every 2, now 7"):
        scored(7)
    assert scored(2)[0].own_policy["write_every"] == 2


def folder_of_one(root, sizes):
    """A video of frames of 64×48 pixels and masks of these sizes."""
    for index, (width, height) in enumerate(sizes):
        labels = np.zeros((height, width), np.uint8)
        labels[10:30, 10:30] = 1
        for part, image in (
            ("frames", Image.fromarray(np.full((48, 64, 3), 40 * index, np.uint8))),
            ("masks", Image.fromarray(labels)),
        ):
            (root / part).mkdir(parents=True, exist_ok=True)
            image.save(root / part / f"{index}.png")
    return root


def test_a_mask_of_another_size_is_refused_before_anything_is_tracked(tiny, tmp_path):
    root = folder_of_one(tmp_path / "video", [(64, 48)] * 3 + [(48, 64)])
    with refusal(InputError, "48x64", "64x48", "3.png"):
        run_benchmark(Benchmark(root, "folder"), ["lfu"], tmp_path / "out", tiny)
    assert not (tmp_path / "out").exists()


def test_results_do_not_lie_among_the_data(tiny, tmp_path):
    root = folder_of_one(tmp_path / "videos/one", [(64, 48)] * 4)
    for out in (root, root.parent):
        with refusal(OutputError, "data"):
            run_benchmark(Benchmark(root.parent, "folder"), ["lfu"], out, tiny)
    assert len(list((root / "masks").iterdir())) == 4


def test_results_beside_the_videos_are_taken_up_again_and_are_no_video(tiny, tmp_path, caplog):
    folder_of_one(tmp_path / "one", [(64, 48)] * 4)
    told, out = Interrupting(), tmp_path / "eval"
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(Benchmark(tmp_path, "folder"), ["lfu"], out, tiny, on_progress=Interrupting(at=2))
    (first,) = run_benchmark(Benchmark(tmp_path, "folder"), ["lfu"], out, tiny)
    (again,) = run_benchmark(Benchmark(tmp_path, "folder"), ["lfu"], out, tiny, on_progress=told)
    assert (told.reports[0].found, told.frames) == (1, 0)
    assert again == first
    assert not caplog.messages
