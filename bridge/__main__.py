"""`python -m bridge` is `mailstore-bridge`."""

import signal
import sys

if sys.argv[1:2] == ["serve"]:
    # SIGHUP has the service read its files anew. Until it can, which takes a second of imports, it must not end it.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

from bridge.cli.main import main

if __name__ == "__main__":
    main()
