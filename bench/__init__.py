"""Measures the rendered project beside other job queues for Django, in one run.

`make bench` runs `python -m bench`. `python -m bench settings` measures the effect of each of the
project's settings, and `python -m bench faults` counts what kills and rollbacks do to jobs. `site` is
the folder that the measured projects have on their path.
"""
