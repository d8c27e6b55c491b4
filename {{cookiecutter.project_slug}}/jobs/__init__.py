"""The job queue: how jobs are declared, deferred, run and watched."""
