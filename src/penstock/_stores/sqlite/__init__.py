"""A store in a SQLite file that several processes share."""
