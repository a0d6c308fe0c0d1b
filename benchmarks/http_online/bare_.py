"""A bare Starlette handler that does the same reads with the same stores: on LMDB on the event loop, on Redis in
Starlette's threads. What a server costs beyond it is what it does beyond it."""

import sys
from typing import Any

from measure import arguments, report

from http_online import load

PATH = "/vectors"


def main() -> None:
    """Serve, or start a server, ask and report."""
    options = arguments(__doc__, load.options)
    folder = options.work / ("grange-redis" if options.redis else "grange-lmdb")
    if options.prepare:
        report(seconds=0.0)  # its stores are those that Grange loaded
    if options.serve:
        serve(folder, options.serve, in_threads=bool(options.redis))
        return
    port = load.free_port()
    command = [sys.executable, "-m", "http_online.bare_", *sys.argv[1:], "--serve", str(port)]
    with load.running(command, port, log=folder / "bare.log"):
        first = load.asked(port, PATH, {"features": "bench", "rows": [{"user_id": 1}]})["features"][0]
        found = load.measured(port, PATH, "grange", options)
    total = round(sum(value for name, value in first.items() if name.startswith("g")), 6)
    report(**found, values=len(first), checksum=total)


def serve(folder: Any, port: int, *, in_threads: bool) -> None:
    """The handler, under uvicorn with uvloop and httptools, as the server has them."""
    import msgspec
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    import grange as gr

    store = gr.FeatureStore(folder)
    decode, encode = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode

    def read(body: bytes) -> bytes:
        asked = decode(body)
        return encode({"features": store.get_online_features(asked["features"], asked["rows"]).to_dicts()})

    async def vectors(request: Request) -> Response:
        body = await request.body()
        found = await run_in_threadpool(read, body) if in_threads else read(body)
        return Response(found, media_type="application/json")

    app = Starlette(routes=[Route(PATH, vectors, methods=["POST"])])
    uvicorn.run(app, port=port, log_level="warning", access_log=False)


main()
