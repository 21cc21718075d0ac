"""The names and passwords of the raw cases, none of which may be found again where it does not belong."""

from __future__ import annotations

import base64

from tests.support.bridges import CALLER, CALLER_PASSWORD

ANNA, BERT = b"canary-anna-7Kq", b"canary-bert-9Zp"
"""The right passwords of anna, who logs in, and of bert, for whom every login is hidden in something else."""
WORD = b"canary-word-3Xw"
"""What stands where a parser may quote it."""
TOKEN = base64.b64encode(f"{CALLER}:{CALLER_PASSWORD}".encode())
AUTHORIZATION = b"Authorization: Basic " + TOKEN
SECRETS = (ANNA, BERT, WORD, TOKEN, CALLER_PASSWORD.encode())
