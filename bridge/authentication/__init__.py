"""Logins: whose name is meant, one guarded user bind, and what is remembered of it."""
