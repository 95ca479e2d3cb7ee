"""The moves of a job as `Ledger` writes them, read from its source: from which stages, to which stage, with which step.

A move is a method that calls `_move`, `_try_move` or `_move_without_lease`. What is written there is followed through
the module's constants, local variables and the methods that it unpacks. What the code computes is COMPUTED.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from tasks.model.route import Stage, Step

COMPUTED = "…"
CALLS = ("_move", "_try_move", "_move_without_lease")
_KINDS = {"Stage": Stage, "Step": Step}


@dataclass(frozen=True)
class Move:
    """`stage` and `step` are empty where the move leaves them as they are."""

    name: str
    allowed: frozenset[str]
    stage: frozenset[str]
    step: frozenset[str]


def moves(source: str) -> dict[str, Move]:
    module = ast.parse(source)
    ledger = next(node for node in module.body if isinstance(node, ast.ClassDef) and node.name == "Ledger")
    methods = {node.name: node for node in ledger.body if isinstance(node, ast.FunctionDef)}
    constants = _assigned(module.body)
    found = {}
    for name, method in methods.items():
        calls = [call for call in _calls(method) if name not in CALLS]
        if calls:
            found[name] = _move(name, calls, _Names(constants | _assigned(list(ast.walk(method))), methods))
    return found


@dataclass(frozen=True)
class _Names:
    values: dict[str, list[ast.expr]]
    methods: dict[str, ast.FunctionDef]

    def words(self, node: ast.expr) -> set[str]:
        """The stages or steps that an expression may stand for."""
        match node:
            case ast.Attribute(value=ast.Name(id=kind), attr=member) if kind in _KINDS:
                return {str(_KINDS[kind][member]) or "none"}
            case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.BoolOp(values=parts):
                return set().union(*map(self.words, parts))
            case ast.Starred(value=inner):
                return self.words(inner)
            case ast.IfExp(body=one, orelse=other):
                return self.words(one) | self.words(other)
            case ast.Name(id=name) if name in self.values:
                return set().union(*map(self.words, self.values[name]))
        return {COMPUTED}

    def items(self, node: ast.expr) -> Iterator[tuple[str, ast.expr]]:
        """The keys and values that `**node` may bring."""
        match node:
            case ast.Dict(keys=keys, values=values):
                for key, value in zip(keys, values, strict=True):
                    if key is None:
                        yield from self.items(value)
                    elif isinstance(key, ast.Constant):
                        yield str(key.value), value
            case ast.Name(id=name):
                for value in self.values.get(name, []):
                    yield from self.items(value)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="self"), attr=method)) if method in self.methods:
                for inner in ast.walk(self.methods[method]):
                    if isinstance(inner, ast.Return) and inner.value:
                        yield from self.items(inner.value)


def _move(name: str, calls: list[ast.Call], names: _Names) -> Move:
    words: dict[str, set[str]] = {"stages": set(), "stage": set(), "step": set()}
    for call in calls:
        given = [("stages", call.args[1])] if len(call.args) > 1 else []
        for keyword in call.keywords:
            given += [(keyword.arg, keyword.value)] if keyword.arg else list(names.items(keyword.value))
        for key, value in given:
            if key in words:
                words[key] |= names.words(value)
    return Move(name, *(frozenset(words[key]) for key in ("stages", "stage", "step")))


def _calls(method: ast.FunctionDef) -> list[ast.Call]:
    calls = (node for node in ast.walk(method) if isinstance(node, ast.Call))
    return [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr in CALLS]


def _assigned(nodes: list[ast.stmt] | list[ast.AST]) -> dict[str, list[ast.expr]]:
    """Every value that is given to a name, by `=`, by `|=` or under one of its keys."""
    found: dict[str, list[ast.expr]] = {}
    for node in nodes:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                found.setdefault(name, []).append(value)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                found.setdefault(name, []).append(value)
            case ast.AugAssign(target=ast.Name(id=name), value=value):
                found.setdefault(name, []).append(value)
            case ast.Assign(targets=[ast.Subscript(value=ast.Name(id=name), slice=ast.Constant() as key)], value=value):
                found.setdefault(name, []).append(ast.Dict(keys=[key], values=[value]))
    return found
