"""The client of the tuning service: looked-up configs in a fraction of a second, and studies."""
