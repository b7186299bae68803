"""The text encoder of a CLIP (Radford et al. 2021) from a local folder, frozen; its score is `genbench_clip.score`.

    genbench run -m ddpm -d scenes16 --condition text --encoder clip=FOLDER

Nothing is downloaded, and only safetensors are read.
"""

from collections.abc import Callable
from pathlib import Path

from genbench import hookimpl
from genbench_clip.text import ClipText

__all__ = ["ClipText", "register_encoders"]


@hookimpl
def register_encoders(register: Callable[[str, Callable[[Path | None], ClipText]], None]) -> None:
    register("clip", ClipText)
