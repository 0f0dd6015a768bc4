"""The digest of the source that a stage uses, found without importing it.

An edited line in a function that the stage reaches changes the digest; an edited comment, docstring or layout, or a
function it never calls, does not. So `status` can tell in a second what a run would repeat, and why.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

PACKAGES = ("flows", "tasks", "models", "kernels", "data")
ROOT = Path(__file__).resolve().parents[2]

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
# A branch of a function that is taken for backbones of timm alone, in whose keys it counts by itself.
_OPTIONAL = "is_timm"
_DYNAMIC_IMPORTS = ("import_module", "__import__", "find_spec")


@functools.cache
def source_digest(function: str, root: Path = ROOT) -> str:
    """Return the SHA-256 of everything that `function` is made of in the project's own packages.

    Args:
        function: "package.module:name".
        root: The folder that holds the packages.

    Raises:
        ValueError: There is no such function.
    """
    parts = source_parts(function, root)
    return hashlib.sha256("\n".join(f"{name} {digest}" for name, digest in sorted(parts.items())).encode()).hexdigest()


@functools.cache
def source_parts(function: str, root: Path = ROOT) -> dict[str, str]:
    """Return the digest of each definition that `function` reaches, itself included.

    The closure goes by definition: functions, classes and assigned names, through imports (also inside functions),
    re-exports, attributes of modules, decorators, defaults and base classes. What cannot be told statically counts
    too much rather than too little: a module that is used as a value counts whole, and so does every module that a
    computed `import_module` could mean. Statements that run when a module is imported count for every module that
    the stage's modules import. Names are not told apart from local variables of the same name. A function's own branch
    `if is_timm(...)` does not count; see `models.backbones.is_timm`.

    Returns:
        "package.module:name" -> hexadecimal digest; "package.module:" holds the module's own statements.

    Raises:
        ValueError: There is no such function.
    """
    module, _, name = function.partition(":")
    program = _program(root)
    if module not in program or name not in program[module].definitions:
        raise ValueError(f"{function}: no such function below {root}")
    return _Closure(program).reach(module, name)


@dataclass
class _Module:
    """What a module binds at its top level, and what it runs when it is imported.

    An import's target is (module, dotted rest): ("kernels.crf", "refine"), or ("kernels.crf", "") for the module.
    """

    name: str
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    statements: list[ast.stmt] = field(default_factory=list)


@functools.cache
def _program(root: Path) -> dict[str, _Module]:
    files = [file for package in PACKAGES for file in sorted((root / package).rglob("*.py"))]
    return {(module := _parse(file, root)).name: module for file in files}


def _parse(file: Path, root: Path) -> _Module:
    parts = file.relative_to(root).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    name = ".".join(parts[:-1] if is_package else parts)
    package = name if is_package else name.rpartition(".")[0]
    tree = ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
    for node in ast.walk(tree):
        if isinstance(node, _Definition):
            node.body = [line for line in node.body if not _is_optional(line)]
        if isinstance(node, ast.Module | _Definition):
            # Docstrings go, those of attributes too; a function that had nothing else gets a `pass`.
            node.body = [line for line in node.body if not _is_text(line)] or [ast.Pass()]
        elif isinstance(node, ast.ImportFrom):
            node.module, node.level = _absolute(node, package), 0

    module = _Module(name)
    for line in tree.body:
        for bound in _bound_names(line):
            module.definitions.setdefault(bound, []).append(line)
        if not isinstance(line, _Definition):
            module.imports |= _imports(line)
            module.stars += _stars(line)
            module.loads += _loads(line)
        if not (_bound_names(line) or isinstance(line, ast.Import | ast.ImportFrom | ast.Pass) or _is_script(line)):
            module.statements.append(line)
    # A decorator of ours may register what it decorates, so it counts like a statement.
    module.statements += [line for line in tree.body if _is_decorated_by(line, module)]
    return module


class _Closure:
    """A walk over definitions, from one of them to all that it needs."""

    def __init__(self, program: dict[str, _Module]) -> None:
        self.program = program
        self.parts: dict[str, str] = {}
        self.pending: list[tuple[_Module, ast.stmt]] = []
        self.touched: set[str] = set()
        self.resolved: set[tuple[str, str]] = set()

    def reach(self, module: str, name: str) -> dict[str, str]:
        self._define(self.program[module], name)
        while self.pending:
            self._follow(*self.pending.pop())
        return self.parts

    def _define(self, module: _Module, name: str) -> None:
        self._touch(module.name)
        self._add(f"{module.name}:{name}", module, module.definitions[name])

    def _add(self, part: str, module: _Module, lines: list[ast.stmt]) -> None:
        if part not in self.parts:
            text = "\n".join(map(_dump, lines))
            self.parts[part] = hashlib.sha256(text.encode()).hexdigest()
            self.pending += [(module, line) for line in lines]

    def _touch(self, name: str) -> None:
        """Count what importing a module runs: its statements, its parents', and those of all that it imports."""
        if name in self.touched or name not in self.program:
            return
        self.touched.add(name)
        module = self.program[name]
        if module.statements:
            self._add(f"{name}:", module, module.statements)
        for other in [name.rpartition(".")[0], *module.loads]:
            self._touch(other)

    def _follow(self, module: _Module, line: ast.stmt) -> None:
        local = _imports(line)
        for name in _loads(line):
            self._touch(name)
        for star in _stars(line):
            self._resolve(star)
        for dotted in _references(line):
            head, _, rest = dotted.partition(".")
            if head in local:
                self._resolve(local[head][0], _join(local[head][1], rest))
            self._look_up(module, head, rest)
        for found in _texts_and_dynamic_imports(line):
            if isinstance(found, str):
                self._resolve_text(found)
            else:
                self._dynamic_import(found)

    def _look_up(self, module: _Module, head: str, rest: str) -> bool:
        """Reach what `head.rest` means inside a module, and return whether it binds `head`."""
        if head in module.definitions:
            self._define(module, head)
        if head in module.imports:
            target, name = module.imports[head]
            self._resolve(target, _join(name, rest))
        if head in module.definitions or head in module.imports:
            return True
        for source in self._star_sources(module):
            if head in source.definitions or head in source.imports:
                return self._look_up(source, head, rest)
        return False

    def _star_sources(self, module: _Module) -> list[_Module]:
        """Return the modules whose names a module has by `import *`, directly or in turn."""
        names = list(module.stars)
        for name in names:
            if name in self.program:
                names += [star for star in self.program[name].stars if star not in names]
        return [self.program[name] for name in names if name in self.program]

    def _resolve(self, name: str, rest: str = "") -> None:
        """Reach what `rest` means as an attribute of a module; the module as such counts whole."""
        if name not in self.program or (name, rest) in self.resolved:
            return
        self.resolved.add((name, rest))
        self._touch(name)
        module = self.program[name]
        head, _, tail = rest.partition(".")
        submodule = f"{name}.{head}"
        if not rest:
            for definition in module.definitions:
                self._define(module, definition)
            for target in module.imports.values():
                self._resolve(*target)
        elif submodule in self.program and module.imports.get(head, (name, head)) == (name, head):
            self._resolve(submodule, tail)
        elif not self._look_up(module, head, tail) and "__getattr__" in module.definitions:
            self._resolve(name)

    def _resolve_text(self, text: str) -> None:
        """Follow a string that names a module ("kernels.crf.fast") or something in one ("tasks.pipeline.walk:run")."""
        name, _, attribute = text.partition(":")
        if "." in name:
            self._resolve(name, attribute)

    def _dynamic_import(self, call: ast.Call) -> None:
        argument = call.args[0] if call.args else None
        if isinstance(argument, ast.Constant):
            return
        first = argument.values[0] if isinstance(argument, ast.JoinedStr) else None
        prefix = str(first.value) if isinstance(first, ast.Constant) else ""
        for name in self.program:
            if name.startswith(prefix):
                self._resolve(name)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parents = package.split(".")
    return _join(".".join(parents[: len(parents) - node.level + 1]), node.module or "")


