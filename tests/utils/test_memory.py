import os
import resource

import pytest

from stacked_autoencoder.utils.memory import available_memory

MB = 1 << 20
V1 = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
V2 = "memory.max", "memory.current", "inactive_file"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A file system in which 1,000 MB are free, and no job."""
    for name in ("SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU", "SLURM_CPUS_ON_NODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    write(tmp_path / "proc/meminfo", f"MemTotal: 9 kB\nMemAvailable:    {1000 * 1024} kB\n")
    page = os.sysconf("SC_PAGE_SIZE")
    write(tmp_path / "proc/self/statm", f"{200 * MB // page} {100 * MB // page} 3 4 0 5 0\n")
    return tmp_path


def write(file, text):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def group(folder, names, limit, used, cached=0):
    limit = limit if isinstance(limit, str) else str(limit * MB)
    write(folder / names[0], f"{limit}\n")
    write(folder / names[1], f"{used * MB}\n")
    write(folder / "memory.stat", f"anon 5\n{names[2]} {cached * MB}\n")


def mounted(root, kind, path, *, top="/", where="/sys/fs/cgroup"):
    controllers = ":" if kind == "cgroup2" else "memory:"
    write(root / "proc/self/cgroup", f"5:cpu,cpuacct:/\n{'0:' if kind == 'cgroup2' else '4:'}{controllers}{path}\n")
    options = "rw" if kind == "cgroup2" else "rw,memory"
    lines = (
        f"1 0 8:1 / / rw - ext4 /dev/vda rw\n35 31 0:32 {top} {where} rw,relatime shared:9 - {kind} cgroup {options}\n"
    )
    write(root / "proc/self/mountinfo", lines)


def test_this_machine_has_some():
    assert MB < available_memory() < 1 << 50


def test_without_limits_it_is_what_the_machine_has(root):
    assert available_memory(root) == 1000 * MB
    mounted(root, "cgroup2", "/a")
    group(root / "sys/fs/cgroup/a", V2, "max", 50)
    assert available_memory(root) == 1000 * MB


@pytest.mark.parametrize(("kind", "names"), [("cgroup2", V2), ("cgroup", V1)])
def test_the_least_of_a_group_and_all_above_it_counts(root, kind, names):
    mounted(root, kind, "/job/step")
    folder = root / "sys/fs/cgroup"
    group(folder / "job/step", names, 500, 200)
    assert available_memory(root) == 300 * MB
    group(folder / "job", names, 600, 400)
    assert available_memory(root) == 200 * MB
    group(folder / "job", names, 600, 400, cached=250)  # files that the system lets go
    assert available_memory(root) == 300 * MB
    group(folder, names, 100, 90)
    assert available_memory(root) == 10 * MB
    group(folder, names, 100, 190)
    assert available_memory(root) == 0


def test_a_limit_of_version_1_that_is_none_counts_for_nothing(root):
    mounted(root, "cgroup", "/job")
    group(root / "sys/fs/cgroup/job", V1, str(9223372036854771712), 10)
    assert available_memory(root) == 1000 * MB


def test_the_group_of_a_container_is_the_top(root):
    mounted(root, "cgroup", "/docker/0123", top="/docker/0123", where="/sys/fs/cgroup/memory\\040of")
    group(root / "sys/fs/cgroup/memory of", V1, 500, 100)
    assert available_memory(root) == 400 * MB
    mounted(root, "cgroup2", "/../../elsewhere")
    group(root / "sys/fs/cgroup", V2, 500, 200)
    group(root / "sys/elsewhere", V2, 1, 1)
    assert available_memory(root) == 300 * MB


def test_the_limit_of_addresses_counts(root, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: {resource.RLIMIT_AS: (700 * MB, -1)}[which])
    assert available_memory(root) == 500 * MB


def test_the_share_of_a_job_counts(root, monkeypatch):
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "400")
    assert available_memory(root) == 300 * MB
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "0")  # all of the node
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "100")
    assert available_memory(root) == 1000 * MB
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "3")
    assert available_memory(root) == 200 * MB


def test_files_that_say_nothing_are_passed_over(root):
    for name in ("cgroup", "mountinfo"):
        write(root / "proc/self" / name, "")
    (root / "proc/meminfo").unlink()
    assert available_memory(root) > MB
