"""Limits a minute hold in every window, budgets are never passed, and waiting times are what they say."""

from __future__ import annotations

import email.utils

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retgen.errors import UsageError
from retgen.llm.errors import BudgetSpentError
from retgen.llm.faults import RetryPolicy, retry_after
from retgen.llm.limits import Budget, Pace, Price


@given(
    st.lists(st.tuples(st.floats(0, 5), st.integers(1, 60), st.floats(0.1, 1)), min_size=1, max_size=60),
    st.integers(1, 30),
    st.integers(60, 300),
)
def test_no_minute_has_more_than_allowed(sends: list[tuple[float, int, float]], requests: int, tokens: int) -> None:
    now = [0.0]
    pace = Pace(requests, tokens, clock=lambda: now[0])
    sent: list[tuple[float, int]] = []
    for pause, booked, share in sends:
        now[0] += pause
        moment = now[0] + pace.book(booked)
        used = max(1, int(booked * share))
        pace.correct(booked, used)
        sent.append((moment, used))
        now[0] = max(now[0], moment)
    for begin, _ in sent:
        inside = [used for moment, used in sent if begin <= moment < begin + 60 - 1e-6]
        assert len(inside) <= requests + 1e-6
        # The last one begins within its minute and is paid for after it.
        assert sum(inside[:-1]) <= tokens + 1e-6


def test_without_limits_nobody_waits() -> None:
    pace = Pace()
    assert [pace.book(10_000) for _ in range(5)] == [0.0] * 5


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50), st.floats(0, 1)), max_size=40),
    st.integers(1, 600),
    st.integers(1, 4),
)
def test_a_budget_is_never_passed(asked: list[tuple[int, int, float]], limit: int, at_once: int) -> None:
    budget = Budget(max_tokens=limit, max_cost=limit / 1e6, price=Price(1, 1))
    under_way: list[tuple[tuple[int, int], tuple[int, int]]] = []
    for prompt, completion, share in asked:
        while True:
            try:
                if len(under_way) < at_once and budget.reserve(prompt, completion):
                    under_way.append(((prompt, completion), (int(prompt * share), int(completion * share))))
                    break
            except BudgetSpentError:
                assert not under_way
                assert budget.tokens + prompt + completion > limit
                return
            budget.settle(*under_way.pop(0))
        assert budget.tokens + budget.reserved_tokens <= limit
    for each in under_way:
        budget.settle(*each)
    assert budget.reserved_tokens == 0
    assert budget.reserved_cost == 0.0


def test_limits_that_are_none() -> None:
    for make in (
        lambda: Budget(max_tokens=0),
        lambda: Budget(max_cost=1.0),
        lambda: Price(-1, 0),
        lambda: Pace(0),
        lambda: RetryPolicy(attempts=0),
        lambda: RetryPolicy(first_wait=-1),
    ):
        with pytest.raises(UsageError):
            make()


def test_waits_grow_to_a_limit_and_retry_after_is_honoured() -> None:
    policy = RetryPolicy(first_wait=1.0, longest_wait=10.0)
    for failed in range(1, 12):
        longest = min(10.0, 2.0 ** (failed - 1))
        assert longest / 2 <= policy.wait(failed) <= longest
    assert policy.wait(1, retry_after=70.0) == 70.0


def test_retry_after_in_all_its_forms() -> None:
    assert retry_after({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    date = email.utils.formatdate(1_000_060, usegmt=True)
    assert retry_after({"retry-after": date}, now=1_000_000.0) == 60.0
    assert retry_after({"retry-after": date}, now=2_000_000.0) == 0.0
    for nothing in ({}, {"retry-after": "nan"}, {"retry-after": ""}):
        assert retry_after(nothing) is None
