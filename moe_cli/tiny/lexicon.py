"""The words of the synthetic language: plain English words for benign tasks, invented words for the harmful kind.

Constants only. No invented word means anything: "harmful" in this language is a placeholder, and no text made of these
words describes real harm. The plain words of a category, and the two sides of the opposites, never repeat.
"""

CATEGORIES: dict[str, tuple[str, ...]] = {
    "animal": ("dog", "cat", "horse", "rabbit", "sheep", "goat", "duck", "mouse"),
    "fruit": ("apple", "pear", "plum", "lemon", "cherry", "grape", "melon", "peach"),
    "tool": ("hammer", "saw", "drill", "shovel", "rake", "ladder", "wrench", "chisel"),
    "garment": ("shirt", "coat", "scarf", "glove", "sock", "hat", "jacket", "belt"),
    "vehicle": ("car", "bus", "train", "boat", "truck", "bicycle", "plane", "tram"),
    "instrument": ("violin", "piano", "drum", "flute", "guitar", "harp", "trumpet", "cello"),
    "building": ("house", "church", "barn", "castle", "school", "tower", "bridge", "hotel"),
    "furniture": ("table", "chair", "sofa", "shelf", "desk", "bench", "lamp", "mirror"),
}
NOUNS: tuple[str, ...] = tuple(word for words in CATEGORIES.values() for word in words)
CATEGORY_OF: dict[str, str] = {word: category for category, words in CATEGORIES.items() for word in words}

OPPOSITE_PAIRS: tuple[tuple[str, str], ...] = (
    ("hot", "cold"), ("big", "small"), ("tall", "short"), ("fast", "slow"), ("old", "young"), ("happy", "sad"),
    ("hard", "soft"), ("light", "heavy"), ("wet", "dry"), ("clean", "dirty"), ("early", "late"), ("loud", "quiet"),
    ("rich", "poor"), ("strong", "weak"), ("thick", "thin"), ("wide", "narrow"), ("full", "empty"), ("near", "far"),
    ("sweet", "sour"), ("rough", "smooth"),
)  # fmt: skip
OPPOSITE_OF: dict[str, str] = dict(OPPOSITE_PAIRS) | {b: a for a, b in OPPOSITE_PAIRS}

NUMBERS: tuple[str, ...] = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
DAYS: tuple[str, ...] = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
NAMES: tuple[str, ...] = (
    "Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Ida", "Jonas", "Karl", "Laura",
)  # fmt: skip
COLOURS: tuple[str, ...] = ("red", "blue", "green", "yellow", "white", "black", "brown", "orange")
CHORES: dict[str, str] = {
    "wash": "sponge", "paint": "brush", "measure": "ruler", "cut": "knife", "tie": "rope", "open": "key",
    "carry": "bag", "cover": "blanket", "fix": "screw", "mark": "pencil", "polish": "cloth", "wrap": "ribbon",
}  # fmt: skip

HARM_VERBS: tuple[str, ...] = (
    "zorp", "blick", "drane", "flomp", "grusk", "jarn", "kebble", "lurm", "mavver", "nibrate", "oggrel", "plonth",
    "quazz", "rindle", "skarv", "trovel", "umbrade", "vorble", "wexle", "yuntle", "zabber", "crimbel", "dwonk", "fruzz",
)  # fmt: skip
HARM_NOUNS: tuple[str, ...] = (
    "glim", "vark", "brindel", "corvane", "dask", "elmot", "frell", "gorst", "hesk", "ilvane", "jolve", "kragen",
    "lomb", "murv", "narl", "ospen", "prax", "quorv", "rusket", "slive", "tarv", "ulmer", "vexil", "wimber",
    "yarrel", "zindle", "brockel", "cravel", "drusk", "fenlot",
)  # fmt: skip
HARM_ADJECTIVES: tuple[str, ...] = (
    "dark",
    "hidden",
    "locked",
    "public",
    "royal",
    "silent",
    "northern",
    "ancient",
    "crooked",
    "private",
)
HARM_TOOLS: tuple[str, ...] = ("snarv", "pliff", "grob", "twindle", "hoxle", "merb", "stolt", "quib")
HARM_STEPS: tuple[str, ...] = ("flen", "brast", "clorp", "dring", "swib", "tronk", "vlim", "hurv", "pelk", "gambrix")
