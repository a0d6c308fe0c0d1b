"""Definitions: features, the stores they are built into, and the verbs of mlforge over Grange's."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Self

from grange.compat.mlforge.features import Feature, declared, either
from grange.compat.mlforge.online import GrangeOnlineStore, OnlineStore
from grange.compat.mlforge.retrieval import FeatureInput, get_online_features, training_data
from grange.compat.mlforge.store import LocalStore
from grange.definitions.feature_group import FeatureGroup
from grange.errors import DuplicateNameError, RequestError, UnknownFeatureGroupError, closest_names
from grange.store import FeatureStore

if TYPE_CHECKING:
    import polars as pl

    from grange.quality.expectations import Outcome
    from grange.verbs.materialize import Materialized

Named = str | Feature


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a build made."""

    paths: dict[str, Path]
    """By feature, where the rows of its latest version lie."""
    results: tuple[Materialized, ...]
    """What Grange tells of each feature group, in the order they were built."""

    @property
    def versions(self) -> dict[str, str]:
        """By feature, the version that its rows are."""
        return {each.group: each.version for each in self.results}

    @property
    def built(self) -> tuple[str, ...]:
        """The features that got a new version."""
        return tuple(each.group for each in self.results if each.new_version)

    @property
    def skipped(self) -> tuple[str, ...]:
        """Those whose rows, schema, configuration and code are those of a version they have (VER-1)."""
        return tuple(each.group for each in self.results if not each.new_version)


@dataclass(frozen=True, slots=True)
class FeatureValidationResult:
    """What the validators of one feature found."""

    feature_name: str
    outcome: Outcome
    """Every check, with how many rows fail it and the first of them."""

    @property
    def failures(self) -> tuple[str, ...]:
        """The checks that do not hold, in words."""
        return tuple(f"{check}: {check.failed} values" for check in self.outcome.checks if not check.passed)

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return not self.failures


