"""Natural order of file names: frame2 before frame10, t0.5 before t0.75, t-1 before t0.

A dot between digits is a decimal point in `t0.25` and a separator in `shot1.10`; a minus is a sign in `t-5` and a
separator in `frame-10`. One name alone is ambiguous, but all names of a folder together mostly are not, so they are
ordered together.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from itertools import pairwise
from pathlib import Path

from mnemask.io.name_rewrites import (
    MINUS,
    P_NUMBER,
    SIGNS,
    THOUSANDS,
    Rewrite,
    before_sign,
    has_12_hours,
    has_months,
    in_24_hours,
    month_date,
    shape,
    with_month_numbers,
    with_points,
    without_signs,
    without_thousands,
    year_first,
    year_last,
)

# Programs print exponents with a sign and at least two digits; "1e3" may as well be part of a hash.
_NUMBER = re.compile(r"(\d+)(?:[.,](\d+)(?![.,]?\d))?(?:[eE]([+-]\d{2,3})(?![\d.A-Za-z]))?")
_RUN = re.compile(r"\d+(?:[.,]\d+)+")
_HEXADECIMAL = re.compile(r"[0-9a-f]{1,16}", re.IGNORECASE | re.ASCII)
# Other possible dates: with the year first or last, with a year of two digits or without separators.
_DATES = (
    re.compile(r"(?<!\d)(?P<y>(?:19|20)\d\d)([-_. ]?)(?P<m>\d\d)\2(?P<d>\d\d)(?!\d)"),
    re.compile(r"(?<!\d)(?P<d>\d\d)([-_. ]?)(?P<m>\d\d)\2(?P<y>(?:19|20)\d\d)(?!\d)"),
    re.compile(r"(?<!\d)(?P<m>\d\d)([-_. ]?)(?P<d>\d\d)\2(?P<y>(?:19|20)\d\d)(?!\d)"),
    re.compile(r"(?<!\d)(?P<d>\d\d?)([-_. ])(?P<m>\d\d?)\2(?P<y>[1-4]\d)(?!\d)"),
    re.compile(r"(?<!\d)(?P<m>\d\d?)([-_. ])(?P<d>\d\d?)\2(?P<y>[1-4]\d)(?!\d)"),
)
_WITH_UNIT = re.compile(r"\d+(?:[.,]\d+)?[\s_]?([num\u00b5\u03bc]?s|min|h|[numc\u00b5\u03bck]?m)(?![^\W\d_])")
_MOST_DATES = 4096  # names that are searched for dates
# After these, or at the start of a name, there is nothing that a minus could separate from the number.
_OPENS: tuple[str, ...] = ("=", "(", "[", "{", ",", ";", ":", "~", "@")
# Among this many numbers of a counter, one would end in 0.
_MANY = 20

Key = tuple[list[list[str | Decimal]], str]


@dataclass(frozen=True, slots=True)
class _Dotted:
    """Two runs of digits joined by a dot or comma in a name, and the text before them (digits as #)."""

    before: str
    whole: str
    fraction: str


@dataclass(frozen=True)
class NameOrder:
    """How the numbers in a set of names are read.

    Attributes:
        decimal: the prefixes (digits as #) after which a dot is a decimal point.
        signed: the prefixes (digits as #) after which a minus is a sign.
        hexadecimal: number of characters before and after the hexadecimal number in each name; None if there is none.
        letters: number of characters before letters that count from a to z and on to aa; -1 if there are none.
        rewrites: what makes the numbers in a name plain ones, in this order.
        doubts: sentences about ambiguous numbers, for the user to check.
    """

    decimal: frozenset[str]
    signed: frozenset[str]
    hexadecimal: tuple[int, int] | None = None
    letters: int = -1
    rewrites: tuple[Rewrite, ...] = ()
    doubts: tuple[str, ...] = ()

    @classmethod
    def of(cls, stems: Sequence[str]) -> "NameOrder":
        """Returns the order for these names (without folder and suffix)."""
        stems = [composed(stem) for stem in stems]
        if around := _around_hexadecimals(stems):
            example = next(stem for stem in stems if not stem[around[0] : len(stem) - around[1]].isdecimal())
            doubt = f"names like {example!r} are read as hexadecimal numbers, since they are evenly spaced that way"
            return cls(frozenset(), frozenset(), around, doubts=(doubt,))
        if (before := _before_letters(stems)) >= 0:
            doubt = f"names like {max(stems, key=len)!r} are read as counting with letters, since aa follows z"
            return cls(frozenset(), frozenset(), letters=before, doubts=(doubt,))
        plain, rewrites = stems, list[Rewrite]()

        def rewrite(one: Rewrite) -> None:
            nonlocal plain
            plain = [one(stem) for stem in plain]
            rewrites.append(one)

        if has_thousands := _has_thousands(stems):
            rewrite(without_thousands)
        p_points, p_doubts = _p_points(plain)
        if p_points:
            rewrite(partial(with_points, p_points=p_points))
        if has_12_hours(plain):
            rewrite(in_24_hours)
        if months := has_months(plain):
            rewrite(with_month_numbers)
        order, date_doubts = year_last(plain)
        if order:
            rewrite(partial(year_first, order=order))
        signed, sign_doubts = _signed_slots(plain)
        decimal, dot_doubts = _decimal_slots(plain, signed)
        example = next((stem for stem in stems if THOUSANDS.search(stem)), "")
        said = [f"the separator in names like {example!r} is read as a thousands separator"] if has_thousands else []
        doubts = (*p_doubts, *sign_doubts, *dot_doubts, *date_doubts, *said)
        found = cls(decimal, signed, rewrites=tuple(rewrites), doubts=doubts)
        return replace(found, doubts=(*doubts, *_other_doubts(stems, found, months, bool(order))))

    def key(self, path: Path) -> Key:
        """Returns the sort key; names that differ only in zeros or case are ordered by their text."""
        stem = composed(path.stem)
        last: list[str | Decimal]
        if self.hexadecimal:
            before, after = self.hexadecimal
            end = len(stem) - after
            last = [stem[:before].casefold(), Decimal(int(stem[before:end], 16)), stem[end:].casefold()]
        elif self.letters >= 0:
            counted = stem[self.letters :].casefold()
            last = [stem[: self.letters].casefold(), Decimal(len(counted)), counted]
        else:
            for rewrite in self.rewrites:
                stem = rewrite(stem)
            last = self._parts(stem)
        return [*map(self._parts, map(composed, path.parts[:-1])), last], path.name

    def unsigned(self, stem: str) -> str:
        """Returns a name without the signs of its numbers."""
        stem = composed(stem)
        begins = [number.start() for number in re.finditer(r"\d+", stem)]
        signs = {at - 1 for at in begins if stem[:at].endswith(SIGNS) and shape(stem[: at - 1]) in self.signed}
        return "".join(character for at, character in enumerate(stem) if at not in signs)

    def _parts(self, stem: str) -> list[str | Decimal]:
        """Returns texts and numbers in alternation, a text first; case is ignored."""
        parts: list[str | Decimal] = []
        at = 0
        for begin, end, value in self._numbers(stem):
            parts += [stem[at:begin].casefold(), value]
            at = end
        return [*parts, stem[at:].casefold()]

    def _numbers(self, stem: str) -> Iterator[tuple[int, int, Decimal]]:
        """Yields the start and end of each number, including its sign, and its value."""
        at = 0
        while number := _NUMBER.search(stem, at):
            begin, end, value = number.start(), number.end(), Decimal(number[0].replace(",", "."))
            before = shape(stem[:begin])
            sign = stem[begin - 1 : begin] if shape(stem[: max(begin - 1, 0)]) in self.signed else ""
            sign = sign if sign in SIGNS else ""
            before = before.removesuffix(sign)
            if number[3] is None and (before not in self.decimal or _within_a_run(stem, begin)):
                end, value = number.end(1), Decimal(number[1])
            yield begin - len(sign), end, -value if sign in MINUS else value
            at = end


def composed(name: str) -> str:
    """Returns a name in Unicode's form NFC: on some systems, a letter and its accent are two code points."""
    return unicodedata.normalize("NFC", name)


def natural_order(paths: Iterable[Path]) -> list[Path]:
    """Returns the paths in the order of the numbers in their names."""
    paths = list(paths)
    return sorted(paths, key=NameOrder.of([path.stem for path in paths]).key)


def numbers_of(stem: str) -> tuple[int, ...]:
    """Returns the runs of digits in a name as numbers."""
    return tuple(int(run) for run in re.findall(r"\d+", stem))


def _around_hexadecimals(stems: Sequence[str]) -> tuple[int, int] | None:
    """Returns the number of characters before and after the hexadecimal numbers in names; None if there are none.

    Such numbers contain letters and digits and are evenly spaced, except for one missing frame among many; hashes and
    lists of letters are not.
    """
    before = shared(stems)
    after = shared([stem[before:][::-1] for stem in stems])
    digits = [stem[before : len(stem) - after] for stem in stems]
    signs = "".join(digits)
    if not all(map(_HEXADECIMAL.fullmatch, digits)) or signs.isdecimal() or signs.isalpha():
        return None
    values = sorted(int(number, 16) for number in digits)
    steps = Counter(larger - smaller for smaller, larger in pairwise(values))
    usual = min(steps, default=0)
    lacks_one = len(values) > _MANY and steps.keys() == {usual, 2 * usual} and steps[2 * usual] == 1
    return (before, after) if len(values) > 2 and usual and (len(steps) == 1 or lacks_one) else None


def shared(texts: Sequence[str]) -> int:
    """Returns the length of the prefix that all texts share."""
    first, last = min(texts, default=""), max(texts, default="")
    return next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))


