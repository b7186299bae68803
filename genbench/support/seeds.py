"""Seeds: every stream of randomness is a pure function of the job's seed and the stream's purpose."""

import hashlib

MAX_SEED = 2**63 - 1


def derive_seed(*parts: int | str) -> int:
    """A seed in [0, 2**63) from the parts, equal in every process and on every platform.

    Derived by SHA-256, so that neighbouring seeds (0 and 1, step 7 and step 8) give unrelated streams.
    """
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
