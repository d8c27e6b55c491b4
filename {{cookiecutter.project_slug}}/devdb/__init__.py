"""For development only: the database, login button, panel, worker and startapp."""
