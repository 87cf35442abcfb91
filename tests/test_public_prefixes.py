"""Public prefixes on a real server: two replicas behind two HTTP processes, pages of 16 tokens,
and a chat template that adds to the end of every conversation."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.asks import Asker
from support.operator import Operator, fresh_admin_key, refusal_of
from support.patience import until
from support.prompts import fresh_prompt, fresh_user
from support.reload import reload
from support.server import Server

pytestmark = pytest.mark.server

PAGE = 16
ADMIN_KEY = fresh_admin_key()
PREFIXES = "/tenant/public_prefixes"

# It puts tools first, refuses a conversation in which no user speaks, and ends with a reminder:
# what it makes of a system message alone is a prefix of nothing.
TEMPLATE = """\
{%- if not messages | selectattr('role', 'equalto', 'user') | list %}
{{- raise_exception('a user has to speak') }}
{%- endif %}
{%- for tool in tools or [] %}
{{- '<|system|>' ~ tool.function.name ~ '<|end|>' }}
{%- endfor %}
{%- for message in messages %}
{{- '<|' ~ message.role ~ '|>' ~ message.content ~ '<|end|>' }}
{%- endfor %}
{{- '<|system|>be brief<|end|>' }}
{%- if add_generation_prompt %}
{{- '<|assistant|>' }}
{%- endif %}"""

FROM_FILE = fresh_prompt(80)
WARM_FILE = fresh_prompt(96)


def as_config(**texts: str) -> str:
    """The file that publishes these texts by name."""
    table = '[[public_prefixes]]\nname = "{}"\ntext = "{}"\n'
    return "".join(table.format(name, text) for name, text in texts.items())


@pytest.fixture(scope="module")
def config_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tenants.toml"
    path.write_text(as_config(from_file=FROM_FILE, warm_file=WARM_FILE) + "warm = true\n")
    return path


@pytest.fixture(scope="module")
def server(tiny_model: Path, config_file: Path) -> Iterator[Server]:
    template = config_file.with_name("template.jinja")
    template.write_text(TEMPLATE)
    with Server(
        tiny_model,
        *("--enable-tenant-cache", "--tenant-mode", "selective", "--enable-cache-report"),
        *("--admin-api-key", ADMIN_KEY, "--tenant-config", str(config_file)),
        *("--dp-size", "2", "--tokenizer-worker-num", "2", "--page-size", str(PAGE)),
        *("--tenant-detector", "none"),
        *("--max-total-tokens", "4096", "--chat-template", str(template)),
    ) as server:
        yield server


@pytest.fixture
def operator(server: Server) -> Operator:
    return Operator(server, ADMIN_KEY)


def cached(server: Server, prompt: str, user: str, rank: int = 0) -> int:
    """Tokens of the prompt that the user gets from a replica's cache."""
    reply = Asker(server).generate(text=prompt, user_id=user, routed_dp_rank=rank)
    return int(reply["meta_info"]["cached_tokens"])


def shared(server: Server, prefix: str, rank: int = 0) -> int:
    """Tokens that a stranger gets from the cache after another user sent the same prompt."""
    prompt = prefix + fresh_prompt(40)
    cached(server, prompt, fresh_user(), rank)
    return cached(server, prompt, fresh_user(), rank)


def chat(server: Server, messages: list[dict[str, str]], **body: Any) -> int:
    """Tokens of the conversation that a new user gets from the cache of one replica."""
    asker = Asker(server, headers={"X-Data-Parallel-Rank": "0"})
    body = {"model": "demo", "max_tokens": 1, "messages": messages, "user_id": fresh_user()} | body
    response = asker.post("/v1/chat/completions", body)
    response.raise_for_status()
    details = response.json()["usage"]["prompt_tokens_details"]
    return int(details["cached_tokens"]) if details else 0


def system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def test_what_is_not_published_stays_private(server: Server) -> None:
    assert shared(server, fresh_prompt(64)) == 0


