"""Lists with bonsai, page by page, and prints the seconds and the entries.

URL BASE DN PASSWORD FILTER ATTRIBUTE…
"""

import sys
import time

import bonsai

url, base, dn, password, wanted, *attributes = sys.argv[1:]
started_s = time.perf_counter()
client = bonsai.LDAPClient(url)
client.set_credentials("SIMPLE", user=dn, password=password)
with client.connect() as connection:
    page = connection.paged_search(base, bonsai.LDAPSearchScope.SUBTREE, wanted, attributes, page_size=1000)
    entry_count = sum(1 for _ in page)
print(time.perf_counter() - started_s, entry_count)
