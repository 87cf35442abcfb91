"""What names a person or tells of one: mail, homes, names, births, health, law.

Rules go as far as wording goes. A sentence that only sounds as if it told of somebody is a
hint: it is not made public, and a judge may clear it.

Longer than other files: most of it is lists of words, each beside the rule that reads it.
"""

from __future__ import annotations

import re

from sglang.srt.tenancy.detect.finding import Rule

# Names and domains that belong to nobody (RFC 2606, RFC 6761).
_NOBODYS = re.compile(r"@(?:[\w-]+\.)*(?:example(?:\.[a-z]{2,4})?|test|invalid|localhost)$", re.I)

_WORD = r"[A-ZÀ-ÖØ-Þ][a-zà-öø-ÿ'’]{1,20}(?:-[A-ZÀ-Þ][a-zà-ÿ]{1,20})?"
_NAME = rf"{_WORD}(?: (?:[A-Z]\.|van|von|de|da|del|della|bin|al|{_WORD})){{0,3}}"
_ADDRESSED = """
sir madam customer customers team all everyone friend friends hiring colleague
colleagues user users reader readers client clients valued student students member
members editor recipient applicant mr mrs ms miss dr prof committee guest partner
partners parents community assistant the this that not no yes none unknown anonymous god
lord diary santa you it we they he she i
"""
_NOT_NAMES = frozenset(_ADDRESSED.split())
# The hundred most common: some 85 of 100 people in China have one of them.
_SURNAME = (
    "(?:欧阳|司马|上官|诸葛|王|李|张|刘|陈|杨|黄|赵|吴|周|徐|孙|马|朱|胡|郭|何|高|林|罗|郑|梁|"
    "谢|宋|唐|许|韩|冯|"
    "邓|曹|彭|曾|肖|田|董|袁|潘|于|蒋|蔡|余|杜|叶|程|苏|魏|吕|丁|任|沈|姚|卢|姜|崔|钟|谭|陆|汪|"
    "范|金|石|廖|贾|夏|"
    "韦|付|方|白|邹|孟|熊|秦|邱|江|尹|薛|闫|段|雷|侯|龙|史|陶|黎|贺|顾|毛|郝|龚|邵|万|钱|严|覃|"
    "武|戴|莫|孔|向|汤)"
)
_HAN = r"[\u4e00-\u9fff]"


def _is_name(item: str) -> bool:
    return item.split()[0].lower() not in _NOT_NAMES


def _is_mail(item: str) -> bool:
    return not _NOBODYS.search(item)


_STREETS = (
    "Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Way|Place|Pl|Terrace|"
    "Ter|Parkway|Pkwy|Circle|Cir|Square|Sq|Highway|Hwy|Close|Crescent|Grove|Gardens|Mews|Row"
)
_DATE = (
    r"[0-9]{1,4}[-/. ][0-9]{1,2}[-/. ][0-9]{2,4}|[0-9]{1,2}(?:st|nd|rd|"
    r"th)? (?:of )?[A-Z][a-z]{2,8},? "
    r"[0-9]{4}|[A-Z][a-z]{2,8} [0-9]{1,2}(?:st|nd|rd|th)?,? [0-9]{4}|"
    r"[0-9]{4}年[0-9]{1,2}月(?:[0-9]{1,2}[日号])?"
)
# Somebody of whom something is told, in the past or the present: not "if the patient is".
_SOMEBODY = (
    r"\b(?:I|I've|I'm|[Mm]y (?:wife|husband|son|daughter|mother|father|mom|dad|brother|sister|"
    r"partner|child|friend|boss|colleague|doctor)|[Hh]e|[Ss]he|"
    r"(?<!a )(?<!any )(?<!each )(?<!every )[Pp]atient|[Tt]he client|"
    rf"{_WORD} {_WORD})"
)
_ILLS = (
    r"HIV|AIDS|cancer|tumou?r|leukemia|lymphoma|carcinoma|melanoma|diabet\w{2,4}|"
    r"depress\w{2,4}|bipolar|"
    r"schizophreni\w{1,2}|anxiety|epilep\w{2,4}|hepatitis|asthma|dementia|alzheimer\w{0,2}|"
    r"parkinson\w{0,2}|"
    r"stroke|heart (?:attack|failure|disease)|hypertension|pregnan\w{1,2}|miscarriage|abortion|"
    r"overdose|"
    r"addict\w{2,4}|alcoholi\w{1,2}|chemotherapy|dialysis|biopsy|sclerosis|arthritis|psychosis|"
    r"ptsd|std|"
    r"herpes|syphilis|chlamydia|tuberculosis|pneumonia|seizures?|insulin|antidepressants?|ssri\w?"
)
_ILLS_HAN = (
    "癌|肿瘤|白血病|糖尿病|抑郁|焦虑症|精神分裂|双相|癫痫|肝炎|哮喘|痴呆|帕金森|中风|心肌梗|"
    "心脏病|高血压|怀孕|流产|"
    "艾滋|梅毒|结核|肺炎|化疗|透析|手术|住院|确诊|病历|处方"
)

