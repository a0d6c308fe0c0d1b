"""The laws as a user meets them: cases of level `store` run through `FeatureStore`, on every engine.

Raw spines and sources in every zone, unit and width go in; the answer, or the error, is the case's.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

import grange as gr
from grange.testing.cases import ExpectedError, StoreCase, cases_of
from grange.testing.equality import assert_rows_equal

CASES = cases_of(StoreCase)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_store_keeps_the_law(case: StoreCase, engine_name: str, tmp_path: Path) -> None:
    with gr.FeatureStore(tmp_path, online="memory", engine=engine_name, leaks={"ignore": ["LEAK-102"]}) as store:
        if isinstance(case.expected, ExpectedError):
            with pytest.raises(case.expected.error) as caught:
                answer(store, case)
            for mention in case.expected.mentions:
                assert mention in str(caught.value)
        else:
            assert_rows_equal(answer(store, case), case.expected)


def answer(store: gr.FeatureStore, case: StoreCase) -> pa.Table:
    """What the store says of a case: the whole result, spine included."""
    store.apply(case.definitions())
    store.materialize()
    asked = {"event_time": case.time, "as_known": case.as_known}
    if case.spine is not None:
        return store.get_historical_features(case.features, case.spine, **asked).to_arrow()
    got = store.get_historical_features(case.features, start=case.start, end=case.end, as_known=case.as_known)
    return got.to_arrow()


def test_there_are_cases() -> None:
    assert len(CASES) > 10
