"""Pictures with several people are decoded once: a 4K picture of AGORA takes half a second, its ten people none."""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import Future
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from posegen.benchmarks.readers.crop import read_picture


class PictureCache:
    """The last few decoded pictures, shared by threads; who asks for one that is being read waits for it.

    Args:
        size: pictures kept (25 MB each at 3840x2160).
    """

    def __init__(self, size: int = 4) -> None:
        self.size = size
        self._lock = Lock()
        self._pictures: OrderedDict[str, Future[NDArray[np.uint8]]] = OrderedDict()

    def __reduce__(self):  # a copy in another process starts empty
        return (PictureCache, (self.size,))

    def read(self, path: str) -> NDArray[np.uint8]:
        """The picture (H,W,3) uint8; raises what reading it raised, to everyone who asks."""
        with self._lock:
            future = self._pictures.get(path)
            mine = future is None
            if future is None:
                future = self._pictures[path] = Future()
                while len(self._pictures) > self.size:
                    self._pictures.popitem(last=False)
            else:
                self._pictures.move_to_end(path)
        if mine:
            try:
                future.set_result(read_picture(path))
            except BaseException as error:
                future.set_exception(error)
        return future.result()
