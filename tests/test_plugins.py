"""Policies of one's own: named on the command line, registered or installed; checked, refused, and scored."""

import csv
import json
import re
import sys
from dataclasses import dataclass, field
from importlib import import_module

import pytest
import torch
from command_line import mnemask
from drawn_benchmark import draw_davis
from refusals import refusal

import mnemask as mm
from mnemask.choices import POLICY_NAMES
from mnemask.config import TrackerConfig
from mnemask.errors import BudgetError, CheckpointError, InputError, PolicyError
from mnemask.memory.policies import (
    POLICIES,
    choose_policy,
    policy_named,
    register_policy,
    restored_policy,
    saved_policy,
)
from mnemask.model.checkpoints import save_model
from mnemask.testing import check_policy

SOURCE = """
from dataclasses import dataclass
import mnemask as mm

@dataclass(frozen=True)
class Newest(mm.Policy):
    scale: float = 1.0

    def update(self, memory, new, budget):
        both = memory + new
        return mm.keep_best(both, both.written_at * self.scale, budget)

@dataclass(frozen=True)
class FailsLater(Newest):
    def update(self, memory, new, budget):
        if int(new.frame[0]) == 10 and len(new) > 6:
            raise KeyError("no such token")
        return super().update(memory, new, budget)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A file with policies; what it brings is forgotten after the test."""
    path = tmp_path / "newest_first.py"
    path.write_text(SOURCE)
    monkeypatch.setattr(sys, "path", list(sys.path))
    sys.modules.pop("newest_first", None)
    yield path
    sys.modules.pop("newest_first", None)


@pytest.mark.parametrize(
    ("text", "write_every"),
    [("lfu(write_every=3)", 3), ("with-latest(lfu, share=.25)", 1), ("per-object('lfu(write_every=2)')", 5)],
)
def test_a_policy_of_the_package_takes_arguments(text, write_every):
    assert policy_named(text).write_every == write_every
    assert TrackerConfig(policy=text).used_policy() == policy_named(text)
    assert tuple(POLICIES) == POLICY_NAMES


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("nope", "diverse"),
        ("lfu(decay=2)", "write_every"),
        ("lfu(write_every=0)", "write_every is 0"),
        ("diverse(write_on_growth=1.0)", "write_on_growth is 1"),
        ("lfu(pin='x')", "pin"),
        ("random(-1)", "seed is -1"),
        ("lfu(write_every=print(1))", "print"),
        ("lfu(write_every=open('x').read())", "open"),
        ("lfu()()", "literals"),
        ("lfu(", "name with arguments"),
        ("lfu(**{})", "literals"),
        ("", "name with arguments"),
        ("os:getcwd", "command line"),
        ("no_such_module_here:Class", "command line"),
        ("x" * 5000, "name with arguments"),
    ],
)
def test_a_name_that_means_nothing_is_refused_and_nothing_is_evaluated_or_imported(text, fact):
    before = set(sys.modules)
    with refusal(InputError, re.escape(fact)):
        policy_named(text)
    assert not {"no_such_module_here"} & (set(sys.modules) - before)


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("FILE:Nothing", "FailsLater"),
        ("FILE:Newest(size=2)", "scale"),
        ("no_such_module_here:Class", "no_such_module_here"),
        ("no/such/file.py:Class", "no/such/file.py"),
        ("json:dumps", "not a policy"),
        ("BROKEN:Class", "line 2"),
    ],
)
def test_code_that_cannot_be_used_is_refused_with_the_place(own, text, fact):
    broken = own.with_name("broken_here.py")
    broken.write_text("x = 1\nraise RuntimeError('not today')\n")
    with refusal(InputError, re.escape(fact)):
        choose_policy(text.replace("FILE", str(own)).replace("BROKEN", str(broken)))


def test_code_named_on_the_command_line_is_known_by_its_module_from_then_on(own):
    label = choose_policy(f"{own}:Newest( scale = 2.0 )")
    assert label == "newest_first:Newest(scale=2.0)"
    assert policy_named(label).scale == 2.0
    saved = json.loads(json.dumps(saved_policy(policy_named(label))))
    assert saved["name"] == "newest_first:Newest"
    assert restored_policy(saved) == policy_named(label)
    del POLICIES[label]
    with refusal(CheckpointError, "newest_first:Newest"):
        restored_policy(saved)


def test_a_file_that_has_the_name_of_another_module_is_refused(tmp_path, own):
    choose_policy(f"{own}:Newest")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/newest_first.py").write_text(SOURCE)
    with refusal(InputError, "newest_first"):
        choose_policy(f"{tmp_path / 'other/newest_first.py'}:Newest")
    (tmp_path / "json.py").write_text(SOURCE)
    with refusal(InputError, "json"):
        choose_policy(f"{tmp_path / 'json.py'}:Newest")


