"""The guard: what of a fresh listing is accepted, and what MailStore must not lose yet. Pure."""
