"""Lists over and over until its standard input ends, and prints the seconds of each listing.

PORT PEOPLE. A process of its own, so that taking 26 MB doesn't hold up the clients whose logins are measured.
"""

import sys
import threading
import time

from benchmarks.processes import Caller

ended = threading.Event()


def wait_for_the_end() -> None:
    """Waits until whoever measures closes the standard input."""
    sys.stdin.read()
    ended.set()


threading.Thread(target=wait_for_the_end, daemon=True).start()
caller, people = Caller(int(sys.argv[1])), int(sys.argv[2])
while not ended.is_set():
    started_s = time.perf_counter()
    answer = caller.post(b"cmd=list")
    took_s = time.perf_counter() - started_s
    if answer.count(b'"userName"') != people:
        raise SystemExit("a listing was short")
    print(took_s, flush=True)
