"""Counters and histograms that cost little to count, and are made into Prometheus' families when they are asked for.

prometheus_client's own take a lock and look through the buckets for each event, of which a login makes four. Here the
event loop is the only one that counts. Knows nothing of events.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import Histogram
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client import CollectorRegistry

_BOUNDS_S = Histogram.DEFAULT_BUCKETS
"""The upper bounds, the last of which is infinite."""


class Counts(Collector):
    """How often something happened, by labels."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self._name, self._documentation, self._labels = name, documentation, labels
        self._counts: dict[tuple[str, ...], int] = {}
        registry.register(self)

    def count(self, *labels: str) -> None:
        """It happened once more."""
        self._counts[labels] = self._counts.get(labels, 0) + 1

    def collect(self) -> Iterator[CounterMetricFamily]:
        """The family with a series for each set of labels."""
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        for labels, count in self._counts.items():
            family.add_metric(labels, count)
        yield family


class Durations(Collector):
    """How long something took, by labels, in the buckets of prometheus_client."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self._name, self._documentation, self._labels = name, documentation, labels
        self._buckets: dict[tuple[str, ...], list[int]] = {}
        self._sums_s: dict[tuple[str, ...], float] = {}
        registry.register(self)

    def observe(self, duration_s: float, *labels: str) -> None:
        """It took so long once more."""
        buckets = self._buckets.get(labels)
        if buckets is None:
            buckets = self._buckets[labels] = [0] * len(_BOUNDS_S)
            self._sums_s[labels] = 0.0
        buckets[bisect_left(_BOUNDS_S, duration_s)] += 1
        self._sums_s[labels] += duration_s

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """The family with the buckets for each set of labels."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        for labels, buckets in self._buckets.items():
            bounds = ("+Inf" if bound == float("inf") else str(bound) for bound in _BOUNDS_S)
            cumulative = list(zip(bounds, accumulate(buckets), strict=True))
            family.add_metric(labels, buckets=cumulative, sum_value=self._sums_s[labels])
        yield family