@pytest.mark.parametrize("rank", [0, 1])
def test_the_files_prefix_is_public_from_the_start(server: Server, rank: int) -> None:
    assert shared(server, FROM_FILE, rank) == 80


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_who_asks_hits_a_warm_prefix(
    server: Server, operator: Operator, rank: int
) -> None:
    assert cached(server, WARM_FILE + fresh_prompt(20), fresh_user(), rank) == 96
    text = fresh_prompt(100)
    assert operator.publish(name=f"warm-{rank}", text=text, warm=True)["warm"] is True
    assert cached(server, text + fresh_prompt(20), fresh_user(), rank) == 96
    assert operator.publish(name=f"warm-{rank}", text=text, warm=True)["usable_tokens"] == 96
    operator.withdraw(f"warm-{rank}")
    # Nobody was first to compute it: it goes, instead of becoming anybody's.
    assert cached(server, text + fresh_prompt(20), fresh_user(), rank) == 0


def test_what_the_cache_has_no_room_for_is_not_said_to_be_warm(operator: Operator) -> None:
    body = {"name": "vast", "text": fresh_prompt(4090), "warm": True}
    message = refusal_of(operator.ask("POST", PREFIXES, body), 409, "warm")
    assert "vast is registered" in message
    operator.withdraw("vast")


@pytest.mark.parametrize("rank", [0, 1])
def test_a_text_is_public_on_every_replica_once_it_is_answered(
    server: Server, operator: Operator, rank: int
) -> None:
    text = fresh_prompt(70)
    assert operator.publish(name=f"text-{rank}", text=text) == {
        "name": f"text-{rank}",
        "tokens": 70,
        "usable_tokens": 64,
        "source": "text",
        "origin": "request",
    }
    assert shared(server, text, rank) == 64
    assert shared(server, text[:40] + fresh_prompt(40), rank) == 32


def test_token_ids_are_public(server: Server, operator: Operator) -> None:
    text = fresh_prompt(64)
    answer = operator.publish(input_ids=list(text.encode()))
    assert (answer["tokens"], answer["source"]) == (64, "input_ids")
    assert answer["name"] in operator.prefixes()
    assert shared(server, text) == 64


def test_messages_are_a_prefix_of_every_conversation_that_begins_with_them(
    server: Server, operator: Operator
) -> None:
    begin = [system(fresh_prompt(62))]
    # The letters, a token that opens the message, and one that closes it.
    assert operator.publish(messages=begin)["tokens"] == 64
    chat(server, [*begin, user("hi")])
    assert chat(server, [*begin, user("\n\n good day")]) == 64
    assert chat(server, [*begin, {"role": "assistant", "content": "yes?"}, user("no")]) == 64


def test_a_conversation_with_turns_is_public_to_its_last_turn(
    server: Server, operator: Operator
) -> None:
    begin = [system(fresh_prompt(30)), user("one"), {"role": "assistant", "content": "x" * 41}]
    assert operator.publish(messages=begin)["tokens"] == 80
    chat(server, [*begin, user("hi")])
    assert chat(server, [*begin, user("lo")]) == 80


def test_tools_are_rendered_as_requests_render_them(server: Server, operator: Operator) -> None:
    name = fresh_prompt(46).replace(" ", "_")
    tools = [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}]
    begin = [system(fresh_prompt(30))]
    assert operator.publish(messages=begin, tools=tools)["tokens"] == 80
    chat(server, [*begin, user("hi")], tools=tools)
    assert chat(server, [*begin, user("lo")], tools=tools) == 80
    chat(server, [*begin, user("hi")])
    assert chat(server, [*begin, user("lo")]) == 0


def test_every_http_process_lists_what_the_schedulers_have(operator: Operator) -> None:
    text = fresh_prompt(33)
    operator.publish(name="listed", text=text)
    lists = [operator.ask("GET", PREFIXES) for _ in range(12)]
    assert {answer.status_code for answer in lists} == {200}
    assert len({answer.text for answer in lists}) == 1
    assert text not in lists[0].text
    listed = operator.prefixes()
    assert listed["listed"]["tokens"] == 33
    assert (listed["from_file"]["origin"], listed["from_file"]["source"]) == ("config", "text")


