"""A table of results: rows of systems, columns of measures, mean ± std, the best in bold, marks and footnotes.

A `Table` holds numbers; what is shown is laid out once (`Table.layout`) and written by `retgen.evaluate.table_formats`.
The same table always gives the same text.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from retgen.errors import FormatError, UsageError
from retgen.evaluate.table_formats import Cell, Layout, RowLine, SectionLine, html_table, latex, markdown
from retgen.evaluate.table_parts import Column, Row, Section, Value, best_shown, number_of, plain_value, shown
from retgen.store import write_atomic


@dataclass(slots=True)
class Table:
    """A table of results.

    Args:
        columns: of measures; a text stands for a column of that key.
        lines: rows and sections, top to bottom; or use `add_row` and `add_section`.
        caption: above the table.
        footnotes: mark → text, in the order they are shown.
        corner: header of the column of names.
        label: LaTeX label.
        best_within: whether "best" is sought in the whole table or in each section.

    Raises:
        UsageError: no columns, or a key twice.

    Example:
        >>> table = Table(["R@1", "EM"], caption="SQuAD", footnotes={"†": "p < .05"})
        >>> table.add_row(Row("BM25", {"R@1": 0.787, "EM": None}))
        >>> table.add_row(Row("UniGen", {"R@1": 0.78, "EM": 0.318}, std={"EM": 0.004}, marks={"EM": "†"}))
        >>> print(table.to_markdown())
        **SQuAD**
        <BLANKLINE>
        | System |       R@1 |             EM |
        | :----- | --------: | -------------: |
        | BM25   | **0.787** |              – |
        | UniGen |     0.780 | 0.318 ± 0.004† |
        <BLANKLINE>
        † p \\< .05
        <BLANKLINE>
    """

    columns: Sequence[Column | str]
    lines: list[Row | Section] = field(default_factory=list)
    caption: str = ""
    footnotes: Mapping[str, str] = field(default_factory=dict)
    corner: str = "System"
    label: str = ""
    best_within: Literal["table", "section"] = "table"

    def __post_init__(self) -> None:
        self.columns = [Column(column) if isinstance(column, str) else column for column in self.columns]
        keys = [column.key for column in self._columns]
        if not keys:
            raise UsageError("a table needs at least one column")
        if len(set(keys)) != len(keys):
            raise UsageError(f"a column occurs twice in one table: {keys}")

    def add_row(self, row: Row) -> None:
        """Appends a row."""
        self.lines.append(row)

    def add_section(self, label: str) -> None:
        """Appends a labelled separator."""
        self.lines.append(Section(label))

    def layout(self) -> Layout:
        """The table as it is shown: rounded, with the best marked. Equal numbers as shown are equally best."""
        groups = self._groups()
        best = {
            (group, column.key): best_shown(column, [row for row, g in groups if g == group and row.ranked])
            for group in {group for _, group in groups}
            for column in self._columns
        }
        lines: list[SectionLine | RowLine] = []
        numbered = iter(groups)
        for line in self.lines:
            if isinstance(line, Section):
                lines.append(SectionLine(line.label))
                continue
            _, group = next(numbered)
            cells = []
            for column in self._columns:
                text = shown(column, line.values.get(column.key))
                std = line.std.get(column.key)
                is_number = number_of(line.values.get(column.key)) is not None
                cells.append(
                    Cell(
                        text,
                        std="" if std is None or not is_number else f"{std * column.scale:.{column.decimals}f}",
                        marks=line.marks.get(column.key, ""),
                        best=line.ranked and is_number and text == best[group, column.key],
                    )
                )
            lines.append(RowLine(Cell(line.name, marks=line.marks.get("", "")), tuple(cells)))
        return Layout(
            corner=self.corner,
            headers=tuple(column.header or column.key for column in self._columns),
            aligns=tuple(self._align(column) for column in self._columns),
            lines=tuple(lines),
            caption=self.caption,
            label=self.label,
            footnotes=tuple(self.footnotes.items()),
        )

    def to_markdown(self) -> str:
        """As a GitHub-flavoured Markdown table."""
        return markdown(self.layout())

    def to_latex(self) -> str:
        """As a LaTeX table with booktabs rules."""
        return latex(self.layout())

    def to_html(self) -> str:
        """As an HTML table."""
        return html_table(self.layout())

    def to_csv(self) -> str:
        """As CSV: values in full precision and unscaled; std and marks in columns of their own where there are any."""
        rows = [line for line in self.lines if isinstance(line, Row)]
        sections = any(isinstance(line, Section) for line in self.lines)
        header = (["section"] if sections else []) + [self.corner]
        for column in self._columns:
            header.append(column.key)
            header += [f"{column.key} std"] * any(column.key in row.std for row in rows)
            header += [f"{column.key} marks"] * any(row.marks.get(column.key) for row in rows)
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([_newlines(text) for text in header])
        section = ""
        for line in self.lines:
            if isinstance(line, Section):
                section = line.label
                continue
            fields: list[Value] = [section, line.name] if sections else [line.name]
            for column in self._columns:
                fields.append(plain_value(line.values.get(column.key)))
                if any(column.key in row.std for row in rows):
                    fields.append(plain_value(line.std.get(column.key)))
                if any(row.marks.get(column.key) for row in rows):
                    fields.append(line.marks.get(column.key, ""))
            writer.writerow([_newlines(value) for value in fields])
        return out.getvalue()

    def to_json(self) -> str:
        """As JSON, whole: `from_json` reads it back."""
        lines = [
            {"section": line.label}
            if isinstance(line, Section)
            else {
                "name": line.name,
                "values": {key: plain_value(value) for key, value in line.values.items()},
                "std": {key: plain_value(value) for key, value in line.std.items()},
                "marks": dict(line.marks),
                "ranked": line.ranked,
            }
            for line in self.lines
        ]
        content = {
            "caption": self.caption,
            "corner": self.corner,
            "label": self.label,
            "best_within": self.best_within,
            "columns": [asdict(column) for column in self._columns],
            "lines": lines,
            "footnotes": dict(self.footnotes),
        }
        return json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Table:
        """The table that `to_json` wrote.

        Raises:
            FormatError: the text is not such a table.
        """
        try:
            content = json.loads(text)
            lines: list[Row | Section] = [
                Section(line["section"]) if "section" in line else _row(line) for line in content["lines"]
            ]
            return cls(
                columns=[Column(**column) for column in content["columns"]],
                lines=lines,
                caption=content["caption"],
                footnotes=content["footnotes"],
                corner=content["corner"],
                label=content["label"],
                best_within=content["best_within"],
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FormatError("this is not a table written by Table.to_json") from error

    def save(self, path: str | Path) -> Path:
        """Writes the table in the format its suffix names: .md, .tex, .html, .csv or .json.

        Raises:
            UsageError: another suffix.
        """
        target = Path(path)
        writers = {
            ".md": self.to_markdown,
            ".tex": self.to_latex,
            ".html": self.to_html,
            ".csv": self.to_csv,
            ".json": self.to_json,
        }
        write = writers.get(target.suffix.lower())
        if write is None:
            raise UsageError(
                f"no table format has the suffix {target.suffix!r}", where=target, mend=f"Use one of {list(writers)}"
            )
        write_atomic(target, write())
        return target

    @property
    def _columns(self) -> list[Column]:
        return [column for column in self.columns if isinstance(column, Column)]

    def _groups(self) -> list[tuple[Row, int]]:
        groups: list[tuple[Row, int]] = []
        group = 0
        for line in self.lines:
            if isinstance(line, Row):
                groups.append((line, group))
            elif self.best_within == "section":
                group += 1
        return groups

    def _align(self, column: Column) -> str:
        values = [line.values.get(column.key) for line in self.lines if isinstance(line, Row)]
        return "left" if any(isinstance(value, str) for value in values) else "right"


def _row(line: Mapping[str, Any]) -> Row:
    return Row(line["name"], dict(line["values"]), dict(line["std"]), dict(line["marks"]), bool(line["ranked"]))


def _newlines(value: Value) -> Value:
    # The csv module leaves a bare carriage return unquoted, and then refuses to read it.
    return value.replace("\r\n", "\n").replace("\r", "\n") if isinstance(value, str) else value
