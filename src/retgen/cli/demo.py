"""``retgen demo``: the whole story on the embedded data: train, retrieve, answer, iterate, evaluate, and ask."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retgen.cli.ask_unigen import answer_in_passage, print_alongside
from retgen.cli.demo_pipeline import PIPELINE, write_pipeline
from retgen.cli.recipe_progress import duration, recipe_progress
from retgen.cli.run import INTERRUPTED, write_rows
from retgen.cli.running import messages, results, write_json
from retgen.cli.training_progress import quiet_transformers

if TYPE_CHECKING:
    from retgen.corpus import Corpus
    from retgen.recipes import Event, Listener, Recipe
    from retgen.types import Answer, Hit, Triplet

RECIPE = "almanac"
RERANKING = "almanac-jpr"
RERANKED = "re-ranking"
"""Where, in the demo's folder, the second recipe is kept."""
_ROW = "unigen-base"
_RERANKING_ROW = "jpr"
_ASKED = {"named": 1, "entity-free": 2}
_TELLS = {"named": "names its entity", "entity-free": "names no entity"}
_PASSAGES_SHOWN = 2


def demo(
    out: Annotated[Path | None, typer.Option(help="Keep everything here, and go on from it [kept nowhere].")] = None,
    scale: Annotated[
        str, typer.Option(help="local (minutes on two cores) or tiny (hardly trained, a smoke test).")
    ] = "local",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON objects: the rows, then answers.")] = False,
) -> None:
    """Train UniGen on the almanac that comes with the package, print how it does, let it answer; then re-rank with JPR.

    The almanac is a small encyclopedia with questions; test questions are phrased as no training question is. Of the
    three that UniGen answers the first names its entity, the others do not. JPR's two models are trained on the same
    questions and order BM25's passages anew.

    Examples:

      retgen demo

      retgen demo --out almanac-demo --json
    """
    from retgen.recipes import load_recipe

    recipes = [load_recipe(name, scale=scale) for name in (RECIPE, RERANKING)]
    start = time.monotonic()
    with _place(out) as place:
        try:
            _show(recipes[0], place, start, as_json)
            _ask(recipes[0], place, as_json)
            if not as_json:
                sys.stdout.write("\n\n")
            _show(recipes[1], place / RERANKED, start, as_json)
            if out is not None:
                _keep_pipeline(recipes, place)
        except KeyboardInterrupt:
            kept = (
                f"What is finished is kept in {out}: run the same command again to go on" if out else "Nothing is kept"
            )
            typer.echo(f"Interrupted. {kept}", err=True)
            raise typer.Exit(INTERRUPTED) from None
    typer.echo(f"The demo took {duration(time.monotonic() - start)}", err=True)
    if out is not None:
        typer.echo(f"Everything is kept in {out}. To ask it: retgen serve {out / PIPELINE}", err=True)


def _show(recipe: Recipe, place: Path, start: float, as_json: bool) -> None:
    """Run a recipe and print its table."""
    from retgen.recipes import make_report, run_recipe

    with recipe_progress(messages()) as listen:
        found = run_recipe(recipe, None, place, progress=_with_elapsed(listen, start))
    report = make_report(found)
    if as_json:
        write_rows(found, report)
    else:
        sys.stdout.write(report.render("md") + "\n")
        sys.stdout.flush()


@contextlib.contextmanager
def _place(out: Path | None) -> Iterator[Path]:
    if out is not None:
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="retgen-demo-") as home:
        yield Path(home)


def _with_elapsed(listen: Listener, start: float) -> Listener:
    def heard(event: Event) -> None:
        if event.state in {"started", "finished"}:
            since = f"{duration(time.monotonic() - start)} since the start"
            event = replace(event, text=f"{event.text}, {since}" if event.text else since)
        listen(event)

    return heard


def _ask(recipe: Recipe, place: Path, as_json: bool) -> None:
    """Three of the test questions, asked of the model that the recipe trained, with the contexts it was tested with."""
    from retgen.corpus import Corpus
    from retgen.generative import UniGen
    from retgen.recipes.collections import read_connectors

    quiet_transformers()
    folders = _folders(recipe, place, _ROW)
    corpus = Corpus.open(folders["almanac-collection"] / "corpus")
    system = UniGen.open(folders["unigen-train"] / "unigen", corpus_fingerprint=corpus.fingerprint)
    asked = _chosen(folders["almanac-collection"])
    contexts = {query.id: query for query in read_connectors(folders["contexts"] / "test.jsonl")}
    run, answers = system.search_and_answer([contexts[triplet.query.id] for _, triplet in asked], k=10)
    for (group, triplet), answer in zip(asked, answers, strict=True):
        hits = run[triplet.query.id][:_PASSAGES_SHOWN]
        if as_json:
            write_json(_as_json(corpus, group, triplet, answer, hits))
        else:
            _print(corpus, group, triplet, answer, hits)


def _keep_pipeline(recipes: Sequence[Recipe], place: Path) -> None:
    write_pipeline(
        place,
        _folders(recipes[0], place, _ROW),
        _folders(recipes[1], place / RERANKED, _RERANKING_ROW),
    )


def _folders(recipe: Recipe, place: Path, name: str) -> Mapping[str, Path]:
    """Kind of stage → its finished folder, of all that the row of the first seed needs."""
    from retgen.recipes.plan import Planner

    row = Planner(recipe, None).row(name, recipe.seeds[0])
    return {planned.kind.name: place / "stages" / planned.folder_name for planned in row.stages()}


def _chosen(collection: Path) -> list[tuple[str, Triplet]]:
    from retgen.recipes.collections import read_questions

    chosen: list[tuple[str, Triplet]] = []
    for group, count in _ASKED.items():
        # By a hash, not by how well they are answered.
        triplets = read_questions(collection, "test", group)
        triplets.sort(key=lambda triplet: zlib.crc32(triplet.query.id.encode()))
        chosen += [(group, triplet) for triplet in triplets[:count]]
    return chosen


def _as_json(corpus: Corpus, group: str, triplet: Triplet, answer: Answer, hits: tuple[Hit, ...]) -> dict[str, object]:
    return {
        "question": triplet.query.text,
        "group": group,
        "answer": answer.text,
        "score": answer.score,
        "source": None,
        "expected": list(triplet.answers),
        "passages": [
            {
                "rank": hit.rank,
                "doc_id": hit.doc_id,
                "score": hit.score,
                "title": corpus[hit.doc_id].title,
                "relevant": hit.doc_id in triplet.doc_ids,
                "answer_in_passage": answer_in_passage(answer.text, corpus[hit.doc_id]),
            }
            for hit in hits
        ],
    }


def _print(corpus: Corpus, group: str, triplet: Triplet, answer: Answer, hits: tuple[Hit, ...]) -> None:
    from rich.text import Text

    console = results()
    console.print(Text.assemble("\n", (triplet.query.text, "bold"), (f"   ({_TELLS[group]})", "dim")))
    expected = f"   (UniGen-Base; expected: {' or '.join(triplet.answers)})"
    console.print(Text.assemble((answer.text or "no answer", "bold green"), expected))
    print_alongside(corpus, "english", triplet.query.text, answer.text, hits)
