"""What is said when a user's function fails: which transformation, in which row, with which inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from grange.definitions.transformations import PythonCode, Transformation
from grange.errors import TransformError
from grange.types.schema import Column

_SHOWN: Final = 80
"""Letters of a value that a message shows, and rows of an index."""
_BY_ITSELF: Final = "treat each row by itself: no mean, sort, shift or chance; fit= learns what rows have in common"


@dataclass(frozen=True, slots=True)
class Blame:
    """Errors of one transformation. Rows count from 0; they are None outside tables."""

    item: Transformation
    asked_by: str

    def error(
        self, message: str, *, found: str | None = None, try_: str | None = None, **details: Any
    ) -> TransformError:
        """An error of the transformation: `message` says what it did."""
        return TransformError(
            f"transformation {self.item.name!r} {message}",
            asked_by=self.asked_by,
            found=found,
            try_=try_,
            details={"transformation": self.item.name, **details},
        )

    def raised(self, error: Exception, row: int | None, inputs: Sequence[Any]) -> TransformError:
        """The function raised something with the inputs of one row."""
        return self.error(f"raised {_told(error)}", found=self._shown(row, inputs), row=row)

    def raised_at_once(self, error: Exception, rows: int) -> TransformError:
        """The function raised something with many rows, and with none of them alone."""
        return self.error(
            f"raised {_told(error)} when it was called with all {rows} rows",
            found=f"mode {self.item.mode}: it is handed columns, not single values",
            try_='compute with whole columns, or mode="row"',
        )

    def no_array(self, output: str, value: Any) -> TransformError:
        """The function on arrays gave a single value, or something else that is no array."""
        return self.error(
            f"returned no array for output {output!r}",
            found=f"{_short(value)} ({type(value).__name__})",
            try_="an array or Series with one value per row",
        )

    def wrong_rows(self, output: str, found: int, rows: int) -> TransformError:
        """The function gave more or fewer values than there are rows."""
        return self.error(f"returned {counted(found, 'value')} for {counted(rows, 'row')}", found=f"output {output!r}")

    def other_index(self, output: str, index: Any) -> TransformError:
        """The function gave a pandas Series whose rows are not those of its inputs, in their order."""
        return self.error(
            f"returned a Series with another index than its input's for output {output!r}",
            found=f"index {_short(index[:_SHOWN].tolist())}",
            try_="a Series with one value per row, in the order of the input",
        )

    def differs_alone(self, column: Column, among: Any, alone: Any, row: int, inputs: Sequence[Any]) -> TransformError:
        """A row has another output among others than it has alone."""
        return self.error(
            f"gave {_short(among)} for output {column.name!r} of row {row} in a table, and {_short(alone)} for the row "
            "alone: online it would have another value",
            found=self._shown(row, inputs),
            try_=_BY_ITSELF,
            row=row,
            output=column.name,
        )

    def fails_alone(self, error: TransformError, row: int, inputs: Sequence[Any]) -> TransformError:
        """A row that has outputs among others has none alone."""
        told = error.message.removeprefix(f"transformation {self.item.name!r} ")
        return self.error(
            f"works on a table, and not on row {row} alone, as it is asked for online: it {told}",
            found=self._shown(row, inputs),
            try_=_BY_ITSELF,
            row=row,
        )

    def misfit(self, column: Column, value: Any, row: int | None, inputs: Sequence[Any]) -> TransformError:
        """A value does not fit the declared type of its output."""
        return self.error(
            f"gave {_short(value)} for output {column.name!r}, which is declared {column.dtype}",
            found=self._shown(row, inputs),
            try_=f"declare the type that it has: outputs={{{column.name!r}: ...}}",
            row=row,
            output=column.name,
        )

    def misfit_at_once(self, column: Column, error: Exception) -> TransformError:
        """What the function gave is no column of the declared type, whatever the values."""
        return self.error(
            f"gave no column of {column.dtype} for output {column.name!r}", found=first_line(error), output=column.name
        )

    def written(self, write: Callable[[Any], Any], column: Column, value: Any, inputs: Sequence[Any]) -> Any:
        """A value of one row in the declared type of its output."""
        try:
            return write(value)
        except ValueError as error:
            raise self.misfit(column, value, None, inputs) from error

    def _shown(self, row: int | None, inputs: Sequence[Any]) -> str:
        pairs = ", ".join(f"{name}={_short(value)}" for name, value in zip(self.item.inputs, inputs, strict=True))
        return pairs if row is None else f"row {row}: {pairs}"


def loaded(code: PythonCode | None, blame: Blame) -> Callable[..., Any]:
    """A function that is in this process.

    Raises:
        TransformError: it came from a registry, and its module is not loaded here.
    """
    assert code is not None, "SQL has no function"
    if code.function is None:
        raise blame.error(
            "is not loaded in this process",
            found=f"registered from module {code.module!r}" if code.module else "registered as text",
            try_="name the module in grange.toml (definitions = [...]), or apply the definition in this process",
        )
    return code.function


def first_failing(count: int, fails: Callable[[int, int], Exception | None]) -> tuple[int, Exception] | None:
    """A row that fails alone, among rows that fail together, by halving; None when it is not one row's fault.

    Args:
        count: how many rows there are.
        fails: with what rows `low <= row < high` fail; None when they do not.
    """
    low, high, error = 0, count, fails(0, count)
    while high - low > 1:
        middle = (low + high) // 2
        error = fails(low, middle)
        if error is not None:
            high = middle
            continue
        low, error = middle, fails(middle, high)
        if error is None:
            return None
    return None if error is None else (low, error)


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"


def counted(count: int, noun: str) -> str:
    """A number of things, in words: `1 row`, `5 rows`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