def _has_thousands(stems: Sequence[str]) -> bool:
    """Returns whether names count from 999 on to 1,000: more evenly than as decimals or as two separate numbers."""
    if not any(map(THOUSANDS.search, stems)):
        return False
    plain = [stem for stem in stems if not THOUSANDS.search(stem)]
    signed = [number for stem in stems for number in THOUSANDS.finditer(stem)]
    before = {shape(number.string[: number.start()]) for number in signed}
    plain_values = [
        Decimal(number[0])
        for stem in plain
        for number in re.finditer(r"\d+(?:\.\d+)?", stem)
        if shape(stem[: number.start()]) in before
    ]
    if len(before) != 1 or not 100 <= max(plain_values, default=0) < 1000:
        return False
    counted = [Decimal(without_signs(number)) for number in signed]
    otherwise = [Decimal(f"{number[1]}.{number[3]}" if number[2] in ".," else number[1]) for number in signed
                 if number[0].count(number[2]) == 1]  # fmt: skip
    return _evenness([[*plain_values, *counted]]) > _evenness([[*plain_values, *otherwise]])


def _p_points(stems: Sequence[str]) -> tuple[frozenset[str], list[str]]:
    """Returns the prefixes after which a p between digits is a decimal point in most names, and doubts about it."""
    slots: dict[str, list[re.Match[str]]] = defaultdict(list)
    for stem in stems:
        for number in P_NUMBER.finditer(stem):
            slots[before_sign(number)].append(number)
    points, doubts = set(), []
    for before, numbers in slots.items():
        if 2 * len(numbers) < len(stems) or len({len(number[2]) for number in numbers}) == 1:
            continue  # of equal lengths, decimals and counters have the same order
        is_decimal, sure = _is_decimal([_Dotted(before, number[1], number[2]) for number in numbers])
        example = max(numbers, key=lambda number: len(number[2])).string
        if is_decimal and sure:
            points.add(before)
            doubts.append(f"the p in names like {example!r} is read as a decimal point")
        elif not sure:
            doubts.append(f"the p in names like {example!r} may be a decimal point; it is read as a separator")
    return frozenset(points), doubts


