"""Where a request ends: lengths, transfer encodings, chunks, line ends; what is doubtful is refused, and never a second request."""

from __future__ import annotations

from tests.web.raw.cases import (
    CHUNKED,
    CHUNKS,
    GOOD,
    HEAD,
    LENGTH,
    MAILSTORE,
    OK,
    OTHERS,
    READERS,
    Act,
    Case,
    Listener,
    Step,
    closed,
    open_,
    waiting,
    with_header,
)

TE = b"Transfer-Encoding: chunked\r\n"
END = b"0\r\n\r\n"

_LENGTHS: dict[str, bytes] = {
    "a plus": b"+5",
    "a minus": b"-1",
    "hexadecimal": b"0x5",
    "an exponent": b"1e1",
    "an underscore": b"1_0",
    "a point": b"5.0",
    "a list": b"5, 5",
    "a list of two": b"5, 6",
    "a semicolon": b"5;",
    "nothing": b"",
    "a word": b"@WORD@",
    "a blank inside": b"1 0",
    "64 bits": b"18446744073709551616",
    "5,000 digits": b"1" * 5000,
    "digits of another script": "５".encode(),
    "a vertical tab": b"\x0b5",
    "quotation marks": b'"5"',
}
_ENCODINGS: dict[str, bytes] = {
    "a space before the colon": b"Transfer-Encoding : chunked\r\n",
    "a tab before the colon": b"Transfer-Encoding\t: chunked\r\n",
    "unknown": b"Transfer-Encoding: @WORD@\r\n",
    "almost chunked": b"Transfer-Encoding: xchunked\r\n",
    "chunked with more letters": b"Transfer-Encoding: chunkedx\r\n",
    "chunked and identity": b"Transfer-Encoding: chunked, identity\r\n",
    "identity": b"Transfer-Encoding: identity\r\n",
    "chunked twice": b"Transfer-Encoding: chunked, chunked\r\n",
    "two lines": TE + TE,
    "two lines, one is identity": TE + b"Transfer-Encoding: identity\r\n",
    "in quotation marks": b'Transfer-Encoding: "chunked"\r\n',
    "with a parameter": b"Transfer-Encoding: chunked;q=1\r\n",
    "folded": b"Transfer-Encoding:\r\n chunked\r\n",
    "a vertical tab": b"Transfer-Encoding: \x0bchunked\r\n",
    "NUL": b"Transfer-Encoding: \0chunked\r\n",
    "behind a bare line feed": b"X: x\nTransfer-Encoding: chunked\r\n",
    "behind a bare carriage return": b"X: x\rTransfer-Encoding: chunked\r\n",
    "empty": b"Transfer-Encoding:\r\n",
}

