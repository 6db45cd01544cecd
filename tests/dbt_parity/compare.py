"""Builds one project with real dbt and with another dbt program and compares what they leave behind.

Each program works on its own copy of a database that holds the raw tables. It builds from nothing, lands the changes
of `late_and_moved.sql`, builds again, and builds once more from nothing. After each build the relations (columns,
types, rows) and the outcome of every node have to be equal between the programs, and the second build has to leave
the same rows as the third: an incremental run is worth nothing if it differs from a full one.

    python compare.py --database warehouse --other 'ballpoint dbt'

The server is the one that libpq's variables name (PGHOST, PGPORT, PGUSER, PGPASSWORD).
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCHEMAS = ("staging", "intermediate", "marts")
BUILDS = (("first", ["--full-refresh"]), ("delta", []), ("full", ["--full-refresh"]))


def psql(database, *arguments):
    """Runs psql and gives its output, one line a row with `|` between the columns."""
    command = ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", database, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def relations(database):
    """Every relation of the built schemas: its columns with their types, its row count and a checksum of its rows."""
    schemas = ", ".join(f"'{schema}'" for schema in SCHEMAS)
    listed = psql(
        database,
        "-c",
        f"""select table_schema || '.' || table_name,
                   string_agg(column_name || ' ' || data_type, ', ' order by ordinal_position)
            from information_schema.columns where table_schema in ({schemas}) group by 1 order by 1""",
    )
    found = {}
    for line in listed.splitlines():
        name, columns = line.split("|", 1)
        rows = psql(
            database,
            "-c",
            f"""select count(*), md5(coalesce(string_agg(row_hash, '' order by row_hash), ''))
                from (select md5(t::text) as row_hash from {name} as t) as hashes""",
        )
        found[name] = (columns, rows.strip())
    return found


def build(program, project, database, target, flags):
    """Runs `build` and gives the status of each node by its unique id."""
    environment = {
        **os.environ,
        "DBT_HOST": os.environ.get("PGHOST", "127.0.0.1"),
        "DBT_PORT": os.environ.get("PGPORT", "5432"),
        "DBT_USER": os.environ.get("PGUSER", "postgres"),
        "DBT_PASSWORD": os.environ.get("PGPASSWORD", ""),
        "DBT_DBNAME": database,
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }
    places = ["--project-dir", project, "--profiles-dir", project, "--target-path", target]
    done = subprocess.run(
        [*program, "build", *places, *flags], env=environment, capture_output=True, text=True
    )
    print(f"  {(done.stdout.strip().splitlines() or ['(no output)'])[-1]}")
    if done.returncode not in (0, 1):
        sys.exit(done.stdout + done.stderr)
    results = json.loads((Path(target) / "run_results.json").read_text())["results"]
    return {result["unique_id"]: result["status"] for result in results}


def builds(program, project, template):
    """The three builds of one program: name of the build -> (statuses, relations)."""
    database = f"{template}_parity"
    outcome = {}
    psql("postgres", "-c", f'drop database if exists "{database}"')
    psql("postgres", "-c", f'create database "{database}" template "{template}"')
    try:
        for schema in SCHEMAS:
            psql(database, "-c", f"set client_min_messages = error; drop schema if exists {schema} cascade")
        with tempfile.TemporaryDirectory() as target:
            for name, flags in BUILDS:
                if name == "delta":
                    psql(database, "-f", str(HERE / "late_and_moved.sql"))
                outcome[name] = (build(program, project, database, target, flags), relations(database))
    finally:
        psql("postgres", "-c", f'drop database "{database}"')
    return outcome


def differences(what, one, other):
    """A line for each key whose values differ."""
    keys = sorted(one.keys() | other.keys())
    return [f"{what}: {key}: {one.get(key)} != {other.get(key)}" for key in keys if one.get(key) != other.get(key)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", required=True, help="holds the raw tables; copied, never changed")
    parser.add_argument("--project", default=str(HERE.parent.parent / "warehouse"))
    parser.add_argument("--dbt", default="dbt", help="command of the real dbt")
    parser.add_argument("--other", help="command of the program to compare; without it dbt is compared with itself")
    arguments = parser.parse_args()

    found = []
    outcomes = []
    for command in [arguments.dbt, *([arguments.other] if arguments.other else [])]:
        print(command)
        outcome = builds(shlex.split(command), arguments.project, arguments.database)
        found += differences(f"{command}: delta and full", outcome["delta"][1], outcome["full"][1])
        outcomes.append(outcome)
    for name, _ in BUILDS if arguments.other else ():
        found += differences(f"{name} build: node", outcomes[0][name][0], outcomes[1][name][0])
        found += differences(f"{name} build: relation", outcomes[0][name][1], outcomes[1][name][1])
    for line in found:
        print(line)
    print(f"{len(found)} differences")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
