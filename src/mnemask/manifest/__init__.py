"""Batches of clips from a manifest, distributed over processes of this machine or nodes of a Ray cluster.

Both share the scheduler (`run`, `schedule`), with `local` and `on_ray` as its backends. What is done with a clip is up
to the worker, which the command gives by name.
"""
