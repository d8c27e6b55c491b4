"""Measures the rendered project beside other job queues for Django, in one run."""
