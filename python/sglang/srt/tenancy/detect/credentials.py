"""Keys, tokens and passwords: what opens something."""

from __future__ import annotations

import math
import re
from collections import Counter

from sglang.srt.tenancy.detect.finding import Rule


def _token(pattern: str, *words: str) -> Rule:
    """Make a rule for an issuer's tokens. ``words``: lower-case parts of their beginning."""
    return Rule("key", re.compile(rf"(?<![A-Za-z0-9])(?:{pattern})"), words, _is_random)


def _is_random(item: str) -> bool:
    """Tell a token from a manual's: ``sk-xxxxxxxx``, ``ghp_your_token_here``."""
    tail = item[-16:]
    return len(set(tail)) >= 6 and not _PLACEHOLDER.search(item)


_PLACEHOLDER = re.compile(
    r"your|example|placeholder|redacted|change.?me|dummy|x{4}|\*{3}|\.\.\.|<|\$\{|\{\{|%\(|here$",
    re.IGNORECASE,
)
_PROSE = """
none null true false undefined nil string str int bytes required optional empty secret
password passwd token value input text hidden invalid incorrect wrong correct valid
expired strong weak reset protected forgotten needed missing encrypted hashed stored
"""
_NOT_A_VALUE = frozenset(_PROSE.split())


def _is_password(item: str) -> bool:
    """Tell a value behind ``password =`` from a name, a call, a type or a placeholder."""
    quoted = item[0] in "\"'`“「"
    value = item.strip("\"'`“”「」.,;")
    if len(value) < 4 or value.lower() in _NOT_A_VALUE or _PLACEHOLDER.search(value):
        return False
    if re.search(r"[()\[\]]|::|->|^(?:os|self|process|config|settings|env|args)\.", value):
        return False
    if quoted:
        return not re.fullmatch(r"[a-z]+(?: [a-z]+)+", value)
    # Unquoted words are prose or identifiers.
    return bool(re.search(r"[0-9]", value) or re.search(r"[A-Za-z][!@#$%^&*?][^ ]", value))


def _is_secret(item: str) -> bool:
    value = item.strip("\"'`")
    return _is_password(item) and len(value) >= 12 and _entropy(value) > 3.0


def _entropy(value: str) -> float:
    """Compute the bits to a character."""
    counts = Counter(value).values()
    return -sum(n / len(value) * math.log2(n / len(value)) for n in counts)


_VALUE = r"""(?P<it>"[^"\n]{4,100}"|'[^'\n]{4,100}'|`[^`\n]{4,100}`|[^\s"'`,;，。；、]{4,100})"""
_IS = r"""["']?\s{0,3}(?:=>|:=|[:=：]|\bis\b|\bwas\b|是|为)\s{0,3}"""

CREDENTIALS = (
    Rule(
        "private key",
        re.compile(r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----"),
        ("-----begin",),
    ),
    Rule(
        "private key",
        re.compile(r"PuTTY-User-Key-File-[0-9]:|AGE-SECRET-KEY-1[0-9A-Z]{58}"),
        ("putty-user", "age-secret"),
    ),
    _token(r"sk-(?:[a-z]{2,8}[0-9]{0,2}-){0,2}[A-Za-z0-9_-]{20,180}", "sk-"),
    _token(r"gh[pousr]_[A-Za-z0-9]{30,200}", "ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
    _token(r"github_pat_[A-Za-z0-9_]{40,200}", "github_pat_"),
    _token(r"gl(?:pat|dt|rt|ptt)-[A-Za-z0-9_-]{20,60}", "glpat-", "gldt-", "glrt-", "glptt-"),
    _token(r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])", "akia", "asia", "abia", "acca"),
    _token(r"AIza[A-Za-z0-9_-]{35}", "aiza"),
    _token(r"ya29\.[A-Za-z0-9_-]{20,200}", "ya29."),
    _token(r"xox[abeoprs]-[A-Za-z0-9-]{10,200}|xapp-[0-9]-[A-Za-z0-9-]{20,200}", "xox", "xapp-"),
    _token(r"hooks\.slack\.com/services/[A-Za-z0-9/]{30,80}", "hooks.slack"),
    _token(r"(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,200}", "sk_", "rk_", "pk_"),
    _token(r"SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{32,64}", "sg."),
    _token(r"hf_[A-Za-z0-9]{30,60}", "hf_"),
    _token(r"npm_[A-Za-z0-9]{36}", "npm_"),
    _token(r"pypi-[A-Za-z0-9_-]{50,200}", "pypi-"),
    _token(r"dop_v1_[a-f0-9]{64}", "dop_v1_"),
    _token(r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}", "shp"),
    _token(r"dapi[a-f0-9]{32}", "dapi"),
    _token(r"LTAI[A-Za-z0-9]{12,24}(?![A-Za-z0-9])|AKID[A-Za-z0-9]{28,36}", "ltai", "akid"),
    _token(r"key-[a-f0-9]{32}|(?:AC|SK)[a-f0-9]{32}(?![A-Za-z0-9])", "key-", "ac", "sk"),
    Rule("key", re.compile(r"(?<![0-9])[0-9]{8,10}:AA[A-Za-z0-9_-]{33}"), (":aa",), before=10),
    _token(r"eyJ[A-Za-z0-9_-]{10,200}\.eyJ[A-Za-z0-9_-]{10,40}", "eyj"),
    Rule(
        "key",
        re.compile(r"\b(?:Bearer|Basic)\s+(?P<it>[A-Za-z0-9._~+/=-]{16,200})"),
        ("bearer", "basic"),
        lambda item: _is_random(item) and _entropy(item) > 3.0 and bool(re.search(r"\d", item)),
    ),
    Rule(
        "key",
        re.compile(r"://[^\s:/@]{1,60}:(?P<it>[^\s:/@]{3,80})@"),
        ("://",),
        lambda item: (
            item.lower() not in ("password", "pass", "pw") and not _PLACEHOLDER.search(item)
        ),
    ),
    Rule(
        "key",
        re.compile(
            r"(?<![A-Za-z])(?:api[ _-]?key|api[ _-]?secret|access[ _-]?key(?:[ _-]?id)?|"
            r"secret[ _-]?key|"
            r"client[ _-]?secret|auth[ _-]?token|access[ _-]?token|refresh[ _-]?token|"
            r"private[ _-]?key|account[ _-]?key|secret|token|密钥|令牌)" + _IS + _VALUE,
            re.IGNORECASE,
        ),
        (
            "api",
            "access",
            "secret",
            "client",
            "auth",
            "refresh",
            "private",
            "account",
            "token",
            "密钥",
            "令牌",
        ),
        _is_secret,
    ),
    Rule(
        "password",
        re.compile(
            r"(?:(?<![A-Za-z])(?:passwords?|passwd|passphrase|passcode|pwd|pass|pin(?: code|"
            r" number)?)(?![A-Za-z])|"
            r"密码|口令|验证码)" + _IS + _VALUE,
            re.IGNORECASE,
        ),
        ("pass", "pwd", "pin", "密码", "口令", "验证码"),
        _is_password,
    ),
)
