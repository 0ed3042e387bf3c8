"""The structures that compiled loops and Python share, and where their fields lie.

Two are this package's, the `Pool` and a `Loop` for each dtype of a ufunc; all their fields are 64 bits wide. The third
is NumPy's `UFunc`, whose counts are C ints. Python reads and writes them through ctypes, compiled code through their
addresses and the fields' offsets.
"""

from __future__ import annotations

import ctypes

LINE = 64  # bytes of a cache line
MAX_OPERANDS = 12
MAX_CORE_DIMS = 7
SLOTS = 64
STEERED = 64  # so many workers are kept off the caller's CPU
RANGES = 64  # into so many the chunks of a job are cut at most
APART = 8  # numbers of 64 bits from one count that threads change to the next, so that each has its cache line
STREAM = 16 << 20
"""Bytes of a result from which it is written past the caches.

From there on that is faster even for somebody who reads the result at once: it and its arguments are more than the
share of the last cache that one process has. Loops over rows, which come back to what they read, gain from half of it.
"""


class Pool(ctypes.Structure):
    """The one thread pool of the process, and what compiled code needs of the operating system and of CPython."""

    _fields_ = [
        (name, ctypes.c_int64)
        for name in (
            "threads",  # how many threads a call may use, the caller included
            "started",  # worker threads that exist
            "busy",  # 1 while a call uses the pool; a second caller goes on alone
            "state",  # OPEN while workers may join the job, plus the number that have joined
            "callers",  # how many calls that may use the pool are under way
            "chunks",
            "ranges",  # into which they are cut: each thread begins with one of its own
            "backwards",  # whether each is done from its end, as it is in every second job
            "limit",  # how many workers may join
            "job",  # void (*)(intp context, intp chunk, intp which of the threads this is)
            "context",
            "work",  # semaphore: there may be a job
            "done",  # semaphore: the last worker left a closed job
            "post",  # int (*)(semaphore, 1, 0)
            "wait",  # int (*)(semaphore, -1)
            "launch",  # a function of Python's, for `ask`: start so many workers
            "identify",  # unsigned long (*)(void): this thread
            "overrides",  # how many slots are in use
            "gil_ensure",
            "gil_release",
            "gil_check",  # int (*)(void): whether this thread holds it
            "set_error",  # void (*)(PyObject *type, PyObject *value)
            "collect",  # functions of driver.py and sharing.py that others call, so that each is compiled once
            "spread",
            "share",
            "piece",
            "whole",
            "direct",  # this one of quick.py
            "collect_rows",  # four of tiles.py and views.py, 0 until a first array that is not contiguous
            "spread_rows",
            "walk_chunk",
            "views",
            "load_views",  # a function of Python's, for `ask`: make the four
            "resolve",  # the same: compile what a loop needs
            "refuse_long",  # the same: rows in which 32 bits are not enough for a position
            "call_one",  # PyObject_CallOneArg
            "from_intp",  # PyLong_FromSsize_t, and the other way round
            "as_intp",
            "error_occurred",
            "fetch_error",  # PyErr_Fetch and PyErr_Restore
            "restore_error",
            "elementwise_job",  # as the job
            "rows_job",
            "parts_job",
            "empty_type",  # the error for a row without elements, for set_error
            "empty_value",  # its text
            "stream_bytes",  # results at least this large are written past the caches
            "numpy_call",  # the vectorcall of NumPy's own ufuncs
            "new_like",  # PyArray_NewLikeArray
            "new_array",  # PyArray_NewFromDescr
            "array_type",
            "float_type",
            "int_type",
            "out_name",  # the interned "out"
            "incref",
            "decref",
            "save_thread",  # let go of the interpreter lock
            "restore_thread",
            "as_long",  # PyLong_AsLongLongAndOverflow
            "axis_name",  # the interned "axis"
            "keepdims_name",
            "true",
            "index_type",  # the dtype of operands that are an index a row
            "new_tuple",  # PyTuple_New
            "rows",  # the loop over rows of row_driver.py, for quick_rows.py
            "slabs_job",
            "current_cpu",  # int (*)(void), or 0 where nobody says
            "get_affinity",  # int (*)(int thread, size_t bytes, mask), and the one that sets it
            "set_affinity",
            "awake",  # workers that look for work, and need not be woken
            "alone",  # calls that would have had their help
            "raw_malloc",  # CPython's, for which no lock is held
            "raw_free",
        )
    ] + [
        ("taken", ctypes.c_int64 * (RANGES * APART)),  # chunks of each range that somebody has taken
        ("slots", ctypes.c_int64 * (2 * SLOTS)),  # pairs (thread, number of threads it asked for)
        ("steered", ctypes.c_int64 * (2 * STEERED)),  # pairs (worker's number for the system, 1 + the CPU it keeps off)
    ]


