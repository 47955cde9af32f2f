"""Tensors that say they are on CUDA and keep their values on the CPU, and what may be done with them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.data.meta_obj import MetaObj
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_iter, tree_map

DEVICE = torch.device("cuda", 0)
_aten = torch.ops.aten
_COPIES = {_aten.copy_.default, _aten._to_copy.default}
_INDEXING = {_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default, _aten._index_put_impl_.default}
# The size of what these return, or a value for the host, depends on values that are on the device.
_WAITING = {
    *("_local_scalar_dense", "equal", "is_nonzero", "nonzero", "masked_select", "bincount", "multinomial"),
    *("_unique2", "unique_dim", "unique_consecutive", "repeat_interleave"),
}
# Take a scalar of the host though they are not pointwise.
_TAKING_SCALARS = {"fill_", "masked_fill", "masked_fill_", "index_fill", "index_fill_", "_local_scalar_dense"}
_HostGenerator = torch.Generator


class DeviceError(RuntimeError):
    """What fails on a GPU, too."""


class Waiting:
    """Whether it is an error that the host waits for the device."""

    is_error = False

    @classmethod
    def check(cls, reason: str) -> None:
        """Raise a DeviceError if the host waits, for which there is a reason then, and that is an error."""
        if reason and cls.is_error:
            raise DeviceError(f"the host waits for the device: {reason}")


class Generator(_HostGenerator):
    """A generator of the CPU or of the simulated device.

    A bit of its seed says which: operations get another Python object, without our attributes.
    """

    _MARK = 2**62

    def __new__(cls, device: Any = "cpu") -> Generator:
        own = _HostGenerator.__new__(cls, device="cpu")
        if torch.device(device).type == DEVICE.type:
            _HostGenerator.manual_seed(own, cls._MARK)
        return own

    def __init__(self, device: Any = "cpu") -> None:
        pass

    def manual_seed(self, seed: int) -> Generator:
        super().manual_seed(seed % self._MARK | self.initial_seed() & self._MARK)
        return self

    @classmethod
    def is_of_device(cls, generator: _HostGenerator) -> bool:
        return bool(generator.initial_seed() & cls._MARK)


class OnDevice(Tensor):
    """A tensor of the simulated device.

    Args:
        on_host: its values.
    """

    @staticmethod
    def __new__(cls, on_host: Tensor, *_: Any, **__: Any) -> OnDevice:
        layout = {"strides": on_host.stride(), "storage_offset": on_host.storage_offset(), "dtype": on_host.dtype}
        return Tensor._make_wrapper_subclass(cls, on_host.size(), device=DEVICE, requires_grad=False, **layout)

    def __init__(self, on_host: Tensor) -> None:
        self._on_host = on_host

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(operation, args, kwargs or {})

    def as_subclass(self, cls: type) -> Tensor:
        assert not self.requires_grad  # the graph would be lost
        wanted = MetaOnDevice if issubclass(cls, MetaTensor) else OnDevice
        return self if type(self) is wanted else wanted(self._on_host)

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(torch.tensor(index) if isinstance(index, list) else index)

    def tolist(self) -> Any:
        return self._read("tolist").tolist()

    def pin_memory(self, *_: Any) -> Tensor:
        raise DeviceError("only memory of the host can be pinned")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._on_host})"

    def __format__(self, spec: str) -> str:
        return format(self._read("format").item() if self.dim() == 0 else repr(self), spec)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        own: Tensor = type(self)(self._on_host.clone())
        return torch.nn.Parameter(own, self.requires_grad) if isinstance(self, torch.nn.Parameter) else own

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._read("pickle").__reduce_ex__(protocol)  # a real file would name the device

    def _read(self, what: str) -> Tensor:
        """Return the values for the host, which waits for them."""
        Waiting.check(what)
        return self._on_host


class MetaOnDevice(MetaTensor, OnDevice):
    """The same with MONAI's metadata."""

    __new__ = OnDevice.__new__
    __torch_dispatch__ = OnDevice.__dict__["__torch_dispatch__"]

    def __init__(self, on_host: Tensor, *args: Any, **kwargs: Any) -> None:
        if isinstance(on_host, OnDevice):  # MONAI makes one of a tensor without metadata
            MetaTensor.__init__(self, on_host, *args, **kwargs)
            on_host = on_host._on_host
        else:
            MetaObj.__init__(self)
        self._on_host = on_host

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        plain = [MetaTensor if kind is MetaOnDevice else kind for kind in types]
        return MetaTensor.__torch_function__(function, plain, args, kwargs)

    def copy_meta_from(self, input_objs: Any, *args: Any, **kwargs: Any) -> Any:
        on_host = self.__dict__.get("_on_host")  # which the attributes of the other one would replace
        super().copy_meta_from(input_objs, *args, **kwargs)
        self._on_host = on_host
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> MetaOnDevice:
        own = MetaOnDevice(self._on_host.clone())
        own.meta, own.applied_operations = copy.deepcopy(self.meta), copy.deepcopy(self.applied_operations)
        return own


