"""The sizes of encoded numbers, by the formulas of the docs."""

from __future__ import annotations

from actorq.learning.distributed.encoded import Codec, int8_blocks, top_k_count


def encoded_bytes(codec: Codec, size: int, *, number_bytes: int = 4, top_k_share: float = 0.01) -> int:
    """Exactly the `nbytes` of `size` numbers in this codec; `number_bytes` is what one takes in memory."""
    match codec:
        case "whole":
            return number_bytes * size
        case "float16" | "bfloat16":
            return 2 * size
        case "int8":
            return size + 4 * int8_blocks(size)
        case "top_k":
            return 8 * top_k_count(size, top_k_share)
