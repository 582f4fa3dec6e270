"""Rewrites names until all that counts in them is plain numbers in order.

These are thousands separators, decimal points written as p, times with AM or PM, names of months, and dates that end
with the year.
"""

import re
from collections.abc import Callable, Sequence

Rewrite = Callable[[str], str]

MINUS = ("-", "\u2212")
SIGNS = (*MINUS, "+")
# 0p25: some programs write the decimal point as a p.
P_NUMBER = re.compile(r"(?<!\d)(?<!\dp)(\d+)p(\d+)(?!p?\d)")
HALF_DAY_BEFORE, HALF_DAY_AFTER = r"([上下]午|午[前後]|오[전후])", r"([ap])(?:\.\s?)?m\.?(?![a-z])"
_SECOND_HALF = ("p", "P", "下午", "午後", "오후")
_MINUTES = r"[.:_-]?[0-5]\d(?:[.:_-]?[0-5]\d)?"
# 9.41.00 AM or 上午9.41.00, as in the names of screenshots, with any of the spaces that occur there.
_TWELVE_HOURS = re.compile(
    rf"(?<!\d)(0?[1-9]|1[0-2])({_MINUTES})[\s_.-]*{HALF_DAY_AFTER}|"
    rf"{HALF_DAY_BEFORE}\s?(1[0-2]|0?\d)({_MINUTES})(?!\d)",
    re.IGNORECASE,
)
# 28-02-2024 or 02.28.2024, with the same separator in both places.
_DATE = re.compile(r"(?<!\d)(\d{1,2})([-_. ])(\d{1,2})\2((?:19|20)\d{2})(?!\d)")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = re.compile(
    r"(?<![a-z])(jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|"
    r"oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)(?![a-z])",
    re.IGNORECASE,
)
_DAY_MONTH_YEAR = re.compile(r"(?<!\d)(\d{1,2})([-_. ]?)%(\d{2})\2((?:19|20)?\d{2})(?!\d)")
_OF_THOUSANDS = ".,'\u2019_ \u00a0\u202f"  # thousands separators
THOUSANDS = re.compile(
    rf"(?<![\d.,])([1-9]\d{{0,2}})([{_OF_THOUSANDS}])(\d{{3}})((?:\2\d{{3}})*)(?![{_OF_THOUSANDS}]?\d)"
)


def shape(text: str) -> str:
    """Returns a text with # in place of each run of digits."""
    return re.sub(r"\d+", "#", text)


def before_sign(number: re.Match[str]) -> str:
    """Returns the shape of the text before a number and its sign, if it has one."""
    before = number.string[: number.start()]
    return shape(before[:-1] if before.endswith(SIGNS) else before)


def without_thousands(stem: str) -> str:
    """Returns a name with 1000 in place of 1,000."""
    return THOUSANDS.sub(without_signs, stem)


def without_signs(number: re.Match[str]) -> str:
    """Returns the digits of a number with thousands separators."""
    return re.sub(f"[{_OF_THOUSANDS}]", "", number[0])


def with_points(stem: str, p_points: frozenset[str]) -> str:
    """Returns a name with 0.25 in place of 0p25."""
    return P_NUMBER.sub(lambda n: f"{n[1]}.{n[2]}" if before_sign(n) in p_points else n[0], stem)


def has_12_hours(stems: Sequence[str]) -> bool:
    """Returns whether all names have a time with AM or PM."""
    return bool(stems) and all(map(_TWELVE_HOURS.search, stems))


def in_24_hours(stem: str) -> str:
    """Returns a name with 13.30.00 in place of 1.30.00 PM, and 00.05.00 in place of 12.05.00 AM."""
    return _TWELVE_HOURS.sub(_time_of_24_hours, stem)


def _time_of_24_hours(time: re.Match[str]) -> str:
    hour, minutes, half = time.group(1, 2, 3) if time[1] else time.group(5, 6, 4)
    return f"{int(hour) % 12 + 12 * (half in _SECOND_HALF):02d}{minutes}"


def has_months(stems: Sequence[str]) -> bool:
    """Returns whether all names contain the name of one month, and digits."""
    return len(stems) > 1 and all(any(map(str.isdigit, stem)) and len(_MONTH.findall(stem)) == 1 for stem in stems)


def with_month_numbers(stem: str) -> str:
    """Returns a name with 2024-02-01 in place of 2024-Feb-01 or 01-Feb-2024."""
    return _DAY_MONTH_YEAR.sub(r"\4-\3-\1", _with_month_signs(stem)).replace("%", "")


def _with_month_signs(stem: str) -> str:
    return _MONTH.sub(lambda month: f"%{_MONTHS.index(month[0][:3].lower()) + 1:02d}", stem)


def month_date(stem: str) -> re.Match[str] | None:
    """Returns the date in a name that begins with the day and has the month's name, its year in group 4."""
    return _DAY_MONTH_YEAR.search(_with_month_signs(stem))


def year_last(stems: Sequence[str]) -> tuple[str, list[str]]:
    """Returns the format of dates that end with the year, if each name has one, and doubts about it."""
    dates = [_DATE.search(stem) for stem in stems]
    if not dates or not all(dates):
        return "", []
    firsts, seconds = ([int(date[part]) for date in dates if date] for part in (1, 3))
    fits = [order for order, days, months in (("dmy", firsts, seconds), ("mdy", seconds, firsts))
            if min(months) >= 1 and max(months) <= 12 and min(days) >= 1 and max(days) <= 31]  # fmt: skip
    if len(fits) < 2:
        return next(iter(fits), ""), []
    doubt = f"the dates in names like {stems[0]!r} may begin with the day or the month; they are read as day first"
    return "dmy", [] if len(set(firsts)) == 1 or len(set(seconds)) == 1 else [doubt]


def year_first(stem: str, order: str) -> str:
    """Returns a name with 2024-02-28 in place of 28-02-2024 (dmy) or 02-28-2024 (mdy)."""
    return _DATE.sub(r"\4-\3-\1" if order == "dmy" else r"\4-\1-\3", stem)
