"""Tables: in columns where they fit the terminal, a block of lines for each row where they don't, records in a pipe."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bridge.cli.output import is_terminal, write, write_record
from bridge.syntax.controls import escape_controls

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Row = Sequence[str | tuple[str, ...]]

_PROSE_MIN_WIDTH = 24
_BLOCK_MIN_WIDTH = 16
_INDENT = "  "
_GAP_WIDTH = 2


@dataclass(frozen=True, slots=True)
class Column:
    """What a table says of each row; a cell is a value, or several values."""

    title: str
    is_prose: bool = False
    """Whether the values are sentences, which may go on in the next line; other values are never broken."""
    styles: Mapping[str, str] = field(default_factory=dict)
    """The colours of values."""


def show_table(columns: Sequence[Column], rows: Sequence[Row], *, title: str = "", kind: str | None = None) -> None:
    """Print the rows; in a pipe each is a record, which begins with `kind`, without title and heads."""
    if not is_terminal():
        for row in rows:
            values = [" ".join(cell) if isinstance(cell, tuple) else cell for cell in row]
            write_record(*([kind] if kind is not None else []), *values)
        return
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    cells = [[_lines_of(cell) for cell in row] for row in rows]
    with console.capture() as captured:
        if title:
            console.print(Text(escape_controls(title), "italic"), soft_wrap=True)
        if _needed_width(columns, cells) <= console.width:
            console.print(_make_table(columns, cells))
        else:
            for row_lines in cells:
                _print_block(console, columns, row_lines)
    write(captured.get())


def _lines_of(cell: str | tuple[str, ...]) -> list[str]:
    return [escape_controls(value) for value in (cell if isinstance(cell, tuple) else (cell,)) if value]


def _needed_width(columns: Sequence[Column], cells: Sequence[Sequence[list[str]]]) -> int:
    """How many columns of the terminal the table takes at the least."""
    widths = []
    for position, column in enumerate(columns):
        texts = [column.title, *(line for row in cells for line in row[position])]
        if column.is_prose:
            widths.append(max(_PROSE_MIN_WIDTH, *map(_widest_word, texts)))
        else:
            widths.append(max(map(cell_len, texts)))
    return sum(widths) + _GAP_WIDTH * (len(columns) - 1)


def _make_table(columns: Sequence[Column], cells: Sequence[Sequence[list[str]]]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, _GAP_WIDTH - 1, 0, 0))
    for column in columns:
        min_width = _PROSE_MIN_WIDTH if column.is_prose else None
        table.add_column(column.title, no_wrap=not column.is_prose, overflow="fold", min_width=min_width)
    for row in cells:
        table.add_row(*(_styled(column, "\n".join(lines)) for column, lines in zip(columns, row, strict=True)))
    return table


def _styled(column: Column, text: str) -> Text:
    return Text(text, column.styles.get(text, ""))


def _print_block(console: Console, columns: Sequence[Column], row: Sequence[list[str]]) -> None:
    """Print a row as lines that are as long as their values: to break these is left to the terminal."""
    for position, (column, values) in enumerate(zip(columns, row, strict=True)):
        for number, value in enumerate(values):
            label = Text.assemble(("" if number else f"{column.title}: ", "dim"))  # dim is the label alone
            lines = [label.append_text(_styled(column, value))]
            if column.is_prose:
                width = max(console.width - 2 * len(_INDENT), _BLOCK_MIN_WIDTH, _widest_word(value))
                lines = list(lines[0].wrap(console, width))
            for line_number, line in enumerate(lines):
                line.rstrip()
                indent = _INDENT * (bool(position) + bool(number or line_number))
                console.print(Text(indent).append_text(line), soft_wrap=True)


def _widest_word(text: str) -> int:
    return max(map(cell_len, text.split(" ")))