def _join(*names: str) -> str:
    return ".".join(filter(None, names))


# Every stage's closure meets mostly the same statements, so what is read from one is kept.
@functools.cache
def _dump(line: ast.stmt) -> str:
    return ast.dump(line)


@functools.cache
def _texts_and_dynamic_imports(line: ast.stmt) -> tuple[str | ast.Call, ...]:
    found: list[str | ast.Call] = []
    for node in ast.walk(line):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
        elif isinstance(node, ast.Call) and _last_name(node.func) in _DYNAMIC_IMPORTS:
            found.append(node)
    return tuple(found)


@functools.cache
def _imports(line: ast.AST) -> dict[str, tuple[str, str]]:
    """Return local name -> (module, name in it) of every import in a statement."""
    found = {}
    for node in ast.walk(line):
        if isinstance(node, ast.Import):
            for alias in node.names:
                # `import a.b` binds `a`, `import a.b as c` the submodule.
                head = alias.name.partition(".")[0]
                found[alias.asname or head] = (alias.name if alias.asname else head, "")
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: (node.module or "", alias.name) for alias in node.names}
    return found


@functools.cache
def _stars(line: ast.AST) -> list[str]:
    nodes = [node for node in ast.walk(line) if isinstance(node, ast.ImportFrom)]
    return [node.module or "" for node in nodes if node.names[0].name == "*"]


