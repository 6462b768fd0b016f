"""Counters of a process, in Prometheus' text form."""

from bisect import bisect_left
from collections import Counter

BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)  # seconds


class Metrics:
    """Requests by status, answers by how they were made, lists that are too short, and the latency of answers."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._answers: Counter[str] = Counter()
        self._short, self._seconds, self._count = 0, 0.0, 0
        self._buckets = [0] * (len(BUCKETS) + 1)

    def request(self, method: str, status: int) -> None:
        """Count a request."""
        self._requests[method, status] += 1

    def answered(self, served_by: str, items: int, wanted: int, seconds: float) -> None:
        """Count an answer with so many items of those wanted."""
        self._answers[served_by] += 1
        self._short += items < wanted
        self._seconds, self._count = self._seconds + seconds, self._count + 1
        self._buckets[bisect_left(BUCKETS, seconds)] += 1

    def text(self, release: int) -> str:
        """All counters; `release` is 0 if none is open."""
        lines = ["# TYPE recsys_release gauge", f"recsys_release {release}", "# TYPE recsys_requests_total counter"]
        for (method, status), count in sorted(self._requests.items()):
            lines.append(f'recsys_requests_total{{method="{method}",status="{status}"}} {count}')
        lines.append("# TYPE recsys_answers_total counter")
        lines += [f'recsys_answers_total{{served_by="{by}"}} {count}' for by, count in sorted(self._answers.items())]
        lines += ["# TYPE recsys_short_answers_total counter", f"recsys_short_answers_total {self._short}"]
        return "\n".join([*lines, *self._latency()]) + "\n"

    def _latency(self) -> list[str]:
        lines, total = ["# TYPE recsys_answer_seconds histogram"], 0
        for bound, count in zip((*BUCKETS, "+Inf"), self._buckets, strict=True):
            total += count
            lines.append(f'recsys_answer_seconds_bucket{{le="{bound}"}} {total}')
        return [*lines, f"recsys_answer_seconds_sum {self._seconds:.6f}", f"recsys_answer_seconds_count {self._count}"]
