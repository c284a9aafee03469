"""Whether evaluated goals were trained on, detected by word n-grams that the training and the evaluation texts share.

Results on a goal that was trained on show what was taught, not what generalised, whatever attack the goal is in. Goals
are compared by the words of their user turns; a paraphrase, a translation, an encoding or a look-alike letter is not
recognised.

The search runs both ways: training goals in evaluated prompts, and evaluated prompts in training goals. Where the plain
form of a training goal is known, the attack text around it is not compared, so that a shared attack is no overlap.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil

from moe_cli.records import EvaluationItem, Message, TrainingExample
from moe_cli.records.inputs import source_of_form

BY_WORDS = "by words; paraphrases are not looked for"  # how far a count of goals can be trusted
NGRAM = 5  # words
LEAST_SHARE = 0.5  # of the n-grams of a goal
# Thai, Lao, Burmese, Khmer, Japanese and Chinese are written without spaces: every letter counts as a word.
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
WORD = re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}]+")
ALONE = ""  # stands behind the only word of a turn, which counts only as a whole turn
OTHER_GOALS = 1  # of the same side, that may not hold an n-gram which tells a goal from others
OTHER_SIDE = 3  # goals of the other side: one of them can be the same goal, and another one an attack on it
# Clusters that are made from the words of a goal: equal ones are equal goals. Other names can be anything.
OF_WORDS = re.compile(r"goal-[0-9a-f]{12}")

Gram = tuple[str, ...]
Turns = Sequence[Message]


@dataclass(frozen=True, slots=True)
class GoalText:
    """The words of a goal or a prompt."""

    cluster: str
    turns: tuple[Gram, ...]  # of the user

    @property
    def ngrams(self) -> frozenset[Gram]:
        """All 5-grams; a shorter turn counts as one n-gram."""
        return frozenset(gram for words in self.turns for gram in _ngrams(words, min(NGRAM, len(words))))

    def patterns(self) -> Iterator[Gram]:
        """The n-grams, each with every one of its words in turn as a wildcard."""
        return (pattern for gram in self.ngrams for pattern in _patterns(gram))

    def ngrams_of(self, lengths: Iterable[int]) -> set[Gram]:
        """All n-grams of these lengths."""
        return {gram for words in self.turns for length in lengths for gram in _ngrams(words, length)}


@dataclass(frozen=True, slots=True)
class TrainedGoals:
    """The goals of training examples."""

    goals: tuple[GoalText, ...]  # in their plain form where it is known
    forms: tuple[GoalText, ...]  # as they were trained on
    clusters: frozenset[str]


def trained_goals(examples: Iterable[TrainingExample], plain_forms: Mapping[str, Turns] | None = None) -> TrainedGoals:
    """The goals of the examples; `plain_forms` maps the id of a pair to its plain form.

    An attacked prompt whose plain form is not known is its own goal.
    """
    examples, plain = tuple(examples), dict(plain_forms or {})
    of_cluster = {example.cluster: example.messages for example in examples if example.kind == "refuse_plain"}
    goals = {
        (example.cluster, _turns(_plain_form(example, plain, of_cluster)))
        if example.kind == "refuse_attacked"
        else (example.cluster, _turns(example.messages))
        for example in examples
    }
    return TrainedGoals(
        goals=tuple(GoalText(*goal) for goal in sorted(goals)),
        forms=tuple(_text(example.cluster, example.messages) for example in examples),
        clusters=frozenset(example.cluster for example in examples),
    )


def goals_trained_on(goals: TrainedGoals, items: Iterable[EvaluationItem]) -> tuple[int, int]:
    """How many evaluated goals (clusters) are in the training examples, and how many are evaluated."""
    prompts = [(item.cluster, item.messages) for item in items]
    return len(clusters_trained_on(goals, prompts)), len({cluster for cluster, _ in prompts})


def clusters_trained_on(goals: TrainedGoals, prompts: Iterable[tuple[str, Turns]]) -> set[str]:
    """The clusters of the evaluated prompts whose goal is in the training examples.

    A goal counts as found if at least half of its 5-grams are in the user turns of the other side (all of its words in
    order where it is shorter). If most of these n-grams are common to other goals, up to one word ("How do I ... the
    ..."), half proves nothing: then all must be there.
    """
    texts = [_text(cluster, messages) for cluster, messages in prompts]
    searches = (
        _Search(_within(goals.goals, texts), texts, of_training=True),
        _Search(_within(texts, goals.goals), goals.goals, of_training=False),
    )
    by_id = {text.cluster for text in texts if text.cluster in goals.clusters and OF_WORDS.fullmatch(text.cluster)}
    trained_on = by_id.union(*(search.whole() for search in searches))
    patterns = {pattern for search in searches for text in search.texts for pattern in text.patterns()}
    trained = _clusters_with(goals.forms, patterns)
    evaluated = _clusters_with([text for text in texts if text.cluster not in trained_on], patterns)
    return trained_on.union(*(search.by_telling(trained, evaluated) for search in searches))


def words_of(text: str) -> Gram:
    """The words of a text without case, diacritics and invisible characters; wide letters as the usual ones."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(_unseen())
    return tuple(WORD.findall(text.casefold()))


@cache
def _unseen() -> dict[int, None]:
    """Format characters and combining marks that are no letter of their own."""
    return {code: None for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) in ("Cf", "Mn")}


