//! A connector as a child process: a group of its own, lines of bounded length, an end that comes.
//!
//! Its standard output is read as fast as its records are taken, so a slow warehouse slows the connector.
//! Its standard error, and what it logs, go into a file of bounded size.

use std::collections::VecDeque;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStdout, Command};

use super::log::Log;

/// No record is longer than PostgreSQL's values may be; this many are plenty, and bounded.
const LINE_BYTES_MAX: usize = 64 << 20;
const READ_BYTES: usize = 64 * 1024;
/// Of standard error, for messages.
const TAIL_LINES: usize = 8;
/// A connector that is asked to end has this long before it is made to.
const TERM_PATIENCE: Duration = Duration::from_secs(5);
/// Once it has ended, what it started may hold its output open for this long.
const LINGER: Duration = Duration::from_secs(2);

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) program: String,
    pub(crate) arguments: Vec<String>,
    pub(crate) folder: std::path::PathBuf,
    /// Stops the container, where it is one: the group is only its client's.
    pub(crate) stop: Option<Vec<String>>,
}

/// Why a connector's output cannot be read on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    #[error("{program} cannot be started: {error}")]
    Start {
        program: String,
        error: std::io::Error,
    },
    #[error("it wrote nothing for {} s and was stopped; `stall_timeout` says how long it may", .0.as_secs())]
    Stalled(Duration),
    #[error("it wrote {} MiB without the end of a line and was stopped", LINE_BYTES_MAX >> 20)]
    LineTooLong,
    #[error("its output cannot be read: {0}")]
    Read(std::io::Error),
}

/// A running connector; dropped, it is killed with everything that it started.
pub(crate) struct Process {
    child: Child,
    group: Option<Pid>,
    lines: Lines<ChildStdout>,
    status: Option<ExitStatus>,
    tail: Arc<Mutex<VecDeque<String>>>,
    errors: tokio::task::JoinHandle<()>,
    stop: Option<Vec<String>>,
}

impl Process {
    pub(crate) fn start(launch: &Launch, log: &Arc<Log>) -> Result<Self, ProcessError> {
        let mut command = Command::new(&launch.program);
        command
            .args(&launch.arguments)
            .current_dir(&launch.folder)
            // Python keeps what it writes to a pipe to itself for long.
            .env("PYTHONUNBUFFERED", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| ProcessError::Start {
            program: launch.program.clone(),
            error,
        })?;
        let group = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        let stdout = child.stdout.take().expect("piped above");
        let stderr = child.stderr.take().expect("piped above");
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        let errors = tokio::spawn(keep_errors(stderr, Arc::clone(log), Arc::clone(&tail)));
        Ok(Self {
            child,
            group,
            lines: Lines::new(stdout, LINE_BYTES_MAX),
            status: None,
            tail,
            errors,
            stop: launch.stop.clone(),
        })
    }

    /// The next line of its output, without its end; `None` at the end. It may take `patience` for it.
    pub(crate) async fn next_line(
        &mut self,
        patience: Duration,
    ) -> Result<Option<Bytes>, ProcessError> {
        loop {
            let limit = match self.status {
                None => patience,
                Some(_) => LINGER,
            };
            tokio::select! {
                biased;
                read = tokio::time::timeout(limit, self.lines.next()) => return match read {
                    Ok(read) => read,
                    Err(_) if self.status.is_some() => Ok(None),
                    Err(_) => Err(ProcessError::Stalled(patience)),
                },
                status = self.child.wait(), if self.status.is_none() => {
                    self.status = Some(status.map_err(ProcessError::Read)?);
                }
            }
        }
    }

    /// Waits for its end, which comes: asked first, made to then. What it said last comes with it.
    pub(crate) async fn end(mut self) -> (Option<ExitStatus>, String) {
        if self.status.is_none() {
            self.status = match tokio::time::timeout(TERM_PATIENCE, self.child.wait()).await {
                Ok(status) => status.ok(),
                Err(_) => self.terminate().await,
            };
        }
        self.kill(Signal::KILL);
        let _ = tokio::time::timeout(LINGER, &mut self.errors).await;
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let said: Vec<&str> = tail.iter().map(String::as_str).collect();
        (self.status, said.join("; "))
    }

    async fn terminate(&mut self) -> Option<ExitStatus> {
        self.kill(Signal::TERM);
        if let Ok(status) = tokio::time::timeout(TERM_PATIENCE, self.child.wait()).await {
            return status.ok();
        }
        self.kill(Signal::KILL);
        self.child.wait().await.ok()
    }

    fn kill(&self, signal: Signal) {
        if let Some(group) = self.group {
            // It may be gone already.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.errors.abort();
        self.kill(Signal::KILL);
        if let Some((program, arguments)) = self.stop.as_deref().and_then(<[String]>::split_first)
            && self.status.is_none()
        {
            let _ = std::process::Command::new(program)
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
        }
    }
}

async fn keep_errors(
    from: impl AsyncRead + Unpin,
    log: Arc<Log>,
    tail: Arc<Mutex<VecDeque<String>>>,
) {
    let mut lines = Lines::new(from, LINE_BYTES_MAX);
    while let Ok(Some(line)) = lines.next().await {
        let line = log.write(&String::from_utf8_lossy(&line));
        if line.is_empty() {
            continue;
        }
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(line);
    }
}

/// Lines of bounded length. A dropped read loses nothing.
struct Lines<R> {
    from: R,
    buffer: BytesMut,
    /// So many bytes of the buffer are known to hold no end of a line.
    seen: usize,
    bytes_max: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    fn new(from: R, bytes_max: usize) -> Self {
        Self {
            from,
            buffer: BytesMut::new(),
            seen: 0,
            bytes_max,
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, ProcessError> {
        loop {
            let end = self.buffer[self.seen..].iter().position(|b| *b == b'\n');
            if let Some(end) = end {
                let line = self.buffer.split_to(self.seen + end + 1).freeze();
                self.seen = 0;
                return Ok(Some(line.slice(..line.len() - 1)));
            }
            self.seen = self.buffer.len();
            if self.seen > self.bytes_max {
                return Err(ProcessError::LineTooLong);
            }
            self.buffer.reserve(READ_BYTES);
            let read = self.from.read_buf(&mut self.buffer).await;
            if read.map_err(ProcessError::Read)? == 0 {
                self.seen = 0;
                let rest = self.buffer.split().freeze();
                return Ok((!rest.is_empty()).then_some(rest));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn lines_come_whole_and_one_without_end_is_refused() {
        let mut lines = Lines::new(&b"one\n\ntwo\nrest"[..], 100);
        let mut read = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            read.push(String::from_utf8(line.to_vec()).unwrap());
        }
        assert_eq!(read, ["one", "", "two", "rest"]);
        let mut lines = Lines::new(tokio::io::repeat(b'x'), 1000);
        assert!(matches!(lines.next().await, Err(ProcessError::LineTooLong)));
    }
}
