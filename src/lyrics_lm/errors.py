"""One class per kind of thing a person can fix; the text of each is one line: fact, value, remedy."""


class LyricsError(Exception):
    """Anything a person can mend. The command line prints it as one line and exits with 1."""


class WorkspaceError(LyricsError):
    """A folder is not a workspace, or its Git or DVC side is not in order."""


class ParamsError(LyricsError):
    """`params.yaml` or a `--set` names an unknown key or holds a value out of range."""


class CorpusError(LyricsError):
    """Song files cannot be read, hold too many unusable rows, or are too few to split."""


class BundleError(LyricsError):
    """A directory is not a bundle, or its files are not those its contract lists."""


class ConformanceError(LyricsError):
    """A bundle is whole but breaks a rule of the contract."""


class SignatureError(LyricsError):
    """A bundle is not signed as it must be: not at all, by somebody else, or as another one."""


class ModelError(LyricsError):
    """A model named in `params.yaml` cannot be loaded, trained or exported."""


class RegistryError(LyricsError):
    """MLflow cannot be reached, or holds no such version."""


class DeliveryError(LyricsError):
    """A version could not be packaged, started or put in place for a passing reason; try again."""


class KeysError(LyricsError):
    """An API key cannot be made, or is not there."""


class ServiceError(LyricsError):
    """The live service cannot be started or asked."""


class BusyError(LyricsError):
    """The service holds as many requests as it can; ask again."""


class MachineError(LyricsError):
    """This machine lacks a tool, a free port or room on its disk."""
