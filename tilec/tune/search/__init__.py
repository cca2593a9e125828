"""Which config to try next: samplers, what they know of other devices, and the loop around them.

A sampler is a pure function of the space, the seed, what was told and what is still being measured:
a search that is resumed proposes what it would have proposed.
"""
