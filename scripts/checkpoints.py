"""The folder in which a command keeps the state of its trainings, so that it goes on from there."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scripts.options import Refusal


@contextmanager
def resumable(work: Path, run: Mapping[str, Any]) -> Iterator[None]:
    """Inside, checkpoints may be left in ``work``, whose file run.json says what they are of.

    Raises Refusal for a folder of another run, for an interruption, and for what a training refuses.
    """
    from golden.checks import JobError

    path, text = work / "run.json", json.dumps(run, indent=2) + "\n"
    if path.exists() and path.read_text() != text:
        raise Refusal(f"{work}: expected the state of this command, got another's; remove it, or choose another --out")
    work.mkdir(exist_ok=True)
    path.write_text(text)
    try:
        yield
    except KeyboardInterrupt:
        raise Refusal("interrupted; the same command goes on behind the last whole epoch") from None
    except ValueError as error:
        if isinstance(error, JobError):
            raise
        raise Refusal(str(error)) from None
    finally:
        if [one.name for one in work.iterdir()] == [path.name]:  # nothing to go on from
            shutil.rmtree(work)
