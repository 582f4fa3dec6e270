"""One thing that was found out about a file."""

from dataclasses import dataclass
from typing import Literal

from mnemask.errors import InputError
from mnemask.video.picture import SourceFacts

GO_ON = "go on behind the damage with --on-corrupt skip or hold"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found out about a file.

    Attributes:
        severity: "ok" is a fact, a "warning" may spoil the result, with a "problem" the file cannot be used.
        what: in plain words.
        remedy: what to do; empty where there is nothing to do.
    """

    severity: Literal["ok", "warning", "problem"]
    what: str
    remedy: str = ""

    @classmethod
    def of_error(cls, error: InputError) -> "Finding":
        """Returns the problem that an error is about; what comes after its last semicolon is the way out."""
        what, _, remedy = str(error).rpartition("; ")
        return cls("problem", what or remedy, remedy if what else "")

    @classmethod
    def of_facts(cls, facts: SourceFacts) -> "list[Finding]":
        """Returns what a reader says before the first frame: what it left out or doubts is a warning."""
        return [*(cls("ok", what) for what in facts.about), *(cls("warning", note) for note in facts.notes)]
