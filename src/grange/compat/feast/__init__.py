"""Feast's repositories, read without running them and written as Grange's definitions: `grange import feast`.

    reading       the Python files, as far as they are written out
    settings      feature_store.yaml
    translating   definitions as the text of a module
    on_demand     functions, carried over
    importing     all of it

Feast's server is `grange.http.compat.feast`.
"""

from grange.compat.feast.importing import Imported, import_repository, write
from grange.compat.feast.values import Note

__all__ = ["Imported", "Note", "import_repository", "write"]
