"""Joint passage re-ranking (JPR): good is what fits the query and what the query could have been asked of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retgen.errors import UsageError
from retgen.pipeline import Bindable, Component, Explainer, SearchableSource
from retgen.rerank.candidates import CandidateReranker, Candidates, Progress, collect, ranked
from retgen.rerank.fusion import check_fraction, combine, log_softmax, weighted
from retgen.types import Document, DocumentSource, Explanation, FloatArray, Query, Reranker, Run

if TYPE_CHECKING:
    from retgen.models.prompt_format import PromptFormat

JOINT = "joint"


class JointReranker(Component):
    """Orders candidates by ``(1 − λ)·log p(z|x) + λ·log p(x|z)`` (Eq. 3), λ = ``generator_weight``.

    Each term is the log-softmax, in fp64, of one part's raw scores over the query's candidates. It takes the score's
    scale across queries away and nothing else: within a query the order is that of ``(1 − λ)·first + λ·second``.

    The parts are any two re-rankers that give every candidate a score: a `CrossEncoder` and a `QueryLikelihood` (the
    paper), UniGen's retrieval decoder in the cross-encoder's place, or anything else with `rerank`. Their raw scores
    are components of the result under their own names, beside ``joint``; what the incoming run carries rides along.

    The authors' code multiplies the *first* part by its weight w; to repeat such a setting, give
    ``generator_weight = 1 − w``. The two agree at 0.5.

    Args:
        first: p(passage | query).
        second: p(query | passage).
        generator_weight: λ of Eq. 3, the second part's share, 0 to 1. 0.5 until `retgen.rerank.tuning.tune` has chosen
            a better one on dev questions.
        names: of the parts' components. By default each part's ``component``, else its class in lower case.

    Raises:
        UsageError: λ lies outside [0, 1], a part is no re-ranker, or two components would have one name.

    Reference:
        "Joint Passage Re-ranking", Eq. 3, section 2.1.

    Example:
        >>> class Shorter(CandidateReranker):
        ...     component = "shorter"
        ...
        ...     def score_pairs(self, candidates, progress=None):
        ...         return np.array([-float(len(candidates.passages[p].text)) for _, p in candidates.pairs])
        >>> class Titled(CandidateReranker):
        ...     component = "titled"
        ...
        ...     def score_pairs(self, candidates, progress=None):
        ...         return np.array([9.0 * bool(candidates.passages[p].title) for _, p in candidates.pairs])
        >>> documents = {"a": Document("a", "Oxygen is a gas."), "b": Document("b", "Iron is a metal.", "Iron")}
        >>> run = Run.from_dict({"q": {"a": 2.0, "b": 1.0}})
        >>> JointReranker(Shorter(), Titled(), 0.5).rerank([Query("q", "what is iron?")], run, documents).doc_ids("q")
        ['b', 'a']
    """

    component = JOINT

    def __init__(
        self,
        first: Reranker,
        second: Reranker,
        generator_weight: float = 0.5,
        *,
        names: tuple[str, str] | None = None,
    ) -> None:
        check_fraction(generator_weight, "the generator's weight λ")
        for part in (first, second):
            if not isinstance(part, Reranker):
                raise UsageError(
                    f"{type(part).__name__} has no method rerank, so it cannot score candidates",
                    mend="Give two re-rankers, such as a CrossEncoder and a QueryLikelihood",
                )
        self.names = names or (component_name(first), component_name(second))
        if len({*self.names, JOINT}) < 3:
            raise UsageError(
                f"the parts' scores would be called {self.names[0]!r} and {self.names[1]!r} and their sum {JOINT!r}, "
                "but each needs a name of its own",
                mend='Give names, such as JointReranker(first, second, names=("passage", "query"))',
            )
        self.first = first
        self.second = second
        self.generator_weight = float(generator_weight)

    @classmethod
    def from_pretrained(
        cls,
        cross_encoder: str | Path,
        generator: str | Path,
        generator_weight: float = 0.5,
        *,
        preset: str | PromptFormat | None = None,
        device: str = "auto",
        dtype: str = "auto",
        state_cache: str | Path | None = None,
    ) -> JointReranker:
        """JPR from two saved models.

        Args:
            cross_encoder: a folder or hub id, as `CrossEncoder.from_pretrained` takes.
            generator: a folder or hub id, as `QueryLikelihood.from_pretrained` takes.
            generator_weight: λ of Eq. 3.
            preset: how the generator's passage and query are written; its name, a format of your own, or None for the
                generator's default. With ``authors-code`` the cross-encoder cuts its pairs as that code does, too.
            device: of both, e.g. ``auto``, ``cpu`` or ``cuda``.
            dtype: of both: ``auto``, ``fp32`` or ``bf16``; scores are computed in fp32 with either.
            state_cache: a folder that keeps the generator's passage states from one run to the next.

        Raises:
            RetgenError: a model cannot be opened, or λ lies outside [0, 1].
        """
        from retgen.rerank.cross_encoder import PRESETS, CrossEncoder
        from retgen.rerank.query_likelihood import QueryLikelihood

        check_fraction(generator_weight, "the generator's weight λ")
        pairs = preset if isinstance(preset, str) and preset in PRESETS else "jpr"
        return cls(
            CrossEncoder.from_pretrained(cross_encoder, preset=pairs, device=device, dtype=dtype),
            QueryLikelihood.from_pretrained(generator, preset, device=device, dtype=dtype, state_cache=state_cache),
            generator_weight,
        )

    @property
    def weights(self) -> dict[str, float]:
        """Component → its weight in the sum."""
        return {self.names[0]: 1 - self.generator_weight, self.names[1]: self.generator_weight}

    def __repr__(self) -> str:
        return f"JointReranker({self.names[0]}, {self.names[1]}, generator_weight={self.generator_weight:g})"

    def bind(self, source: DocumentSource | SearchableSource) -> JointReranker:
        """This re-ranker over a corpus: parts that need to know the corpus are told."""
        bound = [part.bind(source) if isinstance(part, Bindable) else part for part in (self.first, self.second)]
        if bound[0] is self.first and bound[1] is self.second:
            return self
        first, second = bound
        if not (isinstance(first, Reranker) and isinstance(second, Reranker)):
            raise UsageError("a part of the joint re-ranker is no re-ranker once it is bound to a corpus")
        return JointReranker(first, second, self.generator_weight, names=self.names)

    def rerank(
        self,
        queries: Sequence[Query],
        run: Run,
        documents: DocumentSource,
        k: int | None = None,
        *,
        progress: Progress | None = None,
    ) -> Run:
        """The run's documents by the joint score; ties keep the run's order.

        Args:
            queries: with unique ids, each in the run.
            run: the candidates. Its components ride along; a run without any has its scores kept as ``first_stage``.
            documents: the corpus of the run.
            k: keep the best so many of every query. Both parts score every candidate first.
            progress: called with (pairs scored, pairs in all); each candidate is a pair for either part.

        Returns:
            A run of these queries, those without candidates included. The score is ``joint``, ≤ 0.

        Raises:
            UsageError: a query id occurs twice, the run lacks a query, k < 1, or a part left candidates without score.
            UnknownDocumentError: a candidate is not among the documents.
            MismatchError: the run comes from another corpus.
            ArtefactError: a part gave a score that is not a number.
        """
        if k is not None and k < 1:
            raise UsageError(f"k must be at least 1; got {k}")
        candidates = collect(queries, run, documents)
        pairs = len(candidates.pairs)
        raw = []
        for number, (name, part) in enumerate(zip(self.names, (self.first, self.second), strict=True)):
            raw.append(_scores(part, name, candidates, run, documents, _shifted(progress, number * pairs, 2 * pairs)))
        ends = np.cumsum([len(row) for row in candidates.rows], dtype=np.int64)[:-1]
        shares = [np.concatenate([np.zeros(0), *map(log_softmax, np.split(values, ends))]) for values in raw]
        with np.errstate(invalid="ignore"):  # infinities of a broken part: `ranked` names the candidate
            joint = weighted(shares, list(self.weights.values()))
        return ranked(candidates, run, {**dict(zip(self.names, raw, strict=True)), JOINT: joint}, JOINT, k)

    def explain(self, query: Query, document: Document) -> Explanation:
        """Both parts' scores of one document, and the tokens' scores of the second part, else the first, that has them.

        ``joint`` is ``(1 − λ)·first + λ·second`` of the raw scores here: a softmax needs all candidates. Within a query
        it differs from the run's ``joint`` by one constant.
        """
        explained: Explanation | None = None
        components: dict[str, float] = {}
        # The first part is asked for its tokens only where the second has none: they may cost it many passes.
        for name, part in ((self.names[1], self.second), (self.names[0], self.first)):
            own = component_name(part)
            if (explained is None or not explained.tokens) and isinstance(part, Explainer):
                explained = part.explain(query, document)
                components.update({other: value for other, value in explained.components.items() if other != own})
                score = explained.components.get(own)
            else:
                score = None
            if score is None:
                alone = Run([query.id], [[document.id]], [[0.0]])
                score = float(part.rerank([query], alone, {document.id: document}).scores(query.id)[0])
            components[name] = score
        components[JOINT] = sum(weight * components[name] for name, weight in self.weights.items())
        return Explanation(query.id, document.id, components, explained.tokens if explained is not None else ())


def component_name(part: object) -> str:
    """What a re-ranker's score is called: its ``component``, else its class in lower case."""
    name = getattr(part, "component", None)
    return name if isinstance(name, str) and name else type(part).__name__.lower()


