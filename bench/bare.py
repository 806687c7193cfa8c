"""A bare aiohttp server: what it is sent is parsed as JSON, and that is all. What the node's door is measured beside.

Rules kept here: it listens on loopback, on the port that its only argument names.

Left to others: everything that the door does.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

__all__ = ["serve"]


def serve(port: int) -> None:
    """Serve until a signal ends it. Raises ImportError where aiohttp is not installed."""
    web: Any = importlib.import_module("aiohttp.web")

    async def post(request: Any) -> Any:
        await request.json()
        return web.json_response({"status": "accepted"}, status=202)

    async def ready(request: Any) -> Any:
        return web.Response()

    app = web.Application()
    app.router.add_get("/", ready)
    app.router.add_post("/inbox/{sender}", post)
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
