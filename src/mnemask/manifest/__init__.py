"""Many clips from one manifest: read and checked, spread over the processes of a machine or the nodes of a Ray cluster.

The scheduler (`run`, `schedule`) is one for both; `local` and `on_ray` are what carries clips out. It knows nothing of
what is done with a clip: that is a worker's, which the command gives by name.
"""
