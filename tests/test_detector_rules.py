"""Each kind of rule: what it finds, and near misses that it must leave."""

from __future__ import annotations

import pytest

from sglang.srt.tenancy.detect.finding import LONGEST, plain
from sglang.srt.tenancy.detect.rules import RULES, find

FOUND = {
    "card": [
        "pay with 4012 8888 8888 1881 today",
        "3782-822463-10005",
        "卡４０１２８８８８８８８８１８８１。",
    ],
    "iban": ["to GB29 NWBK 6016 1331 9268 19 NOW PLEASE", "FR1420041010050500013M02606"],
    "account": ["account number: 12345678", "账号：6222021234567"],
    "national id": [
        "SSN 078-05-1121",
        "social security number is 219 09 9998",
        "身份证34052419800101001X，",
        "HKID A123456(3)",
        "A123456789 in Taipei",
        "NINO AB 12 34 56 C",
        "codice RSSMRA85T10A562S",
        "DNI 12345678Z",
        "NIE X1234567L",
        "n° 2 55 08 14 168 025 38",
        "CPF 390.533.447-05",
        "hetu 131052-308T",
        "personnummer 880320-0016",
        "AHV 756.9217.0769.85",
        "PAN ACUPA7085R",
    ],
    "passport": ["passport no. X1234567", "护照号 E12345678"],
    "phone": [
        "ring +44 20 7946 0018",
        "(212) 736-5000",
        "13911112222",
        "tel. 030 901820",
        "手机：139 1111 2222",
    ],
    "mail": ["to anna-lena.b@mail.dept.gov.uk.", "信箱zhang@qq.com。"],
    "key": [
        "AKIAQ3EGRIV7LKJ2MNOP",
        "ghp_0aB1cD2eF3gH4iJ5kL6mN7oP8qR9sT0uV1wX",
        "sk-proj-aB3dE5fG7hI9jK1lM3nO5pQ7",
        "Authorization: Bearer 8f14e45fceea167a5a36dedd4bea2543",
        "mongodb://root:t0ps3cret@10.0.0.5/db",
        'client_secret = "8Kd92mfLq0Zx71Rb"',
        "1234567890:AAE2k3jf93kLmN0pQrStUvWxYz123456789",
    ],
    "private key": ["-----BEGIN OPENSSH PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----"],
    "password": [
        "password: tr0ub4dor&3",
        'passwd = "correct-horse9"',
        "the PIN is 4927",
        "密码是abc12345",
        "口令：qwe!23rt",
    ],
    "address": [
        "at 1600 Pennsylvania Avenue",
        "P.O. Box 4410",
        "Lindenstraße 12",
        "12 rue de la Paix",
        "Calle Mayor 44",
        "SW1A 2AA",
        "Seattle, WA 98101",
        "朝阳区建国路88号",
        "阳光小区3栋",
    ],
    "name": [
        "Mrs. Dalloway said",
        "Dear Anna Karenina,",
        "Patient: John Q. Public",
        "我叫林黛玉",
        "贾先生",
    ],
    "birth": ["DOB 01/02/1990", "born on 3 May 1971", "出生日期：1990年1月2日"],
    "licence": ["driver's license: D123-4567-8901", "车牌京A12345"],
    "medical": [
        "MRN: 00482913",
        "ICD-10: F32.1",
        "My wife has been through chemotherapy",
        "他去年确诊了肺癌",
    ],
    "legal": [
        "Docket No. 19-cr-00373",
        "Marbury v. Madison",
        "（2019）粤03民初1234号",
        "privileged and confidential",
    ],
}
LEFT = {
    "card": ["4012 8888 8888 1882", "4444444444444444", "id_4012888888881881", "9012888888881881"],
    "iban": ["GB29 NWBK 6016 1331 9268 18", "AB12 CDEF 3456 7890 1234"],
    "account": ["account for 12345678 reasons", "the account was closed in 2019"],
    "national id": [
        "000-12-3456",
        "666-12-3456",
        "340524198001010011",
        "12345678A",
        "A123456(4)",
        "A123456788",
        "390.533.447-04",
        "756.9217.0769.84",
    ],
    "passport": ["the passport office has 40 desks"],
    "phone": [
        "1712345678",
        "10.0.0.254",
        "2024-01-31 10:22",
        "ISBN 978-0-13-468599-1",
        "12345678901",
    ],
    "mail": ["user@example.com", "a@b", "@property", "git@localhost"],
    "key": [
        "sk-xxxxxxxxxxxxxxxxxxxxxxxx",
        "sk-your-api-key-goes-in-here",
        'api_key = os.environ["API_KEY"]',
        "Authorization: Bearer $TOKEN",
        "secret_key: <your secret key>",
        "task-force-one-two-three-four-five",
        "https://host:8080/path@x",
    ],
    "private key": ["-----BEGIN PUBLIC KEY-----", "-----BEGIN CERTIFICATE-----"],
    "password": [
        "password = getpass()",
        "def login(password: str) -> None",
        "The password is required",
        "password: ********",
        "请输入密码",
        "compass: north4east",
    ],
    "address": [
        "12 May was a street fair",
        "3 Ways to cook rice",
        "the place to be",
        "第88号文件",
        "room 12",
    ],
    "name": [
        "Dear customer,",
        "Dear Sir or Madam",
        "Mr and Mrs",
        "hi there",
        "HiCache",
        "drop Table",
    ],
    "birth": ["the birthday party", "born to run"],
    "licence": ["京ABC", "the software license: MIT"],
    "medical": [
        "Diabetes is a disease",
        "If a patient has cancer, tell them",
        "癌症的治疗方法有哪些",
    ],
    "legal": ["in this case no one", "case number", "a file no bigger than that"],
}


