"""Reads the arrays of a pickle file without unpickling it.

Unpickling runs what the file says. This reader interprets the pickle's instructions itself, as
`pickletools` lists them, and never imports or calls anything by a name in the file: the few
constructors that arrays are stored with (NumPy, SciPy's sparse matrices, chumpy) are entries of a
table here, everything else is refused by name.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import scipy.sparse as sp

from facerecon.messages import OneLine, cause_of


class PickledError(OneLine, ValueError):
    """A pickle that is damaged, or that holds more than arrays."""


@dataclass(frozen=True)
class _Name:
    """A module's attribute that the file names; never looked up."""

    module: str
    name: str


@dataclass
class _Made:
    """The result of a constructor, whose state may follow later."""

    constructor: str
    arguments: tuple = ()
    state: Any = field(default=None)


# What may be named, and which constructor it means. NumPy 2 and SciPy 1.8 moved some.
_NAMES = {
    ("numpy", "ndarray"): "class",
    ("numpy", "dtype"): "dtype",
    ("__builtin__", "object"): "class",
    ("builtins", "object"): "class",
    ("_codecs", "encode"): "encode",
    ("__builtin__", "bytes"): "no bytes",
    ("copy_reg", "_reconstructor"): "instance",
    ("copyreg", "_reconstructor"): "instance",
    ("chumpy.ch", "Ch"): "chumpy",
    **{(f"numpy.{core}.multiarray", "_reconstruct"): "array" for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): "scalar" for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): "buffer" for core in ("core", "_core")},
    **{
        (f"scipy.sparse.{prefix}{kind}", f"{kind}_matrix"): kind
        for prefix in ("", "_")
        for kind in ("csc", "csr")
    },
}
_MARK = object()
_CONSTANTS = {
    "NONE": None, "NEWTRUE": True, "NEWFALSE": False,
    "EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple,
}  # fmt: skip
_VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def read_pickled(path: Path) -> dict[str, Any]:
    """The top dictionary of a pickle, with arrays (sparse ones as they are) and plain values.

    Raises:
        PickledError: truncated, not a pickle, or something in it is no plain data.
    """
    with open(path, "rb") as stream:
        try:
            top = _resolve(_interpret(stream), {})
        except PickledError:
            raise
        except Exception as error:  # whatever NumPy, SciPy and pickletools make of such bytes
            cause = cause_of(error)
            raise PickledError(f"damaged or truncated ({cause})") from error
    if not isinstance(top, dict):
        raise PickledError("no dictionary")
    return {str(key): value for key, value in top.items()}


