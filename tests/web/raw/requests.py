"""What a request is: methods, targets, versions, headers, credentials, forms."""

from __future__ import annotations

import base64
from urllib.parse import quote

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
    Ending,
    Listener,
    closed,
    open_,
    waiting,
    with_header,
    with_target,
)
from tests.web.raw.words import TOKEN

ADMIN, CONTROL = (Listener.ADMIN,), (Listener.CONTROL,)


def _with_method(method: bytes) -> bytes:
    return GOOD.replace(b"@LINE@", method + b" @PATH@")


METHODS: tuple[Case, ...] = (
    *(
        open_(f"the method {name}", _with_method(name.encode()), statuses=(405,), listeners=(*MAILSTORE, *ADMIN))
        for name in ("PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND", "SEARCH", "PURGE", "NOTIFY", "LINK")
    ),
    *(
        open_(f"the method {name} of a command", _with_method(name.encode()), statuses=(404,), listeners=CONTROL)
        for name in ("GET", "PUT", "OPTIONS", "TRACE")
    ),
    open_("the method GET", _with_method(b"GET"), statuses=(405,), listeners=MAILSTORE),
    open_("the method POST", _with_method(b"POST"), statuses=(405,), listeners=ADMIN),
    *(
        Case(
            f"HEAD at {listener.value}",
            (_with_method(b"HEAD").replace(b"Host", b"Connection: close\r\nHost"),),
            (status,),
            Ending.CLOSED,
            (listener,),
            bodiless=True,
        )
        for listener, status in (
            (Listener.PLAIN, 405),
            (Listener.TLS, 405),
            (Listener.ADMIN, 200),
            (Listener.CONTROL, 404),
        )
    ),
    *(
        closed(f"the method {name[:20]!r}", _with_method(name))
        for name in (
            b"post",
            b"Post",
            b"get",
            b"UNKNOWN",
            b"@WORD@",
            b"P@ST",
            b"",
            b"POST/",
            b"x" * 9000,
            b"GET\t",
            b'"GET"',
            b"PRI",
        )
    ),
    *(
        closed(
            f"CONNECT to {name}",
            b"CONNECT " + target + b" HTTP/1.1\r\nHost: x\r\n@AUTH@\r\n@HIDDEN@",
            statuses=(404,),
            listeners=READERS,
        )
        for name, target in (("a host", b"x:443"), ("a path", b"/mailstore"), ("the path", b"@PATH@"))
    ),
    closed(
        "CONNECT to a host, admin",
        b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n@AUTH@\r\n@HIDDEN@",
        statuses=(405,),
        listeners=ADMIN,
    ),
)

