"""A stage in a process of its own.

The parent writes the job to a file and reads events, one JSON object per line, from a pipe. The child ends with its
parent: it holds the read end of a pipe that only the parent writes to.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from retgen.errors import RetgenError, UsageError
from retgen.recipes.context import StageError
from retgen.recipes.events import Event, Listener
from retgen.recipes.work import Job, perform

_INTERRUPT_SECONDS = 60.0
_CHILD = "import sys; from retgen.recipes.isolated import child_main; sys.exit(child_main(*sys.argv[1:]))"


def perform_isolated(job: Job, listen: Listener) -> None:
    """Run a stage in a process of its own.

    Raises:
        UsageError: the stage's function stands in ``__main__``, which another process cannot import.
        StageError: the process was killed, or failed with an error that is not retgen's.
        RetgenError: what the stage raised.
    """
    if job.module == "__main__":
        raise UsageError(
            f"the stage kind {job.kind!r} is isolated, and must stand in a module that can be imported, not in a script"
        )
    events_in, events_out = os.pipe()
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(asdict(job), file)
        file.flush()
        command = [sys.executable, "-c", _CHILD, file.name, str(events_out)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
        # What libraries print below Python goes to standard error too: results alone are on standard output.
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=2, pass_fds=[events_out], env=environment)
        os.close(events_out)
        failure = None
        try:
            with os.fdopen(events_in, encoding="utf-8") as lines:
                for line in lines:
                    message = json.loads(line)
                    if "error" in message:
                        failure = message
                    else:
                        listen(Event(**message))
            status = child.wait()
        except KeyboardInterrupt:
            _interrupt(child)
            raise
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
            if child.stdin is not None:
                child.stdin.close()
    if failure is not None:
        raise _error(failure)
    if status == -signal.SIGINT:
        raise KeyboardInterrupt
    if status:
        raise StageError(_death(status))


def _death(status: int) -> str:
    if status == -signal.SIGKILL:
        return "its process was killed, most often because the memory ran out"
    return f"its process ended with {f'signal {-status}' if status < 0 else f'exit status {status}'}"


def _interrupt(child: subprocess.Popen[bytes]) -> None:
    # A terminal sends Ctrl-C to both; `kill -INT` only to this process.
    child.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
        child.wait(_INTERRUPT_SECONDS)


def _error(message: Mapping[str, Any]) -> BaseException:
    if message["pickled"]:
        # From our own child, over our own pipe.
        error = pickle.loads(base64.b64decode(message["pickled"]))
        if isinstance(error, RetgenError):
            error.add_note(str(message["traceback"]))
            return error
    failed = StageError(str(message["error"]))
    failed.add_note(str(message["traceback"]))
    return failed


def _pickled(error: Exception) -> str:
    if not isinstance(error, RetgenError):
        return ""
    return base64.b64encode(pickle.dumps(error)).decode()


def _die_with_parent() -> None:
    # Nothing is ever written there: the read ends when the parent does.
    os.read(0, 1)
    os._exit(1)


def child_main(job_file: str, events: str) -> int:
    """The child's side.

    Args:
        job_file: with the job.
        events: number of the open file to write events to.

    Returns:
        The exit status.
    """
    os.set_inheritable(int(events), False)
    threading.Thread(target=_die_with_parent, name="retgen-parent", daemon=True).start()
    job = Job(**json.loads(Path(job_file).read_text(encoding="utf-8")))
    lock = threading.Lock()
    with os.fdopen(int(events), "w", encoding="utf-8") as pipe:

        def send(message: Mapping[str, object]) -> None:
            with lock:
                pipe.write(json.dumps(message) + "\n")
                pipe.flush()

        try:
            perform(job, lambda event: send(asdict(event)))
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            send({"error": text, "pickled": _pickled(error), "traceback": traceback.format_exc()})
            return 1
    return 0
