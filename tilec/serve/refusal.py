"""How the service says no."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi.responses import JSONResponse

from tilec.serve.models import Problem, Refusal

WORDS = {
    400: "bad_request", 401: "unauthorized", 403: "forbidden", 404: "not_found",
    405: "method_not_allowed", 408: "timeout", 409: "conflict", 410: "draining", 411: "no_length",
    413: "too_large", 415: "not_json", 421: "wrong_host", 422: "invalid", 429: "too_many",
    503: "unavailable", 507: "quota",
}  # fmt: skip
DOCUMENTED: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": WORDS[status].replace("_", " ")}
    for status in (400, 401, 403, 404, 408, 409, 413, 415, 421, 422, 429, 503)
}
LONGEST = 500


class Refused(Exception):
    """An answer that is no success: its status, and a sentence for people."""

    def __init__(self, status: int, message: str, where: str | None = None, code: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.where = status, message[:LONGEST], where
        self.code = code or WORDS[status]

    def response(self, headers: Mapping[str, str] | None = None) -> JSONResponse:
        problem = Problem(code=self.code, message=self.message, where=self.where)
        known = {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}
        known |= {"Retry-After": "1"} if self.status in (429, 503) else {}
        body = Refusal(error=problem).model_dump()
        return JSONResponse(body, self.status, {**known, **(headers or {})})
