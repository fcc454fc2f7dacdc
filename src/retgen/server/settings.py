"""What a server is told: which index and models make the pipeline, how much it takes on, and who may ask."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from retgen.errors import ArtefactError, FormatError, UsageError
from retgen.recipes.yaml_source import YamlSource

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class PipelineSettings(BaseModel):
    """The parts of a pipeline. Paths are folders; models may also be hub ids.

    Args:
        index: of `retgen index`.
        retriever: the default one: ``bm25``, another of the index', or ``unigen``. None: ``unigen`` with a ``model``,
            else ``bm25``.
        model: a folder of `retgen train unigen`, which then answers too.
        cross_encoder: p(passage | query); with a generator as well the re-ranker is JPR.
        generator: p(query | passage).
        generator_weight: λ of JPR, the generator's share.
        preset: how the re-ranker's inputs are written; see `retgen rerank`.
        reader: a folder of a trained reader (FiD, RAG, closed book), which answers in the best span's place.
        candidates: passages that are retrieved for the re-ranker, at least. 50: a cross-encoder's work on a CPU.
        top_k: passages an answer is read from; None is the reader's own number, and 3 for the best span.
        device: ``auto``, ``cpu``, ``cuda``, …
        read_only: whether adding and removing documents is refused.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    index: Path
    retriever: str | None = None
    model: Path | None = None
    cross_encoder: str | None = None
    generator: str | None = None
    generator_weight: float = Field(0.5, ge=0, le=1)
    preset: str | None = None
    reader: Path | None = None
    candidates: int = Field(50, ge=1, le=1000)
    top_k: int | None = Field(None, ge=1, le=100)
    device: str = "auto"
    read_only: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.model is not None and self.reader is not None:
            raise ValueError("a model answers itself, so that a reader would not be asked: give one of the two")
        if self.retriever == "unigen" and self.model is None:
            raise ValueError("the retriever unigen needs a model")
        return self

    @property
    def reranker(self) -> str | None:
        """The kind of re-ranker that the models make."""
        if self.cross_encoder is not None:
            return "jpr" if self.generator is not None else "cross-encoder"
        return "query-likelihood" if self.generator is not None else None


class Limits(BaseModel):
    """How much a server takes on.

    Args:
        body_bytes: of a request. Longer ones get 413 without being read.
        body_seconds: in which a body must have arrived.
        json_depth: of nesting in a body.
        query_characters: of a question.
        document_characters: of one document, title included.
        documents: texts to re-rank, or documents to add, in one request.
        queue: requests that may wait for the models. More get 503 with Retry-After.
        changes: additions and removals that may wait.
        requests: that may be open at a time, whatever they wait for.
        batch: requests that the models take on at a time; 1 is one by one.
        batch_pairs: (query, passage) pairs in a batch, beyond which no further request joins it.
        deadline_seconds: in which an answer must be ready, unless the request names another; then 503.
        max_deadline_seconds: the longest that a request may name.
        shutdown_seconds: that a stopped server gives what it has taken on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    body_bytes: int = Field(2_000_000, ge=1_000)
    body_seconds: float = Field(10.0, gt=0)
    json_depth: int = Field(16, ge=4, le=64)
    query_characters: int = Field(2_000, ge=1)
    document_characters: int = Field(200_000, ge=1)
    documents: int = Field(1_000, ge=1)
    queue: int = Field(256, ge=1)
    changes: int = Field(32, ge=1)
    requests: int = Field(1_024, ge=1)
    batch: int = Field(32, ge=1)
    batch_pairs: int = Field(2_048, ge=1)
    deadline_seconds: float = Field(30.0, gt=0)
    max_deadline_seconds: float = Field(300.0, gt=0)
    shutdown_seconds: float = Field(60.0, gt=0)


class AccessSettings(BaseModel):
    """Who may ask.

    Args:
        keys: API keys, any of which opens the server; none leaves it open.
        allowed_hosts: names it may be called by (the Host header); empty allows any. Names guard a server on loopback
            against pages that have their own name resolve to it.
        cors_origins: pages of other origins that may call it; none by default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: tuple[str, ...] = Field(default=(), repr=False)
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()


