"""Numbers that stand for somebody: cards, accounts, national ids, telephones.

Each is found by its form and then proved: by its check digits where it has some, by a word
beside it where it has none. python-stdnum knows the check digits, phonenumbers the plans of
the world's telephone numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import phonenumbers
from stdnum import iban as stdnum_iban
from stdnum import luhn
from stdnum.br import cpf
from stdnum.ca import sin
from stdnum.ch import ssn as ahv
from stdnum.de import idnr
from stdnum.es import dni, nie
from stdnum.fi import hetu
from stdnum.fr import nir
from stdnum.gb import nhs
from stdnum.in_ import aadhaar, pan
from stdnum.iso7064 import mod_11_2
from stdnum.it import codicefiscale
from stdnum.kr import rrn
from stdnum.mx import curp
from stdnum.nl import bsn
from stdnum.pl import pesel
from stdnum.se import personnummer
from stdnum.us import ssn

from sglang.srt.tenancy.detect.finding import Rule

_CARD_LENGTHS = {
    "2": (16,),
    "3": (14, 15, 16),
    "4": (13, 16, 19),
    "5": (16,),
    "6": (16, 17, 18, 19),
}


def _is_card(item: str) -> bool:
    digits = re.sub(r"[ -]", "", item)
    if len(digits) not in _CARD_LENGTHS.get(digits[0], ()):
        return False
    return len(set(digits)) > 1 and luhn.is_valid(digits)


def _is_iban(item: str) -> bool:
    # Words in capitals may follow: cut at the spaces, from the longest on.
    groups = item.split(" ")
    return any(
        stdnum_iban.is_valid("".join(groups[:count]), check_country=False)
        for count in range(len(groups), 0, -1)
    )


def _is_phone(item: str) -> bool:
    regions: tuple[str | None, ...] = (None,) if item.startswith(("+", "00")) else _REGIONS
    text = f"+{item[2:]}" if item.startswith("00") else item
    return any(_valid_in(text, region) for region in regions)


# Where a number without a country's prefix may be from.
_REGIONS = ("US", "CN", "GB", "DE", "FR", "IN", "ES", "IT", "AU", "BR", "JP")


def _valid_in(text: str, region: str | None) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(text, region))
    except phonenumbers.NumberParseException:
        return False


def _is_chinese_id(item: str) -> bool:
    # stdnum's own check wants the district to be one of today's; people keep old ones.
    year, month, day = int(item[6:10]), int(item[10:12]), int(item[12:14])
    return (
        1900 <= year < 2100
        and 1 <= month <= 12
        and 1 <= day <= 31
        and mod_11_2.is_valid(item.upper())
    )


def _hong_kong_id(item: str) -> bool:
    letters, digits, check = re.fullmatch(r"([A-Z]{1,2})(\d{6})\(?([\dA])\)?", item).groups()  # type: ignore[union-attr]
    values = [ord(letter) - 55 for letter in letters.rjust(2, " ").replace(" ", "[")]
    values += map(int, digits)
    total = sum(value * weight for value, weight in zip(values, range(9, 1, -1), strict=True))
    return (total + (10 if check == "A" else int(check))) % 11 == 0


_TAIWAN = "ABCDEFGHJKLMNPQRSTUVXYWZIO"


def _taiwan_id(item: str) -> bool:
    region = _TAIWAN.index(item[0]) + 10
    digits = [region // 10, region % 10, *map(int, item[1:])]
    weights = (1, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1)
    return sum(digit * weight for digit, weight in zip(digits, weights, strict=True)) % 10 == 0


def _id(
    pattern: str,
    check: Callable[[str], bool],
    near: str = "",
    kind: str = "national id",
) -> Rule:
    """Make an id's rule. ``near``: what has to stand before it, if its form alone says little."""
    before = f"(?i:{near})[^\\n\\d]{{0,40}}?" if near else ""
    return Rule(
        kind,
        re.compile(rf"{before}(?<![A-Za-z0-9_-])(?P<it>{pattern})(?![A-Za-z0-9_-])"),
        check=check,
        digits=True,
    )


def _any(_: str) -> bool:
    return True


