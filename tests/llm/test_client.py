"""The client against a real server and a proxy that spoils answers: nothing lost, nothing paid twice, clear ends."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from retgen.errors import UsageError
from retgen.llm.client import EndpointClient
from retgen.llm.dispatch import Dispatch
from retgen.llm.endpoint import Endpoint, Reply
from retgen.llm.errors import BudgetSpentError, EndpointError
from retgen.llm.faults import AttemptFailedError, Cause, RetryPolicy
from retgen.llm.ledger import Ledger
from retgen.llm.limits import Budget, Pace, Price
from retgen.llm.outcomes import Tally
from retgen.llm.progress import Standing
from retgen.llm.requests import CompletionRequest
from tests.llm.serving import MODEL, delivered, faults, served, spoiled

QUICK = RetryPolicy(first_wait=0.02, longest_wait=0.1)
GREEDY = {"temperature": 0, "max_tokens": 6}


FEW = 300
"""Prompts through the faults of the first test; ``benchmarks/bench_llm_throughput.py`` sends 2,000."""


def asked(number: int, **parameters: object) -> list[CompletionRequest]:
    return [CompletionRequest(MODEL, f"What is {n}?", {**GREEDY, **parameters}) for n in range(number)]


@pytest.fixture(scope="module")
def expected(model_url: str) -> list[str | None]:
    return [outcome.text for outcome in EndpointClient(Endpoint(model_url)).complete(asked(FEW))]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.sqlite") as made:
        yield made


def test_every_fault_is_survived_and_no_answer_is_paid_twice(
    model_url: str, expected: list[str | None], ledger: Ledger, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    seen: list[Standing] = []
    with spoiled(model_url, log, "--faults", "0.2", "--slow", "0.1", "--retry-after", "0.05") as url:
        client = EndpointClient(Endpoint(url), ledger, policy=QUICK, concurrency=8, on_standing=seen.append)
        outcomes = client.complete(asked(FEW))
        again = client.complete(asked(FEW))
    assert [outcome.text for outcome in outcomes] == [outcome.text for outcome in again] == expected
    assert all(text for text in expected)
    assert len(set(faults(log))) == 7  # all kinds did happen
    counts = delivered(log)
    assert len(counts) == FEW
    assert set(counts.values()) == {1}
    assert all(outcome.cached for outcome in again)
    last = seen[FEW - 1]
    assert last.done == last.total == FEW
    assert last.retries >= sum(faults(log).values()) - faults(log)["slow"]
    assert last.completion_tokens >= FEW
    assert seen[-1].cached == FEW


def test_equal_requests_are_asked_once(model_url: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with spoiled(model_url, log, "--delay", "0.05") as url:
        outcomes = EndpointClient(Endpoint(url)).complete(asked(3) * 5)
    assert len(delivered(log)) == sum(delivered(log).values()) == 3
    assert [outcome.text for outcome in outcomes[:3]] * 5 == [outcome.text for outcome in outcomes]


def test_requests_are_read_as_they_are_needed(model_url: str) -> None:
    read: list[int] = []
    ahead: list[int] = []

    def requests() -> Iterator[CompletionRequest]:
        for number, request in enumerate(asked(40)):
            read.append(number)
            yield request

    client = EndpointClient(
        Endpoint(model_url), concurrency=4, on_standing=lambda now: ahead.append(len(read) - now.done)
    )
    client.complete(requests())
    assert max(ahead) <= 4
    assert len(read) == 40


def test_an_empty_answer_that_comes_every_time_is_taken_for_what_it_is(
    model_url: str, ledger: Ledger, tmp_path: Path
) -> None:
    with spoiled(model_url, tmp_path / "log", "--faults", "1", "--kinds", "empty") as url:
        client = EndpointClient(Endpoint(url), ledger, policy=QUICK)
        (outcome,) = client.complete(asked(1))
        assert (outcome.text, outcome.finish_reason) == ("", "empty")
        assert faults(tmp_path / "log")["empty"] == QUICK.empty_attempts
        assert client.complete(asked(1))[0].cached


def test_an_answer_that_trickles_in_meets_the_timeout(model_url: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with spoiled(model_url, log, "--faults", "1", "--kinds", "slow", "--only", "1", "--slow", "900") as url:
        client = EndpointClient(Endpoint(url, timeout=2.0), policy=QUICK)
        (outcome,) = client.complete(asked(1))
    assert outcome.text


def test_a_prompt_that_is_too_long_fails_alone(model_url: str) -> None:
    requests = asked(3)
    requests.insert(1, CompletionRequest(MODEL, "long " * 600, GREEDY))
    outcomes = EndpointClient(Endpoint(model_url)).complete(requests)
    assert [outcome.text is None for outcome in outcomes] == [False, True, False, False]
    assert "the context holds 512" in str(outcomes[1].error)


def test_where_every_request_is_refused_the_work_stops(model_url: str) -> None:
    requests = [CompletionRequest(MODEL, f"{n} " + "long " * 600, GREEDY) for n in range(500)]
    with pytest.raises(EndpointError, match="were all refused"):
        EndpointClient(Endpoint(model_url), concurrency=2).complete(requests)


def test_prompts_that_fail_in_two_rounds_are_named_and_the_others_kept(model_url: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    policy = RetryPolicy(attempts=2, empty_attempts=2, first_wait=0.01, longest_wait=0.01)
    with spoiled(model_url, log, "--faults", "0.6", "--kinds", "fail,torn", "--remember") as url:
        outcomes = EndpointClient(Endpoint(url), policy=policy).complete(asked(120))
    failed = [outcome for outcome in outcomes if outcome.text is None]
    assert 0 < len(failed) < 120
    assert all("failed (500: a bad day)" in str(each.error) or "not JSON" in str(each.error) for each in failed)
    assert sum(delivered(log).values()) == 120 - len(failed)


def test_a_wrong_key_is_one_clear_message_without_the_key(
    chat_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, ledger: Ledger
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv("MY_KEY", "sk-wrong-and-secret")
    with served(chat_model, "--key", "sk-right") as url:
        with pytest.raises(EndpointError, match="refuses the key in MY_KEY") as raised:
            EndpointClient(Endpoint(url, key_variable="MY_KEY"), ledger).complete(asked(50))
        monkeypatch.setenv("MY_KEY", "sk-right")
        outcomes = EndpointClient(Endpoint(url, key_variable="MY_KEY"), ledger).complete(asked(3))
    assert "Incorrect API key provided: Bearer [key]" in str(raised.value)
    assert all(outcome.text for outcome in outcomes)
    ledger.close()
    written = b"".join(path.read_bytes() for path in Path(ledger.path).parent.iterdir())
    for secret in ("sk-wrong-and-secret", "sk-right"):
        assert secret not in str(raised.value) + caplog.text
        assert secret.encode() not in written


def test_an_unknown_model_and_a_wrong_path_are_named(model_url: str) -> None:
    with pytest.raises(EndpointError, match="does not know the model 'other'"):
        EndpointClient(Endpoint(model_url)).complete([CompletionRequest("other", "hello", GREEDY)])
    with pytest.raises(EndpointError, match="ends in /v1"):
        EndpointClient(Endpoint(model_url.removesuffix("/v1"))).complete(asked(1))


def test_an_unreachable_host_is_named(ledger: Ledger) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(EndpointError, match="cannot be reached") as raised:
            EndpointClient(Endpoint(url), ledger, policy=QUICK).complete(asked(500))
    assert url in str(raised.value)
    assert "0 of 500 prompts" in str(raised.value)


def test_an_endpoint_that_ends_midway_stops_the_work_and_the_next_call_goes_on(
    model_url: str, chat_model: Path, expected: list[str | None], ledger: Ledger, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    policy = RetryPolicy(attempts=3, first_wait=0.01, longest_wait=0.02)
    requests = asked(120)

    def until_it_dies() -> Iterator[CompletionRequest]:
        with spoiled(model_url, log) as url:
            addresses.append(url)
            yield from requests[:30]
        yield from requests[30:]

    addresses: list[str] = []
    source = until_it_dies()
    first = next(source)
    with pytest.raises(EndpointError, match=r"completes nothing more|cannot be reached"):
        EndpointClient(Endpoint(addresses[0]), ledger, policy=policy, concurrency=1).complete(
            request for part in ([first], source) for request in part
        )
    kept = len(ledger)
    assert 0 < kept <= 30
    outcomes = EndpointClient(Endpoint(model_url), ledger).complete(requests)
    assert [outcome.text for outcome in outcomes] == expected[:120]
    assert sum(outcome.cached for outcome in outcomes) == kept
    assert kept >= sum(delivered(log).values())


def test_a_budget_is_never_passed_and_the_next_run_goes_on(model_url: str, ledger: Ledger) -> None:
    requests = asked(30)
    budget = Budget(max_tokens=400, price=Price(1.0, 2.0))
    with pytest.raises(BudgetSpentError, match="of 400 tokens") as raised:
        EndpointClient(Endpoint(model_url), ledger, budget=budget).complete(requests)
    kept = len(ledger)
    assert 0 < kept < 30
    assert f"{kept} of 30 prompts" in str(raised.value)
    most = requests[-1].prompt_tokens_limit + requests[-1].completion_tokens_limit
    assert 400 - most <= budget.tokens <= 400
    spent = sum(entry.cost or 0 for entry in ledger.entries())
    assert spent == pytest.approx(budget.cost)
    client = EndpointClient(Endpoint(model_url), ledger, budget=Budget(max_cost=1.0, price=Price(1.0, 2.0)))
    assert sum(outcome.cached for outcome in client.complete(requests)) == kept


def test_a_long_retry_after_is_not_waited_for(model_url: str, tmp_path: Path) -> None:
    options = ("--faults", "1", "--kinds", "refuse", "--retry-after", "3600")
    with (
        spoiled(model_url, tmp_path / "log", *options) as url,
        pytest.raises(EndpointError, match="asks to wait 3600 s"),
    ):
        EndpointClient(Endpoint(url)).complete(asked(5))


def test_an_endpoint_that_refuses_everything_stops_the_work(model_url: str, ledger: Ledger, tmp_path: Path) -> None:
    requests = asked(40)
    policy = RetryPolicy(first_wait=0.01, longest_wait=0.05, patience=0.4)
    options = ("--faults", "1", "--kinds", "refuse", "--retry-after", "0.05")
    with (
        spoiled(model_url, tmp_path / "log", *options) as url,
        pytest.raises(EndpointError, match=r"nothing for 0\.4 s of waiting: too many requests") as raised,
    ):
        EndpointClient(Endpoint(url), ledger, policy=policy).complete(requests)
    assert "fewer requests a minute" in str(raised.value)
    assert "0 of 40 prompts" in str(raised.value)
    assert sum(faults(tmp_path / "log").values()) < 40 * 8
    assert all(outcome.text for outcome in EndpointClient(Endpoint(model_url), ledger).complete(requests))


def test_whoever_waits_for_a_place_hears_that_the_work_has_stopped(model_url: str) -> None:
    # At one request a minute the fourth place is three minutes away.
    client = EndpointClient(Endpoint(model_url), requests_per_minute=1, concurrency=4)

    async def main() -> None:
        requests = [CompletionRequest("other", f"{number}", GREEDY) for number in range(4)]
        async with asyncio.timeout(45):
            await client.complete_async(requests)

    with pytest.raises(EndpointError, match="does not know the model"):
        asyncio.run(main())


def test_equal_prompts_that_were_given_up_are_asked_once_more_together() -> None:
    first, *others = asked(9)
    attempts: Counter[str] = Counter()
    completed: Counter[str] = Counter()

    async def send(request: CompletionRequest) -> Reply:
        attempts[request.prompt] += 1
        fails = request == first and attempts[request.prompt] <= 4
        await asyncio.sleep(0.01)
        if fails:
            raise AttemptFailedError(Cause.SERVER, "a bad day")
        completed[request.prompt] += 1
        return Reply(request.prompt, "stop", 1, 1)

    policy = RetryPolicy(attempts=2, first_wait=0.0)
    dispatch = Dispatch(send, Ledger(":memory:"), "here", policy, Pace(), 2, Tally(Budget(), None, None))
    # The first is given up before its equal is read; both are tried again when the others are done.
    outcomes = asyncio.run(dispatch.run([first, *others, first]))
    assert [outcome.text for outcome in outcomes] == [request.prompt for request in [first, *others, first]]
    assert attempts[first.prompt] == 5
    assert set(completed.values()) == {1}


def test_inside_a_running_event_loop(model_url: str, expected: list[str | None]) -> None:
    async def main() -> list[str | None]:
        client = EndpointClient(Endpoint(model_url))
        awaited = await client.complete_async(asked(2))
        return [outcome.text for outcome in [*awaited, *client.complete(asked(4)[2:])]]

    assert asyncio.run(main()) == expected[:4]


def test_openai_itself_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(EndpointError, match="OPENAI_API_KEY is not set"):
        EndpointClient(Endpoint()).complete(asked(1))


def test_a_key_that_no_header_takes_is_named(model_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-“quoted”")
    with pytest.raises(EndpointError, match="MY_KEY holds cannot be a key") as raised:
        EndpointClient(Endpoint(model_url, key_variable="MY_KEY")).complete(asked(1))
    assert "quoted" not in str(raised.value)


@pytest.mark.parametrize("url", ["localhost:8000", "http://", "ftp://host/v1", "http://me:secret@host/v1"])
def test_urls_that_are_none_or_hold_secrets(url: str) -> None:
    with pytest.raises(UsageError) as raised:
        Endpoint(url)
    assert "secret" not in str(raised.value)
