"""The caller's object ids and the rows of the tensors that stand for them."""

from collections.abc import Iterable

from mnemask.errors import ObjectIdError
from mnemask.types import check_object_id


class Objects:
    """Ids in the order of their rows."""

    def __init__(self, ids: Iterable[int] = ()) -> None:
        self._ids = [check_object_id(object_id) for object_id in ids]

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, object_id: int) -> bool:
        return object_id in self._ids

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids, by row."""
        return tuple(self._ids)

    def add(self, object_id: int) -> int:
        """Returns the row of a new id."""
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
