"""How the fuzz tests run: a few inputs each in `make test`, always the same; many and others in `make fuzz`."""

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

LONG = os.environ.get("FUZZ_EXAMPLES")
"""How many inputs each test tries; not set in `make test`."""

TRIED: Counter[str] = Counter()
"""How many inputs this process has tried, by what reads them."""


def fuzzed(few: int = 80) -> Callable[[Any], Any]:
    """The settings of a fuzz test; `few` inputs in `make test`."""
    return settings(
        max_examples=int(LONG) if LONG else few,
        derandomize=not LONG,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
    )


PHONE = "+12025550101"
NASTY = (
    "", " ", "\0", "\x1b[31m", "\u202e", "\ufeff", "\ud800", "é", "🦊", '"', "'", "\\", "\r\n", "<script>", "=1+1",
    "%", "%00", "..", "../..", "0", "-1", "1e999", "NaN", "9" * 30, "true", "null", "[]", "{}", PHONE, "2026-11-28",
    "a" * 5000, "; DROP TABLE leads", "{{7*7}}", "${7}", "٣", "²",
)  # fmt: skip
"""Words that have broken readers before."""

texts = st.one_of(
    st.sampled_from(NASTY), st.text(max_size=40), st.lists(st.sampled_from(NASTY), max_size=4).map("".join)
)
numbers = st.one_of(
    st.integers(-(2**70), 2**70), st.floats(), st.sampled_from([0, 1, 2**31, 2**63 - 1, 2**63, 10**4000])
)


def json_values(*leaves: st.SearchStrategy[Any], names: tuple[str, ...] = ()) -> st.SearchStrategy[Any]:
    """Any JSON, with these names among the keys and these values among the leaves."""
    keys = st.one_of(st.sampled_from(names), texts) if names else texts
    return st.recursive(
        st.one_of(st.none(), st.booleans(), numbers, texts, *leaves),
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=5)),
        max_leaves=12,
    )


@st.composite
def mutated(draw: st.DrawFn, *documents: bytes) -> bytes:
    """One of these documents, with pieces cut out, doubled, moved or replaced."""
    content = bytearray(draw(st.sampled_from(documents)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        length = draw(st.integers(0, 12))
        replacement = draw(
            st.one_of(
                st.binary(max_size=8),
                st.sampled_from([word.encode("utf-8", "surrogatepass") for word in NASTY]),
                st.just(bytes(content[at : at + length]) * 2),
            )
        )
        content[at : at + length] = replacement
    return bytes(content)
