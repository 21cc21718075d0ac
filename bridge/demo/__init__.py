"""An LDAP server in memory with sample people: for a first look at the bridge, and for its tests."""
