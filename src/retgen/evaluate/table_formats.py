"""A laid-out table as Markdown, LaTeX or HTML, with each format's own escaping.

What the cells say (rounding, which is best, where a value is missing) is decided in `retgen.evaluate.table`.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

_MISSING = "–"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: a text as it is shown, unescaped.

    Args:
        text: the value; empty where there is none.
        std: the standard deviation behind ±; empty where there is none.
        marks: footnote marks, e.g. ``"†‡"``.
        best: shown in bold.
    """

    text: str
    std: str = ""
    marks: str = ""
    best: bool = False


@dataclass(frozen=True, slots=True)
class SectionLine:
    """A labelled separator between rows."""

    label: str


@dataclass(frozen=True, slots=True)
class RowLine:
    """A row: its name and one cell per column."""

    name: Cell
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """A table as it is shown.

    Args:
        corner: header of the column of names.
        headers: of the other columns.
        aligns: ``"left"`` or ``"right"``, one per header.
        lines: rows and separators, top to bottom.
        caption: above the table; may be empty.
        label: LaTeX label; may be empty.
        footnotes: mark and text.
    """

    corner: str
    headers: tuple[str, ...]
    aligns: tuple[str, ...]
    lines: tuple[SectionLine | RowLine, ...]
    caption: str
    label: str
    footnotes: tuple[tuple[str, str], ...]


# --- Markdown ---------------------------------------------------------------------------------------------------------

_MARKDOWN_SPECIAL = re.compile(r"([\\`*_|<>\[\]~])")


def markdown(layout: Layout) -> str:
    """A GitHub-flavoured Markdown table, its columns padded so that the source reads as a table too."""
    grid = [[layout.corner, *layout.headers]]
    grid[0] = [_markdown_text(header) for header in grid[0]]
    for line in layout.lines:
        if isinstance(line, SectionLine):
            grid.append([f"*{_markdown_text(line.label)}*", *[""] * len(layout.headers)])
        else:
            grid.append([_markdown_cell(cell, missing="") for cell in (line.name,)])
            grid[-1].extend(_markdown_cell(cell) for cell in line.cells)
    widths = [max(3, *(len(row[column]) for row in grid)) for column in range(len(grid[0]))]
    aligns = ("left", *layout.aligns)
    rule = [
        "-" * (width - 1) + ":" if align == "right" else ":" + "-" * (width - 1)
        for width, align in zip(widths, aligns, strict=True)
    ]
    lines = [_markdown_line(grid[0], widths, aligns), "| " + " | ".join(rule) + " |"]
    lines += [_markdown_line(row, widths, aligns) for row in grid[1:]]
    if layout.caption:
        lines = [f"**{_markdown_text(layout.caption)}**", "", *lines]
    if layout.footnotes:
        notes = [f"{_markdown_text(mark)} {_markdown_text(text)}" for mark, text in layout.footnotes]
        lines += ["", "  \n".join(notes)]
    return "\n".join(lines) + "\n"


def _markdown_line(row: list[str], widths: list[int], aligns: tuple[str, ...]) -> str:
    cells = [
        text.rjust(width) if align == "right" else text.ljust(width)
        for text, width, align in zip(row, widths, aligns, strict=True)
    ]
    return "| " + " | ".join(cells) + " |"


def _markdown_cell(cell: Cell, missing: str = _MISSING) -> str:
    text = _markdown_text(cell.text) or missing
    if cell.best:
        text = f"**{text}**"
    if cell.std:
        text += f" ± {_markdown_text(cell.std)}"
    return text + _markdown_text(cell.marks)


def _markdown_text(text: str) -> str:
    return _MARKDOWN_SPECIAL.sub(r"\\\1", _one_line(text))


# --- LaTeX ------------------------------------------------------------------------------------------------------------

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
    "—": "---",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    "§": r"\S{}",
    "¶": r"\P{}",
}


