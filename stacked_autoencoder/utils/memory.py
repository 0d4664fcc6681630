"""How much memory this process can still allocate: on its machine, in its container, and in its SLURM job."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

MEGABYTE = 1 << 20


class _Files(NamedTuple):
    """Names of the files of a control group."""

    limit: str
    used: str
    cached: str  # entry of `memory.stat`: cache that the system frees before the limit is reached


V1 = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
V2 = _Files("memory.max", "memory.current", "inactive_file")


def available_memory(root: Path = Path("/")) -> int:
    """Returns the number of bytes that this process can still allocate.

    This is the minimum of the free memory of the machine, of the control groups of the process and all their parents
    (versions 1 and 2), of its limit of address space (`ulimit -v`), and of its share of a SLURM job.

    Args:
        root: root of the file system, which holds `proc` and `sys`.
    """
    known = _number(root / "proc/meminfo", r"MemAvailable:\s+(\d+) kB")
    free = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known is None else known * 1024]
    free += _free_in_groups(root)
    size, resident = _own_memory(root)
    free += [limit - size for limit in _limits_of_addresses()]
    free += [limit - resident for limit in _limits_of_job()]
    return max(0, min(free))


def _free_in_groups(root: Path) -> Iterator[int]:
    """Yields the free memory of each control group of the process."""
    for folder, top, names in _groups(root):
        for group in (folder, *folder.parents):
            limit, used = (_number(group / name, r"\A(\d+)\s*\Z") for name in (names.limit, names.used))
            if limit is not None and used is not None:
                yield limit - used + (_number(group / "memory.stat", rf"(?m)^{names.cached} (\d+)$") or 0)
            if group == top:
                break


def _groups(root: Path) -> Iterator[tuple[Path, Path, _Files]]:
    """Yields the folder of the group and the top folder, for each hierarchy of groups that limits memory."""
    paths = {}
    for line in _text(root / "proc/self/cgroup").splitlines():  # 0::/path, or 4:memory:/path
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            paths[V2] = path
        elif "memory" in controllers.split(","):
            paths[V1] = path
    for line in _text(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = (*after.split(" "), "", "", "")[:3]
        names = V2 if kind == "cgroup2" else V1 if kind == "cgroup" and "memory" in options.split(",") else None
        if names in paths:
            mounted, top = map(_unescaped, before.split(" ")[3:5])
            top = root / top.lstrip("/")
            # In a container, the top can be the container's group, while the path is the path on the machine.
            path = PurePosixPath(paths[names])
            below = path.relative_to(mounted) if path.is_relative_to(mounted) else PurePosixPath()
            folder = top / below if ".." not in below.parts and (top / below).is_dir() else top
            yield folder, top, names


def _unescaped(path: str) -> str:
    """Decodes a path of `mountinfo`, in which a space is written as `\\040`."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


def _limits_of_addresses() -> list[int]:
    try:
        import resource
    except ImportError:  # on Windows
        return []
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return [] if soft == resource.RLIM_INFINITY else [soft]


def _limits_of_job() -> list[int]:
    """Returns the memory limits of the job on this node in bytes, from the environment variables of SLURM."""
    node, per_cpu, cpus = (
        int(value) if (value := os.environ.get(name, "")).isdecimal() else 0
        for name in ("SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU", "SLURM_CPUS_ON_NODE")
    )
    return [limit * MEGABYTE for limit in (node, per_cpu * cpus) if limit]  # 0 stands for the whole node


def _own_memory(root: Path) -> tuple[int, int]:
    """Returns the address space and the resident memory of this process in bytes."""
    pages = [int(number) for number in re.findall(r"\d+", _text(root / "proc/self/statm"))[:2]]
    size, resident = pages if len(pages) == 2 else (0, 0)
    page = os.sysconf("SC_PAGE_SIZE")
    return size * page, resident * page


def _number(file: Path, pattern: str) -> int | None:
    found = re.search(pattern, _text(file))
    return int(found[1]) if found else None


def _text(file: Path) -> str:
    """Returns the text of a system file, or an empty text if it does not exist or cannot be read."""
    with suppress(OSError):
        return file.read_text(encoding="utf-8", errors="replace")
    return ""
