//! Conversations and their messages (`ballpoint.conversations`, `ballpoint.messages`).

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use sqlx::PgPool;

use super::{StoreError, timestamp};

/// Keeps conversations: an append-only list of messages each.
#[derive(Clone, Debug)]
pub struct Conversations {
    pool: PgPool,
}

/// A conversation in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConversationSummary {
    pub id: String,
    /// Its first question; empty while it has none.
    pub title: String,
    pub messages: i64,
    pub updated_at: Timestamp,
}

/// One message. Its content is JSON of the agent which wrote it; all that is known of it here is that
/// what a user said stands under `text`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StoredMessage {
    /// Counts from 1 within the conversation.
    pub seq: i32,
    /// `user` or `assistant`.
    pub role: String,
    pub content: Value,
    pub at: Timestamp,
}

impl Conversations {
    pub(super) fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Appends a message, beginning the conversation with its first; returns the message's `seq`.
    ///
    /// # Errors
    /// As every query.
    pub async fn append(&self, id: &str, role: &str, content: &Value) -> Result<i32, StoreError> {
        self.append_all(id, &[(role, content)]).await
    }

    /// Appends messages, each a role and its content: all of them or none, and none of others in
    /// between, because appends to one conversation are serialised by its row. Returns the last `seq`.
    ///
    /// # Errors
    /// As every query.
    pub async fn append_all(
        &self,
        id: &str,
        messages: &[(&str, &Value)],
    ) -> Result<i32, StoreError> {
        Ok(self.keep(id, None, messages).await?.unwrap_or_default())
    }

    /// Appends messages if the conversation still ends with message `after` (0: it has none yet);
    /// whether it did.
    ///
    /// # Errors
    /// As every query.
    pub async fn append_after(
        &self,
        id: &str,
        after: i32,
        messages: &[(&str, &Value)],
    ) -> Result<bool, StoreError> {
        Ok(self.keep(id, Some(after), messages).await?.is_some())
    }

    async fn keep(
        &self,
        id: &str,
        after: Option<i32>,
        messages: &[(&str, &Value)],
    ) -> Result<Option<i32>, StoreError> {
        let failed = || StoreError::query("keeping a message");
        let mut transaction = self.pool.begin().await.map_err(failed())?;
        // Its row lock makes the next statement see every earlier message.
        sqlx::query(
            "insert into ballpoint.conversations (id) values ($1)
             on conflict (id) do update set updated_at = clock_timestamp()",
        )
        .bind(id)
        .execute(&mut *transaction)
        .await
        .map_err(failed())?;
        let (mut last,): (i32,) = sqlx::query_as(
            "select coalesce(max(seq), 0) from ballpoint.messages where conversation_id = $1",
        )
        .bind(id)
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed())?;
        if after.is_some_and(|after| after != last) {
            return Ok(None);
        }
        for (role, content) in messages {
            (last,) = sqlx::query_as(
                "insert into ballpoint.messages (conversation_id, seq, role, content)
                 select $1, coalesce(max(seq), 0) + 1, $2, $3::text::json
                 from ballpoint.messages where conversation_id = $1
                 returning seq",
            )
            .bind(id)
            .bind(*role)
            .bind(content.to_string())
            .fetch_one(&mut *transaction)
            .await
            .map_err(failed())?;
        }
        transaction.commit().await.map_err(failed())?;
        Ok(Some(last))
    }

    /// The last `limit` messages of a conversation, oldest first; empty for an unknown one.
    ///
    /// # Errors
    /// As every query.
    pub async fn messages(&self, id: &str, limit: u32) -> Result<Vec<StoredMessage>, StoreError> {
        let rows: Vec<(i32, String, String, i64)> = sqlx::query_as(
            "select seq, role, content::text, (extract(epoch from at) * 1000000)::bigint
             from (select * from ballpoint.messages where conversation_id = $1
                   order by seq desc limit $2) latest
             order by seq",
        )
        .bind(id)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::query("reading a conversation"))?;
        rows.into_iter()
            .map(|(seq, role, json, micros)| {
                let content = serde_json::from_str(&json)
                    .map_err(StoreError::malformed(format!("message {seq} of {id}")))?;
                Ok(StoredMessage {
                    seq,
                    role,
                    content,
                    at: timestamp(micros),
                })
            })
            .collect()
    }

    /// The first question of a conversation; `None` while it has none.
    ///
    /// # Errors
    /// As every query.
    pub async fn title(&self, id: &str) -> Result<Option<String>, StoreError> {
        // As in a list.
        let title: Option<Option<String>> = sqlx::query_scalar(
            r"select replace(content::text, '\u0000', '\u0020')::json ->> 'text'
             from ballpoint.messages
             where conversation_id = $1 and role = 'user' order by seq limit 1",
        )
        .bind(id)
        .fetch_optional(&self.pool)
        .await
        .map_err(StoreError::query("reading a conversation"))?;
        Ok(title.flatten())
    }

    /// The latest conversations, newest first.
    ///
    /// # Errors
    /// As every query.
    pub async fn recent(&self, limit: u32) -> Result<Vec<ConversationSummary>, StoreError> {
        self.search("", limit).await
    }

    /// The latest conversations in which somebody has said `text`, in any case; newest first.
    ///
    /// # Errors
    /// As every query.
    pub async fn search(
        &self,
        text: &str,
        limit: u32,
    ) -> Result<Vec<ConversationSummary>, StoreError> {
        // JSON knows the character zero, PostgreSQL's text does not: a space is shown.
        let rows: Vec<(String, String, i64, i64)> = sqlx::query_as(
            r"select c.id, coalesce(first.text, ''), counted.messages,
                    (extract(epoch from c.updated_at) * 1000000)::bigint
             from ballpoint.conversations c
             left join lateral (
                 select replace(content::text, '\u0000', '\u0020')::json ->> 'text' as text
                 from ballpoint.messages
                 where conversation_id = c.id and role = 'user' order by seq limit 1
             ) first on true
             cross join lateral (
                 select count(*) as messages from ballpoint.messages where conversation_id = c.id
             ) counted
             where $1 = '' or exists (
                 select from ballpoint.messages
                 where conversation_id = c.id and role = 'user'
                   and strpos(lower(replace(content::text, '\u0000', '\u0020')::json ->> 'text'),
                              lower($1)) > 0
             )
             order by c.updated_at desc, c.id limit $2",
        )
        .bind(text.trim())
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::query("listing conversations"))?;
        Ok(rows
            .into_iter()
            .map(|(id, title, messages, micros)| ConversationSummary {
                id,
                title,
                messages,
                updated_at: timestamp(micros),
            })
            .collect())
    }

    /// Forgets a conversation; whether there was one.
    ///
    /// # Errors
    /// As every query.
    pub async fn delete(&self, id: &str) -> Result<bool, StoreError> {
        let done = sqlx::query("delete from ballpoint.conversations where id = $1")
            .bind(id)
            .execute(&self.pool)
            .await
            .map_err(StoreError::query("forgetting a conversation"))?;
        Ok(done.rows_affected() > 0)
    }
}
