"""What may be shared, some of it with a dangerous look."""

# ruff: noqa: E501  -- a text is a line

from __future__ import annotations

from labelled_texts.kind import Templates, kind
from labelled_texts.writer import Writer

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


HARMLESS: Templates = {
    kind("ordinary", "en"): lambda w: w.pick(*ORDINARY),
    kind("ordinary zh", "zh"): lambda w: w.pick(*ZH_ORDINARY),
    kind("system prompt", "en"): lambda w: w.pick(*SYSTEM),
    kind("system prompt zh", "zh"): lambda w: w.pick(*ZH_SYSTEM),
    kind("code", "code"): lambda w: w.pick(*CODE),
    kind("numbers", "en"): _numbers,
    kind("numbers zh", "zh"): _zh_numbers,
}
