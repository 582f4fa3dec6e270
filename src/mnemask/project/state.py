"""The state of a project: an immutable value that each action of the user turns into the next one."""

import colorsys
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from mnemask.errors import InputError, ObjectIdError
from mnemask.types import ObjectInfo, check_name, check_object_id

Action = Mapping[str, Any]
Run = tuple[int, int]  # first and last frame

COLORS = ("#4aa3ff", "#ff9f43", "#b388ff", "#2ed3a2", "#ff6b9d", "#ffd166", "#26c6da", "#f2545b", "#a6d94a", "#8aa4c8")
_LIGHTNESS = (0.4, 0.52, 0.64, 0.76)
_RGB = re.compile(r"#[0-9a-f]{6}")
UNDOABLE = ("add_object", "update_object", "remove_object", "set_key", "clear_key", "accept", "unaccept")


@dataclass(frozen=True, slots=True)
class ProjectObject:
    """A tracked object.

    Attributes:
        id: its id in masks, 1 to 65535.
        name: its display name.
        category: its class, such as "camel"; empty for none.
        color: "#rrggbb".
        painted: the colours that have marked it in mask files, each "#rrggbb"; no other object has them.
    """

    id: int
    name: str
    category: str
    color: str
    painted: tuple[str, ...] = ()

    @property
    def info(self) -> ObjectInfo:
        """Its class and name in exported files; the name is empty if it is the default one."""
        return ObjectInfo(self.category, "" if self.name == f"Object {self.id}" else self.name)


