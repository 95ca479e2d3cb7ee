"""What callers send: JSON bodies and numbers in queries."""

from typing import Any

from aiohttp import web

from sandbox.api_error import ApiError


async def json_object(request: web.Request) -> dict[str, Any]:
    """The body, which must be a JSON object; its values may be anything. Raises ApiError."""
    try:
        body = await request.json()
    except ValueError:
        raise ApiError(400) from None
    if not isinstance(body, dict):
        raise ApiError(400)
    return body


def query_number(request: web.Request, name: str, default: int, *, least: int = 1, most: int | None = None) -> int:
    """A whole number in the query. Raises ApiError."""
    text = request.query.get(name, str(default))
    if not text.isdecimal() or int(text) < least or (most is not None and int(text) > most):
        raise ApiError(400)
    return int(text)