def test_publishing_twice_changes_nothing(operator: Operator) -> None:
    text = fresh_prompt(33)
    first = operator.publish(name="twice", text=text)
    before = operator.prefixes()
    assert operator.publish(name="twice", text=text) == first
    assert operator.prefixes() == before
    refused = operator.ask("POST", PREFIXES, {"name": "twice", "text": fresh_prompt(33)})
    refusal_of(refused, 409, "name")


def test_a_withdrawn_prefix_is_private_again(server: Server, operator: Operator) -> None:
    text = fresh_prompt(64)
    operator.publish(name="one", text=text)
    operator.publish(name="other", text=text)
    assert shared(server, text) == 64
    assert operator.withdraw("one") == {"name": "one", "deleted": True}
    assert shared(server, text) == 64
    by_body = operator.ask("DELETE", PREFIXES, {"name": "other"})
    assert by_body.status_code == 200
    assert shared(server, text) == 0
    refusal_of(operator.ask("DELETE", f"{PREFIXES}?name=other"), 404, "name")


def test_names_of_one_page_hold_it_together(server: Server, operator: Operator) -> None:
    text = fresh_prompt(32)
    operator.publish(name="short", text=text)
    operator.publish(name="longer", text=text + "more")
    operator.withdraw("short")
    assert shared(server, text) == 32
    operator.withdraw("longer")
    assert shared(server, text) == 0


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        ({}, "text", "give one of"),
        ({"text": "x" * 32, "input_ids": [1]}, "input_ids", "give one of them"),
        ({"text": ""}, "text", "non-empty"),
        ({"text": ["x"]}, "text", "non-empty"),
        ({"text": "x" * 15}, "text", "one page of the cache (16)"),
        ({"text": "x" * 99_999}, "text", "the most"),
        ({"text": "x" * 32, "name": "a b"}, "name", "1 to 64"),
        ({"text": "x" * 32, "name": "x" * 65}, "name", "1 to 64"),
        ({"text": "x" * 32, "naem": "a"}, "naem", "known are"),
        ({"text": "x" * 32, "tools": [{}]}, "tools", "messages"),
        ({"input_ids": []}, "input_ids", "token ids"),
        ({"input_ids": [1, True]}, "input_ids", "integers"),
        ({"input_ids": [1, -1]}, "input_ids", "integers"),
        ({"input_ids": [1, 2**70]}, "input_ids", "integers"),
        ({"input_ids": [10**6] * 20}, "input_ids", "below"),
        ({"messages": "hi"}, "messages", "list"),
        ({"messages": [{"content": "hi"}]}, "messages", "role"),
        ({"messages": [{"role": "user"}]}, "messages", "content"),
        ({"messages": [{"role": "nobody", "content": "x" * 32}]}, "messages", ""),
        ({"messages": [system("x" * 32)], "tools": [{"a": 1}]}, "tools", "function"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "data:,"}}],
                    }
                ]
            },
            "messages",
            "",
        ),
        ([1], "body", "JSON object"),
    ],
)
def test_a_bad_prefix_is_refused_by_field(
    operator: Operator, body: Any, param: str, said: str
) -> None:
    before = operator.prefixes()
    assert said in refusal_of(operator.ask("POST", PREFIXES, body), 400, param)
    assert operator.prefixes() == before


def test_what_is_no_json_is_refused(operator: Operator) -> None:
    for content in (b"", b"{", b"\xff\xfe", b"null"):
        refusal_of(operator.ask("POST", PREFIXES, content=content), 400, "body")
    refusal_of(operator.ask("DELETE", PREFIXES), 400, "name")
    refusal_of(operator.ask("DELETE", PREFIXES, {"name": 7}), 400, "name")
    huge = operator.ask("POST", PREFIXES, content=b" " * (9 * 2**20))
    refusal_of(huge, 413, "body")


