"""How a connection fails, at any stage."""

from __future__ import annotations

from bridge.demo import wire
from tests.faults.turns import Action, Turn

FAST_S, SLOW_S = 0.0, 0.05
"""Pauses between the bytes of an answer: one that comes in time, and one that doesn't."""
_WORDS = {
    "http": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    "smtp": b"220 mail.example.com ESMTP\r\n",
    "zeros": bytes(64),
    "noise": bytes(range(255, 0, -3)),
    "notice": wire.write_notice(52, "the server is going down"),
}


async def close(turn: Turn) -> None:
    turn.close()


async def reset(turn: Turn) -> None:
    turn.reset()


async def half_close(turn: Turn) -> None:
    """No answer, and the end of the stream; the other direction stays open."""
    turn.session.writer.write_eof()
    await turn.linger()


async def stay_silent(turn: Turn) -> None:
    await turn.linger()


def drip(pause_s: float) -> Action:
    async def action(turn: Turn) -> None:
        await turn.send_slowly(b"".join(await turn.right_answer()), pause_s)

    return action


def cut(part: float, then: Action) -> Action:
    """A part of the right answer, and then something else."""

    async def action(turn: Turn) -> None:
        data = b"".join(await turn.right_answer())
        await turn.send(data[: max(1, int(len(data) * part))])
        await then(turn)

    return action


def leave_out_the_end(then: Action) -> Action:
    """All but the message that ends the operation, and then something else."""

    async def action(turn: Turn) -> None:
        await turn.send(*(await turn.right_answer())[:-1])
        await then(turn)

    return action


def say(words: bytes, then: Action | None = None) -> Action:
    async def action(turn: Turn) -> None:
        await turn.send(words)
        await (then or stay_silent)(turn)

    return action


async def answer_and_close(turn: Turn) -> None:
    """The right answer, and the end."""
    await turn.send(*await turn.right_answer())
    turn.close()


async def answer_and_reset(turn: Turn) -> None:
    await turn.send(*await turn.right_answer())
    turn.reset()


async def answer_and_babble(turn: Turn) -> None:
    """The right answer, with something behind it that is no message."""
    await turn.send(*await turn.right_answer(), b"\x00garbage")


ANSWERED: dict[str, Action] = {
    "closed": close,
    "reset": reset,
    "half-closed": half_close,
    "silent": stay_silent,
    "dripping": drip(SLOW_S),
    "dripping-fast": drip(FAST_S),
    "cut-and-closed": cut(0.5, close),
    "cut-and-reset": cut(0.5, reset),
    "cut-and-silent": cut(0.9, stay_silent),
    "cut-after-a-byte": cut(0, close),
    "without-end-and-closed": leave_out_the_end(close),
    "without-end-and-silent": leave_out_the_end(stay_silent),
    "answered-and-closed": answer_and_close,
    "answered-and-reset": answer_and_reset,
    "answered-and-garbage": answer_and_babble,
    **{f"garbage-{name}": say(words) for name, words in _WORDS.items()},
}
"""At a request."""

ACCEPTED: dict[str, Action] = {
    "closed": close,
    "reset": reset,
    "half-closed": half_close,
    "silent": stay_silent,
    **{f"garbage-{name}": say(words) for name, words in _WORDS.items()},
    "garbage-and-closed": say(_WORDS["noise"], close),
}
"""Before anything was asked."""
