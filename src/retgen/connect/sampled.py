"""Pseudo queries sampled of a query generator, written to a file that a stopped run goes on with.

Where no model is at hand, `retgen.connect.pseudo` makes questions of the documents' own statements.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from retgen.errors import ArtefactError, MismatchError, RetgenError, UsageError
from retgen.formats.jsonl import triplet_line
from retgen.store import atomic_file
from retgen.store.placing import locked
from retgen.types import Document, Query, Triplet

PairScorer = Callable[[Sequence[tuple[str, str]]], Iterable[float]]
"""Scores (query, passage) pairs, e.g. `retgen.rerank.cross_encoder.CrossEncoder.predict`."""
Progress = Callable[[int], None]
"""Called with the number of documents that are done."""
_BLOCK = 64
_FORMAT = "retgen-pseudo-queries"


class Sampler(Protocol):
    """What samples queries: a `retgen.models.query_model.QueryModel` does."""

    def sample(
        self, passages: Sequence[Document], n: int, *, top_k: int, temperature: float, seed: int, unique: bool
    ) -> list[list[str]]:
        """So many queries of each passage; with ``unique`` perhaps fewer."""
        ...


@dataclass(frozen=True, slots=True)
class Sampling:
    """How pseudo queries are sampled and chosen.

    Args:
        number: of a document, K; equal ones count once, so that there may be fewer.
        top_k: tokens that may be drawn at a step (DocT5Query: 10).
        temperature: the logits are divided by it.
        seed: a document's queries depend on it and on the document, not on the other documents.
        keep: of a document's queries, so many that a cross-encoder scores highest; 0 keeps all.
        min_score: lowest score of a query that is kept, a raw logit; None asks for none.

    Reference:
        Nogueira and Lin, "From doc2query to docTTTTTquery", 2019; Gospodinov et al., "Doc2Query--: When Less is More",
        2023, for the filter.
    """

    number: int = 10
    top_k: int = 10
    temperature: float = 1.0
    seed: int = 0
    keep: int = 0
    min_score: float | None = None

    def __post_init__(self) -> None:
        for name, least in (("number", 1), ("top_k", 1), ("seed", 0), ("keep", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} must be at least {least}; got {getattr(self, name)}")
        if not self.temperature > 0:
            raise UsageError(f"temperature must be above 0; got {self.temperature}")

    @property
    def filters(self) -> bool:
        """Whether a cross-encoder has a say."""
        return bool(self.keep) or self.min_score is not None


@dataclass(frozen=True, slots=True)
class Counts:
    """What was written.

    Args:
        documents: that were read.
        asked: documents that have a query.
        queries: of all.
        dropped: that the cross-encoder had left out.
    """

    documents: int = 0
    asked: int = 0
    queries: int = 0
    dropped: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


def sampled_queries(
    documents: Sequence[Document], generator: Sampler, sampling: Sampling, scorer: PairScorer | None = None
) -> tuple[list[list[Triplet]], int]:
    """Pseudo queries of each document, and how many the cross-encoder left out.

    Args:
        documents: all at once; give them in blocks.
        generator: that writes.
        sampling: how.
        scorer: the cross-encoder, where ``sampling`` filters.

    Returns:
        For each document triplets without answers, with ids ``<document id>::pq<number>``, in the order they were
        sampled.

    Raises:
        UsageError: a filter without a scorer, or the other way round.
    """
    if sampling.filters != (scorer is not None):
        raise UsageError(
            "a filter of pseudo queries needs a cross-encoder, and what to keep by it",
            mend="Give a scorer, and keep or min_score",
        )
    written = generator.sample(
        documents,
        sampling.number,
        top_k=sampling.top_k,
        temperature=sampling.temperature,
        seed=sampling.seed,
        unique=True,
    )
    # A tokenizer of bytes can write NUL, which no file of texts may hold.
    clean = [[text.replace("\0", " ") for text in row] for row in written]
    texts = [list(filter(str.strip, row)) for row in clean]
    kept = texts if scorer is None else _best(documents, texts, sampling, scorer)
    made = [
        [Triplet(Query(f"{document.id}::pq{place}", text), (), (document.id,)) for place, text in enumerate(row)]
        for document, row in zip(documents, kept, strict=True)
    ]
    return made, sum(map(len, texts)) - sum(map(len, kept))


def write_sampled_queries(
    path: str | Path,
    documents: Iterable[Document],
    generator: Sampler,
    sampling: Sampling,
    *,
    scorer: PairScorer | None = None,
    made_by: Mapping[str, object] | None = None,
    resume: bool = True,
    progress: Progress | None = None,
) -> Counts:
    """Write the pseudo queries of many documents as JSON lines, going on where an earlier run was stopped.

    Meanwhile they stand in ``.NAME.partial`` beside the file, which is put in its place when it is whole.

    Args:
        path: the file.
        documents: read as a stream, in the same order in every run.
        generator: that writes.
        sampling: how.
        scorer: the cross-encoder, where ``sampling`` filters.
        made_by: JSON values that say with which models; another run's are refused.
        resume: False begins anew.
        progress: told of documents done.

    Raises:
        RetgenError: there are no documents.
        MismatchError: what was begun there was made with other settings, or of other documents.
        ArtefactError: it cannot be read or written.
        LockedError: another process writes this file.
    """
    target = Path(path).expanduser().resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.parent / f".{target.name}.partial"
    settings = {"format": _FORMAT, **asdict(sampling), **(made_by or {})}
    with locked(target):
        if not resume:
            partial.unlink(missing_ok=True)
        counts, last = _begun(partial, settings)
        stream = iter(documents)
        _pass_over(stream, counts.documents, last, partial)
        with partial.open("ab") as draft:
            while block := list(islice(stream, _BLOCK)):
                made, dropped = sampled_queries(block, generator, sampling, scorer)
                counts += Counts(len(block), sum(map(bool, made)), sum(map(len, made)), dropped)
                lines = [triplet_line(triplet) for row in made for triplet in row]
                lines.append(json.dumps({"done": asdict(counts), "last": block[-1].id}, ensure_ascii=False))
                # One write, one sync: what is marked as done is there after a power cut too.
                draft.write(("\n".join(lines) + "\n").encode("utf-8"))
                draft.flush()
                os.fsync(draft.fileno())
                if progress is not None:
                    progress(counts.documents)
        if not counts.documents:
            partial.unlink()
            raise RetgenError("there are no documents to ask about", mend="Check the input")
        with atomic_file(target) as whole, whole.open("wb") as out, partial.open("rb") as done:
            next(done)
            out.writelines(line for line in done if not line.startswith(b'{"done": '))
        partial.unlink()
    return counts


def _best(
    documents: Sequence[Document], texts: list[list[str]], sampling: Sampling, scorer: PairScorer
) -> list[list[str]]:
    pairs = [(text, document.contents) for document, row in zip(documents, texts, strict=True) for text in row]
    scores = iter(scorer(pairs) if pairs else ())
    kept = []
    for row in texts:
        scored = [(float(next(scores)), place, text) for place, text in enumerate(row)]
        if sampling.min_score is not None:
            scored = [item for item in scored if item[0] >= sampling.min_score]
        best = sorted(scored, key=lambda item: (-item[0], item[1]))[: sampling.keep or None]
        kept.append([text for _, _, text in sorted(best, key=lambda item: item[1])])
    return kept


def _begun(partial: Path, settings: Mapping[str, object]) -> tuple[Counts, str]:
    """What an earlier run has done, and the last document it did; what it had not finished is cut off."""
    wanted = json.loads(json.dumps(settings))
    if not partial.exists() or partial.stat().st_size == 0:
        partial.write_text(json.dumps(wanted, ensure_ascii=False) + "\n", encoding="utf-8")
        return Counts(), ""
    counts, last, end = Counts(), "", 0
    try:
        with partial.open("rb") as lines:
            first = lines.readline()
            begun = json.loads(first)
            end = place = len(first)
            for line in lines:
                place += len(line)
                if line.startswith(b'{"done": ') and line.endswith(b"\n"):
                    mark = json.loads(line)
                    counts, last, end = Counts(**mark["done"]), str(mark["last"]), place
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError(
            "what was begun here cannot be read", where=partial, mend="Begin anew with --no-resume"
        ) from error
    if begun != wanted:
        other = sorted(name for name in {*begun, *wanted} if begun.get(name) != wanted.get(name))
        raise MismatchError(
            f"pseudo queries were begun here with other settings ({', '.join(other)})",
            where=partial,
            mend="Give the same settings to go on, or begin anew with --no-resume",
        )
    os.truncate(partial, end)
    return counts, last


def _pass_over(stream: Iterator[Document], number: int, last: str, partial: Path) -> None:
    seen = None
    for document in islice(stream, number):
        seen = document.id
        number -= 1
    if number or (seen is not None and seen != last):
        raise MismatchError(
            "pseudo queries were begun here of other documents",
            where=partial,
            mend="Give the same documents to go on, or begin anew with --no-resume",
        )
