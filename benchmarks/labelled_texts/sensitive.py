"""What somebody would not want to be shared."""

# ruff: noqa: E501  -- a text is a line

from __future__ import annotations

from labelled_texts.kind import Templates, kind
from labelled_texts.words import CITIES, DRUGS, FAMILY, ILLNESS, ZH_ILLNESS, ZH_PLACES

SENSITIVE: Templates = {
    kind("card", "en", "card"): lambda w: w.pick(
        f"Please charge {w.card()}, valid through 09/27.",
        f"the number on the front is {w.card()}",
        f"Visa: {w.card()} CVV 123",
        f"I typed {w.card()} and it was declined",
    ),
    kind("card zh", "zh", "card"): lambda w: w.pick(
        f"我的信用卡是{w.card()}，有效期到明年。", f"卡号{w.card()}请尽快扣款。"
    ),
    kind("iban", "en", "iban"): lambda w: w.pick(
        f"Send the rent to {w.iban()}.", f"IBAN: {w.iban()}", f"my account {w.iban()} is new"
    ),
    kind("national id", "en", "national id"): lambda w: w.pick(
        f"Her SSN is {w.ssn()}.", f"social security number {w.ssn()}", f"ID on file: {w.ssn()}"
    ),
    kind("national id zh", "zh", "national id"): lambda w: w.pick(
        f"身份证号码：{w.resident_id()}",
        f"我的身份证是{w.resident_id()}，请核对。",
        f"证件号{w.resident_id()}已登记。",
    ),
    kind("phone", "en", "phone"): lambda w: w.pick(
        f"Call me on {w.us_phone()} after six.",
        f"reach her at {w.other_phone()}",
        f"Cell: {w.us_phone()}",
        f"{w.us_phone()} is my new number",
    ),
    kind("phone zh", "zh", "phone"): lambda w: w.pick(
        f"我的手机号是{w.zh_phone()}。", f"请打{w.zh_phone()}联系我", f"电话：{w.zh_phone()}"
    ),
    kind("mail", "en", "mail"): lambda w: w.pick(
        f"Write to {w.mail()} please.", f"cc {w.mail()}", f"<{w.mail()}> wrote:"
    ),
    kind("mail zh", "zh", "mail"): lambda w: w.pick(
        f"我的邮箱是{w.mail()}。", f"请发到{w.mail()}，谢谢"
    ),
    kind("key", "code", "key"): lambda w: w.pick(
        f"export OPENAI_API_KEY={w.key()}",
        f'client = Client(api_key="{w.key()}")',
        f"Authorization: Bearer {w.key()}",
        f"the token {w.key()} stopped working",
        f"aws_secret_access_key = {w.letters(40)}",
    ),
    kind("private key", "code", "private key"): lambda w: (
        f"-----BEGIN {w.pick('RSA ', 'EC ', 'OPENSSH ', '')}PRIVATE KEY-----\n{w.letters(64)}\n{w.letters(64)}\n"
    ),
    kind("password", "en", "password"): lambda w: w.pick(
        f"The password is {w.password()}",
        f"login: admin password: {w.password()}",
        f"DB_PASSWORD={w.password()}",
        f'pwd = "{w.password()}"',
        f"use the passcode {w.password()} at the door",
    ),
    kind("password zh", "zh", "password"): lambda w: w.pick(
        f"密码是{w.password()}", f"登录口令：{w.password()}，请保密", f"WiFi密码 {w.password()}"
    ),
    kind("address", "en", "address"): lambda w: w.pick(
        f"I live at {w.address()}, {w.r.choice(CITIES)}.",
        f"Ship it to {w.address()}, apartment 4B.",
        f"{w.address()}, {w.r.choice(CITIES)}",
        f"we moved to {w.r.choice(CITIES)} last year, {w.address()}",
    ),
    kind("address zh", "zh", "address"): lambda w: w.pick(
        f"我住在{w.r.choice(ZH_PLACES)}{w.r.randint(1, 900)}号。",
        f"收货地址：{w.r.choice(ZH_PLACES)}{w.r.randint(1, 900)}号{w.r.randint(1, 30)}栋{w.r.randint(101, 2502)}室",
    ),
    kind("name after title", "en", "name"): lambda w: w.pick(
        f"Dear {w.name()},",
        f"Please ask Mr. {w.r.choice(FAMILY)} about it.",
        f"My name is {w.name()}.",
        f"Best regards,\n{w.name()}",
        f"Dr. {w.name()} will see you",
    ),
    kind("name alone", "en", "name"): lambda w: w.pick(
        f"{w.name()} was late again on Friday.",
        f"I had lunch with {w.name()} and her brother.",
        f"Forward this to {w.name()}.",
        f"the invoice for {w.name()} is overdue",
    ),
    kind("name zh", "zh", "name"): lambda w: w.pick(
        f"我叫{w.zh_name()}。",
        f"{w.zh_name()}先生已经到了。",
        f"姓名：{w.zh_name()}",
        f"请联系{w.zh_name()}女士",
    ),
    kind("name alone zh", "zh", "name"): lambda w: w.pick(
        f"昨天和{w.zh_name()}一起吃饭。", f"把文件发给{w.zh_name()}。"
    ),
    kind("birth", "en", "birth"): lambda w: w.pick(
        f"DOB: {w.date()}", f"born on {w.date()} in Oslo", f"date of birth {w.date()}"
    ),
    kind("medical", "en", "medical"): lambda w: w.pick(
        f"I was diagnosed with {w.r.choice(ILLNESS)} last spring.",
        f"My mother has {w.r.choice(ILLNESS)} and takes {w.r.choice(DRUGS)}.",
        f"He has been on {w.r.choice(DRUGS)} since his {w.r.choice(ILLNESS)} came back.",
        f"MRN {w.digits(8)}: admitted with {w.r.choice(ILLNESS)}.",
        f"her test for {w.r.choice(ILLNESS)} was positive",
        f"Since the biopsy I can hardly sleep; they say it is {w.r.choice(ILLNESS)}.",
    ),
    kind("medical zh", "zh", "medical"): lambda w: w.pick(
        f"我上个月被确诊为{w.r.choice(ZH_ILLNESS)}。",
        f"我妈妈有{w.r.choice(ZH_ILLNESS)}，一直在吃药。",
        f"患者主诉头痛三天，既往有{w.r.choice(ZH_ILLNESS)}病史。",
    ),
    kind("legal", "en", "legal"): lambda w: w.pick(
        f"Case No. {w.r.randint(1, 9)}:2{w.r.randint(0, 4)}-cv-{w.digits(5)} is set for trial.",
        f"My lawyer says I should settle before {w.r.choice(FAMILY)} v. {w.r.choice(FAMILY)} is heard.",
        "This is privileged and confidential attorney-client communication about the merger.",
        f"I was arrested for fraud in {w.r.randint(2005, 2023)} and never told my employer.",
        f"our settlement offer to the widow is {w.digits(3)},000 dollars",
        "She filed for divorce and wants the house.",
    ),
    kind("legal zh", "zh", "legal"): lambda w: w.pick(
        f"（20{w.r.randint(15, 24)}）沪01民终{w.digits(4)}号一案将于下周开庭。",
        "我正在打离婚官司，对方要求分割房产。",
        f"委托人承认曾在{w.r.randint(2008, 2022)}年行贿。",
        f"原告系{w.zh_name()}，要求赔偿{w.digits(5)}元。",
    ),
}
