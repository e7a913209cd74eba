"""One choice out of rows: what to run instead, why, and what would tell more. SQL ranks; what is here words it."""

from greenml.recommend.advice import Advice, Asked, advise

__all__ = ["Advice", "Asked", "advise"]
