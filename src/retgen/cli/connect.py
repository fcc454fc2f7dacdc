"""``retgen connect``: connectors and pseudo answers for a collection, by whichever writer, resumable at any point."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retgen.cli import connect_options as options
from retgen.cli.connect_jobs import Job, check_job, open_job
from retgen.cli.connect_progress import standing_bar
from retgen.cli.connect_writers import ChatOptions, WriterOptions, open_writer
from retgen.cli.options import AsJson, CorpusOrIndex, SkipBad
from retgen.cli.running import counted, messages, results, write_json
from retgen.errors import RetgenError, UsageError

if TYPE_CHECKING:
    from retgen.cli.connect_jobs import Text
    from retgen.connect import Writer
    from retgen.connect.docid_quality import DocidQuality

INTERRUPTED = 130


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
    model: options.Model = None,
    endpoint: options.EndpointUrl = None,
    key_variable: options.KeyVariable = options.KEY_VARIABLE,
    ledger: options.LedgerFile = options.LEDGER,
    prompts: options.Prompts = None,
    temperature: options.Temperature = 0.0,
    seed: Annotated[int, typer.Option(help="Of the draws, and sent to the endpoint.", min=0)] = 0,
    max_tokens: options.MaxTokens = None,
    parameter: options.Parameters = None,
    concurrency: options.Concurrency = options.CONCURRENCY,
    timeout: options.Timeout = options.TIMEOUT,
    attempts: options.Attempts = options.ATTEMPTS,
    requests_per_minute: options.RequestsPerMinute = None,
    tokens_per_minute: options.TokensPerMinute = None,
    budget_tokens: options.BudgetTokens = None,
    budget_money: options.BudgetMoney = None,
    price: options.PriceOf = None,
    batch_file: Annotated[
        Path | None,
        typer.Option(help="chat: write what is to be asked for a provider's batch endpoint, and ask nothing."),
    ] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Write OUT even if some prompts failed.")] = False,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="Of `summarise`: count the docids' tokens by this model's (folder or hub id), not words."),
    ] = None,
    device: Annotated[str, typer.Option(help="local: auto, cpu, cuda, cuda:1, mps.")] = "auto",
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
) -> None:
    """Have a writer write connectors or pseudo answers. Stop it at any point; the same command goes on.

    Every completion is in the ledger before anything else happens to it, and is never paid again. OUT is written at
    the end, whole: a line for each document or question, to be read and edited. Prompts that fail are tried again when
    the others are done; if some fail then too, they are named in OUT.failed.jsonl and OUT is not written (--partial).

    Summaries become docids: they are tidied and kept short, and one that is empty or an excuse gives way to the
    document's first words, by the writer "lead". How good they are as names is said, and kept in OUT.quality.json.

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
    chosen = WriterOptions(writer, model, ledger, prompts, temperature, seed, max_tokens, device, chat)
    chosen.check(batch=batch_file is not None)
    if tokenizer is not None and job != "summarise":
        raise UsageError(f"--job {job} makes no use of --tokenizer", mend="Leave --tokenizer out")
    made = open_job(job, corpus, queries, run, answers, words=words, round=round, feedback=feedback, skip_bad=skip_bad)
    try:
        with standing_bar(job) as standing:
            opened = open_writer(chosen, made.corpus, standing)
            if batch_file is not None:
                _write_batch(batch_file, opened, made, ledger, as_json)
                return
            texts, failed = _write(made, opened, out, partial)
    except KeyboardInterrupt:
        kept = "" if writer == "offline" else f" What was received is in {ledger}:"
        typer.echo(f"Interrupted.{kept} run the same command again to go on", err=True)
        raise typer.Exit(INTERRUPTED) from None
    quality = _quality(made, texts, out, tokenizer) if job == "summarise" else None
    if as_json:
        told = {"out": str(out), "job": job, "writer": opened.name, "items": len(made.ids), "failed": failed}
        write_json({**told, **standing.sums, **({} if quality is None else {"quality": quality["docids"].to_json()})})
        return
    results().print(f"{out}: {counted(len(texts), 'text', 'texts')} by {opened.name}{standing.sentence}", markup=False)
    for name, found in (quality or {}).items():
        results().print(f"{name}: {found}", markup=False)


def _write(job: Job, writer: Writer, out: Path, partial: bool) -> tuple[dict[int, Text], int]:
    """Have everything written; the texts by number, and how many items got none."""
    from retgen.llm.errors import CompletionsFailedError

    failures = out.with_name(f"{out.name}.failed.jsonl")
    try:
        texts = job.ask(writer)
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
        kept = {place: text for place, text in enumerate(error.texts) if text is not None}
        texts = job.finish(kept, writer.name)
        job.write(out, texts)
        messages().print(f"{failures}: {counted(number, 'item', 'items')} without a text", markup=False)
        return texts, number
    job.write(out, texts)
    failures.unlink(missing_ok=True)
    return texts, 0


def _quality(job: Job, texts: Mapping[int, Text], out: Path, tokenizer: str | None) -> dict[str, DocidQuality]:
    """How good these docid texts are as names, and the documents' first words beside them; kept beside OUT."""
    from retgen.connect.docid_quality import docid_quality
    from retgen.connect.docid_texts import LEAD, DocidText
    from retgen.connect.extract import lead
    from retgen.store import write_atomic

    tokenise = None
    if tokenizer is not None:
        from retgen.models.pretrained import load_tokenizer

        loaded = load_tokenizer(tokenizer)

        def tokenise(text: str) -> list[int]:
            return list(loaded(text, add_special_tokens=False, verbose=False)["input_ids"])

    documents = [job.corpus.at(number) for number in texts]
    docids = [DocidText(text.text, text.writer, text.repair, text.cut) for text in texts.values()]
    length = max(1, round(sum(len(docid.text.split()) for docid in docids) / max(1, len(docids))))
    leads = [DocidText(lead(document.text, length), LEAD) for document in documents]
    found = {
        "docids": docid_quality(documents, docids, tokenise=tokenise),
        f"the first {length} words, for comparison": docid_quality(documents, leads, tokenise=tokenise),
    }
    content = {"docids": found["docids"].to_json(), "lead": [*found.values()][1].to_json()}
    write_atomic(out.with_name(f"{out.name}.quality.json"), json.dumps(content, indent=1) + "\n")
    return found


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
