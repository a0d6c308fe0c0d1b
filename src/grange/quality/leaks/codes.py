"""The codes of leaks: what each means, an example and the way out. The reference page is made of this table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

Severity = Literal["warning", "notice"]
"""`warning`: there is evidence. `notice`: it may be right, and only who knows the columns can tell."""


@dataclass(frozen=True, slots=True)
class LeakCode:
    """One kind of leak, as the catalogue has it."""

    code: str
    """Stable: `LEAK-0nn` is found in definitions, `LEAK-1nn` in joined rows."""
    title: str
    when: str
    """What exactly is looked for, and when it is a warning and when a notice."""
    explanation: str
    """Why that is a value from the future."""
    fix: str
    example: str
    """Python that has the leak."""


_ALL: Final = (
    LeakCode(
        "LEAK-001",
        "a feature sees the event that the label comes from",
        "A label is a feature of a group, and another feature reads the label's own column from the same rows (the "
        "same source and event time, in the same group or another) with the row's own moment included: a window with "
        'closed="right" or "both" that also looks at the label\'s row, or the column itself under another group. '
        "Always a warning.",
        "At the label's own time the feature already holds the label's value, which is what is to be predicted.",
        'closed="left" in the aggregation, or exact_matches=False in the selection: only earlier events count then',
        """labels = gr.FeatureGroup("labels", entities=[user], source=payments)
history = gr.FeatureGroup(
    "history",
    entities=[user],
    source=payments,
    aggregations=[gr.Rolling({"is_fraud": ["sum"]}, windows=["30d"])],  # closed="right": the payment itself counts
)
view = gr.FeatureView("fraud", features=["history"], labels=["labels:is_fraud"])""",
    ),
    LeakCode(
        "LEAK-002",
        "a feature's window overlaps the label's",
        "A label is windowed, and a feature aggregates the label's column (or anything, where the label counts rows) "
        "of the same events and the same entity key in a window that shares time with the label's. Different filters "
        "on both are taken for different events. Always a warning.",
        "The label sums up events of a stretch of time, and the feature is made of some of the same events: to know "
        "it one would have to wait until the stretch is over.",
        "a lag of at least the label's window (Lag), or the label from the spine, computed of the time after its rows",
        """spend = gr.FeatureGroup(
    "spend",
    entities=[user],
    source=payments,
    aggregations=[gr.Rolling({"amount": ["sum"]}, windows=["7d", "30d"])],
)
view = gr.FeatureView("spender", features=["spend:amount__sum__30d"], labels=["spend:amount__sum__7d"])""",
    ),
    LeakCode(
        "LEAK-003",
        "a window may count what the label tells",
        "A windowed feature includes the row's own moment (or the label's window) and is of the rows that the label "
        "comes from, but of another column; or the column that it reads has the name of a label that the spine brings. "
        "Always a notice: an amount is known when it is paid, whether it was fraud is not.",
        "If the column is only known after the moment of prediction, as outcomes are, then its value of the very event "
        "is from the future.",
        'nothing, if the column is known at the event time; else closed="left" or exact_matches=False',
        """delays = gr.FeatureGroup(
    "delays",
    entities=[carrier],
    source=flights,
    aggregations=[gr.Rolling({"delay": ["mean"]}, windows=["7d"])],
)
view = gr.FeatureView("late", features=["delays"], labels=["delay"])  # the spine's delay: of the same flights?""",
    ),
    LeakCode(
        "LEAK-101",
        "rows see their own event",
        "In more than half of the spine's rows, the newest event that a feature counts lies exactly at the row's "
        "time; not where as_known=True has created times to go by. A warning where the feature reads a column with a "
        "label's name, a notice otherwise.",
        "The event at that very time is most likely the one that the row describes: its outcome is then part of the "
        "features that are to predict it.",
        'exact_matches=False in the selection, or closed="left" in the aggregation',
        """spine = payments.select("user_id", "event_time", "is_fraud")  # each row is an event of the group
view = gr.FeatureView("fraud", features=["history"], labels=["is_fraud"])
store.get_historical_features(view, spine)""",
    ),
    LeakCode(
        "LEAK-102",
        "times without a time zone",
        "The spine's time column, or a group's event time in its source, has a type without a zone. A warning where "
        "some have a zone and others do not; a notice where the spine has none and no group is known to have one.",
        "A time without a zone is read as UTC (TIME-1). If it was a local time, it is off by hours, and rows see what "
        "happened that much later.",
        'give the column its zone before it comes in: pl.col("event_time").dt.replace_time_zone("Europe/Berlin")',
        """spine = pl.DataFrame({"user_id": ["u1"], "event_time": [dt.datetime(2026, 11, 21, 12)]})  # 12:00 where?
store.get_historical_features("churn", spine)  # the group's event times have a zone""",
    ),
    LeakCode(
        "LEAK-103",
        "times that are dates",
        "All event times of a group are midnights, and in more than half of the spine's rows the newest visible one is "
        "of the row's own day. Not where created times show that rows were known within eight hours of that midnight, "
        "nor where as_known=True has created times to go by. A warning. Where only the spine's times are midnights, a "
        "notice.",
        "A day's events carry the day's first moment, so that all of them are visible from its very start; what "
        "happened in the evening is seen in the morning.",
        "an event time with a time of day, or dated by the day after: when the day is over, its figures are known",
        """daily = payments.group_by("user_id", pl.col("event_time").dt.date()).agg(pl.col("amount").sum())
spend = gr.FeatureGroup("spend", entities=[user], source=gr.TableSource(daily, name="daily", event_time="event_time"))
store.get_historical_features(["spend"], spine_of_the_afternoon)""",
    ),
    LeakCode(
        "LEAK-104",
        "a feature predicts the label alone",
        "Over at least 50 rows where both are known, one feature orders a label of two values with an AUC of at least "
        "0.995, ranks a number with a Spearman correlation of at least 0.995 either way, tells the label's value with "
        "a Goodman-Kruskal tau of at least 0.98 (for numbers: between neighbours in the feature's order), or is "
        "missing exactly where the label has one value. A label that never changes within an entity counts once per "
        "entity, and a feature must beat the label's own previous value by far: what hardly changes is no leak. "
        "Always a warning.",
        "Real predictors are not that good. Most often such a feature is the label under another name, or was filled "
        "in when the outcome was known.",
        "find out when the column is filled in; date it by that time (event_time), or leave it out of the view",
        """orders = orders.with_columns(refund_reason=pl.when("refunded").then(pl.lit("damaged")))
view = gr.FeatureView("refunds", features=["orders:refund_reason"], labels=["refunded"])""",
    ),
    LeakCode(
        "LEAK-105",
        "values that became known later",
        "In more than half of the rows that see an event, the newest one was created after the row's time, and "
        "as_known is False. A warning; a notice where all of them were created within a short time of each other, as "
        "one load of old history does.",
        "Grange joins what was finally true at a time. At the row's time the value was not known yet, so that no model "
        "could have been served with it.",
        "as_known=True: each row sees what was known by its time (PIT-5)",
        """scores = gr.FileSource("scores.parquet", event_time="scored_for", created_time="computed_at")  # a day later
store.get_historical_features("risk", spine)  # as_known=True leaves out what was computed later""",
    ),
)

CODES: Final[Mapping[str, LeakCode]] = MappingProxyType({each.code: each for each in _ALL})
"""Every kind of leak, by code."""

__all__ = ["CODES", "LeakCode", "Severity"]
