"""Lists with ldap3 as fast as it goes, and prints the seconds and the entries.

URL BASE DN PASSWORD FILTER ATTRIBUTE…
"""

import sys
import time

from ldap3 import NONE, SUBTREE, Connection, Server

url, base, dn, password, wanted, *attributes = sys.argv[1:]
started_s = time.perf_counter()
server = Server(url, get_info=NONE)
connection = Connection(server, dn, password, auto_bind=True, return_empty_attributes=False)
entries = connection.extend.standard.paged_search(
    base, wanted, SUBTREE, attributes=attributes, paged_size=1000, generator=True
)
entry_count = sum(1 for _ in entries)
print(time.perf_counter() - started_s, entry_count)
