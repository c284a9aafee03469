"""The tiny model's tokenizer: one token per word, and a chat template that marks the answer.

Nothing comes in; a `PreTrainedTokenizerFast` goes out. Plain text gets no special token; decoding gives back the text.
A conversation reads `<user> ... <assistant> ... <end>`; `<end>` closes every answer and is the end of sequence.
"""

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from moe_cli.tiny.vocabulary import BASE_WORDS, NEW_WORDS, WORD_PATTERN

PAD, END, UNKNOWN = "<pad>", "<end>", "<unk>"
ROLES = ("<system>", "<user>", "<assistant>")
MAX_LENGTH = 2048
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "<assistant> {% generation %}{{ message['content'] }}<end>{% endgeneration %}"
    "{% elif message['role'] in ['system', 'user'] %}"
    "<{{ message['role'] }}> {{ message['content'] }}"
    "{% else %}{{ raise_exception('unknown role ' + message['role']) }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of the tiny model, with its chat template."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_word_tokenizer(),
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        additional_special_tokens=list(ROLES),
        model_max_length=MAX_LENGTH,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _word_tokenizer() -> Tokenizer:
    words = (PAD, END, UNKNOWN, *ROLES, *BASE_WORDS, *NEW_WORDS)
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex(WORD_PATTERN), behavior="isolated"),
        ]
    )
    # The WordPiece decoder puts a space before every word, then takes it away before marks like "." and ",".
    tokenizer.decoder = decoders.Sequence([decoders.WordPiece(prefix="##", cleanup=True), decoders.Replace(" :", ":")])
    return tokenizer
