"""`grange demo`: New York's flights of 2013, from raw rows to a training set, a model and a served vector.

The demo's present is the evening of 30 December 2013: history is built up to then, a model is trained on it, a
flight that is about to leave is served. At the end the year's last day arrives, and nothing that was true before
changes. All of it is done with the public verbs, on a project that stays for the reader to go on with.
"""

from __future__ import annotations

import datetime as dt
import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from grange.demo.project import Project, command_name, write_project
from grange.demo.report import Echo, Report, Step
from grange.errors import GrangeError, MissingDependencyError
from grange.types.time import isoformat

if TYPE_CHECKING:
    import polars as pl

    from grange.demo.training import Model
    from grange.store import FeatureStore
    from grange.verbs.history import HistoricalFeatures
    from grange.verbs.materialize import Materialized

VIEW: Final = "late_arrivals"
NOW: Final = dt.datetime(2013, 12, 31, 0, 5, tzinfo=dt.UTC)
"""The demo's present: 19:05 in New York, the last evening whose weather is in the data."""
LAST: Final = dt.datetime(2014, 1, 1, 9, 1, tzinfo=dt.UTC)
"""When the last flight of the year lands."""
FLIGHT: Final = {"carrier": "B6", "flight": 1201, "tailnum": "N579JB", "origin": "JFK", "dest": "FLL"}
"""JetBlue 1201 to Fort Lauderdale, scheduled for 20:05 in New York: an hour after the demo's present."""
SAMPLE: Final = 1_000
SEED: Final = 2013


def run_demo(directory: Path, *, echo: Echo) -> dict[str, Any]:
    """Run the demo in a folder.

    Args:
        directory: where its project is made.
        echo: takes the lines for people, as they come.

    Returns:
        What was done, JSON-able.

    Raises:
        RefusedError: the folder holds something else.
        GrangeError: a value served differs from history, or a later row changed an earlier training row.
    """
    from grange.store import FeatureStore

    report = Report(echo)
    echo("Will a flight from New York arrive more than 30 minutes late? To be told an hour")
    echo("before it leaves, from the flights of 2013, the weather, planes and airports.")
    echo("It is 30 December 2013, 19:05 in New York. What happened later comes last.")
    with report.step("project", "A project: settings, definitions, data") as step:
        project = _write(directory, step)
    with FeatureStore(project.folder) as store:
        run = Run(project, store, report)
        done = run.all()
    total = report.end()
    done["next_commands"] = _next_commands(project, done["served"]["entry"], echo)
    done["timings"] = {key: round(seconds, 3) for key, seconds in report.seconds.items()}
    done["timings"]["total"] = round(total, 3)
    return done


def _write(directory: Path, step: Step) -> Project:
    project = write_project(directory)
    shown = os.path.relpath(project.folder)
    if project.moved is not None:
        step.say(f"starting over; what an earlier demo stored is in {project.moved.name}")
    step.say(f"{shown}: grange.toml, features.py and {project.data_bytes / 1e6:.1f} MB of data")
    step.say("airports: OpenFlights, ODbL; the rest: public domain (SOURCE.md)")
    return project


