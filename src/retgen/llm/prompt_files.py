"""Prompts of one's own, from a YAML file: one text for each job, with the job's fields in braces."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from retgen.errors import FormatError, UsageError
from retgen.llm.prompts import PROMPTS, Prompt

_MUST_HAVE = {"summarise": ("d",), "contextualise": ("q",), "answer": ("q", "d"), "enhance": ("q",)}
"""Fields without which a prompt would ask the same of every item."""


def read_prompts(path: str | Path) -> dict[str, Prompt]:
    """The four prompts, those of a file in the place of the paper's.

    Args:
        path: a YAML file of ``job: text``; jobs are ``summarise`` (fields ``m``, ``d``), ``contextualise`` (``n``,
            ``q``), ``enhance`` (``n``, ``d``, ``a``, ``q``) and ``answer`` (``d``, ``q``). A job that it leaves out
            keeps its prompt, a field that a text leaves out is not told the model.

    Raises:
        FormatError: the file cannot be read, or is no such mapping.
        UsageError: an unknown job or field, or a text that lacks what makes one item another.
    """
    try:
        found: object = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        line = " ".join(str(error).split())
        raise FormatError(f"these prompts cannot be read ({line})", where=path, mend="Give a YAML file") from error
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise FormatError("a file of prompts maps jobs to texts", where=path, mend="Write  summarise: |  and the text")
    return checked_prompts({str(job): Prompt(str(job), text, str(path)) for job, text in found.items()}, where=path)


def checked_prompts(prompts: Mapping[str, Prompt], *, where: str | Path | None = None) -> dict[str, Prompt]:
    """The four prompts, these in the place of the paper's.

    Raises:
        UsageError: an unknown job or field, or a text that lacks what makes one item another.
    """
    for job, prompt in prompts.items():
        if job not in PROMPTS:
            raise UsageError(f"no job is called {job!r}", where=where, mend=f"The jobs are {', '.join(PROMPTS)}")
        known = PROMPTS[job].fields
        unknown = [name for name in prompt.fields if name not in known]
        missing = [name for name in _MUST_HAVE[job] if name not in prompt.fields]
        if unknown or missing:
            what = f"has no field {unknown[0]!r}" if unknown else f"needs the field {missing[0]!r}"
            raise UsageError(
                f"the prompt of {job!r} {what}",
                where=where,
                mend=f"Its fields are {', '.join('{' + name + '}' for name in known)}",
            )
    return {**PROMPTS, **prompts}