def test_an_installed_package_brings_policies_by_name(own, tmp_path):
    info = tmp_path / "own-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[mnemask.policies]\nnewest = newest_first:Newest\nlost = newest_first:Lost\nlfu = newest_first:Newest\n"
    )
    sys.path.append(str(tmp_path))
    assert policy_named("newest(scale=3)").scale == 3
    assert type(policy_named("lfu")).__name__ == "LFU"  # nobody takes the place of the package's own
    with refusal(InputError, "newest_first:Lost"):
        policy_named("lost")
    with refusal(InputError, "newest"):
        policy_named("nope")


@dataclass(frozen=True)
class Broken(mm.Policy):
    how: str = ""

    def update(self, memory, new, budget):
        both = memory + new
        kept = mm.keep_best(both, both.written_at, budget)
        match self.how:
            case "greedy":
                return both
            case "unpinned":
                return both[max(len(both) - budget, 0) :]
            case "backwards":
                return kept[torch.arange(len(kept) - 1, -1, -1)]
            case "twice":
                return kept[torch.zeros(len(kept), dtype=torch.int64)]
            case "restless":
                return mm.keep_best(both, torch.rand(len(both)), budget)
            case "rate":
                return mm.keep_best(both, both.topk_count / (new.written_at[0] - both.written_at), budget)
            case "in place":
                memory.topk_count.zero_()
            case "mixing":
                kept.key.add_(1)
            case "nothing":
                return None
            case "failing":
                raise KeyError("nothing there")
            case "timid":
                raise BudgetError("too hard", "give more")
        return kept


def test_a_policy_that_keeps_the_contract_passes_the_check_and_can_be_registered(own, as_users_call_it):
    check_policy(Broken())
    register_policy("newest", Broken)
    assert policy_named("newest") == Broken()
    assert mm.POLICIES["newest"] is policy_named("newest")
    register_policy("newest", Broken())  # the same again
    with refusal(InputError, "newest"):
        register_policy("newest", Broken("greedy2"))
    with refusal(InputError, "a b"):
        register_policy("a b", Broken())
    with refusal(InputError, "int"):
        register_policy("number", 3)


@pytest.mark.parametrize(
    ("how", "fact"),
    [
        ("greedy", "budget is"), ("unpinned", "pinned"), ("backwards", "order"), ("twice", "twice"),
        ("restless", "again"), ("rate", "Broken.*NaN.*age"), ("in place", "topk_count"), ("mixing", "key"),
        ("nothing", "NoneType"), ("failing", "KeyError.*line"), ("timid", "too hard"),
    ],
)  # fmt: skip
def test_a_policy_that_breaks_the_contract_is_told_how(how, fact, as_users_call_it):
    with refusal(PolicyError, fact):
        check_policy(Broken(how))
    with refusal(PolicyError, fact):
        register_policy("broken", Broken(how))


@dataclass(frozen=True, eq=False)
class Learned(mm.Policy):
    """A policy with weights for keys and values."""

    key: torch.nn.Module = field(default_factory=lambda: torch.nn.Linear(64, 1))
    value: torch.nn.Module = field(default_factory=lambda: torch.nn.Linear(256, 1))

    def update(self, memory, new, budget):
        both = memory + new
        with torch.no_grad():
            return mm.keep_best(both, (self.key(both.key) + self.value(both.value).mean(0))[:, 0], budget)


def test_a_policy_may_have_weights_for_the_keys_and_values_of_compact():
    check_policy(Learned())


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("sets")
    draw_davis(folder / "davis", count=12)
    save_model(tiny_model, folder / "tiny.safetensors", dtype=torch.float32)
    return folder


def run(place, command, *arguments):
    """Returns the exit code and the output with its line breaks taken out."""
    fixed = ["--model", place / "tiny.safetensors", "--size", "48", "--device", "cpu"]
    return mnemask(command, *arguments, *fixed)


def test_ones_own_policy_is_scored_beside_others_resumed_and_refused_when_it_has_changed(place, own, tmp_path):
    arguments = [place / "davis", "--dataset", "davis2016", "--policy", "lfu(write_every=2)", "-o", tmp_path / "out"]
    mine = ["--policy", f"{own}:Newest"]
    code, output = run(place, "evaluate", *arguments, *mine)
    assert code == 0, output
    with (tmp_path / "out/tables/overall.csv").open(newline="") as table:
        assert [row["policy"] for row in csv.DictReader(table)] == ["lfu(write_every=2)", "newest_first:Newest"]
    times = [path.stat().st_mtime_ns for path in sorted((tmp_path / "out").glob("results/*/*"))]
    assert run(place, "evaluate", *arguments, *mine)[0] == 0
    assert [path.stat().st_mtime_ns for path in sorted((tmp_path / "out").glob("results/*/*"))] == times
    own.write_text(SOURCE.replace("both.written_at * self.scale", "both.frame * self.scale"))
    sys.modules.pop("newest_first")
    POLICIES.pop("newest_first:Newest")
    code, output = run(place, "evaluate", *arguments, *mine)
    assert code == 2
    assert "newest_first:Newest" in output
    assert "source" in output


