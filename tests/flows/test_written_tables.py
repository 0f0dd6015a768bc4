"""Tables of comparisons as files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image
from rich.table import Table

from data.ownership import own
from flows.comparison.written import latex, markdown, picture, write_tables


def table_of(*rows: tuple[str, str]) -> Table:
    table = Table(title="Labels")
    table.add_column("labels_of")
    table.add_column("mIoU")
    for row in rows:
        table.add_row(*row)
    table.caption = "in percent"
    return table


def test_markdown_and_latex_have_the_same_cells() -> None:
    table = table_of(("CAM & CRF", "48.3 ± 0.1"), ("IRNet", "66.5"))
    assert markdown(table) == (
        "Labels\n\n| labels_of | mIoU |\n| --- | --- |\n| CAM & CRF | 48.3 ± 0.1 |\n| IRNet | 66.5 |\n\nin percent\n"
    )
    assert latex(table) == (
        "% Labels; in percent\n\\begin{tabular}{lr}\n\\toprule\nlabels\\_of & mIoU \\\\\n\\midrule\n"
        "CAM \\& CRF & 48.3 $\\pm$ 0.1 \\\\\nIRNet & 66.5 \\\\\n\\bottomrule\n\\end{tabular}\n"
    )


def test_a_picture_shows_every_cell() -> None:
    short, long = (
        np.asarray(Image.open(io.BytesIO(picture([table_of(*rows)]))).convert("L"))
        for rows in ([("CAM", "1.0")], [("CAM", "1.0"), ("IRNet", "2.0")])
    )
    assert long.shape[0] > short.shape[0]
    assert (long < 128).sum() > (short < 128).sum() > 0
    other = np.asarray(Image.open(io.BytesIO(picture([table_of(("CAM", "9.0"))]))).convert("L"))
    assert (other != short).any()


def test_a_file_of_each_form_is_written(tmp_path: Path) -> None:
    with own(tmp_path / "out", "compare") as output:
        write_tables(tmp_path / "out", {"irnet": [table_of(("CAM", "1.0")), table_of(("IRNet", "2.0"))]}, output)
    assert {file.name for file in (tmp_path / "out").glob("irnet.*")} == {"irnet.md", "irnet.tex", "irnet.png"}
    assert (tmp_path / "out" / "irnet.md").read_text().count("in percent") == 2
