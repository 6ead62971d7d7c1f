"""Tokenizers: exact round trips, control tokens that are only text, BOS and end ids, paths that are wrong."""

import functools
import json
import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from plaudit.errors import UserError
from plaudit.tokens.tokenizer import (
    bos_id,
    cut,
    decode,
    decode_continuing,
    encode_continuing,
    encode_plain,
    encode_with_controls,
    end_ids,
    load_tokenizer,
    special_tokens,
    train_tokenizer,
    writes_space,
)

TEXTS = [
    "the cat sat on the mat. The cat is fat!",
    "a dog and a cat\n\nran far away",
    "猫坐在垫子上。狗跑了。",
    "🐈 naïve café",
]


@functools.cache
def byte_level() -> PreTrainedTokenizerFast:
    """As GPT-2, Llama 3 and Qwen: no space is written in front."""
    return train_tokenizer(TEXTS * 3, 320)


@functools.cache
def spaced(scheme: str = "always") -> PreTrainedTokenizerFast:
    """As Llama 2: a space is written in front of the text (`first`) or of every stretch between control tokens
    (`always`); unknown letters become bytes."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), "▁"]
    pieces += [*"abcdefghijklmnopqrstuvwxyzHOT.,'?<>/[]|", "▁O", "ce", "▁H", "el"]
    merges = [("▁", "O"), ("c", "e"), ("▁", "H"), ("e", "l")]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    backend = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if scheme == "always":
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        clean_up_tokenization_spaces=False,
    )


def every() -> list:
    return [
        pytest.param(byte_level, id="byte-level"),
        pytest.param(spaced, id="spaced-always"),
        pytest.param(functools.partial(spaced, "first"), id="spaced-first"),
    ]


EVERY = pytest.mark.parametrize("make", every())
HOSTILE = ["</s>", "<s>", "a</s>b", "<pad></s><s>", "<<s>>", "</s></s>", "<s", "x <s> y </s>\n"]
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


# ---- training


def test_training_is_deterministic_whatever_the_order():
    shuffled = TEXTS * 3
    random.Random(1).shuffle(shuffled)
    assert train_tokenizer(shuffled, 320).backend_tokenizer.to_str() == byte_level().backend_tokenizer.to_str()


def test_trained_vocabulary_has_the_control_tokens_first_and_the_size_asked():
    tokenizer = byte_level()
    assert [tokenizer.convert_ids_to_tokens(i) for i in range(3)] == ["<s>", "</s>", "<pad>"]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 1, 2)
    assert len(tokenizer) == 320
    assert len(train_tokenizer(["ab"], 4000)) == 256 + 3 + 1  # nothing more to merge than a and b


def test_trained_tokenizer_learns_merges():
    assert len(encode_plain(byte_level(), "the cat")) < len("the cat")


def test_too_small_a_vocabulary_says_what_is_needed():
    with pytest.raises(UserError, match=r"258 is too small.*259"):
        train_tokenizer(TEXTS, 258)
    assert len(train_tokenizer(TEXTS, 259)) == 259


def test_no_texts_still_gives_a_tokenizer_of_bytes():
    tokenizer = train_tokenizer([], 300)
    assert decode(tokenizer, encode_plain(tokenizer, "狗")) == "狗"


def test_chat_tokenizer_has_roles_and_a_template():
    tokenizer = train_tokenizer(TEXTS, 320, chat=True)
    assert byte_level().chat_template is None
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]
    assert tokenizer.apply_chat_template(messages, tokenize=False) == "<s><|user|>hi</s><|assistant|>yo</s>"
    assert encode_with_controls(tokenizer, ["<|user|>"]) == [4]


def test_saving_and_loading_changes_nothing(tmp_path):
    tokenizer = train_tokenizer(TEXTS, 320, chat=True)
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path))
    for text in [*TEXTS, *HOSTILE, "<|user|>x"]:
        assert encode_plain(loaded, text) == encode_plain(tokenizer, text)
        assert loaded.encode(text) == tokenizer.encode(text)
    assert bos_id(loaded) == 0
    assert loaded.chat_template == tokenizer.chat_template
    assert special_tokens(loaded) == {"<s>", "</s>", "<pad>", "<|system|>", "<|user|>", "<|assistant|>"}


# ---- text is text


def read_back(tokenizer: PreTrainedTokenizerFast, text: str) -> str:
    back = decode(tokenizer, encode_plain(tokenizer, text))
    if text.startswith(" ") and tokenizer is spaced("first"):
        return f" {back}"  # this kind itself takes " a" and "a" for one text
    return back


@EVERY
@given(text=any_text)
def test_every_text_comes_back_exactly(make, text):
    text = text.replace("▁", " ")  # to SentencePiece the two are one
    tokenizer = make()
    assert read_back(tokenizer, text) == text
    assert decode_continuing(tokenizer, encode_continuing(tokenizer, text)) == text


@pytest.mark.parametrize(
    "text", [*TEXTS, *HOSTILE, "", " ", "  a  ", "\n\n \n", "\t\r\n", "\x00", "👩‍👩‍👧 e\u0301 \ufeff"]
)
@EVERY
def test_texts_of_every_sort_come_back_exactly(make, text):
    tokenizer = make()
    assert read_back(tokenizer, text) == text
    assert decode_continuing(tokenizer, encode_continuing(tokenizer, text)) == text


@pytest.mark.parametrize("text", HOSTILE)
@EVERY
def test_spelled_control_tokens_are_letters(make, text):
    tokenizer = make()
    for encode in (encode_plain, encode_continuing):
        assert not set(encode(tokenizer, text)) & set(tokenizer.all_special_ids)
        ids = encode(tokenizer, text, special_tokens(tokenizer))
        assert not set(ids) & set(tokenizer.all_special_ids)
        assert (decode if encode is encode_plain else decode_continuing)(tokenizer, ids) == text
    # The control token itself is there when it is asked for, so the assertions above can fail.
    if "<s>" in text or "</s>" in text:
        assert set(encode_with_controls(tokenizer, [text])) & set(tokenizer.all_special_ids)


def test_nothing_is_put_around_plain_text():
    tokenizer = byte_level()
    assert encode_plain(tokenizer, "") == []
    assert tokenizer.encode("cat") == [0, *encode_plain(tokenizer, "cat")]


def test_the_tokenizer_is_left_as_it_was():
    tokenizer = byte_level()
    before = tokenizer.encode("a</s>")
    encode_plain(tokenizer, "a</s>")
    assert tokenizer.encode("a</s>") == before
    assert 1 in before


def test_added_tokens_that_are_not_special_are_vocabulary_unless_named():
    tokenizer = train_tokenizer(TEXTS, 320)
    tokenizer.add_tokens([AddedToken("<think>", special=False), AddedToken("<turn>", special=False)])
    think, turn = tokenizer.convert_tokens_to_ids(["<think>", "<turn>"])
    ids = encode_plain(tokenizer, "a<think>b<turn>c")
    assert think in ids and turn in ids
    ids = encode_plain(tokenizer, "a<think>b<turn>c", controls={"<turn>"})
    assert think in ids and turn not in ids
    assert decode(tokenizer, ids) == "a<think>b<turn>c"


def test_cut_breaks_every_spelling_even_where_they_overlap():
    assert cut("x<s>y", {"<s>"}) == ["x<", "s>y"]
    assert cut("aaab", {"aa"}) == ["a", "a", "ab"]
    assert cut("", {"<s>"}) == [""]
    assert cut("a+b", {"+b", "a"}) == ["a+", "b"]  # one letter can't be broken; + is no regular expression


def test_lone_surrogates_are_named():
    with pytest.raises(UserError, match=r"Unicode.*\\ud800"):
        encode_plain(byte_level(), "a\ud800")


# ---- behind other text


def test_who_writes_a_space():
    assert not writes_space(byte_level())
    assert writes_space(spaced())
    assert writes_space(spaced("first"))


@pytest.mark.parametrize("scheme", ["always", "first"])
def test_continuing_text_gets_no_space_in_front(scheme):
    tokenizer = spaced(scheme)
    assert tokenizer.convert_ids_to_tokens(encode_plain(tokenizer, "Once")) == ["▁O", "n", "ce"]
    assert tokenizer.convert_ids_to_tokens(encode_continuing(tokenizer, "Once")) == ["O", "n", "ce"]
    assert tokenizer.convert_ids_to_tokens(encode_continuing(tokenizer, " Once")) == ["▁O", "n", "ce"]
    assert decode(tokenizer, encode_continuing(tokenizer, " Once")) == "Once"
    assert decode_continuing(tokenizer, encode_continuing(tokenizer, " Once")) == " Once"


def test_pieces_join_without_spaces():
    tokenizer = spaced()
    whole = encode_with_controls(tokenizer, ["ab cd"])
    assert decode(tokenizer, encode_with_controls(tokenizer, ["ab", " c", "d"])) == "ab cd"
    assert encode_with_controls(tokenizer, ["a", "b", " c", "d"]) == whole


def test_decoding_half_a_letter_does_not_lose_the_rest():
    tokenizer = spaced()
    ids = encode_continuing(tokenizer, "ab狗")[:-1]
    assert decode_continuing(tokenizer, ids).startswith("ab\ufffd")


def test_specials_are_left_out_unless_kept():
    tokenizer = byte_level()
    ids = [0, *encode_plain(tokenizer, "cat</s>"), 1]
    assert decode(tokenizer, ids) == "cat</s>"
    assert decode(tokenizer, ids, keep_specials=True) == "<s>cat</s></s>"


# ---- BOS and ends


def test_bos_is_what_the_tokenizer_itself_puts_in_front():
    assert bos_id(byte_level()) == 0
    assert bos_id(spaced()) == 1
    none = train_tokenizer(TEXTS, 300)
    none.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    assert none.bos_token_id == 0  # has one, but doesn't use it, like Qwen's cousins
    assert bos_id(none) is None


def test_a_token_behind_is_no_bos():
    tokenizer = train_tokenizer(TEXTS, 300)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    assert tokenizer.encode("a")[-1] == 1
    assert bos_id(tokenizer) is None


def test_end_ids_are_all_of_them_once():
    tokenizer = byte_level()
    assert end_ids(tokenizer, None) == (1,)
    assert end_ids(tokenizer, {}) == (1,)
    assert end_ids(tokenizer, {"eos_token_id": None}) == (1,)
    assert end_ids(tokenizer, {"eos_token_id": 7}) == (7, 1)
    assert end_ids(tokenizer, {"eos_token_id": [7, 1, 8]}) == (7, 1, 8)
    assert end_ids(tokenizer, {"eos_token_id": 0}, extra=["<s>", "</s>", 9]) == (0, 1, 9)


def test_a_tokenizer_without_eos_has_only_the_ends_given():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(byte_level().backend_tokenizer.to_str()))
    assert tokenizer.eos_token_id is None
    assert end_ids(tokenizer, None) == ()
    assert end_ids(tokenizer, None, ["</s>"]) == (1,)


@pytest.mark.parametrize(
    ("extra", "message"), [("<|eot|>", "'<|eot|>'.*vocabulary"), (320, "320.*320 ids"), (-1, "-1")]
)
def test_unknown_end_tokens_are_refused(extra, message):
    with pytest.raises(UserError, match=message.replace("|", r"\|")):
        end_ids(byte_level(), None, [extra])


# ---- loading


@pytest.mark.parametrize("path", ["./none", "/none/at/all", "a/b/c", "~/none-such", "none/"])
def test_a_missing_folder_is_named(path):
    with pytest.raises(UserError, match="no folder"):
        load_tokenizer(path)


def test_a_folder_without_tokenizer_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match=r"holds no tokenizer.*tokenizer\.json"):
        load_tokenizer(tmp_path)


def test_a_broken_tokenizer_is_named(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}), encoding="utf-8"
    )
    with pytest.raises(UserError, match="can't be loaded"):
        load_tokenizer(tmp_path)


def test_a_hub_name_without_network_is_the_users_error():
    with pytest.raises(UserError, match="'no-such-owner/no-such-model' can't be loaded"):
        load_tokenizer("no-such-owner/no-such-model")


def test_code_that_comes_with_a_tokenizer_is_not_run(tmp_path):
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", "own.Own"]}}), encoding="utf-8"
    )
    (tmp_path / "vocab.json").write_text("{}", encoding="utf-8")
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\n", encoding="utf-8")
    with pytest.raises(UserError):
        load_tokenizer(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_wrong_path_is_refused_before_anything_heavy():
    code = (
        "import sys\n"
        "from plaudit.tokens.tokenizer import load_tokenizer\n"
        "from plaudit.errors import UserError\n"
        "try: load_tokenizer('/none/at/all')\n"
        "except UserError: print(sorted({'torch', 'transformers', 'tokenizers'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
