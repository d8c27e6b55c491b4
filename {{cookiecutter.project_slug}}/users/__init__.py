"""The project's own user model. A later switch to one is hard, so it exists from the start."""
