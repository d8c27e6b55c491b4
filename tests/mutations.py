"""Changes every field of every declared job, one at a time, to see which checks notice.

test_contract.py runs this in a rendered project, with the project's Python. Arguments: a step N, to
try every Nth mutant, and the files to change. Without arguments, edits are read from standard
input. The output is JSON.
"""

import ast
import copy
import dataclasses
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from importlib import import_module
from inspect import signature
from itertools import count
from pathlib import Path
from typing import Any

# Arguments that fit the declared jobs.
CALLS: dict[str, dict[str, dict[str, Any]]] = {
    "myapp.tasks": {
        "import_contacts": {"import_id": 1},
        "send_summary": {"import_id": 1},
        "remove_old_imports": {"timestamp": 0},
    },
    "shop.tasks": {
        "ship": {"order_id": 1},
        "restock": {"sku": "a", "number": 2},
        "count_stock": {"sku": "a"},
        "report": {"timestamp": 0},
    },
}

# What may be added to a decorator.
OPTIONS: dict[str, dict[str, str]] = {
    "job": {
        "name": "'shop.other'",
        "queue": "'other'",
        "priority": "7",
        "lock": "'other'",
        "queueing_lock": "'other'",
        "retry": "None",
        "aliases": "('shop.other',)",
    },
    "task": {
        "name": "'shop.other'",
        "queue": "'other'",
        "priority": "7",
        "lock": "'other'",
        "queueing_lock": "'other'",
        "retry": "3",
        "aliases": "['shop.other']",
        "pass_context": "True",
    },
    "periodic": {"periodic_id": "'other'", "queueing_lock": "'other'", "task_kwargs": "{'a': 1}"},
}

Function = ast.FunctionDef | ast.AsyncFunctionDef
Edit = Callable[[Function], object]
Mutant = tuple[str, str, str, str]


def expression(text: str) -> Any:
    return ast.parse(text, mode="eval").body


def changed(value: ast.expr) -> Iterator[str]:
    """Yield other values of the same type."""
    match value:
        case ast.Constant(value=bool(true)):
            yield repr(not true)
        case ast.Constant(value=int(number)):
            yield repr(number + 1)
        case ast.Constant(value=str(text)) if "* *" in text:
            yield from ("'99 * * * *'", "'nightly'", "'7 * * * *'")
        case ast.Constant(value=str(text)):
            yield from (repr(f"{text}_x"), repr(text + "x" * 130), repr(text + "{x}"))
        case ast.Constant(value=None):
            yield "Retry()"
        case ast.Call():
            yield "None"
        case ast.Tuple() | ast.List():
            yield ast.unparse(value).replace("old", "older")


def retyped(value: ast.expr) -> str:
    """Return a value of another type."""
    return "b''" if isinstance(value, ast.Constant) and isinstance(value.value, int) else "5.5"


def of_decorators(function: Function) -> Iterator[tuple[str, str, Edit]]:
    """Yield the fields of the decorators, what happens to each, and the edit."""
    for i, decorator in enumerate(function.decorator_list):
        assert isinstance(decorator, ast.Call)
        kind = ast.unparse(decorator.func)
        yield kind, "drop", lambda f, i=i: f.decorator_list.pop(i)
        for other in ("other", "send_summary", "restock"):
            if kind.startswith("bridge.") and other not in kind:
                new = f"bridge.{other}.task"
                yield (
                    kind,
                    "change",
                    lambda f, i=i, new=new: setattr(f.decorator_list[i], "func", expression(new)),
                )
        yield (
            kind,
            "rename",
            lambda f, i=i, new=f"{kind}_x": setattr(f.decorator_list[i], "func", expression(new)),
        )
        for n in range(len(decorator.args)):
            yield f"{kind} app", "drop", lambda f, i=i, n=n: f.decorator_list[i].args.pop(n)
            yield (
                f"{kind} app",
                "retype",
                lambda f, i=i, n=n: f.decorator_list[i].args.__setitem__(n, expression("None")),
            )
        for n, keyword in enumerate(decorator.keywords):
            field = f"{kind} {keyword.arg}"

            def put(f: Function, new: str, i: int = i, n: int = n) -> None:
                f.decorator_list[i].keywords[n].value = expression(new)

            yield (
                field,
                "rename",
                lambda f, i=i, n=n: setattr(
                    f.decorator_list[i].keywords[n],
                    "arg",
                    f"{f.decorator_list[i].keywords[n].arg}x",
                ),
            )
            yield field, "drop", lambda f, i=i, n=n: f.decorator_list[i].keywords.pop(n)
            other = retyped(keyword.value)
            yield field, "retype", lambda f, put=put, other=other: put(f, other)
            for new in changed(keyword.value):
                yield field, f"change to {new[:40]}", lambda f, put=put, new=new: put(f, new)
        options = OPTIONS[kind.split(".")[-1]]
        given = {keyword.arg for keyword in decorator.keywords}
        if bound := kind.startswith("bridge."):
            by_hand = f"app.task(name='shop.{function.name}')"
            yield (
                kind,
                "bind by hand",
                lambda f, i=i, new=by_hand: f.decorator_list.__setitem__(i, expression(new)),
            )
        for name in options:
            if name not in given and (not bound or name == "pass_context"):
                new_keyword = ast.keyword(name, expression(options[name]))
                yield (
                    f"{kind} {name}",
                    "add",
                    lambda f, i=i, k=new_keyword: f.decorator_list[i].keywords.append(k),
                )


