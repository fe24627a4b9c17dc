"""What TensorRT measured of its kernels, kept between builds: one file per version and compute capability.

It only makes the next build quicker. A cache of something else, or a damaged one, is not used and not an error.
"""

from pathlib import Path
from typing import Any

from dynadiff.base.files import atomic
from dynadiff.phantom.tree import cache_root


class TimingCache:
    def __init__(self, version: str, capability: str, folder: Path | None = None) -> None:
        self.path = (folder or cache_root().parent) / f"tensorrt-{version}-sm{capability}.timing"

    def attach(self, config: Any) -> None:
        """Give the builder what is known, or nothing."""
        known = self.path.read_bytes() if self.path.is_file() else b""
        for content in (known, b""):
            cache = config.create_timing_cache(content)
            if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
                return

    def keep(self, config: Any) -> None:
        """Write what the builder knows now; two builders at once leave one whole file."""
        cache = config.get_timing_cache()
        if cache is None:
            return
        with atomic(self.path) as new:
            new.write_bytes(memoryview(cache.serialize()))
