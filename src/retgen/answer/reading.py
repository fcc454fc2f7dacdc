"""What the answerers over a reader model share: choosing passages, citations, saving; each kind has its own file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch

from retgen.answer.answerable import with_answerable
from retgen.answer.citations import as_details, as_it_stands, cite
from retgen.devices import pick_device, pick_dtype
from retgen.errors import FormatError, UsageError
from retgen.evaluate import Calibration
from retgen.models.generator_sources import load_generator
from retgen.models.reader import Reader
from retgen.models.reader_format import ReaderFormat
from retgen.models.readings import Reading, Written
from retgen.pipeline import Component, check_fingerprint
from retgen.types import Answer, Document, DocumentSource, Query, Run

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Progress = Callable[[int, int], None]
"""Called with (questions done, questions)."""
_BLOCK = 256


class ReadingAnswerer(Component):
    """Answers written by a `retgen.models.reader.Reader`.

    `Answer.score` is log p(answer | question, passages) in nats, ≤ 0, a sum over tokens; ``details`` holds
    ``tokens`` (how many were summed) and, where passages were read, ``citations`` (see
    `retgen.answer.citations.citations_of`). `Answer.source` is the first of them: the passage with the largest share
    among those in which the answer stands, or among all where it stands in none; ``start`` and ``end`` in the details
    say where it stands. A query without hits gets an empty answer.

    Args:
        reader: the model.
        passages: how many of the run's first passages are read.
        num_beams: 1 is greedy.
        batch_tokens: most input tokens at a time, after padding; results do not depend on it.
        calibration: of its scores; with it each answer says how likely it is right, in ``details["answerable"]``.
        device: ``cpu``, ``cuda``, ``auto``…; None leaves the model where it is.

    Attributes:
        history: what its training logged; empty where nobody put it there.

    Raises:
        UsageError: ``passages`` or ``num_beams`` is below 1.
    """

    reader_class: ClassVar[type[Reader]]

    def __init__(
        self,
        reader: Reader,
        *,
        passages: int = 10,
        num_beams: int = 1,
        batch_tokens: int | None = None,
        calibration: Calibration | None = None,
        device: str | None = None,
    ) -> None:
        if passages < 1 or num_beams < 1:
            raise UsageError(f"passages and num_beams must be at least 1; got {passages} and {num_beams}")
        if not isinstance(reader, self.reader_class):
            raise UsageError(f"{type(self).__name__} needs a {self.reader_class.__name__}, not {type(reader).__name__}")
        if device is not None:
            reader.model.to(pick_device(device))  # type: ignore[arg-type]
        self.reader = reader
        self.passages = passages
        self.num_beams = num_beams
        self.batch_tokens = batch_tokens
        self.calibration = calibration
        self.history: list[dict[str, float]] = []

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        texts: Iterable[str] | None = None,
        format: ReaderFormat | None = None,
        passages: int = 10,
        num_beams: int = 1,
        batch_tokens: int | None = None,
        device: str = "auto",
        dtype: str = "fp32",
        reader_options: dict[str, Any] | None = None,
        **model_options: Any,
    ) -> Self:
        """An answerer over any encoder-decoder, to be trained or asked. For one that was saved, see `open`.

        Args:
            source: a hub id or folder, ``warm:…`` or ``scratch:…``: see `retgen.models.generator_sources`.
            texts: the corpus', for sources that need them.
            format: how questions and passages are written.
            passages: see the class.
            num_beams: see the class.
            batch_tokens: see the class.
            device: see `retgen.devices.pick_device`.
            dtype: ``fp32`` (what training needs), ``bf16`` or ``auto``. Scores are fp32 with each.
            reader_options: of the reader's class, e.g. RAG's ``marginal``.
            model_options: of the source.

        Raises:
            FormatError: no encoder-decoder can be loaded from there.
            UsageError: an option that the source or the reader does not have.
        """
        loaded, tokenizer = load_generator(str(source), texts=texts, **model_options)
        chosen = pick_device(device)
        model: Any = loaded
        model.to(device=chosen, dtype=pick_dtype(chosen, dtype)).eval()
        made: Any = cls.reader_class
        reader = made(model, tokenizer, format, **(reader_options or {}))
        return cls(reader, passages=passages, num_beams=num_beams, batch_tokens=batch_tokens)

    @property
    def model(self) -> PreTrainedModel:
        """The encoder-decoder."""
        return self.reader.model

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer."""
        return self.reader.tokenizer

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.reader.model.device

    def readings(
        self, queries: Sequence[Query], run: Run | None, documents: DocumentSource | None
    ) -> list[Reading | None]:
        """What is to be read for each query; None for one without hits.

        Raises:
            UsageError: there is no run, no documents, or the run lacks a query.
            MismatchError: the run and the documents belong to different corpora.
        """
        if not self.reader.reads_passages:
            return [Reading(query.text) for query in queries]
        if run is None or documents is None:
            raise UsageError(
                f"{type(self).__name__} reads retrieved passages, and there are none",
                mend=f"Put a retriever before it: (retriever >> {type(self).__name__}(…)).over(index)",
            )
        check_fingerprint(run.fingerprint, documents, "this run")
        found: list[Reading | None] = []
        for query in queries:
            if query.id not in run:
                raise UsageError(f"the run lacks the query {query.id!r}", mend="Give a run over these queries")
            hits = run[query.id][: self.passages]
            passages = tuple(documents[hit.doc_id] for hit in hits)
            found.append(Reading(query.text, passages, tuple(hit.score for hit in hits)) if hits else None)
        return found

    def answer(
        self,
        queries: Sequence[Query],
        run: Run | None,
        documents: DocumentSource | None,
        *,
        progress: Progress | None = None,
    ) -> list[Answer]:
        """One answer for every query, in their order.

        Args:
            queries: with ids of their own.
            run: over these queries; not looked at by a closed-book answerer.
            documents: of the run.
            progress: called with (queries done, queries).

        Raises:
            UsageError: a query id occurs twice, or see `readings`.
            MismatchError: see `readings`.
        """
        if len({query.id for query in queries}) != len(queries):
            raise UsageError("a query id occurs twice", mend="Give every query its own id")
        was_training = self.model.training
        self.model.train(False)
        try:
            found: list[Answer] = []
            for start in range(0, len(queries), _BLOCK):
                block = queries[start : start + _BLOCK]
                found += self._block(block, self.readings(block, run, documents), start, len(queries), progress)
        finally:
            self.model.train(was_training)
        return found if self.calibration is None else with_answerable(found, self.calibration)

    def _block(
        self,
        queries: Sequence[Query],
        readings: Sequence[Reading | None],
        start: int,
        total: int,
        progress: Progress | None,
    ) -> list[Answer]:
        asked = [reading for reading in readings if reading is not None]
        silent = len(readings) - len(asked)
        told = None if progress is None else (lambda done, _: progress(start + silent + done, total))
        written = iter(
            self.reader.write(asked, num_beams=self.num_beams, batch_tokens=self.batch_tokens, progress=told)
        )
        if progress is not None and not asked:
            progress(start + silent, total)
        return [
            Answer(query.id, "") if reading is None else self._answer(query.id, reading, next(written))
            for query, reading in zip(queries, readings, strict=True)
        ]

    def _answer(self, query_id: str, reading: Reading, written: Written) -> Answer:
        text = str(self.tokenizer.decode(list(written.token_ids), skip_special_tokens=True)).strip()
        details: dict[str, object] = {"tokens": written.tokens}
        if not self.reader.reads_passages:
            return Answer(query_id, text, written.score, details=details)
        citations = cite(text, reading.passages, written.shares)
        best = citations[0]
        if best.start is not None:
            source: Document = next(passage for passage in reading.passages if passage.id == best.doc_id)
            text = as_it_stands(text, source.text[best.start : best.end], self.tokenizer)
            details |= {"start": best.start, "end": best.end}
        details["citations"] = as_details(citations)
        shown = tuple(passage.id for passage in reading.passages)
        return Answer(query_id, text, written.score, shown, best.doc_id if text else None, details)

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write model, tokenizer, settings, calibration and the training's history as one folder.

        Raises:
            ArtefactError: something stands there that may not be replaced, or the disk is full.
        """
        from retgen.answer.folder import write_reader

        write_reader(self, path, overwrite=overwrite)

    @classmethod
    def open(cls, path: str | Path, *, device: str = "auto", dtype: str = "auto") -> Self:
        """Open what `save` wrote.

        Args:
            path: the folder.
            device: see `retgen.devices.pick_device`.
            dtype: ``auto`` (bf16 where it is faster), ``fp32`` or ``bf16``.

        Raises:
            ArtefactError: the folder is torn, foreign or of another kind.
            FormatError: it holds another kind of answerer.
        """
        from retgen.answer.folder import open_reader

        found = open_reader(path, device=device, dtype=dtype)
        if not isinstance(found, cls):
            raise FormatError(
                f"this folder holds a {type(found).__name__}, not a {cls.__name__}",
                where=path,
                mend=f"Open it as {type(found).__name__}, or by retgen.answer.folder.open_reader",
            )
        return found
