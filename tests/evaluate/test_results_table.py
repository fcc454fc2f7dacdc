"""Tables: golden texts of every format, the rules of "best", escaping, and JSON there and back."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retgen.errors import FormatError, UsageError
from retgen.evaluate import Column, Row, Section, Table


def example() -> Table:
    return Table(
        columns=[Column("R@1"), Column("EM", "EM %", decimals=1, scale=100), Column("ms", decimals=0, best="min")],
        lines=[
            Section("Baselines"),
            Row("BM25_flat", {"R@1": 0.787, "EM": None, "ms": 2}),
            Row("DPR (published)", {"R@1": 0.99, "ms": 1.0}, ranked=False),
            Section("Ours & theirs"),
            Row("UniGen", {"R@1": 0.7796, "EM": 0.3184, "ms": 40.4}, std={"R@1": 0.004, "EM": 0.012}),
            Row("UniGen|Iter", {"R@1": 0.7874, "EM": 0.32, "ms": 80}, std={"EM": 0.01}, marks={"EM": "†", "": "*"}),
        ],
        caption="SQuAD <dev>, 100%",
        footnotes={"†": "p < .05 against UniGen", "*": "two rounds"},
        label="tab:squad",
    )


def test_markdown() -> None:
    assert example().to_markdown() == (
        "**SQuAD \\<dev\\>, 100%**\n"
        "\n"
        "| System          |           R@1 |            EM % |    ms |\n"
        "| :-------------- | ------------: | --------------: | ----: |\n"
        "| *Baselines*     |               |                 |       |\n"
        "| BM25\\_flat      |     **0.787** |               – | **2** |\n"
        "| DPR (published) |         0.990 |               – |     1 |\n"
        "| *Ours & theirs* |               |                 |       |\n"
        "| UniGen          | 0.780 ± 0.004 |      31.8 ± 1.2 |    40 |\n"
        "| UniGen\\|Iter\\*  |     **0.787** | **32.0** ± 1.0† |    80 |\n"
        "\n"
        "† p \\< .05 against UniGen  \n"
        "\\* two rounds\n"
    )


def test_latex() -> None:
    assert (
        example().to_latex()
        == r"""% needs \usepackage{booktabs}
