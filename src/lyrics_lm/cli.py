"""The command line: parse, call a step, print, exit code. Imports nothing heavy before a verb needs it."""

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lyrics_lm import durable
from lyrics_lm.errors import ConformanceError, LyricsError

if TYPE_CHECKING:
    from lyrics_lm.params import Settings

_FILE = click.Path(path_type=Path)
_PRESETS = click.Choice(["sample", "full", "gpu"])
_json_flag = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
_here_flag = click.option("--here", is_flag=True, help="On a copy of this workspace: its songs, settings and versions.")


class _Verbs(click.Group):
    """Verbs in the order of a day's work; their errors in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return self._told(ctx)
        except LyricsError as error:
            click.echo(f"lyrics-lm: {error}", err=True)
            raise SystemExit(1) from error
        except KeyboardInterrupt:
            raise SystemExit(130) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(1) from None

    def _told(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OSError as error:
            raise durable.told(error) from error


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("-C", "directory", type=_FILE, default=".", metavar="DIR", help="The workspace, or a folder inside it.")
@click.version_option(package_name="lyrics-lm")
@click.pass_context
def main(context: click.Context, directory: Path) -> None:
    """From a pile of songs to a live lyrics API that keeps itself current.

    \b
    Start here:
      lyrics-lm init mine --corpus songs.csv
      lyrics-lm -C mine up
    """
    context.obj = directory


@main.command()
@click.argument("directory", type=_FILE)
@click.option(
    "--corpus",
    multiple=True,
    type=_FILE,
    metavar="FILE",
    help="CSV, JSON lines or Parquet with a text column; may be repeated.",
)
@click.option(
    "--preset",
    type=_PRESETS,
    default="sample",
    show_default=True,
    help="Settings for a sample's size, for tens of thousands of songs (hours), or for those on a GPU.",
)
@click.argument("more_corpus", nargs=-1, type=_FILE, metavar="[FILE]...")
@_json_flag
@click.pass_obj
def init(
    base: Path, directory: Path, corpus: tuple[Path, ...], preset: str, more_corpus: tuple[Path, ...], as_json: bool
) -> None:
    """Make a workspace: a Git and DVC repository.

    Settings, pipeline, networks and songs lie in it. Without --corpus it holds a generated sample of songs.

    \b
    Example:  lyrics-lm init mine --corpus songs.csv
    """
    from lyrics_lm.steps.init import init as step

    added = step(base / directory, [base / file for file in (*corpus, *more_corpus)], preset=preset)
    _show(
        added,
        as_json,
        f"{directory}: {_songs(added)}\nnext: lyrics-lm -C {directory} up",
    )


@main.command()
@click.option(
    "--port", default=3000, show_default=True, type=click.IntRange(1, 65535), help="Where the page and the API listen."
)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen at; another than this needs a key."
)
@click.pass_obj
def up(base: Path, port: int, host: str) -> None:
    """Start the whole loop on this machine.

    That is MLflow, the API with its page, and the controller.
    The bigram is live first; then the configured model trains, passes the gates and replaces it.
    Ctrl-C stops everything.

    \b
    Examples:  lyrics-lm up --port 8080
               lyrics-lm keys add ann && lyrics-lm up --host 0.0.0.0
    """
    from lyrics_lm.steps.up import up as step

    step(_settings(base), port, _say, host=host)


@main.group()
def keys() -> None:
    """Say who may ask the service from other machines.

    Where there is a key, every request needs one (authorization: Bearer KEY); without any, only this machine is
    answered. A running service knows of changes at once.
    """


@keys.command("add")
@click.argument("name")
@_json_flag
@click.pass_obj
def keys_add(base: Path, name: str, as_json: bool) -> None:
    """Make a key, and show it this once.

    \b
    Example:  lyrics-lm keys add ann
    """
    from lyrics_lm.steps.keys import add

    made = add(_settings(base), name)
    _show(made, as_json, made.key)


@keys.command("list")
@_json_flag
@click.pass_obj
def keys_list(base: Path, as_json: bool) -> None:
    """Show the names of all keys, and when each was made.

    With --json their SHA-256 too, which is what LYRICS_LM_API_KEYS holds for a container.

    \b
    Example:  lyrics-lm keys list
    """
    from lyrics_lm.steps.keys import every

    known = every(_settings(base))
    lines = [f"{time.strftime('%Y-%m-%d %H:%M', time.localtime(key.made))}  {key.name}" for key in known]
    _show(known, as_json, "\n".join(lines) or "no keys: the service answers this machine alone")


@keys.command("remove")
@click.argument("name")
@click.pass_obj
def keys_remove(base: Path, name: str) -> None:
    """Take a key back.

    \b
    Example:  lyrics-lm keys remove ann
    """
    from lyrics_lm.steps.keys import remove

    remove(_settings(base), name)
    click.echo(f"{name} opens nothing any more")


@main.group()
def airflow() -> None:
    """Run the loop under Airflow instead of the controller."""


@airflow.command("up")
@click.option(
    "--port", default=3000, show_default=True, type=click.IntRange(1, 65535), help="Where the page and the API listen."
)
@click.option(
    "--airflow-port", default=8080, show_default=True, type=click.IntRange(1, 65535), help="Where Airflow listens."
)
@click.pass_obj
def airflow_up(base: Path, port: int, airflow_port: int) -> None:
    """Start the whole loop on this machine, under Airflow 3.

    As `up`, with Airflow in the controller's place: it runs the DAGs in dags/ and shows every run. The first time,
    Airflow is installed into a virtual environment of its own. Ctrl-C stops everything.

    \b
    Example:  lyrics-lm airflow up --airflow-port 8081
    """
    from lyrics_lm.steps.airflow_up import airflow_up as step

    step(_settings(base), port, airflow_port, _say)


@main.group()
def data() -> None:
    """Add songs to the corpus."""


@data.command("add")
@click.argument("files", nargs=-1, required=True, type=_FILE, metavar="FILE...")
@_json_flag
@click.pass_obj
def data_add(base: Path, files: tuple[Path, ...], as_json: bool) -> None:
    """Check songs, copy them into the corpus and track it with DVC.

    Commit the moved pointer, and the controller trains on it.

    \b
    Example:  lyrics-lm data add new_songs.csv && git commit -am "more songs"
    """
    from lyrics_lm.steps.data_add import data_add as step

    added = step(_settings(base), [base / file for file in files])
    _show(added, as_json, f"added {_songs(added)}\nnext: git commit -am 'add songs', or: lyrics-lm train")


@main.command()
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Write a setting to params.yaml first; may be repeated.",
)
@click.option("--preset", type=_PRESETS, help="Write these settings first, as init would; --set goes over them.")
@_json_flag
@click.pass_obj
def train(base: Path, assignments: tuple[str, ...], preset: str | None, as_json: bool) -> None:
    """Train what lies here, and register it.

    Runs the pipeline (dvc repro: prepare, train, evaluate, export).
    With nothing changed it does no work. Uncommitted edits are trained too, and kept with the run.

    \b
    Examples:  lyrics-lm train --set model.name=bigram
               lyrics-lm train --set training.seeds=3      (the median is registered)
    """
    from lyrics_lm.steps import presets
    from lyrics_lm.steps.progress import bar
    from lyrics_lm.steps.train import describe
    from lyrics_lm.steps.train import train as step

    first = presets.assignments(preset) if preset else ()
    with bar() as show:
        trained = step(_settings(base), (*first, *assignments), on_progress=show)
    _show(trained, as_json, describe(trained))


@main.command()
@click.argument("directory", type=_FILE)
@_json_flag
@click.pass_obj
def check(base: Path, directory: Path, as_json: bool) -> None:
    """Check that a bundle meets the contract.

    Tries every rule, and says what to mend.

    \b
    Example:  lyrics-lm check build/bundle
    """
    from lyrics_lm.evaluation import conformance

    checked = conformance.check(base / directory)
    lines = [f"{'ok  ' if rule.passed else 'FAIL'}  {rule.rule}: {rule.observed}" for rule in checked.rules]
    _show(checked, as_json, "\n".join(lines))
    if checked.failure:
        raise ConformanceError(
            f"{directory} breaks the rule {checked.failure.rule}: {checked.failure.observed}; {checked.failure.remedy}"
        )


@main.command()
@click.argument("directory", type=_FILE)
@_json_flag
@click.pass_obj
def register(base: Path, directory: Path, as_json: bool) -> None:
    """Register a bundle as a version in MLflow.

    It must pass the conformance suite; the release loop takes it from there.

    \b
    Example:  lyrics-lm register ../other/bundle
    """
    from lyrics_lm.steps.register import register as step

    done = step(_settings(base), base / directory)
    word = "is already" if done.known else "is now"
    _show(done, as_json, f"bundle {done.digest[:12]} {word} version {done.version}")


@main.command()
@click.option("--target", default="local", show_default=True, help="Where to deploy.")
@_json_flag
@click.pass_obj
def deliver(base: Path, target: str, as_json: bool) -> None:
    """Judge and deploy what waits, once.

    One pass of the release loop: every waiting version is judged, packaged, tried and deployed.

    \b
    Example:  lyrics-lm deliver --target lambda
    """
    import logging

    from lyrics_lm.registry.server import tracking
    from lyrics_lm.steps.deliver import deliver as step
    from lyrics_lm.steps.release import outcome

    settings = _settings(base)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("lyrics_lm.delivery").setLevel(logging.INFO)
    with tracking(settings) as uri:
        candidates = step(settings, uri, target)
    text = "\n".join(outcome(candidate) for candidate in candidates) or "nothing waits"
    _show(candidates, as_json, text)


@main.command()
@click.option("--only-trials", is_flag=True, help="Attend to what was put live; an orchestrator does the rest.")
@click.pass_obj
def watch(base: Path, only_trials: bool) -> None:
    """Train commits and deliver versions, for ever.

    The controller, as `up` runs it.

    \b
    Example:  lyrics-lm watch
    """
    from lyrics_lm.steps.watch import watch as step

    step(_settings(base), _say, only_trials=only_trials)


@main.command()
@click.argument("name")
@click.option("--target", default="local", show_default=True, help="Where to deploy.")
@click.option("--skip-code", type=int, metavar="CODE", help="Exit code where a step had nothing to do; else 0.")
@click.pass_obj
def step(base: Path, name: str, target: str, skip_code: int | None) -> None:
    """Run one step of a loop, for orchestrators.

    JSON on standard input, JSON on standard output.

    \b
    Pipeline:  prepare train evaluate export
    Drift:     drift drift_alarm drift_answer
    Retrain:   retrain_prepare retrain_train retrain_evaluate retrain_export retrain_register
    Release:   fetch_new_model branch_on_new_model select_model import_model build_bento
               validate_bento deploy
    Example:   lyrics-lm step fetch_new_model | lyrics-lm step select_model
    """
    from lyrics_lm.steps.step import run

    text = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()
    done = run(_settings(base), name, text, target, _tell)
    if done.nothing and skip_code is not None:
        click.echo(done.nothing, err=True)
        raise SystemExit(skip_code)
    click.echo(done.output)


@main.command()
@click.argument("place", required=False, type=click.Choice(["dagshub", "local"]))
@click.argument("repo", required=False, metavar="[OWNER/REPO]")
@click.option("--tracking-uri", metavar="URL", help="An MLflow server of any other host.")
@click.option("--dvc-remote", metavar="URL", help="Where DVC keeps the songs there: http(s), s3, ssh, a folder ...")
@_json_flag
@click.pass_obj
def connect(
    base: Path, place: str | None, repo: str | None, tracking_uri: str | None, dvc_remote: str | None, as_json: bool
) -> None:
    """Keep registry and songs on a team's servers, or here again.

    Both are written to and read from before anything changes. The token comes from DAGSHUB_USER_TOKEN (elsewhere
    MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD) or is asked for, and is kept where Git does not look.

    \b
    Example:  lyrics-lm connect dagshub ann/songs
              lyrics-lm connect --tracking-uri https://mlflow.example.org --dvc-remote s3://songs/dvc
              lyrics-lm connect local
    """
    from lyrics_lm.connection import Connection, Login
    from lyrics_lm.steps import connect as step

    settings = _settings(base)
    if place == "dagshub" and repo and not (tracking_uri or dvc_remote):
        host = os.environ.get("DAGSHUB_CLIENT_HOST") or step.DAGSHUB
        done = step.connect(settings, step.dagshub(host, repo, _secret("DAGSHUB_USER_TOKEN", "DagsHub token")))
    elif place == "local" and not (repo or tracking_uri or dvc_remote):
        done = step.disconnect(settings)
    elif tracking_uri and not place:
        user = os.environ.get("MLFLOW_TRACKING_USERNAME")
        login = Login(user, _secret("MLFLOW_TRACKING_PASSWORD", f"Password of {user}")) if user else None
        done = step.connect(settings, Connection(tracking_uri, dvc_remote, login))
    else:
        raise click.UsageError("connect what? dagshub OWNER/REPO, or --tracking-uri URL, or local")
    _show(done, as_json, "\n".join(done.done))


@main.command()
@click.option("--target", default="local", show_default=True, help="Where it is live.")
@_json_flag
@click.pass_obj
def status(base: Path, target: str, as_json: bool) -> None:
    """Show what is live, waits and trains.

    And the last verdicts, gate by gate.

    \b
    Example:  lyrics-lm status --json
    """
    from lyrics_lm.steps.status import describe
    from lyrics_lm.steps.status import status as step

    seen = step(_settings(base), target)
    _show(seen, as_json, describe(seen))


@main.command()
@click.argument("subject", required=False, metavar="[VERSION or REQUEST-ID]")
@_json_flag
@click.pass_obj
def why(base: Path, subject: str | None, as_json: bool) -> None:
    """Show the evidence behind what is live.

    Or behind a version, or one answer: verdict, run, settings, commit, corpus.

    \b
    Example:  lyrics-lm why 3
    """
    from lyrics_lm.steps.why import describe
    from lyrics_lm.steps.why import why as step

    chain = step(_settings(base), subject)
    _show(chain, as_json, describe(chain))


@main.command()
@click.argument("version", type=click.IntRange(1), required=False)
@click.option("--html", "page", type=_FILE, metavar="FILE", help="Where to write the page about VERSION.")
@click.option("--base", "revision", metavar="REV", help="A commit, branch or tag to compare what lies here with.")
@click.option(
    "--out",
    type=_FILE,
    default="build/report",
    show_default=True,
    help="With --base: folder of report.md and its pictures.",
)
@_json_flag
@click.pass_obj
def report(base: Path, version: int | None, page: Path | None, revision: str | None, out: Path, as_json: bool) -> None:
    """Write a page about a version, or a comparison of two commits.

    A page to send to a colleague: verdict, scores, curves, model card. Or, with --base, Markdown with pictures for
    a pull request: what was trained here beside what that commit gave.

    \b
    Examples:  lyrics-lm report 3 --html version3.html
               lyrics-lm report --base main
    """
    settings = _settings(base)
    if version and page and not revision:
        from lyrics_lm.steps.model_report import write

        written = write(settings, version, base / page)
        _show(written, as_json, str(written.path))
    elif revision and not (version or page):
        from lyrics_lm.steps.report import compare

        made = compare(settings, revision, settings.root / out)
        _show(made, as_json, f"{made.verdict}\n{made.path}")
    else:
        raise click.UsageError("report what? VERSION --html FILE, or --base REV")


@main.command()
@click.argument("version", type=click.IntRange(1))
@_json_flag
@click.pass_obj
def replay(base: Path, version: int, as_json: bool) -> None:
    """Make a version again, and compare.

    From its commit, uncommitted edits, songs and settings, in a checkout of its own; nothing here changes.
    Ends with 1 when something differs, and says what does first.

    \b
    Example:  lyrics-lm replay 3
    """
    from lyrics_lm.steps.replay import describe
    from lyrics_lm.steps.replay import replay as step

    replayed = step(_settings(base), version)
    _show(replayed, as_json, describe(replayed))
    if replayed.difference:
        raise SystemExit(1)


@main.command()
@click.option("--target", default="local", show_default=True, help="Where to go back.")
@_json_flag
@click.pass_obj
def undo(base: Path, target: str, as_json: bool) -> None:
    """Go back to the previous deployment, at once.

    Undone again, one further back.

    \b
    Example:  lyrics-lm undo
    """
    from lyrics_lm.steps.undo import put_on_record
    from lyrics_lm.steps.undo import undo as step

    settings = _settings(base)
    deployment = step(settings, target)
    live = deployment.versions[0]
    _show(deployment, as_json, f"version {live.version} ({live.architecture}) is live again: {deployment.reason}")
    put_on_record(settings, target)


@main.group(invoke_without_command=True)
@click.option("--html", type=_FILE, metavar="FILE", help="Write the pictures there too.")
@_json_flag
@click.pass_context
def drift(context: click.Context, html: Path | None, as_json: bool) -> None:
    """Show whether prompts have drifted.

    Which signal, since when, how strong, and the prompts that look least like before.

    \b
    Example:  lyrics-lm drift --html drift.html
    """
    if context.invoked_subcommand:
        return
    from lyrics_lm.monitoring.report import describe
    from lyrics_lm.steps.drift import drift as step

    settings = _settings(context.obj)
    seen = step(settings)
    if html:
        from lyrics_lm.steps.drift_page import write

        write(settings, context.obj / html)
    _show(seen, as_json, describe(seen))


@drift.command("set-reference")
@click.argument("file", type=_FILE)
@_json_flag
@click.pass_obj
def drift_set_reference(base: Path, file: Path, as_json: bool) -> None:
    """Say what usual prompts are.

    One to a line, or the column `prompt` of a CSV or JSON lines file. Holds until another version is live.

    \b
    Example:  lyrics-lm drift set-reference prompts.txt
    """
    from lyrics_lm.monitoring.report import describe
    from lyrics_lm.steps.drift import set_reference as step

    seen = step(_settings(base), base / file)
    _show(seen, as_json, describe(seen))


@main.command()
@click.option("--target", default="local", show_default=True, help="Where it is tried.")
@click.option("--share", default=100, show_default=True, type=click.IntRange(1, 100), help="Percent of the traffic.")
@_json_flag
@click.pass_obj
def promote(base: Path, target: str, share: int, as_json: bool) -> None:
    """Let the version that is being tried take over.

    \b
    Example:  lyrics-lm promote --share 25
    """
    _shift(base, target, share, as_json)


@main.command()
@click.option("--target", default="local", show_default=True, help="Where it is tried.")
@_json_flag
@click.pass_obj
def abort(base: Path, target: str, as_json: bool) -> None:
    """Send the version that is being tried away.

    \b
    Example:  lyrics-lm abort
    """
    _shift(base, target, 0, as_json)


def _shift(base: Path, target: str, share: int, as_json: bool) -> None:
    from lyrics_lm.steps.shift import shift as step
    from lyrics_lm.steps.undo import put_on_record

    settings = _settings(base)
    deployment = step(settings, target, share)
    shares = ", ".join(f"version {one.version}: {one.share}%" for one in deployment.versions)
    _show(deployment, as_json, f"{shares} ({deployment.reason})")
    put_on_record(settings, target)


@main.command()
@click.argument("prompt", default="")
@click.option("--max-tokens", default=300, show_default=True, type=click.IntRange(1))
@click.option("--temperature", default=0.8, show_default=True, type=click.FloatRange(0, 2))
@click.option("--seed", type=int, help="Same seed, same text.")
@click.pass_obj
def generate(base: Path, prompt: str, max_tokens: int, temperature: float, seed: int | None) -> None:
    """Write lyrics with the live version.

    They come as they are drawn; no server is needed.

    \b
    Example:  lyrics-lm generate "love is" --seed 7
    """
    from lyrics_lm.steps.generate import generate as step

    for text in step(_settings(base), prompt, max_tokens=max_tokens, temperature=temperature, seed=seed):
        click.echo(text, nl=False)
        sys.stdout.flush()
    click.echo()


@main.command()
@click.option(
    "--port", default=3000, show_default=True, type=click.IntRange(1, 65535), help="The port `up` would take."
)
@_json_flag
@click.pass_obj
def doctor(base: Path, port: int, as_json: bool) -> None:
    """Check this machine and workspace.

    Says what to do about each thing that is missing.

    \b
    Example:  lyrics-lm doctor
    """
    from lyrics_lm.steps.doctor import doctor as step

    findings = step(base, port)
    lines = [
        f"{'ok  ' if item.ok else 'FAIL'}  {item.what}: {item.seen}{item.remedy and f'; {item.remedy}'}"
        for item in findings
    ]
    _show(findings, as_json, "\n".join(lines))
    if not all(item.ok for item in findings):
        raise SystemExit(1)


@main.command()
@click.option("--dry-run", is_flag=True, help="Only tell what would go, and why the rest stays.")
@click.option(
    "--keep", default=10, show_default=True, type=click.IntRange(0), help="So many undos stay possible at each target."
)
@_json_flag
@click.pass_obj
def gc(base: Path, dry_run: bool, keep: int, as_json: bool) -> None:
    """Make room: take away what nobody needs.

    Bentos, bundles, versions and runs that serve nowhere, that no undo brings back and that do not wait; and what
    can be made again. Safe at any time.

    \b
    Example:  lyrics-lm gc --dry-run
    """
    from lyrics_lm.steps.gc import describe
    from lyrics_lm.steps.gc import gc as step

    cleaned = step(_settings(base), keep=keep, dry=dry_run)
    _show(cleaned, as_json, describe(cleaned))


@main.command()
@click.argument("faults", nargs=-1, metavar="[FAULT]...")
@click.option("--short", is_flag=True, help="Two minutes of it.")
@_here_flag
@click.option("--html", type=_FILE, metavar="FILE", help="Write the report there too, with its picture.")
@_json_flag
@click.pass_obj
def drill(base: Path, faults: tuple[str, ...], short: bool, here: bool, html: Path | None, as_json: bool) -> None:
    """Break a loop on purpose, and see what holds.

    A loop is started in a folder that is thrown away, and asked twenty times a second. Then one fault after the
    other: processes killed, disk full, files torn, MLflow slow, versions that crash. For each: how many requests were
    answered, the longest outage, the time to recover, what was lost, and whether all is right at the end.
    Ends with 1 when a promise is broken. Nothing of yours is touched.

    \b
    Examples:  lyrics-lm drill --short
               lyrics-lm drill --here --html drill.html
               lyrics-lm drill "kill a worker" "disk full"
    """
    from rich.console import Console

    from lyrics_lm.drill import page
    from lyrics_lm.drill.drill import chosen
    from lyrics_lm.drill.drill import drill as step

    wanted = chosen(faults, short=short)
    with Console(stderr=True).status("starting a loop") as shown:
        report = step(wanted, lambda seen: shown.update(page.progress(seen)), here=_settings(base) if here else None)
    if html:
        page.write(report, base / html)
    if not as_json:
        Console().print(page.table(report))
    _show(report, as_json, page.summary(report))
    if not report.kept:
        raise SystemExit(1)


@main.command()
@click.argument("minutes", type=click.FloatRange(min=0.5))
@_here_flag
@click.option("--html", type=_FILE, metavar="FILE", help="Write the report there too, with its curves.")
@_json_flag
@click.pass_obj
def soak(base: Path, minutes: float, here: bool, html: Path | None, as_json: bool) -> None:
    """Let a loop work for long, and see what grows.

    As `drill`, without faults: for so many minutes, versions come, songs come, prompts drift, under a steady load.
    Memory, open files, disk and time to the answer are measured all along.

    \b
    Example:  lyrics-lm soak 30 --html soak.html
    """
    from rich.console import Console

    from lyrics_lm.drill import soak_page
    from lyrics_lm.drill.drill import soak as step

    with Console(stderr=True).status("starting a loop") as shown:
        report = step(minutes, shown.update, here=_settings(base) if here else None)
    if html:
        soak_page.write(report, base / html)
    if not as_json:
        Console().print(soak_page.table(report))
    _show(report, as_json, soak_page.summary(report))
    if not report.kept:
        raise SystemExit(1)


def _settings(base: Path) -> "Settings":
    from lyrics_lm import params

    return params.load(params.find(base))


def _secret(variable: str, what: str) -> str:
    """From the environment, or typed where nobody sees it."""
    given = os.environ.get(variable)
    if not given and not sys.stdin.isatty():
        raise click.UsageError(f"{variable} is not set, and there is no terminal to ask for it")
    return given or str(click.prompt(what, hide_input=True))


def _say(line: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')}  {line}")


def _tell(line: str) -> None:
    """To the orchestrator's log; and to a person, where `up` started the orchestrator."""
    click.echo(line, err=True)
    if narration := os.environ.get("LYRICS_LM_NARRATION"):
        with open(narration, "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%H:%M:%S')}  {line}\n")


def _show(record: Any, as_json: bool, text: str) -> None:
    if as_json:
        import msgspec

        text = json.dumps(msgspec.to_builtins(record), indent=2)
    click.echo(text)


def _songs(added: Any) -> str:
    set_aside = f", {added.rejects} rows set aside (first: {added.first_reject})" if added.rejects else ""
    known = f", {added.known} known already" if added.known else ""
    near = f", {added.near_duplicates} much like known ones" if added.near_duplicates else ""
    unknown = f", with characters new to the corpus: {added.unknown!r}" if added.unknown else ""
    apart = f", words {added.distance:.2f} away from the corpus's (0 alike, 1 none shared)" if added.distance else ""
    return f"{added.songs} songs{known}{near}{set_aside}{unknown}{apart}"
