"""A smaller model out of a trained one, what it saves, and what making it took."""

from greenml.compress.plan import APPLIED_BY_ALL, METHODS, Parent, Plan, parse_chain

__all__ = ["APPLIED_BY_ALL", "METHODS", "Parent", "Plan", "parse_chain"]
