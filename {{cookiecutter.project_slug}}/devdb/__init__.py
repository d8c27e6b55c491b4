"""The embedded PostgreSQL of development: one folder, easy to delete."""
