"""DLPack's C exchange API: functions of a tensor library that need no call of Python.

A library gives them as a capsule `__dlpack_c_exchange_api__` of its tensor type (dlpack.h of DLPack
1.2, struct DLPackExchangeAPI).
"""

from __future__ import annotations

import ctypes

READ = 3  # int read(PyObject *tensor, DLTensor *out)
STREAM = 4  # int stream(int32 device type, int32 device, void **out): the current one
_HEAD = 16  # bytes before the functions: the version (two u32), the API of an earlier version


def exchange_function(capsule: object, place: int) -> int:
    """The address of a function of the API."""
    name = ctypes.pythonapi.PyCapsule_GetPointer
    prototype = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
    pointer = prototype(ctypes.cast(name, ctypes.c_void_p).value or 0)
    api: int = pointer(capsule, b"dlpack_exchange_api")
    return ctypes.c_void_p.from_address(api + _HEAD + 8 * place).value or 0


def current_stream(function: int, kind: int, device: int) -> int | None:
    """The stream that the work of this thread goes to, by a library's function; None is the default
    one, as it is where there is no library (0)."""
    found = ctypes.c_void_p()
    if function:
        ask = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int32, ctypes.c_int32, ctypes.c_void_p)
        ask(function)(kind, device, ctypes.byref(found))
    return found.value
