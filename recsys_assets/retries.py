"""Steps whose lake or store does not answer are tried again; any other error would only come again.

Retryable are `LakeUnavailable` and `StoreUnavailable`: a connection that was refused, lost or timed out, and whatever
else a server says when it cannot answer. Permanent is everything else: a full or read-only disk (`PlaceUnwritable`,
`StoreFull`), a damaged, missing or outdated partition, a closed gate, a mistake in the data or in the code.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from recsys_assets.lake_place import LakeUnavailable
from recsys_assets.stores.store import StoreUnavailable

RETRYABLE = (LakeUnavailable, StoreUnavailable)
MOST = 2  # further attempts
WAIT_SECONDS = 10.0  # before the first of them; three times as long before the next


@contextmanager
def retrying(attempts: int) -> Iterator[None]:
    """Ask Dagster to try the step again if the block raises a retryable error.

    Args:
        attempts: how many attempts there were before this one.

    Raises:
        RetryRequested: with the error as its cause; after the last attempt the error itself.
    """
    try:
        yield
    except RETRYABLE as error:
        if attempts >= MOST:
            raise
        raise dg.RetryRequested(max_retries=MOST, seconds_to_wait=WAIT_SECONDS * 3**attempts) from error
