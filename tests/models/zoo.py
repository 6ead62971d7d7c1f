"""Encoders and encoder-decoders small enough for tests, each with a tokenizer of its own kind, as folders.

    folder = zoo.save(tmp_path / "bert", "bert", texts)      # a masked language model's folder, 16 numbers wide

WordPiece (BERT), byte-level BPE (RoBERTa) and Unigram (DeBERTa, T5), trained on the given texts, each with the
post-processor that its family has.
"""

from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DebertaV2Config,
    DebertaV2ForMaskedLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
    T5Config,
    T5ForConditionalGeneration,
)

ENCODERS = ("bert", "roberta", "deberta", "modernbert")
ALL = (*ENCODERS, "t5")
TEXTS = (
    "the cat sat on the mat",
    "a dog ran to the red house",
    "abcdefgh abc gh",
    "A B . POST: RESPONSE A: RESPONSE B: Which response is better? RESPONSE",
)
_SHAPE = {
    "initializer_range": 0.1,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}


def tokenizer(family: str, texts: Iterable[str] = TEXTS) -> PreTrainedTokenizerFast:
    """Of the family's kind, trained on `texts`."""
    return {"bert": _word_piece, "modernbert": _word_piece, "roberta": _byte_bpe}.get(family, _unigram)(family, texts)


def _word_piece(family: str, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend.train_from_iterator(
        [*texts, *_LETTERS], trainers.WordPieceTrainer(vocab_size=200, special_tokens=names, show_progress=False)
    )
    backend.post_processor = _template(backend, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", ["[CLS]", "[SEP]"])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def _byte_bpe(family: str, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend.train_from_iterator(
        list(texts),
        trainers.BpeTrainer(vocab_size=320, special_tokens=names, initial_alphabet=alphabet, show_progress=False),
    )
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        cls_token="<s>",
        sep_token="</s>",
        mask_token="<mask>",
    )


def _unigram(family: str, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    t5 = family == "t5"
    names = ["<pad>", "</s>", "<unk>"] if t5 else ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    unknown = "<unk>" if t5 else "[UNK]"
    # Whole words and single letters with scores of a fixed order: training on so few texts would leave letters out.
    words = dict.fromkeys(f"▁{word}" for text in texts for word in text.split())
    letters = dict.fromkeys(letter for text in (*texts, *_LETTERS) for letter in text if letter != " ")
    pieces = [(name, 0.0) for name in names]
    pieces += [(piece, -2.0 - len(piece) * 0.01) for piece in words]
    pieces += [(piece, -8.0) for piece in ("▁", *letters) if piece not in words]
    backend = Tokenizer(models.Unigram(pieces, unk_id=names.index(unknown)))
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("\n", " ")])
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    if t5:
        backend.post_processor = _template(backend, "$A </s>", "$A </s> $B </s>", ["</s>"])
        return PreTrainedTokenizerFast(
            tokenizer_object=backend, eos_token="</s>", pad_token="<pad>", unk_token="<unk>", model_max_length=128
        )
    backend.post_processor = _template(backend, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", ["[CLS]", "[SEP]"])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


_LETTERS = ("a b c d e f g h i j k l m n o p q r s t u v w x y z < | > [ ] / A B C E L O P S U", "? ! . : ,")


def _template(backend: Tokenizer, single: str, pair: str, names: list[str]) -> processors.PostProcessor:
    special = [(name, backend.token_to_id(name)) for name in names]
    return processors.TemplateProcessing(single=single, pair=pair, special_tokens=special)


def language_model(family: str, words: PreTrainedTokenizerFast, *, noise: float = 0.0) -> PreTrainedModel:
    """The family's masked or sequence-to-sequence language model with random weights; `noise`: all its dropouts."""
    size, pad = len(words), words.pad_token_id
    quiet = {"hidden_dropout_prob": noise, "attention_probs_dropout_prob": noise}
    match family:
        case "bert":
            config = BertConfig(**_SHAPE, **quiet, vocab_size=size, max_position_embeddings=64, pad_token_id=pad)
            return BertForMaskedLM(config)
        case "roberta":
            config = RobertaConfig(
                **_SHAPE,
                **quiet,
                vocab_size=size,
                max_position_embeddings=66,
                type_vocab_size=1,
                pad_token_id=pad,
                bos_token_id=words.bos_token_id,
                eos_token_id=words.eos_token_id,
            )
            return RobertaForMaskedLM(config)
        case "deberta":
            config = DebertaV2Config(
                **_SHAPE,
                **quiet,
                pooler_dropout=noise,
                vocab_size=size,
                max_position_embeddings=64,
                pad_token_id=pad,
                type_vocab_size=0,
                relative_attention=True,
                position_buckets=16,
                norm_rel_ebd="layer_norm",
                share_att_key=True,
                pos_att_type=["p2c", "c2p"],
                position_biased_input=False,
            )
            return DebertaV2ForMaskedLM(config)
        case "modernbert":
            drops = {f"{part}_dropout": noise for part in ("attention", "embedding", "mlp", "classifier")}
            config = ModernBertConfig(
                **_SHAPE,
                **drops,
                vocab_size=size,
                max_position_embeddings=64,
                pad_token_id=pad,
                cls_token_id=words.cls_token_id,
                sep_token_id=words.sep_token_id,
                bos_token_id=words.cls_token_id,
                eos_token_id=words.sep_token_id,
                local_attention=8,
            )
            return ModernBertForMaskedLM(config)
        case "t5":
            config = T5Config(
                vocab_size=size,
                d_model=16,
                d_kv=8,
                d_ff=24,
                num_layers=2,
                num_decoder_layers=2,
                num_heads=2,
                dropout_rate=noise,
                classifier_dropout=noise,
                pad_token_id=pad,
                eos_token_id=words.eos_token_id,
                decoder_start_token_id=pad,
            )
            return T5ForConditionalGeneration(config)
    raise ValueError(family)


def save(folder: Path, family: str, texts: Iterable[str] = TEXTS, *, seed: int = 0, noise: float = 0.0) -> str:
    """Model and tokenizer in Hugging Face format."""
    words = tokenizer(family, list(texts))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        language_model(family, words, noise=noise).save_pretrained(folder)
    words.save_pretrained(folder)
    return str(folder)
