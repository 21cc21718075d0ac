"""Lists with python-ldap, page by page, and prints the seconds and the entries.

URL BASE DN PASSWORD FILTER ATTRIBUTE…
"""

import sys
import time

import ldap
from ldap.controls import SimplePagedResultsControl

url, base, dn, password, wanted, *attributes = sys.argv[1:]
started_s = time.perf_counter()
connection = ldap.initialize(url, bytes_mode=False)
connection.simple_bind_s(dn, password)
control = SimplePagedResultsControl(criticality=True, size=1000, cookie="")
entry_count = 0
while True:
    message_id = connection.search_ext(base, ldap.SCOPE_SUBTREE, wanted, attributes, serverctrls=[control])
    _, entries, _, controls = connection.result3(message_id)
    entry_count += len(entries)
    control.cookie = controls[0].cookie
    if not control.cookie:
        break
print(time.perf_counter() - started_s, entry_count)
