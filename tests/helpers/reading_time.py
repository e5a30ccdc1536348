"""How the time to read a text grows with its length, whatever else the machine does."""

import gc
from time import thread_time


def grows_with_length(read, short, long) -> bool:
    """
    Whether `read(long)` takes at most twice its share of the time of `read(short)`, or too little to matter.

    Only this thread's own processor time counts, the shortest of several tries. The garbage collector rests: its pass
    over all that a session of tests holds takes longer than most texts.
    """
    gc.disable()
    try:
        share = len(long) / len(short)
        once = min(seconds(read, short) for _ in range(3))
        return any(seconds(read, long) < max(2 * share * once, 0.03) for _ in range(10))
    finally:
        gc.enable()


def seconds(read, text) -> float:
    start = thread_time()
    read(text)
    return thread_time() - start
