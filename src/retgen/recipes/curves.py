"""The numbers of UniGen's two pictures: dev questions while it trains (Figure 5), test questions by round (Figure 4).

Only runs of one system are averaged: a recipe's seeds of the settings that its results are of, or models that were
trained alike. What earlier settings left in a run's folder is never read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from retgen.errors import ArtefactError, MismatchError, UsageError
from retgen.evaluate import evaluate_answers, evaluate_run
from retgen.evaluate.plots import Curve
from retgen.generative.folder import trained_table
from retgen.generative.history import HISTORY, model_history, read_history
from retgen.recipes.collections import read_questions
from retgen.recipes.measuring import read_outcome
from retgen.recipes.result_files import load_results
from retgen.recipes.results import RowResult

RETRIEVAL, ANSWERS = "MRR@10", "EM"
_History = Sequence[Mapping[str, float]]


def curves(out: str | Path, stage: str) -> tuple[Curve, Curve]:
    """Retrieval and answer quality on dev questions against training steps, a value per seed.

    Args:
        out: the folder a recipe was run into.
        stage: name of a training stage that measured dev questions (``eval_steps`` above 0).

    Raises:
        UsageError: no result there is of such a stage, or it measured nothing.
    """
    histories = [read_history(folder) for folder, _ in _finished(out, stage) if (folder / HISTORY).exists()]
    if not histories:
        raise _no_stage(out, stage, "training stage")
    found = _learning(histories)
    if found is None:
        raise UsageError(
            f"the stage {stage!r} measured no dev questions", where=out, mend="Give it eval_steps in the recipe"
        )
    return found


def model_curves(folders: Sequence[str | Path]) -> tuple[Curve, Curve]:
    """The same from saved models, each of which is a seed of one training.

    Args:
        folders: as ``retgen train unigen`` writes them.

    Raises:
        UsageError: one measured no dev questions.
        MismatchError: they were not trained alike: another corpus, other settings, or measured at other steps.
        ArtefactError: a folder is torn, foreign or of another kind.
    """
    histories = [model_history(folder) for folder in folders]
    first, steps = _settings(folders[0]), None
    for folder, history in zip(folders, histories, strict=True):
        measured = sorted(_measured(history, f"eval_{RETRIEVAL}"))
        if not measured:
            raise UsageError(
                "this model measured no dev questions while it trained",
                where=folder,
                mend="Train it with eval_steps above 0",
            )
        steps = steps or measured
        if _settings(folder) != first or measured != steps:
            raise MismatchError(
                "this model was not trained as the first one was, so that they are not seeds of one training",
                where=folder,
                mend="Draw models that differ in their seed alone, or one at a time",
            )
    found = _learning(histories)
    if found is None:
        raise UsageError("no dev question of this training has an answer", where=folders[0], mend="Give answers")
    return found


def round_curves(out: str | Path, stage: str) -> tuple[Curve, Curve]:
    """Retrieval and answer quality on the test questions against rounds of iteration, a value per seed.

    Args:
        out: the folder a recipe was run into.
        stage: name of a stage of kind ``unigen-iterations``, which keeps every round's run and answers.

    Raises:
        UsageError: no result there is of such a stage.
    """
    seeds: dict[str, list[dict[int, float]]] = {RETRIEVAL: [], ANSWERS: []}
    for folder, result in _finished(out, stage):
        rounds = sorted(int(path.stem.removeprefix("round")) for path in folder.glob("round*.run"))
        if not rounds:
            continue
        collection = next(place for name in result.stages for place in stage_folders(out, name, result) if _asks(place))
        triplets = read_questions(collection, "test")
        qrels = {triplet.query.id: dict.fromkeys(triplet.doc_ids, 1) for triplet in triplets}
        gold = {triplet.query.id: triplet.answers for triplet in triplets}
        values: dict[str, dict[int, float]] = {RETRIEVAL: {}, ANSWERS: {}}
        for number in rounds:
            run, answers, _ = read_outcome(folder, f"round{number}")
            if run is None or answers is None:
                raise ArtefactError(f"round {number} is torn", where=folder, mend="Run the recipe again")
            values[RETRIEVAL][number] = evaluate_run(run, qrels, ["RR@10"], query_ids=list(qrels)).means["RR@10"]
            values[ANSWERS][number] = evaluate_answers(answers, gold, (ANSWERS,)).means[ANSWERS]
        for name in seeds:
            seeds[name].append(values[name])
    if not seeds[RETRIEVAL]:
        raise _no_stage(out, stage, "stage of rounds")
    return Curve.from_seeds(RETRIEVAL, seeds[RETRIEVAL]), Curve.from_seeds(ANSWERS, seeds[ANSWERS])


def _finished(out: str | Path, stage: str) -> Iterator[tuple[Path, RowResult]]:
    """A stage's folders, once each, with a result each is of. Results of earlier settings are not among them."""
    seen: set[Path] = set()
    if not (Path(out) / "results").is_dir():
        return
    for result in sorted(load_results(out).rows, key=lambda row: (row.seed or 0, row.row)):
        for folder in stage_folders(out, stage, result):
            if folder not in seen:
                seen.add(folder)
                yield folder, result


def stage_folders(out: str | Path, stage: str, result: RowResult) -> list[Path]:
    """The finished folders of a stage that a result is of; none where they are not beside it."""
    if stage not in result.stages:
        return []
    key = str(result.stages[stage]["key"])[:12]
    names = (f"{stage}-{key}", *([] if result.seed is None else [f"{stage}-seed{result.seed}-{key}"]))
    return [place for place in (Path(out) / "stages" / name for name in names) if place.is_dir()]


def _asks(folder: Path) -> bool:
    return (folder / "test.jsonl").is_file() and (folder / "corpus").is_dir()


def _no_stage(out: str | Path, stage: str, what: str) -> UsageError:
    return UsageError(
        f"no finished {what} {stage!r}",
        where=out,
        mend="Run the recipe until a row of it is done, or name another with --stage",
    )


def _learning(histories: Sequence[_History]) -> tuple[Curve, Curve] | None:
    seeds = {name: [_measured(history, f"eval_{name}") for history in histories] for name in (RETRIEVAL, ANSWERS)}
    if not all(any(rows) for rows in seeds.values()):
        return None
    return Curve.from_seeds(RETRIEVAL, seeds[RETRIEVAL]), Curve.from_seeds(ANSWERS, seeds[ANSWERS])


def _measured(history: _History, name: str) -> dict[int, float]:
    # Stage 1 is fine-tuning: pre-training counts its own steps.
    return {int(row["step"]): row[name] for row in history if name in row and row.get("stage", 1) == 1}


def _settings(folder: str | Path) -> object:
    """What seeds of one training have in common; tokenizers of ``scratch:`` sources may differ between them."""
    table = trained_table(folder)
    settings = json.loads((Path(folder) / "settings.json").read_text(encoding="utf-8"))
    return settings, table.corpus_fingerprint, table.make_up.scheme, len(table)
