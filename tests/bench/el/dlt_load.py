"""One full load with dlt's fastest backend for PostgreSQL: connectorx in, parquet out."""

import sys

import dlt
from dlt.sources.sql_database import sql_table

source, warehouse, table = sys.argv[1:]
pipeline = dlt.pipeline(
    "bench_el",
    destination=dlt.destinations.postgres(warehouse.replace("postgres://", "postgresql://", 1)),
    dataset_name="dlt_raw",
)
rows = sql_table(
    source.replace("postgres://", "postgresql://", 1),
    table=table,
    schema="public",
    backend="connectorx",
    reflection_level="full_with_precision",
)
pipeline.run(rows, write_disposition="replace", loader_file_format="parquet").raise_on_failed_jobs()
