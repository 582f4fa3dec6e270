"""What every parser is held to, and how valid files are made invalid."""

import os
import struct
import zlib

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from mnemask.errors import MnemaskError

# FUZZ_EXAMPLES=5000 pytest tests/fuzz looks for an hour where CI looks for seconds, and elsewhere each time.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "40"))
bounded = settings(
    max_examples=EXAMPLES,
    derandomize=EXAMPLES <= 40,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)

few = settings(bounded, max_examples=max(1, EXAMPLES // 8))  # where each takes a whole network


def outcome(action):
    """What the action gives, or None where it refuses in one sentence; whatever else it raises is a finding."""
    try:
        return action()
    except MnemaskError as error:
        sentence = str(error)
        assert 10 < len(sentence) < 3000, f"{len(sentence)} characters: {sentence[:200]}"
        assert sentence.isprintable(), f"not one line of plain text: {sentence[:200]!r}"
        return None


def mutations(whole):
    """Strategy for the bytes of a valid file with a few of them changed, cut out, repeated or added."""

    def changed(steps):
        data = bytearray(whole)
        for where, kind, junk in steps:
            at = int(where * len(data))
            if kind == "overwrite":
                data[at : at + len(junk)] = junk
            elif kind == "insert":
                data[at:at] = junk
            elif kind == "cut":
                del data[at : at + 7 * len(junk)]
            elif kind == "repeat":
                data[at:at] = data[at : at + 5 * len(junk)]
            else:
                del data[at:]
        return bytes(data)

    kinds = st.sampled_from(["overwrite", "overwrite", "overwrite", "insert", "cut", "repeat", "end"])
    step = st.tuples(st.floats(0, 0.999), kinds, st.binary(min_size=1, max_size=9))
    return st.lists(step, min_size=1, max_size=4).map(changed)


def with_right_checksums(png):
    """The bytes of a damaged PNG with each chunk's checksum made right, so that the damage gets past it."""
    out, at = bytearray(png[:8]), 8
    while at + 12 <= len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        chunk = png[at + 4 : at + 8 + length]
        out += png[at : at + 4] + chunk + struct.pack(">I", zlib.crc32(chunk))
        at += 12 + length
    return bytes(out)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 70_000),
    st.sampled_from([-(2**31), 2**31, 2**62, 2**63, 2**64, 10**30, -(10**30)]),
    st.floats(),
    st.text(max_size=12),
)
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)
"""Strategy for whatever JSON can say, NaN and Infinity, as Python writes them, included."""


def places(tree, path=()):
    """Every place in nested dictionaries and lists, as the keys that lead to it."""
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    found = [path] if path else []
    for key, value in inside:
        found += places(value, (*path, key))
    return found


def garbled(tree):
    """Strategy for a copy of nested JSON values with a few of them replaced or taken out."""

    def changed(steps):
        copy = _copied(tree)
        for path, value, gone in steps:
            parent = copy
            try:
                for key in path[:-1]:
                    parent = parent[key]
                if gone:
                    del parent[path[-1]]
                else:
                    parent[path[-1]] = value
            except (TypeError, KeyError, IndexError):  # an earlier step has replaced what this one is about
                continue
        return copy

    step = st.tuples(st.sampled_from(places(tree)), anything, st.booleans())
    return st.lists(step, min_size=1, max_size=3).map(changed)


def _copied(tree):
    if isinstance(tree, dict):
        return {key: _copied(value) for key, value in tree.items()}
    return [_copied(value) for value in tree] if isinstance(tree, list | tuple) else tree
