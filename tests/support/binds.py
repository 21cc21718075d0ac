"""What guards user binds, as the composition root makes it, with a clock and rules of a test's own."""

from __future__ import annotations

from bridge.authentication.budgets import Budgets
from bridge.authentication.login_health import LoginHealth
from bridge.authentication.memories import ThrottleRules
from bridge.authentication.memory_throttle import MemoryThrottle
from bridge.authentication.user_binds import UserBinds
from bridge.clock import Clock


def make_binds(clock: Clock, rules: ThrottleRules | None = None, *, fast_refusals: bool = True) -> UserBinds:
    rules = rules or ThrottleRules()
    throttle = MemoryThrottle(rules, b"k" * 32, clock)
    budgets = Budgets(throttle, clock, max_failure_count=rules.max_failure_count, window_s=rules.window_s)
    return UserBinds(throttle, LoginHealth(clock), budgets, fast_refusals=fast_refusals)
