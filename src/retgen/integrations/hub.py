"""Models to and from the Hugging Face Hub (package huggingface_hub), each with its card."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from retgen import store
from retgen.errors import ArtefactError, MissingExtraError, RetgenError
from retgen.integrations.model_card import model_card

CARD = "README.md"


class HubError(RetgenError):
    """The hub cannot be reached, or refuses."""


def push_to_hub(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = True,
    revision: str | None = None,
    message: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
    **card: Any,
) -> str:
    """Upload a model with its card, in one commit; the repository is made where there is none.

    Args:
        folder: of a model that retgen trained, checked byte for byte first. The changes of a UniGen's documents since
            it was saved go along.
        repo_id: ``owner/name``.
        private: of a repository that is made; one that is there stays as it is.
        revision: a branch that is there; the main one by default.
        message: of the commit.
        token: of the hub; by default the one that ``hf auth login`` keeps or ``HF_TOKEN``.
        endpoint: another hub's address.
        card: what the folder does not know, see `retgen.integrations.model_card.model_card`: ``licence``, ``data``,
            ``data_licence``, ``measures``, ``training``, ``base_model``, ``language``.

    Returns:
        The commit's address.

    Raises:
        ArtefactError: the folder is torn, or retgen did not make it.
        UsageError: the folder holds no model.
        HubError: the hub cannot be reached, or refuses.

    Example::

        push_to_hub("my-model", "me/my-model", licence="apache-2.0", data="SQuAD 2.0", data_licence="CC BY-SA 4.0")
    """
    text = model_card(folder, repo_id, **card)
    with _hub_errors(repo_id):
        from huggingface_hub import CommitOperationAdd, HfApi

        place = Path(folder).expanduser().resolve()
        files = {entry.relative_to(place).as_posix(): entry for entry in sorted(place.rglob("*")) if entry.is_file()}
        operations = [
            CommitOperationAdd(name, str(entry))
            for name, entry in files.items()
            if name != CARD and not any(part.startswith(".") for part in Path(name).parts)
        ]
        operations.append(CommitOperationAdd(CARD, text.encode()))
        hub = HfApi(endpoint=endpoint, token=token, library_name="retgen")
        hub.create_repo(repo_id, private=private, exist_ok=True)
        made = hub.create_commit(
            repo_id, operations, commit_message=message or f"Upload {place.name}", revision=revision
        )
        return str(made.commit_url)


def pull_from_hub(
    repo_id: str,
    to: str | Path,
    *,
    revision: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
) -> Path:
    """Download a model that `push_to_hub` uploaded: checked byte for byte, then put in place whole or not at all.

    Args:
        repo_id: ``owner/name``.
        to: where the folder shall stand.
        revision: a branch, tag or commit; the main branch by default.
        token: of the hub; by default the one that ``hf auth login`` keeps or ``HF_TOKEN``.
        endpoint: another hub's address.

    Returns:
        ``to``, for `retgen.open_unigen`, `retgen.open_reader`, or a class' ``from_pretrained``.

    Raises:
        HubError: the hub cannot be reached, or refuses.
        ArtefactError: something stands at ``to``, or what arrived is not whole or not a retgen folder.
    """
    target = Path(to).expanduser().resolve()
    if target.exists():
        raise ArtefactError("something stands there already", where=target, mend="Choose another path, or remove it")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as home:
        arrived = Path(home) / "model"
        with _hub_errors(repo_id):
            from huggingface_hub import snapshot_download

            snapshot_download(repo_id, revision=revision, token=token, endpoint=endpoint, local_dir=arrived)
        store.verify(arrived)
        arrived.rename(target)
    return target


@contextmanager
def _hub_errors(repo_id: str) -> Iterator[None]:
    """The client's many failures as one line."""
    try:
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError as error:
        raise MissingExtraError("huggingface_hub", "integrations") from error
    # What its HTTP library raises, whichever that is: refused connections, time-outs, and all that follows from them.
    transport: type[Exception] = HfHubHTTPError.__bases__[0]
    try:
        yield
    except (transport, HFValidationError, LocalEntryNotFoundError, ConnectionError) as error:
        raise HubError(
            f"the hub cannot be reached, or refuses: {_first_line(error)}",
            where=repo_id,
            mend="Check the name, the network (HF_HUB_OFFLINE, HF_ENDPOINT) and the token (hf auth login)",
        ) from error


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip().rstrip(".") if lines else type(error).__name__
