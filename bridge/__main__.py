"""`python -m bridge` is `mailstore-bridge`."""

import signal
import sys

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Ctrl-C while the program is being imported ends it without a word.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

if sys.argv[1:2] == ["serve"]:
    # SIGHUP has the service read its files anew. Until it can, which takes a second of imports, it must not end it.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

from bridge.cli.main import main

if __name__ == "__main__":
    main()
