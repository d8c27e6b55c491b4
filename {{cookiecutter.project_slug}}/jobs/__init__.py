"""The queue as Django sees it: declaring and deferring jobs."""
