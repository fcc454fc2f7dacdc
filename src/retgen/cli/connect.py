"""``retgen connect``: connectors and pseudo answers for a collection, by whichever writer, resumable at any point."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retgen.cli.connect_jobs import Job, check_job, open_job
from retgen.cli.connect_progress import standing_bar
from retgen.cli.connect_writers import ChatOptions, WriterOptions, open_writer
from retgen.cli.options import AsJson, CorpusOrIndex, SkipBad
from retgen.cli.running import counted, messages, results, write_json
from retgen.errors import RetgenError, UsageError

if TYPE_CHECKING:
    from retgen.connect import Writer


def connect(
    corpus: CorpusOrIndex,
    job: Annotated[
        str,
        typer.Option(
            help="summarise (D-Connectors of documents), contextualise (Q-Connectors of questions), answer (pseudo "
            "answers to pseudo questions), enhance (the next round's Q-Connectors).",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The .jsonl to write.", show_default=False)],
    writer: Annotated[
        str,
        typer.Option(help="offline (no language model), chat (an endpoint), local (a model in this process)."),
    ] = "offline",
    queries: Annotated[
        str | None,
        typer.Option(help="Questions. Of `answer`: what retgen pseudo-queries wrote.", metavar="FILE"),
    ] = None,
    run: Annotated[Path | None, typer.Option(help="Of `enhance`: the previous round's run.", metavar="RUN")] = None,
    answers: Annotated[
        Path | None,
        typer.Option(help="Of `enhance`: the previous round's answers, as retgen eval reads them.", metavar="FILE"),
    ] = None,
    round: Annotated[int, typer.Option(help="Of `enhance`: which round the texts are for.", min=1)] = 1,
    feedback: Annotated[int, typer.Option(help="Of `enhance`: documents of the run that are read.", min=1)] = 3,
    words: Annotated[
        int | None, typer.Option(help="Length asked for; 30 for summaries, 60 for contexts.", min=1)
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="chat: the model's name at the endpoint; local: folder or hub id.")
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="chat: e.g. http://localhost:8000/v1; OpenAI's by default.", metavar="URL")
    ] = None,
    key_variable: Annotated[
        str, typer.Option(help="chat: the environment variable that holds the key.")
    ] = "OPENAI_API_KEY",
    ledger: Annotated[
        Path,
        typer.Option(help="Keeps every completion; give the same one again to go on.", envvar="RETGEN_LEDGER"),
    ] = Path("retgen-ledger.sqlite"),
    prompts: Annotated[
        Path | None, typer.Option(help="A .yaml of prompts in the place of the paper's.", metavar="FILE")
    ] = None,
    temperature: Annotated[float, typer.Option(help="0: the likeliest words.", min=0.0)] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the draws, and sent to the endpoint.", min=0)] = 0,
    max_tokens: Annotated[
        int | None, typer.Option(help="Of a completion; by default three a word, and a few to spare.", min=1)
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(help="chat: NAME=JSON, sent along; NAME=null leaves one out. Several times.", metavar="NAME=JSON"),
    ] = None,
    concurrency: Annotated[int, typer.Option(help="chat: requests under way at a time.", min=1)] = 16,
    timeout: Annotated[float, typer.Option(help="chat: seconds for one attempt.", min=0.1)] = 120.0,
    attempts: Annotated[int, typer.Option(help="chat: attempts for one prompt, in each of two rounds.", min=1)] = 8,
    requests_per_minute: Annotated[float | None, typer.Option(help="chat: a limit of the endpoint to keep.")] = None,
    tokens_per_minute: Annotated[float | None, typer.Option(help="chat: likewise.")] = None,
    budget_tokens: Annotated[int | None, typer.Option(help="chat: stop before so many tokens are spent.")] = None,
    budget_money: Annotated[float | None, typer.Option(help="chat: likewise; needs --price.")] = None,
    price: Annotated[
        tuple[float, float] | None,
        typer.Option(help="chat: of a million tokens of prompts, and of completions.", metavar="PROMPT COMPLETION"),
    ] = None,
    batch_file: Annotated[
        Path | None,
        typer.Option(help="chat: write what is to be asked for a provider's batch endpoint, and ask nothing."),
    ] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Write OUT even if some prompts failed.")] = False,
    device: Annotated[str, typer.Option(help="local: auto, cpu, cuda, cuda:1, mps.")] = "auto",
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
) -> None:
    """Have a writer write connectors or pseudo answers. Stop it at any point; the same command goes on.

    Every completion is in the ledger before anything else happens to it, and is never paid again. OUT is written at
    the end, whole: a line for each document or question, to be read and edited. Prompts that fail are tried again when
    the others are done; if some fail then too, they are named in OUT.failed.jsonl and OUT is not written (--partial).

    Examples:

      retgen connect my-index --job summarise --out d-connectors.jsonl

      retgen connect my-index --job summarise --writer chat --endpoint http://localhost:8000/v1
        --model Qwen/Qwen3-8B --out d-connectors.jsonl

      retgen connect my-index --job contextualise --queries questions.jsonl --writer chat --model gpt-4o-mini
        --budget-money 5 --price 0.15 0.60 --out q-connectors.jsonl

      retgen pseudo-queries my-index --out asked.jsonl
      retgen connect my-index --job answer --queries asked.jsonl --writer local --model my-model --out answered.jsonl
    """
    check_job(job, queries, run, answers)
    chat = ChatOptions(
        endpoint=endpoint,
        key_variable=key_variable,
        concurrency=concurrency,
        timeout=timeout,
        attempts=attempts,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        budget_tokens=budget_tokens,
        budget_money=budget_money,
        price=price,
        parameters=tuple(parameter or ()),
    )
    options = WriterOptions(writer, model, ledger, prompts, temperature, seed, max_tokens, device, chat)
    options.check(batch=batch_file is not None)
    made = open_job(job, corpus, queries, run, answers, words=words, round=round, feedback=feedback, skip_bad=skip_bad)
    with standing_bar(job) as standing:
        opened = open_writer(options, made.corpus, standing)
        if batch_file is not None:
            _write_batch(batch_file, opened, made, ledger, as_json)
            return
        failed = _write(made, opened, out, partial)
    if as_json:
        told = {"out": str(out), "job": job, "writer": opened.name, "items": len(made.ids), "failed": failed}
        write_json({**told, **standing.sums})
        return
    results().print(
        f"{out}: {counted(len(made.ids) - failed, 'text', 'texts')} by {opened.name}{standing.sentence}", markup=False
    )


def _write(job: Job, writer: Writer, out: Path, partial: bool) -> int:
    """Have everything written; the number of items that got nothing."""
    from retgen.llm.errors import CompletionsFailedError

    failures = out.with_name(f"{out.name}.failed.jsonl")
    try:
        texts, name = job.ask(writer)
    except CompletionsFailedError as error:
        job.write_failures(failures, error.reasons)
        number = len(error.reasons)
        if not partial:
            first = min(error.reasons)
            raise RetgenError(
                f"{counted(number, 'item', 'items')} of {len(job.ids)} got no text, the first {job.ids[first]!r}: "
                f"{error.reasons[first]}",
                where=failures,
                mend="Run it again: the others are in the ledger and cost nothing. Or pass --partial to write these",
            ) from error
        job.write(out, {place: text for place, text in enumerate(error.texts) if text is not None}, writer.name)
        messages().print(f"{failures}: {counted(number, 'item', 'items')} without a text", markup=False)
        return number
    job.write(out, dict(enumerate(texts)), name)
    failures.unlink(missing_ok=True)
    return 0


def _write_batch(path: Path, writer: Writer, job: Job, ledger: Path, as_json: bool) -> None:
    from retgen.connect.prompted import PromptedWriter
    from retgen.llm.batch_files import write_batch
    from retgen.llm.ledger import Ledger

    if not isinstance(writer, PromptedWriter):
        raise UsageError("only prompts go into a batch", where="--batch-file", mend="Use --writer chat")
    with Ledger(ledger) as opened:
        files = write_batch(path, job.requests(writer), opened)
    if as_json:
        write_json({"files": [str(file) for file, _ in files], "requests": sum(count for _, count in files)})
        return
    for file, count in files:
        results().print(
            f"{file}: {counted(count, 'request', 'requests')}. Send it to the provider, then: "
            f"retgen ledger collect {ledger} {file} ANSWERS",
            markup=False,
        )
    if not files:
        results().print(f"{ledger} has everything: run the same command without --batch-file", markup=False)
