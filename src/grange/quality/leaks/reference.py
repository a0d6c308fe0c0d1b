"""The reference page of leaks, made of the catalogue of codes.

python -m grange.quality.leaks.reference > docs/reference/leaks.md
"""

from __future__ import annotations

import sys
import textwrap
from typing import Final

from grange.quality.leaks.codes import CODES, LeakCode

_HEAD: Final = """# Leaks

A leak is a value in training data that would not be there at prediction time: the model looks better than it will ever
be. Point-in-time joins leave out rows of the future; the leak check looks for what is left, such as a window that
counts the very event whose outcome is to be predicted.

Definitions are checked without data (`LEAK-0nn`), training data after the join (`LEAK-1nn`; of more than 100,000 rows
that many are looked at, always the same ones).

Each leak has a code, says what was found where, why it is one, and what to do. A **warning** is backed by evidence. A
**notice** cannot be told from sound data without knowing what the columns mean.

## Policy

Two settings say which leaks are errors and which are not reported:

| setting | meaning |
|---|---|
| `leaks.errors` | `"all"`: every warning is an error. Codes: what has one is an error, notices too. Empty: none is. |
| `leaks.ignore` | codes that are known and accepted; they are not reported. Stronger than `leaks.errors`. |

```toml
[leaks]
errors = "all"
ignore = ["LEAK-102"]
```

In Python: `FeatureStore(leaks={{"errors": "all"}})`. What was found is in `ApplyPlan.leaks` and in
`HistoricalFeatures.leaks`; warnings of training data are Python warnings too, of class `gr.LeakWarning`, and the
command line tells them on standard error.

A leak that is an error raises `LeakError` (`GRANGE-504`), which carries all of them in `details["leaks"]`. A code that
does not exist is a `ConfigError`.

## Codes

{table}
"""


def reference() -> str:
    """The page, as Markdown."""
    rows = ["| code | leak |", "|---|---|"]
    rows += [f"| [{each.code}](#{_anchor(each)}) | {each.title} |" for each in CODES.values()]
    return "\n".join([_HEAD.format(table="\n".join(rows)), *map(_section, CODES.values())]).rstrip() + "\n"


def _anchor(code: LeakCode) -> str:
    """Where a Markdown heading `### CODE: title` can be linked to."""
    kept = (each for each in f"{code.code}: {code.title}".lower() if each.isalnum() or each in " -_")
    return "".join(kept).replace(" ", "-")


def _section(code: LeakCode) -> str:
    return f"""### {code.code}: {code.title}

{_wrapped(code.explanation)}

{_wrapped(f"*Found when:* {code.when}")}

```python
{code.example}
```

{_wrapped(f"*Fix:* {code.fix}.")}
"""


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    sys.stdout.write(reference())

__all__ = ["reference"]
