"""What a server may be told: where it listens, whom it lets in, and how much it takes on."""

from dataclasses import dataclass

from kdedge.errors import RunError

__all__ = ["MAX_PIXELS", "Settings", "is_loopback"]

MAX_PIXELS = 50_000_000
"""As in :mod:`kdedge.preprocess`, which loads OpenCV."""

HELD = 4
"""Bodies of the greatest size that are in memory together, at most; smaller ones share that room."""

LEAST_HELD = 64 << 20


@dataclass(frozen=True)
class Settings:
    """Settings of one server.

    Attributes:
        host, port: where it listens; port 0 takes a free one.
        keys: API keys, any of which opens the API; none leaves it open.
        allow_hosts: names beside the loopback's that a request may be addressed to; see :meth:`hosts`.
        cors: origins (``https://example.org``) whose pages may call the API; ``*`` for all.
        page: whether the web page is served.
        download: whether the model file may be fetched, which the page needs to run it in the browser.
        max_bytes: of the body of a request.
        max_pixels: of an image, as its header has them.
        max_files: images of a request.
        queue: images that are waited for at any time; a request that does not fit is answered with 503.
        batch: images that go through the network at once, at most.
        window: milliseconds that an incomplete batch waits for more; 0 takes what is there.
        decoders: threads that decode.
        runners: threads that run the network; each lets onnxruntime use its own.
        timeout: seconds for the body of a request to arrive, and then for its answer.
        header_timeout: seconds for the header of a request to arrive.
        keep_alive: seconds that an idle connection stays open.
        connections: open at any time; one more is answered with 503 and closed.
        grace: seconds that running requests get when the server is stopped.

    Raises:
        RunError: a number that makes no sense.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    keys: tuple[str, ...] = ()
    allow_hosts: tuple[str, ...] = ()
    cors: tuple[str, ...] = ()
    page: bool = True
    download: bool = True
    max_bytes: int = 32 << 20
    max_pixels: int = MAX_PIXELS
    max_files: int = 32
    queue: int = 128
    batch: int = 8
    window: float = 0.0
    decoders: int = 2
    runners: int = 1
    timeout: float = 30.0
    header_timeout: float = 10.0
    keep_alive: int = 20
    connections: int = 512
    grace: float = 10.0

    def __post_init__(self) -> None:
        counts = ("max_bytes", "max_pixels", "max_files", "queue", "batch", "decoders", "runners", "connections")
        least = dict.fromkeys(counts, 1)
        for name, bound in {**least, "keep_alive": 0, "port": 0}.items():
            if (value := getattr(self, name)) < bound:
                raise RunError(f"{name.replace('_', '-')} is {value}; at least {bound} is needed.")
        if self.port > 65535:
            raise RunError(f"port is {self.port}; a number up to 65535 was expected.")
        for name in ("timeout", "header_timeout", "grace"):
            if not 0 < (value := getattr(self, name)) < float("inf"):
                raise RunError(f"{name.replace('_', '-')} is {value} seconds; a number above 0 was expected.")
        if self.queue < self.max_files:
            raise RunError(
                f"a queue of {self.queue} images can never take a request of {self.max_files}; give --queue at least "
                "the number of --max-files."
            )
        for origin in self.cors:
            if origin != "*" and (not origin.startswith(("http://", "https://")) or origin.count("/") != 2):
                raise RunError(f"cors {origin!r} is no origin; one like https://example.org was expected, or *.")
        if any(not key for key in self.keys):
            raise RunError("an API key is empty; give one of some length, or none at all.")

    @property
    def held_bytes(self) -> int:
        """Bytes of bodies that are in memory at any time, at most."""
        return max(LEAST_HELD, HELD * self.max_bytes)

    @property
    def loopback(self) -> bool:
        """Whether only programs on this machine reach it."""
        return is_loopback(self.host)

    def hosts(self) -> frozenset[str] | None:
        """Names that a request may be addressed to, in lower case; None allows all.

        A page of another site can have its own name resolve to 127.0.0.1 and so reach a local server from a browser (DNS
        rebinding); its requests still carry that name.
        """
        if not self.loopback and not self.allow_hosts:
            return None
        own = {"localhost", "127.0.0.1", "[::1]"} if self.loopback else set()
        bound = f"[{self.host}]" if ":" in self.host else self.host
        return frozenset(name.lower() for name in (*own, bound, *self.allow_hosts))


def is_loopback(host: str) -> bool:
    """Whether an address or name means this machine alone."""
    if host.lower() == "localhost":
        return True
    from ipaddress import ip_address  # loaded by no other command

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
