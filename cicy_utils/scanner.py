"""The compiled state machine that reads the published text; :mod:`cicy_utils.published` feeds it.

It takes a buffer of bytes and scans whole entries
``{number, rows, columns, {{degrees}, ...}, chi, product, h11, h21, h31, h22, ...}`` into arrays.
Nothing is evaluated. An error in the structure (brackets, commas, bytes) ends the scan; wrong
content is noted with its entry, and the scan goes on. Accesses to arrays are checked against their
bounds.
"""

from __future__ import annotations

import numpy as np

from cicy_utils.compilation import njit
from cicy_utils.data import SHAPE
from cicy_utils.validation import (
    DECLARED,
    DEGREE,
    FEW_FIELDS,
    LABEL,
    LARGEST_LABEL,
    MARK,
    NO_EULER,
    NO_MATRIX,
    RAGGED,
    SOUND,
    TOO_LARGE,
    ZERO_COLUMN,
    ZERO_ROW,
)

MAX_ENTRY_BYTES = 1 << 16  # the longest entry of the published list has about 1,000
_ROWS, _COLUMNS = SHAPE

# Why the scanner returned.
MORE, FULL, WRONG = range(3)
# What it waits for.
LIST, _FIRST, _ENTRY, _AFTER, NOTHING = range(5)
# What is wrong, in words for the reader of a message.
_BAD_START, _BAD_NEXT, _BAD_AFTER, _BAD_END, _BAD_BYTE, _EMPTY, _BRACKET, _DEEP, _LONG, _COMMA = (
    range(1, 11)
)
PROBLEMS = {
    _BAD_START: "the list does not begin with '{'",
    _BAD_NEXT: "an entry does not begin with '{'",
    _BAD_AFTER: "neither ',' nor '}' follows an entry",
    _BAD_END: "something follows the end of the list",
    _BAD_BYTE: "a byte is no printable ASCII character",
    _EMPTY: "a field is empty",
    _BRACKET: "a bracket does not match",
    _DEEP: "brackets are nested too deeply",
    _LONG: f"an entry is longer than {MAX_ENTRY_BYTES:,} bytes",
    _COMMA: "neither ',' nor '}' follows a row of the matrix, or the matrix",
}
# Kinds of values.
_INTEGER, _HUGE, _TRUE, _FALSE, _NULL, _OTHER = range(6)
_INCOMPLETE = 0  # the buffer ends before the value or entry does; problems are above

_OPEN, _CLOSE, _SEPARATOR = ord("{"), ord("}"), ord(",")
_QUOTE, _BACKSLASH, _MINUS, _PLUS = ord('"'), ord("\\"), ord("-"), ord("+")
_DEEPEST = 30

_compiled = njit(cache=True, nogil=True, boundscheck=True)


@_compiled
def _is_space(byte):
    return byte == 32 or 9 <= byte <= 13


@_compiled
def _skip_space(buffer, position, size):
    while position < size and _is_space(buffer[position]):
        position += 1
    return position


@_compiled
def _newlines(buffer, start, stop):
    count = 0
    for position in range(start, stop):
        count += buffer[position] == 10
    return count


@_compiled
def _spells(buffer, start, stop, word):
    if stop - start != len(word):
        return False
    return (buffer[start:stop] == word).all()


_WORDS = tuple(np.frombuffer(word, np.uint8) for word in (b"True", b"False", b"Null"))
_TRUE_WORD, _FALSE_WORD, _NULL_WORD = _WORDS


