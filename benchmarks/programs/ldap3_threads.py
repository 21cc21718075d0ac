"""What one would write in an afternoon: aiohttp, and ldap3 in threads with a connection for each bind.

PORT CREDENTIALS URL BASE DN PASSWORD.
"""

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs

from aiohttp import web
from ldap3 import NONE, Connection, Server
from ldap3.utils.conv import escape_filter_chars

port, credentials, url, base, reader, reader_password = sys.argv[1:]
server = Server(url, get_info=NONE)
kept = threading.local()


def authenticate(user: str, password: str) -> bool:
    """Whether the password is the user's."""
    if not hasattr(kept, "connection"):
        kept.connection = Connection(server, reader, reader_password, auto_bind=True)
    kept.connection.search(base, f"(&(objectClass=inetOrgPerson)(uid={escape_filter_chars(user)}))", attributes=["uid"])
    if len(kept.connection.response) != 1:
        return False
    connection = Connection(server, kept.connection.response[0]["dn"], password)
    accepted = connection.bind()
    connection.unbind()
    return bool(accepted)


pool = ThreadPoolExecutor(32)


async def answer(request: web.Request) -> web.Response:
    """The verdict."""
    if request.headers.get("Authorization") != f"Basic {credentials}":
        return web.Response(status=401)
    form = parse_qs((await request.read()).decode(), strict_parsing=True)
    loop = asyncio.get_running_loop()
    accepted = await loop.run_in_executor(pool, authenticate, form["user"][0], form["pass"][0])
    body = b'{"succeeded":true}' if accepted else b'{"succeeded":false}'
    return web.Response(body=body, content_type="application/json")


application = web.Application()
application.router.add_post("/mailstore", answer)
web.run_app(application, host="127.0.0.1", port=int(port), print=lambda *_: None, access_log=None)
