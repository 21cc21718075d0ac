"""How much of a listener a client may take, and for how long."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.deadlines import ANSWER_S, LIST_ANSWER_S


@dataclass(frozen=True, slots=True)
class WebLimits:
    """Reaching one ends the request with an error, or the connection."""

    header_timeout_s: float = 20.0
    """From the connection to the end of the first request's headers."""
    body_timeout_s: float = 20.0
    """For the body of a request, which is one small form."""
    write_timeout_s: float = 120.0
    """For the client to take an answer: 20 MB at 1.5 Mbit/s."""
    keep_alive_s: float = 75.0
    """Between an answer and the end of the next request's headers; .NET keeps idle connections for 100 s at most."""
    list_timeout_s: float = LIST_ANSWER_S
    auth_timeout_s: float = ANSWER_S
    connection_count: int = 1000
    """Connections at once, of all listeners; fewer where the process may have fewer descriptors."""
    connection_per_address_count: int = 750
    """Of those, from one address; Unix sockets have none."""
    handshake_timeout_s: float = 10.0
    """From the connection to the end of TLS's handshake."""
    flood_pause_s: float = 60.0
    """Between two log lines about connections that were turned away."""
    caller_queue_count: int = 8
    """Callers whose password hash is being computed or waits for it; one more is told to come again."""
    caller_queue_per_address_count: int = 2
    """Of those, from one address: whoever guesses takes no place from callers elsewhere."""
    refused_pause_s: float = 0.5
    """What the first wrong password costs its caller; each further one from this address twice as much, up to 8 s."""
    slowed_count: int = 32
    """Wrong callers that are made to wait at once; others get their answer right away."""
    slowed_per_address_count: int = 8
    """Of those, from one address."""
