"""The loop NumPy calls for every gufunc: whole rows are shared out among threads, or the parts of a few long rows."""

from __future__ import annotations

import numba

from ..kernels.rows import BLOCK
from .driver import (
    L_BODY,
    L_INPUTS,
    L_ITEMSIZE,
    L_OUTPUTS,
    L_POOL,
    L_THRESHOLD,
    P_DECREF,
    P_ERROR_OCCURRED,
    P_GIL_ENSURE,
    P_GIL_RELEASE,
    P_SET_ERROR,
    P_SHARE,
    U_DATA,
    WORD,
    ask,
    begin,
    block,
    end,
    jit,
    must_go_one_by_one,
    operands,
    record,
    resolved,
)
from .layout import BESIDE, LINE, NUMBERS, ROW_FIELDS, ROWS_OF, SHORTEST, SLOT, Loop, Pool, offset
from .memory import call, call_int, call_void, enter, leave, peek, poke, stack
from .row_arena import FEW_ROWS, LONGEST_IN_A_LANE, SHORT, SMALL, SOME

ROW_CHUNK = 1 << 15  # elements a thread takes at a time, in whole rows
NEXT = 8  # rows that follow on each other that a thread takes if there are enough
COLUMNS = 64  # that a thread takes at least: less of each line of an array is slow to come by
ROWS = 32  # short rows are taken so many at a time
KEPT = 1 << 16  # elements, from which it pays to ask for room for their terms
MANY = 64  # so many short rows are worth a loop for their length
PARTS = 256  # parts of a long row whose totals are kept at a time

L_CORE_DIMS, L_PHASES, L_PART, L_LONG = (offset(Loop, f) for f in ("core_dims", "phases", "part", "long"))
L_KEEPS = offset(Loop, "keeps")
P_ROWS_JOB, P_PARTS_JOB = offset(Pool, "rows_job"), offset(Pool, "parts_job")
P_EMPTY_TYPE, P_EMPTY_VALUE = offset(Pool, "empty_type"), offset(Pool, "empty_value")
L_SCALARS, L_LONGEST, L_ROWS_OF = offset(Loop, "scalars"), offset(Loop, "longest"), offset(Loop, ROWS_OF[SHORTEST])
P_MALLOC, P_FREE = offset(Pool, "raw_malloc"), offset(Pool, "raw_free")
L_ARENA, L_BESIDE, L_MASK, L_RAISES = (offset(Loop, f) for f in ("arena", "beside", "mask", "raises"))
L_COUNTED, P_REFUSE_LONG = offset(Loop, "counted"), offset(Pool, "refuse_long")
P_GIL_CHECK = offset(Pool, "gil_check")
P_FETCH_ERROR, P_RESTORE_ERROR = offset(Pool, "fetch_error"), offset(Pool, "restore_error")
ERROR = 8 * WORD  # in the context of `rows_chunk`
FIELDS = len(ROW_FIELDS)
OTHERS, PHASE, FIRST, LAST, TOTALS, COMMON, ARENA = (WORD * k for k in range(FIELDS))

totals = stack(SLOT * PARTS)
numbers = stack(LINE * NUMBERS)


def refuse_empty(ufunc: int, sizes: int) -> int:
    """NumPy's hook for the core dimensions of a gufunc, called with the GIL held: an error if a row has no element."""
    if peek(sizes) == 0:
        pool = peek(peek(peek(ufunc + U_DATA)) + L_POOL)
        call_void(peek(pool + P_SET_ERROR), peek(pool + P_EMPTY_TYPE), peek(pool + P_EMPTY_VALUE))
        return -1
    return 0


@jit
def writes(loop: int) -> int:
    """How many outputs are rows, 1 or 0: the last one."""
    phases = peek(loop + L_PHASES)
    return 1 if phases == 0 else phases % 2


@jit
def size_of(loop: int, row: int) -> int:
    """Bytes of an element of one of the rows that are read and written: a mask has one."""
    last = peek(loop + L_INPUTS) - peek(loop + L_SCALARS) - 1
    return 1 if peek(loop + L_MASK) != 0 and row == last else peek(loop + L_ITEMSIZE)


@jit
def lies_beside(dims: int, steps: int, loop: int) -> bool:
    """Whether each lane is to be a row: because rows are short, or lie side by side."""
    if peek(loop + L_PHASES) == 0:
        return False
    rows, nargs = peek(loop + L_INPUTS) - peek(loop + L_SCALARS), peek(loop + L_INPUTS) + peek(loop + L_OUTPUTS)
    along, simple = True, True
    for k in range(rows + writes(loop)):
        size = size_of(loop, k)
        one = peek(steps + WORD * (nargs + k)) == size
        along &= one
        simple &= one or peek(steps + WORD * (k if k < rows else nargs - 1)) == size
    if along or peek(dims + WORD) <= 1:
        return peek(dims + WORD) <= SHORT
    return simple and peek(dims) >= FEW_ROWS


