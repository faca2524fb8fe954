import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("missing", ["datasets", "evaluate"])
def test_training_parts_name_the_extra_that_is_missing(missing):
    code = (
        f"import sys; sys.modules[{missing!r}] = None; import modeling_i2srm\n"
        "try: modeling_i2srm.mner_compute_metrics\n"
        "except ModuleNotFoundError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == f"mner_compute_metrics needs {missing}: pip install 'modeling-i2srm[train]'"
