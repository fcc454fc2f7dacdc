"""The page itself. Everything is readable without JavaScript, which adds comparing any two rows, and sorting."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from statistics import fmean

from retgen.recipes.page.charts import chart_html
from retgen.recipes.page.content import MOST_QUESTIONS, Chart, Content, gather, main_measure, shown_questions
from retgen.recipes.report import Report
from retgen.recipes.results import Results

_SHOWN = 15
_FAILURES = 50


def page(
    results: Results, report: Report, folders: Sequence[str | Path], *, title: str = "", measure: str | None = None
) -> str:
    """One HTML file that needs nothing else: no host, no other file, no JavaScript to be read.

    Args:
        results: merged over the folders.
        report: made of them.
        folders: that ``retgen run`` wrote to; where their stages lie beside the results there are curves, rounds and
            the questions' texts.
        title: the recipe's name by default.
        measure: that questions are compared by; the first column with values per question by default.

    Raises:
        UsageError: there are no values per question of ``measure``.
        ArtefactError: a stage's history or round is torn.
    """
    content = gather(results, report, folders)
    by = main_measure(content, measure)
    name = title or results.definition.name
    style, script = _asset("page.css"), _asset("page.js")
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'; base-uri 'none'; "
        "form-action 'none'"
    )
    sections = [
        ("results", "Results", _tables(report)),
        ("learning", "Learning curves", _charts(content.learning, content, "No training here kept a history.")),
        ("rounds", "Rounds", _charts(content.rounds, content, "No row here goes in rounds.")),
        ("questions", "Question by question", _comparisons(content, by)),
        ("failures", "Failures to look at", _failures(content, by)),
        ("made", "How this was made", _made(content)),
    ]
    links = "".join(f'<li><a href="#{anchor}">{head}</a></li>' for anchor, head, _ in sections)
    body = "".join(f'<section id="{anchor}"><h2>{head}</h2>{text}</section>' for anchor, head, text in sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{_text(name)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        f"<header><h1>{_text(name)}</h1></header>\n"
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n<main>\n{body}\n</main>\n'
        f'<script type="application/json" id="data">{_data(content, by)}</script>\n<script>{script}</script>\n'
        "</body>\n</html>\n"
    )


def _tables(report: Report) -> str:
    parts = [_wide(report.table.to_html())]
    if report.comparisons or report.contrasts:
        tables = report.render_differences("html")
        parts.append(
            f"<details><summary>Differences, with their intervals and tests</summary>{_wide(tables)}</details>"
        )
    return "".join(parts)


def _charts(charts: Sequence[Chart], content: Content, none: str) -> str:
    if charts:
        return f'<div class="charts">{"".join(map(chart_html, charts))}</div>'
    if content.lacks_stages:
        return "<p>The stages' folders do not lie beside the results, so that there is nothing to draw.</p>"
    return f"<p>{_text(none)}</p>"


def _comparisons(content: Content, by: str | None) -> str:
    if by is None:
        return "<p>There are no values per question beside the results.</p>"
    chosen = '<div id="compare" hidden></div>'
    pairs = [pair for pair in content.pairs if all(row in content.values[by] for row in pair)]
    blocks = [_pair(content, by, row, other, opened=not number) for number, (row, other) in enumerate(pairs)]
    return (
        chosen + '<div id="pairs">' + ("".join(blocks) or "<p>The recipe compares no two of these rows.</p>") + "</div>"
    )


def _pair(content: Content, by: str, row: str, other: str, *, opened: bool) -> str:
    """What one row does better than another, and worse: the counts, and the questions with the largest differences."""
    ours, theirs = content.values[by][row], content.values[by][other]
    better = -1.0 if by in content.lower_is_better else 1.0
    gains = {question: better * (ours[question] - theirs[question]) for question in ours if question in theirs}
    helped = sorted((key for key, gain in gains.items() if gain > 0), key=lambda key: -gains[key])
    hurt = sorted((key for key, gain in gains.items() if gain < 0), key=lambda key: gains[key])
    same = len(gains) - len(helped) - len(hurt)
    heads = ("question", content.labels[row], content.labels[other], "difference")
    tables = ""
    for said, chosen in (("Helped most", helped), ("Hurt most", hurt)):
        rows = [
            (_question(content, key), _value(ours[key]), _value(theirs[key]), f"{ours[key] - theirs[key]:+.3f}")
            for key in chosen[:_SHOWN]
        ]
        if rows:
            tables += _table(f"{said}: {len(rows)} of {len(chosen)}", heads, rows)
    summary = f"{_text(content.labels[row])} against {_text(content.labels[other])}"
    counts = f"{_text(by)}: helped {len(helped)}, hurt {len(hurt)}, same {same}"
    return f"<details{' open' if opened else ''}><summary>{summary} – {counts}</summary>{tables}</details>"


def _failures(content: Content, by: str | None) -> str:
    """Questions on which the rows together do worst."""
    if by is None:
        return "<p>There are no values per question beside the results.</p>"
    rows = content.values[by]
    common = set.intersection(*(set(means) for means in rows.values()))
    better = -1.0 if by in content.lower_is_better else 1.0
    means = {key: better * fmean(values[key] for values in rows.values()) for key in common}
    if not means or min(means.values()) == max(means.values()):
        return f"<p>All questions have one {_text(by)}.</p>"
    average = fmean(means.values())
    worst = sorted((key for key in means if means[key] < average), key=lambda key: (means[key], key))
    shown = [(_question(content, key), *(_value(values[key]) for values in rows.values())) for key in worst[:_FAILURES]]
    said = f"Worst {by} on the mean of all rows: {len(shown)} of the {len(worst)} questions below the average"
    if by not in content.lower_is_better:
        lost = sum(all(values[key] == 0 for values in rows.values()) for key in common)
        said += f"; {lost} of {len(common)} are at 0 in every row"
    return _table(said, ("question", *(content.labels[row] for row in rows)), shown)


def _made(content: Content) -> str:
    if not content.commands:
        return "<p>The results do not say which command made them.</p>"
    return "".join(f"<pre><code>{_text(command)}</code></pre>" for command in content.commands)


def _question(content: Content, key: str) -> str:
    """A cell: the question with its accepted answers, and its id."""
    asked = content.questions.get(key)
    if asked is None:
        return f"<code>{_text(key)}</code>"
    answers = f'<br><span class="answers">{_text(" / ".join(asked.answers))}</span>' if asked.answers else ""
    return f"{_text(asked.text)}{answers}<br><code>{_text(key)}</code>"


def _table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the first cell of a row is HTML, heads and caption are text."""
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name in heads)
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>' for first, *rest in rows
    )
    said = f"<caption>{_text(caption)}</caption>"
    return _wide(f'<table class="list">{said}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>')


def _wide(table: str) -> str:
    """A table that scrolls by itself on a small screen, with the keyboard too."""
    return f'<div class="wide" tabindex="0" role="region" aria-label="table">{table}</div>'


def _value(value: float) -> str:
    return f"{value:.3f}"


def _data(content: Content, by: str | None) -> str:
    """What the script compares, as JSON in which nothing can end the element it stands in."""
    shown = shown_questions(content)
    asked = [content.questions.get(key) for key in shown]
    total = len({key for rows in content.values.values() for means in rows.values() for key in means})
    told = {
        "measure": by,
        "labels": dict(content.labels),
        "pairs": content.pairs,
        "lower": sorted(content.lower_is_better),
        "note": "" if total == len(shown) else f"{MOST_QUESTIONS} of {total} questions: those the rows differ on most",
        "questions": [
            [key, each.text if each else "", " / ".join(each.answers) if each else ""]
            for key, each in zip(shown, asked, strict=True)
        ],
        "values": {
            measure: {
                row: [round(means[key], 4) if key in means else None for key in shown] for row, means in rows.items()
            }
            for measure, rows in content.values.items()
        },
    }
    text = json.dumps(told, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _text(value: str) -> str:
    return html.escape(value, quote=True)