@jit
def body_of(loop: int, beside: bool) -> int:
    """One of the two compiled loops for rows of any length; 0, with a Python error set, if it cannot be made."""
    if beside:
        return peek(loop + L_BESIDE) if peek(loop + L_BESIDE) != 0 else resolved(loop, BESIDE)
    return peek(loop + L_BODY) if peek(loop + L_BODY) != 0 else block(loop, False, 0)


@jit
def body_with(memory: int, body: int, n: int, loop: int) -> int:
    """`body`, or the loop that can do without an arena if there is no memory for one."""
    if memory != 0 or body != peek(loop + L_BESIDE) or n <= SMALL:
        return body
    return body_of(loop, False)


@jit
def body_for(dims: int, steps: int, loop: int) -> int:
    """The compiled loop for these rows; 0, with a Python error set, if it cannot be made or they are too long."""
    if 0 < peek(loop + L_COUNTED) < peek(dims + WORD):
        pool = peek(loop + L_POOL)
        return ask(pool, peek(pool + P_REFUSE_LONG), peek(dims + WORD))
    longest, itemsize = peek(loop + L_LONGEST), peek(loop + L_ITEMSIZE)
    if longest > 0 and SHORTEST <= peek(dims + WORD) <= longest and peek(dims) >= MANY:
        n, inputs = peek(dims + WORD), peek(loop + L_INPUTS)
        nargs, arrays = inputs + peek(loop + L_OUTPUTS), inputs - peek(loop + L_SCALARS)
        dense = peek(steps) == n * itemsize and peek(steps + WORD * nargs) == itemsize
        if writes(loop) != 0:
            dense &= peek(steps + WORD * (nargs - 1)) == n * itemsize
            dense &= peek(steps + WORD * (nargs + arrays)) == itemsize
        if dense:
            function = peek(loop + L_ROWS_OF + WORD * (n - SHORTEST))
            return function if function != 0 else resolved(loop, n - SHORTEST + 1)
    return body_of(loop, lies_beside(dims, steps, loop))


@jit
def _rows_of(args: int, dims: int, steps: int, loop: int, start: int, n: int, local: int, shape: int) -> None:
    """Make `local` and `shape` the operands and the dimensions of rows start..start+n."""
    for k in range(peek(loop + L_INPUTS) + peek(loop + L_OUTPUTS)):
        poke(local + WORD * k, peek(args + WORD * k) + start * peek(steps + WORD * k))
    poke(shape, n)
    for k in range(peek(loop + L_CORE_DIMS)):
        poke(shape + WORD * (k + 1), peek(dims + WORD * (k + 1)))


@jit
def arena_for(n: int, count: int, every: int, beside: bool, loop: int) -> int:
    """Bytes of the arena that pays for rows of `n` elements, `count` of them at a time and `every` in all, or 0."""
    if peek(loop + L_PHASES) == 0:
        pays = beside and n > LONGEST_IN_A_LANE
    elif beside:
        pays = count >= FEW_ROWS and (n > SMALL or every >= SOME)
    else:
        pays = n <= SHORT and every >= SOME
    return peek(loop + L_ARENA) if pays else 0


@jit
def _arena_for(dims: int, steps: int, loop: int) -> int:
    inputs, beside = peek(loop + L_INPUTS), False
    nargs = inputs + peek(loop + L_OUTPUTS)
    for k in range(inputs - peek(loop + L_SCALARS) + writes(loop)):
        beside |= peek(steps + WORD * (nargs + k)) != size_of(loop, k)
    return arena_for(peek(dims + WORD), peek(dims), peek(dims), beside, loop)


@jit
def _arena_for_terms(dims: int, loop: int) -> int:
    """The same for rows that lie along, of which only terms may need an arena."""
    n, every = peek(dims + WORD), peek(dims) * peek(dims + WORD)
    pays = BLOCK < n <= peek(loop + L_KEEPS) and every >= KEPT
    return peek(loop + L_ARENA) if pays else 0


@jit
def arenas(size: int, count: int, pool: int) -> int:
    """Memory for so many of so many bytes, and up to a line before them; 0 if there is none."""
    return call(peek(pool + P_MALLOC), size * count + LINE) if size > 0 else 0


