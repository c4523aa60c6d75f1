"""The end of a program that must not wait: _exit(code) in so many seconds, whatever it is doing
then.

MPI_Finalize runs where Python no longer does. A timer whose thread calls C's _exit still works
there, and keeps the exit code, which an alarm would not.
"""

from __future__ import annotations

import ctypes
import signal

CLOCK_MONOTONIC = 1
SIGEV_THREAD = 2


class _Notice(ctypes.Structure):
    """glibc's struct sigevent (64 bytes): `function` is called with `value` in a thread of its
    own."""

    _fields_ = [
        ("value", ctypes.c_void_p),
        ("signal", ctypes.c_int),
        ("kind", ctypes.c_int),
        ("function", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("unused", ctypes.c_char * 32),
    ]


class _Times(ctypes.Structure):
    """struct itimerspec: interval and first time, each in seconds and nanoseconds."""

    _fields_ = [
        (name, ctypes.c_long) for name in ("every", "every_ns", "first", "first_ns")
    ]


def exit_after(seconds: int, code: int) -> None:
    """Lets the process exit with this code after so many seconds, unless it has ended before.

    Where the C library has no such timer, SIGALRM ends it.
    """
    try:
        _start(ctypes.CDLL(None), seconds, code)
    except (AttributeError, OSError):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)


def _start(libc: ctypes.CDLL, seconds: int, code: int) -> None:
    leave = ctypes.cast(libc._exit, ctypes.c_void_p)
    notice = _Notice(value=code, kind=SIGEV_THREAD, function=leave)
    timer = ctypes.c_void_p()
    if libc.timer_create(CLOCK_MONOTONIC, ctypes.byref(notice), ctypes.byref(timer)):
        raise OSError("timer_create failed")
    times = _Times(first=seconds)
    if libc.timer_settime(timer, 0, ctypes.byref(times), None):
        raise OSError("timer_settime failed")
