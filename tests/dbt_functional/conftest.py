"""Before dbt's own conftest: its suites drive the binary that DBT_BIN names."""
import shim  # noqa: F401
from dbt.flags import set_from_args
from argparse import Namespace

set_from_args(Namespace(), None)
pytest_plugins = "dbt.tests.fixtures.project"
