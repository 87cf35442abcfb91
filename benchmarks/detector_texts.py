"""Labelled texts for benchmarks/detector.py, English and Chinese, from a seed.

Written from the templates below, without a look at the detector: it shares no pattern, no list
and no check digit code with it. Some templates are meant to be hard (names with nothing before
them, numbers in words' company), some harmless texts to look dangerous.
"""

# ruff: noqa: E501  -- a text is a line

from __future__ import annotations

import base64
import random
import string
from collections.abc import Callable
from dataclasses import dataclass

GIVEN = (
    "Aisha",
    "Bjorn",
    "Carmen",
    "Dmitri",
    "Elena",
    "Farid",
    "Greta",
    "Hiroshi",
    "Ingrid",
    "Jamal",
    "Katarina",
    "Luis",
    "Mei",
    "Nadia",
    "Oscar",
    "Priya",
    "Quentin",
    "Rosa",
    "Stefan",
    "Tomas",
    "Ursula",
    "Viktor",
    "Wendy",
    "Xenia",
    "Yusuf",
    "Zoe",
    "Harold",
    "Beatrice",
    "Walter",
    "Joan",
)
FAMILY = (
    "Okafor",
    "Lindqvist",
    "Navarro",
    "Petrov",
    "Costa",
    "Haddad",
    "Vogel",
    "Tanaka",
    "Solberg",
    "Whitaker",
    "Novak",
    "Mendes",
    "Chandra",
    "Delacroix",
    "Abbott",
    "Ferreira",
    "Kowalski",
    "Ostrander",
    "Quigley",
    "Rahman",
    "Sutherland",
    "Thibault",
    "Underwood",
    "Marsh",
    "Yilmaz",
)
ZH_FAMILY = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧"
ZH_GIVEN = (
    "建国",
    "秀英",
    "志强",
    "丽娟",
    "子轩",
    "雨桐",
    "浩然",
    "欣怡",
    "明",
    "芳",
    "伟",
    "静",
    "晓峰",
    "婷婷",
)
STREETS = (
    "Maple Street",
    "Old Mill Road",
    "Harbor View Drive",
    "Elm Avenue",
    "Kingsway",
    "Station Road",
    "West 43rd Street",
    "Cedar Lane",
    "Prospect Park West",
    "Juniper Court",
    "Market Sq",
)
CITIES = (
    "Portland, OR 97205",
    "Austin, TX 78701",
    "Leeds LS1 4DY",
    "Denver, CO 80202",
    "Bristol BS1 5TR",
)
ZH_PLACES = (
    "上海市浦东新区世纪大道",
    "广州市天河区体育西路",
    "成都市武侯区人民南路",
    "杭州市西湖区文三路",
    "深圳市南山区科苑南街",
    "武汉市洪山区珞喻路",
    "南京市鼓楼区中山北路",
)
MAIL_HOSTS = (
    "gmail.com",
    "outlook.com",
    "proton.me",
    "corp-mail.net",
    "qq.com",
    "163.com",
    "uni-berlin.de",
)
ILLNESS = (
    "type 2 diabetes",
    "breast cancer",
    "bipolar disorder",
    "hepatitis C",
    "multiple sclerosis",
    "a herniated disc",
    "an ulcer",
    "epilepsy",
    "HIV",
    "severe depression",
    "endometriosis",
    "gout",
)
ZH_ILLNESS = (
    "糖尿病",
    "乳腺癌",
    "抑郁症",
    "乙型肝炎",
    "癫痫",
    "高血压",
    "腰椎间盘突出",
    "胃溃疡",
    "肺结核",
    "红斑狼疮",
)
DRUGS = ("metformin", "sertraline", "lithium", "warfarin", "tamoxifen", "levetiracetam")


@dataclass(frozen=True)
class Text:
    """``labels``: what is sensitive in it, nothing where it is harmless."""

    text: str
    labels: frozenset[str]
    language: str
    source: str


