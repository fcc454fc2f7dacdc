"""UniGen as a system: model, tokenizer, docids and the writer of its inputs, as Retriever and Answerer at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch

from retgen.connect.writer import Writer
from retgen.devices import length_sorted_batches, pick_device
from retgen.docids.changing import ChangingDocids
from retgen.docids.scoring import score_docids
from retgen.docids.search import search as search_docids
from retgen.docids.table import DocidTable
from retgen.errors import MismatchError, UsageError
from retgen.generative.answering import decode_answers
from retgen.generative.docid_run import DocidRun
from retgen.generative.folder import read_folder, write_folder
from retgen.generative.inputs import TokenisedInput, pad_inputs, tokenise_inputs
from retgen.generative.living import LivingCollection
from retgen.generative.settings import UniGenSettings
from retgen.models.session import UniGenSession
from retgen.models.unigen import Encoded, UniGenForRetrievalAndAnswering
from retgen.pipeline import Component
from retgen.types import Answer, DocumentSource, Query, Run

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["UniGen", "UniGenSettings"]

Progress = Callable[[int, int], None]


class UniGen(LivingCollection, Component):
    """Finds documents by writing their docids, and answers, from one encoder pass.

    Scores of hits are log p(docid | input) ≤ 0 (Eq. 1). Answers are not read from the retrieved documents: the answer
    decoder reads its input, so `Answer.passages` holds what was retrieved alongside and `Answer.source` stays None.
    Documents may come and go (`LivingCollection`).

    Args:
        model: the network.
        tokenizer: the one it was built with.
        table: docids of the corpus; or docids that change, in a folder or in memory.
        writer: writes the connector of queries that come without one; None reads the plain question.
        settings: how the model is used.
        device: ``auto``, ``cpu``, ``cuda``…

    Attributes:
        history: what its training logged (see `retgen.generative.history`); empty where nobody put it there.

    Raises:
        MismatchError: the docids were made with another tokenizer, or the tokenizer is not the network's.
    """

    def __init__(
        self,
        model: UniGenForRetrievalAndAnswering,
        tokenizer: PreTrainedTokenizerBase,
        table: DocidTable | ChangingDocids,
        *,
        writer: Writer | None = None,
        settings: UniGenSettings | None = None,
        device: str | torch.device = "auto",
    ) -> None:
        from retgen.docids.lineage import tokenizer_fingerprint

        docids = table if isinstance(table, ChangingDocids) else ChangingDocids(table)
        made_with = docids.table.lineage.get("tokenizer")
        if made_with is not None and made_with != tokenizer_fingerprint(tokenizer):
            raise MismatchError(
                "these docids were made with another tokenizer than the model's",
                mend="Build the docid table with the model's own tokenizer",
            )
        if len(tokenizer) > model.shared.num_embeddings:
            raise MismatchError(
                f"the tokenizer has {len(tokenizer)} tokens, but the network knows {model.shared.num_embeddings}",
                mend="Use the tokenizer that the network was built with",
            )
        super().__init__(docids, tokenizer)
        self.device = pick_device(device) if isinstance(device, str) else device
        self.model: UniGenForRetrievalAndAnswering = model.to(self.device)  # type: ignore[arg-type]
        self.writer = writer
        self.settings = settings or UniGenSettings()
        self.history: list[dict[str, float]] = []
        self.made_by: dict[str, object] = {}
        """How it was trained, as JSON values: kept in its folder's manifest and told by its model card."""

    def search(self, queries: Sequence[Query], k: int = 10, *, allowed_documents: Iterable[str] | None = None) -> Run:
        """The documents whose docids the retrieval decoder finds most likely.

        Args:
            queries: to search for.
            k: the most documents per query; a beam search finds no more docids than it has beams.
            allowed_documents: ids of the only documents that may be found (a tenant's, those of a year); the tree is
                searched as if it held no others.

        Returns:
            With ``docid_strategy="exact"`` hits have as components what is certified of their query: ``certified`` is
            1 where they are proven to be the best, 0 where the budget ended first or (``tied`` is 1) a tie was left;
            ``expanded`` and ``gap`` are as in `retgen.docids.hits.Certificate`.

        Raises:
            UnknownDocumentError: an allowed document has no docid.
        """
        return self._run(queries, k, retrieve=True, answer=False, allowed_documents=allowed_documents)[0]

    def answer(self, queries: Sequence[Query], run: Run | None, documents: DocumentSource | None) -> list[Answer]:
        """One answer for every query; a run's documents are named beside it, not read."""
        answers = self._run(queries, 0, retrieve=False, answer=True)[1]
        if run is None:
            return answers
        return [replace(item, passages=tuple(run.doc_ids(item.query_id))) for item in answers]

    def search_and_answer(
        self,
        queries: Sequence[Query],
        k: int = 10,
        *,
        allowed_documents: Iterable[str] | None = None,
        progress: Progress | None = None,
    ) -> tuple[Run, list[Answer]]:
        """Both, encoding every input once. What may be found has no bearing on what is answered."""
        run, answers = self._run(
            queries, k, retrieve=True, answer=True, allowed_documents=allowed_documents, progress=progress
        )
        return run, [replace(item, passages=tuple(run.doc_ids(item.query_id))) for item in answers]

    @torch.inference_mode()
    def rerank(self, queries: Sequence[Query], run: Run, documents: DocumentSource, k: int | None = None) -> Run:
        """Score every candidate by log p(docid | input), not only those a beam meets; ties keep the run's order.

        Raises:
            UnknownDocumentError: a candidate has no docid.
            MismatchError: the run comes from another corpus than the docids.
        """
        table = self.table
        if None not in (run.fingerprint, table.corpus_fingerprint) and run.fingerprint != table.corpus_fingerprint:
            raise MismatchError(
                "this run comes from another corpus than the model's docids", mend="Search the same corpus for both"
            )
        queries = self.with_connectors(queries)
        scores: dict[str, list[float]] = {}
        for numbers, _, encoded in self._encode(queries):
            session = UniGenSession(self.model, encoded, "retrieval")
            candidates = [[table.number(doc_id) for doc_id in run.doc_ids(queries[i].id)] for i in numbers]
            width = max(map(len, candidates), default=0)
            if width == 0:
                scores.update({queries[i].id: [] for i in numbers})
                continue
            flat = table.padded([number for row in candidates for number in row])
            tokens = torch.full((len(numbers), width, flat.shape[1]), -100, dtype=torch.int64)
            place = 0
            for row, items in enumerate(candidates):
                tokens[row, : len(items)] = torch.from_numpy(flat[place : place + len(items)])
                place += len(items)
            found = score_docids(session, tokens, start_token_id=cast(int, self.model.config.decoder_start_token_id))
            for row, i in enumerate(numbers):
                scores[queries[i].id] = found[row, : len(candidates[row])].tolist()
        ids = [query.id for query in queries]
        ranked = Run(ids, [run.doc_ids(i) for i in ids], [scores[i] for i in ids], fingerprint=run.fingerprint)
        return ranked if k is None else ranked.top(k)

    def with_connectors(self, queries: Sequence[Query]) -> list[Query]:
        """The queries, those without a connector given one by the writer."""
        bare = [query for query in queries if query.connector is None]
        if self.writer is None or not bare:
            return list(queries)
        written = dict(
            zip([q.id for q in bare], self.writer.contextualise(bare, words=self.settings.context_words), strict=True)
        )
        return [query if query.connector else query.with_connector(written[query.id]) for query in queries]

    def _encode(
        self, queries: Sequence[Query], progress: Progress | None = None
    ) -> Iterator[tuple[list[int], list[TokenisedInput], Encoded]]:
        """Blocks of queries of similar length: their numbers, inputs and encoder states, one block at a time."""
        inputs = tokenise_inputs(
            self.tokenizer, [query.input_text for query in queries], self.settings.max_input_tokens
        )
        done, was_training = 0, self.model.training
        self.model.train(False)
        try:
            lengths = [len(item.ids) for item in inputs]
            for numbers in length_sorted_batches(lengths, self.settings.token_budget, max_items=64):
                chosen = [inputs[i] for i in numbers]
                ids, mask = pad_inputs(chosen, cast(int, self.model.config.pad_token_id))
                with torch.inference_mode():
                    encoded = self.model.encode(ids.to(self.device), mask.to(self.device))
                yield numbers, chosen, encoded
                done += len(numbers)
                if progress is not None:
                    progress(done, len(inputs))
        finally:
            self.model.train(was_training)

    @torch.inference_mode()
    def _run(
        self,
        queries: Sequence[Query],
        k: int,
        *,
        retrieve: bool,
        answer: bool,
        allowed_documents: Iterable[str] | None = None,
        progress: Progress | None = None,
    ) -> tuple[Run, list[Answer]]:
        if answer and self.model.answer_decoder is None:
            raise UsageError("this model finds documents and writes no answers", mend="Ask it with `search` alone")
        queries = self.with_connectors(queries)
        docids = self.docids.docids  # one pair for all blocks, whatever comes or goes meanwhile
        view = self._allowed(docids, allowed_documents)
        hits = DocidRun(queries, docids.table, certified=retrieve and self.settings.docid_strategy == "exact")
        answers: list[Answer] = [Answer(query.id, "") for query in queries]
        for numbers, inputs, encoded in self._encode(queries, progress):
            if retrieve:
                found = search_docids(
                    UniGenSession(self.model, encoded, "retrieval"),
                    view,
                    start_token_id=cast(int, self.model.config.decoder_start_token_id),
                    num_beams=self.settings.num_beams,
                    k=k,
                    rule=self.settings.docid_rule,
                    strategy=self.settings.docid_strategy,
                    max_expansions=self.settings.max_expansions,
                )
                hits.add(numbers, found)
            if answer:
                decoded = decode_answers(
                    self.model,
                    self.tokenizer,
                    encoded,
                    inputs,
                    self.settings.answer_strategy,
                    self.settings.max_answer_tokens,
                )
                for number, (text, score) in zip(numbers, decoded, strict=True):
                    answers[number] = Answer(queries[number].id, text, score)
        return hits.run(), answers

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write model, tokenizer, docids, settings and the training's history as one folder.

        Documents added and removed are in it, without a journal. A system that changes its folder's documents
        (``write=True``) goes on there when it is saved over its own folder: do so when ``docids.merge_is_due``.

        Raises:
            ArtefactError: something stands there that may not be replaced, or the disk is full.
            LockedError: another process changes the documents of the model that stands there.
            UsageError: all documents were removed.
        """
        target = Path(path).expanduser().resolve()

        def write(table: DocidTable) -> None:
            write_folder(
                target,
                self.model,
                self.tokenizer,
                table,
                self.settings,
                self.history,
                made_by=self.made_by,
                overwrite=overwrite,
            )

        self.docids.write_with(write, target)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        corpus_fingerprint: str | None = None,
        writer: Writer | None = None,
        device: str = "auto",
        write: bool = False,
    ) -> UniGen:
        """Open what `save` wrote, with all documents that were added since, and without those removed.

        Args:
            path: the folder.
            corpus_fingerprint: of the corpus it will be used with; checked when given and known.
            writer: see `UniGen`.
            device: see `UniGen`.
            write: to add and remove documents, which only one process may, until `close`.

        Raises:
            ArtefactError: the folder is torn, foreign or of another kind.
            LockedError: with ``write``, another process changes its documents.
            MismatchError: it was trained on another corpus.
        """
        saved = read_folder(path, corpus_fingerprint=corpus_fingerprint, write=write)
        system = cls(saved.model, saved.tokenizer, saved.docids, writer=writer, settings=saved.settings, device=device)
        system.history = saved.history
        system.made_by = saved.made_by
        return system
