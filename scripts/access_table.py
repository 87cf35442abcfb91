"""Write docs/access.md from the table of routes: `python scripts/access_table.py`."""

from __future__ import annotations

from pathlib import Path

from sglang.srt.tenancy.http.routes import ROWS, Access, Row

REPOSITORY = Path(__file__).parent.parent
DOCUMENT = REPOSITORY / "docs" / "access.md"

# What says so of every route: on a server, or of those that it lacks in a process of the test.
ON_A_SERVER, IN_PROCESS = "test_access_http.py", "test_route_access.py"
NOT_ON_THE_SERVER = ("/v1/realtime", "/dumper/{method}")

# What besides says so of some, by path: a file below tests/, and a test in it.
BESIDES = {
    "/health": ("test_identity_http.py::test_without_a_key_nothing_is_told",),
    "/health_generate": ("test_identity_http.py::test_health_checks_share_an_answer",),
    "/metrics": ("test_identity_http.py::test_nothing_behind_an_open_path_is_open",),
    "/generate": (
        "test_identity_http.py::test_without_a_key_nobody_is_served",
        "test_request_intake.py::test_a_fault_is_refused",
    ),
    "/v1/chat/completions": ("test_identity_http.py::test_without_a_key_nobody_is_served",),
    "/v1/messages": ("test_identity_http.py::test_without_a_key_nobody_is_served",),
    "/invocations": ("test_identity_http.py::test_without_a_key_nobody_is_served",),
    "/v1/responses/{response_id}": (
        "test_isolation.py::test_a_stored_response_is_found_by_its_user_alone",
    ),
    "/v1/responses/{response_id}/cancel": (
        "test_request_intake.py::test_only_its_user_cancels_a_response",
    ),
    "/open_session": ("test_isolation.py::test_two_users_sessions_of_one_name_are_two",),
    "/close_session": ("test_isolation.py::test_a_session_is_closed_to_others",),
    "/v1/models": ("test_identity_http.py::test_without_a_key_nothing_is_told",),
    "/server_info": ("test_identity_http.py::test_what_others_do_is_told_to_operators",),
    "/get_server_info": ("test_identity_http.py::test_operators_need_their_key",),
    "/v1/loads": ("test_identity_http.py::test_what_others_do_is_told_to_operators",),
    "/get_load": ("test_identity_http.py::test_what_others_do_is_told_to_operators",),
    "/is_scaling_elastic_ep": ("test_identity_http.py::test_what_others_do_is_told_to_operators",),
    "/abort_request": ("test_identity_http.py::test_operators_need_their_key",),
    "/flush_cache": ("test_identity_http.py::test_operators_need_their_key",),
    "/tenant/stats": ("test_admin_endpoints.py::test_only_the_admin_key_opens_it",),
    "/tenant/tree": ("test_admin_endpoints.py::test_only_the_admin_key_opens_it",),
    "/tenant/public_prefixes": ("test_admin_endpoints.py::test_only_the_admin_key_opens_it",),
    "/tenant/users/{user_id:path}/cache": (
        "test_admin_endpoints.py::test_only_the_admin_key_opens_it",
    ),
    "/tenant/selftest": ("test_identity_http.py::test_operators_need_their_key",),
}

HEAD = """\
# Who may call what

Made by `python scripts/access_table.py` from `python/sglang/srt/tenancy/http/routes.py`.

| access | who may call it |
|---|---|
| open | anyone |
| user | where users hold keys (`--tenant-config`): a user's, the gateway's or the admin key; \
else whoever [`--tenant-anonymous`](identity.md) lets in |
| operator | the admin key, where users hold keys or the server has an admin key; else \
`--api-key`, if there is one; else anyone |
| admin | the admin key |

Without the key that is needed the answer is a 401, or 403 on a server that has no admin key. Where
upstream marks an endpoint as stricter than this table, the mark holds. HEAD needs no key where GET
needs none, nor does OPTIONS, which no endpoint answers. A path that no route has is a 404 for those
who may send requests, and so is anything below `/metrics`.

**Plugins.** With a route that is not in this table the server does not start, and names it.
`--tenant-user-routes PATH ...`, with paths as the plugin's code writes them (`/plugin/{name}`),
opens routes to users. Those for operators are listed as well, and their endpoints marked with
upstream's `@auth_level(AuthLevel.ADMIN_OPTIONAL)`. A route that is added after start-up is a 404,
and the log says so.
"""

TITLES = {
    Access.OPEN: "Open",
    Access.USER: "User",
    Access.OPERATOR: "Operator",
    Access.ADMIN: "Admin",
}


def document() -> str:
    """Return the whole of docs/access.md."""
    parts = [HEAD]
    for access, title in TITLES.items():
        parts += ["", f"## {title}", "", "| route | touches | tested by |", "|---|---|---|"]
        parts += [_line(row) for row in ROWS if row.access is access]
    return "\n".join(parts).replace("\n\n\n", "\n\n") + "\n"


def _line(row: Row) -> str:
    notes = f" (with `{row.only_with}`)" if row.only_with else ""
    notes += f" (or the path in `{row.renamed_by}`)" if row.renamed_by else ""
    route = f"{' '.join(row.methods.split())} `{row.path}`{notes}"
    return f"| {route} | {row.touches} | {', '.join(map(_shown, tests_of(row)))} |"


def tests_of(row: Row) -> tuple[str, ...]:
    """Name the tests of a route: a file below tests/, with `::` and a test or without."""
    all_of = IN_PROCESS if row.path in NOT_ON_THE_SERVER else ON_A_SERVER
    return (all_of, *BESIDES.get(row.path, ()))


def _shown(test: str) -> str:
    file, _, name = test.partition("::")
    return f"[{name or file}](../tests/{file})"


if __name__ == "__main__":
    DOCUMENT.write_text(document())
