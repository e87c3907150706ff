"""Makes a CUDA source one that a C++ compiler takes: `python launches.py IN.cu OUT.cpp`.

kernel<<<grid, block, shared, stream>>>(arguments) becomes a call of `emulated::start`, and shared memory whose size
the launch says becomes a pointer to the emulator's. All else that is CUDA's own is declared in `cuda_runtime.h`.
"""

import re
import sys
from pathlib import Path

SHARED = re.compile(r"extern __shared__ __align__\(\d+\) unsigned char (\w+)\[\];")
KERNEL = re.compile(r"[\w:]+(?:<[^;{}]*>)?\s*$")


def translate(source: str) -> str:
    """The source without launches."""
    source = SHARED.sub(r"unsigned char* \1 = emulated::shared_memory();", source)
    while (place := source.find("<<<")) >= 0:
        name = KERNEL.search(source, 0, place)
        if name is None:
            raise ValueError(f"no kernel before the launch at {source[place : place + 60]!r}")
        end = source.index(">>>", place)
        configuration = source[place + 3 : end]
        close = matching(source, source.index("(", end))
        call = name[0].strip() + source[end + 3 : close + 1]
        launch = f"emulated::start({{{configuration}}}, [&] {{ {call}; }})"
        source = source[: name.start()] + launch + source[close + 1 :]
    return source


def matching(text: str, opening: int) -> int:
    """The place of the parenthesis that closes the one at `opening`."""
    depth = 0
    for place in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return place
    raise ValueError("a parenthesis is not closed")


if __name__ == "__main__":
    given = Path(sys.argv[1])
    Path(sys.argv[2]).parent.mkdir(parents=True, exist_ok=True)
    Path(sys.argv[2]).write_text(f'#line 1 "{given}"\n{translate(given.read_text())}')
