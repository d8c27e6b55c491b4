"""The project's own user model: it is hard to switch to one later."""
