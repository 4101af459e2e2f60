"""The faults, in the order in which a drill makes them; the table of contents of all that may go wrong."""

from lyrics_lm.drill.fault import Fault
from lyrics_lm.drill.faults import bad_versions, clients, deliveries, machine, processes, registry, training

_WORKER, _RESTART = 1.0, 10.0  # seconds

FAULTS = (
    Fault("kill a worker", processes.worker, success=0.95, outage=_WORKER, when="both"),
    Fault("kill the service", processes.service, success=0.0, outage=_RESTART, when="both"),
    Fault("kill the controller", processes.controller, when="both"),
    Fault("kill MLflow", processes.mlflow, when="both"),
    Fault("control plane away", processes.control_plane, rate=100.0, when="both"),
    Fault("kill up", processes.up, success=0.0, outage=_RESTART),
    *(
        Fault(f"kill a delivery {moment}", deliveries.killed(moment), when="both" if moment == "in deploy" else "long")
        for moment in deliveries.MOMENTS
    ),
    Fault("two controllers", deliveries.two_controllers),
    Fault("a version registered twice at once", registry.twice, when="both"),
    Fault("fifty versions at once", registry.fifty),
    Fault("MLflow slow", registry.slow),
    Fault("MLflow refuses", registry.refusing),
    Fault("MLflow answers garbage", registry.garbage),
    Fault("kill data add", training.data_add),
    Fault("kill a training", training.training),
    Fault("kill an evaluation", training.evaluation),
    Fault("disk full", machine.disk_full, success=0.0, outage=60.0),
    Fault("torn files", machine.torn_files),
    Fault("clock jumps", machine.clock_jumps, success=0.0, outage=60.0),
    Fault("a version crashes when served", bad_versions.crashing, success=0.0, outage=60.0),
    Fault("a version hangs when served", bad_versions.hanging, success=0.0, outage=120.0),
    Fault("a version eats memory when served", bad_versions.hogging, success=0.0, outage=60.0),
    Fault("slow clients", clients.slow),
    Fault("clients vanish", clients.vanishing, when="both"),
    Fault("idle connections", clients.idle),
    Fault("poison prompts", clients.poison, when="both"),
    Fault("version swaps", deliveries.swaps(1000), rate=50.0),
    Fault("a few version swaps", deliveries.swaps(50), when="short"),
)
