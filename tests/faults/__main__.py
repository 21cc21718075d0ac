"""`script/faults`: plays the fault matrix, or the cases that are named, and tells what came of it by kind."""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context

import click
from rich.console import Console
from rich.table import Table

from tests.faults.cases import all_cases, matching, sample
from tests.faults.running import Told, grouped, play_by_ids


@dataclass
class Tally:
    """The cases of a kind."""

    case_count: int = 0
    list_count: int = 0
    verdict_count: int = 0
    error_count: int = 0
    wrong: list[Told] = field(default_factory=list)

    def add(self, told: Told) -> None:
        self.case_count += 1
        self.list_count += sum(told.lists)
        self.verdict_count += sum(told.verdicts)
        self.error_count += [*told.lists, *told.verdicts].count(False)
        if told.problems:
            self.wrong.append(told)


def _show(tallies: dict[str, Tally], took_s: float) -> None:
    table = Table(title=f"The fault matrix, {took_s:.0f} s", title_justify="left")
    table.add_column("kind")
    for name in ("cases", "complete lists", "right verdicts", "errors", "wrong"):
        table.add_column(name, justify="right")
    total = Tally()
    for kind, tally in tallies.items():
        table.add_row(kind, *_numbers(tally))
        total.case_count += tally.case_count
        total.list_count += tally.list_count
        total.verdict_count += tally.verdict_count
        total.error_count += tally.error_count
        total.wrong += tally.wrong
    table.add_section()
    table.add_row("all", *_numbers(total))
    Console(width=None if sys.stdout.isatty() else 100, highlight=False).print(table)
    for told in total.wrong:
        click.echo(f"\n{told.id}")
        for problem in told.problems:
            click.echo(f"    {problem}")
    if total.wrong:
        click.echo(f"\n{len(total.wrong)} cases went wrong. One of them alone: script/faults '{total.wrong[0].id}'")


def _numbers(tally: Tally) -> list[str]:
    counts = (tally.case_count, tally.list_count, tally.verdict_count, tally.error_count, len(tally.wrong))
    return [f"{count:,}" for count in counts]


@click.command()
@click.argument("patterns", nargs=-1)
@click.option("--list", "only_list", is_flag=True, help="Only name the cases.")
@click.option(
    "--sample", "sample_count", type=click.IntRange(1), help="Play about so many of them, always the same ones."
)
@click.option("--processes", default=os.cpu_count() or 1, show_default=True, help="How many work at the same time.")
def main(patterns: tuple[str, ...], sample_count: int | None, processes: int, *, only_list: bool) -> None:
    """Play the fault matrix, or the cases whose id is or holds one of PATTERNS, or matches it (`*`)."""
    cases = matching(all_cases(), patterns)
    if not cases:
        raise click.ClickException("no case has such an id; --list names them")
    if sample_count is not None:
        cases = sample(cases, sample_count)
    if only_list:
        click.echo("\n".join(case.id for case in cases))
        return
    tallies = {case.kind: Tally() for case in cases}
    began_s, played_count = time.monotonic(), 0
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        groups: list[Future[list[Told]]] = [
            pool.submit(play_by_ids, [case.id for case in group]) for group in grouped(cases)
        ]
        for done in as_completed(groups):
            for told in done.result():
                tallies[told.kind].add(told)
                played_count += 1
            if sys.stderr.isatty():
                wrong_count = sum(len(tally.wrong) for tally in tallies.values())
                click.echo(f"\r{played_count:,} of {len(cases):,} cases, {wrong_count} wrong", nl=False, err=True)
    if sys.stderr.isatty():
        click.echo("\r\033[K", nl=False, err=True)
    _show(tallies, time.monotonic() - began_s)
    sys.exit(1 if any(tally.wrong for tally in tallies.values()) else 0)


if __name__ == "__main__":
    main()
