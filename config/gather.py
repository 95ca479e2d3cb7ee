"""Where the values of settings come from: the TOML file, environment variables, and files that hold secrets."""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from config.errors import ENVIRONMENT_PREFIX, Fault, KeyPath, SettingsError, did_you_mean, environment_name
from config.schema import ACCOUNTS, Keys, is_list, may_be_in_file
from config.types import Section

CONFIG_VARIABLE = "CHARTPOST_CONFIG"
DEFAULT_FILE = Path("chartpost.toml")
# accounts.<name>.confirm is the deepest; dotted keys can nest by the thousand, which must not end in a RecursionError.
DEEPEST_TABLE = 4

Tree = dict[str, Any]  # Any: what stands in a TOML file is unknown until the models have checked it


@dataclass(frozen=True)
class Gathered:
    """All values found, not yet checked, and what was wrong on the way."""

    tree: Tree
    keys: Keys
    faults: list[Fault] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class InFile:
    """Stands for a value until the file that holds it is read."""

    path: object


def gather(root: type[Section], path: Path | None, environ: Mapping[str, str]) -> Gathered:
    """Collect the values of one process's settings, environment over file.

    Raises SettingsError if the file cannot be read or is not TOML, since nothing further can then be said.
    """
    from_file = read_toml(settings_file(path, environ))
    names = _account_names(from_file, environ)
    gathered = Gathered(from_file, Keys(root, _providers(from_file, names, environ)))
    from_environment = _read_environment(gathered, names, environ)
    _mark_secret_files(gathered, gathered.tree, ())
    _mark_secret_files(gathered, from_environment, ())
    _lay_over(gathered.tree, from_environment)
    _read_secret_files(gathered, gathered.tree, ())
    return gathered


