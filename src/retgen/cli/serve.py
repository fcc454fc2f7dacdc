"""``retgen serve``: a pipeline behind HTTP, until it is stopped."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from retgen.cli.running import messages, write_json
from retgen.errors import MissingExtraError, UsageError

KEY_VARIABLE = "RETGEN_API_KEY"
_PIPELINE, _ACCESS, _LOAD = "The pipeline", "Who may ask", "How much it takes on"


def serve(
    source: Annotated[
        Path,
        typer.Argument(
            help="An index that retgen index made, or a .yaml that names one and the models over it.",
            metavar="PIPELINE.yaml|INDEX",
            show_default=False,
        ),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on; 127.0.0.1 is this machine alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8000,
    with_: Annotated[
        str | None,
        typer.Option(
            "--with",
            help="The retriever where a request names none [bm25, or unigen with --model].",
            rich_help_panel=_PIPELINE,
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="A model of retgen train unigen: it finds and answers.", rich_help_panel=_PIPELINE),
    ] = None,
    cross_encoder: Annotated[
        str | None,
        typer.Option(
            help="Re-rank by p(passage | query): folder or hub id.", metavar="MODEL", rich_help_panel=_PIPELINE
        ),
    ] = None,
    generator: Annotated[
        str | None,
        typer.Option(
            help="Re-rank by p(query | passage): folder or hub id. With a cross-encoder too, by both: JPR.",
            metavar="MODEL",
            rich_help_panel=_PIPELINE,
        ),
    ] = None,
    generator_weight: Annotated[
        float | None,
        typer.Option(help="With both: λ, the generator's share [0.5].", min=0, max=1, rich_help_panel=_PIPELINE),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="How the re-ranker's inputs are written, as in retgen rerank.", rich_help_panel=_PIPELINE),
    ] = None,
    reader: Annotated[
        Path | None,
        typer.Option(
            help="A trained reader (FiD, RAG, closed book) that answers in the best span's place.",
            rich_help_panel=_PIPELINE,
        ),
    ] = None,
    candidates: Annotated[
        int | None,
        typer.Option(help="Passages retrieved for the re-ranker [50].", min=1, max=1000, rich_help_panel=_PIPELINE),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(
            help="Passages an answer is read from [the reader's own, or 3].", min=1, max=100, rich_help_panel=_PIPELINE
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps [auto].", rich_help_panel=_PIPELINE)
    ] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Refuse to add and remove documents.", rich_help_panel=_PIPELINE)
    ] = False,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            help=f"API keys, one a line, any of which opens the server; or one key in the variable {KEY_VARIABLE}.",
            metavar="FILE",
            rich_help_panel=_ACCESS,
        ),
    ] = None,
    without_key: Annotated[
        bool,
        typer.Option(
            "--without-key",
            help="Listen for others than this machine with no key: anyone may ask, add and remove.",
            rich_help_panel=_ACCESS,
        ),
    ] = False,
    allowed_hosts: Annotated[
        list[str] | None,
        typer.Option(
            "--allowed-host",
            help="A name it may be called by, e.g. behind a proxy [on 127.0.0.1 this machine's names, else any].",
            metavar="NAME",
            rich_help_panel=_ACCESS,
        ),
    ] = None,
    cors_origins: Annotated[
        list[str] | None,
        typer.Option(
            "--cors-origin",
            help="An origin whose pages may call it, e.g. https://example.org [none].",
            metavar="ORIGIN",
            rich_help_panel=_ACCESS,
        ),
    ] = None,
    deadline: Annotated[
        float | None,
        typer.Option(help="Seconds an answer may take, else 503 [30].", min=0.001, rich_help_panel=_LOAD),
    ] = None,
    queue: Annotated[
        int | None, typer.Option(help="Requests that may wait, else 503 [256].", min=1, rich_help_panel=_LOAD)
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(help="Requests the models take on at a time; 1 is one by one [32].", min=1, rich_help_panel=_LOAD),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help='Print {"url": …} on standard output when it answers.')
    ] = False,
) -> None:
    """Answer questions over HTTP: search, re-rank, answer, explain, chat as OpenAI's clients do, documents that come
    and go. Needs no training: an index alone has BM25 and the best span.

    Examples:

      retgen serve my-index

      curl localhost:8000/v1/answer -H 'Content-Type: application/json' -d '{"question": "who discovered oxygen?"}'

      retgen serve my-index --cross-encoder my-ce --generator my-generator --generator-weight 0.4

      retgen serve my-index --model my-unigen --read-only

      retgen serve pipeline.yaml --host 0.0.0.0 --api-key-file keys.txt

    The log goes to standard error, one JSON object a line, without questions or documents. Ctrl-C or SIGTERM ends the
    server when what it has taken on is answered. docs/serve.md has all routes, limits and metrics.
    """
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(error.name or "fastapi", "serve") from error
    from retgen.server.app import create_app
    from retgen.server.logs import log_to
    from retgen.server.parts import open_parts
    from retgen.server.running import is_loopback, listen, server_of, url_of
    from retgen.server.service import Service
    from retgen.server.settings import LOOPBACK, AccessSettings, read_settings

    keys = keys_of(api_key_file)
    local = is_loopback(host)
    if not local and not keys and not without_key:
        raise UsageError(
            f"{host} lets others in, and there is no API key",
            where="--host",
            mend=f"Give --api-key-file or {KEY_VARIABLE}; or --without-key, if anyone may ask, add and remove",
        )
    settings = read_settings(
        source,
        {
            "retriever": with_,
            "model": model,
            "cross_encoder": cross_encoder,
            "generator": generator,
            "generator_weight": generator_weight,
            "preset": preset,
            "reader": reader,
            "candidates": candidates,
            "top_k": top_k,
            "device": device,
            "read_only": read_only or None,
        },
    )
    named = {"deadline_seconds": deadline, "queue": queue, "batch": batch}
    limits = settings.limits.model_copy(update={name: value for name, value in named.items() if value is not None})
    access = AccessSettings(
        keys=keys,
        allowed_hosts=tuple(allowed_hosts or ()) + (LOOPBACK if local else ()),
        cors_origins=tuple(cors_origins or ()),
    )
    bound = listen(host, port)
    console = messages()
    parts = open_parts(settings.pipeline, lambda step: console.print(f"Open {step}", markup=False, highlight=False))
    log_to(sys.stderr)
    service = Service(parts, limits)
    url = url_of(bound)

    def told() -> None:
        if as_json:
            write_json({"url": url, "documents": parts.document_count, "retrievers": list(parts.retrievers)})
            sys.stdout.flush()
        console.print(f"Listening at {url}. Ctrl-C ends it.", markup=False, highlight=False)

    server_of(create_app(service, access), service, told).run(sockets=[bound])


def keys_of(file: Path | None) -> tuple[str, ...]:
    """The API keys: of a file, and of the environment.

    Raises:
        UsageError: one that cannot be used.
    """
    from retgen.server.settings import checked_keys, read_keys

    keys = read_keys(file) if file is not None else ()
    own = os.environ.get(KEY_VARIABLE)
    return (*keys, *(checked_keys([own], KEY_VARIABLE) if own else ()))
