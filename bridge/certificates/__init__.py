"""Certificates and keys: files made into TLS contexts, or into words for what is wrong with them.

The only place that loads them, for directories and for the listener. Knows no configuration, no LDAP and no HTTP.
"""