class Definitions:
    """Features and their stores.

    >>> Definitions(store=LocalStore("./feature_store"), engine="duckdb")     # whatever @feature made here

    Args:
        name: of the project; lineage tells it.
        features: features, and modules that hold some; None is all that `@feature` made in this process.
        store: where history lies; `./feature_store` without.
        online_store: where the latest values lie; None is nowhere.
        engine: what builds features that do not say; `polars` without.
        offline_store: another name for `store`.
        default_engine: another name for `engine`.

    Nothing is opened before it is needed. Use it as a context manager, or `close()` it.

    Raises:
        DuplicateNameError: two features have one name.
        RequestError: something that is no feature, or both names of one argument.
    """

    def __init__(
        self,
        name: str | None = None,
        features: Sequence[Feature | ModuleType] | None = None,
        store: LocalStore | None = None,
        online_store: OnlineStore | None = None,
        engine: str | None = None,
        *,
        offline_store: LocalStore | None = None,
        default_engine: str | None = None,
    ) -> None:
        self.name = name
        self.offline_store: LocalStore = either(store, offline_store, "store and offline_store") or LocalStore()
        self.online_store = online_store
        self.default_engine: str | None = either(engine, default_engine, "engine and default_engine")
        self._given = None if features is None else _by_name(_found(features))
        self._opened: FeatureStore | None = None
        if isinstance(online_store, GrangeOnlineStore):
            online_store.serve(self._serving)

    @property
    def features(self) -> dict[str, Feature]:
        """The features by name.

        Raises:
            DuplicateNameError: none were given, and two modules of this process have one of the same name.
        """
        return _by_name(declared()) if self._given is None else self._given

    @property
    def feature_store(self) -> FeatureStore:
        """The Grange feature store behind it; everything else that Grange does is there."""
        if self._opened is None:
            own = self.online_store if isinstance(self.online_store, GrangeOnlineStore) else None
            self._opened = self.offline_store.open(
                online=None if own is None else own.backend,
                online_type="memory" if own is None else own.type,
                settings={"project": self.name, "engine": self.default_engine},
            )
        return self._opened

    def build(
        self,
        features: Named | Iterable[Named] | None = None,
        version: str | None = None,
        engine: str | None = None,
        online: bool = False,
        force: bool = False,
        *,
        tag_names: str | Iterable[str] | None = None,
        feature_names: Iterable[str] | None = None,
        feature_version: str | None = None,
    ) -> BuildResult:
        """Compute features from their sources and publish each as a version.

        The number follows from what changed (VER-1); rows, schema, configuration and code that a version has already
        make no new one. Column types are those that the source has now.

        Args:
            features: which; all without.
            version: the number, above all that the feature has (VER-2).
            engine: what computes, instead of the features' own engine and the default one.
            online: also load the online store.
            force: make a new version, a PATCH, even of rows that a version has already.
            tag_names: the features that have one of these tags, instead of `features`.
            feature_names: another name for `features`.
            feature_version: another name for `version`.

        Raises:
            UnknownFeatureGroupError: no such feature; with the closest names. Nothing was built.
            RequestError: a version that is none, or not above the highest; `online` without an online store.
            SourceError, TransformError, ColumnTypeError, ExpectationError: the feature is as it was; those before it
                are built.
        """
        asked = either(features, feature_names, "features and feature_names")
        chosen = self._chosen(asked, tag_names)
        number = either(version, feature_version, "version and feature_version")
        if online and self.online_store is None:
            raise RequestError(
                "online=True loads an online store, and there is none",
                try_="Definitions(..., online_store=LocalOnlineStore('./online_store'))",
            )
        if number is not None and force:
            raise RequestError("a version that is named is made in any case: force says nothing besides")
        self._apply(chosen)
        store = self.feature_store
        done: list[Materialized] = []
        for each in chosen:
            if force:
                number = store.plan_materialize(each.name)[0].if_changed
            done += store.materialize(each.name, version=number, engine=engine or each.engine, online=online)
            if online:
                self._hand_over(each.name)
        places = {each.group: self.offline_store.place(store.version(each.group)) for each in done}
        return BuildResult(places, tuple(done))

    def validate(
        self,
        features: Named | Iterable[Named] | None = None,
        *,
        tag_names: str | Iterable[str] | None = None,
        feature_names: Iterable[str] | None = None,
    ) -> list[FeatureValidationResult]:
        """Check the validators of features on what their functions make of the sources now; nothing is stored.

        Takes what `build` does.

        Raises:
            UnknownFeatureGroupError: no such feature; with the closest names.
            SchemaError: a validator of a column that is not there; with the closest names.
            SourceError, TransformError: the rows cannot be made.
        """
        chosen = self._chosen(either(features, feature_names, "features and feature_names"), tag_names)
        with self._trial() as trial:
            trial.apply([each.with_(expectations=()) for each in chosen])
            return [FeatureValidationResult(each.name, _checked(trial, each)) for each in chosen]

    def get_training_data(
        self,
        features: Sequence[FeatureInput] | None = None,
        spine: Any = None,
        timestamp: str | None = None,
        store: LocalStore | None = None,
        *,
        entity_df: Any = None,
    ) -> pl.DataFrame:
        """`get_training_data` of these stores, or of another one. Takes and raises what that does."""
        asked = either(spine, entity_df, "spine and entity_df")
        if store is None:
            return training_data(self.feature_store, asked, features, timestamp)
        with store.open() as other:
            return training_data(other, asked, features, timestamp)

    def get_online_features(
        self, features: Sequence[FeatureInput], entity_df: Any, store: GrangeOnlineStore | None = None
    ) -> pl.DataFrame:
        """`get_online_features` of the online store, or of another one. Takes and raises what that does."""
        chosen: Any = self.online_store if store is None else store
        if chosen is None:
            raise RequestError("there is no online store to read", try_="Definitions(..., online_store=...)")
        return get_online_features(features, entity_df, chosen)

    def list_features(self, tags: str | Iterable[str] | None = None) -> list[Feature]:
        """The features, by name; with tags, those that have one of them."""
        wanted = _listed(tags)
        found = (feature for _, feature in sorted(self.features.items()))
        return [each for each in found if tags is None or not dict(each.tags).keys().isdisjoint(wanted)]

    def list_tags(self) -> list[str]:
        """The tags that features have, each once."""
        return sorted({tag for each in self.features.values() for tag, _ in each.tags})

    def close(self) -> None:
        """Let go of files; the online store stays open. Whatever is called next opens them again."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Definitions({self.name!r}, {sorted(self.features)}, {self.offline_store!r})"

    def _chosen(self, asked: Named | Iterable[Named] | None, tags: str | Iterable[str] | None) -> list[Feature]:
        """The features that are named, in that order; those that have a tag; or all, by name.

        Raises:
            UnknownFeatureGroupError: no such feature or tag.
            RequestError: names and tags at once, or nothing that is named.
        """
        if asked is not None and tags is not None:
            raise RequestError("features are named, or chosen by tags: not both", try_="leave one of them out")
        known = self.features
        if tags is not None:
            return self._tagged(_listed(tags))
        names = sorted(known) if asked is None else list(dict.fromkeys(_name(item) for item in _listed(asked)))
        unknown = [name for name in names if name not in known]
        if unknown:
            raise UnknownFeatureGroupError(
                f"no feature {unknown[0]!r} is defined",
                found=", ".join(sorted(known)) or "no features",
                closest=closest_names(unknown[0], known),
                try_="Definitions(features=[...]) names the features",
            )
        if not names:
            raise RequestError("there is no feature to build", try_="Definitions(features=[...]) names the features")
        return [known[name] for name in names]

    def _tagged(self, tags: Sequence[str]) -> list[Feature]:
        unknown = [tag for tag in tags if tag not in self.list_tags()]
        if unknown or not tags:
            wanted = unknown[0] if unknown else ""
            raise UnknownFeatureGroupError(
                f"no feature has the tag {wanted!r}",
                found=", ".join(self.list_tags()) or "no tags",
                closest=closest_names(wanted, self.list_tags()),
            )
        return self.list_features(tags)

    def _apply(self, chosen: Sequence[Feature]) -> None:
        """Make features known, with the columns that their sources have now.

        Grange keeps the types that a group had when it was first applied (PIT-7); a feature declares none, so those of
        one that is known already are looked up anew.
        """
        known = self.feature_store.catalog.groups
        again = [each for each in chosen if each.name in known]
        current: dict[str, FeatureGroup] = {}
        if again:
            with self._trial() as trial:
                trial.apply(again)
                current = {each.name: each.with_(schema=trial.catalog.group(each.name).schema) for each in again}
        self.feature_store.apply([current.get(each.name, each) for each in chosen])

    @contextmanager
    def _trial(self) -> Iterator[FeatureStore]:
        """A store of nothing, gone afterwards: what is tried there changes nothing here."""
        with tempfile.TemporaryDirectory(prefix="grange-trial-") as folder:
            settings = {"engine": self.default_engine}
            with LocalStore(Path(folder) / "trial").open(settings=settings) as store:
                yield store

    def _hand_over(self, name: str) -> None:
        """Write the values of a feature into an online store of one's own, as they are at this moment."""
        if self.online_store is None or isinstance(self.online_store, GrangeOnlineStore):
            return
        store = self.feature_store
        group = store.catalog.group(name)
        stored = store.read(name, columns=group.join_keys).polars.drop_nulls()
        entities = stored.unique(maintain_order=True)
        records = store.get_online_features([name], entities).to_dicts()
        self.online_store.write_batch(name, records, list(group.join_keys))

    def _serving(self, name: str) -> FeatureStore | None:
        """The feature store, for a feature that was built there."""
        return self.feature_store if name in self.feature_store.catalog.groups else None