SMUGGLING: tuple[Case, ...] = (
    closed("a length beside chunks", HEAD + b"Content-Length: 5\r\n" + TE + b"\r\n" + END + b"@HIDDEN@"),
    closed("chunks beside a length", HEAD + TE + b"Content-Length: 5\r\n\r\n" + END + b"@HIDDEN@"),
    closed("a length of nothing beside chunks", HEAD + b"Content-Length: 0\r\n" + TE + b"\r\n" + END + b"@HIDDEN@"),
    closed("two lengths", HEAD + b"Content-Length: 0\r\nContent-Length: 9\r\n\r\n@HIDDEN@"),
    closed("two lengths that agree", HEAD + LENGTH + LENGTH + b"\r\n@BODY@"),
    closed("two lengths in lower case", HEAD + LENGTH + b"content-length: 0\r\n\r\n@HIDDEN@"),
    *(
        closed(f"a length with {name}", HEAD + b"Content-Length: " + value + b"\r\n\r\n@HIDDEN@")
        for name, value in _LENGTHS.items()
    ),
    open_("a length with zeros before it", HEAD + b"Content-Length: 000@SIZE@\r\n\r\n@BODY@"),
    open_("a length with blanks and tabs around it", HEAD + b"Content-Length:  \t@SIZE@\t \r\n\r\n@BODY@"),
    *(closed(f"an encoding: {name}", HEAD + value + b"\r\n" + END + b"@HIDDEN@") for name, value in _ENCODINGS.items()),
    *(
        closed(
            f"an encoding beside a length: {name}",
            HEAD + b"Content-Length: 5\r\n" + value + b"\r\n" + END + b"@HIDDEN@",
        )
        for name, value in _ENCODINGS.items()
    ),
    closed("an encoding before chunked", HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n@HIDDEN@"),
    closed("chunked in capital letters", HEAD + b"Transfer-Encoding: CHUNKED\r\n\r\n" + CHUNKS, statuses=(OK,)),
    closed("chunked behind a tab", HEAD + b"Transfer-Encoding:\tchunked\r\n\r\n" + CHUNKS, statuses=(OK,)),
    open_("an encoding with an underscore is none", with_header(b"Transfer_Encoding: chunked")),
    closed("chunks in HTTP/1.0", CHUNKED.replace(b"1.1", b"1.0") + END + b"@HIDDEN@"),
    closed("a hidden request as the body", HEAD + b"Content-Length: 9999\r\n\r\n@HIDDEN@", Act.HALF_CLOSE, statuses=()),
    closed(
        "a body without its length",
        HEAD + b"\r\n",
        Act.PAUSE,
        b"@BODY@\r\n\r\n",
        statuses=(400, 400),
        listeners=MAILSTORE,
    ),
    closed(
        "a body without its length, elsewhere",
        HEAD + b"\r\n",
        Act.PAUSE,
        b"@BODY@\r\n\r\n",
        statuses=(200, 400),
        listeners=OTHERS[:1],
    ),
)

_SIZES: dict[str, bytes] = {
    "0x": b"0x5",
    "a minus": b"-5",
    "a plus": b"+5",
    "a blank before it": b" 5",
    "a tab before it": b"\t5",
    "nothing": b"",
    "a letter too far": b"g",
    "an underscore": b"1_0",
    "17 digits": b"1" + b"0" * 16,
    "300 digits": b"f" * 300,
    "a word": b"@WORD@",
    "digits of another script": "５".encode(),
    "NUL": b"\x005",
}


def whole(name: str, *steps: Step) -> Case:
    """Answered, and closed: headers of a next request could be mixed with the trailer of this one."""
    return closed(name, *steps, statuses=(OK,))


CHUNKING: tuple[Case, ...] = (
    whole("one chunk", CHUNKED + CHUNKS),
    whole("a chunk for each byte of a word", CHUNKED + b"@HEX@\r\n", Act.PAUSE, b"@BODY@", Act.PAUSE, b"\r\n0\r\n\r\n"),
    whole("a size in capital letters with zeros before it", CHUNKED + b"000" + CHUNKS),
    whole("an extension", CHUNKED + b"@HEX@;a=b\r\n@BODY@\r\n0;c\r\n\r\n"),
    whole("an extension in quotation marks", CHUNKED + b'@HEX@;a="@WORD@"\r\n@BODY@\r\n' + END),
    *(
        closed(f"a size with {name}", CHUNKED + value + b"\r\n@BODY@\r\n" + END + b"@HIDDEN@")
        for name, value in _SIZES.items()
    ),
    closed("a size that ends with a line feed", CHUNKED + b"@HEX@\n@BODY@\r\n" + END),
    closed("a size that ends with a carriage return", CHUNKED + b"@HEX@\r@BODY@\r\n" + END),
    closed("a line feed in an extension", CHUNKED + b"@HEX@;a\n@BODY@\r\n" + END),
    closed("NUL in an extension", CHUNKED + b"@HEX@;a\0\r\n@BODY@\r\n" + END),
    closed("a chunk that is longer than it says", CHUNKED + b"5\r\n@WORD@\r\n" + END + b"@HIDDEN@"),
    closed(
        "a chunk that is longer than it says, later",
        CHUNKED,
        Act.PAUSE,
        b"5\r\n@WORD@",
        Act.PAUSE,
        b"\r\n" + END,
        listeners=READERS,
    ),
    closed(
        "a chunk that is longer than it says, which nobody reads",
        CHUNKED,
        Act.PAUSE,
        b"5\r\n@WORD@",
        statuses=(200,),
        listeners=(Listener.ADMIN,),
    ),
    closed("a chunk that ends with a line feed", CHUNKED + b"@HEX@\r\n@BODY@\n" + END),
    closed("a last chunk that ends with a line feed", CHUNKED + b"@HEX@\r\n@BODY@\r\n0\n\n"),
    waiting("a chunk that does not come", CHUNKED + b"ff\r\n@WORD@", listeners=MAILSTORE),
    waiting("a chunk as large as can be", CHUNKED + b"7fffffffffffffff\r\n@WORD@", listeners=MAILSTORE),
    waiting("an end that does not come", CHUNKED + b"@HEX@\r\n@BODY@\r\n0\r\n", listeners=MAILSTORE),
    closed("cut in a size", CHUNKED + b"5", Act.HALF_CLOSE, statuses=(), listeners=MAILSTORE),
    closed("cut in a chunk", CHUNKED + b"ff\r\n@WORD@", Act.HALF_CLOSE, statuses=(), listeners=MAILSTORE),
    closed(
        "cut before the end", CHUNKED + b"@HEX@\r\n@BODY@\r\n0\r\n", Act.HALF_CLOSE, statuses=(), listeners=MAILSTORE
    ),
    whole("trailers", CHUNKED + b"@HEX@\r\n@BODY@\r\n0\r\nX: @WORD@\r\nY: y\r\n\r\n"),
    closed(
        "trailers that would change the request",
        CHUNKED + b"@HEX@\r\n@BODY@\r\n0\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    closed(
        "credentials in a trailer",
        b"@LINE@ HTTP/1.1\r\nHost: x\r\n" + TE + b"\r\n@HEX@\r\n@BODY@\r\n0\r\n@AUTH@\r\n",
        statuses=(401,),
        listeners=MAILSTORE,
    ),
    closed("a trailer that is none", CHUNKED + b"@HEX@\r\n@BODY@\r\n0\r\n@WORD@\r\n\r\n"),
    closed("a trailer that is folded", CHUNKED + b"@HEX@\r\n@BODY@\r\n0\r\nX: x\r\n @WORD@\r\n\r\n"),
    closed("a trailer that is too long", CHUNKED + b"@HEX@\r\n@BODY@\r\n0\r\nX: " + b"@WORD@" * 2000 + b"\r\n\r\n"),
    closed("too many trailers", CHUNKED + b"@HEX@\r\n@BODY@\r\n0\r\n" + b"X: @WORD@\r\n" * 2000 + b"\r\n"),
    waiting(
        "chunks that are too much",
        CHUNKED + b"ffff\r\n" + b"x" * 65535 + b"\r\nf\r\n@WORD@\r\n",
        statuses=(413,),
        listeners=MAILSTORE,
    ),
    whole("one behind the chunks", CHUNKED + CHUNKS + b"@HIDDEN@"),
    whole("one behind the chunks, later", CHUNKED + CHUNKS, Act.PAUSE, b"@HIDDEN@"),
)

LINES: tuple[Case, ...] = (
    closed("line feeds alone", GOOD.replace(b"\r\n", b"\n")),
    closed("carriage returns alone", GOOD.replace(b"\r\n", b"\r") + b"\r\n\r\n"),
    closed("a line feed at the end of the first line", GOOD.replace(b"\r\n", b"\n", 1)),
    closed("a line feed at the end of the headers", HEAD + LENGTH + b"\n@BODY@"),
    closed("a line feed in a value", with_header(b"X: @WORD@\nY: y")),
    closed("a carriage return in a value", with_header(b"X: @WORD@\rY: y")),
    closed("two carriage returns", GOOD.replace(b"\r\n", b"\r\r\n", 1)),
    closed("NUL in a value", with_header(b"X: \0@WORD@")),
    closed("NUL in a name", with_header(b"X\0: @WORD@")),
    closed("NUL in the target", b"@METHOD@ @PATH@\0@WORD@ HTTP/1.1\r\nHost: x\r\n\r\n"),
    closed("NUL in the method", b"PO\0ST @PATH@ HTTP/1.1\r\nHost: x\r\n\r\n@WORD@"),
    closed("NUL before everything", b"\0" + GOOD),
    closed("a blank before everything", b" " + GOOD),
    closed("a control character in a value", with_header(b"X: \x01@WORD@")),
    closed("DEL in a value", with_header(b"X: \x7f@WORD@")),
    closed("a control character in a name", with_header(b"X\x01: @WORD@")),
    closed("a folded header", with_header(b"X: @WORD@\r\n @WORD@")),
    closed("a folded header with a tab", with_header(b"X: @WORD@\r\n\t@WORD@")),
    closed("a fold before the first header", b"@LINE@ HTTP/1.1\r\n Host: x\r\n@AUTH@\r\n"),
    closed("a space before a colon", with_header(b"X : @WORD@")),
    closed("a space before a header", HEAD + b" " + LENGTH + b"\r\n@BODY@"),
    closed("a name with a blank", with_header(b"pass @WORD@: x")),
    closed("a name with brackets", with_header(b"X(@WORD@): x")),
    closed("a name beyond ASCII", with_header("Ä: @WORD@".encode())),
    closed("no name", with_header(b": @WORD@")),
    closed("no colon", with_header(b"@WORD@")),
    open_("no value", with_header(b"X:")),
    open_("a value beyond ASCII", with_header("X: ä€@WORD@".encode())),
    open_("a value that is no UTF-8", with_header(b"X: \xff\xfe\x80@WORD@")),
    open_("a tab in a value", with_header(b"X: a\t@WORD@")),
    open_("an empty line before the request", b"\r\n" + GOOD),
    open_("many empty lines before the request", b"\r\n" * 100 + GOOD),
    open_("an empty line between two requests", GOOD + b"\r\n" + GOOD, statuses=(OK, OK)),
)
