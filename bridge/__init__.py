"""A bridge between MailStore, the e-mail archive, and LDAP directories."""

__version__ = "0.1.0"
