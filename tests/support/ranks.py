"""Whether two samples look as if they came from one distribution: the test of Mann and Whitney."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence


def mann_whitney_p(first: Sequence[float], second: Sequence[float]) -> float:
    """The two-sided p-value by the normal approximation, corrected for ties and for continuity."""
    count, other_count = len(first), len(second)
    all_count = count + other_count
    ranks: dict[float, float] = {}
    position, ties = 0, 0
    for value, times in sorted(Counter([*first, *second]).items()):
        ranks[value] = position + (times + 1) / 2
        position += times
        ties += times**3 - times
    wins = sum(ranks[value] for value in first) - count * (count + 1) / 2
    expected = count * other_count / 2
    variance = count * other_count / 12 * (all_count + 1 - ties / (all_count * (all_count - 1)))
    deviation = max(0.0, abs(wins - expected) - 0.5) / math.sqrt(variance)
    return math.erfc(deviation / math.sqrt(2))
