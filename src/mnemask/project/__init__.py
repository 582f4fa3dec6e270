"""Interactive segmentation of one video: prompts in any frame, tracking both ways, corrections, all saved at once."""

from mnemask.io.table import Confidence, doubts
from mnemask.project.about import follow_video, is_of, source_of
from mnemask.project.corrections import set_corrections
from mnemask.project.export import check_export, export_project
from mnemask.project.look import picture_memory, picture_reason
from mnemask.project.project import Project, state_of
from mnemask.project.replay import replay
from mnemask.project.state import Key, ProjectObject, State
from mnemask.project.tracking import NoFrameLeftError, PassReport

__all__ = [
    "Confidence",
    "Key",
    "NoFrameLeftError",
    "PassReport",
    "Project",
    "ProjectObject",
    "State",
    "check_export",
    "doubts",
    "export_project",
    "follow_video",
    "is_of",
    "picture_memory",
    "picture_reason",
    "replay",
    "set_corrections",
    "source_of",
    "state_of",
]
