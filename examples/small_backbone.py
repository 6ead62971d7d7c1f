"""A small encoder (BERT) or encoder-decoder (T5) from scratch, with a tokenizer of a data file's own words.

    python examples/small_backbone.py bert pairs.jsonl.gz models/bert
    python examples/small_backbone.py t5 pairs.jsonl.gz models/t5

What `model: {path: tiny}` is for decoders, this is for the other two backbones: random weights in Hugging Face format,
for tests and for a floor. A pretrained model's folder stands in its place wherever there is one.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import decoders as tokenizer_decoders
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from plaudit.data.options import DataConfig
from plaudit.data.sources import read_raw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=["bert", "t5"])
    parser.add_argument("data", help="file whose texts the tokenizer is made of")
    parser.add_argument("out", help="folder to write")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--vocabulary", type=int, default=1024)
    parser.add_argument("--context", type=int, default=512, help="tokens")
    parser.add_argument("--seed", type=int, default=0, help="of the weights")
    given = parser.parse_args()
    config = DataConfig(path=given.data, on_bad_row="skip", max_bad_fraction=1.0)
    texts = [text for _, raw in read_raw(config).raws for text in strings(raw)]
    words = (word_pieces if given.family == "bert" else sentence_pieces)(texts, given.vocabulary, given.context)
    torch.manual_seed(given.seed)
    model = (bert if given.family == "bert" else t5)(words, given.width, given.layers, given.context)
    model.save_pretrained(given.out)
    words.save_pretrained(given.out)
    print(f"{given.out}: {given.family}, {model.num_parameters():,} parameters, {len(words):,} tokens, random weights")


def strings(value: Any) -> Iterator[str]:
    """All text in a row, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from strings(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from strings(part)


def word_pieces(texts: list[str], size: int, context: int) -> PreTrainedTokenizerFast:
    """As BERT's: [CLS] x [SEP] y [SEP], lower case."""
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = tokenizer_decoders.WordPiece()
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=names, show_progress=False)
    backend.train_from_iterator(texts, trainer)
    special = [(name, backend.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=special
    )
    roles = {f"{name.strip('[]').lower()}_token": name for name in names}
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=context, **roles)


def sentence_pieces(texts: list[str], size: int, context: int) -> PreTrainedTokenizerFast:
    """As T5's: x </s>. The two letters that SteamSHP answers by are tokens, whatever the data holds."""
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("\n", " ")])
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = tokenizer_decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=size, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    backend = with_pieces(backend, ("▁A", "▁B"))
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", backend.token_to_id("</s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=context,
    )


def with_pieces(backend: Tokenizer, pieces: tuple[str, ...]) -> Tokenizer:
    """The same tokenizer with these pieces, rare ones where they are new."""
    whole = json.loads(backend.to_str())
    vocab = whole["model"]["vocab"]
    rare = min(score for _, score in vocab)
    known = {piece for piece, _ in vocab}
    vocab += [[piece, rare] for piece in pieces if piece not in known]
    return Tokenizer.from_str(json.dumps(whole))


def bert(words: PreTrainedTokenizerFast, width: int, layers: int, context: int) -> BertForMaskedLM:
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * width,
        max_position_embeddings=context,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=words.pad_token_id,
    )
    return BertForMaskedLM(config)


def t5(words: PreTrainedTokenizerFast, width: int, layers: int, context: int) -> T5ForConditionalGeneration:
    config = T5Config(
        vocab_size=len(words),
        d_model=width,
        d_kv=width // 4,
        d_ff=2 * width,
        num_layers=layers,
        num_decoder_layers=layers,
        num_heads=4,
        dropout_rate=0.0,
        pad_token_id=words.pad_token_id,
        eos_token_id=words.eos_token_id,
        decoder_start_token_id=words.pad_token_id,
    )
    return T5ForConditionalGeneration(config)


if __name__ == "__main__":
    main()
