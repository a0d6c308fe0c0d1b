"""What the pages say of the server is what it does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.http.conftest import Client

DOCS = Path(__file__).parents[2] / "docs"
_ASKED = re.compile(
    r"<!-- asked: (?P<path>\S+) -->\n```json\n(?P<body>.*?)```\n\n<!-- answered -->\n```json\n(?P<answer>.*?)```", re.S
)


def test_the_examples_are_answered_so(client: Client) -> None:
    examples = list(_ASKED.finditer((DOCS / "how-to/serving.md").read_text(encoding="utf-8")))
    assert len(examples) == 3
    for example in examples:
        answer = client.post(example["path"], json=json.loads(example["body"]))
        assert answer.status_code == 200, answer.text
        expected = json.loads(example["answer"])
        found = answer.json()
        if "metadata" in expected:
            assert expected["metadata"].keys() == found["metadata"].keys()
            for varying in ("latency_ms", "request_id"):
                found["metadata"][varying] = expected["metadata"][varying]
        assert {name: found[name] for name in expected} == expected


def test_every_metric_is_on_its_page(client: Client) -> None:
    """With its kind and its labels."""
    page = (DOCS / "reference/metrics.md").read_text(encoding="utf-8")
    listed = {
        name: (kind, set(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels in re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \|", page, re.M)
    }
    assert listed == _declared(client)


def _declared(client: Client) -> dict[str, tuple[str, set[str]]]:
    found: dict[str, tuple[str, set[str]]] = {}
    for metric in client._app.metrics._registry._collector_to_names:
        labels: Any = metric._labelnames
        kind = metric._type
        found[f"{metric._name}_total" if kind == "counter" else metric._name] = kind, set(labels)
    return found


def test_every_setting_of_the_server_is_on_a_page() -> None:
    from grange.config import SETTINGS

    said = "".join(path.read_text(encoding="utf-8") for path in DOCS.glob("**/*.md"))
    for setting in SETTINGS:
        if setting.key.startswith(("server.", "serving.", "tracing.")):
            assert setting.key in said or setting.key.partition(".")[2] in said, setting.key
