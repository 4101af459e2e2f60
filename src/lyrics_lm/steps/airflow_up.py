"""`lyrics-lm airflow up`: the whole loop on this machine, with Airflow in the controller's place.

A trial, and the first minutes of a version, need a look every other second: that stays with the controller.
"""

from lyrics_lm import processes
from lyrics_lm.errors import MachineError
from lyrics_lm.orchestration import airflow, environment
from lyrics_lm.orchestration.airflow import Airflow
from lyrics_lm.params import Settings
from lyrics_lm.steps.up import Command, Say, controller, up


def airflow_up(settings: Settings, port: int, airflow_port: int, say: Say) -> None:
    """Start MLflow, the service and Airflow; return when all of them have ended.

    Raises `MachineError` when a port is taken, the workspace is up already or Airflow cannot be installed.
    """

    def conductor() -> dict[str, Command]:
        if fault := processes.port_fault(airflow_port):
            instead = processes.port_instead(airflow_port)
            raise MachineError(
                f"port {airflow_port} {fault}; take another: lyrics-lm airflow up --airflow-port {instead}"
            )
        executable = environment.ensure(settings.home / "airflow" / "venv", say)
        ours = Airflow(executable, settings.root, settings.home, airflow_port)
        password = ours.prepare()
        kept = f"as shown when it was made; it is in {ours.folder / airflow.PASSWORDS}"
        say(f"Airflow {ours.url}/, user {airflow.USER}, password {password or kept}")
        programs = {role: Command(line, ours.environment()) for role, line in ours.commands().items()}
        return {**programs, **controller(settings, "--only-trials")}

    up(settings, port, say, conductor=conductor)
