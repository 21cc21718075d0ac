"""HTTP: what MailStore talks to, and what watches the service; the only importer of aiohttp."""
