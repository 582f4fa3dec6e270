"""The caller's object ids and the rows of the tensors that stand for them."""

from collections.abc import Iterable

from mnemask.errors import ObjectIdError
from mnemask.types import check_object_id

MAX_OBJECTS = 256
"""At once. Time and memory grow with each object, and what is wanted beyond is a video per group of them."""


class Objects:
    """Ids in the order of their rows."""

    def __init__(self, ids: Iterable[int] = ()) -> None:
        self._ids: list[int] = []
        for object_id in ids:
            self.add(object_id)

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, object_id: int) -> bool:
        return object_id in self._ids

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids, by row."""
        return tuple(self._ids)

    def add(self, object_id: int) -> int:
        """Returns the row of a new id; raises ObjectIdError for one object too many."""
        if len(self._ids) == MAX_OBJECTS:
            raise ObjectIdError(
                f"object id {object_id} would be the {MAX_OBJECTS + 1}th object; {MAX_OBJECTS} can be tracked at once, "
                "so remove others first, or track them in a run of their own"
            )
        self._ids.append(check_object_id(object_id))
        return len(self._ids) - 1

    def row(self, object_id: int) -> int:
        """Returns the row of an id; raises ObjectIdError if it is not tracked."""
        if object_id not in self._ids:
            raise ObjectIdError(f"object id {object_id!r} is not tracked; tracked are {self._ids or 'none'}")
        return self._ids.index(object_id)

    def remove(self, object_id: int) -> int:
        """Returns the row that an id had; raises ObjectIdError if it is not tracked."""
        row = self.row(object_id)
        del self._ids[row]
        return row
