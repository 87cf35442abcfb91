"""The parts of which texts are made: names, numbers with their check digits, keys, addresses."""

from __future__ import annotations

import base64
import random
import string

from labelled_texts.words import FAMILY, GIVEN, MAIL_HOSTS, STREETS, ZH_FAMILY, ZH_GIVEN


class Writer:
    """The same seed writes the same."""

    def __init__(self, seed: int):
        self.r = random.Random(seed)

    def pick(self, *options: str) -> str:
        return self.r.choice(options)

    def digits(self, count: int) -> str:
        return "".join(self.r.choices(string.digits, k=count))

    def letters(self, count: int, alphabet: str = string.ascii_letters + string.digits) -> str:
        return "".join(self.r.choices(alphabet, k=count))

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
        year, month, day = self.r.randint(1950, 2008), self.r.randint(1, 12), self.r.randint(1, 28)
        body = f"{area}{year}{month:02d}{day:02d}{self.digits(3)}"
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
