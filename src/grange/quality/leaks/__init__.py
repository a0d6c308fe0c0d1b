"""The leak check: values in training data that would not be there at prediction time.

    check_definitions(catalog)      what definitions alone give away: for `plan`
    check_training(training)        what the joined rows give away: for training data
    check_history(history)          the same, of what a point-in-time join gave

All are pure and return `Leak` values; a `LeakPolicy` says which of them are errors and which are not reported.

    leaks = raise_or_return(check_definitions(catalog), LeakPolicy.of(errors="all"))

A `warning` is backed by evidence. A `notice` cannot be told from sound data without knowing what the columns mean.
"""

from grange.quality.leaks.codes import CODES, LeakCode, Severity
from grange.quality.leaks.definitions import check_definitions, check_view
from grange.quality.leaks.history import TRAINING_CODES, History, check_history
from grange.quality.leaks.leak import Leak, LeakPolicy, raise_or_return
from grange.quality.leaks.training import Joined, Training, check_training, is_naive
from grange.quality.leaks.uses import Use

__all__ = [
    "CODES",
    "TRAINING_CODES",
    "History",
    "Joined",
    "Leak",
    "LeakCode",
    "LeakPolicy",
    "Severity",
    "Training",
    "Use",
    "check_definitions",
    "check_history",
    "check_training",
    "check_view",
    "is_naive",
    "raise_or_return",
]
