"""Figures: what was measured in rounds, the ratio that counts, its goal, and the table and the JSON of a run."""

from __future__ import annotations

import os
import platform
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Samples = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Figure:
    """A line of the table."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    at_least: bool = False
    """Whether more is better."""
    detail: str = ""

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is met; None where there is none."""
        if self.goal is None:
            return None
        return self.value >= self.goal if self.at_least else self.value <= self.goal


def interleave(rounds: int, contenders: Mapping[str, Callable[[], float]]) -> Samples:
    """What each contender took, in rounds in which each has its turn: a noisy minute strikes all of them."""
    samples: Samples = {name: [] for name in contenders}
    for number in range(rounds):
        names = list(contenders)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            samples[name].append(contenders[name]())
    return samples


def median_ratio(samples: Samples, name: str, other: str) -> float:
    """The median of one over the median of the other."""
    return statistics.median(samples[name]) / statistics.median(samples[other])


def compare(title: str, samples: Samples, ours: str, *, unit: str, against: Mapping[str, float | None]) -> list[Figure]:
    """Our median over each other's; `against` has the goals. What is counted per second should be more, not less."""
    at_least = unit.endswith("/s")
    found = []
    for other, goal in against.items():
        medians = [statistics.median(samples[name]) for name in (ours, other)]
        detail = f"{_number(medians[0])} {unit} against {_number(medians[1])}"
        ratio = median_ratio(samples, ours, other)
        found.append(Figure(f"{title} / {other}", ratio, "x", goal, at_least=at_least, detail=detail))
    return found


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004


def make_table(figures: list[Figure]) -> Table:
    """The figures beside their goals."""
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("What", "Measured", "Goal", "", "Detail"):
        table.add_column(title, justify="right" if title in ("Measured", "Goal") else "left", no_wrap=title != "Detail")
    for figure in figures:
        sign = "≥" if figure.at_least else "≤"
        goal = "" if figure.goal is None else f"{sign} {figure.goal:g} {figure.unit}"
        met = {None: "", True: "[green]met[/]", False: "[red]not met[/]"}[figure.is_met]
        table.add_row(figure.name, f"{_number(figure.value)} {figure.unit}", goal, met, figure.detail)
    return table


def describe(figures: list[Figure], raw: Mapping[str, Samples], people: int) -> dict[str, object]:
    """A run in the shape that machines read."""
    return {
        "machine": describe_machine(),
        "people": people,
        "figures": [{**asdict(figure), "met": figure.is_met} for figure in figures],
        "samples": raw,
    }


def describe_machine() -> dict[str, object]:
    """What the run was made on."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": models[0].partition(":")[2].strip() if models else platform.processor(),
        "processor_count": len(os.sched_getaffinity(0)),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
