"""Reads target/*.json of a project as dbt's own classes, their schemas and dbt-artifacts-parser do.
Prints one line per thing that is wrong; exit 1 if there is one."""
import json
import pathlib
import sys

import jsonschema
from dbt.artifacts.schemas.catalog import CatalogArtifact
from dbt.artifacts.schemas.freshness import FreshnessExecutionResultArtifact
from dbt.artifacts.schemas.manifest import WritableManifest
from dbt.artifacts.schemas.run import RunResultsArtifact
from dbt_artifacts_parser import parser

KINDS = {
    "manifest.json": (WritableManifest, parser.parse_manifest_v12),
    "run_results.json": (RunResultsArtifact, parser.parse_run_results_v6),
    "catalog.json": (CatalogArtifact, parser.parse_catalog_v1),
    "sources.json": (FreshnessExecutionResultArtifact, parser.parse_sources_v3),
}
target = pathlib.Path(sys.argv[1])
wrong = []
for name, (kind, parse) in KINDS.items():
    file = target / name
    if not file.exists():
        if name in sys.argv[2:]:
            wrong.append(f"{name}: missing")
        continue
    artifact = json.loads(file.read_text())
    for error in jsonschema.Draft202012Validator(kind.json_schema()).iter_errors(artifact):
        # The innermost of what a choice of types tried tells most.
        inner = min(error.context or [error], key=lambda it: -len(it.absolute_path))
        at = "/".join(str(part) for part in error.absolute_path)
        wrong.append(f"{name}: schema: {at}: {inner.message[:200]}")
    for what, read in (("dbt", kind.from_dict), ("parser", parse)):
        try:
            read(json.loads(file.read_text()))
        except Exception as error:
            wrong.append(f"{name}: {what}: {type(error).__name__}: {str(error)[:600]}")
print("\n".join(wrong[:40]))
sys.exit(1 if wrong else 0)
