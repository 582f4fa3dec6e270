"""The end report: which moments it shows, and that no name of a file becomes markup."""

import base64
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from mnemask.io.sources import of_content
from mnemask.manifest.lines import Manifest
from mnemask.manifest.report import doubtful_frames, page_of, report_of
from mnemask.manifest.schedule import Clip, Outcome


def moment(frame, doubt):
    facts = {"frame": frame, "object_id": 1, "certainty": 0.5, "area": 10, "area_before": 20, "specks": 0}
    return {**facts, "doubt": doubt, "picture": "QUJD"}


def report(names, outcomes):
    clips = [Clip(name, number, {"video": f"{name}.mp4"}, {"_by": "<b>AB"}) for number, name in enumerate(names, 2)]
    return report_of(Manifest(Path("clips.csv"), clips), outcomes, 12.0, None)


def test_the_ten_most_doubtful_moments_of_all_clips_are_shown_the_worst_first():
    doubts = {f"clip{n}": [moment(10 * k, (n * 3 + k) / 20) for k in range(3)] for n in range(5)}
    outcomes = {name: Outcome("done", facts={"frames": 30, "moments": each}) for name, each in doubts.items()}
    made = report(list(doubts), outcomes)
    shown = [each["doubt"] for each in made.facts["most_doubtful"]]
    assert shown == sorted((each["doubt"] for its in doubts.values() for each in its), reverse=True)[:10]
    assert page_of(made).count("data:image/jpeg;base64,QUJD") == 10
    assert "QUJD" not in made.to_json()
    assert made.facts["frames"] == 150


def test_what_files_and_people_are_called_is_no_markup():
    name = "<script>alert(1)</script>"
    outcomes = {
        name: Outcome("failed", "<img src=x>", "do & think", facts={"warnings": ["<i>w"]}),
        "b": Outcome("complete", facts={"frames": 3, "seconds": 1.5, "moments": []}, attempts=2),
    }
    made = report([name, "b"], outcomes)
    page = page_of(made)
    assert not any(each in page for each in ("<script", "<img src=x", "<i>w", "<b>AB"))
    assert 'href="b/"' in page
    failed, complete = json.loads(made.to_json())["clips"]
    assert (failed["problem"], failed["remedy"], failed["line"]) == ("<img src=x>", "do & think", 2)
    assert (complete["attempts"], complete["notes"]) == (2, {"_by": "<b>AB"})


def test_an_address_is_shown_without_what_may_be_a_password():
    clip = Clip("a", 1, {"video": "https://me:secret@host/a.mp4?token=secret"})
    made = report_of(Manifest(Path("clips.csv"), [clip]), {"a": Outcome("done", facts={"moments": []})}, 1.0, "SIGINT")
    assert "secret" not in made.to_json() + page_of(made)
    assert made.facts["stopped_by"] == "SIGINT"


def test_moments_come_from_the_table_of_a_run_apart_from_each_other_with_pictures(tmp_path):
    doubts = {2: 0.5, 3: 0.9, 10: 0.6, 40: 0.3, 70: 0.2, 75: 0.05}
    rows = ["frame,name,object,certainty,area,specks,doubt"]
    rows += [f"{n},{n:05d},1,0.5,{100 + n},0,{doubts.get(n, 1.0 if n == 0 else 0)}" for n in range(80)]
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n")
    for kind, value in (("frames", 128), ("masks", 1)):
        (tmp_path / kind).mkdir()
        for n in range(80):
            Image.new("L", (48, 32), value).save(tmp_path / kind / f"{n:05d}.png")
    found = doubtful_frames(tmp_path, str(tmp_path / "frames"))
    assert [(moment.frame, moment.doubt) for moment in found] == [(3, 0.9), (40, 0.3), (70, 0.2)]
    assert (found[0].area, found[0].area_before) == (103, 102)
    drawn = np.array(Image.open(io.BytesIO(base64.b64decode(found[0].picture))).convert("RGB")).reshape(-1, 3).mean(0)
    assert drawn[0] > drawn[1] + 20, "the mask is not drawn in its red"
    (tmp_path / "masks/00003.png").unlink()
    assert all(moment.picture for moment in doubtful_frames(tmp_path, str(tmp_path / "frames")))
    assert [moment.picture for moment in doubtful_frames(tmp_path, "lost.mp4")] == [""] * 3


def test_a_moment_is_shown_by_its_frame_where_a_mask_lies_among_them(tmp_path):
    rows = ["frame,name,object,certainty,area,specks,doubt"]
    rows += [f"{n},{n:05d},1,0.5,100,0,{0.9 if n == 3 else 0}" for n in range(6)]
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "frames").mkdir()
    for n in range(6):
        Image.new("L", (48, 32), 40 * n).save(tmp_path / f"frames/{n:05d}.png")
    mask = tmp_path / "frames/00000_obj.jpg"
    Image.new("L", (48, 32), 128).save(mask)
    (tmp_path / "report.json").write_text(json.dumps({"settings": {"mask": [of_content(mask)]}}))
    (found,) = doubtful_frames(tmp_path, str(tmp_path / "frames"))
    assert abs(np.array(Image.open(io.BytesIO(base64.b64decode(found.picture)))).mean() - 120) < 5