@jit
def free(memory: int, pool: int) -> None:
    if memory != 0:
        call_void(peek(pool + P_FREE), memory)


@jit
def arena_at(memory: int, size: int, which: int) -> int:
    """The beginning of one of them; 0 if there is no memory."""
    return ((memory + LINE - 1) & -LINE) + size * which if memory != 0 else 0


@jit
def usual(piece: int, others: int, arena: int) -> None:
    """The fields for whole rows."""
    for k in range(FIELDS):
        poke(piece + WORD * k, 0)
    poke(piece + OTHERS, others)
    poke(piece + PHASE, -1)
    poke(piece + ARENA, arena)


@jit
def _carry_error(pool: int, context: int) -> None:
    """Keep the Python error that this worker's code has set, if there is one, for the caller: the first of all."""
    held = call_int(peek(pool + P_GIL_ENSURE))
    if call(peek(pool + P_ERROR_OCCURRED)) != 0:
        error = record()
        call_void(peek(pool + P_FETCH_ERROR), error, error + WORD, error + 2 * WORD)
        first = peek(context + ERROR) == 0
        for k in range(3):
            if first:
                poke(context + ERROR + WORD * k, peek(error + WORD * k))
            elif peek(error + WORD * k) != 0:
                call_void(peek(pool + P_DECREF), peek(error + WORD * k))
    call_void(peek(pool + P_GIL_RELEASE), held)


@jit
def _may_share(loop: int, pool: int) -> bool:
    """Whether workers may have a part: not where they look for errors, and this thread holds the lock they need for it.

    NumPy lets go of it for large loops only, and for it rows whose result has no element are nothing.
    """
    return peek(loop + L_RAISES) == 0 or call_int(peek(pool + P_GIL_CHECK)) == 0


@jit
def _raise_carried(pool: int, context: int) -> None:
    if peek(context + ERROR) != 0:
        held, places = call_int(peek(pool + P_GIL_ENSURE)), context + ERROR
        call_void(peek(pool + P_RESTORE_ERROR), peek(places), peek(places + WORD), peek(places + 2 * WORD))
        call_void(peek(pool + P_GIL_RELEASE), held)


def rows_chunk(context: int, chunk: int, me: int) -> None:
    """One chunk of the rows of a gufunc; context: args, dims, steps, loop, rows a chunk, body, arenas, their size.

    Then follows a worker's Python error: type, value and traceback.
    """
    args, dims, steps, loop = peek(context), peek(context + WORD), peek(context + 2 * WORD), peek(context + 3 * WORD)
    size, n = peek(context + 4 * WORD), peek(dims)
    start = chunk * size
    local, shape, piece = operands(), record(), record()
    own = min(size, n - start)
    _rows_of(args, dims, steps, loop, start, own, local, shape)
    usual(piece, n - own, arena_at(peek(context + 6 * WORD), peek(context + 7 * WORD), me))
    call_void(peek(context + 5 * WORD), local, shape, steps, piece if peek(loop + L_ARENA) > 0 else 0)
    if me != 0 and peek(loop + L_RAISES) != 0:
        _carry_error(peek(loop + L_POOL), context)


def parts_chunk(context: int, chunk: int, me: int) -> None:
    """One chunk of the parts of a row; context: args, dims, steps, body, piece, parts a chunk."""
    given, size = peek(context + 4 * WORD), peek(context + 5 * WORD)
    piece = record()
    for k in range(FIELDS):
        poke(piece + WORD * k, peek(given + WORD * k))
    first = peek(given + FIRST) + chunk * size
    poke(piece + FIRST, first)
    poke(piece + LAST, min(first + size, peek(given + LAST)))
    call_void(peek(context + 3 * WORD), peek(context), peek(context + WORD), peek(context + 2 * WORD), piece)


