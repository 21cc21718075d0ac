"""The least that aiohttp can do: a constant answer behind the same Basic check.

PORT CREDENTIALS [FILE OF THE LISTING]
"""

import sys
from pathlib import Path

from aiohttp import web

port, credentials, *files = sys.argv[1:]
listing = Path(files[0]).read_bytes() if files else b""


async def answer(request: web.Request) -> web.Response:
    """The listing, or that the password is right."""
    if request.headers.get("Authorization") != f"Basic {credentials}":
        return web.Response(status=401)
    body = await request.read()
    found = listing if body == b"cmd=list" else b'{"succeeded":true}'
    return web.Response(body=found, content_type="application/json")


application = web.Application()
application.router.add_post("/mailstore", answer)
web.run_app(application, host="127.0.0.1", port=int(port), print=lambda *_: None, access_log=None)
