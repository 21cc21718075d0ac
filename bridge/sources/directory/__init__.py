"""The users of an LDAP directory: how they are searched, judged, listed and confirmed."""