\begin{table}
\centering
\caption{SQuAD \textless{}dev\textgreater{}, 100\%}
\label{tab:squad}
\begin{tabular}{lrrr}
\toprule
System & R@1 & EM \% & ms \\
\midrule
\multicolumn{4}{l}{\textit{Baselines}} \\
BM25\_flat & \textbf{0.787} & -- & \textbf{2} \\
DPR (published) & 0.990 & -- & 1 \\
\midrule
\multicolumn{4}{l}{\textit{Ours \& theirs}} \\
UniGen & 0.780 $\pm$ 0.004 & 31.8 $\pm$ 1.2 & 40 \\
UniGen\textbar{}Iter\textsuperscript{*} & \textbf{0.787} & \textbf{32.0} $\pm$ 1.0\textsuperscript{\dag{}} & 80 \\
\bottomrule
\multicolumn{4}{l}{\footnotesize \textsuperscript{\dag{}} p \textless{} .05 against UniGen} \\
\multicolumn{4}{l}{\footnotesize \textsuperscript{*} two rounds} \\
\end{tabular}
\end{table}
"""
    )


def test_csv_keeps_full_precision() -> None:
    assert example().to_csv() == (
        "section,System,R@1,R@1 std,EM,EM std,EM marks,ms\n"
        "Baselines,BM25_flat,0.787,,,,,2\n"
        "Baselines,DPR (published),0.99,,,,,1.0\n"
        "Ours & theirs,UniGen,0.7796,0.004,0.3184,0.012,,40.4\n"
        "Ours & theirs,UniGen|Iter,0.7874,,0.32,0.01,†,80\n"
    )


def test_html() -> None:
    assert example().to_html() == (
        "<table>\n"
        "<caption>SQuAD &lt;dev&gt;, 100%</caption>\n"
        "<thead>\n"
        '<tr><th scope="col" style="text-align: left">System</th><th scope="col" style="text-align: right">R@1</th>'
        '<th scope="col" style="text-align: right">EM %</th><th scope="col" style="text-align: right">ms</th></tr>\n'
        "</thead>\n"
        "<tbody>\n"
        '<tr><th colspan="4" scope="rowgroup">Baselines</th></tr>\n'
        '<tr><th scope="row" style="text-align: left">BM25_flat</th>'
        '<td style="text-align: right"><strong>0.787</strong></td><td style="text-align: right">–</td>'
        '<td style="text-align: right"><strong>2</strong></td></tr>\n'
        '<tr><th scope="row" style="text-align: left">DPR (published)</th>'
        '<td style="text-align: right">0.990</td><td style="text-align: right">–</td>'
        '<td style="text-align: right">1</td></tr>\n'
        "</tbody>\n"
        "<tbody>\n"
        '<tr><th colspan="4" scope="rowgroup">Ours &amp; theirs</th></tr>\n'
        '<tr><th scope="row" style="text-align: left">UniGen</th>'
        '<td style="text-align: right">0.780 ± 0.004</td><td style="text-align: right">31.8 ± 1.2</td>'
        '<td style="text-align: right">40</td></tr>\n'
        '<tr><th scope="row" style="text-align: left">UniGen|Iter<sup>*</sup></th>'
        '<td style="text-align: right"><strong>0.787</strong></td>'
        '<td style="text-align: right"><strong>32.0</strong> ± 1.0<sup>†</sup></td>'
        '<td style="text-align: right">80</td></tr>\n'
        "</tbody>\n"
        "<tfoot>\n"
        '<tr><td colspan="4"><sup>†</sup> p &lt; .05 against UniGen<br><sup>*</sup> two rounds</td></tr>\n'
        "</tfoot>\n"
        "</table>\n"
    )


def test_json_there_and_back() -> None:
    table = example()
    again = Table.from_json(table.to_json())
    assert again == table
    assert again.to_json() == table.to_json()
    content = json.loads(table.to_json())
    assert content["lines"][1] == {
        "name": "BM25_flat",
        "values": {"R@1": 0.787, "EM": None, "ms": 2},
        "std": {},
        "marks": {},
        "ranked": True,
    }


def bold(table: Table) -> list[str]:
    return re.findall(r"\*\*(.*?)\*\*", table.to_markdown())


def test_best_is_what_is_shown_and_ties_share_it() -> None:
    rows = [Row("a", {"x": 0.12341}), Row("b", {"x": 0.12349}), Row("c", {"x": 0.1})]
    assert bold(Table(["x"], list(rows))) == ["0.123", "0.123"]
    assert bold(Table([Column("x", decimals=5)], list(rows))) == ["0.12349"]
    assert bold(Table([Column("x", best="min")], list(rows))) == ["0.100"]
    assert bold(Table([Column("x", best=None)], list(rows))) == []


def test_best_within_sections() -> None:
    lines = [Section("1"), Row("a", {"x": 0.1}), Row("b", {"x": 0.2}), Section("2"), Row("c", {"x": 0.5}), Row("d", {})]
    assert bold(Table(["x"], list(lines))) == ["0.500"]
    assert bold(Table(["x"], [*lines, Row("e", {"x": 0.4})], best_within="section")) == ["0.200", "0.500"]


def test_a_lone_value_is_not_the_best_of_anything() -> None:
    assert bold(Table(["x"], [Row("a", {"x": 0.1}), Row("b", {"x": None})])) == []
    assert bold(Table(["x"], [Row("a", {"x": 0.1}), Row("published", {"x": 0.9}, ranked=False)])) == []


def test_numbers_that_are_none_are_dashes_and_null() -> None:
    table = Table(["x", "y"], [Row("a", {"x": float("nan"), "y": float("inf")}, std={"x": 0.1}), Row("b", {})])
    assert table.to_markdown().count("–") == 4
    assert "±" not in table.to_markdown()
    assert table.to_csv() == "System,x,x std,y\na,,0.1,\nb,,,\n"
    assert json.loads(table.to_json())["lines"][0]["values"] == {"x": None, "y": None}
    assert "-0.000" not in Table(["x"], [Row("a", {"x": -0.00001})]).to_markdown()


def test_texts_stand_as_they_are_and_turn_the_column_left() -> None:
    table = Table(["time"], [Row("a", {"time": "3 min"}), Row("b", {"time": 2.0})])
    assert "| a      | 3 min |" in table.to_markdown()
    assert r"\begin{tabular}{ll}" in table.to_latex()
    assert bold(table) == []


NASTY = 'a|b*c_d`e<f>&"g"\\h\ni{j}$k#%~^ [l](m), n'


def test_every_format_escapes_what_would_break_it() -> None:
    table = Table(
        [Column("x", NASTY)],
        [Section(NASTY), Row(NASTY, {"x": NASTY}, marks={"x": "_"})],
        caption=NASTY,
        footnotes={"_": NASTY},
        corner=NASTY,
    )
    lines = [line for line in table.to_markdown().splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {3}
    root = ElementTree.fromstring(table.to_html().replace("<br>", "<br/>"))
    one_line = " ".join(NASTY.split())
    assert root.findtext("caption") == one_line
    assert root.findtext("tbody/tr/td").startswith(one_line)  # type: ignore[union-attr]
    body = list(csv.reader(io.StringIO(table.to_csv(), newline="")))
    assert body[1][:3] == [NASTY, NASTY, NASTY]
    assert Table.from_json(table.to_json()) == table
    # In LaTeX no special character is left bare: strip the escapes and commands that escaping makes, and look.
    cell = table.to_latex().split(r"\caption{")[1].split("}\n")[0]
    stripped = re.sub(r"\\text(?:backslash|ascii\w+|less|greater|bar)\{\}|\\[&%$#_{}]", "", cell)
    assert not set(stripped) & set("&%$#_{}~^\\<>|")


def test_the_same_table_is_the_same_text() -> None:
    for write in ("to_markdown", "to_latex", "to_html", "to_csv", "to_json"):
        assert getattr(example(), write)() == getattr(example(), write)()


def test_rows_over_seeds() -> None:
    row = Row.over_seeds("ours", [{"EM": 0.2, "F1": 0.5}, {"F1": 0.5, "EM": 0.4}], marks={"EM": "†"})
    assert row.values == pytest.approx({"EM": 0.3, "F1": 0.5})
    assert row.std == pytest.approx({"EM": 0.02**0.5, "F1": 0.0})
    assert Row.over_seeds("one", [{"EM": 0.2}]).std == {}
    assert "0.300 ± 0.141†" in Table(["EM"], [row]).to_markdown()


@pytest.mark.parametrize("suffix", [".md", ".tex", ".html", ".csv", ".json"])
def test_saving_by_suffix(tmp_path: Path, suffix: str) -> None:
    writers = {".md": "to_markdown", ".tex": "to_latex", ".html": "to_html", ".csv": "to_csv", ".json": "to_json"}
    path = example().save(tmp_path / f"table{suffix}")
    assert path.read_bytes().decode() == getattr(example(), writers[suffix])()


def test_what_is_not_a_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least one column"):
        Table([])
    with pytest.raises(UsageError, match="twice"):
        Table(["a", Column("a")])
    with pytest.raises(UsageError, match="no seeds"):
        Row.over_seeds("x", [])
    with pytest.raises(UsageError, match="different columns"):
        Row.over_seeds("x", [{"a": 1.0}, {"b": 1.0}])
    with pytest.raises(UsageError, match=r"'\.xlsx'.*\.md"):
        example().save(tmp_path / "table.xlsx")
    for text in ("", "[]", "{}", '{"columns": [{"key": 1, "nonsense": 2}]}', "null"):
        with pytest.raises(FormatError, match=r"Table\.to_json"):
            Table.from_json(text)


values = st.one_of(
    st.none(), st.integers(-1000, 1000), st.floats(allow_nan=False, allow_infinity=False, width=32), st.text(max_size=6)
)


@given(st.lists(st.tuples(st.text(max_size=6), st.dictionaries(st.sampled_from(["x", "y"]), values)), max_size=5))
@settings(max_examples=100, deadline=None)
def test_any_table_can_be_written_and_read_back(rows: list[tuple[str, dict[str, float | str | None]]]) -> None:
    table = Table(["x", "y"], [Row(name, row) for name, row in rows])
    assert Table.from_json(table.to_json()) == table
    assert len(table.to_markdown().splitlines()) == 2 + len(rows)
    assert table.to_latex().count(r" \\") == 1 + len(rows)
    assert len(list(csv.reader(io.StringIO(table.to_csv(), newline="")))) == 1 + len(rows)
