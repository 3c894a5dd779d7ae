"""The binary files of wgpt, read for a comparison: safetensors and saved sessions."""
import json
import struct
from dataclasses import dataclass
from pathlib import Path

SESSION_MAGIC = b"wgptsess"
SHA256_BYTES = 32


class Number(str):
    """A number of JSON with its written digits: exact, and not equal to a string of the same characters."""

    __slots__ = ()

    def __eq__(self, other):
        return isinstance(other, Number) and str.__eq__(self, other)

    def __ne__(self, other):
        return not self == other

    __hash__ = str.__hash__


def read_json(text: str | bytes):
    """Parses JSON; numbers keep their written digits. Raises ValueError."""
    return json.loads(text, parse_float=Number, parse_int=Number, parse_constant=Number)


@dataclass(frozen=True)
class Tensor:
    """A tensor of a safetensors file: its little-endian bytes in row-major order."""

    dtype: str
    shape: tuple[int, ...]
    content: bytes

    def first_ids(self, n: int) -> list[int]:
        """Returns the first `n` elements of a tensor of integers."""
        code = {"I32": "i", "I64": "q"}[self.dtype]
        return [value for (value,) in struct.iter_unpack(f"<{code}", self.content)][:n]


def read_safetensors(content: bytes) -> tuple[dict, dict[str, Tensor]]:
    """Returns metadata and tensors. Raises ValueError or struct.error for another file."""
    (n,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8:8 + n])
    metadata = header.pop("__metadata__", {})
    start = 8 + n
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = Tensor(entry["dtype"], tuple(entry["shape"]), content[start + begin:start + end])
    return metadata, tensors


def read_input_ids(path: Path) -> list[int]:
    """Returns the first row of `input_ids` of a golden.safetensors."""
    tensors = read_safetensors(path.read_bytes())[1]
    ids = next(tensors[name] for name in ("input_ids", "0.input_ids") if name in tensors)
    return ids.first_ids(ids.shape[-1])


def read_session(content: bytes) -> tuple[int, dict, bytes]:
    """Returns the version of the format, the header, and tokens and pages without the two checksums.

    The checksums cover the header, which names the version of the program. Raises ValueError or struct.error.
    """
    if content[:8] != SESSION_MAGIC:
        raise ValueError("expected a saved session")
    version, n = struct.unpack_from("<II", content, 8)
    start = 16 + n
    return version, read_json(content[16:start]), content[start + SHA256_BYTES:len(content) - SHA256_BYTES]


def describe_values(old: Tensor, new: Tensor) -> str:
    """Describes the difference of two tensors of one shape and type."""
    if old.dtype != "F32":
        return "other bytes"
    pairs = zip(struct.iter_unpack("<f", old.content), struct.iter_unpack("<f", new.content))
    differences = [abs(a - b) for (a,), (b,) in pairs if a != b]
    n = len(old.content) // 4
    return f"{len(differences)} of {n} values differ, by at most {max(differences, default=0.0):.3e}"
