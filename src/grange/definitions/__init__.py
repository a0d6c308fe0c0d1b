"""What users declare: frozen values, no input or output, no clock."""

from grange.definitions.catalog import Catalog
from grange.definitions.entity import Entity
from grange.definitions.feature_group import FeatureGroup, feature_group
from grange.definitions.feature_view import FeatureView
from grange.definitions.references import FeatureSelection, select
from grange.definitions.sources import FileSource, PushSource, RequestSource, TableSource

__all__ = [
    "Catalog",
    "Entity",
    "FeatureGroup",
    "FeatureSelection",
    "FeatureView",
    "FileSource",
    "PushSource",
    "RequestSource",
    "TableSource",
    "feature_group",
    "select",
]
