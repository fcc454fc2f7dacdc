"""ANCE: a bi-encoder trained in rounds, each on what the model itself, as the last round left it, finds and confuses.

A round is a training of `retgen.train.bi_encoder`; between rounds the whole corpus is encoded anew and searched.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from retgen import store
from retgen.corpus import Corpus
from retgen.dense import DenseRetriever
from retgen.errors import ArtefactError, MismatchError, UsageError
from retgen.train.bi_encoder import BiEncoderTraining, DevPool, train_bi_encoder
from retgen.train.candidates import LabelledCandidates
from retgen.train.hard_negatives import with_negatives
from retgen.train.resumable import TrainingRecord, fingerprint
from retgen.types import Query, Triplet

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Progress = Callable[[str, int, int, str], None]
"""Called with what is being done, how much of it is done, of how much, and what was last measured."""
_ABOUT = "ance.json"
_MINED = "candidates.jsonl"


@dataclass(frozen=True, slots=True)
class AnceRound:
    """One round.

    Args:
        candidates: what it was trained on: the negatives are what the model found when the round began.
        record: of its training.
    """

    candidates: tuple[LabelledCandidates, ...]
    record: TrainingRecord


def train_ance(
    encoder: SentenceTransformer,
    triplets: Sequence[Triplet],
    corpus: Corpus,
    folder: str | Path,
    *,
    rounds: int,
    options: BiEncoderTraining | None = None,
    depth: int = 200,
    index: str = "flat",
    answers_are_relevant: bool = True,
    dev: DevPool | None = None,
    progress: Progress | None = None,
) -> list[AnceRound]:
    """Train a bi-encoder in place, with negatives from its own index, which is built anew for every round.

    The paper refreshes the index beside the training as it goes on; here a training waits for it between rounds.

    Args:
        encoder: what it begins with: trained with BM25's negatives, as the paper's warm start.
        triplets: the training questions.
        corpus: what is searched.
        folder: keeps every round's negatives and checkpoints; given again, a training goes on where it was stopped.
        rounds: at least 1.
        options: of each round: its steps or epochs are a round's, and so are warm-up and decay of the rate.
        depth: negatives are drawn from the best so many that the model finds.
        index: that is searched: ``flat``, ``hnsw`` or ``ivf-pq``.
        answers_are_relevant: a passage that holds an accepted answer is no negative.
        dev: measured as each round goes on.
        progress: told of encoding and of training.

    Returns:
        The rounds, in order.

    Raises:
        UsageError: no rounds, or what `train_bi_encoder` refuses.
        MismatchError: the folder is of a training with other questions, options, documents or first weights.
        ArtefactError: a file of the folder is torn.

    Reference:
        Xiong et al., "Approximate Nearest Neighbor Negative Contrastive Learning for Dense Text Retrieval", 2021.
    """
    if rounds < 1:
        raise UsageError(f"ANCE trains in rounds, at least 1; got {rounds}")
    options = options or BiEncoderTraining()
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    decisive = (options, depth, index, answers_are_relevant, corpus.fingerprint, _weights_digest(encoder))
    _agree(folder, fingerprint(decisive, triplets))
    report = progress or (lambda _what, _done, _total, _text: None)
    done: list[AnceRound] = []
    for number in range(1, rounds + 1):
        place = folder / f"round-{number}"
        name = f"round {number} of {rounds}"
        mined = place / _MINED
        if mined.exists():
            candidates = _read(mined)
        else:
            candidates = own_negatives(
                encoder,
                triplets,
                corpus,
                depth=depth,
                index=index,
                answers_are_relevant=answers_are_relevant,
                progress=lambda count, total, name=name: report(f"{name}: encode", count, total, ""),  # type: ignore[misc]
            )
            store.write_atomic(mined, _as_lines(candidates))
        record = train_bi_encoder(
            encoder,
            candidates,
            corpus,
            place / "training",
            options=replace(options, seed=options.seed * 1000 + number),
            dev=dev,
            progress=lambda step, steps, said, name=name: report(f"{name}: train", step, steps, said),  # type: ignore[misc]
        )
        done.append(AnceRound(tuple(candidates), record))
    return done


def own_negatives(
    encoder: SentenceTransformer,
    triplets: Sequence[Triplet],
    corpus: Corpus,
    *,
    depth: int = 200,
    index: str = "flat",
    answers_are_relevant: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> list[LabelledCandidates]:
    """The questions' relevant passages, and what the model finds beside them, best first; see `with_negatives`."""
    retriever = DenseRetriever.build(corpus, encoder, index=index, progress=progress)
    queries = [triplet.query for triplet in triplets]
    found = dict(zip((query.id for query in queries), retriever.candidates(queries, depth), strict=True))
    return with_negatives(triplets, found, corpus, depth=depth, answers_are_relevant=answers_are_relevant)


def _agree(folder: Path, training: str) -> None:
    about = folder / _ABOUT
    if not about.exists():
        store.write_atomic(about, json.dumps({"training": training}))
        return
    try:
        known = json.loads(about.read_bytes())["training"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError("this file is torn", where=about, mend="Delete the folder and train again") from error
    if known != training:
        raise MismatchError(
            "this folder keeps another training: other questions, options, documents or first weights",
            where=folder,
            mend="Give another folder, or delete this one",
        )


def _weights_digest(encoder: SentenceTransformer) -> str:
    digest = hashlib.sha256()
    for name, value in encoder.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _as_lines(candidates: Sequence[LabelledCandidates]) -> str:
    rows = (
        {"id": one.query.id, "text": one.query.text, "passages": one.passages, "labels": one.labels}
        for one in candidates
    )
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _read(path: Path) -> list[LabelledCandidates]:
    try:
        with path.open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        return [
            LabelledCandidates(Query(row["id"], row["text"]), tuple(row["passages"]), tuple(row["labels"]))
            for row in rows
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError("these negatives are torn", where=path, mend="Delete the folder and train again") from error
