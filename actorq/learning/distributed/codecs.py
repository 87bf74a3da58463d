"""Gradient codecs: a vector in fewer bytes, and back, with an error that each codec bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from .encoded import (
    CODECS,
    INT8_BLOCK,
    Codec,
    Encoded,
    check,
    int8_blocks,
    require,
    top_k_count,
    unknown_codec,
)

_DTYPES: dict[torch.dtype, np.dtype[Any]] = {
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
}
_FLOAT32 = torch.finfo(torch.float32)
_LARGEST_SCALE = float(np.nextafter(np.float32(_FLOAT32.max / 127), np.float32(0)))  # 127 of it are finite
_MAX_TOP_K_SIZE = 2**32  # what a uint32 can tell apart
_SAMPLE_STRIDE = 61  # a prime: no layer's width makes the sample lie in one column


class Encoder:
    """Encodes one sender's vectors of one slice.

    All codecs but `top_k` are functions of the vector alone (`encode`). `top_k` sends the entries of largest
    magnitude and adds the others to the next vector (error feedback: Stich, Cordonnier and Jaggi 2018;
    Karimireddy et al. 2019), so that all it sent plus the residual is the sum of its inputs. A vector that is
    not finite is sent as such, for the receiver to refuse, and leaves nothing in the residual. The residual
    is on the CPU, in the vectors' dtype.

    Raises ValueError for an unknown codec, a dtype other than float32 and float64, and a share outside 0..1.
    """

    def __init__(
        self, codec: str, size: int, *, dtype: torch.dtype = torch.float32, top_k_share: float = 0.01
    ) -> None:
        if codec not in CODECS:
            raise ValueError(unknown_codec(codec))
        numpy_dtype(dtype)
        if not 0.0 < top_k_share <= 1.0:
            raise ValueError(f"top_k_share is {top_k_share}: it must lie above 0 and be at most 1")
        if codec == "top_k" and size > _MAX_TOP_K_SIZE:
            raise ValueError(f"top_k takes at most {_MAX_TOP_K_SIZE} numbers, not {size}: use more shards")
        self.codec = codec
        self.size = size
        self.dtype = dtype
        self._count = top_k_count(size, top_k_share)
        self._residual = torch.zeros(size, dtype=dtype) if codec == "top_k" else None

    def __call__(self, vector: Tensor) -> Encoded:
        """The vector [size], encoded into new memory; the vector may be overwritten afterwards.

        Raises ValueError, with nothing remembered, for another size or dtype.
        """
        if vector.shape != (self.size,) or vector.dtype != self.dtype:
            raise ValueError(
                f"the vector must be [{self.size}] {self.dtype}, not {list(vector.shape)} {vector.dtype}"
            )
        if self._residual is None:
            return encode(self.codec, vector)
        return self._encode_largest(self._residual + _plain(vector))

    def _encode_largest(self, total: Tensor) -> Encoded:
        indices = largest_magnitudes(total.numpy(), self._count)
        chosen = torch.from_numpy(indices)
        values, sent = _owned(self._count, np.float32)
        sent.copy_(_saturated(total[chosen], _FLOAT32.max))
        # NaN and infinity are the largest of all: if there are any, some are among those sent.
        if sent.isfinite().all():
            total[chosen] -= sent
            self._residual = total
        return Encoded("top_k", self.size, values, indices.astype(np.uint32))

    def give_back(self, encoded: Encoded) -> None:
        """Add a vector that was sent but not applied (refused, dropped) back to the residual; once each.

        The codecs without a residual drop it, and so does `top_k` with numbers that are not finite.
        """
        if self._residual is None or encoded.extra is None or not np.isfinite(encoded.values).all():
            return
        self._residual[_indices(encoded.extra)] += read_only_tensor(encoded.values)

    def state(self) -> dict[str, NDArray[Any]]:
        """A copy of the residual; empty for codecs that have none."""
        return {} if self._residual is None else {"residual": self._residual.numpy().copy()}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore a `state`. Raises ValueError, with nothing changed, if it is not of this encoder."""
        if (self._residual is None) != ("residual" not in state):
            raise ValueError(f"the state of another codec than {self.codec} can't be loaded")
        if self._residual is not None:
            require(state["residual"], "residual", numpy_dtype(self.dtype), self.size)
            self._residual = torch.from_numpy(state["residual"].copy())


