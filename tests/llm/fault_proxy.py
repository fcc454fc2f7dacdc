"""A proxy in front of an endpoint that spoils a share of the answers, and keeps a log of what it delivered whole.

Run as a program: ``python fault_proxy.py UPSTREAM --log FILE [--faults 0.2] [--kinds refuse,drop]``; prints its port.
Faults: ``refuse`` (429 with Retry-After), ``fail`` (500), ``drop`` (half of the body, then the connection ends),
``reset`` (the connection ends before any answer), ``slow`` (the answer trickles in), ``torn`` (half of the JSON, as if
it were all), ``empty`` (no text), ``late`` (slower than ``--late`` seconds). Answers may be held for ``--delay``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

KINDS = ("refuse", "fail", "drop", "reset", "slow", "torn", "empty")


def handler(options: argparse.Namespace) -> type[BaseHTTPRequestHandler]:
    chance = random.Random(options.seed)
    lock = threading.Lock()
    upstream = urlsplit(options.upstream)
    kinds = options.kinds.split(",")
    cached: dict[bytes, tuple[int, bytes]] = {}
    own = threading.local()
    served: list[str | None] = []

    def log(body: bytes, status: int, fault: str | None, whole: bool) -> None:
        line = {
            "at": time.time(), "request": hashlib.blake2b(body).hexdigest(), "status": status, "fault": fault,
            "whole": whole,
        }  # fmt: skip
        with lock, Path(options.log).open("a") as out:
            out.write(json.dumps(line) + "\n")

    def ask(path: str, body: bytes, authorization: str) -> tuple[int, bytes]:
        if options.remember and (path.encode() + body) in cached:
            return cached[path.encode() + body]
        if not hasattr(own, "connection"):
            own.connection = HTTPConnection(str(upstream.hostname), upstream.port, timeout=120)
        headers = {"Content-Type": "application/json", "Authorization": authorization}
        own.connection.request("POST", path, body, headers)
        answer = own.connection.getresponse()
        found = answer.status, answer.read()
        cached[path.encode() + body] = found
        return found

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if len(body) < int(self.headers["Content-Length"]):  # whoever asks was killed
                self.close_connection = True
                return
            with lock:
                served.append(fault := chance.choice(kinds) if chance.random() < options.faults else None)
                if options.only is not None and len(served) > options.only:
                    fault = None
            if options.delay:
                time.sleep(options.delay)
            if fault == "refuse":
                self._send(429, b'{"error": {"message": "slow down"}}', {"Retry-After": str(options.retry_after)})
                log(body, 429, fault, False)
                return
            if fault == "fail":
                self._send(500, b'{"error": {"message": "a bad day"}}')
                log(body, 500, fault, False)
                return
            if fault == "reset":
                log(body, 0, fault, False)
                self.close_connection = True
                return
            status, data = ask(self.path, body, self.headers.get("Authorization", ""))
            if fault == "torn":
                data = data[: len(data) // 2]
            elif fault == "empty" and status == 200:
                answer = json.loads(data)
                answer["choices"][0]["message"]["content"] = ""
                data = json.dumps(answer).encode()
            if fault == "late":
                time.sleep(options.late)
            whole = status == 200 and fault not in ("drop", "torn", "empty", "late")
            # Written down before the last byte leaves, so that whoever has the answer finds it in the log.
            self._send(
                status,
                data,
                cut=fault == "drop",
                slowly=fault == "slow",
                before_last=lambda: log(body, status, fault, whole),
            )

        def _send(
            self,
            status: int,
            data: bytes,
            headers: dict[str, str] | None = None,
            *,
            cut: bool = False,
            slowly: bool = False,
            before_last: Callable[[], None] = lambda: None,
        ) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            if cut:
                before_last()
                self.wfile.write(data[: len(data) // 2])
                self.close_connection = True
                return
            rest, last = data[:-1], data[-1:]
            parts = [rest[i : i + 1 + len(rest) // 10] for i in range(0, len(rest), 1 + len(rest) // 10)]
            for part in parts if slowly else [rest]:
                self.wfile.write(part)
                if slowly:
                    time.sleep(options.slow / len(parts))
            before_last()
            self.wfile.write(last)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


def end_with_parent() -> None:
    """End when standard input does: whoever started this is gone, however it went."""

    def watch() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


class QuietServer(ThreadingHTTPServer):
    """Says nothing of clients that went away."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("upstream")
    parser.add_argument("--log", required=True)
    parser.add_argument("--faults", type=float, default=0.0)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--retry-after", type=float, default=0.2)
    parser.add_argument("--slow", type=float, default=0.5)
    parser.add_argument("--late", type=float, default=5.0)
    parser.add_argument("--only", type=int, help="no faults after so many requests")
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--remember", action="store_true", help="ask upstream once for each body: it is deterministic")
    server = QuietServer(("127.0.0.1", 0), handler(parser.parse_args()))
    print(server.server_address[1], flush=True)
    end_with_parent()
    server.serve_forever()


if __name__ == "__main__":
    main()
