"""What is here for MONAI Label alone, which drives the bundles' configs with overrides of its own.

It makes `network_def` by itself, loads weights into it with `strict=False` and goes on with whatever it has then. For a
training it puts a `CheckpointLoader` first among the trainer's handlers. Asked for the run id "", it evaluates a whole
config, and so runs the trainer twice; the trainer does nothing the second time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from monai.handlers import CheckpointLoader
from torch import nn

if TYPE_CHECKING:
    from .lineage import Lineage


def note_start(handlers: Iterable[Any], lineage: Lineage) -> None:
    """Let a lineage know which weights the checkpoint loaders among handlers will start from."""
    for handler in handlers:
        if isinstance(handler, CheckpointLoader):
            lineage.start_from(handler.load_path)


class GuardedNetwork(nn.Module):
    """A network that `load_state_dict(..., strict=False)` never leaves with noise in a part.

    Attributes:
        accepts_parts: whether loading may leave parts as they are. True for a network that is to be fine-tuned
            (`checkpoints.initialise` sets it); False for one that is to segment.
    """

    accepts_parts = False

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights as any module does, but with `strict=False` refuse those that do not fit.

        Raises:
            ValueError: with `strict=False`, if there is a tensor that the network lacks, or none at all, or if one is
                missing and the network does not accept parts.
            RuntimeError: if a shape differs (another number of classes), or with `strict=True` a name.
        """
        if not strict:
            own = self.state_dict()
            unknown = [name for name in state_dict if name not in own]
            missing = [name for name in own if name not in state_dict]
            if unknown or not state_dict:
                found = f"such as {unknown[0]!r}" if unknown else "nothing"
                raise ValueError(
                    f"state_dict must hold tensors of this network, got {found}: the weights belong to another one."
                )
            if missing and not self.accepts_parts:
                raise ValueError(
                    f"state_dict must hold the whole network, but {len(missing)} of {len(own)} tensors are missing, "
                    f"such as {missing[0]!r}: pre-trained parts can be fine-tuned, not segmented with."
                )
        return super().load_state_dict(state_dict, strict, assign)
