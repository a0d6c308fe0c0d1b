"""Transformations: functions on features, and the steps that apply them.

A transformation is written once and used in two places. *On-demand* steps belong to a feature group or a view: they
make features when these are asked for, from other features and from what the request brings, offline and online by
the same function. *Model-dependent* steps belong to a view: they prepare features for one model, and what they learn
(a mean, categories) is learned from the training split alone and kept with the training dataset.

A step names its function: one of Grange's own (`standard_scaler`; `grange.definitions.preparing` has them all), or a
`Transformation` that a user wrote in Python or SQL.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from grange.definitions.python_code import code_hash_of, source_text_of
from grange.definitions.values import freeze_tags
from grange.errors import DefinitionError
from grange.types import DataType, Schema
from grange.types.names import check_column, check_name

Mode = Literal["row", "numpy", "polars", "pandas", "sql"]
"""What a function is handed per input: one value, a NumPy array, a Polars or pandas Series; or it is SQL."""
Role = Literal["apply", "fit"]
"""What a function is of a transformation: what it applies, or what learns."""
Nulls = Literal["skip", "pass"]
_MODES: dict[str, Mode] = {
    "np.ndarray": "numpy",
    "numpy.ndarray": "numpy",
    "npt.NDArray": "numpy",
    "NDArray": "numpy",
    "pl.Series": "polars",
    "polars.Series": "polars",
    "pd.Series": "pandas",
    "pandas.Series": "pandas",
}


@dataclass(frozen=True, slots=True)
class PythonCode:
    """A Python function as it is kept: source text, module path and code hash. Nothing is pickled."""

    name: str
    module: str
    """Empty for code that came as text, from the command line or a request: it runs only where the operator allows
    that."""
    source_text: str
    code_hash: str
    """Of the normalised syntax tree and of what the function closes over: formatting, comments, docstring and
    decorators do not count (VER-2)."""
    function: Callable[..., Any] | None = field(default=None, compare=False, repr=False)
    """None when the definition came from a registry and its module is not loaded here."""

    @classmethod
    def of(cls, function: Callable[..., Any]) -> PythonCode:
        """The code of a function of this process."""
        text = source_text_of(function)
        return cls(function.__name__, function.__module__, text, code_hash_of(function, text), function)


@dataclass(frozen=True, slots=True, init=False)
class Transformation:
    """A function on columns, by name.

    >>> Transformation("ratio", sql={"ratio": "amount / NULLIF(total, 0)"}).inputs
    ('amount', 'total')

    Args:
        name: letters, digits and underscores; none of the names of ready functions.
        function: takes one argument per input; gives one value or array, or a tuple of them, one per output. Its
            parameters' names are the inputs, unless `inputs` says otherwise. It treats each row by itself (ONL-1):
            tables whose rows have other values alone are refused.
        sql: instead of a function, by output a SQL expression over the inputs.
        inputs: names of the inputs.
        outputs: types by output name. With SQL they are inferred where they are left out.
        requests: which of the inputs each request must bring, and their types.
        mode: what the function is handed per input: `row` one value at a time, `numpy` arrays, `polars` or `pandas`
            Series; taken from the first parameter's annotation when it is left out. Online a row costs about 1 us
            with values, 6 us with arrays, 30 us with Polars; pandas itself takes hundreds.
        nulls: `skip` gives null where any input is null and never shows the function one; `pass` shows it nulls (NaN
            in arrays, which then must be numbers).
        fit: a function that learns a state from the training split: takes the inputs as `function` does, without
            nulls where these are skipped, returns JSON-able data that `function` gets as `state=`. Only for
            model-dependent steps.

    Raises:
        DefinitionError: any of these contradicts another; the name is that of a ready function; a function closes
            over a value that cannot be told from another.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: Schema
    requests: Schema
    mode: Mode
    nulls: Nulls
    code: PythonCode | None
    fit: PythonCode | None
    sql: tuple[tuple[str, str], ...]
    description: str
    owner: str
    tags: tuple[tuple[str, str], ...] = field(default=())

    def __init__(
        self,
        name: str,
        function: Callable[..., Any] | PythonCode | None = None,
        *,
        sql: Mapping[str, str] | None = None,
        inputs: Sequence[str] | None = None,
        outputs: Schema | Mapping[str, Any] | None = None,
        requests: Schema | Mapping[str, Any] | None = None,
        mode: Mode | None = None,
        nulls: Nulls = "skip",
        fit: Callable[..., Any] | PythonCode | None = None,
        description: str = "",
        owner: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> None:
        what = f"transformation {name!r}"
        set_ = object.__setattr__
        set_(self, "name", check_name(name, what="transformation"))
        if (function is None) == (sql is None):
            raise DefinitionError(f"{what} needs a function or SQL, and not both")
        code = function if function is None or isinstance(function, PythonCode) else PythonCode.of(function)
        set_(self, "code", code)
        set_(self, "fit", fit if fit is None or isinstance(fit, PythonCode) else PythonCode.of(fit))
        set_(self, "sql", tuple((check_column(key, what=what), text) for key, text in (sql or {}).items()))
        set_(self, "inputs", _inputs(inputs, code, fit is not None, self.sql, what))
        set_(self, "outputs", _outputs(outputs, sql, what))
        set_(self, "requests", Schema.of(requests or {}))
        set_(self, "mode", _mode(mode, code, what))
        set_(self, "nulls", nulls)
        set_(self, "description", description)
        set_(self, "owner", owner)
        set_(self, "tags", freeze_tags(tags, what=what))
        _check(self, what)

    @property
    def output_names(self) -> tuple[str, ...]:
        """What its outputs are called, in order."""
        return tuple(name for name, _ in self.sql) or self.outputs.names

    @property
    def is_fitted(self) -> bool:
        """Whether it learns something from the training split."""
        return self.fit is not None

    @property
    def code_hash(self) -> str:
        """Hash of what it computes."""
        if self.code is None:
            return code_hash_of(None, repr(self.sql))
        return self.code.code_hash if self.fit is None else f"{self.code.code_hash}:{self.fit.code_hash}"

    def codes(self) -> Iterator[tuple[Role, PythonCode]]:
        """Its functions; none of SQL."""
        if self.code is not None:
            yield "apply", self.code
        if self.fit is not None:
            yield "fit", self.fit

    def on(self, *columns: str, outputs: Sequence[str] | str = (), keep: bool = False) -> Step:
        """A step that applies it to columns of other names, or gives its outputs other names.

        >>> Transformation("ratio", sql={"ratio": "a / b"}).on("spend", "visits", outputs="spend_per_visit").outputs
        ('spend_per_visit',)

        Args:
            columns: one per input, in order.
            outputs: one name per output.
            keep: of a model-dependent step, whether inputs stay beside the outputs.
        """
        named = (outputs,) if isinstance(outputs, str) else tuple(outputs)
        return Step(self.name, tuple(columns), named, keep=keep, transformation=self)

    def with_code(self, code: PythonCode | None, fit: PythonCode | None) -> Transformation:
        """The same with loaded functions."""
        copy = object.__new__(Transformation)
        for name in Transformation.__slots__:
            object.__setattr__(copy, name, getattr(self, name))
        object.__setattr__(copy, "code", code)
        object.__setattr__(copy, "fit", fit)
        return copy

    def __call__(self, *values: Any, **named: Any) -> Any:
        """Run the function as it is, as a unit test would."""
        if self.code is None or self.code.function is None:
            raise DefinitionError(f"transformation {self.name!r} has no Python function to call")
        return self.code.function(*values, **named)


@dataclass(frozen=True, slots=True)
class Step:
    """One application of a function to columns.

    Raises:
        DefinitionError: not as many columns as the function has inputs, or as many names as it has outputs.
    """

    function: str
    """One of Grange's own, or the name of `transformation`."""
    inputs: tuple[str, ...]
    """Columns, in the order of the function's inputs; functions of one input take any number, one by one."""
    outputs: tuple[str, ...] = ()
    """Names of its output columns; empty is the function's own choice."""
    parameters: tuple[tuple[str, Any], ...] = ()
    """Settings of one of Grange's own functions, JSON-able."""
    keep: bool = False
    """Of a model-dependent step, whether inputs that no output replaces stay."""
    transformation: Transformation | None = None
    """The function, where a user wrote it."""

    def __post_init__(self) -> None:
        what = f"step {self.function!r}"
        object.__setattr__(self, "parameters", tuple((name, _frozen(value)) for name, value in self.parameters))
        for column in (*self.inputs, *self.outputs):
            check_column(column, what=what)
        if len(set(self.outputs)) != len(self.outputs):
            raise DefinitionError(f"{what} names an output twice", found=", ".join(self.outputs))
        own = self.transformation
        if own is None:
            return
        if len(self.inputs) != len(own.inputs):
            raise DefinitionError(
                f"transformation {own.name!r} takes {len(own.inputs)} columns: {', '.join(own.inputs)}",
                found=", ".join(self.inputs) or "none",
            )
        made = own.output_names
        if self.outputs and len(self.outputs) != len(made):
            raise DefinitionError(
                f"transformation {own.name!r} has {len(made)} outputs: {', '.join(made)}",
                found=", ".join(self.outputs),
            )

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the output columns of a user's function; of Grange's own those that were given."""
        if self.outputs or self.transformation is None:
            return self.outputs
        return self.transformation.output_names

    def with_transformation(self, transformation: Transformation) -> Step:
        """The same step with a loaded function."""
        return replace(self, transformation=transformation)

    def __str__(self) -> str:
        made = f" -> {', '.join(self.outputs)}" if self.outputs else ""
        given = "".join(f", {name}={value!r}" for name, value in self.parameters)
        return f"{self.function}({', '.join(self.inputs)}{given}){made}"


def as_step(item: object, *, what: str) -> Step:
    """A step from what people write: a step, or a transformation on the columns that its inputs are called.

    Raises:
        DefinitionError: something else.
    """
    if isinstance(item, Step):
        return item
    if isinstance(item, Transformation):
        return item.on(*item.inputs)
    raise DefinitionError(
        f"{what}: {item!r:.80} is no transformation",
        found=type(item).__name__,
        try_="a @gr.transformation, one .on(columns), or a ready one such as gr.standard_scaler('amount')",
    )


def as_steps(items: Any, *, what: str) -> tuple[Step, ...]:
    """Steps from one or several of what `as_step` takes."""
    single = isinstance(items, Step | Transformation)
    if not single and (isinstance(items, str | Mapping) or not hasattr(items, "__iter__")):
        raise DefinitionError(f"{what}: a list of transformations is needed", found=f"{items!r:.80}")
    return tuple(as_step(item, what=what) for item in ([items] if single else items))


def check_on_demand(steps: Sequence[Step], taken: Collection[str], what: str) -> None:
    """Check what can be known of on-demand steps before their inputs are.

    Args:
        steps: in order.
        taken: names that other columns have.
        what: whose steps they are, for messages.

    Raises:
        DefinitionError: a step that learns, or one of Grange's own, which prepare features for a model; an output
            whose name is taken.
    """
    made = set(taken)
    for step in steps:
        if step.transformation is None or step.transformation.is_fitted:
            raise DefinitionError(
                f"{what}: {step.function!r} prepares features for one model, so it is no on-demand transformation",
                try_="FeatureView(..., transformations=[...])",
            )
        for name in step.output_names:
            if name in made:
                raise DefinitionError(
                    f"{what}: on-demand feature {name!r} has the name of another column",
                    try_=f"{step.function}.on({', '.join(map(repr, step.inputs))}, outputs=[...])",
                )
            made.add(name)


def transformation(
    function: Callable[..., Any] | None = None,
    *,
    outputs: Schema | Mapping[str, Any] | str | None = None,
    name: str | None = None,
    description: str | None = None,
    **options: Any,
) -> Any:
    """Make a transformation of a function; its name and docstring become the transformation's.

        @gr.transformation(outputs={"distance_km": "float64"})
        def distance(latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray: ...

    Takes the arguments of `Transformation`, less `function` and `sql`. `outputs="float64"` is one output that has the
    function's name.
    """

    def make(given: Callable[..., Any]) -> Transformation:
        own = name or given.__name__
        made = {own: outputs} if isinstance(outputs, str) else outputs
        text = inspect.cleandoc(given.__doc__ or "") if description is None else description
        return Transformation(own, given, outputs=made, description=text, **options)

    return make if function is None else make(function)


def _frozen(value: Any) -> Any:
    """A setting that can be part of a key: lists become tuples."""
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value


def _inputs(
    given: Sequence[str] | None, code: PythonCode | None, fitted: bool, sql: Sequence[tuple[str, str]], what: str
) -> tuple[str, ...]:
    if isinstance(given, str):
        raise DefinitionError(f"{what}: inputs is a list", try_=f"inputs=[{given!r}]")
    if given is not None:
        return tuple(check_column(item, what=what) for item in given)
    if code is None:
        from grange.definitions.expressions import parse_expression  # a parser that most definitions do without

        own = {name for name, _ in sql}
        parsed = [parse_expression(text, what=f"{what}: {name!r}") for name, text in sql]
        return tuple(dict.fromkeys(column for item in parsed for column in item.columns if column not in own))
    if code.function is None:
        raise DefinitionError(f"{what}: its inputs are not said and its code is not loaded")
    parameters = dict(inspect.signature(code.function).parameters)
    state = parameters.pop("state", None)
    if state is not None and state.default is state.empty and not fitted:
        raise learns_nothing(what)
    if any(item.kind in (item.VAR_POSITIONAL, item.VAR_KEYWORD) for item in parameters.values()):
        raise DefinitionError(f"{what}: its inputs cannot be told from *args or **kwargs", try_="inputs=[...]")
    return tuple(parameters)


def learns_nothing(what: str) -> DefinitionError:
    """A function without fit= takes what a fit function learns."""
    return DefinitionError(
        f"{what} takes `state`, which is what a fit function learns, and it has none",
        try_="fit=, or inputs=[...] with all columns where one is called `state`",
    )


def _outputs(given: Schema | Mapping[str, Any] | None, sql: Mapping[str, str] | None, what: str) -> Schema:
    schema = Schema.of(given or {})
    if sql is None and not schema:
        raise DefinitionError(f"{what} needs the types of its outputs", try_="outputs={'ratio': 'float64'}")
    foreign = [name for name in schema.names if sql is not None and name not in sql]
    if foreign:
        raise DefinitionError(f"{what}: output {foreign[0]!r} has no SQL", found=", ".join(sql or ()))
    return schema


def _mode(given: Mode | None, code: PythonCode | None, what: str) -> Mode:
    if given is not None and given not in get_args(Mode):
        raise DefinitionError(f"{what}: mode {given!r} is none", try_=", ".join(get_args(Mode)))
    if code is None or given == "sql":
        if given not in (None, "sql") or code is not None:
            raise DefinitionError(f"{what}: mode {given!r} is of {'SQL' if given == 'sql' else 'functions'}")
        return "sql"
    if given is not None or code.function is None:
        return given or "row"
    parameters = list(inspect.signature(code.function).parameters.values())
    annotation = parameters[0].annotation if parameters else inspect.Parameter.empty
    return mode_of_annotation(annotation if isinstance(annotation, str) else _annotated(annotation))


def mode_of_annotation(text: str) -> Mode:
    """What a function is handed that annotates its first parameter so; single values without an annotation."""
    return _MODES.get(text.split("[")[0].strip("'\" "), "row")


def _annotated(annotation: Any) -> str:
    name = getattr(annotation, "__name__", str(annotation))
    return f"{getattr(annotation, '__module__', '').split('.')[0]}.{name}"


def _check_name(name: str, what: str) -> None:
    from grange.definitions.ready_functions import FUNCTIONS  # which is made of steps

    if name in FUNCTIONS:
        number = next(number for number in itertools.count(2) if f"{name}_{number}" not in FUNCTIONS)
        raise DefinitionError(
            f"{what} has the name of a ready function",
            found=FUNCTIONS[name].description,
            closest=(f"{name}_{number}",),
            try_="name=... in the transformation",
        )


def _check(item: Transformation, what: str) -> None:
    _check_name(item.name, what)
    if item.nulls not in get_args(Nulls):
        raise DefinitionError(f"{what}: nulls {item.nulls!r} is none", try_=", ".join(get_args(Nulls)))
    if item.fit is not None and item.mode == "sql":
        raise DefinitionError(f"{what}: SQL learns nothing", try_="a function with fit=")
    if item.requests and item.fit is not None:
        raise DefinitionError(f"{what}: a function that learns takes no request columns")
    if not item.inputs:
        raise DefinitionError(f"{what} has no inputs")
    if len(set(item.inputs)) != len(item.inputs):
        raise DefinitionError(f"{what} names an input twice", found=", ".join(item.inputs))
    for column in item.requests.names:
        if column not in item.inputs:
            raise DefinitionError(f"{what}: request column {column!r} is no input of it", found=", ".join(item.inputs))
    if item.mode == "numpy" and item.nulls == "pass":
        for request in item.requests:
            check_shown_nulls(request.name, request.dtype, what)


def check_shown_nulls(name: str, dtype: DataType, what: str) -> None:
    """Check that arrays with an input's values have room for nulls, as NaN.

    Raises:
        DefinitionError: the input is no number.
    """
    if not (dtype.is_integer or dtype.is_float):
        raise DefinitionError(
            f"{what} is shown nulls as NaN, and input {name!r} is no number",
            found=str(dtype),
            try_='nulls="skip", or mode "row", "polars" or "pandas", which have nulls',
        )