@_compiled
def _value(buffer, position, size):
    """(next position, kind, integer) of the expression at a position that is no white space.

    The next position is that of ',' or '}'. If it is negative, the expression is incomplete or
    wrong: -1 - the next position is where, the kind what.
    """
    start = position
    negative = buffer[position] == _MINUS
    if negative or buffer[position] == _PLUS:
        position += 1
    first = position
    number = 0
    while position < size and 48 <= buffer[position] <= 57:
        if position - first < 18:
            number = 10 * number + (buffer[position] - 48)
        position += 1
    digits = position - first
    if position < size and digits:
        stop = _skip_space(buffer, position, size)
        if stop < size and (buffer[stop] == _SEPARATOR or buffer[stop] == _CLOSE):
            while first < position - 1 and buffer[first] == 48:
                first += 1
                digits -= 1
            if digits > 18:
                return stop, _HUGE, 0
            if position - start > 18:  # leading zeros: the digits counted above were not all
                number = 0
                for place in range(first, position):
                    number = 10 * number + (buffer[place] - 48)
            return stop, _INTEGER, -number if negative else number

    # Anything else: up to the next ',' or '}' outside its own brackets and strings.
    position = start
    brackets = 0  # two bits for each open bracket
    depth = 0
    last = start  # after the last byte that is no white space
    while position < size:
        byte = buffer[position]
        if byte == _QUOTE:
            position += 1
            while position < size and buffer[position] != _QUOTE:
                if buffer[position] == _BACKSLASH:
                    position += 1
                position += 1
            if position >= size:
                return -1 - size, _INCOMPLETE, 0
        elif byte == _OPEN or byte == 91 or byte == 40:
            if depth == _DEEPEST:
                return -1 - position, _DEEP, 0
            kind = 1 if byte == _OPEN else 2 if byte == 91 else 3
            brackets = (brackets << 2) | kind
            depth += 1
        elif byte == _CLOSE or byte == 93 or byte == 41:
            if depth == 0:
                if byte == _CLOSE:
                    break
                return -1 - position, _BRACKET, 0
            kind = 1 if byte == _CLOSE else 2 if byte == 93 else 3
            if brackets & 3 != kind:
                return -1 - position, _BRACKET, 0
            brackets >>= 2
            depth -= 1
        elif byte == _SEPARATOR:
            if depth == 0:
                break
        elif not (_is_space(byte) or 33 <= byte <= 126):
            return -1 - position, _BAD_BYTE, 0
        position += 1
        if not _is_space(byte):
            last = position
    if position >= size:
        return -1 - size, _INCOMPLETE, 0
    if last == start:
        return -1 - position, _EMPTY, 0
    if _spells(buffer, start, last, _FALSE_WORD):
        return position, _FALSE, 0
    if _spells(buffer, start, last, _TRUE_WORD):
        return position, _TRUE, 0
    if _spells(buffer, start, last, _NULL_WORD):
        return position, _NULL, 0
    return position, _OTHER, 0


@_compiled
def _matrix(buffer, position, size, matrix, fault):
    """(next position, problem, rows, columns) of the matrix whose '{' is at a position.

    Degrees go to ``matrix``, the first thing wrong with them to ``fault``. A negative next position
    is as in :func:`_value`.
    """
    rows, columns = 0, 0
    matrix[:] = 0
    position = _skip_space(buffer, position + 1, size)
    if position < size and buffer[position] == _CLOSE:
        _blame(fault, NO_MATRIX, 0, 0, 0)
        return position + 1, 0, 0, 0
    while True:
        position = _skip_space(buffer, position, size)
        if position == size:
            return -1 - size, _INCOMPLETE, 0, 0
        length = 0
        if buffer[position] != _OPEN:
            _blame(fault, NO_MATRIX, rows, 0, 0)
            position, kind, _ = _value(buffer, position, size)
            if position < 0:
                return position, kind, 0, 0
        else:
            position = _skip_space(buffer, position + 1, size)
            if position < size and buffer[position] == _CLOSE:
                _blame(fault, NO_MATRIX, rows, 0, 0)
                position += 1
            else:
                while True:
                    position = _skip_space(buffer, position, size)
                    if position == size:
                        return -1 - size, _INCOMPLETE, 0, 0
                    position, kind, number = _value(buffer, position, size)
                    if position < 0:
                        return position, kind, 0, 0
                    if kind != _INTEGER or not 0 <= number <= 255:
                        _blame(fault, DEGREE, rows, length, 0)
                    elif rows < _ROWS and length < _COLUMNS:
                        matrix[rows, length] = number
                    else:
                        _blame(fault, TOO_LARGE, rows, length, 0)
                    length += 1
                    position += 1
                    if buffer[position - 1] == _CLOSE:
                        break
        if rows == 0:
            columns = length
        elif length != columns:
            _blame(fault, RAGGED, rows, 0, length)
        rows += 1
        position = _skip_space(buffer, position, size)
        if position == size:
            return -1 - size, _INCOMPLETE, 0, 0
        if buffer[position] == _CLOSE:
            return position + 1, 0, rows, columns
        if buffer[position] != _SEPARATOR:
            return -1 - position, _COMMA, 0, 0
        position += 1


@_compiled
def _blame(fault, code, row, column, value):
    """Note a fault, unless the entry has one already."""
    if fault[0] == SOUND:
        fault[0], fault[1], fault[2], fault[3] = code, row, column, value