def encode(codec: str, vector: Tensor) -> Encoded:
    """Encode a flat vector of float32 or float64 with a stateless codec: any but `top_k`.

    Deterministic. Finite numbers beyond the codec's range become its largest; NaN and infinity stay, or make
    `int8`'s scale NaN or infinite. Raises ValueError for a codec that is not one of these.
    """
    if codec not in _ENCODE:
        raise ValueError(f"{unknown_codec(codec)}; top_k needs an Encoder, which keeps what is not sent")
    return _ENCODE[codec](_plain(vector))


def decode(encoded: Encoded, out: Tensor) -> None:
    """Decode into `out`, a flat contiguous tensor of float32 or float64 on any device.

    Anything a peer may have sent is decoded or raises ValueError, with `out` unchanged. The result may have
    NaN and infinity: check the norm.
    """
    check(encoded, out.numel(), numpy_dtype(out.dtype))
    _DECODE[encoded.codec](encoded, out)


def view(encoded: Encoded, out: Tensor) -> Tensor | None:
    """The result of `decode` without a copy, for the codec `whole`; None for the others.

    It is the memory of a message: only read it. Raises ValueError as `decode` does.
    """
    check(encoded, out.numel(), numpy_dtype(out.dtype))
    return read_only_tensor(encoded.values) if encoded.codec == "whole" else None


def read_only_tensor(array: NDArray[Any]) -> Tensor:
    """A tensor of the array's memory, which it keeps alive. Never write to it: torch has no read-only
    tensors.

    `torch.from_numpy` warns of read-only arrays, such as those of messages.
    """
    return torch.from_numpy(np.asarray(_Unlocked(array)))


class _Unlocked:
    """An array's memory without its read-only flag, by numpy's array interface."""

    def __init__(self, array: NDArray[Any]) -> None:
        interface = array.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}
        self._array = array


def numpy_dtype(dtype: torch.dtype) -> np.dtype[Any]:
    """The dtype of a vector that codecs support: float32 or float64; ValueError for others."""
    if dtype not in _DTYPES:
        raise ValueError(f"vectors of {dtype} have no codec: use float32 or float64")
    return _DTYPES[dtype]


def largest_magnitudes(vector: NDArray[Any], count: int) -> NDArray[np.int64]:
    """The indices, ascending, of the `count` entries of largest magnitude; NaN is larger than all.

    Selects among those that are as large as the upper part of a sample, several times faster than among all;
    where the sample misleads, and they are too few, among all. The choice among equals is arbitrary.
    """
    magnitudes = np.abs(vector)
    sample = magnitudes[::_SAMPLE_STRIDE]
    rank = len(sample) - 1 - int(1.5 * count * len(sample) / max(1, len(vector)))
    if rank >= 0:
        # Whatever is not smaller: so NaN is taken too.
        candidates = np.flatnonzero(~(magnitudes < np.partition(sample, rank)[rank]))
    if rank < 0 or len(candidates) < count:
        candidates = np.arange(len(vector))
    first = len(candidates) - count
    if first:
        candidates = candidates[np.argpartition(magnitudes[candidates], first)[first:]]
    return np.sort(candidates)


def _encode_whole(vector: Tensor) -> Encoded:
    values = vector.numpy(force=True)
    if vector.device.type == "cpu":  # those are its own numbers; numpy copies them faster than torch
        values = np.array(values)
    return Encoded("whole", len(vector), values)