def _text(cluster: str, messages: Turns) -> GoalText:
    return GoalText(cluster, _turns(messages))


def _turns(messages: Turns) -> tuple[Gram, ...]:
    spoken = (words_of(message.content) for message in messages if message.role == "user")
    return tuple(words if len(words) > 1 else (*words, ALONE) for words in spoken if words)


def _plain_form(example: TrainingExample, plain: Mapping[str, Turns], of_cluster: Mapping[str, Turns]) -> Turns:
    return plain.get(source_of_form(example.id)) or of_cluster.get(example.cluster) or example.messages


def _ngrams(words: Gram, length: int) -> Iterator[Gram]:
    return (words[place : place + length] for place in range(len(words) - length + 1))


@dataclass(frozen=True, slots=True)
class _Search:
    """Texts that are looked for in containers; one of the two is training and the other one evaluated."""

    texts: Sequence[GoalText]
    containers: Sequence[GoalText]
    of_training: bool  # the texts are goals of training

    def whole(self) -> Iterator[str]:
        """The evaluated clusters of every text of which a container has all n-grams."""
        return (self._cluster(text, held) for text, held, _ in self._matches([text.ngrams for text in self.texts], 1.0))

    def by_telling(self, trained: Counter[Gram], evaluated: Counter[Gram]) -> Iterator[str]:
        """The evaluated clusters of every text of which a container has half, and half of what tells it from others.

        The counters say how many clusters of either side hold a pattern. A text most of whose n-grams are common to
        other goals is told by none.
        """
        own, other = (trained, evaluated) if self.of_training else (evaluated, trained)
        telling = [
            frozenset(
                gram
                for gram in text.ngrams
                if all(own[p] <= OTHER_GOALS and other[p] < OTHER_SIDE for p in _patterns(gram))
            )
            for text in self.texts
        ]
        sets = [
            grams if 2 * len(grams) > len(text.ngrams) else frozenset[Gram]()
            for grams, text in zip(telling, self.texts, strict=True)
        ]
        for text, container, standing in self._matches(sets, LEAST_SHARE):
            if len(text.ngrams & standing) >= LEAST_SHARE * len(text.ngrams):
                yield self._cluster(text, container)

    def _cluster(self, text: GoalText, container: GoalText) -> str:
        return container.cluster if self.of_training else text.cluster

    def _matches(self, sets: Sequence[frozenset[Gram]], share: float) -> Iterator[tuple[GoalText, GoalText, set[Gram]]]:
        """Every text with a container that has this share of its set, and what that container has.

        Only the rarest n-grams of each set are indexed: a container with the share has at least one of any that are
        more than the rest. So texts that share all but a few words are not looked at in each other's containers.
        """
        frequency = Counter(gram for grams in sets for gram in grams)
        index: dict[Gram, list[int]] = defaultdict(list)
        for number, grams in enumerate(sets):
            allowed = len(grams) - ceil(share * len(grams)) + 1
            for gram in sorted(grams, key=lambda gram: (frequency[gram], gram))[:allowed]:
                index[gram].append(number)
        lengths = {len(gram) for gram in frequency}
        for container in self.containers:
            standing = container.ngrams_of(lengths)
            for number in {number for gram in standing & index.keys() for number in index[gram]}:
                if len(sets[number] & standing) >= share * len(sets[number]):
                    yield self.texts[number], container, standing


def _within(texts: Sequence[GoalText], containers: Sequence[GoalText]) -> list[GoalText]:
    """The texts of which all containers together have enough n-grams: no attack that is longer than its goal."""
    wanted = {gram for text in texts for gram in text.ngrams}
    lengths = {len(gram) for gram in wanted}
    standing = {gram for container in containers for gram in container.ngrams_of(lengths) & wanted}
    return [text for text in texts if len(text.ngrams & standing) >= LEAST_SHARE * len(text.ngrams)]


def _patterns(gram: Gram) -> Iterator[Gram]:
    """The n-gram with each of its words in turn as a wildcard."""
    return ((*gram[:place], "*", *gram[place + 1 :]) for place in range(len(gram)))


def _clusters_with(texts: Iterable[GoalText], relevant: set[Gram]) -> Counter[Gram]:
    """How many clusters hold each pattern."""
    of_cluster: dict[str, set[Gram]] = defaultdict(set)
    for text in texts:
        of_cluster[text.cluster] |= {p for gram in text.ngrams for p in _patterns(gram) if p in relevant}
    return Counter(pattern for patterns in of_cluster.values() for pattern in patterns)