@jit
def _share_row(pool: int, threads: int, args: int, dims: int, steps: int, loop: int, body: int, others: int) -> None:
    """Do one long row with several threads, step by step.

    Each step but those that join is shared; totals of parts are joined in their order, whoever found them.
    """
    context, piece = record(), record()
    phases, part = peek(loop + L_PHASES), peek(loop + L_PART)
    parts = (peek(dims + WORD) + part - 1) // part
    begin = 1 if 0 < peek(loop + L_LONG) < peek(dims + WORD) else 0
    room = totals()
    poke(context, args)
    poke(context + WORD, dims)
    poke(context + 2 * WORD, steps)
    poke(context + 3 * WORD, body)
    poke(context + 4 * WORD, piece)
    usual(piece, others, 0)
    poke(piece + COMMON, numbers())
    for half in range(begin, (phases + 1) // 2):
        phase = 2 * half
        joins = phase + 1 < phases
        at_once = PARTS if joins else parts
        for turn in range((parts + at_once - 1) // at_once):
            first = turn * at_once
            last = min(first + at_once, parts)
            size = max(1, (last - first) // (4 * threads))
            poke(piece + PHASE, phase)
            poke(piece + FIRST, first)
            poke(piece + LAST, last)
            poke(piece + TOTALS, room - SLOT * first)
            poke(context + 5 * WORD, size)
            chunks = (last - first + size - 1) // size
            if call(peek(pool + P_SHARE), pool, threads, peek(pool + P_PARTS_JOB), context, chunks) == 0:
                call_void(body, args, dims, steps, piece)
            if joins:
                poke(piece + PHASE, phase + 1)
                call_void(body, args, dims, steps, piece)


@jit
def _threads_in_rows(args: int, dims: int, steps: int, loop: int, threads: int) -> int:
    """How many threads shall share each row; 1 if whole rows are to be shared out instead."""
    if peek(loop + L_PHASES) == 0:
        return 1
    n, core, nargs = peek(dims), peek(dims + WORD), peek(loop + L_INPUTS) + peek(loop + L_OUTPUTS)
    if core < peek(loop + L_THRESHOLD):
        return 1
    if n > 1 and (n >= 4 * threads or n % threads == 0 or peek(steps + WORD * nargs) != peek(loop + L_ITEMSIZE)):
        return 1
    return min(threads, core // peek(loop + L_PART) // 2)


def rows(args: int, dims: int, steps: int, loop: int) -> None:
    """The inner loop of every gufunc, and of formulas that cannot be traced: a complete loop, run on slices of rows."""
    n = peek(dims)
    before = enter()
    body = body_for(dims, steps, loop)
    if body != 0:
        core, core_dims = 1, peek(loop + L_CORE_DIMS)
        for k in range(core_dims):
            core *= max(peek(dims + WORD * (k + 1)), 1)
        pool = peek(loop + L_POOL)
        arena = 0
        if core_dims == 1 and body == peek(loop + (L_BODY if peek(loop + L_PHASES) == 0 else L_BESIDE)):
            arena = _arena_for(dims, steps, loop)
        elif core_dims == 1 and body == peek(loop + L_BODY):
            arena = _arena_for_terms(dims, loop)
        alone = True
        in_order = core_dims == 0 and must_go_one_by_one(args, steps, n, loop)
        threads = 0 if in_order else begin(n * core, loop, pool)
        if threads > 1 and _may_share(loop, pool):
            together = _threads_in_rows(args, dims, steps, loop, threads)
            if together > 1:
                local, shape = operands(), record()
                body = body_of(loop, False)
                for row in range(n if body != 0 else 0):
                    _rows_of(args, dims, steps, loop, row, 1, local, shape)
                    _share_row(pool, together, local, shape, steps, loop, body, n - 1)
                alone = False
            elif n > 1:
                context = record()
                beside = core_dims == 1 and peek(steps) == peek(loop + L_ITEMSIZE) and core > 1
                # several, for what is asked for in time is the next row
                size = max(ROW_CHUNK // core, COLUMNS if beside else min(n // (8 * threads), NEXT), 1)
                size = min(size, (n + 4 * threads - 1) // (4 * threads))
                if size > ROWS:
                    size -= size % ROWS
                poke(context, args)
                poke(context + WORD, dims)
                poke(context + 2 * WORD, steps)
                poke(context + 3 * WORD, loop)
                poke(context + 4 * WORD, size)
                chunks = (n + size - 1) // size
                memory = arenas(arena, min(threads, chunks), pool)
                body = body_with(memory, body, peek(dims + WORD), loop)
                poke(context + 5 * WORD, body)
                poke(context + 6 * WORD, memory)
                poke(context + 7 * WORD, arena)
                poke(context + ERROR, 0)
                if body != 0:
                    alone = call(peek(pool + P_SHARE), pool, threads, peek(pool + P_ROWS_JOB), context, chunks) == 0
                    _raise_carried(pool, context)
                free(memory, pool)
        if alone and body != 0:
            piece, memory = numba.intp(0), arenas(arena, 1, pool)
            body = body_with(memory, body, peek(dims + WORD), loop)
            if memory != 0:
                piece = record()
                usual(piece, 0, arena_at(memory, arena, 0))
            if body != 0:
                call_void(body, args, dims, steps, piece)
            free(memory, pool)
        end(threads, pool)
    leave(before)
