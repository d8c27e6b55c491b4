"""The project's own user model, which cannot be changed later: start with it."""
