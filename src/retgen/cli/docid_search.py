"""Options of `retgen search` and `ask` that say how a trained model's docids are searched, and what was proven."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from retgen.errors import UsageError

if TYPE_CHECKING:
    from retgen.generative.settings import UniGenSettings

_PANEL = "How a trained model (--model) searches"

Strategy = Annotated[
    str | None,
    typer.Option(
        "--strategy",
        help="beam, as generate does; lookahead, in fewer steps and never worse; or exact: the best documents of all, "
        "with proof where --max-expansions suffices [the model's own setting].",
        metavar="NAME",
        rich_help_panel=_PANEL,
    ),
]
Rule = Annotated[
    str | None,
    typer.Option(
        "--rule",
        help="What a docid's score is: model, its log-probability; or trie, which weighs only tokens that lead to "
        "documents: cheaper, but no confidence [the model's own setting].",
        metavar="NAME",
        rich_help_panel=_PANEL,
    ),
]
MaxExpansions = Annotated[
    int | None,
    typer.Option(
        "--max-expansions",
        help="With --strategy exact: prefixes that it reads per question at most [the model's own setting].",
        min=1,
        rich_help_panel=_PANEL,
    ),
]


@dataclass(frozen=True)
class DocidSearch:
    """How docids are searched; None leaves the model's own setting.

    Raises:
        UsageError: a name that does not exist.
    """

    strategy: str | None = None
    rule: str | None = None
    max_expansions: int | None = None

    def __post_init__(self) -> None:
        if self.strategy is None and self.rule is None:
            return
        from retgen.docids.search import RULES, STRATEGIES

        for option, value, known in (("--strategy", self.strategy, STRATEGIES), ("--rule", self.rule, RULES)):
            if value is not None and value not in known:
                raise UsageError(
                    f"docids cannot be searched by {value!r}", where=option, mend=f"Choose one of {', '.join(known)}"
                )

    def check_model(self, model: object) -> None:
        """Whether there is a model that these options can speak of.

        Raises:
            UsageError: there is none.
        """
        if model is None:
            for option, value in (
                ("--strategy", self.strategy),
                ("--rule", self.rule),
                ("--max-expansions", self.max_expansions),
            ):
                if value is not None:
                    raise UsageError(
                        "this says how a trained model searches, and there is none",
                        where=option,
                        mend="Name one with --model (search: --with unigen --model MODEL), or leave it out",
                    )

    def applied(self, settings: UniGenSettings, *, beams: int) -> UniGenSettings:
        """A model's settings with these, and with so many beams at least.

        Raises:
            UsageError: a budget for a search that has none.
        """
        from dataclasses import replace

        chosen = replace(
            settings,
            num_beams=max(beams, settings.num_beams),
            docid_strategy=self.strategy or settings.docid_strategy,
            docid_rule=self.rule or settings.docid_rule,
            max_expansions=self.max_expansions or settings.max_expansions,
        )
        if self.max_expansions is not None and chosen.docid_strategy != "exact":
            raise UsageError(
                f"only an exact search has a budget, and this is a {chosen.docid_strategy} search",
                where="--max-expansions",
                mend="Add --strategy exact, or leave it out",
            )
        return chosen


def certificate_told(certificate: Mapping[str, object]) -> str:
    """A certificate in one sentence; see `retgen.generative.docid_run.certificate_of`."""
    read = f"{certificate['expanded']} prefixes read"
    if certificate["certified"]:
        return f"Certified: no document left out is likelier ({read})."
    if certificate["status"] == "tie":
        return f"Not certified: a document left out is as likely as the last one, as far as can be told ({read})."
    return f"Not certified: a document left out may be likelier; --max-expansions sets how far to look ({read})."
