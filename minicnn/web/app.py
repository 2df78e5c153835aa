"""The application: what is answered at which address."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.synthetic import CLASSES, synthetic
from ..explain.pictures import colours
from ..layers import Sequential
from .answers import OPACITY, Answers, png
from .counts import Counts
from .guard import Application, Guard, Hosts
from .limits import LIMITS, Limits
from .pages import Pages, static
from .upload import Gone, Memory, Receive, Refused, busy, read_upload
from .worker import Busy, Worker

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

CLIENT_GONE = 499  # nobody sees it but the counts
STATIC = {
    "style.css": "text/css; charset=utf-8",
    "noscript.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


def need(*modules: str) -> None:
    """Raise ImportError with the install line if a package of the extra ``web`` is missing."""
    from importlib import import_module

    try:
        for module in modules:
            import_module(module)
    except ImportError as error:
        raise ImportError(
            "the web page needs starlette, uvicorn, python-multipart and Pillow: "
            "pip install 'minicnn[web]'"
        ) from error


def application(
    model: Sequential,
    hosts: Hosts | None = None,
    facts: Mapping[str, str] | None = None,
    limits: Limits = LIMITS,
) -> Application:
    """Return the web application of a model, by the ASGI standard; `serve` runs it.

    hosts: the names under which it may be asked for; None, this machine's own alone.  facts: what
    the page about the network says besides what the model knows itself, name and text.  limits: of
    what strangers may have; those of connections are the server's.
    Raises ImportError without the extra ``web``, and ValueError for a model that takes no pictures.
    """
    need("starlette", "python_multipart", "PIL")
    return Site(model, facts or {}, limits).application(hosts or Hosts())


class Site:
    """All answers about one model."""

    def __init__(
        self, model: Sequential, facts: Mapping[str, str], limits: Limits = LIMITS
    ) -> None:
        self.limits = limits
        self.answers = Answers(model, limits)
        self.worker = Worker(limits.places)
        self.memory = Memory(limits.bodies)
        self.counts = Counts()
        pictures, labels = synthetic(len(CLASSES), seed=1)
        order = np.argsort(labels)
        self.samples = [png(pictures[i]) for i in order]
        self.files = {name: static(name) for name in STATIC}
        self.files["scale.png"] = png(scale())
        self.pages = Pages(model, CLASSES, facts, self.answers.why_blind, limits)

    def application(self, hosts: Hosts) -> Application:
        """Return it all as one ASGI application."""
        from starlette.applications import Starlette
        from starlette.exceptions import HTTPException
        from starlette.routing import Route

        inner = Starlette(
            routes=[
                Route("/", self.try_page),
                Route("/about", self.about_page),
                Route("/result", self.result_page, methods=["POST"]),
                Route("/samples/{number}.png", self.sample),
                Route("/samples/{number}", self.sample_page),
                Route("/static/{name}", self.file),
                Route("/api/predict", self.predict, methods=["POST"]),
                Route("/healthz", self.health),
                Route("/metrics", self.metrics),
            ],
            exception_handlers={
                Refused: self.refused,
                HTTPException: self.refused,
                Gone: gone,
                Exception: broken,
            },
            lifespan=self.lifespan,
        )
        inner.router.redirect_slashes = False
        return Guard(inner, hosts, self.counts, self.limits)

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        """At the end, let the worker finish what waits."""
        yield
        await asyncio.to_thread(self.worker.close)

    async def try_page(self, request: Request) -> Response:
        """Show the page to try the network."""
        return page(self.pages.answer())

    async def about_page(self, request: Request) -> Response:
        """Show the page about the network."""
        return page(self.pages.about(f"{request.url.scheme}://{request.headers['host']}"))

    async def result_page(self, request: Request) -> Response:
        """Answer a form, for browsers without scripts."""
        return page(self.pages.answer(await self.uploaded(request)))

    async def sample_page(self, request: Request) -> Response:
        """Answer about a sample, for browsers without scripts."""
        number = self.sample_number(request)
        answer = await self.look(self.samples[number], True, request.receive)
        return page(self.pages.answer(answer, sample=number))

    async def sample(self, request: Request) -> Response:
        """Give a sample picture."""
        from starlette.responses import Response

        data = self.samples[self.sample_number(request)]
        return Response(data, media_type="image/png", headers={"Cache-Control": "max-age=3600"})

    def sample_number(self, request: Request) -> int:
        """Return which sample is asked for."""
        number = request.path_params["number"]
        if number not in map(str, range(len(self.samples))):
            raise Refused(404, "There is no such sample.")
        return int(number)

    async def file(self, request: Request) -> Response:
        """Give one of the page's own files: a name is looked up in a table, not on the disk."""
        from starlette.responses import Response

        name = request.path_params["name"]
        if name not in self.files:
            raise Refused(404, "There is no such file.")
        kind = STATIC.get(name, "image/png")
        return Response(
            self.files[name], headers={"Content-Type": kind, "Cache-Control": "no-cache"}
        )

    async def predict(self, request: Request) -> Response:
        """Answer a picture with JSON."""
        from starlette.responses import JSONResponse

        asked = request.query_params.get("pictures", "yes")
        if asked not in ("yes", "no"):
            raise Refused(400, "pictures: expected yes or no.")
        return JSONResponse(await self.uploaded(request, asked == "yes"))

    async def health(self, request: Request) -> Response:
        """Say whether pictures are taken."""
        from starlette.responses import JSONResponse

        well = self.worker.thread.is_alive() and not self.worker.closing
        return JSONResponse({"status": "ok" if well else "stopping"}, 200 if well else 503)

    async def metrics(self, request: Request) -> Response:
        """Give the counts."""
        from starlette.responses import Response

        kind = "text/plain; version=0.0.4; charset=utf-8"
        return Response(self.counts.text(self.worker), headers={"Content-Type": kind})

    async def uploaded(self, request: Request, pictures: bool = True) -> dict[str, Any]:
        """Take in a picture and return the answer; its memory is counted until then."""
        headers = dict(request.scope["headers"])
        with self.memory.share() as take:
            data = await read_upload(headers, request.receive, take, self.limits)
            return await self.look(data, pictures, request.receive)

    async def look(self, data: bytes, pictures: bool, receive: Receive) -> dict[str, Any]:
        """Have the worker look at a picture; give up if that takes long, or the client has gone."""
        try:
            job = self.worker.submit(partial(self.answers, data, pictures))
        except Busy:
            raise busy("Many pictures are waiting already: try again.") from None
        answer, hung_up = asyncio.wrap_future(job), asyncio.ensure_future(hang_up(receive))
        answer.add_done_callback(look_away)
        try:
            return await first(answer, hung_up, job, self.limits.waiting_seconds)
        finally:
            hung_up.cancel()
            self.worker.withdraw(job)

    async def refused(self, request: Request, error: Any) -> Response:
        """Say in one sentence why a request isn't done: as JSON, or on a page to browsers."""
        from starlette.responses import JSONResponse

        if isinstance(error, Refused):
            status, text, headers = error.status, error.text, error.headers
        else:
            status, headers = error.status_code, dict(error.headers or {})
            text = {404: "There is nothing at this address.", 405: "That can't be done here."}.get(
                status, str(error.detail)
            )
        if request.scope["path"] == "/result" and status != 405:
            return page(self.pages.answer(problem=text), status, headers)
        if "text/html" in request.headers.get("accept", ""):
            return page(self.pages.problem(f"Error {status}", text), status, headers)
        return JSONResponse({"error": text}, status, headers)


