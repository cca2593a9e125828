"""The tuning service: studies, leases for workers, tuned configs, over HTTP.

It compiles and measures nothing: workers do. All state is in the database and the artifact folder.
"""