@dataclass(slots=True)
class Run:
    """The steps on one project. Each returns its part of the result."""

    project: Project
    store: FeatureStore
    report: Report

    def all(self) -> dict[str, Any]:
        """Every step after the project is there."""
        import polars as pl

        from grange.demo.training import make_spine

        definitions = self.define()
        flights = pl.read_parquet(self.project.data("flights.parquet"))
        history = self.build_history()
        found, training = self.train_set(make_spine(flights, now=NOW))
        train = found.to_polars()
        model, quality = self.train(train, found.feature_names)
        leak = self.show_leak(train, flights, found.feature_names, with_model=model is not None)
        served = self.serve(flights, model)
        proof = self.prove(flights)
        last_day = self.last_day(flights, found)
        return {
            "project": str(self.project.folder),
            "now": isoformat(NOW),
            "definitions": definitions,
            "history": history,
            "training": training,
            "model": quality,
            "leak": leak,
            "served": served,
            "proof": proof,
            "last_day": last_day,
            "rows": last_day["training"]["rows"],
            "versions": last_day["training"]["versions"],
            "mismatches": proof["mismatches"] + last_day["proof"]["mismatches"],
        }

    def define(self) -> dict[str, Any]:
        """Apply the project's definitions."""
        with self.report.step("define", "Definitions, applied to the registry") as step:
            done = self.store.apply()
            catalog = self.store.catalog
            counts = {
                "entities": len(catalog.entities),
                "feature_groups": len(catalog.groups),
                "feature_views": len(catalog.views),
            }
            step.say(
                f"{counts['entities']} entities, {counts['feature_groups']} feature groups, "
                f"{counts['feature_views']} feature view, as revision {done.revision}"
            )
        return {**counts, "revision": done.revision}

    def build_history(self) -> list[dict[str, Any]]:
        """Materialize every group up to the demo's present: tables that are always true, then what happens."""
        groups = sorted(self.store.catalog.groups.values(), key=lambda group: not group.is_timeless)
        with self.report.step("history", "History up to now, and the latest values online") as step:
            done = self._materialize([group.name for group in groups], step, end=NOW)
            quarantined = sum(item.quarantined for item in done)
            step.say(
                f"{sum(item.rows for item in done):,} rows; "
                f"{quarantined} in quarantine, for a wind of 1,048 miles per hour"
            )
        return [item.to_dict() for item in done]

    def _materialize(
        self, names: Sequence[str], step: Step, *, start: dt.datetime | None = None, end: dt.datetime | None = None
    ) -> list[Materialized]:
        """Materialize groups, one after another, with a line for each."""
        step.say(f"{'':<20}{'version':<10}{'rows':>9}{'keys online':>14}{'seconds':>11}")
        done = []
        for name in names:
            (item,) = self.store.materialize(name, start=start, end=end)
            step.say(f"{name:<20}{item.version:<10}{item.rows:>9,}{item.online_rows or 0:>14,}{item.seconds:>11.2f}")
            done.append(item)
        return done

    def train_set(self, spine: pl.DataFrame) -> tuple[HistoricalFeatures, dict[str, Any]]:
        """Join the view onto the flights predicted so far."""
        with self.report.step(
            "training", "A training set: each flight as it looked an hour before it was to leave"
        ) as step:
            found = self._join(spine)
            training = _describe(found)
            step.say(f"{training['rows']:,} flights, {training['features']} features")
            step.say(_labels(training))
            step.say(f"{training['without_weather']:,} found no weather of the last two hours; they stay, with nulls")
        return found, training

    def _join(self, spine: pl.DataFrame) -> HistoricalFeatures:
        from grange.demo.training import TIME

        return self.store.get_historical_features(VIEW, spine, event_time=TIME)

    def train(self, train: pl.DataFrame, features: Sequence[str]) -> tuple[Model | None, dict[str, Any]]:
        """Train and test a model, where scikit-learn is installed."""
        from grange.demo.training import LABEL, fit, split

        with self.report.step("model", "A model: gradient-boosted trees, tested on later flights") as step:
            early, late = split(train)
            try:
                model = fit(early, features)
            except MissingDependencyError as error:
                step.say(f"left out; it needs scikit-learn: {error.try_}")
                return None, {"trained": False, "try": error.try_}
            score, share = model.score(late), float(late[LABEL].mean())  # type: ignore[arg-type]
            step.say(f"learned from {early.height:,} flights to September, tested on {late.height:,} from October")
            step.say(f"AUC {score.auc:.3f} (a coin: 0.500)")
            step.say(f"average precision {score.average_precision:.3f} (a coin: {share:.3f}, the share that is late)")
        return model, {
            "trained": True,
            "train_rows": early.height,
            "test_rows": late.height,
            **score.to_dict(),
            "base_rate": round(share, 4),
        }

    def show_leak(
        self, train: pl.DataFrame, flights: pl.DataFrame, features: Sequence[str], *, with_model: bool
    ) -> dict[str, Any]:
        """Measure what dating past flights by the timetable would have done."""
        from grange.demo.training import fit, split, with_leak

        with self.report.step("leak", "The leak it was spared: delays dated by the timetable") as step:
            leaked, rows = with_leak(train, flights.filter(flights["scheduled_departure"] < NOW))
            step.say(
                f"{rows:,} of {train.height:,} rows ({rows / train.height:.0%}) would hold a delay from the future"
            )
            result: dict[str, Any] = {"rows": rows, "share": round(rows / train.height, 4)}
            if with_model:
                (early, late), (_, honest) = split(leaked), split(train)
                model = fit(early, features)
                promised, delivered = model.score(late), model.score(honest)
                step.say(
                    f"a model of them promises average precision {promised.average_precision:.3f}, "
                    f"and delivers {delivered.average_precision:.3f}"
                )
                result |= {"promised": promised.to_dict(), "delivered": delivered.to_dict()}
        return result

    def serve(self, flights: pl.DataFrame, model: Model | None) -> dict[str, Any]:
        """Read one flight's vector online, and score it."""
        import polars as pl

        from grange.demo.training import KEYS, TIMETABLE

        flight = flights.filter(pl.col("scheduled_departure") > NOW, **FLIGHT).head(1)
        entry = flight.select(*KEYS, *TIMETABLE).row(0, named=True)
        with self.report.step(
            "serve", "One vector served: JetBlue 1201 to Fort Lauderdale, leaving in an hour"
        ) as step:
            began = time.perf_counter()
            self.store.get_online_features(VIEW, [entry], now=NOW)
            first = time.perf_counter() - began
            began = time.perf_counter()
            answer = self.store.get_online_features(VIEW, [entry], now=NOW)
            values = answer.to_dicts()[0]
            again = time.perf_counter() - began
            statuses = {name: status.name for name, status in answer.statuses[0].items()}
            served = {name: values[name] for name in statuses}
            for line in _columns([(name, _text(value)) for name, value in served.items()]):
                step.say(line)
            step.say(f"read in {again * 1e6:,.0f} microseconds (the first time, which plans it, {first * 1e3:,.0f} ms)")
            result = {
                "entry": entry,
                "now": isoformat(NOW),
                "values": served,
                "statuses": statuses,
                "microseconds": round(again * 1e6, 1),
            }
            if model is not None:
                guess = float(model.probabilities(answer.to_polars())[0])
                arrived = flight.row(0, named=True)["arr_delay"]
                step.say(f"{guess:.0%} likely to be late, says the model (in the end: {arrived} minutes)")
                result |= {"probability": round(guess, 4), "arr_delay": arrived}
        return result

    def prove(self, flights: pl.DataFrame) -> dict[str, Any]:
        """Compare online with history for a sample of flights."""
        with self.report.step(
            "proof", "The proof: what is served equals what history says for the same moment"
        ) as step:
            return self._prove(flights, step, now=NOW)

    def _prove(self, flights: pl.DataFrame, step: Step, *, now: dt.datetime) -> dict[str, Any]:
        from grange.demo.proof import prove
        from grange.demo.training import KEYS, TIMETABLE

        flown = flights.select(*KEYS, *TIMETABLE).unique(KEYS, keep="first", maintain_order=True)
        proof = prove(self.store, VIEW, flown.sample(SAMPLE, seed=SEED), now=now)
        statuses = ", ".join(f"{n:,} {name.lower().replace('_', ' ')}" for name, n in proof.statuses.items())
        step.say(f"{proof.cells:,} values of {proof.combinations:,} flights compared: 0 differences")
        step.say(statuses)
        return proof.to_dict()

    def last_day(self, flights: pl.DataFrame, before: HistoricalFeatures) -> dict[str, Any]:
        """Add what happened after the demo's present, and see that the past stays as it was."""
        from grange.demo.proof import find_differences
        from grange.demo.training import TIME, make_spine

        with self.report.step("last_day", "The year's last day arrives, and is added") as step:
            groups = ["airport_departures", "carrier_arrivals", "plane_arrivals", "flight_arrivals"]
            done = self._materialize(groups, step, start=NOW)
            spine = make_spine(flights)
            spine.write_parquet(self.project.data("spine.parquet"))
            found = self._join(spine)
            training = _describe(found)
            known = found.to_polars().filter(spine[TIME] < NOW)
            changed = find_differences(known, before.to_polars(), found.feature_names)
            if changed:
                raise GrangeError("rows that came later changed the past", found=changed[0])
            step.say(f"the training set again, now all {training['rows']:,} flights")
            step.say(_labels(training))
            step.say(f"the features of the first {known.height:,} are what they were: 0 differences")
            proof = self._prove(flights, step, now=LAST)
        return {
            "history": [item.to_dict() for item in done],
            "training": training,
            "unchanged_rows": known.height,
            "proof": proof,
        }


