"""The errors a user can meet. Each says what is wrong, where, and how to mend it.

Nothing else lives here: a room that needs an error of its own derives it from one of these.
"""

from __future__ import annotations

from pathlib import Path


class RetgenError(Exception):
    """Base of every error this library raises on purpose.

    Args:
        what: what is wrong, in one sentence without a final full stop.
        where: the file, line, field or option it was found in.
        mend: what the user can do about it.
    """

    def __init__(self, what: str, *, where: str | Path | None = None, mend: str | None = None) -> None:
        self.what = what
        self.where = str(where) if where is not None else None
        self.mend = mend
        super().__init__(what, self.where, mend)

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}. {self.mend}" if self.mend else text

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, self.where, self.mend, self.__dict__))


def _rebuild(
    cls: type[RetgenError], what: str, where: str | None, mend: str | None, state: dict[str, object]
) -> RetgenError:
    error = cls.__new__(cls)
    RetgenError.__init__(error, what, where=where, mend=mend)
    error.__dict__.update(state)
    return error


class UsageError(RetgenError):
    """An argument, option or configuration value that cannot be used. Exit status 2 on the command line."""


class RecordError(RetgenError):
    """A bad record in an input file.

    Args:
        what: what is wrong with it.
        path: the file.
        line: 1-based line number, or the record's number where the format has no lines.
        field: the field at fault.
        mend: what to do; by default the ``--skip-bad`` option is named.
    """

    def __init__(
        self,
        what: str,
        *,
        path: str | Path,
        line: int | None = None,
        field: str | None = None,
        mend: str | None = None,
    ) -> None:
        self.path = str(path)
        self.line = line
        self.field = field
        where = self.path
        if line is not None:
            where += f":{line}"
        if field is not None:
            where += f" [{field}]"
        super().__init__(what, where=where, mend=mend or "Mend the record, or pass --skip-bad to leave it out")


class FormatError(RetgenError):
    """A file or folder whose format is not known, or not the one that was asked for."""


class ArtefactError(RetgenError):
    """A retgen folder that is torn, foreign, newer than this version, or of another kind."""


class LockedError(ArtefactError):
    """A folder that another process is building."""


class MismatchError(RetgenError):
    """Two parts that do not belong together: an index and another corpus, a tree and another tokenizer."""


class MissingExtraError(RetgenError):
    """An optional dependency that is not installed; the message names the extra."""

    def __init__(self, package: str, extra: str) -> None:
        self.package = package
        self.extra = extra
        super().__init__(
            f"this needs the package {package!r}, which is not installed",
            mend=f"Install it with: pip install 'retgen[{extra}]'",
        )


class UnknownDocumentError(RetgenError, KeyError):
    """A document id that the corpus does not hold."""

    def __init__(self, doc_id: str, *, where: str | Path | None = None) -> None:
        self.doc_id = doc_id
        super().__init__(
            f"no document with id {doc_id!r}",
            where=where,
            mend="Check that the run and the corpus belong together",
        )