class Writer:
    """Writes texts; the same seed writes the same."""

    def __init__(self, seed: int):
        self.r = random.Random(seed)

    def texts(self, count: int) -> list[Text]:
        """About half of them sensitive, spread evenly over kinds and languages."""
        sensitive = list(SENSITIVE.items())
        harmless = list(HARMLESS.items())
        written = []
        for number in range(count):
            group = sensitive if number % 2 else harmless
            (name, language, labels), write = group[number // 2 % len(group)]
            written.append(Text(self.around(write(self), language), labels, language, name))
        self.r.shuffle(written)
        return written

    def around(self, core: str, language: str) -> str:
        """The core, often between harmless sentences."""
        fill = EN_FILL if language == "en" else ZH_FILL if language == "zh" else ()
        if not fill or self.r.random() < 0.3:
            return core
        before, after = (self.r.choices(fill, k=self.r.randint(0, 3)) for _ in range(2))
        return (" " if language == "en" else "").join([*before, core, *after])

    def pick(self, *options: str) -> str:
        return self.r.choice(options)

    def digits(self, count: int) -> str:
        return "".join(self.r.choices(string.digits, k=count))

    def letters(self, count: int, alphabet: str = string.ascii_letters + string.digits) -> str:
        return "".join(self.r.choices(alphabet, k=count))

    # Parts

    def name(self) -> str:
        return f"{self.r.choice(GIVEN)} {self.r.choice(FAMILY)}"

    def zh_name(self) -> str:
        return self.r.choice(ZH_FAMILY) + self.r.choice(ZH_GIVEN)

    def card(self) -> str:
        start = self.pick("4", "51", "53", "55", "6011", "2221", "37", "62")
        length = 15 if start == "37" else 16
        body = start + self.digits(length - 1 - len(start))
        total = 0
        for place, digit in enumerate(reversed(body)):
            value = int(digit) * (2 if place % 2 == 0 else 1)
            total += value - 9 if value > 9 else value
        number = body + str(-total % 10)
        gap = self.pick("", " ", "-")
        if length == 15:
            return gap.join([number[:4], number[4:10], number[10:]])
        return gap.join(number[i : i + 4] for i in range(0, 16, 4))

    def iban(self) -> str:
        country, account = self.r.choice(
            [
                ("DE", self.digits(18)),
                ("FR", self.digits(23)),
                ("ES", self.digits(20)),
                ("NL", self.letters(4, string.ascii_uppercase) + self.digits(10)),
                ("GB", self.letters(4, string.ascii_uppercase) + self.digits(14)),
            ]
        )
        moved = f"{account}{country}00"
        number = int("".join(str(int(character, 36)) for character in moved))
        whole = f"{country}{98 - number % 97:02d}{account}"
        if self.r.random() < 0.5:
            return whole
        return " ".join(whole[i : i + 4] for i in range(0, len(whole), 4))

    def ssn(self) -> str:
        area = self.r.choice([n for n in range(1, 900) if n != 666])
        return f"{area:03d}-{self.r.randint(1, 99):02d}-{self.r.randint(1, 9999):04d}"

    def resident_id(self) -> str:
        area = self.pick("110105", "310115", "440106", "510107", "330106", "420111", "320106")
        body = f"{area}{self.r.randint(1950, 2008)}{self.r.randint(1, 12):02d}{self.r.randint(1, 28):02d}"
        body += self.digits(3)
        weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
        total = sum(int(d) * weight for d, weight in zip(body, weights, strict=True))
        return body + "10X98765432"[total % 11]

    def us_phone(self) -> str:
        area = self.pick("212", "415", "312", "206", "617", "303", "512", "713")
        middle, last = f"{self.r.randint(220, 989)}", self.digits(4)
        return self.pick(
            f"({area}) {middle}-{last}",
            f"{area}-{middle}-{last}",
            f"{area}.{middle}.{last}",
            f"+1 {area} {middle} {last}",
            f"+1{area}{middle}{last}",
        )

    def other_phone(self) -> str:
        return self.pick(
            f"+44 20 7{self.digits(3)} {self.digits(4)}",
            f"+49 30 {self.r.randint(2, 9)}{self.digits(6)}",
            f"+33 6 12 34 {self.digits(2)} {self.digits(2)}",
            f"+81 90-{self.r.randint(1, 9)}{self.digits(3)}-{self.digits(4)}",
            f"+91 98{self.digits(3)} {self.digits(5)}",
        )

    def zh_phone(self) -> str:
        start = self.pick("138", "139", "150", "186", "177", "199", "158")
        number = self.digits(8)
        return self.pick(
            f"{start}{number}", f"{start}-{number[:4]}-{number[4:]}", f"+86 {start}{number}"
        )

    def mail(self) -> str:
        given, family = self.r.choice(GIVEN).lower(), self.r.choice(FAMILY).lower()
        user = self.pick(
            f"{given}.{family}", f"{given[0]}{family}{self.digits(2)}", f"{given}_{family}"
        )
        return f"{user}@{self.r.choice(MAIL_HOSTS)}"

    def key(self) -> str:
        jwt = ".".join(
            base64.urlsafe_b64encode(part.encode()).decode().rstrip("=")
            for part in ('{"alg":"HS256","typ":"JWT"}', f'{{"sub":"{self.digits(10)}","name":"x"}}')
        )
        return self.pick(
            "sk-" + self.letters(48),
            "sk-proj-" + self.letters(64),
            "ghp_" + self.letters(36),
            "AKIA" + self.letters(16, string.ascii_uppercase + "234567"),
            "AIza" + self.letters(35),
            f"xoxb-{self.digits(12)}-{self.digits(12)}-{self.letters(24)}",
            f"{jwt}.{self.letters(43)}",
            "hf_" + self.letters(34),
            "glpat-" + self.letters(20),
            "LTAI5t" + self.letters(18),
        )

    def password(self) -> str:
        return self.pick(
            self.letters(12) + "7",
            f"{self.pick('Sommer', 'Dragon', 'Falcon', 'blue')}{self.digits(4)}!",
            self.letters(6) + "#" + self.digits(3),
            f"P@ss{self.digits(3)}{self.letters(3)}",
        )

    def date(self) -> str:
        year, month, day = self.r.randint(1945, 2010), self.r.randint(1, 12), self.r.randint(1, 28)
        return self.pick(
            f"{year}-{month:02d}-{day:02d}",
            f"{month}/{day}/{year}",
            f"{day}.{month}.{year}",
            f"{day} March {year}",
            f"June {day}, {year}",
        )

    def address(self) -> str:
        return f"{self.r.randint(2, 4800)} {self.r.choice(STREETS)}"


EN_FILL = (
    "Thanks for getting back so quickly.",
    "The weather has been odd all week.",
    "Please keep the answer short.",
    "We can talk about the rest tomorrow.",
    "I read the report twice and liked the second part more.",
    "Make a table of the main points.",
    "The library closes at eight on weekdays.",
    "Explain it as if to a beginner.",
    "There are three open questions left.",
    "Rewrite the following in a friendly tone.",
)
ZH_FILL = (
    "请帮我润色下面这段话。",
    "谢谢你的回复。",
    "今天的天气不错。",
    "请用简短的语言回答。",
    "我们明天再讨论其余部分。",
    "报告的第二部分写得更好。",
    "请列出主要观点。",
    "还有三个问题没有解决。",
    "图书馆平日八点关门。",
)
ORDINARY = (
    "Photosynthesis turns light, water and carbon dioxide into sugar and oxygen.",
    "The recipe needs 250 grams of flour, 3 eggs and a pinch of salt; bake for 35 minutes at 180 degrees.",
    "In 1969 two astronauts walked on the Moon while a third stayed in orbit.",
    "Compare quicksort with merge sort for 1,000,000 items, and say when each is the better choice.",
    "The river rises in the hills, runs 420 km to the north and ends in a wide delta.",
    "Write a short story about a lighthouse keeper who finds a message in a bottle.",
    "Diabetes is a disease in which blood sugar stays too high; exercise and diet help to prevent it.",
    "A contract needs an offer, an acceptance and something given in return.",
    "Which is the best way to learn the violin as an adult with little time?",
    "The committee met on 12 May 2023 and approved the budget of 4,200,000 euros for the bridge.",
    "Summarise the causes of the French Revolution in five bullet points.",
    "The court decides whether a law agrees with the constitution.",
    "A good password has many characters and is used in one place only.",
    "Common symptoms of a cold are a runny nose, a sore throat and a mild fever.",
)
ZH_ORDINARY = (
    "光合作用把光能、水和二氧化碳转化为糖和氧气。",
    "请比较快速排序和归并排序，并说明各自适用的场景。",
    "这条河全长四百二十公里，最后流入大海。",
    "请写一个关于灯塔守护人的短篇故事。",
    "糖尿病的预防需要合理饮食和适当运动。",
    "合同的成立需要要约和承诺。",
    "2023年5月12日，委员会批准了四百二十万元的预算。",
    "请用五点概括法国大革命的原因。",
    "好的密码应当足够长，并且只在一个地方使用。",
    "感冒的常见症状有流鼻涕、咽喉痛和低烧。",
    "第3章第12节介绍了路由协议的工作原理。",
    "医生这个职业需要长期的学习。",
    "学习小提琴最好的方法是什么？",
    "法院负责审查法律是否符合宪法。",
)
SYSTEM = (
    "You are a helpful assistant for a bank. Never ask customers for their password or card number.",
    "You are a medical information assistant. If a patient describes symptoms, advise them to see a doctor.",
    "Act as a senior Python reviewer. Point out bugs first, style second. Answer in Markdown.",
    "You answer questions about our return policy. Items may be returned within 30 days of delivery.",
    "You are a legal research assistant. Cite statutes, and say that you give no legal advice.",
    "Extract name, e-mail and phone number of each contact as JSON with the fields name, email, phone.",
    "Contact support at support@example.com or open a ticket; the API key goes into the header.",
    "When the user is angry, stay calm. Offer a refund of up to 50 dollars, then transfer the call.",
)
ZH_SYSTEM = (
    "你是一个银行客服助手，绝不能向客户索要密码或卡号。",
    "你是医疗信息助手，如果患者描述症状，请建议其就医。",
    "你是资深的程序员，请先指出错误，再说明风格问题。",
    "请从文本中提取姓名、电话和地址，并以JSON格式输出。",
    "你负责回答退货政策的问题，商品可在三十天内退回。",
    "你是法律咨询助手，请引用法条，并说明不构成法律意见。",
)
CODE = (
    "def area(width: float, height: float) -> float:\n    return width * height\n",
    "for (let i = 0; i < items.length; i++) {\n  total += items[i].price * 100;\n}\n",
    "password = getpass.getpass('Password: ')\ntoken = os.environ['API_TOKEN']\n",
    "SELECT id, total FROM orders WHERE created_at > '2024-01-31' ORDER BY total DESC LIMIT 100;\n",
    'curl -H "Authorization: Bearer $TOKEN" https://api.service.test/v1/items?page=2\n',
    "struct node { int key; struct node *left, *right; };\n",
    "api_key: ${API_KEY}\nsecret_key: <your-secret-key>\nregion: eu-central-1\n",
    "class Patient(Model):\n    name = CharField(max_length=80)\n    phone = CharField(max_length=20)\n",
    "commit 9f2c1e7ab34d5f60718293a4b5c6d7e8f9012345\nDate:   Tue Mar 5 14:02:11 2024 +0100\n",
    "assert luhn('0000000000000001') is False\nx = 3.141592653589793\n",
)


def _numbers(w: Writer) -> str:
    return w.pick(
        f"Order {w.digits(7)} has {w.r.randint(2, 90)} items and weighs {w.r.randint(1, 40)}.5 kg.",
        f"Build 20240{w.r.randint(1, 9)}1{w.r.randint(0, 9)}.{w.r.randint(1, 40)} took {w.digits(4)} ms on host-{w.digits(2)}.",
        f"2024-0{w.r.randint(1, 9)}-1{w.r.randint(0, 9)}T10:{w.r.randint(10, 59)}:22Z INFO worker {w.r.randint(1, 16)} done, {w.digits(6)} rows",
        f"The sum of {w.digits(5)} and {w.digits(5)} is prime? Try {w.digits(6)} too.",
        f"Version {w.r.randint(1, 9)}.{w.r.randint(0, 30)}.{w.r.randint(0, 30)} on 10.0.{w.r.randint(0, 255)}.{w.r.randint(1, 254)} port 8080",
        f"ISBN 978-0-{w.digits(2)}-{w.digits(6)}-{w.digits(1)}, pages {w.r.randint(100, 400)}-{w.r.randint(401, 900)}",
        f"sha256 {w.letters(64, '0123456789abcdef')}",
        f"Timestamp 17{w.digits(8)}, offset {w.digits(6)}, user {w.letters(8, '0123456789abcdef')}-{w.letters(4, '0123456789abcdef')}",
    )


def _zh_numbers(w: Writer) -> str:
    return w.pick(
        f"订单编号{w.digits(7)}，共{w.r.randint(2, 90)}件商品。",
        f"2024年{w.r.randint(1, 12)}月的销售额为{w.digits(6)}元。",
        f"第{w.r.randint(1, 40)}页，图{w.r.randint(1, 9)}-{w.r.randint(1, 9)}，比例为1:{w.digits(4)}。",
        f"距离约{w.digits(5)}公里，耗时{w.digits(3)}秒。",
    )


Label = tuple[str, str, frozenset[str]]


def _label(name: str, language: str, *labels: str) -> Label:
    return name, language, frozenset(labels)


SENSITIVE: dict[Label, Callable[[Writer], str]] = {
    _label("card", "en", "card"): lambda w: w.pick(
        f"Please charge {w.card()}, valid through 09/27.",
        f"the number on the front is {w.card()}",
        f"Visa: {w.card()} CVV 123",
        f"I typed {w.card()} and it was declined",
    ),
    _label("card zh", "zh", "card"): lambda w: w.pick(
        f"我的信用卡是{w.card()}，有效期到明年。", f"卡号{w.card()}请尽快扣款。"
    ),
    _label("iban", "en", "iban"): lambda w: w.pick(
        f"Send the rent to {w.iban()}.", f"IBAN: {w.iban()}", f"my account {w.iban()} is new"
    ),
    _label("national id", "en", "national id"): lambda w: w.pick(
        f"Her SSN is {w.ssn()}.", f"social security number {w.ssn()}", f"ID on file: {w.ssn()}"
    ),
    _label("national id zh", "zh", "national id"): lambda w: w.pick(
        f"身份证号码：{w.resident_id()}",
        f"我的身份证是{w.resident_id()}，请核对。",
        f"证件号{w.resident_id()}已登记。",
    ),
    _label("phone", "en", "phone"): lambda w: w.pick(
        f"Call me on {w.us_phone()} after six.",
        f"reach her at {w.other_phone()}",
        f"Cell: {w.us_phone()}",
        f"{w.us_phone()} is my new number",
    ),
    _label("phone zh", "zh", "phone"): lambda w: w.pick(
        f"我的手机号是{w.zh_phone()}。", f"请打{w.zh_phone()}联系我", f"电话：{w.zh_phone()}"
    ),
    _label("mail", "en", "mail"): lambda w: w.pick(
        f"Write to {w.mail()} please.", f"cc {w.mail()}", f"<{w.mail()}> wrote:"
    ),
    _label("mail zh", "zh", "mail"): lambda w: w.pick(
        f"我的邮箱是{w.mail()}。", f"请发到{w.mail()}，谢谢"
    ),
    _label("key", "code", "key"): lambda w: w.pick(
        f"export OPENAI_API_KEY={w.key()}",
        f'client = Client(api_key="{w.key()}")',
        f"Authorization: Bearer {w.key()}",
        f"the token {w.key()} stopped working",
        f"aws_secret_access_key = {w.letters(40)}",
    ),
    _label("private key", "code", "private key"): lambda w: (
        f"-----BEGIN {w.pick('RSA ', 'EC ', 'OPENSSH ', '')}PRIVATE KEY-----\n{w.letters(64)}\n{w.letters(64)}\n"
    ),
    _label("password", "en", "password"): lambda w: w.pick(
        f"The password is {w.password()}",
        f"login: admin password: {w.password()}",
        f"DB_PASSWORD={w.password()}",
        f'pwd = "{w.password()}"',
        f"use the passcode {w.password()} at the door",
    ),
    _label("password zh", "zh", "password"): lambda w: w.pick(
        f"密码是{w.password()}", f"登录口令：{w.password()}，请保密", f"WiFi密码 {w.password()}"
    ),
    _label("address", "en", "address"): lambda w: w.pick(
        f"I live at {w.address()}, {w.r.choice(CITIES)}.",
        f"Ship it to {w.address()}, apartment 4B.",
        f"{w.address()}, {w.r.choice(CITIES)}",
        f"we moved to {w.r.choice(CITIES)} last year, {w.address()}",
    ),
    _label("address zh", "zh", "address"): lambda w: w.pick(
        f"我住在{w.r.choice(ZH_PLACES)}{w.r.randint(1, 900)}号。",
        f"收货地址：{w.r.choice(ZH_PLACES)}{w.r.randint(1, 900)}号{w.r.randint(1, 30)}栋{w.r.randint(101, 2502)}室",
    ),
    _label("name after title", "en", "name"): lambda w: w.pick(
        f"Dear {w.name()},",
        f"Please ask Mr. {w.r.choice(FAMILY)} about it.",
        f"My name is {w.name()}.",
        f"Best regards,\n{w.name()}",
        f"Dr. {w.name()} will see you",
    ),
    _label("name alone", "en", "name"): lambda w: w.pick(
        f"{w.name()} was late again on Friday.",
        f"I had lunch with {w.name()} and her brother.",
        f"Forward this to {w.name()}.",
        f"the invoice for {w.name()} is overdue",
    ),
    _label("name zh", "zh", "name"): lambda w: w.pick(
        f"我叫{w.zh_name()}。",
        f"{w.zh_name()}先生已经到了。",
        f"姓名：{w.zh_name()}",
        f"请联系{w.zh_name()}女士",
    ),
    _label("name alone zh", "zh", "name"): lambda w: w.pick(
        f"昨天和{w.zh_name()}一起吃饭。", f"把文件发给{w.zh_name()}。"
    ),
    _label("birth", "en", "birth"): lambda w: w.pick(
        f"DOB: {w.date()}", f"born on {w.date()} in Oslo", f"date of birth {w.date()}"
    ),
    _label("medical", "en", "medical"): lambda w: w.pick(
        f"I was diagnosed with {w.r.choice(ILLNESS)} last spring.",
        f"My mother has {w.r.choice(ILLNESS)} and takes {w.r.choice(DRUGS)}.",
        f"He has been on {w.r.choice(DRUGS)} since his {w.r.choice(ILLNESS)} came back.",
        f"MRN {w.digits(8)}: admitted with {w.r.choice(ILLNESS)}.",
        f"her test for {w.r.choice(ILLNESS)} was positive",
        f"Since the biopsy I can hardly sleep; they say it is {w.r.choice(ILLNESS)}.",
    ),
    _label("medical zh", "zh", "medical"): lambda w: w.pick(
        f"我上个月被确诊为{w.r.choice(ZH_ILLNESS)}。",
        f"我妈妈有{w.r.choice(ZH_ILLNESS)}，一直在吃药。",
        f"患者主诉头痛三天，既往有{w.r.choice(ZH_ILLNESS)}病史。",
    ),
    _label("legal", "en", "legal"): lambda w: w.pick(
        f"Case No. {w.r.randint(1, 9)}:2{w.r.randint(0, 4)}-cv-{w.digits(5)} is set for trial.",
        f"My lawyer says I should settle before {w.r.choice(FAMILY)} v. {w.r.choice(FAMILY)} is heard.",
        "This is privileged and confidential attorney-client communication about the merger.",
        f"I was arrested for fraud in {w.r.randint(2005, 2023)} and never told my employer.",
        f"our settlement offer to the widow is {w.digits(3)},000 dollars",
        "She filed for divorce and wants the house.",
    ),
    _label("legal zh", "zh", "legal"): lambda w: w.pick(
        f"（20{w.r.randint(15, 24)}）沪01民终{w.digits(4)}号一案将于下周开庭。",
        "我正在打离婚官司，对方要求分割房产。",
        f"委托人承认曾在{w.r.randint(2008, 2022)}年行贿。",
        f"原告系{w.zh_name()}，要求赔偿{w.digits(5)}元。",
    ),
}
HARMLESS: dict[Label, Callable[[Writer], str]] = {
    _label("ordinary", "en"): lambda w: w.pick(*ORDINARY),
    _label("ordinary zh", "zh"): lambda w: w.pick(*ZH_ORDINARY),
    _label("system prompt", "en"): lambda w: w.pick(*SYSTEM),
    _label("system prompt zh", "zh"): lambda w: w.pick(*ZH_SYSTEM),
    _label("code", "code"): lambda w: w.pick(*CODE),
    _label("numbers", "en"): _numbers,
    _label("numbers zh", "zh"): _zh_numbers,
}
