"""Networks are named ``family/name``; a name that does not exist is answered with its nearest neighbours."""

from difflib import get_close_matches
from functools import lru_cache

from kdedge.errors import ModelError

__all__ = ["FAMILIES", "known_names", "split_name", "suggest"]

FAMILIES = ("timm", "torchvision", "kdedge", "vggface2")


@lru_cache
def known_names(family: str) -> tuple[str, ...]:
    """All names of a family, without its prefix."""
    if family == "timm":
        import timm

        return tuple(timm.list_models())
    if family == "torchvision":
        import torchvision

        return tuple(torchvision.models.list_models(torchvision.models))
    return ("resnet50",) if family == "vggface2" else ("convnet9",)


def split_name(name: str, role: str) -> tuple[str, str]:
    """``"timm/resnet10t"`` to ``("timm", "resnet10t")``.

    Raises:
        ModelError: no such family or network; the message names up to three near ones.
    """
    family, _, network = name.partition("/")
    if family not in FAMILIES or not network:
        wanted = "family/name with family timm, torchvision, kdedge or vggface2"
        wanted += ", or onnx:FILE or run:DIR" if role == "teacher" else ""
        raise ModelError(f"unknown {role} {name!r}: expected {wanted}{suggest(name)}")
    # timm accepts a pretrained tag after a dot
    if network.partition(".")[0] not in known_names(family):
        raise ModelError(f"unknown {role} {name!r}: {family} has no such network{suggest(name)}")
    return family, network


def suggest(name: str) -> str:
    """The end of a sentence: ``"; did you mean A or B?"``, or a full stop if nothing is near."""
    everything = [f"{family}/{network}" for family in FAMILIES for network in known_names(family)]
    near = get_close_matches(name, everything, n=3, cutoff=0.6)
    if not near:
        family, _, network = name.rpartition("/")
        plain = {
            full.partition("/")[2]: full for full in reversed(everything) if family in ("", full.partition("/")[0])
        }
        near = [plain[match] for match in get_close_matches(network, plain, n=3, cutoff=0.6)]
    return f"; did you mean {' or '.join(near)}?" if near else "."
