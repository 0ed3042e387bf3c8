"""Tables and a progress bar with rich on a terminal; plain lines in a file or a pipe, and where
rich is not installed."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastact.bench.report import Table

__all__ = ["Screen"]

NARROWEST = 112
"""What the table with all libraries needs."""


class Screen:
    """Where a run reports to: standard output for results, standard error for progress."""

    def __init__(self) -> None:
        rich = importlib.util.find_spec("rich") is not None
        self._out = self._console(False) if rich and sys.stdout.isatty() else None
        self._err = self._console(True) if rich and sys.stderr.isatty() else None

    @staticmethod
    def _console(stderr: bool) -> Any:
        rich: Any = importlib.import_module("rich.console")
        console = rich.Console(stderr=stderr, highlight=False)
        # in a narrow terminal wrapped lines are ugly, but a cut table is worse
        console.width = max(console.width, NARROWEST)
        return console

    def line(self, text: str) -> None:
        if self._out is not None:
            self._out.print(text, markup=False, soft_wrap=True)
        else:
            print(text, flush=True)

    def table(self, table: Table) -> None:
        if self._out is not None:
            self._rich_table(self._out, table)
        else:
            self._plain_table(table)

    def _rich_table(self, out: Any, table: Table) -> None:
        box = importlib.import_module("rich.box").SIMPLE_HEAD
        drawn = importlib.import_module("rich.table").Table(
            box=box,
            pad_edge=False,
            padding=(0, 1, 0, 0),
        )
        for column, name in enumerate(table.header):
            drawn.add_column(
                name,
                justify="left" if column == 0 else "right",
                no_wrap=True,
                style="bold" if name == "fastact" else "",
            )
        for i, row in enumerate(table.rows):
            drawn.add_row(*row, style="red" if i in table.behind else "")
        # beside the table and not as parts of it: there they would be wrapped at its width
        out.print(f"\n[italic]{table.title}[/]", soft_wrap=True)
        out.print(drawn)
        if table.footer:
            out.print(f"[dim]{table.footer}[/]", soft_wrap=True)

    def _plain_table(self, table: Table) -> None:
        widths = [max(map(len, column)) for column in zip(table.header, *table.rows, strict=True)]
        print(f"\n{table.title}")
        for row in (table.header, *table.rows):
            cells = [
                row[0].ljust(widths[0]),
                *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)),
            ]
            print("  ".join(cells).rstrip())
        if table.footer:
            print(table.footer)
        print(flush=True)

    @contextmanager
    def progress(self, steps: int) -> Iterator[Callable[[str], None]]:
        """A function to call with what comes next, once a step."""
        if self._err is None:
            done = 0

            def announce(text: str) -> None:
                nonlocal done
                done += 1
                print(f"[{done}/{steps}] {text}", file=sys.stderr, flush=True)

            yield announce
            return
        rich: Any = importlib.import_module("rich.progress")
        columns = (
            rich.TextColumn("{task.description:32}"),
            rich.BarColumn(),
            rich.MofNCompleteColumn(),
            rich.TimeElapsedColumn(),
            rich.TimeRemainingColumn(),
        )
        with rich.Progress(*columns, console=self._err, transient=True) as bar:
            task = bar.add_task("importing", total=steps)
            started = False

            def advance(text: str) -> None:
                nonlocal started
                bar.update(task, description=text, advance=1 if started else 0)
                started = True

            yield advance
