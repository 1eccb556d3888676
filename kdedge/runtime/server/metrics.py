"""What a server counts, for Prometheus."""

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.exposition import choose_encoder

__all__ = ["Metrics"]

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
SHORT = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
BATCHES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """Counters of one server, in a registry of their own: two servers in a process do not mix.

    Args:
        model: what the info metric says of the model.
        waiting: images that are waited for.
        held: bytes of bodies in memory.
    """

    def __init__(self, model: dict[str, str], waiting: Callable[[], float], held: Callable[[], float]) -> None:
        self.registry = CollectorRegistry()
        made: dict[str, Any] = {"namespace": "kdedge", "registry": self.registry}
        self.requests = Counter("requests", "Requests by route and status", ["route", "status"], **made)
        self.latency = Histogram(
            "request_seconds", "From the header of a request to its answer", ["route"], buckets=SECONDS, **made
        )
        self.in_flight = Gauge("requests_in_flight", "Requests that have no answer yet", **made)
        self.images = Counter("images", "Images by what became of them", ["outcome"], **made)
        self.decode = Histogram("decode_seconds", "Decoding and scaling one image", buckets=SHORT, **made)
        self.inference = Histogram("inference_seconds", "One run of the network", buckets=SHORT, **made)
        self.batch = Histogram("batch_images", "Images in one run of the network", buckets=BATCHES, **made)
        self.gone = Counter("disconnects", "Clients that left before their answer", **made)
        for outcome in ("classified", "refused", "dropped", "failed"):
            self.images.labels(outcome)  # a series begins at 0, not when it first counts
        Gauge("queue_images", "Images that are waited for", **made).set_function(waiting)
        Gauge("body_bytes", "Bytes of bodies in memory", **made).set_function(held)
        Info("model", "The model", **made).info(model)
        ProcessCollector(registry=self.registry)  # resident memory, CPU seconds, open files; nothing off Linux

    def page(self, accept: str) -> tuple[bytes, str]:
        """All of them in the format that the header Accept asks for, and its media type."""
        encode, kind = choose_encoder(accept)
        text: bytes = encode(self.registry)
        return text, kind
