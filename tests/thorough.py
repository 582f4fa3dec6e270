"""Cases of which `make fast` runs few and `make test` all."""

import pytest


def thorough_but(number, cases):
    """The cases of a parametrized test, all marked as thorough but so many, which are spread over them."""
    quick = {round(place * len(cases) / number) for place in range(number)}
    return [
        pytest.param(case, marks=() if place in quick else pytest.mark.thorough) for place, case in enumerate(cases)
    ]