def _describe(found: HistoricalFeatures) -> dict[str, Any]:
    """A training set in numbers."""
    import polars as pl

    from grange.demo.training import LABEL

    train = found.to_polars()
    labels = train[LABEL].drop_nulls()
    readings = pl.all_horizontal(pl.col("temp", "wind_speed", "precip", "pressure", "visib").is_null())
    return {
        "rows": train.height,
        "features": len(found.feature_names),
        "labelled": labels.len(),
        "late": int(labels.sum()),
        "without_weather": train.select(readings.sum()).item(),
        "versions": dict(found.versions),
    }


def _labels(training: dict[str, Any]) -> str:
    share = training["late"] / training["labelled"]
    return f"{training['late']:,} of {training['labelled']:,} that arrived were more than 30 minutes late ({share:.1%})"


def _text(value: object) -> str:
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _columns(pairs: Sequence[tuple[str, str]], across: int = 2) -> list[str]:
    """Names and values in columns, read downwards."""
    height = -(-len(pairs) // across)
    lines = []
    for row in range(height):
        cells = [f"{name:<19}{value:<17}" for name, value in pairs[row::height]]
        lines.append("".join(cells).rstrip())
    return lines


def _next_commands(project: Project, entry: dict[str, Any], echo: Echo) -> list[str]:
    """Three commands to go on with, in the project's folder; printed as they run."""
    grange = command_name(project.folder)
    asked = ",".join(f"{name}={value}" for name, value in entry.items())
    commands = [
        f"{grange} fv get {VIEW} --entry {asked} --now {LAST:%Y-%m-%dT%H:%M}",
        f"{grange} fv read {VIEW} --spine data/spine.parquet --event-time predict_at --output training.parquet",
        f"{grange} fg stats weather",
    ]
    echo("")
    echo("Next:")
    echo(f"{'':3}cd {shlex.quote(os.path.relpath(project.folder))}")
    for command in commands:
        echo(f"{'':3}{command}")
    return commands
