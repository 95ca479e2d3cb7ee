"""Where the values of settings come from: the TOML file, environment variables, and files that hold secrets."""

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from config.errors import ENVIRONMENT_PREFIX, KeyPath, Problem, SettingsError, did_you_mean, environment_name
from config.origin import FileStamp
from config.schema import ACCOUNTS, Schema, is_list, may_have_secret_file
from config.types import Section

CONFIG_VARIABLE = "CHARTPOST_CONFIG"
DEFAULT_FILE = Path("chartpost.toml")
# The deepest table is accounts.<name>.confirm. Dotted keys can nest by the thousand: without a limit they would end in
# a RecursionError.
DEEPEST_TABLE = 4

Tree = dict[str, Any]  # Any: what stands in a TOML file is unknown until the models have checked it


@dataclass(frozen=True)
class Gathered:
    """All values that were given, not yet checked.

    `problems` are mistakes in how they were given, such as both `x` and `x_file`. `file` is the settings file that was
    read, `secret_files` are those that hold secrets; `secret_paths` are the files that keys name, be they there or not.
    """

    values: Tree
    schema: Schema
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    file: Path | None = None
    secret_files: list[FileStamp] = field(default_factory=list)
    secret_paths: dict[KeyPath, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class SecretFile:
    """Stands for a value until the file that holds it is read. `path` is as it was given, so it may be of any type."""

    path: object


def gather(root: type[Section], path: Path | None, environ: Mapping[str, str]) -> Gathered:
    """Collect the values of one process's settings; the environment overrides the file.

    Raises SettingsError if the file cannot be read or is not TOML: nothing else can be checked then.
    """
    file = settings_file(path, environ)
    values = read_toml(file)
    provider_of = _providers(values, environ)
    gathered = Gathered(values, Schema(root, provider_of), file=file)
    from_environment = _read_environment(gathered, provider_of, environ)
    # Each source is marked before the two are merged: `x` in the environment must override `x_file` in the file, but
    # both in one source are a mistake. Files are read last, since one that is overridden need not exist.
    _mark_secret_files(gathered, values)
    _mark_secret_files(gathered, from_environment)
    _override(values, from_environment)
    for table, at in _tables(values):
        for name, value in table.items():
            if isinstance(value, SecretFile):
                table[name] = _read_secret(gathered, value, (*at, name))
    return gathered


def settings_file(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The file to read: `path`, else `$CHARTPOST_CONFIG`, else `./chartpost.toml` if it exists."""
    if path is not None:
        return path
    if named := environ.get(CONFIG_VARIABLE):
        return Path(named)
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def read_toml(path: Path | None) -> Tree:
    """The tables of a TOML file; an empty dict if there is no file."""
    if path is None:
        return {}
    try:
        text = path.read_bytes().decode("utf-8-sig")  # Windows editors begin a file with a byte order mark
    except UnicodeDecodeError as error:
        raise SettingsError([f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8."]) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise SettingsError([f"{path} cannot be read ({reason}): name a settings file that exists."]) from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # The parser's message is safe to repeat: it quotes single characters and keys, never values.
        reason, _, position = str(error).removesuffix(")").rpartition(" (at ")
        message = f"{position}: not TOML: {reason}" if reason else f"not TOML: {error}"
        raise SettingsError([f"{path}: {message}."]) from None
    except (ValueError, RecursionError):  # a number of thousands of digits, brackets nested by the thousand
        raise SettingsError([f"{path} holds a value that is too large or too deeply nested."]) from None


def _providers(from_file: Tree, environ: Mapping[str, str]) -> dict[str, object]:
    """What is given as each account's provider. The longest account names come first, as `_path_of` needs them."""
    tables = from_file.get(ACCOUNTS)
    tables = tables if isinstance(tables, dict) else {}
    names = set(tables)
    for variable in environ:
        if match := re.fullmatch(r"CHARTPOST_ACCOUNTS__([A-Z][A-Z0-9_]*)__PROVIDER", variable):
            names.add(match[1].lower())
    providers: dict[str, object] = {}
    for name in sorted(names, key=len, reverse=True):
        table = tables.get(name)
        in_file = table.get("provider") if isinstance(table, dict) else None
        providers[name] = environ.get(environment_name((ACCOUNTS, name, "provider")), in_file)
    return providers


def _read_environment(gathered: Gathered, account_names: Iterable[str], environ: Mapping[str, str]) -> Tree:
    values: Tree = {}
    for variable, text in sorted(environ.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable == CONFIG_VARIABLE:
            continue
        path = _path_of(variable, account_names)
        try:
            _insert(values, path, _parse(gathered.schema, variable, path, text))
        except KeyError:
            known = [environment_name(leaf) for leaf in gathered.schema.leaves()]
            shown = variable.encode("utf-8", "backslashreplace").decode()  # names need not be UTF-8 on Unix
            hint = did_you_mean(variable, known, "remove it")
            gathered.warnings.append(f"{shown} was ignored, it is not a setting: {hint}")
        except ValueError as error:
            gathered.problems.append(Problem((path,), str(error)))
    return values


def _path_of(variable: str, account_names: Iterable[str]) -> KeyPath:
    """The key that a variable sets. Account names may contain `__` too, so the known ones are tried first."""
    rest = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
    for name in account_names:
        account = f"{ACCOUNTS}__{name}__"
        if rest.startswith(account):
            return (ACCOUNTS, name, *rest.removeprefix(account).split("__"))
    return tuple(rest.split("__"))


def _parse(schema: Schema, variable: str, path: KeyPath, text: str) -> object:
    """The value of a variable. Raises KeyError if there is no such key, ValueError if a list cannot be read."""
    if variable != variable.upper():
        raise KeyError(variable)
    if schema.is_open(path) and len(path) <= DEEPEST_TABLE:
        return text
    key = schema.field(path)
    if key is None:
        if may_have_secret_file(schema.field(_without_file_suffix(path))):
            return text
        raise KeyError(variable)
    if not is_list(key):
        return text
    if not text.lstrip().startswith("["):
        return [item.strip() for item in text.split(",") if item.strip()]
    try:
        return list(json.loads(text))
    except (ValueError, RecursionError):
        raise ValueError("must be a JSON array, or values separated by commas") from None


def _without_file_suffix(path: KeyPath) -> KeyPath:
    """The path of `x` for that of `x_file`; empty for any other key."""
    last = str(path[-1])
    return (*path[:-1], last.removesuffix("_file")) if last.endswith("_file") else ()


def _insert(values: Tree, path: KeyPath, value: object) -> None:
    # Only an account of unknown kind can have both CHARTPOST_..._X and CHARTPOST_..._X__Y: X is a value then, or a
    # table, and the second of the two is ignored.
    for part in path[:-1]:
        table = values.setdefault(str(part), {})
        if not isinstance(table, dict):
            raise KeyError(path)
        values = table
    if isinstance(values.get(str(path[-1])), dict):
        raise KeyError(path)
    values[str(path[-1])] = value


def _mark_secret_files(gathered: Gathered, values: Tree) -> None:
    """Replace every `x_file` of one source by a SecretFile at `x`, so that the other source can override it."""
    for table, at in _tables(values):
        for name in list(table):
            if not may_have_secret_file(gathered.schema.field(_without_file_suffix((*at, name)))):
                continue
            path = table.pop(name)
            plain = name.removesuffix("_file")
            if path == "":
                continue
            if table.get(plain, "") != "":
                message = f"is given, and so is {plain}: keep one of them"
                gathered.problems.append(Problem(((*at, name), (*at, plain)), message))
            table[plain] = SecretFile(path)


def _tables(values: Tree, path: KeyPath = ()) -> Iterator[tuple[Tree, KeyPath]]:
    """Every table with its path, the outer ones first. A table's keys may be changed while it is at hand."""
    yield values, path
    for name, value in values.items():
        if isinstance(value, dict) and len(path) < DEEPEST_TABLE:
            yield from _tables(value, (*path, name))


def _override(values: Tree, stronger: Tree) -> None:
    for name, value in stronger.items():
        weaker = values.setdefault(name, {}) if isinstance(value, dict) else None
        if isinstance(value, dict) and isinstance(weaker, dict):
            _override(weaker, value)
        elif not isinstance(value, dict):
            values[name] = value


def _read_secret(gathered: Gathered, file: SecretFile, key: KeyPath) -> str:
    """The content of a secret's file without its last line break; an empty text after noting a problem."""
    # The message does not repeat the path: people put the secret itself there by mistake.
    try:
        if not isinstance(file.path, str):
            raise ValueError("not a path")
        gathered.secret_paths[key] = Path(file.path)
        gathered.secret_files.append(FileStamp.of(Path(file.path)))  # before it is read: a later change must be seen
        text = Path(file.path).read_bytes().decode()
    except UnicodeDecodeError:
        message = "names a file that is not UTF-8 text: put nothing but the secret into it"
    except (OSError, ValueError) as error:
        message = f"names a file that cannot be read ({getattr(error, 'strerror', None) or 'not a path'})"
    else:
        text = text.removesuffix("\n").removesuffix("\r")
        if text:
            return text
        message = "names a file that is empty: put the secret into it"
    gathered.problems.append(Problem(((*key[:-1], f"{key[-1]}_file"), key), message))
    return ""
