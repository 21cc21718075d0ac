"""`script/bench`: fills a directory, measures everything in one run, prints the table, writes the JSON."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

import orjson
import trustme
from rich.console import Console

from benchmarks import measures
from benchmarks.figures import describe, describe_machine, make_table
from benchmarks.people import make_entries
from tests.support.slapd import Slapd

_BYTES_PER_PERSON = 6000
"""Of database: slapd's mdb takes some 3 KB for each with its indexes."""


def main() -> None:
    """Measures, and ends with 1 where a goal is not met and --strict is given."""
    options = _parse(sys.argv[1:])
    console = Console(stderr=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(measures.make_folder()))
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        certificate = authority.issue_cert("127.0.0.1")
        certificate.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
        certificate.private_key_pem.write_to_path(str(folder / "key.pem"))

        def start(people: int) -> measures.Run:
            console.print(f"Filling slapd with {people:,} people …")
            server = Slapd(
                folder / f"slapd-{people}",
                make_entries(people),
                log_level="0",
                size_limit_bytes=max(1 << 28, people * _BYTES_PER_PERSON),
                certificate=(folder / "cert.pem", folder / "key.pem"),
            )
            stack.enter_context(server)
            return measures.Run(folder, server, folder / "ca.pem", people, options.rounds, options.load_s)

        run, smaller = start(options.people), start(options.people // 10)
        for measure in _PARTS:
            if options.only and options.only not in measure.__name__:
                continue
            console.print(f"{(measure.__doc__ or '').splitlines()[0]} …")
            measure(run)
        if not options.only or options.only in "growth":
            measures.measure_growth(run, smaller)
            if options.huge:
                huge = start(10 * options.people)
                measures.measure_growth(huge, run)
                run.figures += huge.figures
                run.samples |= {f"{name}, {huge.people:,} people": found for name, found in huge.samples.items()}
    _report(run, options.json)


_PARTS = (
    measures.measure_cold_listings,
    measures.measure_warm_listings,
    measures.measure_logins,
    measures.measure_latency,
    measures.measure_logins_while_listing,
    measures.measure_start,
)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__)
    parser.add_argument("--people", type=int, default=100_000, help="in the directory (default: 100000)")
    parser.add_argument("--quick", action="store_true", help="fewer people and shorter loads, under two minutes")
    parser.add_argument("--huge", action="store_true", help="ten times the people as well")
    parser.add_argument("--only", metavar="WORD", help="only the parts with this word: listings, logins, latency, …")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), help="where the figures go (bench.json)")
    options = parser.parse_args(arguments)
    options.rounds, options.load_s = 5, 1 if options.quick else 3
    if options.quick:
        options.people = min(options.people, 20_000)
    return options


def _report(run: measures.Run, file: Path) -> None:
    file.write_bytes(orjson.dumps(describe(run.figures, run.samples, run.people), option=orjson.OPT_INDENT_2))
    machine = describe_machine()
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(
        f"{run.people:,} people; {machine['processor_count']} processors {machine['processor']}, {machine['system']}, "
        f"Python {machine['python']}"
    )
    console.print(make_table(run.figures))
    unmet_count = sum(figure.is_met is False for figure in run.figures)
    with_goal_count = sum(figure.is_met is not None for figure in run.figures)
    console.print(f"{with_goal_count - unmet_count} of {with_goal_count} goals are met; everything is in {file}.")


main()