def latex(layout: Layout) -> str:
    """A LaTeX ``table`` with ``booktabs`` rules."""
    columns = "l" + "".join("r" if align == "right" else "l" for align in layout.aligns)
    width = len(columns)
    lines = [r"% needs \usepackage{booktabs}", r"\begin{table}", r"\centering"]
    if layout.caption:
        lines.append(rf"\caption{{{_latex_text(layout.caption)}}}")
    if layout.label:
        lines.append(rf"\label{{{layout.label}}}")
    header = " & ".join(_latex_text(text) for text in (layout.corner, *layout.headers))
    lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", header + r" \\", r"\midrule"]
    for number, line in enumerate(layout.lines):
        if isinstance(line, SectionLine):
            if number:
                lines.append(r"\midrule")
            lines.append(rf"\multicolumn{{{width}}}{{l}}{{\textit{{{_latex_text(line.label)}}}}} \\")
        else:
            cells = [_latex_cell(line.name, missing=""), *map(_latex_cell, line.cells)]
            lines.append(" & ".join(cells) + r" \\")
    lines.append(r"\bottomrule")
    for mark, text in layout.footnotes:
        note = rf"\textsuperscript{{{_latex_text(mark)}}} {_latex_text(text)}"
        lines.append(rf"\multicolumn{{{width}}}{{l}}{{\footnotesize {note}}} \\")
    lines += [r"\end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def _latex_cell(cell: Cell, missing: str = _MISSING) -> str:
    text = _latex_text(cell.text or missing)
    if cell.best:
        text = rf"\textbf{{{text}}}"
    if cell.std:
        text += rf" $\pm$ {_latex_text(cell.std)}"
    if cell.marks:
        text += rf"\textsuperscript{{{_latex_text(cell.marks)}}}"
    return text


def _latex_text(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in _one_line(text))


# --- HTML -------------------------------------------------------------------------------------------------------------


def html_table(layout: Layout) -> str:
    """An HTML ``table`` with a ``tbody`` per section and footnotes in ``tfoot``."""
    lines = ["<table>"]
    if layout.caption:
        lines.append(f"<caption>{_html_text(layout.caption)}</caption>")
    headers = [f'<th scope="col" style="text-align: left">{_html_text(layout.corner)}</th>']
    headers += [
        f'<th scope="col" style="text-align: {align}">{_html_text(header)}</th>'
        for header, align in zip(layout.headers, layout.aligns, strict=True)
    ]
    lines += ["<thead>", f"<tr>{''.join(headers)}</tr>", "</thead>", "<tbody>"]
    width = len(headers)
    for number, line in enumerate(layout.lines):
        if isinstance(line, SectionLine):
            if number:
                lines += ["</tbody>", "<tbody>"]
            lines.append(f'<tr><th colspan="{width}" scope="rowgroup">{_html_text(line.label)}</th></tr>')
        else:
            name = f'<th scope="row" style="text-align: left">{_html_cell(line.name, missing="")}</th>'
            cells = [
                f'<td style="text-align: {align}">{_html_cell(cell)}</td>'
                for cell, align in zip(line.cells, layout.aligns, strict=True)
            ]
            lines.append(f"<tr>{name}{''.join(cells)}</tr>")
    lines.append("</tbody>")
    if layout.footnotes:
        notes = "<br>".join(f"<sup>{_html_text(mark)}</sup> {_html_text(text)}" for mark, text in layout.footnotes)
        lines += ["<tfoot>", f'<tr><td colspan="{width}">{notes}</td></tr>', "</tfoot>"]
    lines.append("</table>")
    return "\n".join(lines) + "\n"


def _html_cell(cell: Cell, missing: str = _MISSING) -> str:
    text = _html_text(cell.text or missing)
    if cell.best:
        text = f"<strong>{text}</strong>"
    if cell.std:
        text += f" ± {_html_text(cell.std)}"
    if cell.marks:
        text += f"<sup>{_html_text(cell.marks)}</sup>"
    return text


def _html_text(text: str) -> str:
    return html.escape(_one_line(text))


def _one_line(text: str) -> str:
    return " ".join(text.split())
