"""The notations of LDAP: distinguished names, filters, attribute descriptions, and the BER that carries them.

Pure functions from text or bytes to frozen values and back; nothing here talks to anybody.
"""