def scale() -> np.ndarray:
    """Return the colours of an overlay from no heat to the most, (10, 120, 4) uint8."""
    heat = np.linspace(0, 1, 120)
    clear = (255 * OPACITY * heat).astype(np.uint8)[:, None]  # as much as overlay lets be seen
    return np.tile(np.concatenate([colours(heat), clear], axis=1), (10, 1, 1))


async def first(
    answer: asyncio.Future[Any], hung_up: asyncio.Future[Any], job: Future[Any], seconds: float
) -> Any:
    """Return a job's answer, raise its error, or `Gone`, or the refusal of one that waits long."""
    waited = False
    while True:
        done, _ = await asyncio.wait(
            {answer, hung_up},
            timeout=None if waited else seconds,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if answer in done:
            return answer.result()
        if hung_up in done:
            raise Gone
        if not job.running():
            raise busy("The pictures before this one take very long: try again.")
        waited = True


def look_away(answer: asyncio.Future[Any]) -> None:
    """Have an error count as seen: the client may have gone before there was one."""
    if not answer.cancelled():
        answer.exception()


async def hang_up(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def gone(request: Request, error: Exception) -> Response:
    """Return what nobody will see."""
    from starlette.responses import Response

    return Response(status_code=CLIENT_GONE)


async def broken(request: Request, error: Exception) -> Response:
    """Return what is said of our own faults; the guard writes them to the log."""
    from starlette.responses import JSONResponse

    return JSONResponse({"error": "Something went wrong in the server: its log says what."}, 500)


def page(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a page as an answer."""
    from starlette.responses import HTMLResponse

    return HTMLResponse(text, status, dict(headers or {}))