NUMBERS = (
    Rule(
        "card",
        re.compile(r"(?<![0-9A-Za-z_.-])[2-6](?:[ -]?[0-9]){12,18}(?![0-9A-Za-z_])"),
        check=_is_card,
        digits=True,
    ),
    Rule(
        "iban",
        re.compile(
            r"(?<![0-9A-Za-z])[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?"
            r"(?![0-9A-Za-z])"
        ),
        check=_is_iban,
        digits=True,
    ),
    Rule(
        "account",
        re.compile(
            r"\b(?:account|acct|routing|sort code|a/c)\b(?:[ .:#-]*(?:number|no|num|is|nr)\b)*"
            r"[ .:#=-]{0,5}(?P<it>[0-9](?:[ -]?[0-9]){5,16})(?![0-9])",
            re.IGNORECASE,
        ),
        ("account", "acct", "routing", "sort code", "a/c"),
    ),
    Rule(
        "account",
        re.compile(
            r"(?:账号|帐号|账户|卡号|银行卡)[^\n0-9]{0,12}(?P<it>[0-9](?:[ -]?[0-9]){7,18})"
        ),
        ("账", "帐", "卡号", "银行卡"),
    ),
    # National ids that their form or their check digits give away
    _id(r"[0-9]{3}-[0-9]{2}-[0-9]{4}", ssn.is_valid),
    _id(
        r"[0-9]{9}|[0-9]{3} [0-9]{2} [0-9]{4}",
        lambda item: ssn.is_valid(item.replace(" ", "")),
        near=r"\bssn\b|social security",
    ),
    Rule(
        "national id",
        re.compile(r"(?<![0-9A-Za-z])[1-9][0-9]{5}(?:19|20)[0-9]{9}[0-9Xx](?![0-9A-Za-z])"),
        check=_is_chinese_id,
        digits=True,
    ),
    _id(r"[A-Z]{1,2}[0-9]{6}\([0-9A]\)", _hong_kong_id),
    _id(r"[A-Z][12][0-9]{8}", _taiwan_id),
    _id(
        r"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2}"
        r" ?[A-D]",
        _any,
    ),
    _id(
        r"[A-Z]{6}[0-9LMNP-V]{2}[A-EHLMPRST][0-9LMNP-V]{2}[A-Z][0-9LMNP-V]{3}[A-Z]",
        codicefiscale.is_valid,
    ),
    _id(r"[0-9]{8}-?[A-Z]", dni.is_valid),
    _id(r"[XYZ]-?[0-9]{7}-?[A-Z]", nie.is_valid),
    _id(r"[12] ?[0-9]{2} ?[0-9]{2} ?[0-9][0-9AB] ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}", nir.is_valid),
    _id(r"[0-9]{4}[ -][0-9]{4}[ -][0-9]{4}", aadhaar.is_valid),
    Rule(
        "national id",
        re.compile(r"\b[A-Z]{3}[ABCFGHLJPTK][A-Z][0-9]{4}[A-Z]\b"),
        check=pan.is_valid,
    ),
    _id(r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}", cpf.is_valid),
    _id(r"[0-9]{6}[-+A-FU-Y][0-9]{3}[0-9A-Z]", hetu.is_valid),
    _id(r"(?:[0-9]{2})?[0-9]{6}[-+][0-9]{4}", personnummer.is_valid),
    _id(r"[0-9]{6}-[1-4][0-9]{6}", rrn.is_valid),
    _id(r"756\.[0-9]{4}\.[0-9]{4}\.[0-9]{2}", ahv.is_valid),
    _id(r"[A-Z]{4}[0-9]{6}[HMX][A-Z]{5}[A-Z0-9][0-9]", curp.is_valid),
    # Those that look like any number
    _id(r"[0-9]{3}[ -]?[0-9]{3}[ -]?[0-9]{3}", sin.is_valid, near=r"\bsin\b|social insurance"),
    _id(r"[0-9]{3}[ -]?[0-9]{3}[ -]?[0-9]{4}", nhs.is_valid, near=r"\bnhs\b"),
    _id(
        r"[0-9]{2} ?[0-9]{3} ?[0-9]{3} ?[0-9]{3}",
        idnr.is_valid,
        near=r"steuer\w{0,20}|tax id|\bidnr\b",
    ),
    _id(r"[0-9]{9}", bsn.is_valid, near=r"\bbsn\b|burgerservicenummer"),
    _id(r"[0-9]{11}", pesel.is_valid, near=r"\bpesel\b"),
    _id(
        r"[A-Z]{0,2}[0-9]{6,9}[A-Z]?",
        _any,
        near=r"passport|护照",
        kind="passport",
    ),
    _id(
        r"[A-Z]{0,3}[0-9][A-Z0-9-]{5,17}",
        _any,
        near=r"driv(?:er|ing)(?:'?s)? licen[cs]e|\bdl(?: no| number|#)",
        kind="licence",
    ),
    Rule(
        "licence",
        re.compile(
            r"[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼]"
            r"[A-HJ-NP-Z][·• ]?[A-HJ-NP-Z0-9]{4,5}[A-HJ-NP-Z0-9挂学警港澳](?![A-Za-z0-9])"
        ),
    ),
    # Telephones
    Rule(
        "phone",
        re.compile(r"(?<![\w+])(?:\+|00)[1-9](?:[ .()/-]{0,2}[0-9]){7,14}(?![0-9])"),
        check=_is_phone,
        digits=True,
    ),
    Rule(
        "phone",
        re.compile(
            r"(?<![\w.+/-])(?:\([0-9]{2,5}\) ?|0[0-9]{1,4}[ /-]|[2-9][0-9]{2}[ .-])"
            r"[0-9]{2,4}(?:[ .-]?[0-9]{2,4}){1,3}(?![\w-])"
        ),
        check=lambda item: len(re.sub(r"[^0-9]", "", item)) >= 9 and _is_phone(item),
        digits=True,
    ),
    Rule(
        "phone",
        re.compile(r"(?<![0-9A-Za-z.+-])1[3-9][0-9](?:[ -]?[0-9]{4}){2}(?![0-9A-Za-z.-])"),
        check=lambda item: _valid_in(item, "CN"),
        digits=True,
    ),
    Rule(
        "phone",
        re.compile(
            r"(?:\b(?:phone|tel|telephone|mobile|cell|call|fax|whatsapp)\b|电话|手机|座机|传真)"
            r"[^\n0-9+]{0,24}(?P<it>[+(]?[0-9](?:[ .()-]{0,2}[0-9]){6,13})(?![0-9])",
            re.IGNORECASE,
        ),
        (
            "phone",
            "tel",
            "mobile",
            "cell",
            "call",
            "fax",
            "whatsapp",
            "电话",
            "手机",
            "座机",
            "传真",
        ),
        _is_phone,
    ),
)