def joint_scores(
    run: Run,
    *,
    first: str = "cross_encoder",
    second: str = "generator",
    generator_weight: float = 0.5,
    k: int | None = None,
) -> Run:
    """A run that carries both parts' scores, weighed anew by Eq. 3: no model is asked.

    Equals `JointReranker.rerank` with that weight, but for exact ties, which keep the order of the run given here.

    Args:
        run: with both components for every candidate.
        first: the component of p(passage | query).
        second: the component of p(query | passage).
        generator_weight: λ of Eq. 3, 0 to 1.
        k: keep the best so many of every query.

    Raises:
        UsageError: λ lies outside [0, 1], the run lacks a component, or a candidate lacks a score.

    Example:
        >>> run = Run(["q"], [["a", "b"]], [[2.0, 1.0]], components={"reads": [[0.0, 1.0]], "asks": [[-1.0, -4.0]]})
        >>> [joint_scores(run, first="reads", second="asks", generator_weight=w).doc_ids("q") for w in (0.0, 1.0)]
        [['b', 'a'], ['a', 'b']]
    """
    check_fraction(generator_weight, "the generator's weight λ")
    if first == second:
        raise UsageError(f"the component {first!r} cannot be weighed against itself", mend="Name two components")
    return combine(run, {first: 1 - generator_weight, second: generator_weight}, scale="log_softmax", name=JOINT, k=k)