@functools.cache
def _loads(line: ast.AST) -> list[str]:
    """Return the modules that the imports in a statement may load."""
    names = []
    for node in ast.walk(line):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def _is_script(line: ast.stmt) -> bool:
    """Whether it is `if __name__ == "__main__"`, which an import does not run."""
    return isinstance(line, ast.If) and ast.unparse(line.test) == "__name__ == '__main__'" and not line.orelse


def _is_optional(line: ast.stmt) -> bool:
    """Whether it is `if is_timm(...)` without an `else`: what the keys of other runs must not depend on."""
    return (
        isinstance(line, ast.If)
        and isinstance(line.test, ast.Call)
        and _last_name(line.test.func) == _OPTIONAL
        and not line.orelse
    )


def _is_decorated_by(line: ast.stmt, module: _Module) -> bool:
    """Return whether a decorator of one of our own packages stands above a definition."""
    if not isinstance(line, _Definition):
        return False
    heads = {_dotted(d.func if isinstance(d, ast.Call) else d) or "" for d in line.decorator_list}
    names = {head.partition(".")[0] for head in heads}
    ours = {name for name, target in module.imports.items() if target[0].partition(".")[0] in PACKAGES}
    return not names.isdisjoint(ours | module.definitions.keys())


def _bound_names(line: ast.stmt) -> list[str]:
    """Return the names that a definition binds; none for a statement that does more than bind plain names."""
    if isinstance(line, _Definition):
        return [line.name]
    targets: list[ast.expr] = []
    if isinstance(line, ast.Assign):
        targets = line.targets
    elif isinstance(line, ast.AnnAssign | ast.AugAssign):
        targets = [line.target]
    flat = [name for target in targets for name in (target.elts if isinstance(target, ast.Tuple) else [target])]
    return [name.id for name in flat if isinstance(name, ast.Name)] if all(map(_is_name, flat)) else []


@functools.cache
def _references(line: ast.AST) -> tuple[str, ...]:
    """Return the dotted names that a statement mentions, each as long as it goes: "a.b.c", never also "a.b"."""
    stack: list[ast.AST] = [line]
    found = {}
    while stack:
        node = stack.pop()
        if dotted := _dotted(node):
            found[dotted] = None
        else:
            stack.extend(ast.iter_child_nodes(node))
    return tuple(found)


def _dotted(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (owner := _dotted(node.value)):
        return f"{owner}.{node.attr}"
    return None


def _last_name(node: ast.expr) -> str:
    return (_dotted(node) or "").rpartition(".")[2]


def _is_name(node: ast.AST) -> bool:
    return isinstance(node, ast.Name)


def _is_text(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)
