//! A client's own connection to the warehouse: made, logged in, and ready to be talked through.

use std::io;

use ballpoint_metrics::sql_api::{SCHEMA, SqlError, Upstream};
use bytes::{Bytes, BytesMut};
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::wire::{self, Frame, MESSAGE_BYTES_MAX};

/// Either kind of socket.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Socket for T {}

/// Connects without a word.
pub(super) async fn dial(at: &Upstream) -> io::Result<Box<dyn Socket>> {
    if let Some(folder) = &at.socket {
        let path = folder.join(format!(".s.PGSQL.{}", at.port));
        return Ok(Box::new(UnixStream::connect(path).await?));
    }
    let stream = TcpStream::connect((at.host.as_str(), at.port)).await?;
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

/// Connects and logs in. What the server says once it knows us is the client's to hear.
pub(super) async fn connect(
    at: &Upstream,
    application: &str,
    encoding: &str,
) -> Result<(Box<dyn Socket>, Bytes), SqlError> {
    if at.needs_tls {
        let why = "the warehouse is reached over TLS only, which the SQL API does not do yet";
        return Err(SqlError {
            code: "08001",
            message: why.to_owned(),
            hint: None,
        });
    }
    let away = |error: io::Error| SqlError {
        code: "57P03",
        message: format!("the warehouse cannot be reached: {error}"),
        hint: None,
    };
    let mut socket = dial(at).await.map_err(away)?;
    let mut startup = BytesMut::new();
    let parameters = [
        ("user", at.user.as_str()),
        ("database", at.database.as_str()),
        ("application_name", application),
        ("client_encoding", encoding),
        ("search_path", SCHEMA),
        ("TimeZone", "UTC"),
        ("standard_conforming_strings", "on"),
        ("default_transaction_read_only", "on"),
    ];
    frontend::startup_message(parameters, &mut startup).map_err(away)?;
    wire::write(&mut socket, &startup).await.map_err(away)?;
    authenticate(&mut socket, at).await.map_err(away)?;
    let greeting = greeting(&mut socket).await.map_err(away)?;
    Ok((socket, greeting))
}

async fn next(socket: &mut Box<dyn Socket>) -> io::Result<Frame> {
    let frame = wire::read(socket, MESSAGE_BYTES_MAX).await?;
    frame.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

async fn message(socket: &mut Box<dyn Socket>) -> io::Result<Message> {
    let frame = next(socket).await?;
    let mut bytes = BytesMut::from(&wire::frame(frame.kind, &frame.body)[..]);
    let message = Message::parse(&mut bytes)?;
    message.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

async fn authenticate(socket: &mut Box<dyn Socket>, at: &Upstream) -> io::Result<()> {
    let mut reply = BytesMut::new();
    match message(socket).await? {
        Message::AuthenticationOk => return Ok(()),
        Message::AuthenticationCleartextPassword => {
            frontend::password_message(at.password.as_bytes(), &mut reply)?;
        }
        Message::AuthenticationMd5Password(body) => {
            let hash = md5_hash(at.user.as_bytes(), at.password.as_bytes(), body.salt());
            frontend::password_message(hash.as_bytes(), &mut reply)?;
        }
        Message::AuthenticationSasl(body) => {
            let offered = body.mechanisms().any(|it| Ok(it == SCRAM_SHA_256))?;
            if !offered {
                return Err(io::Error::other("it offers no SCRAM-SHA-256"));
            }
            return scram(socket, &at.password).await;
        }
        Message::ErrorResponse(body) => return Err(refused(&body)),
        _ => return Err(io::Error::other("it asks for a login of another kind")),
    }
    wire::write(socket, &reply).await?;
    accepted(socket).await
}

async fn scram(socket: &mut Box<dyn Socket>, password: &str) -> io::Result<()> {
    let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
    let mut out = BytesMut::new();
    frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut out)?;
    wire::write(socket, &out).await?;
    let Message::AuthenticationSaslContinue(body) = message(socket).await? else {
        return Err(io::Error::other("the login broke off"));
    };
    scram.update(body.data())?;
    out.clear();
    frontend::sasl_response(scram.message(), &mut out)?;
    wire::write(socket, &out).await?;
    match message(socket).await? {
        Message::AuthenticationSaslFinal(body) => scram.finish(body.data())?,
        Message::ErrorResponse(body) => return Err(refused(&body)),
        _ => return Err(io::Error::other("the login broke off")),
    }
    accepted(socket).await
}

async fn accepted(socket: &mut Box<dyn Socket>) -> io::Result<()> {
    match message(socket).await? {
        Message::AuthenticationOk => Ok(()),
        Message::ErrorResponse(body) => Err(refused(&body)),
        _ => Err(io::Error::other("the login broke off")),
    }
}

fn refused(body: &postgres_protocol::message::backend::ErrorResponseBody) -> io::Error {
    let message = body
        .fields()
        .filter(|field| Ok(field.type_() == b'M'))
        .next()
        .ok()
        .flatten()
        .map(|field| String::from_utf8_lossy(field.value_bytes()).into_owned());
    io::Error::other(message.unwrap_or_else(|| "it refused us".to_owned()))
}

/// Settings, the key to cancel with, and that it is ready: as they come.
async fn greeting(socket: &mut Box<dyn Socket>) -> io::Result<Bytes> {
    let mut greeting = BytesMut::new();
    loop {
        let frame = next(socket).await?;
        if frame.kind == b'E' {
            let mut bytes = BytesMut::from(&wire::frame(frame.kind, &frame.body)[..]);
            if let Some(Message::ErrorResponse(body)) = Message::parse(&mut bytes)? {
                return Err(refused(&body));
            }
        }
        greeting.extend_from_slice(&wire::frame(frame.kind, &frame.body));
        if frame.kind == b'Z' {
            return Ok(greeting.freeze());
        }
    }
}
