"""Every way in which a person gives a key to the program where something else belongs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from tests.coded_keys import KEY_OF_A_SERVICE as KEY

VARIABLE = "SERVICE_API_KEY"


@dataclass(frozen=True)
class Mistake:
    """Words after `moe`, and what is around them; URL in the words is that of a server that answers well."""

    words: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


JUDGE = ("evaluate", "--answers", "answers.jsonl", "--judge")
AT = ("--judge-url", "URL", "--judge-model", "m")
SHOW = ("config", "show")

WORDS = {
    **{
        f"--judge-key-env, {name}": (*JUDGE, "xstest", *AT, "--judge-key-env", text)
        for name, text in {
            "the key": KEY,
            "letters of it": "".join(filter(str.isalnum, KEY)),
            "Bearer": f"Bearer {KEY}",
            "an assignment": f"KEY={KEY}",
        }.items()
    },
    "--api-key-env": ("evaluate", "tiny", "--engine", "openai", "--base-url", "URL", "--api-key-env", KEY),
    "--api-key-env, prepare": ("prepare", "--engine", "openai", "--base-url", "URL", "--api-key-env", KEY),
    "--token-env": ("push", "run", "owner/name", "--token-env", KEY),
    "no such option": (*JUDGE, "xstest", *AT, f"--judge-key={KEY}"),
    "no such option, two words": (*JUDGE, "xstest", *AT, "--api-key", KEY),
    "an argument too many": ("evaluate", "tiny", KEY),
    "a command": (KEY,),
    "a number": ("evaluate", "tiny", "--seed", KEY),
    "a choice": ("evaluate", "tiny", "--engine", KEY),
    "a device": ("prepare", "--gpu", KEY),
    "a config file": ("config", "show", "--config", KEY),
    "a model": ("evaluate", KEY),
    "a model, prepare": ("prepare", "-m", KEY),
    "a repository": ("push", "run", KEY),
    "a run": ("runs", "show", KEY),
    "answers": ("evaluate", "--answers", KEY, "--kind", "harmful"),
    "items": ("evaluate", "tiny", "--items", KEY),
    **{
        f"--set {name}": (*SHOW, "--set", text.format(KEY=KEY))
        for name, text in {
            "judge.api_key": "judge.api_key={KEY}",
            "endpoint.key": "endpoint.key={KEY}",
            "the key": "{KEY}",
            "judge": "judge={KEY}",
            "endpoint": "endpoint='{KEY}'",
            "judge.key_env": "judge.key_env={KEY}",
            "judge.key_env, a list": "judge.key_env=['{KEY}']",
            "judge.key_env, a mapping": "judge.key_env={{a: '{KEY}'}}",
            "judge.key_env, a key": "judge.key_env={{'{KEY}': 1}}",
            "a section": "judge.{KEY}=1",
            "a name": "{KEY}=1",
            "judge.timeout": "judge.timeout={KEY}",
            "judge.model, a list": "judge.model=['{KEY}']",
            "endpoint.retries": "endpoint.retries={KEY}",
            "train.learning_rate": "train.learning_rate={KEY}",
            "userinfo": "judge.base_url=https://me:{KEY}@host/v1",
            "userinfo alone": "judge.base_url=https://{KEY}@host/v1",
            "query": "judge.base_url=https://host/v1?api_key={KEY}",
            "fragment": "judge.base_url=https://host/v1#{KEY}",
            "a list of addresses": "judge.base_url=['https://me:{KEY}@host/v1']",
            "port": "judge.base_url=https://host:{KEY}/v1",
            "no scheme": "judge.base_url={KEY}",
            "judges, no list": "evaluate.judges={{a: '{KEY}'}}",
        }.items()
    },
    **{
        f"userinfo, {option}": (*rest, option, f"https://me:{quote(KEY, safe='')}@127.0.0.1:1/v1")
        for option, rest in {
            "--judge-url": (*JUDGE, "xstest", "--judge-model", "m"),
            "--base-url": ("evaluate", "tiny", "--engine", "openai"),
        }.items()
    },
    **{
        f"judge, {name}": (*JUDGE, text.format(KEY=KEY))
        for name, text in {
            "the key": "{KEY}",
            "misspelt": "commnd:TOKEN={KEY} prog",
            "an assignment": "command:TOKEN={KEY} cat",
            "env": "command:env TOKEN={KEY} false",
            "no program": "command:{KEY}",
            "an open quote": "command:'{KEY}",
            "a program that fails and says it": "command:sh -c 'echo {KEY} >&2; exit 3'",
            "plugin": "plugin:{KEY}",
            "rubric": "rubric:{KEY}",
            "harmbench": "harmbench:{KEY}",
            "after a name": "strongreject:{KEY}",
            "keywords": "keywords:{KEY}",
        }.items()
    },
}

YAML = {
    "wrong type": "judge: {{key_env: ['{KEY}']}}",
    "wrong type of a number": "judge: {{timeout: '{KEY}'}}",
    "unknown key": "judge: {{api_key: '{KEY}'}}",
    "the name of a key": "judge: {{'{KEY}': 1}}",
    "the name of a section": "'{KEY}': {{a: 1}}",
    "a text alone": "'{KEY}'",
    "a list": "- '{KEY}'",
    "an open quote": 'judge:\n  api_key: "{KEY}',
    "an open list": "a: [{KEY}\nb: 1",
    "two colons": "key: {KEY}: b",
    "a tab": "judge:\n\tapi_key: {KEY}",
    "a key twice": "'{KEY}': 1\n'{KEY}': 2",
    "an alias": "judge: *{KEY}",
    "an anchor": "judge: &{KEY} 1",
    "a tag": "judge: !{KEY} 1",
    "a directive": "%{KEY}\n---\na: 1",
    "a directive of a tag": "%TAG {KEY} x\n---\na: 1",
    "an escape": 'judge: "\\q{KEY}"',
    "a sign that is none": "judge: @{KEY}",
    "a NUL": 'judge: {{model: "{KEY}\\0"}}',
    "deep": "judge: " + "[" * 60 + "'{KEY}'" + "]" * 60,
}

VARIABLES = {
    "MOE_JUDGE__API_KEY": KEY,
    "MOE_JUDGE_API_KEY": KEY,
    "MOE_JUDGE_KEY_ENV": KEY,
    "MOE_JUDGE__KEY_ENV": KEY,
    "MOE_JUDGE": KEY,
    "MOE_SEED": KEY,
    "MOE_ENDPOINT__TIMEOUT": KEY,
    "MOE_ENDPOINT__BASE_URL": f"http://me:{KEY}@host/v1",
    "MOE_EVALUATE__JUDGES": f"{{a: {KEY}}}",
}

RIGHT = {VARIABLE: KEY, "HF_TOKEN": KEY, "HUGGING_FACE_HUB_TOKEN": KEY, "WANDB_API_KEY": KEY}
FORMS_OF_A_RUN = {
    "judged": (*JUDGE, "xstest", *AT, "--judge-key-env", VARIABLE),
    "judged, --json": (*JUDGE, "xstest", *AT, "--judge-key-env", VARIABLE, "--json"),
    "judged, --dry-run": (*JUDGE, "xstest", *AT, "--judge-key-env", VARIABLE, "--dry-run", "--verbose"),
    "prepare, --dry-run": ("prepare", "--judge", "xstest", *AT, "--judge-key-env", VARIABLE, "--dry-run", "--json"),
    "evaluate, --dry-run": (
        "evaluate",
        "tiny",
        "--engine",
        "openai",
        "--base-url",
        "URL",
        "--api-key-env",
        VARIABLE,
        "--dry-run",
        "--verbose",
    ),
    "config show": (*SHOW, "--set", f"judge.key_env={VARIABLE}"),
    "config show --json": (*SHOW, "--json", "--set", f"judge.key_env={VARIABLE}"),
    "env": ("env",),
    "env --json": ("env", "--json"),
    "a program that judges prints its environment": (*JUDGE, "command:sh -c 'env; exit 3'"),
    "a program that judges complains of its environment": (*JUDGE, "command:sh -c 'env >&2; exit 3'"),
    "an address that holds it": (
        *JUDGE,
        "xstest",
        "--judge-url",
        f"URL/{quote(KEY, safe='')}",
        "--judge-model",
        "m",
        "--judge-key-env",
        VARIABLE,
    ),
    "a model that is it": (*JUDGE, "xstest", "--judge-url", "URL", "--judge-model", KEY, "--judge-key-env", VARIABLE),
    "a word of a program that is it": (
        *JUDGE,
        "xstest",
        *AT,
        "--judge-key-env",
        VARIABLE,
        "--judge",
        f"command:cat {KEY}",
    ),
    "a model of the hub": ("evaluate", "zorp/glim"),
    "data of the hub": ("evaluate", "tiny", "--items", "zorp/glim"),
}

MISTAKES = {
    **{f"words: {name}": Mistake(words) for name, words in WORDS.items()},
    **{
        f"YAML: {name}": Mistake((*SHOW, "--config", "bad.yaml"), files={"bad.yaml": text.format(KEY=KEY)})
        for name, text in YAML.items()
    },
    **{f"variable: {name}": Mistake(SHOW, {name: text}) for name, text in VARIABLES.items()},
    **{f"variable: {name}, env": Mistake(("env",), {name: text}) for name, text in VARIABLES.items()},
    **{f"key in its variable: {name}": Mistake(words, RIGHT) for name, words in FORMS_OF_A_RUN.items()},
}