def of_signature(function: Function) -> Iterator[tuple[str, str, Edit]]:
    """Yield the fields of the signature, what happens to each, and the edit."""
    yield "function", "rename", lambda f: setattr(f, "name", f"{f.name}_x")
    for where in ("args", "kwonlyargs"):
        for n, argument in enumerate(getattr(function.args, where)):
            field = f"parameter {argument.arg}"

            def at(f: Function, where: str = where, n: int = n) -> Any:
                return getattr(f.args, where)[n]

            yield field, "rename", lambda f, at=at: setattr(at(f), "arg", at(f).arg + "_x")
            wrong = "str" if ast.unparse(argument.annotation) != "str" else "int"
            yield (
                field,
                "retype",
                lambda f, at=at, wrong=wrong: setattr(at(f), "annotation", expression(wrong)),
            )
            yield field, "drop", lambda f, where=where, n=n: drop_parameter(f, where, n)
            yield field, "change kind", lambda f, where=where, n=n: change_kind(f, where, n)
    for n, default in enumerate(function.args.kw_defaults):
        if default:
            field = f"default of {function.args.kwonlyargs[n].arg}"
            for how, new in (("change", "'sea'"), ("retype", "5.5")):
                yield (
                    field,
                    how,
                    lambda f, n=n, new=new: f.args.kw_defaults.__setitem__(n, expression(new)),
                )
            yield field, "drop", lambda f, n=n: f.args.kw_defaults.__setitem__(n, None)
    for how, default in (("add", None), ("add with a default", expression("1"))):
        yield (
            "parameter more",
            how,
            lambda f, default=default: (
                f.args.kwonlyargs.append(ast.arg("more", expression("int"))),
                f.args.kw_defaults.append(default),
            ),
        )
    if function.args.kwonlyargs and not function.args.kw_defaults[0]:
        yield (
            f"default of {function.args.kwonlyargs[0].arg}",
            "add",
            lambda f: f.args.kw_defaults.__setitem__(0, expression("1")),
        )


def drop_parameter(f: Function, where: str, n: int) -> None:
    getattr(f.args, where).pop(n)
    if where == "kwonlyargs":
        f.args.kw_defaults.pop(n)


def change_kind(f: Function, where: str, n: int) -> None:
    """Make a positional parameter keyword-only, or the other way round."""
    argument = getattr(f.args, where)[n]
    if where == "args":
        f.args.args.pop(n)
        f.args.kwonlyargs.append(argument)
        f.args.kw_defaults.append(None)
    else:
        default = f.args.kw_defaults[n]
        drop_parameter(f, where, n)
        f.args.args.append(argument)
        if default:
            f.args.defaults.append(default)


def mutants(path: str) -> Iterator[Mutant]:
    """Yield the file, the field, what happens to it, and the file's new text."""
    tree = ast.parse(Path(path).read_text())
    for index, function in enumerate(tree.body):
        if not isinstance(function, Function) or not function.decorator_list:
            continue
        for field, how, edit in (*of_decorators(function), *of_signature(function)):
            new = copy.deepcopy(tree)
            edit(new.body[index])  # type: ignore[arg-type]
            text = ast.unparse(ast.fix_missing_locations(new))
            yield path, f"{function.name}: {field}", how, text
        new = copy.deepcopy(tree)
        del new.body[index]
        yield path, f"{function.name}", "drop", ast.unparse(new)


class Types:
    """mypy, which checks again only what has changed."""

    def __init__(self) -> None:
        from mypy.dmypy_server import Server
        from mypy.fscache import FileSystemCache
        from mypy.main import process_options

        arguments = ["--no-error-summary", "myapp", "shop", "tasks", "jobs", "users"]
        self.sources, options = process_options(arguments, server_options=True)
        self.server = Server(options, os.devnull)
        self.server.fscache = FileSystemCache()

    def check(self) -> str:
        """Return mypy's output."""
        return str(self.server.check(self.sources, False, False, 80)["out"])


