"""The first convolution, of pictures with few channels, done channel by channel.

With C = 3, the rows of im2col would be copied in runs of nine numbers.  So the pictures are laid
out as planes first, (C, m, H, W), and the matrix of windows on its side, (KH*KW*C, pixels): each of
its rows is a shifted plane, one long run.  It also has a row of ones, whose weight is the bias, and
the pixels of its last columns reach over into the next row: computed, and not looked at.

Where max-pooling by 2 follows, even and odd columns are planes of their own: the two candidates
lie in two matrices, and their maximum is one call.

Pictures of type uint8 are normalized on the way.  The planes stay for the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ..geometry import Geometry, chunks
from ..memory import strided
from ..script import Script
from .products import add_gradient, write_product

CHUNK_BYTES = 2 << 20  # of windows


class Planar:
    """The calls of one convolution of stride 1 on few channels.

    pooled: whether max-pooling by 2 follows (and wants no output at odd borders).
    """

    def __init__(self, g: Geometry, pooled: bool) -> None:
        self.g, self.pooled = g, pooled
        self.phases = 2 if pooled else 1
        self.rows = g.OH // 2 * 2 if pooled else g.OH
        self.columns = g.OW // 2 if pooled else g.OW  # per phase
        (top, _), (left, _) = g.margins
        self.corner = top, left
        self.height = self.rows + g.KH - 1
        # Columns of a plane, of each phase: those that are read, and for the picture itself.
        reach = max(self.columns * self.phases + g.KW - 1, left + g.W)
        self.width = -(-reach // self.phases)
        self.pixels = self.rows * self.width  # of one picture and phase, borders included
        self.K = g.T * g.C + 1

    def parts(self, n: int) -> Iterator[slice]:
        """Cut n pictures into chunks whose windows stay in the cache."""
        each = (self.K + self.g.O) * self.phases * self.pixels * 4
        return chunks(n, each, CHUNK_BYTES)

    def write_w(
        self, job: Callable[..., None], k: np.ndarray, w: np.ndarray, b: np.ndarray | None
    ) -> None:
        """Write the filters as rows by channel and tap, then the bias: (K, O)."""
        g = self.g
        job(np.copyto, k[:-1].reshape(g.C, g.KH, g.KW, g.O), w.transpose(2, 0, 1, 3))
        if b is None:
            job(k[-1].fill, 0)
        else:
            job(np.copyto, k[-1], b)

    def planes(self, script: Script, n: int, use: str) -> np.ndarray:
        """Return room for n pictures as planes, with zeros around them: (C, phases, size).

        use: whose they are; forward leaves them there for backward.
        """
        # The shifted planes read a little beyond the end.
        size = n * self.height * self.width + self.g.KW
        return script.constant(("planes", use), (self.g.C, self.phases, size), 0)

    def forward(
        self,
        script: Script,
        x: np.ndarray,
        scale: tuple[np.ndarray, np.ndarray] | None,
        planes: np.ndarray,
        k: np.ndarray,
        put: Callable[[slice, np.ndarray], None],
    ) -> None:
        """Write the calls of y = conv(x, w) + b.

        x: (n, H, W, C).  scale: None, or factor and offset of each channel as rows, (W*C,), to
        normalize it with, x * factor - offset.  planes: from `planes`.  k: from `write_w`.  put:
        is called with each chunk and its y, (phases, m, rows, width, O), and writes what is to be
        done with it.
        """
        for part in self.parts(len(x)):
            m = part.stop - part.start
            self.fill(script, x[part], scale, planes, part)
            windows = self.windows(script, planes, part)
            y = script.new((self.phases, m, self.rows, self.width, self.g.O))
            write_product(script, windows.T, k, y.reshape(-1, self.g.O))
            script.free(windows)
            put(part, y)
            script.free(y)

    def fill(
        self,
        script: Script,
        x: np.ndarray,
        scale: tuple[np.ndarray, np.ndarray] | None,
        planes: np.ndarray,
        part: slice,
    ) -> None:
        """Write the pictures of a chunk into the planes, normalized."""
        g, m, (top, left), one = self.g, len(x), self.corner, planes.itemsize
        picture = self.height * self.width
        whole = strided(
            planes[:, :, part.start * picture :],
            (g.C, self.phases, m, self.height, self.width),
            (*planes.strides[:2], one * picture, one * self.width, one),
        )
        if scale is not None:
            floats = script.new(x.shape)
            lines = floats.reshape(-1, g.W * g.C)
            script(np.multiply, x.reshape(lines.shape), scale[0], lines)
            script(np.subtract, lines, scale[1], lines)
            x = floats
        seen = min(g.H, self.height - top)
        for phase in range(self.phases):
            first = (phase - left) % self.phases
            start = (left + first) // self.phases
            source = x[:, :seen, first :: self.phases].transpose(3, 0, 1, 2)
            inside = slice(start, start + source.shape[3])
            script(np.copyto, whole[:, phase, :, top : top + seen, inside], source)
        if scale is not None:
            script.free(x)

    def windows(self, script: Script, planes: np.ndarray, part: slice) -> np.ndarray:
        """Write im2col on its side: planes -> (K, phases*m*rows*width)."""
        g, m, one = self.g, part.stop - part.start, planes.itemsize
        picture = self.height * self.width
        windows = script.new((self.K, self.phases, m, self.pixels))
        taps = windows[:-1].reshape(g.C, g.KH, g.KW, self.phases, m, self.pixels)
        for phase in range(self.phases):
            for j in range(g.KW):
                shift, plane = divmod(phase + j, self.phases)
                source = strided(
                    planes[:, plane, part.start * picture + shift :],
                    (g.C, g.KH, m, self.pixels),
                    (planes.strides[0], one * self.width, one * picture, one),
                )
                script(np.copyto, taps[:, :, j, phase], source)
        script(windows[-1].fill, 1)
        return windows.reshape(self.K, -1)

    def backward(
        self,
        script: Script,
        n: int,
        planes: np.ndarray,
        get: Callable[[slice], np.ndarray],
        dw: np.ndarray,
        db: np.ndarray | None,
    ) -> None:
        """Write the calls of dw and db; for pictures nobody asks for dx.

        get: is called with each chunk, writes what makes its dy, (phases, m, rows, width, O), zero
        where nobody looked, and returns it.
        """
        g, dk, room = self.g, script.new((self.K, self.g.O)), None
        for part in self.parts(n):
            dy = get(part)
            windows = self.windows(script, planes, part)
            if part.start and room is None:
                room = script.like(dk)
            add_gradient(script, windows.T, dy.reshape(-1, g.O), dk, part.start == 0, room)
            script.free(windows, dy)
        script(np.copyto, dw.transpose(2, 0, 1, 3), dk[:-1].reshape(g.C, g.KH, g.KW, g.O))
        if db is not None:
            script(np.copyto, db, dk[-1])
        script.free(dk, room)