def _checked(store: FeatureStore, feature: Feature) -> Outcome:
    """What a feature's validators find on the rows that its function makes."""
    from grange.quality.expectations import evaluate

    store.materialize(feature.name, engine=feature.engine, online=False)
    return evaluate(store.read(feature.name, events=bool(feature.aggregations)), feature.expectations)


def _found(features: Iterable[Feature | ModuleType]) -> Iterator[Feature]:
    """The features, and those that modules hold.

    Raises:
        RequestError: something else.
    """
    for item in features:
        match item:
            case Feature():
                yield item
            case ModuleType():
                yield from (value for value in vars(item).values() if isinstance(value, Feature))
            case _:
                raise RequestError(
                    "features are features or modules that hold some",
                    found=f"{item!r:.80} ({type(item).__name__})",
                    try_="@feature(source=..., keys=[...]) makes one of a function",
                )


def _by_name(features: Iterable[Feature]) -> dict[str, Feature]:
    """Features by name; the same one met twice counts once.

    Raises:
        DuplicateNameError: two features have one name.
    """
    found: dict[str, Feature] = {}
    for each in features:
        other = found.setdefault(each.name, each)
        if other is not each:
            homes = sorted(getattr(one.transform, "module", "?") for one in (other, each))
            raise DuplicateNameError(
                f"two features are called {each.name!r}",
                found=f"in {' and in '.join(homes)}",
                try_="rename one of them, or name those that are meant: Definitions(features=[...])",
            )
    return found


def _listed(given: Any) -> list[Any]:
    if given is None:
        return []
    return [given] if isinstance(given, str | Feature) else list(given)


def _name(item: Named) -> str:
    return item if isinstance(item, str) else item.name


__all__ = ["BuildResult", "Definitions", "FeatureValidationResult"]