_TARGETS_OF_THE_PATH: dict[str, bytes] = {
    "of absolute form": b"http://x@PATH@",
    "of absolute form, elsewhere": b"http://elsewhere.example:81@PATH@",
    "with an encoded letter": b"/%",
    "with a query": b"@PATH@?cmd=auth&user=bert&pass=@WORD@",
    "with a long query": b"@PATH@?" + b"@WORD@" * 400,
    "with a query that is no UTF-8": b"@PATH@?%ff=%fe",
    "with an empty query": b"@PATH@?",
}
_OTHER_TARGETS: dict[str, bytes] = {
    "another path": b"/@WORD@",
    "the root": b"/",
    "two slashes": b"/@PATH@",
    "two slashes in the middle": b"@PATH@//x",
    "one level up": b"@PATH@/../../etc/passwd",
    "encoded dots": b"@PATH@/%2e%2e/%2e%2e/etc/passwd",
    "an encoded NUL": b"@PATH@%00",
    "an encoded line break": b"@PATH@%0d%0aX-@WORD@:%20x",
    "an encoded slash behind it": b"@PATH@%2fx",
    "a percent sign alone": b"@PATH@%",
    "a percent sign with letters": b"@PATH@%zz",
    "encoded twice": b"/%256dailstore",
    "no UTF-8": b"/%ff%fe",
    "a semicolon": b"@PATH@;x=@WORD@",
    "a backslash": b"@PATH@\\@WORD@",
    "quotation marks": b'/"@WORD@"',
    "a brace": b"/{@WORD@}",
    "bracket": b"/[@WORD@",
    "8,000 characters": b"/" + b"x" * 8000,
    "many slashes": b"/" * 4000,
}
_BAD_TARGETS: dict[str, bytes] = {
    "without a slash": b"mailstore@WORD@",
    "of nothing": b"",
    "that is too long": b"/" + b"@WORD@" * 1000,
    "with a query that is too long": b"@PATH@?" + b"@WORD@" * 1000,
    "with a blank": b"/a @WORD@",
    "with a tab": b"/a\t@WORD@",
    "with a carriage return": b"/a\r@WORD@",
    "beyond ASCII": "/ä€@WORD@".encode(),
    "with DEL": b"/\x7f@WORD@",
}
TARGETS: tuple[Case, ...] = (
    *(
        open_(f"a target {name}", with_target(target))
        for name, target in _TARGETS_OF_THE_PATH.items()
        if name != "with an encoded letter"
    ),
    open_("a target with an encoded letter", with_target(b"/%6dailstore"), listeners=MAILSTORE),
    open_("a target with an encoded letter, admin", with_target(b"/%72eadyz"), listeners=ADMIN),
    open_("a target with a fragment", with_target(b"@PATH@#@WORD@")),
    open_("a target with a slash behind it", with_target(b"@PATH@/"), listeners=MAILSTORE),
    open_("a target with a slash behind it, elsewhere", with_target(b"@PATH@/"), statuses=(404,), listeners=OTHERS),
    open_("a target in capital letters", with_target(b"/MAILSTORE"), statuses=(404,)),
    closed("the target *", with_target(b"*")),
    *(open_(f"a target of {name}", with_target(target), statuses=(404,)) for name, target in _OTHER_TARGETS.items()),
    *(closed(f"a target {name}", with_target(target)) for name, target in _BAD_TARGETS.items()),
    *(
        closed(f"a target of absolute form with {name}", with_target(target))
        for name, target in (
            ("no host", b"http://@PATH@"),
            ("half an address", b"http://[::1@PATH@"),
            ("a port that is none", b"http://x:@WORD@@PATH@"),
            ("a port that is too large", b"http://x:99999@PATH@"),
        )
    ),
    open_("a target of absolute form with credentials", with_target(b"http://anna:@WORD@@x@PATH@")),
    open_("a target of another scheme", with_target(b"gopher://x@PATH@")),
)