@dataclass(frozen=True, slots=True)
class Key:
    """The mask that the user set for one object in one frame: a permanent memory.

    Attributes:
        frame: the frame's number.
        object_id: the object's id.
        mask: path of the mask's file in the project's folder; its name contains a digest of the content.
        how: how it was made, for the studio: clicks, box, tool, colours that it was painted in.
    """

    frame: int
    object_id: int
    mask: str
    how: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class State:
    """The state of a project at one moment.

    Attributes:
        objects: the objects by id.
        keys: the keys by frame and id, the latest last; where masks overlap, a later one is on top.
        accepted: runs of frames with final masks, in order and not adjacent.
        settings: the settings for tracking.
    """

    objects: Mapping[int, ProjectObject] = field(default_factory=dict)
    keys: Mapping[tuple[int, int], Key] = field(default_factory=dict)
    accepted: tuple[Run, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def is_accepted(self, frame: int) -> bool:
        """Returns whether the masks of a frame are final."""
        return any(first <= frame <= last for first, last in self.accepted)

    def keys_at(self, frame: int) -> dict[int, Key]:
        """Returns the keys of a frame by object id."""
        return {object_id: key for (at, object_id), key in self.keys.items() if at == frame}

    def key_frames(self) -> list[int]:
        """Returns the numbers of the frames that have a key, in order."""
        return sorted({frame for frame, _ in self.keys})

    def to_dict(self) -> dict[str, Any]:
        """Returns the state as values for JSON."""
        return {
            "objects": [asdict(each) for each in self.objects.values()],
            "keys": [asdict(key) for key in self.keys.values()],
            "accepted": [list(run) for run in self.accepted],
            "settings": dict(self.settings),
        }


def applied(state: State, action: Action) -> State:
    """Returns the state after an action.

    Raises:
        InputError: the action is unknown or invalid in this state.
        ObjectIdError: it names an object that does not exist, or an id that is taken or invalid.
    """
    kind = action["do"]
    if kind == "add_object":
        return _add_object(state, action)
    if kind == "update_object":
        known = _object(state, action["id"])
        changes = {name: action[name] for name in ("name", "category", "color") if name in action}
        return replace(state, objects={**state.objects, known.id: _checked(replace(known, **changes))})
    if kind == "remove_object":
        known = _object(state, action["id"])
        objects = {number: each for number, each in state.objects.items() if number != known.id}
        keys = {place: key for place, key in state.keys.items() if key.object_id != known.id}
        accepted = state.accepted if objects else ()  # without objects, no masks are left to be final
        return replace(state, objects=objects, keys=keys, accepted=accepted)
    if kind == "set_key":
        known = _object(state, action["object"])
        key = Key(action["frame"], known.id, action["mask"], action.get("how", {}))
        others = {place: each for place, each in state.keys.items() if place != (key.frame, known.id)}
        # A fact of the object, since another key may replace this one.
        objects = {**state.objects, known.id: replace(known, painted=(*known.painted, *_new_colours(state, key)))}
        return replace(state, objects=objects, keys={**others, (key.frame, known.id): key})
    if kind == "clear_key":
        place = (action["frame"], action["object"])
        return replace(state, keys={other: key for other, key in state.keys.items() if other != place})
    if kind in ("accept", "unaccept"):
        accepted = state.accepted
        for first, last in action.get("runs", [(action["first"], action["last"])]):
            accepted = _with(accepted, (first, last)) if kind == "accept" else _less(accepted, (first, last))
        return replace(state, accepted=accepted)
    if kind == "settings":
        return replace(state, settings={**state.settings, **action["settings"]})
    raise InputError(f"action {kind!r} is unknown", "open the project with the version of mnemask that made it")


def folded(lines: Iterable[Action]) -> tuple[State, list[Action], list[Action]]:
    """Returns the state after the lines of a journal, the actions in effect, and those that were undone.

    Raises:
        InputError: a line is malformed or contradicts those before it.
    """
    try:
        return _folded(lines)
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise InputError(
            f"the project's actions are inconsistent ({type(error).__name__}: {error})",
            "restore actions.jsonl from a copy",
        ) from error


def _folded(lines: Iterable[Action]) -> tuple[State, list[Action], list[Action]]:
    done: list[Action] = []
    undone: list[Action] = []
    for line in lines:
        kind = line["do"]
        if kind == "undo":
            last = max(place for place, action in enumerate(done) if action["do"] in UNDOABLE)
            undone.append(done.pop(last))
        elif kind == "redo":
            done.append(undone.pop())
        elif kind in UNDOABLE or kind == "settings":
            done.append(line)
            if kind in UNDOABLE:
                undone.clear()
    state = State()
    for action in done:
        state = applied(state, action)
    return state, done, undone


def _add_object(state: State, action: Action) -> State:
    number = check_object_id(action["id"])
    if number in state.objects:
        raise ObjectIdError(f"object {number} already exists", "give another id")
    color = action.get("color") or _color(number)
    name = action.get("name") or f"Object {number}"
    new = _checked(ProjectObject(number, name, action.get("category") or "", color))
    return replace(state, objects={**state.objects, number: new})


def _new_colours(state: State, key: Key) -> list[str]:
    """Returns the colours that a key was painted in and that no object of the project has yet."""
    taken = {colour for each in state.objects.values() for colour in each.painted}
    painted = key.how.get("painted")
    colours = [str(colour) for colour in painted] if isinstance(painted, list | tuple) else []
    return [colour for colour in dict.fromkeys(colours) if _RGB.fullmatch(colour) and colour not in taken]


def _color(number: int) -> str:
    """Returns the default colour of an object: from `COLORS`, and for higher ids a generated one."""
    if number <= len(COLORS):
        return COLORS[number - 1]
    hue = 0.618034 * number % 1.0  # golden angle: each hue falls into the widest gap between the earlier ones
    parts = colorsys.hls_to_rgb(hue, _LIGHTNESS[number % len(_LIGHTNESS)], 0.75)
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)


def _object(state: State, number: object) -> ProjectObject:
    if not isinstance(number, int) or number not in state.objects:
        raise ObjectIdError(f"object {number!r} does not exist", f"existing ids: {sorted(state.objects) or 'none'}")
    return state.objects[number]


def _checked(new: ProjectObject) -> ProjectObject:
    for text in (new.name, new.category):
        check_name(text)
    color = new.color
    if not (isinstance(color, str) and len(color) == 7 and color[0] == "#" and color[1:].isalnum()):
        raise InputError(f"colour {str(color)[:40]!r} is not #rrggbb", f"give one such as {COLORS[0]}")
    try:
        int(color[1:], 16)
    except ValueError:
        raise InputError(f"colour {color!r} is not #rrggbb", f"give one such as {COLORS[0]}") from None
    return new


def _with(runs: Iterable[Run], new: Run) -> tuple[Run, ...]:
    """Returns the runs and a new one; overlapping and adjacent runs are merged."""
    joined: list[Run] = []
    for first, last in sorted([*runs, new]):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return tuple(joined)


def _less(runs: Iterable[Run], gone: Run) -> tuple[Run, ...]:
    """Returns the runs without the frames of another one."""
    left: list[Run] = []
    for first, last in runs:
        left += [(first, min(last, gone[0] - 1)), (max(first, gone[1] + 1), last)]
    return tuple(run for run in left if run[0] <= run[1])
