//! A client arrives: what it says first, whose token it brings, and the connection that it is given.

use std::io;

use ballpoint_metrics::sql_api::SqlError;
use bytes::Bytes;
use tokio::net::TcpStream;

use super::SqlDoor;
use super::upstream::{self, Socket};
use super::wire::{self, MESSAGE_BYTES_MAX};
use crate::doors::{Identity, allowed};

const PROTOCOL_3: u32 = 196_608;
const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSS: u32 = 80_877_104;

/// What a client said when it came.
#[derive(Debug, Default)]
pub(super) struct Hello {
    application: String,
    encoding: String,
}

pub(super) fn failure(code: &'static str, message: impl Into<String>) -> SqlError {
    SqlError {
        code,
        message: message.into(),
        hint: None,
    }
}

/// Reads start-up packets until one starts a session; `None` for a request to cancel.
pub(super) async fn greet(client: &mut TcpStream, door: &SqlDoor) -> io::Result<Option<Hello>> {
    loop {
        let packet = wire::read_startup(client).await?;
        let Some((code, rest)) = packet.split_first_chunk::<4>() else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        match u32::from_be_bytes(*code) {
            SSL | GSS => wire::write(client, b"N").await?,
            CANCEL => {
                cancel(door, rest).await;
                return Ok(None);
            }
            PROTOCOL_3 => return Ok(Some(hello(rest)?)),
            // A later minor version: this is the one that is spoken here.
            other if other >> 16 == 3 => return Ok(Some(hello(rest)?)),
            _ => {
                let error = failure(
                    "08P01",
                    "the client speaks another protocol than PostgreSQL's 3.0",
                );
                wire::write(client, &wire::error("FATAL", &error)).await?;
                return Ok(None);
            }
        }
    }
}

fn hello(mut rest: &[u8]) -> io::Result<Hello> {
    let mut hello = Hello {
        application: String::new(),
        encoding: "UTF8".to_owned(),
    };
    while !rest.is_empty() && rest[0] != 0 {
        let (name, after) = wire::text(rest)?;
        let (value, after) = wire::text(after)?;
        match name {
            "application_name" => hello.application = value.chars().take(60).collect(),
            "client_encoding"
                if value
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)) =>
            {
                hello.encoding = value.to_owned();
            }
            _ => {}
        }
        rest = after;
    }
    // Texts are read here too.
    let is_utf8 = matches!(
        hello.encoding.to_lowercase().as_str(),
        "utf8" | "utf-8" | "unicode" | "sql_ascii" | "auto"
    );
    if !is_utf8 {
        hello.encoding = "UTF8".to_owned();
    }
    Ok(hello)
}

/// Cancels what runs under a key of the warehouse.
pub(super) async fn cancel(door: &SqlDoor, key: &[u8]) {
    let Ok(service) = door.metrics.service().await else {
        return;
    };
    let Some(at) = service.upstream() else { return };
    let Ok(mut socket) = upstream::dial(&at).await else {
        return;
    };
    let length = u32::try_from(key.len() + 8).unwrap_or_default();
    let (length, code) = (length.to_be_bytes(), CANCEL.to_be_bytes());
    // The warehouse says nothing to it, and may be gone.
    let _ = wire::write(&mut socket, &[&length[..], &code, key].concat()).await;
}

/// Asks for the password, which is a token or signed claims.
pub(super) async fn log_in(
    client: &mut TcpStream,
    door: &SqlDoor,
) -> io::Result<Result<Identity, SqlError>> {
    if let Some(open) = door.doors.identify_password(None) {
        return Ok(Ok(open));
    }
    wire::write(client, &wire::frame(b'R', &3_u32.to_be_bytes())).await?;
    let Some(frame) = wire::read(client, MESSAGE_BYTES_MAX).await? else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    if frame.kind != b'p' {
        return Ok(Err(failure("08P01", "a password was expected")));
    }
    let (password, _) = wire::text(&frame.body)?;
    let wrong = || {
        failure(
            "28P01",
            "password authentication failed: the password is a token of this server, or a JWT",
        )
    };
    let Some(identity) = door.doors.identify_password(Some(password)) else {
        return Ok(Err(wrong()));
    };
    Ok(match allowed(&identity.security_context(), "data") {
        Ok(()) => Ok(identity),
        Err((_, why)) => Err(failure("42501", why)),
    })
}

pub(super) async fn open(
    door: &SqlDoor,
    hello: &Hello,
) -> Result<(Box<dyn Socket>, Bytes), SqlError> {
    let away = |error: &dyn std::fmt::Display| failure("57P03", error.to_string());
    let service = door.metrics.service().await.map_err(|error| away(&error))?;
    let at = service
        .upstream()
        .ok_or_else(|| away(&"there is no warehouse"))?;
    upstream::connect(&at, &hello.application, &hello.encoding).await
}
