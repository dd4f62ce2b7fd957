"""What the configuration says for one pair of AE titles, made ready for use."""

from __future__ import annotations

import msgspec

from dulproto import Status

from .config import Policy
from .key_matching import QueryPolicy
from .response import ResponsePolicy
from .view import View, compile_view

__all__ = ["Rules"]


class Rules(msgspec.Struct, frozen=True, eq=False):
    """How a caller's queries are read, what it may see, and how it is answered."""

    query: QueryPolicy
    response: ResponsePolicy
    view: View
    max_results: int
    status_at_max_results: int

    @classmethod
    def of(cls, policy: Policy, calling: str) -> Rules:
        """Make the rules of a pair of AE titles ready."""
        query = QueryPolicy.of(policy)
        if policy.use_calling_as_station:
            query = msgspec.structs.replace(query, station_ae_title=calling)
        at_limit = Status.SUCCESS if policy.at_max_results == "success" else Status.OUT_OF_RESOURCES
        return cls(
            query,
            ResponsePolicy.of(policy),
            compile_view(ae=policy.ae_filter, remote=policy.remote_filter),
            policy.max_results,
            at_limit,
        )
