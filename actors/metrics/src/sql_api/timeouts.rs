//! How long a statement of a client may take: less than the role's time, if it likes, not more.

use sqlx::PgPool;

use super::SqlError;
use crate::words::Words;

const SETTING: &str = "statement_timeout";

/// Refuses a time-out that is longer than the one that the role has.
pub(super) async fn check(sql: &str, words: &Words, pool: &PgPool) -> Result<(), SqlError> {
    let sets = |head: &Vec<String>| head[0] == "set" && head.iter().any(|word| word == SETTING);
    if !words.heads.iter().any(sets) {
        return Ok(());
    }
    let away = |error| SqlError::new("57P03", format!("the warehouse cannot be reached: {error}"));
    // What the role was given, whatever this connection has made of it.
    let least = format!("select reset_val::bigint from pg_settings where name = '{SETTING}'");
    let most: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(least))
        .fetch_one(pool)
        .await
        .map_err(away)?;
    match asked(sql) {
        Some(Asked::Default) => Ok(()),
        Some(Asked::Micros(micros)) if most == 0 || (1..=most * 1000).contains(&micros) => Ok(()),
        _ => {
            let most = format!("{most} ms");
            let message = format!("{SETTING} is at most {most} here: it can be lowered");
            let hint = format!("SET {SETTING} = '5s', alone in its text");
            Err(SqlError::new("42501", message).hint(hint))
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Default,
    Micros(i64),
}

/// What a text that sets the time-out and does nothing else asks for.
fn asked(sql: &str) -> Option<Asked> {
    let text = sql.trim().trim_end_matches(';').to_lowercase();
    let text = text.replace('=', " = ");
    let mut words = text.split_whitespace().peekable();
    words.next().filter(|word| *word == "set")?;
    words.next_if(|word| matches!(*word, "session" | "local"));
    words.next().filter(|word| *word == SETTING)?;
    words.next().filter(|word| matches!(*word, "to" | "="))?;
    let value: String = words.collect();
    if value == "default" {
        return Some(Asked::Default);
    }
    let quoted = value
        .strip_prefix('\'')
        .and_then(|rest| rest.strip_suffix('\''));
    let value = quoted.unwrap_or(&value);
    let digits = value.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = value.split_at(digits.unwrap_or(value.len()));
    let micros = match unit {
        "us" => 1,
        "" | "ms" => 1000,
        "s" => 1_000_000,
        "min" => 60_000_000,
        "h" => 3_600_000_000,
        _ => return None,
    };
    let number: i64 = number.parse().ok()?;
    number.checked_mul(micros).map(Asked::Micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_out_is_read_as_postgresql_reads_it_or_not_at_all() {
        let micros = |sql| match asked(sql) {
            Some(Asked::Micros(micros)) => Some(micros),
            _ => None,
        };
        assert_eq!(micros("SET statement_timeout = 5000;"), Some(5_000_000));
        assert_eq!(
            micros("set local statement_timeout to '2 min'"),
            Some(120_000_000)
        );
        assert_eq!(
            micros("set session statement_timeout='1s'"),
            Some(1_000_000)
        );
        assert_eq!(
            asked("SET statement_timeout TO DEFAULT"),
            Some(Asked::Default)
        );
        for unread in [
            "set statement_timeout = 1; set statement_timeout = 0",
            "set statement_timeout from current",
            "set /* */ statement_timeout = 0",
            "set statement_timeout = 1e9",
            "set statement_timeout = -1",
        ] {
            assert_eq!(asked(unread), None, "{unread}");
        }
    }
}