def in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a new process, in which no job is imported yet."""
    reader, writer = os.pipe()
    if not (pid := os.fork()):
        os.close(reader)
        with open(writer, "w") as pipe:
            try:
                json.dump(function(*arguments), pipe)
            except BaseException:  # noqa: BLE001, the parent sees that there is no answer
                traceback.print_exc()
        os._exit(0)
    os.close(writer)
    with open(reader) as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(text)


def make_rows() -> dict[str, Any]:
    """Return the rows that the calls would put into the queue, or how they fail."""
    rows: dict[str, Any] = {}
    for module, calls in CALLS.items():
        for name, arguments in calls.items():
            try:
                job = getattr(import_module(module), name)
                row = job._row(job.call(**arguments))
                rows[name] = [row.task_name, row.task_kwargs]
                for alias in job.aliases:
                    rows[alias] = [alias, row.task_kwargs]
            except Exception as error:  # noqa: BLE001, whatever it is
                rows[name] = f"{type(error).__name__}: {error}"
    return rows


def call_error(row: Any) -> str:
    """Return why the worker could not call a job's body, or an empty text."""
    from tasks import app

    name, arguments = row
    if not (task := app.tasks.get(name)):
        return "TaskNotFound"
    try:
        signature(task.func).bind(*[None] * task.pass_context, **arguments)
    except TypeError as error:
        return str(error)
    return ""


def defer_all() -> dict[str, Any]:
    """Defer all jobs, and return their rows."""
    for module, calls in CALLS.items():
        for name, arguments in calls.items():
            job = getattr(import_module(module), name)
            for former in (job.name, *job.aliases):
                dataclasses.replace(job, name=former, queueing_lock=None).defer(**arguments)
    return make_rows()


def judge(waiting: dict[str, Any]) -> dict[str, Any]:
    """Return the errors of `check` and of the calls; without any, those of new and waiting jobs."""
    from jobs.checks import check_jobs, check_waiting_jobs

    try:
        found = check_jobs() + check_waiting_jobs(["default"])
        check = sorted({str(message.id) for message in found})
    except Exception as error:  # noqa: BLE001, whatever it is
        check = [type(error).__name__]
    rows = make_rows()
    call = [row for row in rows.values() if isinstance(row, str)]
    if check or call:
        return {"check": check, "call": call, "new": [], "waiting": []}
    new = [failure for row in rows.values() if (failure := call_error(row))]
    old = [failure for row in waiting.values() if (failure := call_error(row))]
    return {"check": [], "call": [], "new": new, "waiting": old}


def messages() -> list[str]:
    """Return the jobs' system checks as `manage.py check` writes them."""
    from jobs.checks import check_jobs

    return [str(message) for message in check_jobs()]


def look_at_edits(edits: list[dict[str, str]]) -> list[list[str]]:
    """Return the messages of `check` after each edit; an edit maps paths to new texts."""
    found = []
    for edit in edits:
        before = {path: path.read_text() for name in edit if (path := Path(name)).exists()}
        for name, text in edit.items():
            Path(name).write_text(text)
        found.append(in_child(messages))
        for name in edit:
            Path(name).unlink()
        for path, text in before.items():
            path.write_text(text)
    return found


def look_at_mutants(step: int, files: list[str]) -> list[dict[str, Any]]:
    """Return what types, checks and calls say about every Nth mutant of the files."""
    types = Types()
    assert types.check() == "", types.check()
    assert in_child(judge, {}) == {"check": [], "call": [], "new": [], "waiting": []}
    waiting = in_child(defer_all)
    found = []
    # mypy reads a file again if its time of change differs by a second or more.
    seconds = count(int(Path(files[0]).stat().st_mtime) + 10, 10)
    for file in files:
        before = Path(file).read_text()
        for path, what, how, text in list(mutants(file))[::step]:
            Path(path).write_text(text)
            os.utime(path, times=(now := next(seconds), now))
            result = {"types": types.check().splitlines(), **in_child(judge, waiting)}
            found.append({"file": path, "what": what, "how": how, **result})
        Path(file).write_text(before)
        os.utime(file, times=(now := next(seconds), now))
    return found


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    sys.path.insert(0, "")

    import django

    django.setup()
    logging.disable()
    assert not {"tasks", "myapp.tasks", "shop.tasks"} & sys.modules.keys()
    arguments = sys.argv[1:]
    if arguments:
        print(json.dumps(look_at_mutants(int(arguments[0]), arguments[1:])))
    else:
        print(json.dumps(look_at_edits(json.load(sys.stdin))))
