"""What ``/metrics`` tells, in the text format of Prometheus."""

from __future__ import annotations

from collections import Counter, defaultdict

from .worker import Worker

KNOWN = ("/", "/about", "/result", "/api/predict", "/healthz", "/metrics")


class Counts:
    """Counts requests, by path and status."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count one request.  Paths that there aren't are one: a stranger chooses their names."""
        path = path if path in KNOWN else "other"
        self.requests[path, status] += 1
        self.seconds[path] += seconds

    def text(self, worker: Worker) -> str:
        """Return all counts, a line each."""
        lines: list[str] = []

        def metric(name: str, kind: str, about: str, *values: tuple[str, float]) -> None:
            lines.append(f"# HELP minicnn_{name} {about}")
            lines.append(f"# TYPE minicnn_{name} {kind}")
            lines.extend(f"minicnn_{name}{labels} {value:.12g}" for labels, value in values)

        metric(
            "requests_total",
            "counter",
            "Requests answered; 499: the client had gone.",
            *(
                (f'{{path="{path}",status="{status}"}}', count)
                for (path, status), count in sorted(self.requests.items())
            ),
        )
        metric(
            "request_seconds_total",
            "counter",
            "Time from a request's headers to its answer's end.",
            *((f'{{path="{path}"}}', seconds) for path, seconds in sorted(self.seconds.items())),
        )
        metric("queue_length", "gauge", "Pictures waiting.", ("", worker.waiting))
        metric("queue_places", "gauge", "Pictures that may wait.", ("", worker.places))
        metric("jobs_total", "counter", "Pictures looked at.", ("", worker.done))
        metric("job_seconds_total", "counter", "Time spent on them.", ("", worker.seconds))
        return "\n".join(lines) + "\n"
