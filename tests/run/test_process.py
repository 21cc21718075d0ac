"""What the service sets for its process."""

from __future__ import annotations

import subprocess
import sys

CALLS = """
import gc
from collections import deque
from bridge.run.process import tune_interpreter

def fail(number):
    answer = [number] * 10
    try:
        raise OSError(number)
    except OSError as error:
        kept = error  # and so the frame holds the error, whose traceback holds the frame
        return [kept, answer]

tune_interpreter()
waiting = deque(fail(number) for number in range(1000))
most_count = 0
for number in range(200_000):
    waiting.append(fail(number))
    waiting.popleft()
    if number % 1000 == 0:
        most_count = max(most_count, len(gc.get_objects()))
print(most_count)
"""


def test_errors_that_hold_their_own_frames_do_not_pile_up() -> None:
    """A thousand of them are in use all the time; those that are over go, though they are in cycles."""
    found = subprocess.run([sys.executable, "-c", CALLS], capture_output=True, text=True, check=True, timeout=100)
    assert int(found.stdout) < 80_000
