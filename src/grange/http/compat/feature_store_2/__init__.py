"""Feature Store 2.0's routes: feature sets that are built up feature by feature, and served by the names of features.

sets          what clients say of a set and its features
expressions   what the SQL of a feature means
definitions   a set as the feature group that it stands for
keeping       sets that wait for something, between two calls
serving       questions and answers of the hot route
routes        the resources
"""

from grange.http.compat.feature_store_2.serving import (
    HistoricalQuestion,
    historical_answer,
    historical_question,
    serve_online,
)

__all__ = ["HistoricalQuestion", "historical_answer", "historical_question", "serve_online"]
