"""Procrastinate's command line on uvloop: `python -m load.uvloop ...`."""

import asyncio
import sys

import uvloop
from procrastinate.cli import cli

with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(cli(sys.argv[1:]))
