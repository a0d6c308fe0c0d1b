"""Grange's part of a build after the rows are computed: validate, hash, write, describe, make visible.

The rows are those of a materialize, in memory and in order; both sides write the same columns with the same settings.
"""

import datetime as dt

from grange_common import definitions, feature_store
from measure import arguments, report, timed

from grange.verbs.materialize import MaterializeRequest, check, draft_of, plan_of, raw_of


def main() -> None:
    """Compute the rows once, then publish them and report."""
    options = arguments(__doc__)
    store = feature_store(options.work, fresh=True)
    import grange as gr

    (group, *_), _ = definitions(options.data, 1, ttl=None, online=False)
    checks = {f"g0_f{index}": [gr.not_null(), gr.finite()] for index in range(10)}
    group = gr.FeatureGroup(group.name, entities=group.entities, source=group.source, online=False, expectations=checks)
    store.apply(group)
    group = store.catalog.group(group.name)
    parts = store._parts
    request = MaterializeRequest(None, None, None, None)
    raw = raw_of(parts, group, request, now=dt.datetime.now(dt.UTC))
    rows = parts.engine().run(plan_of(parts, group, request, raw.node).root, raw.inputs)
    assert rows.arrow.num_rows  # both sides begin with an Arrow table

    def publish() -> None:
        outcome = check(group, rows)
        kept = outcome.kept(rows)
        draft = draft_of(group, source="bench").with_(source_rows=len(kept))
        parts.offline.publish(draft, kept, now=dt.datetime.now(dt.UTC))

    _, taken = timed(publish)
    report(**taken)


main()
