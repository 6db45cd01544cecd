"""The SQL API as Python's clients meet it: psycopg (extended protocol), psycopg2 (simple protocol),
SQLAlchemy (reflection and statements of its own). Prints one line a client; an assertion ends it.

    sql.py HOST PORT TOKEN
"""
import sys

import psycopg
import psycopg2
import sqlalchemy as sa

HOST, PORT, TOKEN = sys.argv[1], int(sys.argv[2]), sys.argv[3]
WHERE = dict(host=HOST, port=PORT, user="anybody", password=TOKEN, dbname="warehouse")


def refused(call, *parts):
    try:
        call()
    except Exception as error:  # each driver has errors of its own
        assert all(part in str(error) for part in parts), error
        return
    raise AssertionError(f"was not refused: {parts}")


def extended():
    with psycopg.connect(**WHERE) as connection:
        sql = 'SELECT "componentType", MEASURE(count) AS n, MEASURE("passRate") AS rate FROM "Production" GROUP BY 1 ORDER BY 1'
        rows = connection.execute(sql).fetchall()
        assert len(rows) == 3 and all(isinstance(row[1], int) for row in rows), rows
        total = connection.execute("SELECT MEASURE(count) FROM Production").fetchone()[0]
        assert total == sum(row[1] for row in rows)
        # Bound values, texts and times, in the text and in the binary form of rows.
        sql = 'SELECT MEASURE(count) FROM "Production" WHERE "componentType" = %s AND "productionDate" >= %s'
        for binary in (False, True):
            cursor = connection.cursor(binary=binary)
            one = cursor.execute(sql, (rows[0][0], "2020-01-01")).fetchone()[0]
            assert one == rows[0][1], (one, rows)
        assert connection.execute(sql, ("no'such", "2020-01-01")).fetchone()[0] == 0
        for _ in range(8):  # prepared from the fifth time on
            connection.execute(sql, (rows[1][0], "2020-01-01")).fetchone()
    for sql, part in [
        ("SELECT * FROM marts.fct_production", "not served"),
        ("SELECT nothing FROM \"Production\"", "does not exist"),
        ("DELETE FROM \"Production\"", "only reads"),
        ("CREATE TABLE x ()", "only reads"),
    ]:
        with psycopg.connect(**WHERE, autocommit=True) as connection:
            refused(lambda: connection.execute(sql, prepare=True), part)
            # The session goes on.
            assert connection.execute("SELECT 1").fetchone() == (1,)
    refused(lambda: psycopg.connect(**{**WHERE, "password": "guess"}), "password authentication failed")
    print("psycopg", psycopg.__version__)


def simple():
    connection = psycopg2.connect(**WHERE)
    cursor = connection.cursor()
    cursor.execute("SELECT MEASURE(count) FROM \"Production\" WHERE \"componentType\" <> %s", ("it's",))
    assert cursor.fetchone()[0] > 0
    refused(lambda: cursor.execute("SELECT * FROM marts.fct_production"), "not served")
    connection.rollback()
    cursor.execute("SHOW transaction_read_only")
    assert cursor.fetchone()[0] == "on"
    connection.close()
    print("psycopg2", psycopg2.__version__.split()[0])


def reflected():
    url = sa.URL.create("postgresql+psycopg", "anybody", TOKEN, HOST, PORT, "warehouse")
    engine = sa.create_engine(url)
    inspector = sa.inspect(engine)
    assert "Production" in inspector.get_table_names(), inspector.get_table_names()
    columns = {column["name"]: column["type"] for column in inspector.get_columns("Production")}
    assert isinstance(columns["count"], sa.BigInteger), columns
    assert isinstance(columns["productionDate"], sa.TIMESTAMP), columns
    table = sa.Table("Production", sa.MetaData(), autoload_with=engine)
    measure = sa.func.measure
    statement = (
        sa.select(table.c.componentType, measure(table.c.count).label("n"))
        .where(table.c.componentType.is_not(None))
        .group_by(table.c.componentType)
        .order_by(sa.desc("n"))
    )
    with engine.connect() as connection:
        rows = connection.execute(statement).all()
        assert len(rows) == 3 and rows[0].n >= rows[-1].n, rows
        month = sa.func.date_trunc("month", table.c.productionDate).label("month")
        months = connection.execute(sa.select(month, measure(table.c.count)).group_by(month).order_by(month)).all()
        assert len(months) >= 1 and months[0].month.day == 1, months
    print("SQLAlchemy", sa.__version__)


extended()
simple()
reflected()
