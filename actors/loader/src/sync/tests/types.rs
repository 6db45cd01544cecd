//! Every PostgreSQL type with its nasty values: what lands equals what was there, to the byte of its
//! text, in both directions that rows travel.

use super::*;

const MAKE: &str = r#"
create domain price as numeric(8,2) check (value is null or value > -1);
create domain dear as price;
create domain tags as text[];
create type address as (street text, "no" int, at timestamptz);
create type span as range (subtype = float8);
create extension if not exists citext;
create extension if not exists hstore;"#;

/// A type, and values of it as literals; null is added to each.
const TYPES: &[(&str, &[&str])] = &[
    ("smallint", &["-32768", "32767"]),
    ("integer", &["-2147483648", "0"]),
    ("bigint", &["-9223372036854775808", "9223372036854775807"]),
    (
        "numeric",
        &[
            "NaN",
            "Infinity",
            "-Infinity",
            "1e-16383",
            "1e131071",
            "0.000",
            "-0.10",
        ],
    ),
    ("numeric(6,2)", &["9999.99", "-0.01", "NaN"]),
    ("numeric(3,-2)", &["12300"]),
    ("real", &["NaN", "-Infinity", "1.17549e-38", "-0"]),
    (
        "double precision",
        &["NaN", "Infinity", "1.7976931348623157e308", "5e-324", "-0"],
    ),
    ("money", &["-92233720368547758.08", "0.01"]),
    ("boolean", &["t", "f"]),
    (
        "text",
        &[
            "",
            "\\N",
            "\\.",
            "tab\tline\nreturn\r",
            "'; drop table t; --",
            "\u{1f58a} crayon",
            "NULL",
        ],
    ),
    ("character varying(5)", &["", "  a  "]),
    ("character(5)", &["a", ""]),
    ("\"char\"", &["a", ""]),
    ("name", &["a name"]),
    ("bytea", &["\\x", "\\x00ff5c", "\\xdeadbeef"]),
    (
        "date",
        &["infinity", "-infinity", "4713-01-01 BC", "5874897-12-31"],
    ),
    ("time", &["24:00:00", "00:00:00.000001"]),
    (
        "time with time zone",
        &["23:59:59.999999-15:59", "24:00+15:59"],
    ),
    (
        "timestamp",
        &[
            "infinity",
            "-infinity",
            "4713-01-01 00:00:00 BC",
            "294276-12-31 23:59:59.999999",
        ],
    ),
    (
        "timestamp with time zone",
        &[
            "infinity",
            "-infinity",
            "2026-03-29 02:30:00+02",
            "0001-01-01 00:00:00+00 BC",
        ],
    ),
    ("timestamp(0) with time zone", &["2026-01-01 00:00:00.6+00"]),
    (
        "interval",
        &[
            "-178000000 years",
            "1 mon -1 day 00:00:00.000001",
            "P1Y2M3DT4H5M6.7S",
        ],
    ),
    ("interval day to second(3)", &["1 day 02:03:04.567"]),
    (
        "uuid",
        &[
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
        ],
    ),
    (
        "json",
        &[
            "{\"a\":1,\"a\":2}",
            "\"\\u0000\"",
            " [1e400, 1.0 ] ",
            "null",
        ],
    ),
    (
        "jsonb",
        &["{\"b\": 1e400, \"a\": [null, -0.0]}", "null", "\"\""],
    ),
    ("jsonpath", &["$.a[*] ? (@ > 1)"]),
    ("xml", &["<a b=\"c\">d &amp; e</a>", "text only"]),
    ("bit(3)", &["101"]),
    ("bit varying(9)", &["", "110011001"]),
    ("inet", &["::ffff:1.2.3.4/96", "10.0.0.1/8"]),
    ("cidr", &["10.0.0.0/8", "::/0"]),
    ("macaddr", &["08:00:2b:01:02:03"]),
    ("macaddr8", &["08:00:2b:01:02:03:04:05"]),
    ("point", &["(NaN,-Infinity)", "(1e300,-0)"]),
    ("line", &["{1,2,3}"]),
    ("lseg", &["[(0,0),(1,1)]"]),
    ("box", &["(1,1),(0,0)"]),
    ("path", &["[(0,0),(1,1)]", "((0,0),(1,1))"]),
    ("polygon", &["((0,0),(1,1),(2,0))"]),
    ("circle", &["<(0,0),Infinity>"]),
    ("tsvector", &["'a':1A,2B 'it''s':3", ""]),
    ("tsquery", &["'a' & !( 'b' | 'c':*AB )"]),
    ("int4range", &["empty", "(,)", "[1,5)"]),
    ("numrange", &["[NaN,NaN]", "(-Infinity,)"]),
    (
        "tstzrange",
        &["[infinity,infinity]", "[2026-01-01 00:00+00,)"],
    ),
    ("int8multirange", &["{}", "{[1,3),[7,)}"]),
    (
        "integer[]",
        &["{}", "{NULL,1}", "[-1:1]={1,2,3}", "{{1,2},{3,4}}"],
    ),
    ("text[]", &["{\"\",NULL,\"NULL\",\"a,b\",\"\\\"\\\\\"}"]),
    ("numeric(6,2)[]", &["{NaN,1.10}"]),
    ("timestamptz[]", &["{infinity,-infinity}"]),
    ("jsonb[]", &["{\"{\\\"a\\\": 1}\"}"]),
    ("box[]", &["{(1,1),(0,0);(2,2),(1,1)}"]),
    ("int4range[]", &["{\"[1,2)\",empty}"]),
    ("oid", &["4294967295"]),
    ("xid", &["4294967295"]),
    ("xid8", &["18446744073709551615"]),
    ("tid", &["(4294967295,65535)"]),
    ("pg_lsn", &["FFFFFFFF/FFFFFFFF"]),
    ("pg_snapshot", &["10:20:10,14,15"]),
    ("int2vector", &["1 2 3"]),
    ("oidvector", &["1 2 3"]),
    ("regclass", &["pg_class"]),
    ("regtype", &["integer"]),
    ("regproc", &["pg_sleep"]),
    ("regrole[]", &["{}"]),
    ("aclitem", &[]),
    ("mood", &["good", "bad"]),
    ("mood[]", &["{good,NULL,bad}", "{}"]),
    ("price", &["1.10", "NaN"]),
    ("dear", &["99.99"]),
    ("price[]", &["{1.10,NULL}"]),
    ("tags", &["{a,\"b c\"}"]),
    ("address", &["(\"Main \"\"St\"\"\",7,infinity)", "(,,)"]),
    ("address[]", &["{\"(a,1,)\",NULL}"]),
    ("span", &["[1.5,2.5)", "empty"]),
    ("citext", &["MiXed", ""]),
    ("citext[]", &["{A,b}"]),
    ("hstore", &["\"a\"=>NULL, \"b\"=>\"c d\", \"e\"=>\"\\\"\""]),
];