def _encode_half(codec: Codec, dtype: torch.dtype, carrier: DTypeLike, vector: Tensor) -> Encoded:
    values, target = _owned(len(vector), carrier)
    target.view(dtype).copy_(_saturated(vector, torch.finfo(dtype).max))
    return Encoded(codec, len(vector), values)


def _encode_int8(vector: Tensor) -> Encoded:
    values, target = _owned(len(vector), np.int8)
    scales, factors = _owned(int8_blocks(len(vector)), np.float32)
    for (rows, scale), (rounded, _) in zip(_blocks(vector, factors), _blocks(target, factors), strict=True):
        _quantize(rows, rounded, scale)
    return Encoded("int8", len(vector), values, scales)


def _quantize(rows: Tensor, rounded: Tensor, scale: Tensor) -> None:
    """Each row [n, width] in its own scale [n, 1], to the nearest integer, ties to even."""
    largest = torch.maximum(rows.amax(1, keepdim=True), -rows.amin(1, keepdim=True))
    scale.copy_(_saturated(largest / 127, _LARGEST_SCALE))
    scale.masked_fill_(scale < _FLOAT32.tiny, 0.0)  # a denormal is no exact scale
    divisor = torch.where(scale > 0, scale, 1.0)
    # The value for NaN doesn't matter: the scale is NaN as well.
    rounded.copy_(rows.div(divisor).round_().clamp_(-127, 127))


def _decode_values(encoded: Encoded, out: Tensor) -> None:
    out.copy_(read_only_tensor(encoded.values))


def _decode_bfloat16(encoded: Encoded, out: Tensor) -> None:
    out.copy_(read_only_tensor(encoded.values).view(torch.bfloat16))


def _decode_int8(encoded: Encoded, out: Tensor) -> None:
    assert encoded.extra is not None
    out.copy_(read_only_tensor(encoded.values))
    for rows, scale in _blocks(out, read_only_tensor(encoded.extra).to(out.device)):
        rows.mul_(scale)


def _decode_top_k(encoded: Encoded, out: Tensor) -> None:
    assert encoded.extra is not None
    out.zero_()
    out[_indices(encoded.extra).to(out.device)] = read_only_tensor(encoded.values).to(out)


def _indices(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(array.astype(np.int64))  # torch indexes with nothing narrower, unsigned


def _plain(vector: Tensor) -> Tensor:
    return vector.detach().cpu().contiguous()


def _owned(size: int, dtype: DTypeLike) -> tuple[NDArray[Any], Tensor]:
    """An array that owns its memory, so that a message takes it without a copy, and a tensor to fill it."""
    array = np.empty(size, dtype)
    return array, torch.from_numpy(array)


def _saturated(vector: Tensor, limit: float) -> Tensor:
    """Clamp finite numbers to ±limit; NaN and infinity stay, for the receiver to detect."""
    if not vector.numel():
        return vector
    lowest, highest = vector.aminmax()
    if lowest >= -limit and highest <= limit:
        return vector
    return torch.where(vector.isinf(), vector, vector.clamp(-limit, limit))


def _blocks(vector: Tensor, scales: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Blocks as rows [blocks, width], and their scales as a column: first the whole ones, then the rest."""
    whole = len(vector) // INT8_BLOCK
    if whole:
        yield vector[: whole * INT8_BLOCK].view(whole, INT8_BLOCK), scales[:whole, None]
    if len(vector) % INT8_BLOCK:
        yield vector[whole * INT8_BLOCK :][None], scales[whole:, None]


_ENCODE: dict[str, Callable[[Tensor], Encoded]] = {
    "whole": _encode_whole,
    "float16": partial(_encode_half, "float16", torch.float16, np.float16),
    "bfloat16": partial(_encode_half, "bfloat16", torch.bfloat16, np.uint16),
    "int8": _encode_int8,
}
_DECODE: dict[str, Callable[[Encoded, Tensor], None]] = {
    "whole": _decode_values,
    "float16": _decode_values,
    "bfloat16": _decode_bfloat16,
    "int8": _decode_int8,
    "top_k": _decode_top_k,
}
