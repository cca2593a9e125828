"""Tuning: what can be chosen, which choice to try next, how fast it was, what is known."""
