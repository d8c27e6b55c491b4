"""For development only: its database, login button, worker and startapp."""
