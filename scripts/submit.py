"""Submits the study's missing cells to Slurm, one job a cell: `python -m scripts.submit seeds map --partition cpu`.

Needs the package submitit. `--executor local` runs the jobs as processes of this machine.
"""

import argparse

from firstlib.results import study
from scripts.study import missing


def main() -> None:
    """Submits the cells and prints their job numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("groups", nargs="+", help=f"cells, or groups of them: {', '.join(study.GROUPS)}")
    parser.add_argument("--executor", default="slurm", choices=("slurm", "local"))
    parser.add_argument("--partition", help="Slurm's")
    parser.add_argument("--wait", action="store_true", help="wait for the jobs, and fail if one does")
    options = parser.parse_args()
    jobs = submit(options.groups, options.executor, options.partition)
    for job in jobs:
        print(job.job_id)
    if options.wait:
        for job in jobs:
            job.result()


def submit(groups: list[str], cluster: str, partition: str | None = None) -> list:  # type: ignore[type-arg]
    """Returns one job for each missing cell."""
    import submitit  # only this script needs it

    executor = submitit.AutoExecutor(folder="runs/submitted", cluster=cluster)
    executor.update_parameters(timeout_min=120, cpus_per_task=2, mem_gb=3, name="first-study")
    if partition:
        executor.update_parameters(slurm_partition=partition)
    return executor.map_array(_compute, [cell.name for cell in missing(groups)])  # type: ignore[no-any-return]


def _compute(name: str) -> None:
    study.compute(study.cell_of(name))


if __name__ == "__main__":
    main()
