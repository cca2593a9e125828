"""Layouts: which thread and register holds an element of a tile, and where it lies in memory.

`register` and `view` know digits of thread numbers, `memory` and `algebra` nested shape:stride,
`shared` and `banks` swizzles and bank conflicts, `fragments` and `atoms` what instructions read,
`text` how all of them are written.
"""