VERSIONS: tuple[Case, ...] = (
    closed("HTTP/1.0", GOOD.replace(b"1.1", b"1.0"), statuses=(OK,)),
    closed("HTTP/1.0 without Host", b"@LINE@ HTTP/1.0\r\n@AUTH@" + LENGTH + b"\r\n@BODY@", statuses=(OK,)),
    open_("HTTP/1.0 that stays", GOOD.replace(b"1.1\r\n", b"1.0\r\nConnection: keep-alive\r\n")),
    closed("HTTP/1.0 with one behind it", GOOD.replace(b"1.1", b"1.0") + b"@HIDDEN@"),
    waiting("HTTP/0.9", b"GET @PATH@\r\n"),
    closed("HTTP/0.9 with an empty line", b"GET @PATH@\r\n\r\n"),
    closed("HTTP/0.9 with a blank", b"GET @PATH@ \r\n"),
    closed("HTTP/0.9 with headers", b"GET @PATH@\r\n@AUTH@\r\n"),
    *(
        closed(f"the version {version!r}", GOOD.replace(b"HTTP/1.1", version))
        for version in (
            b"HTTP/1.2",
            b"HTTP/1.10",
            b"HTTP/11",
            b"HTTP/1",
            b"HTTP/2.0",
            b"HTTP/0.9",
            b"http/1.1",
            b"HTTP/@WORD@",
            b"HTTP/-1.1",
            b"HTTP /1.1",
            b"HTTP/1.1 ",
            b"HTTP/1.1 @WORD@",
            b"HTTPS/1.1",
            b"ICE/1.0",
            b"",
        )
    ),
    closed("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n@WORD@"),
    closed("the preface of HTTP/2 with a frame", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"),
    closed(
        "TLS",
        b"\x16\x03\x01\x02\x00\x01\x00@WORD@\r\n\r\n",
        listeners=tuple(each for each in Listener if each is not Listener.TLS),
    ),
    closed("TLS in TLS", b"\x16\x03\x01\x02\x00\x01\x00@WORD@\r\n\r\n", listeners=(Listener.TLS,)),
    closed("the PROXY protocol", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + GOOD),
    closed("the PROXY protocol in binary", b"\r\n\r\n\0\r\nQUIT\n!\x11\0\x0c" + GOOD),
    closed("SMTP", b"EHLO @WORD@\r\n"),
    closed("LDAP", b"0\x0c\x02\x01\x01`\x07\x02\x01\x03\x04\0\x80\0@WORD@\r\n\r\n"),
    closed("a body alone", b"@BODY@\r\n\r\n"),
    closed("nothing but zeros", b"\0" * 5000),
    closed(
        "an upgrade to HTTP/2",
        with_header(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
        + b"@HIDDEN@",
        statuses=(OK,),
    ),
    closed(
        "an upgrade to @WORD@", with_header(b"Connection: upgrade\r\nUpgrade: @WORD@") + b"@HIDDEN@", statuses=(OK,)
    ),
    closed(
        "an upgrade to WebSocket",
        with_header(
            b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: @WORD@"
        )
        + b"@HIDDEN@",
        statuses=(OK,),
    ),
    closed("an upgrade to TLS", with_header(b"Connection: upgrade\r\nUpgrade: TLS/1.0") + b"@HIDDEN@", statuses=(OK,)),
)

HEADERS: tuple[Case, ...] = (
    open_("100 headers", with_header(b"\r\n".join(b"X-%d: @WORD@" % number for number in range(100)))),
    closed("200 headers", with_header(b"\r\n".join(b"X-%d: @WORD@" % number for number in range(200)))),
    closed("10,000 headers", HEAD + b"".join(b"X-%d: @WORD@\r\n" % number for number in range(10_000)) + b"\r\n"),
    open_("a header of 8,000 characters", with_header(b"X: " + b"x" * 8000)),
    closed("a header of 9,000 characters", with_header(b"X: " + b"x" * 9000)),
    closed("a header of a megabyte", with_header(b"X: " + b"x" * 1_000_000)),
    closed("a header without end", HEAD + b"X: " + b"x" * 20_000),
    closed("a name of 9,000 characters", with_header(b"x" * 9000 + b": x")),
    open_("two headers of one name", with_header(b"X: a\r\nx: @WORD@")),
    closed("no Host", b"@LINE@ HTTP/1.1\r\n@AUTH@" + LENGTH + b"\r\n@BODY@"),
    closed("Host twice", with_header(b"Host: @WORD@")),
    open_("an empty Host", GOOD.replace(b"Host: x", b"Host:")),
    open_("an odd Host", GOOD.replace(b"Host: x", b"Host: [@WORD@ a/b?c")),
    open_("a long Host", GOOD.replace(b"Host: x", b"Host: " + b"x" * 5000)),
    open_("a Host with a port that is none", GOOD.replace(b"Host: x", b"Host: x:@WORD@")),
    closed("Connection: close with one behind it", with_header(b"Connection: close") + b"@HIDDEN@"),
    open_("Connection: @WORD@", with_header(b"Connection: @WORD@")),
    open_("Connection names Content-Length", with_header(b"Connection: Content-Length, Authorization")),
    open_("Keep-Alive", with_header(b"Connection: keep-alive\r\nKeep-Alive: timeout=-1, max=@WORD@")),
    open_("Accept-Encoding that is odd", with_header(b"Accept-Encoding: gzip;q=@WORD@, ;;,,q=, *;q=9")),
    open_("Accept-Encoding twice", with_header(b"Accept-Encoding: br\r\nAccept-Encoding: gzip")),
    open_("Range", with_header(b"Range: bytes=@WORD@-\r\nIf-None-Match: *\r\nIf-Modified-Since: @WORD@")),
    open_("Cookie", with_header(b'Cookie: @WORD@="; =;;\x80')),
    open_("X-Forwarded-For", with_header(b"X-Forwarded-For: @WORD@\r\nForwarded: for=@WORD@\r\nX-Real-IP: @WORD@")),
    open_("X-HTTP-Method-Override", with_header(b"X-HTTP-Method-Override: DELETE\r\nX-Original-URL: /@WORD@")),
    open_("TE", with_header(b"TE: trailers, chunked;q=@WORD@")),
    open_("Expect that is none", with_header(b"Expect: @WORD@")),
    open_("Expect: 100-continue with its body", with_header(b"Expect: 100-continue")),
    open_(
        "Expect: 100-continue and then the body",
        HEAD + LENGTH + b"Expect: 100-Continue\r\n\r\n",
        Act.PAUSE,
        b"@BODY@",
        statuses=(100, OK),
        listeners=READERS,
    ),
    closed(
        "Expect: 100-continue and then chunks",
        HEAD + b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
        Act.PAUSE,
        b"@HEX@\r\n@BODY@\r\n0\r\n\r\n",
        statuses=(100, OK),
        listeners=READERS,
    ),
    closed(
        "Expect: 100-continue in HTTP/1.0",
        HEAD.replace(b"1.1", b"1.0") + LENGTH + b"Expect: 100-continue\r\n\r\n",
        Act.PAUSE,
        b"@BODY@",
        statuses=(OK,),
        listeners=READERS,
    ),
    waiting(
        "Expect: 100-continue for too much",
        HEAD + b"Content-Length: 99999\r\nExpect: 100-continue\r\n\r\n",
        statuses=(413,),
        listeners=READERS,
    ),
    waiting(
        "Expect: 100-continue and no body",
        HEAD + LENGTH + b"Expect: 100-continue\r\n\r\n",
        statuses=(100,),
        listeners=READERS,
    ),
)


def _authorized(*lines: bytes) -> bytes:
    return GOOD.replace(b"@AUTH@", b"".join(line + b"\r\n" for line in lines))


def _basic(text: bytes) -> bytes:
    return b"Authorization: Basic " + base64.b64encode(text)


_RIGHT = b"Authorization: Basic " + TOKEN
_REFUSED: dict[str, tuple[bytes, ...]] = {
    "none": (),
    "twice": (_RIGHT, _RIGHT),
    "right and wrong": (_RIGHT, _basic(b"mailstore:@WORD@")),
    "of nothing": (b"Authorization:",),
    "Basic alone": (b"Authorization: Basic",),
    "Bearer": (b"Authorization: Bearer @WORD@",),
    "Digest": (b'Authorization: Digest username="mailstore", response="@WORD@"',),
    "Negotiate": (b"Authorization: Negotiate " + TOKEN,),
    "the token alone": (b"Authorization: " + TOKEN,),
    "no Base64": (b"Authorization: Basic @WORD@!",),
    "Base64 with a blank inside": (b"Authorization: Basic " + TOKEN[:8] + b" " + TOKEN[8:],),
    "Base64 of other letters": (b"Authorization: Basic -_-_",),
    "something behind it": (_RIGHT + b", Basic " + TOKEN,),
    "half of it": (_RIGHT[:-1],),
    "no colon": (_basic(b"@WORD@"),),
    "no UTF-8": (_basic(b"mailstore:\xff\xfe"),),
    "Latin-1": (_basic("mailstore:caller ü password".encode("latin-1")),),
    "not encoded": ("Authorization: Basic ä:@WORD@".encode(),),
    "a quoted token": (b'Authorization: Basic "' + TOKEN + b'"',),
    "in another header": (b"Proxy-Authorization: Basic " + TOKEN,),
    "a tab for a blank": (b"Authorization: Basic\t" + TOKEN,),
}
CREDENTIALS: tuple[Case, ...] = (
    *(
        open_(f"credentials: {name}", _authorized(*lines), statuses=(401,), listeners=MAILSTORE)
        for name, lines in _REFUSED.items()
    ),
    open_("credentials: wrong", _authorized(_basic(b"mailstore:@WORD@")), statuses=(401,), listeners=MAILSTORE[:1]),
    open_(
        "credentials: basic in small letters",
        _authorized(b"authorization:  bAsIc   " + TOKEN + b"  "),
        listeners=MAILSTORE,
    ),
    open_("credentials where none are wanted", _authorized(_RIGHT, _RIGHT), listeners=OTHERS),
    open_("credentials: none, then right ones", _authorized() + GOOD, statuses=(401, OK), listeners=MAILSTORE),
    waiting(
        "credentials: none, and too much",
        HEAD.replace(b"@AUTH@", b"") + b"Content-Length: 99999\r\n\r\n@WORD@",
        statuses=(413,),
        listeners=MAILSTORE,
    ),
    open_("credentials at the wrong path", with_target(b"/elsewhere"), statuses=(404,), listeners=MAILSTORE),
)


def _form(body: bytes, *lines: bytes) -> bytes:
    return HEAD + b"".join(line + b"\r\n" for line in lines) + b"Content-Length: %d\r\n\r\n" % len(body) + body


def _typed(content_type: bytes) -> bytes:
    return with_header(b"Content-Type: " + content_type)


_FORM_TYPE = b"application/x-www-form-urlencoded"
_TYPES: dict[str, tuple[bytes, int]] = {
    "the form's": (_FORM_TYPE, OK),
    "the form's, in capital letters": (_FORM_TYPE.upper(), OK),
    "with a charset": (_FORM_TYPE + b"; charset=utf-8", OK),
    "with a charset in quotation marks": (_FORM_TYPE + b' ; Charset="UTF-8"', OK),
    "with a parameter": (_FORM_TYPE + b"; boundary=@WORD@;;", OK),
    "empty": (b"", OK),
    "Latin-1": (_FORM_TYPE + b"; charset=iso-8859-1", 400),
    "UTF-16": (_FORM_TYPE + b"; charset=utf-16", 400),
    "UTF-7": (_FORM_TYPE + b"; charset=utf-7", 400),
    "a charset that is none": (_FORM_TYPE + b"; charset=@WORD@", 400),
    "a charset of nothing": (_FORM_TYPE + b"; charset=", 400),
    "two charsets": (_FORM_TYPE + b"; charset=utf-8; charset=latin-1", 400),
    "multipart": (b"multipart/form-data; boundary=@WORD@", 400),
    "JSON": (b"application/json", 400),
    "text": (b"text/plain", 400),
    "XML": (b"application/xml", 400),
    "octets": (b"application/octet-stream", 400),
    "no type": (b"@WORD@", 400),
    "a slash": (b"/", 400),
    "a semicolon": (b";", 400),
    "5,000 semicolons": (_FORM_TYPE + b";" * 5000, OK),
    "beyond ASCII": ("ä/ö".encode(), 400),
}
_FORMS_WITHOUT_A_COMMAND: dict[str, bytes] = {
    "JSON": b'{"cmd":"auth","user":"bert","pass":"@"}',
    "multipart": b'--b\r\nContent-Disposition: form-data; name="cmd"\r\n\r\nauth\r\n--b--\r\n',
    "a byte order mark": b"\xef\xbb\xbfcmd=list",
    "UTF-16": "cmd=list".encode("utf-16"),
    "another command": b"cmd=delete&user=bert",
    "a command in capital letters": b"cmd=LIST",
    "an empty command": b"cmd=",
    "a command with a blank": b"cmd=list+",
    "a command with NUL": b"cmd=list%00",
    "a list in brackets": b"cmd[]=list",
    "semicolons": b"cmd=auth;user=bert;pass=x",
    "only signs": b"&=&=&&==",
    "nothing": b"",
    "NUL alone": b"\0" * 100,
    "16,000 fields": b"&".join(b"a=b" for _ in range(16_000)),
}
_FORMS_OF_NO_MEANING: dict[str, bytes] = {
    "two commands": b"cmd=list&cmd=auth",
    "an encoded second command": b"cmd=list&%63md=auth",
    "two users": b"cmd=auth&user=anna&user=bert&pass=x",
    "two passwords": b"cmd=auth&user=bert&pass=x&pass=y",
    "no password": b"cmd=auth&user=bert",
    "no user": b"cmd=auth&pass=x",
    "a percent sign alone": b"cmd=auth&user=bert&pass=%",
    "half an escape": b"cmd=auth&user=bert&pass=%4",
    "no hexadecimal": b"cmd=auth&user=bert&pass=%zz",
    "a user that is no UTF-8": b"cmd=auth&user=%ff&pass=x",
    "a password that is no UTF-8": b"cmd=auth&user=bert&pass=%ff",
    "raw bytes": b"cmd=auth&user=\xff\xfe&pass=x",
}
FORMS: tuple[Case, ...] = (
    *(
        (open_ if status == OK else closed)(
            f"a content type: {name}", _typed(value), statuses=(status,), listeners=MAILSTORE
        )
        for name, (value, status) in _TYPES.items()
    ),
    closed(
        "a content type twice",
        with_header(b"Content-Type: " + _FORM_TYPE + b"\r\nContent-Type: text/plain"),
        listeners=MAILSTORE,
    ),
    *(
        open_(f"a form: {name}", _form(body), statuses=(400,), listeners=MAILSTORE)
        for name, body in _FORMS_WITHOUT_A_COMMAND.items()
    ),
    *(
        closed(f"a form: {name}", _form(body) + b"@HIDDEN@", listeners=MAILSTORE)
        for name, body in _FORMS_OF_NO_MEANING.items()
    ),
    closed(
        "a form of 64 KiB and one byte",
        _form(b"cmd=list&x=" + b"x" * (65536 - 10)) + b"@HIDDEN@",
        statuses=(413,),
        listeners=MAILSTORE,
    ),
    open_("a form of 64 KiB", _form(b"cmd=list&x=" + b"x" * (65536 - 11)), statuses=(200,), listeners=MAILSTORE),
    open_(
        "a field more",
        _form(b"cmd=list&" + quote("ü €").encode() + b"=@WORD@".replace(b"@WORD@", b"x")),
        statuses=(200,),
        listeners=MAILSTORE,
    ),
    *(
        closed(f"a content encoding: {name}", with_header(b"Content-Encoding: " + name.encode()), listeners=MAILSTORE)
        for name in ("gzip", "deflate", "br", "zstd", "gzip, gzip", "identity, gzip", "@WORD@", "")
    ),
    closed(
        "a content encoding twice",
        with_header(b"Content-Encoding: identity\r\nContent-Encoding: gzip"),
        listeners=MAILSTORE,
    ),
    closed(
        "gzip in chunks",
        CHUNKED.replace(b"Host", b"Content-Encoding: gzip\r\nHost") + b"5\r\npass=\r\n",
        Act.PAUSE,
        CHUNKS,
        listeners=MAILSTORE,
    ),
    closed("gzip of a stranger", with_header(b"Content-Encoding: gzip").replace(b"@AUTH@", b""), listeners=MAILSTORE),
    open_("a content encoding: identity", with_header(b"Content-Encoding: Identity")),
)
_COMMAND_BODIES: dict[str, bytes] = {
    "no JSON": b"cmd=@WORD@",
    "half of it": b'{"user":"nobody"',
    "a list": b"[1,2]",
    "a word": b'"x"',
    "null": b"null",
    "nested too deeply": b"[" * 5000 + b"]" * 5000,
    "no UTF-8": b'{"user":"\xff"}',
    "a number for a name": b'{"user":5}',
    "no name": b'{"other":"x"}',
    "NaN": b'{"user":NaN}',
    "two objects": b'{"user":"nobody"}{"user":"nobody"}',
    "a byte order mark": b'\xef\xbb\xbf{"user":"nobody"}',
    "half a surrogate": b'{"user":"\\ud800"}',
}
COMMANDS: tuple[Case, ...] = (
    *(
        closed(f"a command's body: {name}", _form(body) + b"@HIDDEN@", listeners=CONTROL)
        for name, body in _COMMAND_BODIES.items()
    ),
    closed("a command's body: nothing", _form(b""), listeners=CONTROL),
    open_("a command's body: a key twice", _form(b'{"user":"x","user":"nobody"}'), statuses=(200,), listeners=CONTROL),
    closed("a command's body: too much", _form(b'{"user":"%b"}' % (b"x" * 70_000)), statuses=(413,), listeners=CONTROL),
    closed("a command's body that is compressed", with_header(b"Content-Encoding: gzip"), listeners=CONTROL),
    open_(
        "a command for a directory that is none",
        with_target(b"/refresh").replace(LENGTH, b"Content-Length: 19\r\n").replace(b"@BODY@", b'{"directory":"xyz"}'),
        statuses=(404,),
        listeners=CONTROL,
    ),
    open_(
        "a command for a directory that is no word",
        with_target(b"/refresh").replace(LENGTH, b"Content-Length: 16\r\n").replace(b"@BODY@", b'{"directory":[]}'),
        statuses=(404,),
        listeners=CONTROL,
    ),
)
