"""Mutation testing of the decision tables: changes one thing at a time and runs their tests.

A mutant that no test notices is printed with its line; exit 1 if fewer than 95 % are noticed. Own and small because the
code under test is pure: each mutant is compiled in memory over the module that the tests import, in a forked child, so
that no file is ever changed and no mutant costs an interpreter's start.
"""

import argparse
import ast
import copy
import importlib
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # a script sees its own directory first, where no package of ours is
TESTS = {
    "dispatcher.decisions.outcome": (
        "tests/unit/test_outcome.py",
        "tests/unit/test_outcome_fingerprint.py",
        "tests/world/test_answers.py",
    ),
    "dispatcher.decisions.states": ("tests/unit/test_states.py", "tests/unit/test_guarantees_page.py"),
    "dispatcher.decisions.policy": ("tests/unit/test_policy.py", "tests/unit/test_backoff.py"),
    "dispatcher.decisions.absence": ("tests/unit/test_absence.py",),
    "dispatcher.decisions.listing": ("tests/unit/test_listing.py",),
    "dispatcher.decisions.gate": ("tests/unit/test_gate.py",),
    "dispatcher.decisions.window": ("tests/unit/test_window.py", "tests/unit/test_window_proof.py"),
    "dispatcher.decisions.likeness": ("tests/unit/test_likeness.py",),
}
WANTED = 0.95
SECONDS_PER_MUTANT = 300


@dataclass(frozen=True)
class Mutant:
    """One change of one module."""

    module: str
    line: int
    what: str
    tree: ast.Module


COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}


def changes(node: ast.AST) -> Iterator[tuple[str, Callable[[ast.AST], None]]]:
    """What may be changed in this node, each as a deed on a copy of it."""
    match node:
        case ast.Compare(ops=[first, *_]) if type(first) in COMPARISONS:
            other = COMPARISONS[type(first)]
            yield f"{type(first).__name__} -> {other.__name__}", lambda one: one.ops.__setitem__(0, other())  # type: ignore[attr-defined]
        case ast.BoolOp(op=op):
            other_op = ast.Or() if isinstance(op, ast.And) else ast.And()
            yield "and <-> or", lambda one: setattr(one, "op", other_op)
        case ast.UnaryOp(op=ast.Not()):
            yield "not dropped", lambda one: setattr(one, "op", ast.UAdd())
        case ast.Constant(value=bool() as value):
            yield f"{value} -> {not value}", lambda one: setattr(one, "value", not value)
        case ast.Constant(value=int() | float() as number):
            yield f"{number} -> {number + 1}", lambda one: setattr(one, "value", number + 1)
        case ast.BinOp(op=ast.Add()):
            yield "+ -> -", lambda one: setattr(one, "op", ast.Sub())
        case ast.BinOp(op=ast.Mult()):
            yield "* -> /", lambda one: setattr(one, "op", ast.Div())
        case ast.Attribute(value=ast.Name(id="Kind" | "Reason" | "Scope" | "State" | "FailureClass" | "Step" as enum)):
            members = MEMBERS[enum]
            other_name = members[(members.index(node.attr) + 1) % len(members)]
            yield f"{enum}.{node.attr} -> {other_name}", lambda one: setattr(one, "attr", other_name)
        case ast.match_case(guard=ast.expr()):
            yield "guard dropped", lambda one: setattr(one, "guard", None)
        case _:
            return


MEMBERS: dict[str, list[str]] = {}


def mutants_of(module: str) -> list[Mutant]:
    """Every single change of a module, docstrings and annotations apart."""
    tree = ast.parse(_source(module))
    skipped = {id(part) for node in ast.walk(tree) for part in _not_code(node)}
    made = []
    for place, node in enumerate(ast.walk(tree)):
        if id(node) in skipped:
            continue
        for what, change in changes(node):
            changed = copy.deepcopy(tree)
            change(next(one for at, one in enumerate(ast.walk(changed)) if at == place))
            ast.fix_missing_locations(changed)
            line = getattr(node, "lineno", 0) or getattr(getattr(node, "pattern", None), "lineno", 0)
            made.append(Mutant(module, line, what, changed))
    return made


def _source(module: str) -> str:
    return (ROOT / module.replace(".", "/")).with_suffix(".py").read_text()


def _not_code(node: ast.AST) -> Iterator[ast.AST]:
    """Slots, frozen and other arguments of decorators change no decision; annotations neither."""
    match node:
        case ast.ClassDef() | ast.FunctionDef():
            for decorator in node.decorator_list:
                yield from ast.walk(decorator)
            if isinstance(node, ast.FunctionDef) and node.returns is not None:
                yield from ast.walk(node.returns)
        case ast.AnnAssign() | ast.arg() if node.annotation is not None:
            yield from ast.walk(node.annotation)


def survives(mutant: Mutant) -> bool:
    """Run the tests of the module with the mutant in its place, in a child; whether they all pass."""
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS_PER_MUTANT)  # an endless loop is a noticed mutant
        code = 1
        try:
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                code = _run(mutant)
        finally:
            os._exit(code)  # whatever was raised: a child that lives on would go through all mutants again
    _, status = os.waitpid(child, 0)
    return status == 0


def _run(mutant: Mutant) -> int:
    import pytest

    module = importlib.import_module(mutant.module)
    code = compile(mutant.tree, str(module.__file__), "exec")
    try:
        exec(code, module.__dict__)  # noqa: S102 - this is what mutation testing is
        _rebind(mutant.module)
        tests = [str(ROOT / test) for test in TESTS[mutant.module]]
        options = ["-q", "-x", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-seed=0"]
        return int(pytest.main([*options, *tests]))
    except Exception:  # noqa: BLE001 - a mutant that does not even import is noticed
        return 1


def _rebind(changed: str) -> None:
    """Load what imported names from the changed module again; `exec` made its classes and functions anew."""
    above = [name for name in sys.modules if name.startswith("dispatcher.") and name != changed]
    source = {name: Path(sys.modules[name].__file__ or "").read_text() for name in above if sys.modules[name].__file__}
    for name in above:
        if f"from {changed} import" in source.get(name, ""):
            sys.modules.pop(name)


def main(names: Sequence[str]) -> int:
    """Report each module; 0 if enough mutants were noticed in all."""
    import dispatcher.decisions.absence
    import dispatcher.decisions.outcome
    import dispatcher.decisions.states

    for owner in (dispatcher.decisions.outcome, dispatcher.decisions.states, dispatcher.decisions.absence):
        for enum in ("Kind", "Reason", "Scope", "State", "FailureClass", "Step"):
            if hasattr(owner, enum):
                MEMBERS[enum] = list(getattr(owner, enum).__members__)
    enough = True
    for module in names or TESTS:
        mutants = mutants_of(module)
        if not survives(Mutant(module, 0, "nothing", ast.parse(_source(module)))):
            print(f"{module}: its tests fail without any change, so that no mutant proves anything")
            return 2
        with ThreadPoolExecutor(1) as pool:  # one at a time: a fork of several threads is asking for trouble
            alive = [one for one, lives in zip(mutants, pool.map(survives, mutants), strict=True) if lives]
        noticed = 1 - len(alive) / len(mutants)
        enough &= noticed >= WANTED
        print(f"{module}: {len(mutants) - len(alive)} of {len(mutants)} noticed, {noticed:.1%}", flush=True)
        for one in alive:
            print(f"  line {one.line}: {one.what}")
    return 0 if enough else 1


if __name__ == "__main__":
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("modules", nargs="*", help="default: all")
    sys.exit(main(given.parse_args().modules))
