"""Workers of the tuning service: they pull trials over HTTP, measure them and say what came of it.

Engines (Ray, Slurm) only start workers. This package imports nothing of the service.
"""
