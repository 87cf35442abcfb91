"""Draw cases from the server's own OpenAPI document, as schemathesis does: as it says they are, and
as it says they are not."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any
from urllib.parse import quote, urlencode

import schemathesis
from cases import Case
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode

_METHODS_WITHOUT_BODY = ("GET", "HEAD", "DELETE")


def cases_of(
    document: dict[str, Any], routes: Collection[tuple[str, str]], number: int, start: int
) -> Iterator[Case]:
    """Draw so many cases for each operation and mode, at most.

    ``routes``: methods and paths that are asked; others are left out. ``start``: a seed.
    """
    schema = schemathesis.openapi.from_dict(document)
    for result in schema.get_all_operations():
        operation: Any = result.ok()  # type: ignore[union-attr]  # or it raises what is wrong
        if (operation.method.upper(), operation.path) not in routes:
            continue
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            strategy = operation.as_strategy(generation_mode=mode)
            yield from _drawn(strategy, number, start)


def _drawn(strategy: Any, number: int, start: int) -> list[Case]:
    found: list[Case] = []

    @seed(start)
    @settings(
        max_examples=number,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def draw(drawn: Any) -> None:
        found.append(_case(drawn))

    try:
        draw()
    except Exception as error:
        if "Unsatisfiable" not in type(error).__name__:
            raise
    return found[:number]


def _case(drawn: Any) -> Case:
    """Turn what schemathesis drew into a case of ours."""
    query = urlencode(_plain(drawn.query), doseq=True, errors="surrogatepass")
    path = quote(drawn.formatted_path, safe="/%:{}") + (f"?{query}" if query else "")
    method = drawn.method.upper()
    body = drawn.body
    if method in _METHODS_WITHOUT_BODY or type(body).__name__ == "NotSet":
        return Case(path, method=method)
    if isinstance(body, bytes):
        return Case(path, method=method, raw=body.decode("latin-1"))
    return Case(path, body, method=method)


def _plain(query: Any) -> dict[str, Any]:
    return {str(name): value for name, value in (query or {}).items()}