def _scores(
    part: Reranker,
    name: str,
    candidates: Candidates,
    run: Run,
    documents: DocumentSource,
    progress: Progress | None,
) -> FloatArray:
    """The part's raw score of each of ``candidates.pairs``."""
    pairs = len(candidates.pairs)
    if not pairs:
        return np.zeros(0, dtype=np.float64)
    if isinstance(part, CandidateReranker):
        # The candidates are collected and checked: its `rerank` would read every passage a second time.
        return np.asarray(part.score_pairs(candidates, progress), dtype=np.float64)
    found = part.rerank(candidates.queries, run, documents)
    scores: list[float] = []
    for query in candidates.queries:
        own = dict(zip(found.doc_ids(query.id), found.scores(query.id).tolist(), strict=True))
        lost = [doc_id for doc_id in run.doc_ids(query.id) if doc_id not in own]
        if lost:
            raise UsageError(
                f"{name} gave no score to {len(lost)} of the {len(lost) + len(own)} candidates of query {query.id!r}, "
                f"the first {lost[0]!r}; Eq. 3 needs both scores of every candidate",
                mend="Use a re-ranker that scores every candidate and keeps it",
            )
        scores.extend(own[doc_id] for doc_id in run.doc_ids(query.id))
    if progress is not None:
        progress(pairs, pairs)
    return np.array(scores, dtype=np.float64)


def _shifted(progress: Progress | None, before: int, total: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, _own_total: progress(before + done, total)
