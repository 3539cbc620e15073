"""The Python in a bundle's configuration, of which a closed list of forms is computed, and nothing is run.

MONAI evaluates whatever follows a ``$``. Here it is parsed (``ast``), and what is not on the list is refused. On the
list are constants, lists, tuples and mappings of them, arithmetic of numbers, texts and lists put together,
comparisons, ``a if b else c``, an item of a list or mapping, types of numbers such as ``torch.float32``, and the few
functions of ``FUNCTIONS``.
"""

import ast
import operator
import posixpath
import re
from collections.abc import Callable, Iterator
from typing import Any

from medseg.errors import printable

LONGEST_EXPRESSION = 2000  # characters
LONGEST_VALUE = 10_000  # characters of a text, or items of a list, that an expression puts together
LARGEST_NUMBER = 10**30

# As MONAI matches them, with its older separator "#" written as "::".
REFERENCE = re.compile(r"@(?:\w*)(?:::\w*)*")
MENTION = "reference_{}_of_the_bundle"  # in its place in a tree of Python
MENTIONED = re.compile(MENTION.format(r"\d+"))

OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.UAdd: operator.pos, ast.USub: operator.neg,
    ast.Not: operator.not_, ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Is: operator.is_, ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b,
}  # fmt: skip
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "len": len, "int": int, "float": float, "str": str, "bool": bool, "list": list, "tuple": tuple,
    "min": min, "max": max, "abs": abs, "round": round, "os.path.join": posixpath.join,
}  # fmt: skip
CONSTANTS = {f"monai.utils.CommonKeys.{key}": key.lower() for key in ("IMAGE", "LABEL", "PRED", "LOSS", "METADATA")}
TYPES_OF = ("torch", "numpy", "np")
TYPE_OF_NUMBERS = re.compile(r"u?int\d*|float\d*|bfloat16|half|double|long|short|bool_?")
# Methods of a network that change where or how it runs, not what it is.
PLACING = ("to", "eval", "cuda", "cpu", "float")


def evaluated(expression: str, value_of: Callable[[str], Any]) -> Any:
    """Returns the value of an expression.

    Args:
        expression: Python, without the ``$``; references in it begin with ``@``.
        value_of: Gives the value of what a reference names, without the ``@``.

    Raises:
        ValueError: The expression has a form that is not on the list, or no value.
    """
    if len(expression) > LONGEST_EXPRESSION:
        raise ValueError(f"an expression of {len(expression):,} characters")
    text, names = without_references(expression)
    try:
        return _value(parsed(text), lambda name: value_of(names[name]) if name in names else _refuse(name))
    except (ArithmeticError, TypeError, LookupError, RecursionError) as error:
        raise ValueError(f"has no value ({printable(str(error))})") from error
    except ValueError as error:
        raise ValueError(MENTIONED.sub(lambda match: f"@{names.get(match.group(), '')}", str(error))) from error


def without_references(expression: str) -> tuple[str, dict[str, str]]:
    """Returns an expression with a Python name in place of each reference, and what each name refers to."""
    names: dict[str, str] = {}

    def named(match: re.Match[str]) -> str:
        name = MENTION.format(len(names))
        names[name] = match.group()[1:]
        return name

    return REFERENCE.sub(named, expression.replace("#", "::")), names


def parsed(expression: str) -> ast.expr:
    """Returns the tree of a Python expression.

    Raises:
        ValueError: It is none.
    """
    try:
        return ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError("is no Python expression") from error


def _refuse(form: str) -> Any:
    raise ValueError(f"holds '{printable(form)}', and medseg runs no code of a bundle")


def _value(node: ast.expr, value_of: Callable[[str], Any]) -> Any:
    """Returns the value of a tree; ``value_of`` gives that of a name."""

    def value(part: ast.expr) -> Any:
        return _value(part, value_of)

    match node:
        case ast.Constant(value=str() | int() | float() | None as constant):
            return _bounded(constant)
        case ast.Name(id=name) if name not in FUNCTIONS:
            return value_of(name)
        case ast.List(elts=parts):
            return [value(part) for part in parts]
        case ast.Tuple(elts=parts):
            return tuple(value(part) for part in parts)
        case ast.Dict(keys=keys, values=parts) if None not in keys:
            return {value(key): value(part) for key, part in zip(keys, parts, strict=True) if key is not None}
        case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
            return OPERATORS[type(op)](value(operand))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return _computed(op, value(left), value(right))
        case ast.BoolOp(op=op, values=parts):
            return _first(map(value, parts), isinstance(op, ast.Or))
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return OPERATORS[type(op)](value(left), value(right))
        case ast.IfExp(test=test, body=body, orelse=other):
            return value(body) if value(test) else value(other)
        case ast.Subscript(value=whole, slice=ast.Constant() | ast.UnaryOp() | ast.Name() as index):
            return value(whole)[value(index)]
        case ast.Attribute():
            return _constant(ast.unparse(node))
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method)) if method in PLACING:
            return value_of(name)
        case ast.Call(func=function, args=parts, keywords=[]) if ast.unparse(function) in FUNCTIONS:
            return _bounded(FUNCTIONS[ast.unparse(function)](*map(value, parts)))
    return _refuse(ast.unparse(node))


def _first(values: Iterator[Any], truth: bool) -> Any:
    """Returns the first value of this truth, or the last one: what ``or`` (True) and ``and`` (False) give."""
    value = None
    for value in values:
        if bool(value) == truth:
            break
    return value


def _computed(op: ast.operator, left: Any, right: Any) -> Any:
    """Returns what an operator makes of two numbers; of two texts or lists, and of a list and a number, what Python
    makes of them too."""
    numbers = [isinstance(each, int | float) for each in (left, right)]
    together = isinstance(op, ast.Add) and type(left) is type(right) and isinstance(left, str | list | tuple)
    repeated = isinstance(op, ast.Mult) and isinstance(left, list | tuple) and isinstance(right, int)
    if repeated and len(left) * right > LONGEST_VALUE:
        raise ValueError(f"makes a list of {len(left) * right:,} items")
    if not all(numbers) and not together and not repeated:
        raise ValueError(f"computes with {type(left).__name__} and {type(right).__name__}")
    return _bounded(OPERATORS[type(op)](left, right))


def _bounded(value: Any) -> Any:
    """Returns a value that is no larger than any that a configuration needs.

    Raises:
        ValueError: It is larger.
    """
    if isinstance(value, str | list | tuple) and len(value) > LONGEST_VALUE:
        raise ValueError(f"makes {len(value):,} items or characters")
    if isinstance(value, int | float) and not -LARGEST_NUMBER < value < LARGEST_NUMBER:
        raise ValueError("makes a huge number")
    return value


def _constant(name: str) -> str:
    """Returns the text that stands for a constant of a library: ``torch.float32`` is "float32"."""
    if name in CONSTANTS:
        return CONSTANTS[name]
    library, _, kind = name.rpartition(".")
    if library in TYPES_OF and TYPE_OF_NUMBERS.fullmatch(kind):
        return kind
    refused: str = _refuse(name)
    return refused