class SimulatedDevice(TorchDispatchMode):
    """Takes what is asked of a device where no operand tells: new tensors, and copies to it."""

    _mode_key = torch._C._TorchDispatchModeKey.FAKE  # under which torch does not look for a driver

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(operation, args, kwargs or {})


def compute(operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Compute an operation on the CPU, if a GPU would.

    Raises:
        DeviceError: if it mixes devices, or the host would wait and that is an error.
    """
    tensors = [value for value in tree_iter((args, kwargs)) if isinstance(value, Tensor)]
    given = any(isinstance(value, OnDevice) for value in tensors)
    asked = None if kwargs.get("device") is None else torch.device(kwargs["device"]).type == DEVICE.type
    if given:
        _check_devices(operation, args, tensors)
    if given or asked:
        Waiting.check(_waits(operation, args, kwargs))
    of_device = given or bool(asked)
    for generator in (value for value in tree_iter((args, kwargs)) if isinstance(value, _HostGenerator)):
        if Generator.is_of_device(generator) != of_device:
            raise DeviceError(f"{operation} has a generator of the other device")
    host_options = {"device": torch.device("cpu"), "pin_memory": False}  # memory cannot be pinned without CUDA
    options = {name: host_options.get(name, value) for name, value in kwargs.items()}
    result = operation(*tree_map(_on_host, args), **tree_map(_on_host, options))
    if operation in _COPIES and asked is None:
        of_device = isinstance(args[0], OnDevice)
    elif asked is not None:
        of_device = asked
    if not of_device:
        if kwargs.get("pin_memory"):
            result.was_pinned = True
        return result
    kind = MetaOnDevice if any(isinstance(value, MetaTensor) for value in tensors) else OnDevice
    result = tree_map(lambda value: kind(value) if type(value) is Tensor else value, result)
    return return_and_correct_aliasing(operation, args, kwargs, result) if given else result


def _on_host(value: Any) -> Any:
    return value._on_host if isinstance(value, OnDevice) else value


def _check_devices(operation: Any, args: Sequence[Any], tensors: Sequence[Tensor]) -> None:
    if operation in _COPIES:
        return
    name = operation._schema.name.removeprefix("aten::")
    if operation in _INDEXING and isinstance(args[0], OnDevice):
        tensors = [value for value in args[2:] if isinstance(value, Tensor)]  # indices may be the host's, too
        takes_scalars = True
    else:
        takes_scalars = torch.Tag.pointwise in operation.tags or name in _TAKING_SCALARS or name.startswith("_foreach_")
    written = [
        given
        for argument, given in zip(operation._schema.arguments, args, strict=False)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    wrong = [
        tuple(value.shape)
        for value in tensors
        if not isinstance(value, OnDevice)
        and (value.dim() > 0 or not takes_scalars or any(value is other for other in tree_iter(written)))
    ]
    if wrong:
        raise DeviceError(f"{operation} has operands of both devices; those on the host are of shape {wrong}")


def _waits(operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Say why the host waits for the device in an operation; empty if it does not."""
    name = operation._schema.name.removeprefix("aten::")
    if name in _WAITING and kwargs.get("output_size") is None:
        return name
    if operation in _INDEXING:
        indices = [value for value in args[1] if isinstance(value, Tensor)]
        if any(not isinstance(value, OnDevice) for value in indices):
            return f"{name} with indices of the host"
        value = args[2] if len(args) > 2 else None
        fills = value is not None and value.numel() == 1 and not isinstance(value, OnDevice)  # as masked_fill does
        if any(index.dtype in (torch.bool, torch.uint8) for index in indices) and not (fills and len(indices) == 1):
            return f"{name} with a mask"
    if operation is _aten._to_copy.default and kwargs.get("device") is not None:
        there = torch.device(kwargs["device"]).type == DEVICE.type
        return name if there != isinstance(args[0], OnDevice) and not kwargs.get("non_blocking") else ""
    if operation is _aten.copy_.default and isinstance(args[0], OnDevice) != isinstance(args[1], OnDevice):
        return "" if [*args[2:], kwargs.get("non_blocking")][0] else name
    return ""
