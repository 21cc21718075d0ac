"""When bytes come: several requests at once, one byte after the other, ends in the middle, silence."""

from __future__ import annotations

from tests.web.raw.cases import (
    CHUNKED,
    GOOD,
    HEAD,
    LENGTH,
    MAILSTORE,
    OK,
    READERS,
    Act,
    Case,
    Drip,
    Listener,
    closed,
    open_,
    waiting,
    with_header,
)

LIST = HEAD + b"Content-Length: 8\r\n\r\ncmd=list"
WITHOUT_TLS = tuple(each for each in Listener if each is not Listener.TLS)

PIPELINING: tuple[Case, ...] = (
    open_("two requests at once", GOOD * 2, statuses=(OK, OK)),
    open_("twenty requests at once", GOOD * 20, statuses=(OK,) * 20),
    open_("a login and a list", GOOD + LIST, statuses=(OK, 200), listeners=MAILSTORE),
    open_("a list and a login", LIST + GOOD, statuses=(200, OK), listeners=MAILSTORE),
    open_(
        "a challenge, a login and a list",
        GOOD.replace(b"@AUTH@", b"") + GOOD + LIST,
        statuses=(401, OK, 200),
        listeners=MAILSTORE,
    ),
    open_(
        "another path and a login",
        GOOD.replace(b"@PATH@", b"/x").replace(b"@LINE@", b"@METHOD@ /x") + GOOD,
        statuses=(404, OK),
    ),
    open_("a second one in two pieces", GOOD + GOOD[:40], Act.PAUSE, GOOD[40:], statuses=(OK, OK)),
    closed("a second one that is none", GOOD + b"@WORD@\r\n\r\n"),
    closed("a second one that is none, later", GOOD, Act.PAUSE, b"@WORD@\r\n\r\n@HIDDEN@", statuses=(OK, 400)),
    closed("a second one that is none, and a third", GOOD + b"@WORD@\r\n\r\n@HIDDEN@"),
    closed("a second one with two lengths", GOOD + HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n@HIDDEN@"),
    closed("a second one that is cut", GOOD + HEAD, Act.HALF_CLOSE, statuses=(OK,), listeners=WITHOUT_TLS),
    closed("a last one in the middle", with_header(b"Connection: close") + b"@HIDDEN@" * 3),
    open_(
        "a command that is none, and a login",
        LIST.replace(b"cmd=list", b"cmd=nono") + GOOD,
        statuses=(400, OK),
        listeners=MAILSTORE,
    ),
    open_(
        "a body that is a request",
        HEAD + b"Content-Length: 50\r\n\r\n" + b"POST /mailstore HTTP/1.1\r\nHost: x\r\n\r\n".ljust(50),
        listeners=(Listener.ADMIN,),
    ),
)

SPEED: tuple[Case, ...] = (
    open_("byte by byte", Drip(GOOD)),
    open_("headers byte by byte", Drip(HEAD + LENGTH + b"\r\n"), b"@BODY@"),
    open_("a body byte by byte", HEAD + LENGTH + b"\r\n", Drip(b"@BODY@")),
    closed("chunks byte by byte", Drip(CHUNKED + b"@HEX@\r\n@BODY@\r\n0\r\n\r\n"), statuses=(OK,)),
    open_("two requests byte by byte", Drip(GOOD * 2), statuses=(OK, OK)),
    closed("bad headers byte by byte", Drip(with_header(b"X: \0@WORD@"))),
    closed("two lengths byte by byte", Drip(HEAD + LENGTH + b"Content-Length: 1\r\n\r\n")),
    waiting("nothing"),
    waiting("half a line", b"POST /mail"),
    waiting("half of the headers", HEAD + b"X: @WORD@"),
    waiting("headers without their end", HEAD + LENGTH),
    waiting("a body that does not come", HEAD + LENGTH + b"\r\n", listeners=READERS),
    waiting("half of the body", HEAD + b"Content-Length: 999\r\n\r\n@WORD@", listeners=READERS),
    waiting("an answer and half a request", GOOD + HEAD, statuses=(OK,)),
)

LEAVING: tuple[Case, ...] = (
    closed("all said", GOOD, Act.HALF_CLOSE, statuses=(OK,), listeners=WITHOUT_TLS),
    closed("all said, a moment later", GOOD, Act.PAUSE, Act.HALF_CLOSE, statuses=(OK,), listeners=WITHOUT_TLS),
    closed("two requests and all said", GOOD * 2, Act.HALF_CLOSE, statuses=(OK, OK), listeners=WITHOUT_TLS),
    closed(
        "chunks and all said",
        CHUNKED + b"@HEX@\r\n@BODY@\r\n0\r\n\r\n",
        Act.HALF_CLOSE,
        statuses=(OK,),
        listeners=WITHOUT_TLS,
    ),
    closed("what is no HTTP, and all said", b"@WORD@\r\n\r\n", Act.HALF_CLOSE, listeners=WITHOUT_TLS),
    closed("nothing said", Act.HALF_CLOSE, statuses=()),
    closed("half of the headers and all said", HEAD, Act.HALF_CLOSE, statuses=()),
    closed("headers and all said", HEAD + LENGTH + b"\r\n", Act.HALF_CLOSE, statuses=(), listeners=READERS),
    closed(
        "half of the body and all said",
        HEAD + b"Content-Length: 999\r\n\r\n@WORD@",
        Act.PAUSE,
        Act.HALF_CLOSE,
        statuses=(),
        listeners=READERS,
    ),
    closed("reset after nothing", Act.PAUSE, Act.RESET, statuses=()),
    *(
        closed(f"reset after {name}", text, Act.PAUSE, Act.RESET, statuses=(), listeners=READERS)
        for name, text in (
            ("half of the headers", HEAD),
            ("half of the body", HEAD + b"Content-Length: 999\r\n\r\n@WORD@"),
            ("half a chunk", CHUNKED + b"ff\r\n@WORD@"),
        )
    ),
    closed(
        "reset after half of a body that nobody reads",
        CHUNKED + b"ff\r\n@WORD@",
        Act.PAUSE,
        Act.RESET,
        statuses=(200,),
        listeners=(Listener.ADMIN,),
    ),
)