@pytest.mark.parametrize(
    ("kind", "text"), [(k, text) for k, texts in FOUND.items() for text in texts]
)
def test_found(kind: str, text: str) -> None:
    assert kind in {finding.kind for finding in find(text)}


@pytest.mark.parametrize(
    ("kind", "text"), [(k, text) for k, texts in LEFT.items() for text in texts]
)
def test_left(kind: str, text: str) -> None:
    assert kind not in {finding.kind for finding in find(text)}


def test_every_kind_is_tested() -> None:
    assert {rule.kind for rule in RULES} == set(FOUND) == set(LEFT)


@pytest.mark.parametrize("before", ["", "x " * 300, "北京 " * 200])
@pytest.mark.parametrize("text", ["4012 8888 8888 1881", "zoe@mail.org", "13911112222"])
def test_where(before: str, text: str) -> None:
    found = find(f"{before}{text} and so on")
    assert (len(before), len(before) + len(text)) in {(one.start, one.end) for one in found}


def test_from_a_place_on() -> None:
    text = "zoe@mail.org and ann@mail.org"
    assert [one.start for one in find(text, 1)] == [text.index("ann")]
    # What is before is seen: these digits go on to the left.
    assert not find("99994012 8888 8888 1881", 4)


def test_plain_keeps_offsets() -> None:
    text = "ａｂｃ　１２３ ٣٤ – ﬀ İ 🙂"
    assert len(plain(text)) == len(text)
    assert plain(text).startswith("abc 123 34 -")


@pytest.mark.parametrize(
    "text",
    [
        "4" * 5000,
        "4 " * 5000,
        "a@" * 5000,
        "A" * 5000,
        "Mr " * 3000,
        "password:" * 1000,
        "sk-" * 3000,
        "I " * 5000 + "cancer",
        "路" * 5000 + "1号",
        "(" * 5000,
        "DE89" * 2000,
    ],
)
def test_no_text_takes_long_or_gives_long_items(text: str) -> None:
    """A pattern that backtracks badly would run into the test's time limit."""
    assert all(one.end - one.start <= LONGEST for one in find(text))