SHORTEST, LONGEST = 2, 32
BESIDE = LONGEST - SHORTEST + 2  # the number of that kind of loop: after `body` and those of one length
ROWS_OF = {n: f"rows_of_{n}" for n in range(SHORTEST, LONGEST + 1)}
"""Where a `Loop` has the loop over rows of so many elements."""
KINDS = 64  # of code that a loop may have: fewer than that


class Loop(ctypes.Structure):
    """One loop of one ufunc: what NumPy hands to the driver as ``data``."""

    _fields_ = [
        (name, ctypes.c_int64)
        for name in (
            # six of void (*)(char **args, intp n), by SCALARS and the way; 0 until they are compiled
            "block",
            "block_scalars",
            "block_past_caches",
            "block_scalars_past_caches",
            "block_every_second",
            "block_scalars_every_second",
            "body",  # or a whole NumPy loop, void (*)(char **, intp *, intp *, void *)
            "beside",  # the one over rows that are short, or lie side by side, if there are two; 0 until it is compiled
            "pool",
            "inputs",
            "outputs",
            "scalars",  # number of trailing inputs that are parameters, or one number a row
            "indices",  # a bit for each of these that is an index
            "mask",  # 1 if the last of the rows that are read is an array of bool
            "itemsize",
            "lanes",
            "threshold",  # elements (rows of a gufunc: core elements) above which threads pay
            "core_dims",  # number of core dimensions of a gufunc
            "phases",  # steps in which threads can share one row of a gufunc; 0 if they cannot
            "part",  # elements of a part of such a row
            "arena",  # bytes that the loop of a gufunc wants for rows that are not contiguous, and many short ones
            "counted",  # elements of a row above which positions in it are no longer right; 0: any are
            "keeps",  # elements of a row up to which an arena has room for terms, which the output has not; else 0
            "long",  # elements of a row above which its first two passes are one, made in the second's steps; 0: never
            "raises",  # 1 if its code may leave a Python error set
            "dtype",  # the dtype of all operands, for calls that do without NumPy; 0 if there are several
            "longest",  # rows of a gufunc up to this length, which follow on each other, have loops of their own
            *ROWS_OF.values(),  # as `body`; 0 until they are compiled
        )
    ]


ROW_FIELDS = (  # a name and the usual value of each field, an intp, of what the loop over rows may be told
    ("others", 0),  # rows that others do, so that a large result is known to be one
    ("phase", -1),  # only this step: 2 k for pass k, 2 k + 1 for joining its totals, or writing; -1: everything
    ("first", 0),  # the parts of the row it is done for
    ("last", 0),
    ("totals", 0),  # SLOT bytes for each part's total
    ("numbers", 0),  # NUMBERS vectors for what the steps leave to those after them
    ("arena", 0),  # where there are so many bytes as `Loop.arena` says, aligned to a cache line; 0 if nowhere
)
SLOT = 64
NUMBERS = 48


class UFunc(ctypes.Structure):
    """NumPy's PyUFuncObject (ufuncobject.h), as far as it is public; the last field exists since NumPy 2.1."""

    _fields_ = (
        [("head", ctypes.c_byte * object.__basicsize__)]
        + [(name, ctypes.c_int) for name in ("nin", "nout", "nargs", "identity")]
        + [(name, ctypes.c_void_p) for name in ("functions", "data")]
        + [(name, ctypes.c_int) for name in ("ntypes", "reserved1")]
        + [(name, ctypes.c_void_p) for name in ("name", "types", "doc", "ptr", "obj", "userloops")]
        + [(name, ctypes.c_int) for name in ("core_enabled", "core_num_dim_ix")]
        + [(name, ctypes.c_void_p) for name in ("core_num_dims", "core_dim_ixs", "core_offsets", "core_signature")]
        + [(name, ctypes.c_void_p) for name in ("type_resolver", "dict", "vectorcall", "reserved3", "op_flags")]
        + [("iter_flags", ctypes.c_uint32)]
        + [(name, ctypes.c_void_p) for name in ("core_dim_sizes", "core_dim_flags", "identity_value")]
        + [(name, ctypes.c_void_p) for name in ("dispatch_cache", "loops", "process_core_dims")]
    )


def offset(structure: type[ctypes.Structure], field: str) -> int:
    return int(getattr(structure, field).offset)


OPEN = 1 << 32

SCALARS = 1
"""The kind of block to which the trailing parameters are single values, added to one of the ways:"""
PAST_CACHES = 2
"""it writes past the caches, outputs that begin a cache line;"""
EVERY_SECOND = 4
"""it takes every second element of its inputs, and one input element more than it computes with is there to be read."""
