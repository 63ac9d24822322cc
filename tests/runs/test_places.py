"""Where runs are carried out: what the words and the cluster file mean."""

import re

import pytest
import yaml
from dask_jobqueue import SLURMCluster

from snt_core.common.errors import UserError
from snt_core.common.files import PROJECT
from snt_core.runs import places
from snt_core.runs.places import DaskPlace, chosen_place


def documented():
    """The cluster file on the page that says how to re-execute."""
    page = (PROJECT / "book" / "how_to_reexecute.md").read_text()
    return re.search(r"```yaml\n(kind: slurm\n.*?)```", page, re.DOTALL)[1]


def test_the_documented_slurm_file_asks_for_what_the_page_says(tmp_path):
    file = tmp_path / "slurm.yml"
    file.write_text(documented())
    place = chosen_place("dask", "", str(file))
    assert place == DaskPlace(
        kind="slurm", workers=4, options=yaml.safe_load(documented())["options"]
    )
    with SLURMCluster(**place.options, scheduler_options={"host": "127.0.0.1"}) as cluster:
        script = cluster.job_script()
    for line in ("#SBATCH -p gpu", "#SBATCH --gres=gpu:1", "#SBATCH -t 08:00:00"):
        assert line in script.splitlines()
    assert "--nthreads 4" in script
    assert "--resources GPU=1" in script


def test_a_scheduler_is_named_by_its_address():
    assert chosen_place("dask", "tcp://host:8786", "") == DaskPlace(scheduler="tcp://host:8786")
    assert chosen_place("local", "", "") is None


def test_without_the_package_a_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(places.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install -e '.\[cluster\]'"):
        chosen_place("dask", "host:1", "")


def test_a_cluster_that_does_not_start_is_told_in_a_line(tmp_path):
    place = DaskPlace(kind="slurm", options={"nonsense": 1})
    with (
        pytest.raises(UserError, match="a cluster of kind slurm does not start") as told,
        place._started(),
    ):
        pass
    assert "\n" not in str(told.value)
