"""Where trials are kept: a study in memory or in a database, shared by processes, and checked."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

BUSY = 60.0
"""Seconds to wait for another process that writes to the same SQLite file."""
YOUNG = 5.0
"""Seconds in which who has made a study will have said what it is about."""
IDENTITY = "minicnn"
"""The study's attribute that says what it is about."""


class StorageError(OSError):
    """A storage can't be opened, read or written; the text says which, and why."""


def import_optuna() -> Any:
    """Return the module; raises ImportError with the install line where it isn't installed."""
    try:
        import optuna
    except ImportError as error:
        raise ImportError("the search needs Optuna: pip install 'minicnn[tune]'") from error
    return optuna


@contextmanager
def reporting(storage: str | None) -> Iterator[None]:
    """Turn what a database's library raises into `StorageError`; keep Optuna from talking."""
    optuna = import_optuna()
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    errors: tuple[type[Exception], ...] = (optuna.exceptions.StorageInternalError,)
    if storage is not None:
        from sqlalchemy.exc import SQLAlchemyError

        errors += (SQLAlchemyError,)
    try:
        yield
    except errors as error:
        cause = error.__cause__ or error
        said = str(getattr(cause, "orig", None) or cause).splitlines()[0]
        hint = ""
        if "locked" in said:
            hint = f" (waited {BUSY:g} s: does another process hold it open for writing?)"
        raise StorageError(f"{storage}: {said}{hint}") from error
    finally:
        optuna.logging.set_verbosity(level)


def open_storage(address: str | None) -> Any:
    """Return Optuna's storage at an address such as sqlite:///tune.db; None keeps it in memory.

    SQLite's transactions begin as writing ones: they wait for each other, `BUSY` seconds, where two
    that have only read before they write would both be refused at once ("database is locked").
    Call it within `reporting`.  Raises ValueError for what is no address.
    """
    optuna = import_optuna()
    if address is None:
        return optuna.storages.InMemoryStorage()
    if "://" not in str(address):
        raise ValueError(f"storage {address!r}: expected an address such as sqlite:///tune.db")
    options: dict[str, Any] = {}
    if address.startswith("sqlite"):
        options = {"connect_args": {"timeout": BUSY, "isolation_level": "IMMEDIATE"}}
    from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, OperationalError

    for attempt in range(5):
        try:
            return optuna.storages.RDBStorage(address, engine_kwargs=options)
        except (ArgumentError, NoSuchModuleError) as error:
            raise ValueError(f"storage {address!r}: {error}; as sqlite:///tune.db") from error
        except (OperationalError, IntegrityError, optuna.exceptions.StorageInternalError) as error:
            together = "already exists" in str(error) or "UNIQUE" in str(error)
            if attempt == 4 or not together:  # else: two processes made the tables at once
                raise
            time.sleep(0.1 * (attempt + 1))
    raise StorageError(f"{address}: its tables can't be made")  # never reached: 4 raises


def open_study(address: str | None, name: str, identity: Mapping[str, Any]) -> Any:
    """Return the study of that name, made if there is none.

    identity: what it is about, as JSON has it: recipe, space, data.  Raises ValueError if the study
    that is there is about something else.
    """
    optuna = import_optuna()
    storage = open_storage(address)
    try:
        study = optuna.create_study(storage=storage, study_name=name, direction="maximize")
    except optuna.exceptions.DuplicatedStudyError:
        study = optuna.load_study(study_name=name, storage=storage)
        found = identity_of(study)
        if found is None and study.get_trials(deepcopy=False):
            raise ValueError(
                f"study {name!r} in {address} wasn't made by minicnn: take another name (--study, "
                "study=)"
            ) from None
        if found is not None:
            check_identity(found, identity, f"study {name!r} in {address}")
            return study
    study.set_user_attr(IDENTITY, dict(identity))
    return study


def identity_of(study: Any) -> Any:
    """Return what a study says it is about; None if it doesn't, though it was given a while to."""
    end = time.monotonic() + YOUNG
    while (found := study.user_attrs.get(IDENTITY)) is None and time.monotonic() < end:
        if study.get_trials(deepcopy=False):
            break
        time.sleep(0.1)
    return found


def check_identity(found: Any, wanted: Mapping[str, Any], what: str) -> None:
    """Raise ValueError, which names the first difference, unless both are the same."""
    for key in wanted:
        there = found.get(key) if isinstance(found, Mapping) else None
        if there != wanted[key]:
            path, old, new = first_difference(there, wanted[key], key)
            raise ValueError(
                f"{what} is about another {key}: {path} is {old!r} there, {new!r} here. Trials can "
                "only be compared if nothing else differs: go on with what it was begun with, or "
                "give this search a name of its own (--study, study=)"
            )


def first_difference(a: Any, b: Any, path: str) -> tuple[str, Any, Any]:
    """Return where two values differ first, and what they are there."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in [*b, *a]:
            if a.get(key) != b.get(key):
                return first_difference(a.get(key), b.get(key), f"{path}.{key}")
    return path, a, b
