"""LDAP over asyncio: the only part of the program that knows sockets to directories, and the only importer of ldap3."""
