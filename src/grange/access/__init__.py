"""A feature store as one caller may use it: roles, policies and the audit log, in one place for every way in.

`Access` has the verbs of `FeatureStore`. Each first asks whether the caller may (`grange.security.principals`), then
what the policies say of every feature concerned (`grange.security.policies`), and writes to the audit log what is
changed and what was denied. What a policy masks comes back as null. Whoever serves a store to others reaches it
through this and nothing else.
"""

from grange.access.access import Access
from grange.access.gate import Gate
from grange.access.vectors import MASKED, Vectors

__all__ = ["MASKED", "Access", "Gate", "Vectors"]
