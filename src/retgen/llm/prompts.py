"""The prompts of UniGen: three from the paper, word for word, and one of ours for pseudo answers, which it lacks.

The paper leaves the numbers of words ``{m}`` and ``{n}`` and the number of documents fed back open; the defaults here
are ours, and whoever formats a prompt may pass others.
"""

from __future__ import annotations

from dataclasses import dataclass
from string import Formatter

from retgen.errors import UsageError

DEFAULT_SUMMARY_WORDS = 30
"""m: words of a document's summary (D-Connector). Ours: about the length of a ``lead`` docid, so the two compare."""
DEFAULT_CONTEXT_WORDS = 60
"""n: words of a question's context (Q-Connector). Ours."""
DEFAULT_FEEDBACK_DOCUMENTS = 3
"""k: documents of the previous round that are fed back in iterative enhancement. Ours."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt template with named fields.

    Args:
        name: the job it asks for: ``summarise``, ``contextualise``, ``answer`` or ``enhance``.
        template: the text, its fields in braces.
        source: where the wording comes from.

    Raises:
        UsageError: the template has a field without a name.

    Example:
        >>> Prompt("greet", "Greet {who}.", "an example").format(who="Ada")
        'Greet Ada.'
    """

    name: str
    template: str
    source: str

    def __post_init__(self) -> None:
        for _, field, spec, conversion in Formatter().parse(self.template):
            if field is not None and (not field.isidentifier() or spec or conversion):
                raise UsageError(
                    f"prompt {self.name!r} has the field {field!r}, which is not a plain name",
                    mend="Write fields as {name}; double the braces that belong to the text",
                )

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields' names, in the order they first occur."""
        names = (field for _, field, _, _ in Formatter().parse(self.template) if field is not None)
        return tuple(dict.fromkeys(names))

    def format(self, **values: object) -> str:
        """The prompt with its fields filled in. Braces inside the values are text, never fields.

        Args:
            values: one value for every field, and none besides.

        Raises:
            UsageError: a field has no value, or a value has no field.
        """
        missing = [name for name in self.fields if name not in values]
        unknown = sorted(set(values) - set(self.fields))
        if missing or unknown:
            faults = [f"lacks {', '.join(missing)}"] if missing else []
            faults += [f"does not know {', '.join(unknown)}"] if unknown else []
            raise UsageError(
                f"prompt {self.name!r} {' and '.join(faults)}", mend=f"Its fields are: {', '.join(self.fields)}"
            )
        return self.template.format(**values)


_PAPER = "UniGen (Li, Zhou and Dou), "

SUMMARY_PROMPT = Prompt(
    "summarise",
    "Summarize the key information of the following document in about {m} words.\n Document: {d}",
    _PAPER + '"LLM-based Connectors Generation" (D-Connector)',
)
"""Writes a D-Connector: fields ``m`` (words) and ``d`` (the document)."""

CONTEXT_PROMPT = Prompt(
    "contextualise",
    "Write a context to the following question in about {n} words.\n Question: {q}",
    _PAPER + '"LLM-based Connectors Generation" (Q-Connector)',
)
"""Writes a Q-Connector: fields ``n`` (words) and ``q`` (the question)."""

ENHANCE_PROMPT = Prompt(
    "enhance",
    "Given the following potentially relevant documents and the potentially correct answer, please provide the context "
    "for the question in {n} words. \n Document: {d} \n Answer: {a} \n Question: {q}",
    _PAPER + '"Iterative Enhancement Strategy"',
)
"""Rewrites a Q-Connector from the previous round: fields ``n``, ``d`` (its documents), ``a`` (its answer), ``q``."""

ANSWER_PROMPT = Prompt(
    "answer",
    "Answer the question from the document in at most six words, copied from the document where possible. "
    "Reply with the answer alone.\n Document: {d}\n Question: {q}",
    "retgen's own: the paper names the model that wrote pseudo answers, not the prompt",
)
"""Writes a pseudo answer: fields ``d`` (the document) and ``q`` (the pseudo query)."""

PROMPTS = {prompt.name: prompt for prompt in (SUMMARY_PROMPT, CONTEXT_PROMPT, ENHANCE_PROMPT, ANSWER_PROMPT)}
"""Every prompt by its job's name."""
