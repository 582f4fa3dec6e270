"""The actions of a project: each is written before it counts, and can be undone."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from mnemask.errors import OutputError
from mnemask.project.journal import Journal, Line, read_journal
from mnemask.project.state import Action, applied, folded


class History:
    """The actions of a project, and the state that they lead to.

    Args:
        journal: the file of the actions, open.

    Attributes:
        state: the state after all actions; an immutable value, replaced by each action.
        changing: held while the state is looked at and then changed.

    Raises:
        InputError: an action is damaged, or contradicts those before it.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal, self.changing = journal, threading.RLock()
        self.state, self._done, self._undone = folded(self.actions)

    @property
    def actions(self) -> list[Line]:
        """Every action so far, including those that were undone, oldest first."""
        return list(read_journal(self._journal.path))

    def do(self, action: Action) -> None:
        """Writes an action and changes the state; raises InputError if the action is invalid in it."""
        action = {name: int(value) if isinstance(value, np.integer) else value for name, value in action.items()}
        with self.changing:
            state = applied(self.state, action)
            self.log(action)
            self.state = state
            self._done.append(action)
            if action["do"] != "settings":
                self._undone.clear()

    def log(self, action: Action) -> None:
        """Writes an action with its time, and leaves the state as it is."""
        with self.changing:
            self.check_folder()
            self._journal.add({**action, "at": round(time.time(), 3)})

    def turn(self, which: Literal["undo", "redo"]) -> Action | None:
        """Undoes the last action, or redoes the one undone last, and returns it; None if there is none."""
        with self.changing:
            if not self.can()[which == "redo"]:
                return None
            self.log({"do": which})
            before = self._undone
            self.state, self._done, self._undone = folded(self.actions)
            return before[-1] if which == "redo" else self._undone[-1]

    def can(self) -> tuple[bool, bool]:
        """Returns whether there is an action to undo, and one to redo."""
        return any(action["do"] != "settings" for action in self._done), bool(self._undone)

    def earlier_key(self, frame: int, object_id: int, fits: Callable[[Mapping[str, Any]], bool]) -> Action | None:
        """Returns the last action that set an accepted mask of an object in a frame; see `Project.earlier_key`."""
        for action in reversed(self._done):
            if action["do"] == "remove_object" and action["id"] == object_id:
                return None
            if action["do"] in ("set_key", "clear_key") and (action["frame"], action["object"]) == (frame, object_id):
                if action["do"] == "clear_key":
                    return None
                if fits(action["how"]):
                    return action
        return None

    def check_folder(self) -> None:
        """Raises OutputError if the project's folder is no longer where it was when the project was opened."""
        if not self._journal.is_there:
            raise OutputError(
                f"the project's folder is no longer at {str(self._journal.path.parent)!r}",
                "put it back, or close the project and open it at its new place",
            )
