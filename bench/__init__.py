"""Measures the rendered project beside other job queues for Django, in one run.

`python -m bench` is `make bench`; its `--settings` measures what each of the project's settings
earns. `site` is what the measured projects have on their path.
"""
