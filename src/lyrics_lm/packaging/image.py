"""A Bento as the context of a container image: what `docker build` needs, and nothing from this machine beside it.

BentoML's own Dockerfile (`bentoml containerize`) writes into its home when it starts; this one runs with a read-only
root and as a uid that owns nothing.
"""

import shutil
import subprocess
from pathlib import Path

from lyrics_lm import durable
from lyrics_lm.bundle import Bundle
from lyrics_lm.errors import DeliveryError
from lyrics_lm.packaging import bentos

_DOCKERFILE = """\
# {name}: one version behind the API. Run it read-only: 
# docker run --read-only --tmpfs /tmp -p 3000:3000 -e LYRICS_LM_API_KEYS {name}
# LYRICS_LM_API_KEYS holds the SHA-256 of each API key, between commas; `none` lets everyone in.
FROM python:3.11-slim-bookworm
COPY requirements.txt /bentoml/
RUN pip install --no-cache-dir --requirement /bentoml/requirements.txt && mkdir /bentoml/envs /bentoml/tmp
COPY bentoml /bentoml
ENV HOME=/tmp BENTOML_HOME=/bentoml BENTOML_DO_NOT_TRACK=true PROMETHEUS_MULTIPROC_DIR=/tmp/metrics OMP_NUM_THREADS=1
USER 10001:10001
WORKDIR /tmp
EXPOSE 3000
HEALTHCHECK --interval=10s --start-period=30s \\
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:3000/livez')"]
ENTRYPOINT ["bentoml", "serve", "{tag}", "--host", "0.0.0.0", "--port", "3000"]
"""


def name(repository: str, digest: str) -> str:
    """The image of a bundle."""
    return f"{repository}:{digest[:12]}"


def context(home: Path, of: Bundle, number: int, image: str) -> Path:
    """The folder to build the image from, made once for a bundle."""
    folder = home / "images" / of.digest[:12]
    if folder.is_dir():
        return folder
    bentos.import_model(home, of)
    tag = bentos.build(home, of, number)
    store = bentos.folder(home)
    with durable.directory(folder) as draft:
        for kind in ("bentos", "models"):
            place = Path(kind) / tag.replace(":", "/")
            shutil.copytree(store / place, draft / "bentoml" / place)
        (draft / "requirements.txt").write_text("\n".join(bentos.requirements(of)) + "\n")
        (draft / "Dockerfile").write_text(_DOCKERFILE.format(name=image, tag=tag))
    return folder


def engine() -> bool:
    """Whether a Docker engine answers here."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def build(folder: Path, image: str, *, push: bool) -> int:
    """Build the image, and push it where it is to be run elsewhere; returns its size in bytes.

    Raises `DeliveryError` with the engine's last line.
    """
    _docker("build", "--quiet", "--tag", image, str(folder))
    if push:
        _docker("push", "--quiet", image)
    return int(_docker("image", "inspect", "--format", "{{.Size}}", image))


def size(folder: Path) -> int:
    """Bytes of the context: the Bento and its bundle, without Python and the libraries."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _docker(*args: str) -> str:
    done = subprocess.run(["docker", *args], capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise DeliveryError(f"docker {args[0]} failed: {said}")
    return done.stdout.strip()
