"""`moe push`: one commit with a run's final model, or with its experts alone, and a page with today's results.

Only files of the run whose digests match its manifest are sent, and only after all of them were checked. The token is
that of the hub's own login, or of a named environment variable; no message contains it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import huggingface_hub
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import (  # type: ignore[attr-defined] # HTTPError is that of the client it uses
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
)
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from moe_cli.activity import begin_activity
from moe_cli.artifacts import FinishedRun, Store, layout
from moe_cli.artifacts.registry import require_unchanged_run
from moe_cli.errors import ArtifactError, EnvironmentFaultError, MoeError, UsageError, first_line
from moe_cli.experts import experts_of, read_delta
from moe_cli.masking import keep_secret, mask_keys
from moe_cli.model.chat_endpoint import USUAL_NAME
from moe_cli.model.directory import PAGE, license_of
from moe_cli.records import CardFacts, EvaluationSummary, PrepareSummary, Push, PushedFile, SourceCount, TrainingSummary
from moe_cli.records.training import ARMS, OF_EXPERTS
from moe_cli.version import __version__

MAIN = "main"


def facts_of_run(run: FinishedRun, store: Store, holds: Literal["model", "delta"]) -> CardFacts:
    """Facts for the model page of a training run as of today, without evaluations of other weights or of a server's.

    Raises:
        ArtifactError: a file of the run, of its prepare run or of an evaluation is damaged.
    """
    training = run.record(layout.METADATA, TrainingSummary)
    trained = training.trained_fingerprint
    if (page := f"{layout.FINAL_MODEL}/{PAGE}") in run.manifest.files:
        run.file(page)  # the licence is read from its header
    evaluations = [
        evaluation
        for evaluation in _evaluations(run, store)
        if evaluation[1].model and evaluation[1].model.fingerprint == trained
    ]
    return CardFacts(
        holds=holds,
        base=training.base,
        license=license_of(run.path / layout.FINAL_MODEL),
        training=training,
        experts=experts_of(read_delta(run.file(layout.DELTA))[1]) if run.manifest.kind in OF_EXPERTS else (),
        routers=training.routers is not None,
        sources=_sources(run, store),
        evaluations=tuple(
            summary for _, summary in sorted(evaluations, key=lambda evaluation: evaluation[0], reverse=True)
        ),
        version=__version__,
    )


def _evaluations(run: FinishedRun, store: Store) -> Iterator[tuple[str, EvaluationSummary]]:
    """End time and summary of each complete evaluation of the run."""
    for manifest in sorted((run.path / layout.EVALUATIONS).glob(f"*/{layout.MANIFEST}")):
        evaluated = require_unchanged_run(manifest.parent, store, "evaluation")
        summary = evaluated.record(layout.EVALUATION_SUMMARY, EvaluationSummary)
        yield evaluated.manifest.finished, summary.with_plain_goals_apart


def _sources(run: FinishedRun, store: Store) -> tuple[SourceCount, ...] | None:
    """Sources of the training examples; None where the prepare run is not registered any more."""
    digest = run.manifest.parents.get("prepare")
    prepared = None if digest is None else store.with_digest(digest, "prepare")
    if prepared is None:
        return None
    return prepared.record(layout.PREPARE_SUMMARY, PrepareSummary).sources


def push(
    directory: Path,
    repository: str,
    store: Store,
    card: Callable[[CardFacts], str],
    *,
    delta: bool = False,
    private: bool = True,
    revision: str = MAIN,
    token_env: str | None = None,
    dry_run: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> Push:
    """Send the final model of the training run in `directory`, or with `delta` its trained experts, to `repository`.

    A repository that is missing is made, `private` or public. `dry_run` checks and lists everything and sends nothing.

    Raises:
        UsageError: no name of a repository, a delta of a run that has none, no token, or the repository is public and
            `private` is asked for.
        ArtifactError: no complete training run, or a file of it is missing or changed.
        EnvironmentFaultError: the hub cannot be reached, or refuses.
    """
    _check_name(repository)
    run = require_unchanged_run(directory, store, *ARMS)
    if delta and run.manifest.kind not in OF_EXPERTS:
        raise UsageError(f"{directory} trained everything, so it has no delta", hint="leave --delta away")
    _refuse_damaged(run)
    holds: Literal["model", "delta"] = "delta" if delta else "model"
    page = card(facts_of_run(run, store, holds))
    files = dict(_files(run, holds))
    result = Push(
        repository=repository,
        revision=revision,
        private=private,
        holds=holds,
        files=tuple(
            PushedFile(name=name, num_bytes=(run.path / path).stat().st_size, sha256=run.manifest.files[path])
            for name, path in files.items()
        ),
        num_bytes=sum((run.path / path).stat().st_size for path in files.values()),
        card=page,
        url=None,
    )
    if dry_run:
        return result
    operations = [CommitOperationAdd(name, layout.path_in(run.path, path)) for name, path in files.items()]
    url = _send(result, [*operations, CommitOperationAdd(PAGE, page.encode())], _token(token_env, environment))
    return replace(result, url=url)


def _check_name(repository: str) -> None:
    hint = "name the repository as owner/name"
    if repository.count("/") != 1:
        raise UsageError(f"{repository!r} is no name of a repository", hint=hint)
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise UsageError(f"{repository!r} is no name of a repository", hint=hint) from error


def _refuse_damaged(run: FinishedRun) -> None:
    with begin_activity("checking the files of the run"):
        damaged = run.damaged()
    if damaged:
        names = ", ".join(damaged[:3]) + (", ..." if len(damaged) > 3 else "")
        raise ArtifactError(
            f"{len(damaged)} files of {run.path} are missing or changed, so nothing was sent: {names}",
            hint="restore the files, or make the run again",
        )


def _files(run: FinishedRun, holds: Literal["model", "delta"]) -> Iterator[tuple[str, str]]:
    """Name in the repository -> name in the run; the page is written anew."""
    if holds == "delta":
        yield layout.DELTA, layout.DELTA
        return
    for path in run.manifest.files:
        name = path.removeprefix(f"{layout.FINAL_MODEL}/")
        if name not in (path, PAGE):
            yield name, path


def _token(name: str | None, environment: Mapping[str, str]) -> str:
    if name is None:
        if login := huggingface_hub.get_token():
            return login
        raise UsageError(
            "nobody is logged in to the hub on this machine",
            hint="hf auth login, or name the environment variable that holds a token with --token-env",
        )
    token = environment.get(name, "").strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        variable = name if re.fullmatch(USUAL_NAME, name) else "that --token-env names"
        raise UsageError(
            f"the environment variable {variable} should hold a token of the hub",
            hint="--token-env takes the name of the variable, not the token: export NAME=...",
        )
    return token


def _send(request: Push, operations: list[CommitOperationAdd], token: str) -> str:
    """Send everything in one commit; returns its address."""
    keep_secret(token)
    hub = HfApi(token=token)
    try:
        hub.create_repo(request.repository, private=request.private, exist_ok=True)
        if request.private and not hub.model_info(request.repository).private:
            raise UsageError(f"{request.repository} is public", hint="--public sends to it all the same")
        if request.revision != MAIN:
            hub.create_branch(request.repository, branch=request.revision, exist_ok=True)
        title = f"{'Trained experts' if request.holds == 'delta' else 'Final model'} of a moe run"
        commit = hub.create_commit(request.repository, operations, commit_message=title, revision=request.revision)
    except (HTTPError, ConnectionError) as error:
        raise _hub_fault(error, request.repository) from error
    return str(commit.commit_url)


def _hub_fault(error: Exception, repository: str) -> MoeError:
    """The error that says why the hub did not accept the commit."""
    reason = mask_keys(first_line(error))
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        return EnvironmentFaultError(
            f"the hub refuses {repository} with status {status}: {reason}",
            hint="see that the token may write there: hf auth whoami",
        )
    return EnvironmentFaultError(
        f"the hub cannot be reached: {type(error).__name__}: {reason}",
        hint="nothing was sent; run the command again where there is a network, without HF_HUB_OFFLINE",
    )
