"""How tests state what is refused: the type of the error and the facts it must name, not its wording."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mnemask.errors import MnemaskError


@contextmanager
def refusal(
    kind: type[MnemaskError] | tuple[type[MnemaskError], ...], *facts: str
) -> Iterator[pytest.ExceptionInfo[MnemaskError]]:
    """Within it, such an error must be raised, with a problem and a remedy, that names all facts (patterns)."""
    with pytest.raises(kind) as caught:
        yield caught
    error = caught.value
    assert error.problem, f"{error!r} does not say what is wrong"
    assert error.remedy, f"{error!r} does not say what to do"
    missing = [fact for fact in facts if not re.search(fact, str(error))]
    assert not missing, f"{str(error)!r} does not name {missing}"