def _before_letters(stems: Sequence[str]) -> int:
    """Returns the number of characters before letters that count from z on to aa; -1 if there are none."""
    before = shared(stems)
    counted = [stem[before:].casefold() for stem in stems]
    if len({len(each) for each in counted}) < 2 or not all(re.fullmatch("[a-z]{1,3}", each) for each in counted):
        return -1
    values = []
    for each in counted:
        value = 0
        for letter in each:
            value = 26 * value + ord(letter) - ord("a") + 1
        values.append(value)
    return before if sorted(values) == list(range(min(values), min(values) + len(values))) else -1


def _other_doubts(stems: Sequence[str], order: NameOrder, months: bool, year_is_last: bool) -> Iterator[str]:
    """Yields sentences about numbers that do not affect the order: dates that contradict it, words, units.

    Args:
        stems: the names.
        order: their order.
        months: whether they contain the names of months.
        year_is_last: whether they contain dates that end with the year.
    """
    if not months and not year_is_last:
        some = stems[:: -(-len(stems) // _MOST_DATES) or 1]  # of very many names, a sample is enough
        for date in (each for each in _DATES if stems and all(map(each.search, some))):
            ordered = sorted(some, key=lambda stem: order.key(Path(f"{stem}.png")))
            if not _is_ascending([found for found in map(date.search, ordered) if found]):
                yield (
                    f"names like {ordered[0]!r} seem to contain dates, but are not in their order: to order them by "
                    "date, begin them with year, month and day"
                )
                break
    elif months and any(len(date[4]) == 2 for date in map(month_date, stems) if date):
        yield f"dates in names like {stems[0]!r} are read as day, month and year"
    if len({_number_words(stem) for stem in stems}) > 1:
        yield f"the numbers in names like {stems[0]!r} are written in words, which do not affect the order"
    if _has_units(stems):
        yield f"the numbers in names like {stems[0]!r} have different units, which do not affect the order"


def _has_units(stems: Sequence[str]) -> bool:
    """Returns whether all names have numbers with units, and those at one place differ: 900us before 1ms."""
    units: dict[str, set[str]] = defaultdict(set)
    for stem in stems:
        if not _WITH_UNIT.search(stem):
            return False
        for found in _WITH_UNIT.finditer(stem):
            units[before_sign(found)].add(found[1])
    return any(len(each) > 1 for each in units.values())


def _number_words(stem: str) -> str:
    """Returns the characters of a name that denote numbers but are not digits, such as Chinese numerals."""
    if stem.isascii():
        return ""
    return "".join(sign for sign in stem if unicodedata.category(sign) == "Lo" and unicodedata.numeric(sign, False))


def _is_ascending(dates: Sequence[re.Match[str]]) -> bool:
    """Returns whether dates ascend, or are not dates: month above 12, day above 31, short years more than 1 apart."""
    days = [(int(date["y"]), int(date["m"]), int(date["d"])) for date in dates]
    years = {year for year, _, _ in days}
    are_dates = all(1 <= month <= 12 and 1 <= day <= 31 for _, month, day in days)
    if not are_dates or (max(years) < 100 and max(years) - min(years) > 1):
        return True
    return days == sorted(days)


def _within_a_run(stem: str, begin: int) -> bool:
    """Returns whether the digits belong to three or more numbers joined by dots, such as a version."""
    return any(run.start() <= begin < run.end() and len(re.findall(r"\d+", run[0])) > 2 for run in _RUN.finditer(stem))


def _signed_slots(stems: Sequence[str]) -> tuple[frozenset[str], list[str]]:
    """Returns the prefixes after which a minus is a sign: empty ones and those with numbers that pass 0; and doubts."""
    slots: dict[str, _Slot] = defaultdict(_Slot)
    for stem in stems:
        for number in re.finditer(r"\d+", stem):
            before = stem[: number.start()]
            slots[shape(before[:-1] if before.endswith(SIGNS) else before)].add(number)
    signed, doubts = set(), []
    for before, slot in slots.items():
        if not slot.minus or (before and (before[-1] == "#" or before.endswith(MINUS))):
            continue  # between two numbers, as in a date, it is a separator
        if not before or before.endswith(_OPENS):
            signed.add(before)
        elif slot.plain:
            is_sign, sure = slot.has_signs()
            signed.update([before] * is_sign)
            doubts += [] if sure else [_sign_doubt(slot.example, is_sign)]
        elif not before[-1].isalnum() and len(slot.minus) > 1:
            doubts.append(_sign_doubt(slot.example, is_sign=False))
    return frozenset(signed), doubts


def _sign_doubt(example: str, is_sign: bool) -> str:
    may_be, taken_for = ("separator", "sign") if is_sign else ("sign", "separator")
    return f"the minus in names like {example!r} may be a {may_be}; it is read as a {taken_for}"


@dataclass
class _Slot:
    """The numbers at one place in all names: those after a minus, and the others."""

    minus: list[Decimal] = field(default_factory=list)
    plain: list[Decimal] = field(default_factory=list)
    example: str = ""  # with a minus
    plus: bool = False
    padded: bool = False
    fraction: bool = False
    goes_on: bool = False  # like the 2 of take2-001, which take-001 lacks

    def add(self, number: re.Match[str]) -> None:
        stem, begin = number.string, number.start()
        after = re.match(r"[.,]\d+", stem[number.end() :])
        is_minus = stem[:begin].endswith(MINUS)
        (self.minus if is_minus else self.plain).append(Decimal(number[0] + (f".{after[0][1:]}" if after else "")))
        self.example = self.example or stem * is_minus
        self.plus |= stem[:begin].endswith("+")
        self.padded |= number[0][0] == "0" and len(number[0]) > 1
        self.fraction |= after is not None
        self.goes_on |= not is_minus and bool(re.match(r"[-\u2212]\d", stem[number.end() :]))

    def has_signs(self) -> tuple[bool, bool]:
        """Returns whether a minus is a sign, as in -1, 0, 1 but not in shot-1, shot2, and whether that is certain."""
        through_zero = 0 in self.plain and max(self.plain) > 0
        together, apart = (_evenness([[*minus, *self.plain]]) for minus in ([-n for n in self.minus], self.minus))
        if self.padded:
            is_sign = through_zero and together == 1
        else:
            is_sign = together == 1 or self.fraction or (through_zero and together >= apart)
        is_sign = self.plus or (is_sign and not self.goes_on)
        return is_sign, self.plus or (is_sign and through_zero and not self.padded)


def _decimal_slots(stems: Sequence[str], signed: frozenset[str]) -> tuple[frozenset[str], list[str]]:
    """Returns the prefixes after which a dot is a decimal point, and doubts about them."""
    slots: dict[str, list[_Dotted]] = defaultdict(list)
    for stem in stems:
        for dotted in _dotted_numbers(stem, signed):
            slots[dotted.before].append(dotted)
    decided = {before: _is_decimal(numbers) for before, numbers in slots.items()}
    doubts = [
        f"the dots in names like {_example(slots[before])!r} may be decimal points or separators; they are read "
        f"as {'decimal points' if decimal else 'separators'}"
        for before, (decimal, sure) in decided.items()
        if not sure
    ]
    return frozenset(before for before, (decimal, _) in decided.items() if decimal), doubts


def _dotted_numbers(stem: str, signed: frozenset[str]) -> Iterator[_Dotted]:
    for number in _NUMBER.finditer(stem):
        if number[2] is not None and number[3] is None and not _within_a_run(stem, number.start()):
            before = stem[: number.start()]
            if before.endswith(SIGNS) and shape(before[:-1]) in signed:
                before = before[:-1]
            yield _Dotted(shape(before), number[1], number[2])


def _is_decimal(numbers: Sequence[_Dotted]) -> tuple[bool, bool]:
    """Returns whether the dot in these numbers is a decimal point, and whether that is certain."""
    widths = {len(number.fraction) for number in numbers}
    if len(widths) == 1:
        return True, True  # both readings give the same order
    values = [Decimal(f"{number.whole}.{number.fraction}") for number in numbers]
    if len(set(values)) < len({(int(number.whole), number.fraction) for number in numbers}):
        return False, True  # 1.1 and 1.10 are different numbers
    # A counter that outgrows its zero padding has leading zeros only in its shortest numbers; decimals that programs
    # print end in 0 only as ".0".
    leads = any(number.fraction[0] == "0" and len(number.fraction) > min(widths) for number in numbers)
    trails = any(number.fraction[-1] == "0" and len(number.fraction) > 1 for number in numbers)
    if leads != trails:
        return leads, True
    counters: dict[str, list[Decimal]] = defaultdict(list)
    for number in numbers:
        counters[number.whole].append(Decimal(number.fraction))
    as_decimals, as_counters = _evenness([values]), _evenness(counters.values())
    if max(as_decimals, as_counters) <= 0.5:  # unevenly spaced, or too few to tell
        return True, not trails and len(numbers) > _MANY
    return as_decimals >= as_counters, as_decimals != as_counters


def _evenness(series: Iterable[Sequence[Decimal]]) -> float:
    """Returns the share of steps from one number to the next that equal the median step to within 1 %."""
    steps = [float(after - before) for values in series for before, after in pairwise(sorted(set(values)))]
    if len(steps) < 2:
        return 0.0
    usual = sorted(steps)[len(steps) // 2]
    return sum(abs(step - usual) <= 0.01 * usual for step in steps) / len(steps)


def _example(numbers: Sequence[_Dotted]) -> str:
    longest = max(numbers, key=lambda number: len(number.fraction))
    return f"{longest.before.replace('#', '0')}{longest.whole}.{longest.fraction}"