PEOPLE = (
    Rule(
        "mail",
        re.compile(
            r"(?<![\w.%+-])[\w.%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,5}\.[A-Za-z]{2,24}"
            r"(?![A-Za-z0-9-])",
            re.ASCII,
        ),
        ("@",),
        _is_mail,
        before=66,
    ),
    # Homes
    Rule(
        "address",
        re.compile(
            rf"(?<![\w.,$€£#-])[0-9]{{1,5}}[A-Za-z]?,? (?:[NSEW]\.? |North |South |East |West )?"
            rf"(?:(?:{_WORD}|[0-9]{{1,3}}(?:st|nd|rd|th)) ){{1,3}}(?:{_STREETS})\b"
        ),
    ),
    Rule(
        "address",
        re.compile(r"\b(?:P\.? ?O\.? ?Box|Postfach|Apartado) [0-9]{1,8}\b", re.IGNORECASE),
        ("box", "postfach", "apartado"),
        before=8,
    ),
    Rule(
        "address",
        re.compile(
            r"\b[A-ZÄÖÜ][A-Za-zäöüß-]{1,30}(?:straße|strasse|str\.|weg|platz|allee|gasse|laan|"
            r"straat) "
            r"[0-9]{1,4}[a-z]?\b"
        ),
        ("straße ", "strasse ", "str. ", "weg ", "platz ", "allee ", "gasse ", "laan ", "straat "),
        before=32,
    ),
    Rule(
        "address",
        re.compile(
            r"(?<!\w)[0-9]{1,4}(?: ?(?:bis|ter))?,? (?:rue|avenue|boulevard|place|chemin|"
            r"impasse|allée|quai) "
            r"(?:(?:de|du|des|la|le|les|l'|d')[ ]?){0,3}[A-ZÀ-Þ]\w{1,30}"
        ),
        ("rue ", "avenue ", "boulevard ", "place ", "chemin ", "impasse ", "allée ", "quai "),
        before=12,
    ),
    Rule(
        "address",
        re.compile(
            r"\b(?:Calle|Avenida|Avda\.|Plaza|Paseo|Via|Viale|Piazza|Corso|Rua) (?:\w{1,15} ){0,3}?"
            r"[A-ZÀ-Þ]\w{1,30},? (?:n[º°.] ?)?[0-9]{1,4}\b"
        ),
        (
            "calle ",
            "avenida ",
            "avda. ",
            "plaza ",
            "paseo ",
            "via ",
            "viale ",
            "piazza ",
            "corso ",
            "rua ",
        ),
    ),
    Rule(
        "address",
        re.compile(r"\b[A-Z]{1,2}[0-9][A-Z0-9]? [0-9][ABD-HJLNP-UW-Z]{2}\b"),
    ),
    Rule(
        "address",
        re.compile(
            r"\b[A-Z][a-z]{2,20}(?: [A-Z][a-z]{2,20}){0,2},? [A-Z]{2},? [0-9]{5}(?:-[0-9]{4})?\b"
        ),
    ),
    Rule(
        "address",
        re.compile(
            rf"{_HAN}{{1,10}}(?:路|街|大道|巷|弄|胡同|"
            rf"里) ?[0-9一二三四五六七八九十百]{{1,6}} ?(?:号|弄)"
            rf"|{_HAN}{{1,10}}(?:小区|花园|公寓|新村|家园|大厦|"
            rf"广场) ?[0-9A-Za-z一二三四五六七八九十]{{1,4}} ?"
            rf"(?:栋|号楼|幢|座|单元|室)"
        ),
        ("号", "弄", "栋", "幢", "座", "单元", "室"),
        before=24,
    ),
    # Names
    Rule(
        "name",
        re.compile(
            rf"\b(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof|Herr|Frau|Monsieur|Madame|Señora?|"
            rf"Signora?)\.? (?P<it>{_NAME})"
        ),
        (
            "mr",
            "ms ",
            "ms.",
            "miss ",
            "mx",
            "dr",
            "prof",
            "herr ",
            "frau ",
            "monsieur ",
            "madame ",
            "señor",
            "signor",
        ),
        _is_name,
    ),
    Rule(
        "name",
        re.compile(
            rf"(?:\b(?i:dear|hi|hello|my name is|i am called|call me|signed(?: by)?|"
            rf"name(?=[:=]))|\b(?i:sincerely|"
            rf"regards|best wishes|cheers|yours truly|"
            rf"yours faithfully),?\s?(?=\n))[\s,:=]{{1,3}}(?P<it>{_NAME})(?!\w)"
        ),
        (
            *(
                "dear",
                "hi ",
                "hello",
                "my name is",
                "i am called",
                "call me",
                "signed",
                "name:",
                "name=",
            ),
            *("sincerely", "regards", "best wishes", "cheers", "yours truly", "yours faithfully"),
        ),
        _is_name,
    ),
    Rule(
        "name",
        re.compile(
            rf"\b(?i:patient|client|customer|employee|tenant|plaintiff|defendant|witness|"
            rf"applicant|claimant|"
            rf"attorney|counsel|nurse|contact|beneficiary|cardholder|"
            rf"student)(?: name)?(?: is)?[:,]? "
            rf"(?P<it>{_WORD} (?:[A-Z]\. )?{_WORD})"
        ),
        (
            *(
                "patient",
                "client",
                "customer",
                "employee",
                "tenant",
                "plaintiff",
                "defendant",
                "witness",
            ),
            *("applicant", "claimant", "attorney", "counsel", "nurse", "contact", "beneficiary"),
            *("cardholder", "student"),
        ),
        _is_name,
    ),
    Rule(
        "name",
        re.compile(
            rf"(?:我叫|我的名字[是叫]|名叫|姓名(?:是|为|[:：])|(?:患者|病人|客户|原告|被告|"
            rf"委托人|联系人|收件人)(?:是|为|[:：])?) ?"
            rf"(?P<it>{_SURNAME}{_HAN}{{1,2}})"
        ),
        (
            "我叫",
            "我的名字",
            "名叫",
            "姓名",
            "患者",
            "病人",
            "客户",
            "原告",
            "被告",
            "委托人",
            "联系人",
            "收件人",
        ),
    ),
    Rule(
        "name",
        re.compile(
            rf"(?P<it>{_SURNAME}{_HAN}{{0,2}}?)(?:先生|女士|小姐|太太|医生|大夫|律师|教授|主任)"
        ),
        ("先生", "女士", "小姐", "太太", "医生", "大夫", "律师", "教授", "主任"),
        before=4,
    ),
    Rule(
        "birth",
        re.compile(
            rf"(?:\bDOB\b|\b(?i:date of birth|birth ?date|birthday|born(?: on)?)\b|出生(?:日期|"
            rf"年月)?|生日|生于)"
            rf"[^\n0-9]{{0,12}}?(?P<it>{_DATE})"
        ),
        (
            "dob",
            "date of birth",
            "birthdate",
            "birth date",
            "birthday",
            "born",
            "出生",
            "生日",
            "生于",
        ),
    ),
    # Health
    Rule(
        "medical",
        re.compile(
            r"\b(?i:MRN|medical record(?: number| no\.?)?|patient id|insurance (?:id|policy|"
            r"member)(?: number)?|"
            r"病历号|住院号|医保(?:卡)?号)[ .:#：]{0,4}(?P<it>[A-Z0-9-]{0,12}[0-9]{4,12})"
        ),
        ("mrn", "medical record", "patient id", "insurance", "病历号", "住院号", "医保"),
    ),
    Rule(
        "medical",
        re.compile(r"\bICD-?(?:9|10)(?:-CM)?[ :]{1,3}(?P<it>[A-Z][0-9]{2}(?:\.[0-9A-Z]{1,4})?)\b"),
        ("icd",),
    ),
    Rule(
        "medical",
        re.compile(
            rf"{_SOMEBODY}(?:'s|’s)?\b[^.?!\n]{{0,80}}?\b(?i:{_ILLS}|diagnos(?:ed|is)|"
            rf"prescri(?:bed|ption)|"
            rf"symptoms?|tested positive|surgery|admitted to)\b",
        ),
        (
            *(
                "diagnos",
                "prescri",
                "symptom",
                "positive",
                "surger",
                "admitted",
                "hiv",
                "aids",
                "cancer",
            ),
            *("tumo", "leuk", "lymph", "carcin", "melan", "diabet", "depress", "bipolar", "schizo"),
            *(
                "anxiety",
                "epilep",
                "hepat",
                "asthma",
                "dement",
                "alzheim",
                "parkins",
                "stroke",
                "heart",
            ),
            *(
                "hypert",
                "pregn",
                "miscarr",
                "abort",
                "overdose",
                "addict",
                "alcohol",
                "chemo",
                "dialys",
            ),
            *("biopsy", "scleros", "arthr", "psychos", "ptsd", "std", "herpes", "syphil", "chlam"),
            *("tubercu", "pneumo", "seizure", "insulin", "ssri"),
        ),
        sure=False,
        before=130,
    ),
    Rule(
        "medical",
        re.compile(
            rf"(?:我|他|她|患者|病人|妈妈|母亲|爸爸|父亲|丈夫|妻子|儿子|女儿|老公|"
            rf"老婆)[^。！？\n]{{0,30}}?(?:{_ILLS_HAN})"
        ),
        tuple(_ILLS_HAN.split("|")),
        sure=False,
        before=34,
    ),
    # Law
    Rule(
        "legal",
        re.compile(
            r"\b(?i:case|docket|cause|matter|file)\s(?:(?i:no|number|nr)\.?|#)[ :#]{0,3}"
            r"(?P<it>(?=[A-Z:/-]{0,12}[0-9])[0-9A-Z][0-9A-Za-z:/-]{3,20})"
        ),
        ("case ", "docket ", "cause ", "matter ", "file "),
    ),
    Rule(
        "legal",
        re.compile(
            r"\([12][0-9]{3}\)[\u4e00-\u9fff]{1,3}[0-9]{0,4}[\u4e00-\u9fff]{1,4}[0-9]{1,6}号"
        ),
        ("号",),
        before=24,
    ),
    Rule(
        "legal",
        re.compile(rf"\b{_WORD}(?: {_WORD})? v(?:s)?\. {_WORD}"),
        (" v. ", " vs. "),
        sure=False,
        before=46,
    ),
    Rule(
        "legal",
        re.compile(
            r"attorney.client|privileged (?:and|&) confidential|strictly confidential|under seal|"
            r"settlement (?:offer|agreement|amount)|non-disclosure agreement|(?<![a-z])(?:sued|"
            r"indicted|"
            r"convicted|arrested|subpoenaed|pleaded guilty|charged with)\b",
            re.IGNORECASE,
        ),
        (
            *("attorney", "privileged", "strictly", "under seal", "settlement", "non-disc"),
            *("sued", "indicted", "convicted", "arrested", "subpoenaed", "pleaded", "charged"),
        ),
        sure=False,
    ),
    Rule(
        "legal",
        re.compile(r"\b(?:my|our) (?:lawyer|attorney|divorce|lawsuit|client)\b", re.IGNORECASE),
        (" lawyer", " attorney", " divorce", " lawsuit", " client"),
        sure=False,
        before=3,
    ),
    Rule(
        "legal",
        re.compile(
            r"委托人|代理律师|起诉(?:我|他|她|书)|离婚(?:协议|诉讼|案)|拘留|判处|有期徒刑|"
            r"和解(?:金额|协议)|保密协议|"
            r"(?:原告|被告|被告人|犯罪嫌疑人)(?:系|是|[:：])|仲裁(?:申请|裁决)"
        ),
        (
            "委托人",
            "代理律师",
            "起诉",
            "离婚",
            "拘留",
            "判处",
            "有期徒刑",
            "和解",
            "保密协议",
            "原告",
            "被告",
            "犯罪嫌疑人",
            "仲裁",
        ),
        sure=False,
    ),
)
