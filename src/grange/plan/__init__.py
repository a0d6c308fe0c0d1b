"""From definitions and a request to a plan: frozen nodes that engines run and `explain` prints. Pure."""

from grange.plan.explain import explain, explain_read
from grange.plan.nodes import Plan, ReadPlan

__all__ = ["Plan", "ReadPlan", "explain", "explain_read"]