@_compiled
def _entry(buffer, position, size, matrix, hodge, fault):
    """(next position, problem, is product, field 4) of the entry whose '{' is at a position."""
    position += 1
    fault[:] = 0
    hodge[:] = -1
    product = False
    euler = NO_EULER
    declared_rows, declared_columns = -1, -1
    rows, columns = 0, 0
    field = 0
    while True:
        position = _skip_space(buffer, position, size)
        if position == size:
            return -1 - size, _INCOMPLETE, False, 0
        if field == 3 and buffer[position] == _OPEN:
            position, problem, rows, columns = _matrix(buffer, position, size, matrix, fault)
            if position < 0:
                return position, problem, False, 0
        else:
            position, kind, number = _value(buffer, position, size)
            if position < 0:
                return position, kind, False, 0
            if field == 1 and kind == _INTEGER:
                declared_rows = number
            elif field == 2 and kind == _INTEGER:
                declared_columns = number
            elif field == 3:
                matrix[:] = 0
                _blame(fault, NO_MATRIX, 0, 0, 0)
            elif field == 4 and kind == _INTEGER:
                euler = number
            elif field == 5:
                product = kind == _TRUE
                if kind != _TRUE and kind != _FALSE and kind != _NULL:
                    _blame(fault, MARK, 0, 0, 0)
            elif 6 <= field <= 9 and not product:
                if kind == _INTEGER and 0 <= number <= LARGEST_LABEL:
                    hodge[field - 6] = number
                else:
                    _blame(fault, LABEL, field - 6, 0, 0)
        position = _skip_space(buffer, position, size)
        if position == size:
            return -1 - size, _INCOMPLETE, False, 0
        position += 1
        if buffer[position - 1] == _CLOSE:
            break
        if buffer[position - 1] != _SEPARATOR:
            return -position, _COMMA, False, 0
        field += 1
    if field < 9:
        if field < 3:
            matrix[:] = 0
        _blame(fault, FEW_FIELDS, 0, 0, field + 1)
    if fault[0] == SOUND:
        _check_size(matrix, rows, columns, declared_rows, declared_columns, fault)
    return position, 0, product, euler


@_compiled
def _check_size(matrix, rows, columns, declared_rows, declared_columns, fault):
    if declared_rows != rows:
        _blame(fault, DECLARED, 1, 0, rows)
    if declared_columns != columns:
        _blame(fault, DECLARED, 2, 0, columns)
    for r in range(rows):
        if not matrix[r].any():
            _blame(fault, ZERO_ROW, r, 0, 0)
    for a in range(columns):
        if not matrix[:, a].any():
            _blame(fault, ZERO_COLUMN, 0, a, 0)


@_compiled
def scan(buffer, size, state, matrices, hodge, product, faults, euler, lines):
    """Scan whole entries of the buffer into the arrays.

    ``state`` holds, and is given back with: the position in the buffer, what is waited for, the
    line of the position, the number of entries in the arrays, and a problem. White space and whole
    entries are consumed; an entry that the buffer cuts off stays.
    """
    position, expected, line, count = state[0], state[1], state[2], state[3]
    result = MORE
    while True:
        start = position
        position = _skip_space(buffer, position, size)
        line += _newlines(buffer, start, position)
        if position == size:
            break
        byte = buffer[position]
        problem = 0
        if expected == LIST:
            if byte == _OPEN:
                expected = _FIRST
                position += 1
                continue
            problem = _BAD_START
        elif expected == _AFTER:
            if byte in (_SEPARATOR, _CLOSE):
                expected = _ENTRY if byte == _SEPARATOR else NOTHING
                position += 1
                continue
            problem = _BAD_AFTER
        elif expected == NOTHING:
            problem = _BAD_END
        elif expected == _FIRST and byte == _CLOSE:
            expected = NOTHING
            position += 1
            continue
        elif byte != _OPEN:
            problem = _BAD_NEXT
        if problem:
            state[4] = problem
            result = WRONG
            break
        if count == len(matrices):
            result = FULL
            break
        after, problem, is_product, field = _entry(
            buffer, position, size, matrices[count], hodge[count], faults[count]
        )
        if after < 0:
            if problem == _INCOMPLETE and size - position <= MAX_ENTRY_BYTES:
                break
            where = -1 - after
        if after - position > MAX_ENTRY_BYTES or (after < 0 and problem == _INCOMPLETE):
            problem, where = _LONG, position
        if problem:
            state[4] = problem
            line += _newlines(buffer, position, where)
            position = where
            result = WRONG
            break
        product[count], euler[count], lines[count] = is_product, field, line
        line += _newlines(buffer, position, after)
        position = after
        count += 1
        expected = _AFTER
    state[0], state[1], state[2], state[3] = position, expected, line, count
    return result
