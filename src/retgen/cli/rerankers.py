"""Which re-ranker a command's options name: checked before anything is read, opened when everything is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from retgen.errors import UsageError

if TYPE_CHECKING:
    from retgen.rerank.candidates import CandidateReranker
    from retgen.rerank.joint import JointReranker

KINDS = ("cross-encoder", "query-likelihood", "jpr")
_NEEDS = {
    "cross-encoder": ("--cross-encoder",),
    "query-likelihood": ("--generator",),
    "jpr": ("--cross-encoder", "--generator"),
}
_TRAINS = {"--cross-encoder": "cross-encoder", "--generator": "query-generator"}


def check_models(
    with_: str,
    cross_encoder: str | None,
    generator: str | None,
    generator_weight: float | None,
    state_cache: Path | None,
    endpoint: tuple[str | None, str | None] = (None, None),
) -> None:
    """Refuse options that do not fit ``--with``, before anything is read.

    Raises:
        UsageError: an unknown kind, a model that is missing or of no use, or λ outside [0, 1].
    """
    if with_ not in KINDS:
        raise UsageError(f"unknown re-ranker {with_!r}", where="--with", mend=f"Choose one of {', '.join(KINDS)}")
    served = _check_endpoint(generator, state_cache, *endpoint)
    given = {"--cross-encoder": cross_encoder, "--generator": generator or served}
    for option, model in given.items():
        if model is None and option in _NEEDS[with_]:
            raise UsageError(
                f"--with {with_} needs {option} MODEL",
                mend=f"Give a folder or hub id; `retgen train {_TRAINS[option]}` makes one from your own data",
            )
        if model is not None and option not in _NEEDS[with_]:
            raise UsageError(f"--with {with_} makes no use of {option}", mend=f"Leave {option} out, or use --with jpr")
    if generator_weight is not None:
        if with_ != "jpr":
            raise UsageError(f"--with {with_} weighs nothing", mend="Leave --generator-weight out, or use --with jpr")
        if not 0 <= generator_weight <= 1:
            raise UsageError(f"λ lies between 0 and 1, not at {generator_weight}", where="--generator-weight")
    if state_cache is not None and with_ == "cross-encoder":
        raise UsageError("a cross-encoder has no passage states to keep", mend="Leave --state-cache out")


def _check_endpoint(
    generator: str | None, state_cache: Path | None, endpoint: str | None, model: str | None
) -> str | None:
    """The model an endpoint serves in a generator's place; None without an endpoint."""
    for option, value, other, given in (
        ("--endpoint", endpoint, "--endpoint-model", model),
        ("--endpoint-model", model, "--endpoint", endpoint),
    ):
        if value is not None and given is None:
            raise UsageError(f"{option} needs {other}", mend=f"Give {other} too")
    if endpoint is not None and (generator is not None or state_cache is not None):
        raise UsageError(
            "an endpoint stands in the place of --generator, and keeps no states here",
            where="--endpoint",
            mend="Leave --generator and --state-cache out",
        )
    return model


def open_reranker(
    with_: str,
    *,
    cross_encoder: str | None,
    generator: str | None,
    generator_weight: float,
    preset: str | None,
    state_cache: Path | None,
    device: str,
    endpoint: tuple[str | None, str | None] = (None, None),
    ledger: Path | None = None,
) -> CandidateReranker | JointReranker:
    """The re-ranker of that kind, its models opened. `check_models` has seen to it that they were given."""
    from retgen.models.quiet import no_progress_bars
    from retgen.rerank.cross_encoder import CrossEncoder
    from retgen.rerank.joint import JointReranker
    from retgen.rerank.query_likelihood import QueryLikelihood

    url, served = endpoint
    with no_progress_bars():
        if with_ != "cross-encoder" and url is not None and served is not None:
            from retgen.llm import Endpoint, EndpointClient, Ledger
            from retgen.rerank.endpoint_likelihood import EndpointLikelihood

            client = EndpointClient(Endpoint(url), None if ledger is None else Ledger(ledger))
            likelihood = EndpointLikelihood(client, served, preset or "upr-causal")
            if with_ == "query-likelihood":
                return likelihood
            first = CrossEncoder.from_pretrained(str(cross_encoder), device=device)
            return JointReranker(first, likelihood, generator_weight)
        if with_ == "cross-encoder":
            return CrossEncoder.from_pretrained(str(cross_encoder), preset=preset or "jpr", device=device)
        if with_ == "query-likelihood":
            return QueryLikelihood.from_pretrained(str(generator), preset, device=device, state_cache=state_cache)
        return JointReranker.from_pretrained(
            str(cross_encoder),
            str(generator),
            generator_weight,
            preset=preset,
            device=device,
            state_cache=state_cache,
        )
