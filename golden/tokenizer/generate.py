#!/usr/bin/env python3
"""Expected ids of the Qwen3 tokenizer, by Hugging Face `tokenizers`.

    generate.py PATH/tokenizer.json > qwen3-cases.jsonl

One line a case: the text, whether special tokens in it count as such, the ids.
Only characters of Unicode 9 occur, on whose properties all libraries agree.
"""

import json
import sys

from tokenizers import Tokenizer

ENGLISH = [
    "a",
    "Hello, world!",
    "The quick brown fox jumps over the lazy dog.",
    "I'm sure they've said we'll go; don't you?",
    "I'M SURE THEY'VE SAID WE'LL GO; DON'T YOU?",
    "it's its'  's 'S 'sx 'll'd",
    "naïve café résumé Zürich smörgåsbord",
    "snake_case camelCase SCREAMING_CASE kebab-case",
    'e.g. Mr. Smith (aged 42), i.e. him; "quoted" text...',
    "http://example.org/path?x=1&y=2#frag",
    "user@example.org",
    "1234567890",
    "3.14159e-10, 1,000,000 and 0x7fff",
    "int main(void)\n{\n\treturn 0;\n}\n",
    "for i in range(10):\n    print(i)\n\n\n",
    "x\u00b2 + y\u00b2 = z\u00b2 \u00bd \u2167",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "A" * 40,
    "ab" * 70,
    "z" * 300,
]
CHINESE = [
    "你好，世界！",
    "今天天气很好，我们去公园散步吧。",
    "一二三四五六七八九十",
    "第１２３章　全角数字和全角空格",
    "《红楼梦》是中国古典小说。",
    "深度学习模型的训练需要大量的数据和计算资源",
    "繁體中文與简体中文",
    "中文English混合文本123测试",
    "价格：￥1,234.50元",
    " 根",
    "，。！？；：",
    "專家混合模型把每個詞交給少數幾個專家",
    "的" * 50,
]
SCRIPTS = [
    "こんにちは、世界。カタカナとひらがな",
    "안녕하세요 세계",
    "Привет, мир!",
    "Γειά σου Κόσμε",
    "مرحبا بالعالم",
    "שלום עולם",
    "नमस्ते दुनिया",
    "สวัสดีชาวโลก",
    "Xin chào thế giới",
    "வணக்கம்",
    "ᚠᛇᚻ᛫ᛒᛦᚦ",
    "٣٤٥ ४५६ ๓๔",
    "ǅ ŉ ß ẞ ſ 's 'ſ it'ſ",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟙𝟚𝟛 𐍈",
]
EMOJI = ["😀", "👍🏽 👩‍👩‍👧‍👦 🇩🇪", "I ❤️ 🍕!", "😀😀😀😀", "☃️★☆♠♣", "→⇒∀∃∑∫√∞≠≤"]
COMBINING = [
    "e\u0301",
    "cafe\u0301",
    "\u0301",
    "a\u0323\u0302 a\u0302\u0323",
    "\u1ea5\u0323",
    "\u212b \u2126 \u00c5 A\u030a",
    "\u1100\u1161\u11a8\u1100\u1161",
    "\uac00\u11a8",
    "\u0344 \u0340 \u0374 \u037e",
    "\u0958 \u0915\u093c",
    "\u0b47\u0b3e \u09c7\u09be",
    "q\u0307\u0323\u0307",
    "\u304b\u3099\u304c\u309a",
    "\uf900\ufa10\U0002f800",
    "x\u0338=\u0338",
    "\ufb01 \u2460 \uff21",
    "\u0e33\u0e49 \u0f73\u0f75 \u0f71\u0f72",
    "o\u0301" * 30,
    "a" + "\u0301\u0316" * 20,
]
SPACES = [
    " ",
    "  ",
    "   a",
    "a  ",
    "a   b",
    "\n",
    "\n\n\n",
    "a\nb",
    "a \n b",
    "a\r\nb\r\n",
    "\r\r\n\n",
    "\t",
    "\t\tx",
    " \t \n \t ",
    "x \n\n  y",
    "\u00a0a\u00a0\u00a0b",
    "\u3000\u3000中文",
    "a\u2003b\u2009c\u200a",
    "\u2028x\u2029y",
    "\u0085z",
    "\u180ea \u180e",
    "\u200bx\u200d\ufeff",
    "\u1680o\u205f\u202f",
    " " * 100,
    " " * 99 + "x",
    "\n" * 60,
    " \n" * 30,
    "...\n\n",
    "!\r\n?",
    "end.   \n\n   Start",
    "\v\f x",
]
CONTROLS = [
    "\x00",
    "a\x00b",
    "\x00\x00\x00",
    "\x01\x02\x1b[31m\x7f",
    "\x1c\x1d\x1e\x1f",
    "\x80\x9f",
    "\ufffd\ufffe\uffff",
    "\U0010ffff\ue000",
]
SPECIALS = [
    "<|endoftext|>",
    "a<|endoftext|>b",
    "<|im_start|>user\nhi<|im_end|>\n",
    "<|endoftext|><|endoftext|>",
    "<|endoftext|",
    "|endoftext|>",
    "<<|im_end|>>",
    "<|im_end|>\u0338",
    "e<|im_end|>\u0301",
    "<think>\n\n</think>\n\n",
    "<tool_call>{}</tool_call>",
    "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>",
    "<|vision_start|><|image_pad|><|vision_end|>",
    'print("<|endoftext|>")',
    " <|im_start|> ",
    "<|IM_START|>",
    "<|endoftext|>\x00<think>",
]


def main():
    tokenizer = Tokenizer.from_file(sys.argv[1])
    texts = [""] + ENGLISH + CHINESE + SCRIPTS + EMOJI + COMBINING + SPACES + CONTROLS + SPECIALS
    # Neighbours of different groups meet, too.
    texts += [a + b for a, b in zip(ENGLISH, SPACES)] + [a + b for a, b in zip(COMBINING, CHINESE)]
    texts += [a + b for a, b in zip(CONTROLS, SPECIALS)] + [
        "".join(CHINESE[:6] + ENGLISH[:6] + SCRIPTS + EMOJI)
    ]
    for text in texts:
        for special in [False, True] if "<" in text else [False]:
            tokenizer.encode_special_tokens = not special
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            print(json.dumps({"text": text, "special": special, "ids": ids}, ensure_ascii=True))


main()
