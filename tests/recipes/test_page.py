"""The page of results: one file, nothing from elsewhere, readable without JavaScript, every text of others as text."""

from __future__ import annotations

import base64
import hashlib
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from retgen.cli import app
from retgen.errors import UsageError
from retgen.evaluate.pairing import mean_over_seeds
from retgen.generative.history import write_history
from retgen.recipes import Results, load_results, make_report
from retgen.recipes.collections import write_questions
from retgen.recipes.curves import stage_folders
from retgen.recipes.measuring import write_outcome
from retgen.recipes.page import page
from retgen.recipes.page.charts import svg
from retgen.recipes.page.content import MOST_QUESTIONS, Chart
from retgen.types import Answer, Query, Run, Triplet
from tests.recipes.conftest import COLLECTION, RECIPE, Folder

SCRIPT = "<script>alert(1)</script>"
VOID = {"meta", "br", "link", "img", "line", "circle", "polyline", "input"}


class Page(HTMLParser):
    """A parsed page: its elements, the text of each kind of them, and whether tags fit."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in set(self.open):
            self.texts[tag][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [found for name, found in self.elements if name == tag]


def made(results: Results, folder: Path, **options: Any) -> str:
    return page(results, make_report(results), [folder], **options)


def data_of(text: str) -> dict[str, Any]:
    """What the script reads, as a browser hands it over."""
    _, _, rest = text.partition('<script type="application/json" id="data">')
    found: dict[str, Any] = json.loads(rest.partition("</script>")[0])
    return found


@pytest.fixture
def finished(toy: Folder) -> Folder:
    toy.run(seeds=[0, 1])
    return toy


def test_nothing_comes_from_elsewhere(finished: Folder) -> None:
    text = made(load_results(finished.out), finished.out)
    found = Page(text)
    assert {tag for tag, _ in found.elements}.isdisjoint({"link", "img", "iframe", "object", "embed", "form", "base"})
    anchors = {attributes["href"] for attributes in found.all("a")}
    sections = {f"#{attributes['id']}" for attributes in found.all("section")}
    assert anchors == sections
    for _, attributes in found.elements:
        assert not any(name.startswith("on") or name == "src" for name in attributes)
    assert "url(" not in text
    assert "@import" not in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "https://" not in text


def test_the_policy_lets_the_pages_own_script_run_and_nothing_else(finished: Folder) -> None:
    text = made(load_results(finished.out), finished.out)
    found = Page(text)
    script = found.texts["script"][-1]
    expected = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [each["content"] for each in found.all("meta") if each.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert f"script-src 'sha256-{expected}'" in policy
    for dangerous in ("innerHTML", "insertAdjacentHTML", "document.write", "eval(", "fetch("):
        assert dangerous not in script


def test_every_table_of_the_report_is_there(finished: Folder) -> None:
    results = load_results(finished.out)
    report = make_report(results)
    text = page(results, report, [finished.out])
    assert report.render("html").strip() in text
    assert report.render_differences("html").strip() in text


def numbers(toy: Folder, questions: int, **column: Any) -> Results:
    """Two rows of random values, which differ on about every question."""
    toy.write(
        {
            "baseline": "one",
            "columns": [{"key": "R@1", **column}],
            "stages": {
                "one": {"kind": "toy-numbers", "params": {"questions": questions}},
                "two": {"kind": "toy-numbers", "params": {"questions": questions, "mean": 0.4}},
            },
            "rows": {"one": {"needs": ["one"]}, "two": {"needs": ["two"]}},
        },
        base={key: RECIPE[key] for key in ("name", "description", "modules")},
    )
    return toy.run(seeds=[0, 1])


@pytest.mark.parametrize("best", ["max", "min"])
def test_questions_are_counted_as_helped_and_hurt(toy: Folder, best: str) -> None:
    results = numbers(toy, 20, best=best)
    means = {
        row: mean_over_seeds([run.report.per_question["R@1"] for run in results.of(row)]) for row in ("one", "two")
    }
    differences = {key: means["two"][key] - means["one"][key] for key in means["one"]}
    higher, lower = (sum(sign * value > 0 for value in differences.values()) for sign in (1, -1))
    assert higher
    assert lower
    text = made(results, toy.out)
    (summary,) = [each for each in Page(text).texts["summary"] if "against" in each]
    helped, hurt = (higher, lower) if best == "max" else (lower, higher)
    assert summary == f"two against one – R@1: helped {helped}, hurt {hurt}, same 0"
    _, _, most = text.partition("Helped most")
    extreme = (max if best == "max" else min)(differences, key=differences.__getitem__)
    assert most.partition("</tr>")[2].partition("</tr>")[0].find(f"<code>{extreme}</code>") > 0
    data = data_of(text)
    assert data["pairs"] == [["two", "one"]]
    assert data["lower"] == ([] if best == "max" else ["R@1"])
    ids = [key for key, _, _ in data["questions"]]
    for row, values in means.items():
        assert dict(zip(ids, data["values"]["R@1"][row], strict=True)) == pytest.approx(values, abs=1e-4)


def test_the_worst_questions_come_first(finished: Folder) -> None:
    results = load_results(finished.out)
    rows = [mean_over_seeds([run.report.per_question["RR@10"] for run in results.of(row)]) for row in ("bm25", "fit")]
    means = {key: (rows[0][key] + rows[1][key]) / 2 for key in rows[0]}
    _, _, failures = made(results, finished.out).partition('<section id="failures">')
    order = sorted(
        means, key=lambda key: failures.find(f"<code>{key}</code>") if f"<code>{key}</code>" in failures else 10**9
    )
    shown = [key for key in order if f"<code>{key}</code>" in failures.partition("</section>")[0]]
    assert shown
    assert [means[key] for key in shown] == sorted(means[key] for key in shown)
    assert set(shown) == {key for key in means if means[key] < sum(means.values()) / len(means)}


def test_texts_of_others_are_shown_as_text(toy: Folder) -> None:
    toy.write(
        {
            "description": f"Five {SCRIPT}",
            "rows": {"fit": {"label": f"</script>{SCRIPT}"}, "bm25": {"label": "a & b <i>"}},
        }
    )
    results = toy.run(seeds=[0])
    (place,) = stage_folders(toy.out, "corpus", results.of("bm25")[0])
    lines = [
        {"id": key, "question": f"{text} {SCRIPT}", "answers": [f"</td>{SCRIPT}"], "doc_ids": [], "group": ""}
        for key, text in COLLECTION["questions"].items()  # type: ignore[attr-defined]
    ]
    (place / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    text = made(results, toy.out)
    found = Page(text)
    assert len(found.all("script")) == 2
    assert not found.all("i")
    assert SCRIPT not in text
    data = data_of(text)
    assert data["labels"]["fit"] == f"</script>{SCRIPT}"
    assert {question for _, question, _ in data["questions"]} == {line["question"] for line in lines}
    assert f"what flows north? {SCRIPT}" in "".join(found.texts["th"])


def test_trainings_and_their_seeds_are_drawn(finished: Folder) -> None:
    results = load_results(finished.out)
    for run in results.of("fit"):
        for place in stage_folders(finished.out, "fit", run):
            rows = [
                {"step": n, "stage": 1, "loss": 3.0 / n, **({"eval_EM": n / 9} if n % 2 else {})} for n in (1, 2, 3)
            ]
            write_history(place, [{"step": 1, "stage": 0, "loss": 9.0}, *rows])
    found = Page(made(results, finished.out))
    labels = [each["aria-label"] for each in found.all("svg")]
    assert labels == ["fit, pre-training: loss by step", "fit: loss by step", "fit: EM by step"]
    assert len(found.all("polyline")) == 2 * len(labels)
    assert any("seed 0" in legend and "seed 1" in legend for legend in found.texts["figcaption"])


def test_rounds_are_measured_and_drawn(finished: Folder) -> None:
    results = load_results(finished.out)
    (place,) = stage_folders(finished.out, "corpus", results.of("bm25")[0])
    (place / "corpus").mkdir()
    triplets = [
        Triplet(Query(key, text), ("gold",), (COLLECTION["relevant"][key],))
        for key, text in COLLECTION["questions"].items()
    ]
    write_questions(place, "test", triplets)
    for run in results.of("fit"):
        (folder,) = stage_folders(finished.out, "fit", run)
        for number, right in enumerate((2, 4, 6)):
            # So many questions have the right document first and the right answer; the others have neither.
            found = Run.from_dict(
                {each.query.id: {each.doc_ids[0] if n < right else "none": 1.0} for n, each in enumerate(triplets)}
            )
            answers = [Answer(each.query.id, "gold" if n < right else "tin") for n, each in enumerate(triplets)]
            write_outcome(folder, found, answers, 1.0, f"round{number}")
    found_page = Page(made(results, finished.out))
    assert [each["aria-label"] for each in found_page.all("svg")] == ["fit: MRR@10 by round", "fit: EM by round"]
    cells = [text for text in found_page.texts["td"] if text in ("0.3333", "0.6667", "1")]
    assert cells == ["0.3333", "0.3333", "0.6667", "0.6667", "1", "1"] * 2


def test_results_without_their_stages_and_values_still_make_a_page(finished: Folder, tmp_path: Path) -> None:
    for path in (finished.out / "results").glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    results = load_results(tmp_path)
    text = made(results, tmp_path)
    assert "do not lie beside the results" in text
    assert "no values per question" in text
    Page(text)
    with pytest.raises(UsageError, match="no values per question of 'RR@10'"):
        made(results, tmp_path, measure="RR@10")


def test_of_very_many_questions_those_that_differ_most_are_kept(toy: Folder) -> None:
    many = MOST_QUESTIONS + 50
    results = numbers(toy, many)
    data = data_of(made(results, toy.out))
    assert len(data["questions"]) == MOST_QUESTIONS
    assert f"{MOST_QUESTIONS} of {many}" in data["note"]
    means = {
        row: mean_over_seeds([run.report.per_question["R@1"] for run in results.of(row)]) for row in ("one", "two")
    }
    differences = {key: abs(means["one"][key] - means["two"][key]) for key in means["one"]}
    kept = {key for key, _, _ in data["questions"]}
    assert min(differences[key] for key in kept) >= max(value for key, value in differences.items() if key not in kept)


@pytest.mark.parametrize(
    "points", [{1.0: 2.0}, {1.0: 0.0, 2.0: 0.0}, {0.0: -1e-9, 1e6: 1e9}, {float(n): n / 7 for n in range(500)}]
)
def test_charts_stay_in_their_frame(points: dict[float, float]) -> None:
    found = Page(svg(Chart("a & b", "step", {"seed 0": points})))
    for circle in found.all("circle"):
        assert 0 <= float(str(circle["cx"])) <= 460
        assert 0 <= float(str(circle["cy"])) <= 250
    (line,) = found.all("polyline")
    assert len(str(line["points"]).split()) == len(points)
    assert 2 <= len(found.texts["text"]) <= 16


def retgen(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_writes_it(finished: Folder, tmp_path: Path) -> None:
    done = retgen("report", finished.out, "--html", tmp_path / "report.html")
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    assert Page((tmp_path / "report.html").read_text(encoding="utf-8")).texts["h1"] == ["toy"]
    for options, says in (
        (["--measure", "R@1"], "--measure is of the page"),
        (["--html", "a.html", "--json"], "Leave the other formats out"),
        (["--html", "a.html", "--out", "b.md"], "Leave the other formats out"),
        (["--html", "a.html", "--measure", "BLEU-4"], "no values per question of 'BLEU-4'"),
    ):
        wrong = retgen("report", finished.out, *options)
        assert wrong.exit_code == 2
        assert says in wrong.stderr