def test_ones_own_policy_joins_an_experiment(place, own, tmp_path):
    arguments = [place / "davis", "--dataset", "davis2016", "--sequence", "dog", "-o", tmp_path / "lab"]
    code, output = run(place, "experiment", "table1", *arguments, "--policy", f"{own}:Newest(scale=2)")
    assert code == 0, output
    with (tmp_path / "lab/strategies/strategies.csv").open(newline="") as table:
        assert "newest_first:Newest(scale=2)" in [row["run"] for row in csv.DictReader(table)]


def test_a_policy_that_fails_in_the_middle_is_named_with_the_frame_and_what_is_done_is_kept(place, own, tmp_path):
    folders = place / "davis/JPEGImages/480p/dog", "--mask", place / "davis/Annotations/480p/dog/00000.png"
    code, output = run(place, "segment", *folders, "--policy", f"{own}:FailsLater", "-o", tmp_path / "out")
    assert code == 2
    for fact in ("FailsLater", "frame 10", "KeyError", "newest_first.py, line 17"):
        assert fact in output
    assert len(list((tmp_path / "out").glob("masks/*.png"))) == 10


def test_a_manifest_imports_no_code_but_the_command_line_does(place, own, tmp_path):
    first = place / "davis/Annotations/480p/dog/00000.png"
    manifest = tmp_path / "clips.csv"
    manifest.write_text(f"video,mask,policy\n{place / 'davis/JPEGImages/480p/dog'},{first},{own}:Newest\n")
    code, output = run(place, "batch", manifest, "--check")
    assert code == 2, output
    assert "code" in output
    assert "newest_first" not in sys.modules
    manifest.write_text(f"video,mask\n{place / 'davis/JPEGImages/480p/dog'},{first}\n")
    code, output = run(place, "batch", manifest, "--check", "--policy", f"{own}:Newest")
    assert code == 0, output
    assert "newest_first" in sys.modules
    out = tmp_path / "out"
    code, output = run(place, "batch", manifest, "--policy", f"{own}:Newest(scale=2)", "-o", out, "--workers", 1)
    assert code == 0, output  # a process of its own imported it
    report = json.loads(next(out.glob("*/report.json")).read_text())
    assert (report["settings"]["policy"]["name"], report["settings"]["policy"]["scale"]) == ("newest_first:Newest", 2)


def test_a_run_with_ones_own_policy_goes_on_with_that_policy_alone(place, own, tmp_path):
    folders = place / "davis/JPEGImages/480p/dog", "--mask", place / "davis/Annotations/480p/dog/00000.png"
    out = ["-o", tmp_path / "out"]
    mine = ["--policy", f"{own}:Newest"]
    assert run(place, "segment", *folders, *mine, *out, "--stop", "7")[0] == 0
    code, output = run(
        place, "segment", *folders, "--policy", f"{own}:Newest(scale=2.0)", *out, "--stop", "7", "--resume"
    )
    assert code == 2
    assert "scale" in output
    code, output = run(place, "segment", *folders, *mine, *out, "--stop", "7", "--resume")
    assert code == 0
    assert "complete" in output


def test_the_source_of_a_policy_is_that_which_was_imported_with_its_bases(own):
    derived = f"{own}:FailsLater"
    before = saved_policy(policy_named(choose_policy(derived)))["source"]
    own.write_text(SOURCE.replace("both.written_at *", "-both.written_at *"))
    assert saved_policy(policy_named(derived))["source"] == before, "what runs is what was imported"
    sys.modules.pop("newest_first")
    again = import_module("newest_first").FailsLater()
    assert saved_policy(again)["source"] not in ("", before), "its base has changed"


@pytest.mark.parametrize("body", ["raise SystemExit(0)", "raise KeyError('x')"])
def test_a_policy_that_fails_or_ends_python_is_one_sentence(tiny_model, body):
    namespace = {"mm": mm, "dataclass": dataclass}
    exec(
        f"@dataclass(frozen=True)\nclass Ends(mm.Policy):\n  def update(self, memory, new, budget):\n    {body}",
        namespace,
    )
    tracker = mm.Tracker(tiny_model, policy=namespace["Ends"](), short_side=48)
    frame, labels = mm.DrawnVideo(2, size=(48, 64), num_objects=1)[0]
    with refusal(PolicyError, "Ends"):
        tracker.step(frame, {1: labels == 1})


def test_an_infinite_parameter_is_saved():
    assert saved_policy(Limited(float("inf")))["limit"] == "Infinity"


@dataclass(frozen=True)
class Limited(mm.Policy):
    limit: float = 1.0

    def update(self, memory, new, budget):
        return mm.keep_best(memory + new, (memory + new).written_at, budget)
