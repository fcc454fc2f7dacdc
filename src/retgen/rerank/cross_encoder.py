"""The cross-encoder: one model reads query and passage together and says how well the passage fits the query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from retgen.devices import length_sorted_batches, pick_device, pick_dtype
from retgen.errors import ArtefactError, UsageError
from retgen.models.cross_encoder_sources import KIND, cast_trunk, load_cross_encoder, longest_input, relevance
from retgen.models.first_token import first_token_only
from retgen.models.match_marks import reads_match_marks
from retgen.models.pair_inputs import Pair, PairInputs
from retgen.models.quiet import no_progress_bars
from retgen.models.saving import save_folder
from retgen.rerank.candidates import CandidateReranker, Candidates, Progress
from retgen.text import word_spans
from retgen.types import Document, Explanation, FloatArray, Query

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PRESETS: Mapping[str, int] = {"jpr": 512, "jpr-beir": 512, "upr": 512, "authors-code": 320}
"""Tokens of a pair: what the paper says, and what its authors' code does. The names are those of the generator's."""
_BLOCK = 8192
"""Pairs that are tokenised, and sorted by length, at once."""
_CUT_STEP = 16
"""Of models that keep what they made of a passage: too long ones are cut to a multiple of so many tokens."""
_OCCLUSIONS = 64


class CrossEncoder(CandidateReranker):
    """Orders passages by a cross-encoder's logit: a Reranker.

    Scores are raw logits in fp32, any real number, never behind a sigmoid; of a model with two outputs, their
    difference (relevant minus not). Within one query, log p(z|x) of JPR's Eq. 3 is their log-softmax over the
    candidates. It reads the question (`Query.text`), never the connector, and title and text of a passage as one.
    Passages of equal text have equal scores.

    Make one with `from_pretrained`.

    Args:
        model: a sequence-classification model with one output or two. It is moved to the device and cast.
        tokenizer: of the model.
        max_length: tokens of a pair; less where the model cannot read so many.
        query_share: of these tokens, the most that a query may take. Of longer pairs the passage is cut.
        batch_tokens: tokens of a batch after padding.
        device: ``auto``, ``cpu``, ``cuda``, …
        dtype: of the trunk: ``auto`` (bf16 where it is faster), ``fp32`` or ``bf16``. The head computes in fp32.

    Raises:
        UsageError: a number that is out of range, or a device or dtype that is not known.

    Reference:
        Nogueira and Cho, "Passage Re-ranking with BERT", 2019; BERT-FT in JPR's Table 1.

    Example::

        cross_encoder = CrossEncoder.from_pretrained("cross-encoder/ms-marco-MiniLM-L6-v2")
        run = (BM25() >> cross_encoder).over(index)(["who discovered oxygen?"]).run
    """

    component = "cross_encoder"

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_length: int = PRESETS["jpr"],
        query_share: float = 0.5,
        batch_tokens: int = 16_384,
        device: str = "auto",
        dtype: str = "auto",
    ) -> None:
        if batch_tokens < 1:
            raise UsageError(f"batch_tokens must be at least 1; got {batch_tokens}")
        self.device = pick_device(device)
        self.dtype = pick_dtype(self.device, dtype)
        self.tokenizer = tokenizer
        self.inputs = PairInputs(
            tokenizer,
            min(max_length, longest_input(model, tokenizer) or max_length),
            query_share,
            match_marks=reads_match_marks(model.config),
            cut_step=_CUT_STEP if hasattr(model.config, "join_layer") else 1,
        )
        self.batch_tokens = batch_tokens
        cast_trunk(model, self.dtype)
        nn.Module.to(model, self.device)
        self.model: PreTrainedModel = model.train(False)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        preset: str = "jpr",
        max_length: int | None = None,
        attn_implementation: str | None = None,
        **options: Any,
    ) -> CrossEncoder:
        """Load a cross-encoder.

        Args:
            source: a folder or hub id of any sequence-classification checkpoint with one output or two: those of
                sentence-transformers, plain transformers' or our own; or a source of an untrained one, see
                `retgen.models.cross_encoder_sources.load_cross_encoder`.
            preset: ``jpr`` (512 tokens a pair, as the paper says; ``jpr-beir`` and ``upr``, which differ in what a
                generator reads, are the same here) or ``authors-code`` (320).
            max_length: tokens of a pair, whatever the preset says.
            attn_implementation: ``eager``, ``sdpa``, …; the family's own by default.
            options: of this class: ``query_share``, ``batch_tokens``, ``device``, ``dtype``.

        Raises:
            UsageError: an unknown preset or option.
            FormatError: there is no model, or one that is not a cross-encoder.
            ArtefactError: a folder that retgen saved is torn, or of another kind.
        """
        if preset not in PRESETS:
            raise UsageError(f"unknown preset {preset!r} of a cross-encoder", mend=f"Choose {', '.join(PRESETS)}")
        with no_progress_bars():
            model, tokenizer = load_cross_encoder(source)
        if attn_implementation is not None:
            model.set_attn_implementation(attn_implementation)
        return cls(model, tokenizer, max_length=PRESETS[preset] if max_length is None else max_length, **options)

    @property
    def max_length(self) -> int:
        """Tokens of a pair at most, special ones included."""
        return self.inputs.max_length

    def score_pairs(self, candidates: Candidates, progress: Progress | None = None) -> FloatArray:
        """The logit of each of ``candidates.pairs``, in their order."""
        contents = [passage.contents for passage in candidates.passages]
        pairs = [(candidates.queries[query].text, contents[passage]) for query, passage in candidates.pairs]
        return self._scores(pairs, progress).astype(np.float64)

    def predict(self, pairs: Sequence[Pair]) -> npt.NDArray[np.float32]:
        """The logits of (query, passage) pairs: what sentence-transformers' ``predict`` gives without an activation.

        Returns:
            Shape (pairs,), float32.

        Raises:
            ArtefactError: the model gave a score that is not a number.
        """
        scores = self._scores(pairs)
        wrong = np.flatnonzero(~np.isfinite(scores))
        if len(wrong):
            raise ArtefactError(
                f"the cross-encoder gave {len(wrong)} of {len(pairs)} pairs a score that is not a number, first pair "
                f"{int(wrong[0])}",
                mend="The model's weights are broken, or its numbers overflow: load it again in fp32",
            )
        return scores

    def rank(
        self, query: str, documents: Sequence[str], top_k: int | None = None, return_documents: bool = False
    ) -> list[dict[str, Any]]:
        """Texts ordered by their logit, in sentence-transformers' form.

        Args:
            query: a question.
            documents: texts.
            top_k: keep the best so many.
            return_documents: give the texts too.

        Returns:
            Best first, for each text ``corpus_id`` (its number), ``score``, and ``text`` if wanted; ties in order.

        Raises:
            UsageError: ``top_k`` below 1.
            ArtefactError: the model gave a score that is not a number.
        """
        if top_k is not None and top_k < 1:
            raise UsageError(f"top_k must be at least 1; got {top_k}")
        scores = self.predict([(query, document) for document in documents])
        order = np.argsort(-scores, kind="stable")[:top_k]
        ranked: list[dict[str, Any]] = [{"corpus_id": int(n), "score": float(scores[n])} for n in order]
        if return_documents:
            for hit in ranked:
                hit["text"] = documents[hit["corpus_id"]]
        return ranked

    def explain(self, query: Query, document: Document) -> Explanation:
        """The logit, and what each word of the passage adds to it: the logit's fall when the word is left out.

        Words of a long passage are left out several at a time, in at most 64 pieces.
        """
        text = document.contents
        spans = word_spans(text)
        size = max(1, -(-len(spans) // _OCCLUSIONS))
        pieces = [(spans[n][0], spans[min(n + size, len(spans)) - 1][1]) for n in range(0, len(spans), size)]
        without = [(query.text, f"{text[:start].rstrip()} {text[end:].lstrip()}".strip()) for start, end in pieces]
        whole, *others = self.predict([(query.text, text), *without]).tolist()
        tokens = tuple((text[start:end], whole - other) for (start, end), other in zip(pieces, others, strict=True))
        return Explanation(query.id, document.id, {self.component: whole}, tokens)

    def encode(self, pairs: Sequence[Pair]) -> dict[str, Tensor]:
        """The pairs as one batch of the model's inputs, on its device: name → shape (B, L)."""
        return {name: value.to(self.device) for name, value in self.inputs(pairs).items()}

    def logits(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The relevance logits of a batch, shape (B,), fp32. Gradients flow: training uses this too."""
        with first_token_only(self.model):
            return relevance(self.model(**batch).logits)

    def save(self, path: str | Path, *, made_by: Mapping[str, object] | None = None, overwrite: bool = False) -> None:
        """Write model and tokenizer into one folder, whole or not at all.

        ``from_pretrained``, sentence-transformers' ``CrossEncoder`` and transformers open it; these two do not make the
        marks of a model that was trained with match marks, and give it other scores.

        Args:
            path: where the folder shall stand.
            made_by: JSON values that say how the model was made.
            overwrite: replace a cross-encoder that stands there.

        Raises:
            ArtefactError: something stands there that may not be replaced.
        """
        save_folder(self.model, self.tokenizer, path, kind=KIND, made_by=made_by, overwrite=overwrite)

    def __repr__(self) -> str:
        return f"CrossEncoder({self.model.config.model_type}, {self.max_length} tokens)"

    def _scores(self, pairs: Sequence[Pair], progress: Progress | None = None) -> npt.NDArray[np.float32]:
        # Equal pairs are scored once: the last bits of a score depend on the batch it is computed in.
        numbers: dict[Pair, int] = {}
        places = np.array([numbers.setdefault((query, text), len(numbers)) for query, text in pairs], dtype=np.int64)
        unlike = list(numbers)
        found = np.zeros(len(unlike), dtype=np.float32)
        was_training = self.model.training
        self.model.train(False)
        try:
            for start in range(0, len(unlike), _BLOCK):
                block = unlike[start : start + _BLOCK]
                self._score_block(block, found[start : start + len(block)])
                if progress is not None:
                    progress(int((places < start + len(block)).sum()), len(pairs))
        finally:
            self.model.train(was_training)
        return found[places]

    @torch.inference_mode()
    def _score_block(self, pairs: Sequence[Pair], found: npt.NDArray[np.float32]) -> None:
        rows = self.inputs.rows(pairs)
        lengths = [len(row["input_ids"]) for row in rows]
        for batch in length_sorted_batches(lengths, self.batch_tokens):
            inputs = self.inputs.padded([rows[number] for number in batch])
            scores = self.logits({name: value.to(self.device) for name, value in inputs.items()})
            found[batch] = scores.cpu().numpy()