def _interpret(stream: BinaryIO) -> Any:
    """Run the instructions on a stack of plain values, `_Name`s and `_Made`s."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        at = len(stack) - 1 - next(i for i, x in enumerate(reversed(stack)) if x is _MARK)
        items = stack[at + 1 :]
        del stack[at:]
        return items

    for opcode, value, _ in pickletools.genops(stream):
        name = opcode.name
        if name == "STOP":
            return stack.pop()
        if name in ("PROTO", "FRAME"):
            continue
        if name == "MARK":
            stack.append(_MARK)
        elif name in _CONSTANTS:
            constant = _CONSTANTS[name]
            stack.append(constant() if isinstance(constant, type) else constant)
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            if name == "GLOBAL":
                module, attribute = value.split(" ", 1)
            else:
                attribute, module = stack.pop(), stack.pop()
            if (module, attribute) not in _NAMES:
                raise PickledError(f"it names {f'{module}.{attribute}'[:80]}, which is no array")
            stack.append(_Name(module, attribute))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, made = stack.pop(), stack.pop()
            stack.append(_make(made, arguments))
        elif name == "BUILD":
            state = stack.pop()
            if not isinstance(stack[-1], _Made):
                raise PickledError("a state for something that has none")
            stack[-1].state = state
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[value] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[value])
        elif name == "POP":
            stack.pop()
        elif name == "TUPLE":
            stack.append(tuple(since_mark()))
        elif name in _TUPLES:
            count = _TUPLES[name]
            stack[-count:] = [tuple(stack[-count:])]
        elif name == "LIST":
            stack.append(since_mark())
        elif name == "DICT":
            items = since_mark()
            stack.append(dict(zip(items[::2], items[1::2], strict=True)))
        elif name in ("APPEND", "APPENDS"):
            items = since_mark() if name == "APPENDS" else [stack.pop()]
            _expect(stack[-1], list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = since_mark() if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
            _expect(stack[-1], dict).update(zip(items[::2], items[1::2], strict=True))
        elif name in _VALUES:  # numbers, texts and bytes
            stack.append(value)
        else:
            raise PickledError(f"the instruction {name}, which no array needs")
    raise PickledError("damaged or truncated (no end)")


def _expect(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise PickledError(f"{type(value).__name__} where a {kind.__name__} belongs")
    return value


def _make(name: Any, arguments: Any) -> _Made:
    constructor = _NAMES.get((name.module, name.name)) if isinstance(name, _Name) else None
    if constructor in (None, "class") or type(arguments) is not tuple:
        raise PickledError("a call of something that is no constructor")
    if constructor == "instance":  # copyreg's way to make an object of a class: the first argument
        return _make(arguments[0], ())
    return _Made(constructor, arguments)


def _resolve(value: Any, done: dict[int, Any]) -> Any:
    """Replace what constructors made by arrays, depth first, everything once."""
    if id(value) not in done:
        if isinstance(value, _Made):
            arguments = tuple(_resolve(part, done) for part in value.arguments)
            state = _resolve(value.state, done)
            done[id(value)] = _CONSTRUCTORS[value.constructor](arguments, state)
        elif isinstance(value, _Name):
            return value
        elif isinstance(value, dict):
            done[id(value)] = {
                _resolve(key, done): _resolve(item, done) for key, item in value.items()
            }
        elif isinstance(value, list | tuple):
            done[id(value)] = type(value)(_resolve(item, done) for item in value)
        else:
            return value
    return done[id(value)]


def _bytes(data: Any) -> bytes:
    """Python 2 wrote bytes as texts; pickletools reads those as Latin-1."""
    return data.encode("latin1") if isinstance(data, str) else bytes(data)


def _dtype(arguments: tuple, state: Any) -> np.dtype:
    kind = np.dtype(str(arguments[0]))
    if kind.hasobject or kind.fields or (state and state[3]):
        raise PickledError(f"an array of type {arguments[0]}, which is no number")
    order = state[1] if state else "="
    return kind.newbyteorder(order if order in "<>" else "=")


def _array(_: tuple, state: Any) -> np.ndarray:
    _, shape, dtype, fortran, data = state
    values = np.frombuffer(_bytes(data), dtype)
    return values.reshape(shape, order="F" if fortran else "C")


def _buffer(arguments: tuple, _: Any) -> np.ndarray:
    data, dtype, shape, order = arguments
    return np.frombuffer(_bytes(data), dtype).reshape(shape, order=order)


def _scalar(arguments: tuple, _: Any) -> Any:
    return np.frombuffer(_bytes(arguments[1]), arguments[0])[0]


def _sparse(make: Callable, axis: int) -> Callable:
    """A reader of a compressed sparse matrix whose pointers run along this axis.

    SciPy's compiled loops trust the indices, also those that its own check lets pass.
    """

    def build(_: tuple, state: Any) -> Any:
        shape = tuple(map(int, state.get("_shape", state.get("shape"))))
        data, indices, pointers = (np.asarray(state[k]) for k in ("data", "indices", "indptr"))
        if not (data.ndim == indices.ndim == pointers.ndim == 1 and len(shape) == 2):
            raise PickledError("a sparse matrix whose arrays have the wrong shape")
        if indices.dtype.kind not in "iu" or pointers.dtype.kind not in "iu":
            raise PickledError("a sparse matrix whose indices are no integers")
        pointers, indices = pointers.astype(np.int64), indices.astype(np.int64)
        ends = (0, len(indices)) == (pointers[0], pointers[-1]) if len(pointers) else False
        inside = not indices.size or (indices.min() >= 0 and indices.max() < shape[1 - axis])
        sorts = len(pointers) == shape[axis] + 1 and (np.diff(pointers) >= 0).all()
        if not (ends and inside and sorts and len(data) == len(indices)):
            raise PickledError("a sparse matrix whose indices are out of range")
        return make((data, indices, pointers), shape=shape)

    return build


_CONSTRUCTORS = {
    "array": _array,
    "dtype": _dtype,
    "buffer": _buffer,
    "scalar": _scalar,
    "no bytes": lambda _, __: b"",
    "encode": lambda arguments, _: _bytes(arguments[0]),
    "csc": _sparse(sp.csc_array, axis=1),
    "csr": _sparse(sp.csr_array, axis=0),
    # A chumpy array whose value is stored, not computed from others.
    "chumpy": lambda _, state: state["x"],
}