def test_a_reload_applies_the_difference(
    server: Server, operator: Operator, config_file: Path
) -> None:
    stays, goes, comes = (fresh_prompt(48) for _ in range(3))
    posted = fresh_prompt(48)
    operator.publish(name="posted", text=posted)
    operator.publish(name="taken", text=posted)
    reload(server, config_file, as_config(stays=stays, goes=goes))
    assert [shared(server, text) for text in (stays, goes, comes, posted)] == [48, 48, 0, 48]
    assert "from_file" not in operator.prefixes()
    refusal_of(operator.ask("DELETE", f"{PREFIXES}?name=stays"), 409, "name")

    changed = as_config(stays=stays, comes=comes, taken=goes[:32])
    reload(server, config_file, changed)
    assert [shared(server, text) for text in (stays, goes, comes, posted)] == [48, 32, 48, 48]
    assert operator.prefixes()["taken"]["origin"] == "config"

    not_reloaded = "Tenant config not reloaded, the old one stays: "
    before = operator.prefixes()
    reload(server, config_file, as_config(short="x"), f"{not_reloaded}public_prefixes")
    reload(server, config_file, as_config(a=comes) * 2, f"{not_reloaded}--tenant-config")
    assert operator.prefixes() == before
    assert shared(server, comes) == 48

    tiny = "[default]\ncache_share = 0.001\n"
    reload(server, config_file, tiny, f"{not_reloaded}--tenant-config: default.cache_share: 0.001")
    assert operator.prefixes() == before

    reload(server, config_file, "")
    assert [shared(server, text) for text in (stays, goes, comes, posted)] == [0, 0, 0, 48]


def test_a_reload_divides_memory_anew(
    server: Server, operator: Operator, config_file: Path
) -> None:
    alice = fresh_user()

    def held() -> int:
        """Of alice's, on the replica that served her."""
        replica = operator.json("GET", "/tenant/stats?owners=100")["replicas"][0]
        owners = replica["device"]["largest_owners"]
        return next(entry["tokens"] for entry in owners if entry["owner"] == name)

    for _ in range(3):
        cached(server, fresh_prompt(320), alice)
    name = operator.json("DELETE", f"/tenant/users/{alice}/cache")["user"]
    for _ in range(3):
        cached(server, fresh_prompt(320), alice)
    assert held() >= 960
    reload(server, config_file, f'[users."{alice}"]\ncache_share = 0.1\n')
    assert 300 < held() <= 409
    reload(server, config_file, "")
    cached(server, fresh_prompt(320), alice)
    assert held() > 600


def test_the_log_holds_no_prefix(server: Server, operator: Operator) -> None:
    text = fresh_prompt(64)
    operator.publish(name="quiet", text=text)
    operator.ask("POST", PREFIXES, {"name": "quiet", "text": text + "x" * 16})
    operator.ask("POST", PREFIXES, {"text": [text]})
    operator.withdraw("quiet")
    assert text not in server.log
    assert str(list(text.encode()))[:40] not in server.log
    assert FROM_FILE not in server.log


def test_an_erased_users_stored_responses_are_gone_from_every_http_process(
    server: Server, operator: Operator
) -> None:
    """Each process holds those that it answered."""
    asker, alice, bob = Asker(server), fresh_user(), fresh_user()

    def create(user: str) -> str:
        body = {"model": "demo", "input": "x", "max_output_tokens": 4, "user_id": user}
        reply = asker.post("/v1/responses", body, anew=True)
        assert reply.status_code == 200, reply.text
        return str(reply.json()["id"])

    def found(response: str, user: str) -> bool:
        """By any of several connections, each to either process."""
        path = f"/v1/responses/{response}"
        asks = (operator.ask("GET", path, params={"user_id": user}) for _ in range(12))
        return any(reply.status_code == 200 for reply in asks)

    hers, his = [create(alice) for _ in range(8)], create(bob)
    for response in hers:
        until(partial(found, response, alice), "its process was asked")
    operator.json("DELETE", f"/tenant/users/{alice}/cache")
    assert not any(found(response, alice) for response in hers)
    until(lambda: found(his, bob), "its process was asked")