/// One table with a column of each type; a row of nulls, then rows of values.
fn table() -> String {
    let columns: Vec<String> = TYPES
        .iter()
        .enumerate()
        .map(|(at, (sql_type, _))| format!("c{at} {sql_type}"))
        .collect();
    let most = TYPES.iter().map(|(_, values)| values.len()).max().unwrap();
    let rows = (0..most).map(|row| {
        let values: Vec<String> = TYPES
            .iter()
            .map(|(sql_type, values)| match values.get(row) {
                Some(value) => format!(
                    "{}::{sql_type}",
                    ballpoint_postgres::ident::quote_literal(value)
                ),
                None => "null".to_owned(),
            })
            .collect();
        format!("insert into t values ({}, {})", row + 2, values.join(", "))
    });
    let rows: Vec<String> = rows.collect();
    format!(
        "{MAKE} create table t (id int primary key, {}, updated_at timestamptz not null default now());
         create index on t (updated_at);
         insert into t (id) values (1); {}",
        columns.join(", "),
        rows.join("; ")
    )
}

#[tokio::test]
async fn every_type_lands_with_every_nasty_value_in_a_full_load_and_in_a_merge() {
    let pair = Pair::with(&table()).await;
    assert!(pair.sync().await.replaced);
    pair.assert_equal("t").await;
    pair.in_source("update t set id = id + 1000, updated_at = clock_timestamp() where id > 3")
        .await;
    let merged = pair.sync().await;
    assert!(merged.inserted > 0 && !merged.replaced, "{merged:?}");
    pair.in_warehouse("delete from raw.t where id between 4 and 999")
        .await;
    pair.assert_equal("t").await;
}

#[tokio::test]
async fn types_of_the_source_s_own_land_as_what_models_read_naturally() {
    let pair = Pair::with(&table()).await;
    pair.sync().await;
    for (sql_type, lands_as) in [
        ("mood", "text"),
        ("mood[]", "text[]"),
        ("price", "numeric(8,2)"),
        ("dear", "numeric(8,2)"),
        ("price[]", "numeric(8,2)[]"),
        ("tags", "text[]"),
        ("address", "text"),
        ("address[]", "text[]"),
        ("span", "text"),
        ("citext", "text"),
        ("hstore", "text"),
        ("regclass", "text"),
        ("numeric(3,-2)", "numeric(3,-2)"),
        ("timestamp(0) with time zone", "timestamp(0) with time zone"),
    ] {
        let at = TYPES
            .iter()
            .position(|(known, _)| *known == sql_type)
            .unwrap();
        let landed: String = one(
            pair.warehouse.pool(),
            &format!(
                "select format_type(atttypid, atttypmod) from pg_attribute
                 where attrelid = 'raw.t'::regclass and attname = 'c{at}'"
            ),
        )
        .await;
        assert_eq!(landed, lands_as, "{sql_type}");
    }
}