class ServerSettings(BaseModel):
    """A YAML file of `retgen serve`: the pipeline, and if wanted ``limits``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pipeline: PipelineSettings
    limits: Limits = Field(default_factory=lambda: Limits.model_validate({}))


def read_settings(source: str | Path, overrides: Mapping[str, object] | None = None) -> ServerSettings:
    """Settings from an index folder or a YAML file.

    Args:
        source: an index folder, or a ``.yaml``/``.yml`` with the fields of `PipelineSettings` at its top and, if
            wanted, those of `Limits` under ``limits``. Its paths are taken from its own folder.
        overrides: fields of the pipeline that are put in the place of the file's; None values are left out.

    Raises:
        UsageError: a field is unknown or has a value that cannot be used.
        FormatError: the file is not YAML.
        ArtefactError: there is neither.

    Example file::

        index: my-index
        cross_encoder: my-cross-encoder
        generator: my-generator
        generator_weight: 0.4
        limits: {deadline_seconds: 10}
    """
    path = Path(source)
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    if path.is_dir():
        return _checked({"pipeline": {"index": path, **given}}, path)
    if path.suffix not in (".yaml", ".yml"):
        what = "a file stands there" if path.exists() else "there is no such folder"
        raise ArtefactError(
            f"neither an index nor a .yaml: {what}",
            where=path,
            mend="Make an index: retgen index DOCUMENTS --out INDEX",
        )
    content = dict(YamlSource.read(path).content)
    limits = content.pop("limits", {})
    if "index" not in content:
        raise FormatError("a pipeline needs an index", where=path, mend="Add the line: index: my-index")
    return _checked({"pipeline": {**_from(path.parent, content), **given}, "limits": limits}, path)


def _from(folder: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """The content with relative paths seen from the file's folder; models are paths where a folder stands there."""
    made = dict(content)
    for name in ("index", "model", "reader"):
        if isinstance(made.get(name), str):
            made[name] = folder / Path(made[name]).expanduser()
    for name in ("cross_encoder", "generator"):
        value = made.get(name)
        if isinstance(value, str) and (folder / Path(value).expanduser()).is_dir():
            made[name] = str(folder / Path(value).expanduser())
    return made


def _checked(values: Mapping[str, object], path: Path) -> ServerSettings:
    try:
        return ServerSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(str(part) for part in first["loc"] if part != "pipeline")
        known = sorted({*PipelineSettings.model_fields, "limits"})
        mend = f"Known are: {', '.join(known)}" if first["type"] == "extra_forbidden" else None
        raise UsageError(
            f"{name or 'the pipeline'}: {first['msg'].removeprefix('Value error, ')}", where=path, mend=mend
        ) from error


def read_keys(path: str | Path) -> tuple[str, ...]:
    """API keys from a file, one a line; empty lines and lines that begin with ``#`` are passed over.

    Raises:
        UsageError: it cannot be read, holds no key, or one that is no plain word of 8 characters or more.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"this file of keys cannot be read ({error})", where=path) from error
    return checked_keys([line.strip() for line in lines if line.strip() and not line.startswith("#")], path)


def checked_keys(keys: list[str], where: str | Path) -> tuple[str, ...]:
    """Keys that can be sent in a header and are no child's play.

    Raises:
        UsageError: there is none, or one that cannot be used. The message does not hold it.
    """
    if not keys:
        raise UsageError("there is no key", where=where, mend="Give one a line")
    for number, key in enumerate(keys, 1):
        if len(key) < 8 or not key.isascii() or not key.isprintable() or " " in key:
            raise UsageError(
                f"key {number} is shorter than 8 characters, or has others than ASCII's visible ones",
                where=where,
                mend="Make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
            )
    return tuple(keys)
