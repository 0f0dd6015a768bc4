"""Tables as files: Markdown for a page of documentation, LaTeX for a paper, PNG for a slide."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from data.files import atomic_write
from data.ownership import Output

SUFFIXES = ("md", "tex", "png")
CAPTION_WIDTH = 100
ESCAPED = {"%": r"\%", "&": r"\&", "_": r"\_", "#": r"\#", "±": r"$\pm$"}


def write_tables(folder: Path, tables: Mapping[str, Sequence[Table]], output: Output) -> None:
    """Write tables into a folder, as `NAME.md`, `NAME.tex` and `NAME.png`.

    Args:
        tables: Name -> tables of one file.

    Raises:
        ArtifactError: A file of that name is not the command's.
    """
    output.claim(f"{name}.{suffix}" for name in tables for suffix in SUFFIXES)
    for name, each in tables.items():
        atomic_write(folder / f"{name}.md", "\n".join(map(markdown, each)))
        atomic_write(folder / f"{name}.tex", "\n".join(map(latex, each)))
        atomic_write(folder / f"{name}.png", picture(each))


def markdown(table: Table) -> str:
    """Return a table for a page of documentation, with its caption."""
    head, *cells = _lines(table)
    lines = [head, ["---"] * len(head), *cells]
    body = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"{table.title}\n\n{body}\n{table.caption}\n"


def latex(table: Table) -> str:
    """Return a table for a paper, in the commands of booktabs."""
    head, *cells = ([_escaped(cell) for cell in line] for line in _lines(table))
    body = "".join(f"{' & '.join(line)} \\\\\n" for line in cells)
    rules = f"\\toprule\n{' & '.join(head)} \\\\\n\\midrule\n{body}\\bottomrule"
    kinds = "l" + "r" * (len(head) - 1)
    return f"% {table.title}; {table.caption}\n\\begin{{tabular}}{{{kinds}}}\n{rules}\n\\end{{tabular}}\n"


def picture(tables: Sequence[Table]) -> bytes:
    """Return a PNG of tables, one below the other."""
    # Only who writes a table waits for it.
    from matplotlib.figure import Figure

    captions = [textwrap.fill(str(table.caption), CAPTION_WIDTH) for table in tables]
    heights = [
        2.5 + table.row_count + 0.8 * caption.count("\n") for table, caption in zip(tables, captions, strict=True)
    ]
    widest = max(sum(map(_width, zip(*_lines(table), strict=True))) for table in tables)
    figure = Figure(figsize=(max(6.0, 0.095 * widest), 0.32 * sum(heights)), layout="constrained")
    all_axes = figure.subplots(len(tables), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, table, caption in zip(all_axes, tables, captions, strict=True):
        lines = _lines(table)
        widths = [_width(column) for column in zip(*lines, strict=True)]
        drawn = axes.table(
            cellText=lines[1:],
            colLabels=lines[0],
            cellLoc="right",
            colLoc="right",
            colWidths=[width / sum(widths) for width in widths],
            bbox=(0, 0, 1, 1),
            edges="horizontal",
        )
        drawn.auto_set_font_size(False)
        drawn.set_fontsize(9)
        for (row, column), cell in drawn.get_celld().items():
            cell.PAD = 0.02
            if column == 0:
                cell.set_text_props(ha="left")
            if row == 0:
                cell.set_text_props(weight="bold")
        axes.set_axis_off()
        axes.set_title(str(table.title), loc="left", fontsize=10)
        axes.text(0, -0.02, caption, transform=axes.transAxes, va="top", fontsize=7.5)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=150)
    return stream.getvalue()


def _lines(table: Table) -> list[list[str]]:
    """Return the titles of the columns, and the cells of every row."""
    columns = ([str(cell) for cell in column.cells] for column in table.columns)
    return [[str(column.header) for column in table.columns], *map(list, zip(*columns, strict=True))]


def _width(column: Sequence[str]) -> int:
    return max(map(len, column)) + 2


def _escaped(cell: str) -> str:
    return "".join(ESCAPED.get(sign, sign) for sign in cell)
