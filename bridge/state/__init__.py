"""What outlives the process: snapshots in an SQLite database. The only importer of sqlite3."""
