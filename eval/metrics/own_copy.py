"""
Refuses a metric of another version of this package. The file lies beside each metric script.

`evaluate` takes the newest metric of its cache. If two checkouts share a cache, this may be the metric of the checkout
that was imported last, in another process.
"""

import sys
from pathlib import Path


def check_own_copy(script: str) -> None:
    """
    Raises an `ImportError` if a script is not the one that the imported `ct_rate_pairs` has written to the same cache.
    Where `ct_rate_pairs` is not imported, as in a Space, nothing is checked.
    """
    path, install = Path(script).resolve(), sys.modules.get("ct_rate_pairs.eval.metrics.install")
    own = install and install.INSTALLED.get(path.stem)
    if own and own.resolve() != path and own.parent.parent.resolve() == path.parent.parent:
        raise ImportError(
            f"{path} is the metric of another version of ct_rate_pairs than {own}, which is imported here: another "
            "process has imported another checkout since. Call ct_rate_pairs.eval.metrics.install.register_metrics() "
            "and load the metric again, or give each checkout its own cache with HF_MODULES_CACHE=FOLDER."
        )