def settings_file(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The file to read: the one asked for, else `$CHARTPOST_CONFIG`, else `./chartpost.toml` if it exists."""
    if path is not None:
        return path
    if named := environ.get(CONFIG_VARIABLE):
        return Path(named)
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def read_toml(path: Path | None) -> Tree:
    """The tables of a TOML file; nothing if there is no file."""
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
        raise SettingsError([f"{path}: {_syntax_words(error)}."]) from None
    except (ValueError, RecursionError):  # a number of thousands of digits, brackets nested by the thousand
        raise SettingsError([f"{path} holds a value that is too large or too deeply nested."]) from None


def _syntax_words(error: tomllib.TOMLDecodeError) -> str:
    """The parser's own words with the line first. They quote single characters and keys, no values."""
    reason, _, place = str(error).removesuffix(")").rpartition(" (at ")
    return f"{place}: not TOML: {reason}" if reason else f"not TOML: {error}"


def _account_names(from_file: Tree, environ: Mapping[str, str]) -> list[str]:
    """The accounts that the file has or that the environment gives a provider, longest name first."""
    tables = from_file.get(ACCOUNTS)
    names = set(tables) if isinstance(tables, dict) else set()
    for variable in environ:
        if match := re.fullmatch(r"CHARTPOST_ACCOUNTS__([A-Z][A-Z0-9_]*)__PROVIDER", variable):
            names.add(match[1].lower())
    return sorted(names, key=len, reverse=True)


def _providers(from_file: Tree, names: list[str], environ: Mapping[str, str]) -> dict[str, object]:
    tables = from_file.get(ACCOUNTS)
    accounts = tables if isinstance(tables, dict) else {}
    providers: dict[str, object] = {}
    for name in names:
        table = accounts.get(name)
        in_file = table.get("provider") if isinstance(table, dict) else None
        providers[name] = environ.get(environment_name((ACCOUNTS, name, "provider")), in_file)
    return providers


def _read_environment(gathered: Gathered, names: list[str], environ: Mapping[str, str]) -> Tree:
    tree: Tree = {}
    for variable, text in sorted(environ.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable == CONFIG_VARIABLE:
            continue
        path = _path_of(variable, names)
        try:
            _plant(tree, path, _parsed(gathered.keys, variable, path, text))
        except KeyError:
            gathered.warnings.append(_unknown_variable(gathered.keys, variable))
        except ValueError as error:
            gathered.faults.append(Fault((path,), str(error)))
    return tree


def _path_of(variable: str, account_names: list[str]) -> KeyPath:
    """Where a variable's value belongs. Account names may themselves hold `__`, so they are looked for first."""
    rest = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
    for name in account_names:
        account = f"{ACCOUNTS}__{name}__"
        if rest.startswith(account):
            return (ACCOUNTS, name, *rest.removeprefix(account).split("__"))
    return tuple(rest.split("__"))


def _parsed(keys: Keys, variable: str, path: KeyPath, text: str) -> object:
    """The value of a variable. Raises KeyError if there is no such key, ValueError if it is no list but should be."""
    if variable != variable.upper():
        raise KeyError(variable)
    if keys.is_open(path) and len(path) <= DEEPEST_TABLE:
        return text
    key = keys.field(path)
    if key is not None:
        return _list_in(text) if is_list(key) else text
    if may_be_in_file(keys.field(_without_file(path))):
        return text
    raise KeyError(variable)


def _without_file(path: KeyPath) -> KeyPath:
    last = str(path[-1])
    return (*path[:-1], last.removesuffix("_file")) if last.endswith("_file") else ()


def _list_in(text: str) -> list[object]:
    if not text.lstrip().startswith("["):
        return [item.strip() for item in text.split(",") if item.strip()]
    try:
        items = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("must be a JSON array, or values separated by commas") from None
    return list(items)


def _unknown_variable(keys: Keys, variable: str) -> str:
    known = [environment_name(path) for path in keys.leaves()]
    shown = variable.encode("utf-8", "backslashreplace").decode()
    return f"{shown} was ignored, it is no setting: {did_you_mean(variable, known, 'remove it')}"


def _plant(tree: Tree, path: KeyPath, value: object) -> None:
    for part in path[:-1]:
        branch = tree.setdefault(str(part), {})
        if not isinstance(branch, dict):
            raise KeyError(path)  # of an account of unknown kind: CHARTPOST_..._X and CHARTPOST_..._X__Y
        tree = branch
    if isinstance(tree.get(str(path[-1])), dict):
        raise KeyError(path)
    tree[str(path[-1])] = value


def _mark_secret_files(gathered: Gathered, tree: Tree, path: KeyPath) -> None:
    """Turn every `x_file` of one source into a mark at `x`, so that the other source may still override it."""
    for table, at in _tables(tree, path):
        for name in [name for name in table if may_be_in_file(gathered.keys.field(_without_file((*at, name))))]:
            file = table.pop(name)
            plain = name.removesuffix("_file")
            if file == "":
                continue
            if table.get(plain, "") != "":
                words = f"is given, and so is {plain}: keep one of them"
                gathered.faults.append(Fault(((*at, name), (*at, plain)), words))
            table[plain] = InFile(file)


def _tables(tree: Tree, path: KeyPath) -> Iterator[tuple[Tree, KeyPath]]:
    yield tree, path
    for name, value in tree.items():
        if isinstance(value, dict) and len(path) < DEEPEST_TABLE:
            yield from _tables(value, (*path, name))


def _lay_over(tree: Tree, upper: Tree) -> None:
    for name, value in upper.items():
        lower = tree.setdefault(name, {}) if isinstance(value, dict) else None
        if isinstance(value, dict) and isinstance(lower, dict):
            _lay_over(lower, value)
        elif not isinstance(value, dict):
            tree[name] = value


def _read_secret_files(gathered: Gathered, tree: Tree, path: KeyPath) -> None:
    for table, at in _tables(tree, path):
        for name, value in table.items():
            if isinstance(value, InFile):
                table[name] = _secret_in(gathered, value, (*at, name))


def _secret_in(gathered: Gathered, mark: InFile, key: KeyPath) -> str:
    """The content of a secret file without its last line break; "" after noting a fault.

    The fault does not repeat the path: people put the secret itself there by mistake.
    """
    file_key = (*key[:-1], f"{key[-1]}_file")
    try:
        if not isinstance(mark.path, str):
            raise ValueError("not a path")
        text = Path(mark.path).read_bytes().decode()
    except UnicodeDecodeError:
        words = "names a file that is not UTF-8 text: put nothing but the secret into it"
    except (OSError, ValueError) as error:
        words = f"names a file that cannot be read ({getattr(error, 'strerror', None) or 'not a path'})"
    else:
        text = text.removesuffix("\n").removesuffix("\r")
        if text:
            return text
        words = "names a file that is empty: put the secret into it"
    gathered.faults.append(Fault((file_key, key), words))
    return ""
