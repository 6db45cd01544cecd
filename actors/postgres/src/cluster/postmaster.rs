//! The server as a process: `initdb`, start, `postmaster.pid`, stop.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    net::TcpListener,
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitOptions, kill_process, test_kill_process, waitpid},
};

use super::{ClusterError, binaries::Binaries, data_dir::Layout, server_user::ServerUser};

/// Recovery after a crash replays the log first; longer than this and something is wrong.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(120);
/// A fast shutdown writes a checkpoint; after this it is made immediate (and recovered at the next start).
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(3);
/// A log that has grown beyond this is set aside at the next start.
const LOG_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Variables that would point the programs at another server or change their messages.
const FOREIGN_VARIABLES: [&str; 12] = [
    "PGDATA",
    "PGHOST",
    "PGHOSTADDR",
    "PGPORT",
    "PGUSER",
    "PGDATABASE",
    "PGPASSWORD",
    "PGPASSFILE",
    "PGOPTIONS",
    "PGSERVICE",
    "PGSSLMODE",
    "PGTZ",
];

/// A `-c name=value` of the server.
pub(super) type Setting = (String, String);

/// What `postmaster.pid` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PidFile {
    pub(super) pid: Pid,
    pub(super) port: u16,
    pub(super) ready: bool,
}

impl PidFile {
    pub(super) fn read(pg: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(pg.join("postmaster.pid")).ok()?)
    }

    /// Lines: pid, data directory, start time, port, socket directory, address, shared memory, status.
    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let pid = lines.first()?.parse().ok().filter(|pid| *pid > 0)?;
        Some(Self {
            pid: Pid::from_raw(pid)?,
            port: lines.get(3)?.parse().ok()?,
            ready: lines.get(7) == Some(&"ready"),
        })
    }
}

/// Runs initdb into `pg.new.<pid>`. Making that durable and renaming it to `pg` is left to the caller.
pub(super) async fn initdb(
    binaries: &Binaries,
    layout: &Layout,
    user: Option<&ServerUser>,
) -> Result<(), ClusterError> {
    let output = run_initdb(binaries, layout, user, "C.UTF-8").await?;
    if output.status.success() {
        return Ok(());
    }
    let mut reason = reason_in(&String::from_utf8_lossy(&output.stderr));
    // Not every system knows C.UTF-8; C with the encoding UTF8 sorts the same.
    if reason.contains("locale") {
        let output = run_initdb(binaries, layout, user, "C").await?;
        if output.status.success() {
            return Ok(());
        }
        reason = reason_in(&String::from_utf8_lossy(&output.stderr));
    }
    Err(ClusterError::Initdb { reason })
}

/// Makes what is in `dir` durable. One call for the whole file system takes a tenth of initdb's own thousand
/// fsyncs while the disk is busy (measured: 0.1-0.4 s against 1.7-2.5 s).
pub(super) async fn sync(dir: &Path) -> io::Result<()> {
    let dir = fs::File::open(dir)?;
    let sync = move || -> io::Result<()> {
        #[cfg(target_os = "linux")]
        rustix::fs::syncfs(&dir)?;
        #[cfg(not(target_os = "linux"))]
        {
            rustix::fs::sync();
            dir.sync_all()?;
        }
        Ok(())
    };
    tokio::task::spawn_blocking(sync)
        .await
        .map_err(io::Error::other)?
}

async fn run_initdb(
    binaries: &Binaries,
    layout: &Layout,
    user: Option<&ServerUser>,
    locale: &str,
) -> Result<Output, ClusterError> {
    let mut command = command_as(&binaries.initdb, user);
    command
        .arg("-D")
        .arg(layout.pg_new())
        .arg("--pwfile")
        .arg(layout.password_file());
    command.args([
        "-U",
        "postgres",
        "-A",
        "scram-sha-256",
        "-E",
        "UTF8",
        "--no-instructions",
        "--no-sync",
    ]);
    command.arg(format!("--locale={locale}"));
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let failed = |error: io::Error| ClusterError::Initdb {
        reason: error.to_string(),
    };
    command.output().await.map_err(failed)
}

fn command_as(program: &Path, user: Option<&ServerUser>) -> Command {
    let mut command = Command::new(program);
    for variable in FOREIGN_VARIABLES {
        command.env_remove(variable);
    }
    // Its own process group: Ctrl-C on our terminal is ours to handle, in our order.
    command.env("LC_ALL", "C").current_dir("/").process_group(0);
    if let Some(user) = user {
        user.apply(&mut command);
    }
    command
}

/// Starts the server and waits until it takes connections.
///
/// # Errors
/// [`ClusterError::PortTaken`] when the port is in use; [`ClusterError::Start`] with its words otherwise.
pub(super) async fn start(
    binaries: &Binaries,
    layout: &Layout,
    user: Option<&ServerUser>,
    port: u16,
    settings: &[Setting],
) -> Result<Pid, ClusterError> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        match start_once(binaries, layout, user, port, settings, deadline).await {
            // The processes of a killed server need a moment to notice.
            Err(ClusterError::Start { reason, .. })
                if reason.contains("shared memory block") && Instant::now() < deadline =>
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            result => return result,
        }
    }
}

async fn start_once(
    binaries: &Binaries,
    layout: &Layout,
    user: Option<&ServerUser>,
    port: u16,
    settings: &[Setting],
    deadline: Instant,
) -> Result<Pid, ClusterError> {
    let taken = || ClusterError::PortTaken {
        port,
        data_dir: layout.root().to_owned(),
    };
    if !is_free(port) {
        return Err(taken());
    }
    let log_path = layout.log();
    let failed = |reason: String| ClusterError::Start {
        reason,
        log: log_path.clone(),
    };
    set_large_log_aside(&log_path);
    let log = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&log_path);
    let log = log.map_err(|error| ClusterError::data_dir(&log_path, error))?;
    let log_start = log.metadata().map_or(0, |metadata| metadata.len());
    let stdout = log
        .try_clone()
        .map_err(|error| ClusterError::data_dir(&log_path, error))?;

    let mut command = command_as(&binaries.postgres, user);
    command
        .arg("-D")
        .arg(layout.pg())
        .arg("-p")
        .arg(port.to_string());
    for (name, value) in settings {
        command.arg("-c").arg(format!("{name}={value}"));
    }
    command.stdin(Stdio::null()).stdout(stdout).stderr(log);
    let mut server = command.spawn().map_err(|error| failed(error.to_string()))?;
    let pid = Pid::from_child(&server);
    loop {
        if PidFile::read(&layout.pg()).is_some_and(|file| file.pid == pid && file.ready) {
            return Ok(pid);
        }
        if let Some(status) = ended(&mut server) {
            let words = read_from(&log_path, log_start);
            if words.contains("Address already in use") {
                return Err(taken());
            }
            let reason = reason_in(&words);
            return Err(failed(if reason.is_empty() { status } else { reason }));
        }
        if Instant::now() > deadline {
            return Err(failed(format!(
                "not ready after {} s",
                START_TIMEOUT.as_secs()
            )));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn ended(server: &mut Child) -> Option<String> {
    match server.try_wait() {
        Ok(None) => None,
        Ok(Some(status)) => Some(status.to_string()),
        Err(error) => Some(error.to_string()),
    }
}

fn set_large_log_aside(log: &Path) {
    if fs::metadata(log).is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX) {
        // Losing an old log is no reason not to start.
        let _ = fs::rename(log, log.with_extension("log.1"));
    }
}

fn read_from(path: &Path, offset: u64) -> String {
    let read = || -> io::Result<String> {
        let mut file = fs::File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(1 << 20).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_default()
}

/// The line that says why: the last `FATAL` or `error`, else the last one.
fn reason_in(words: &str) -> String {
    let marks = ["FATAL:", "PANIC:", "error:"];
    let marked = words.lines().rev().find_map(|line| {
        marks
            .iter()
            .find_map(|mark| line.split_once(mark).map(|(_, reason)| reason))
    });
    marked
        .or_else(|| words.lines().last())
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// Whether a server could listen on the port now.
pub(super) fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// Whether the process exists. A child of ours that has ended is reaped first: PostgreSQL would take the
/// zombie for a running server.
pub(super) fn is_alive(pid: Pid) -> bool {
    // ECHILD: not our child, and init reaps it.
    let _ = waitpid(Some(pid), WaitOptions::NOHANG);
    match test_kill_process(pid) {
        Ok(()) => true,
        Err(error) => error == Errno::PERM,
    }
}

/// Whether the process is positively something else than a server: its number was used again after a crash
/// (common in containers, where numbers start over). Unknown where there is no `/proc`.
pub(super) fn is_another_program(pid: Pid) -> bool {
    let comm = fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero()));
    comm.is_ok_and(|comm| comm.trim_end() != "postgres")
}

/// Stops the server: fast (clients are disconnected, a checkpoint is written), in the end immediate.
pub(super) async fn stop(pid: Pid) -> Result<(), ClusterError> {
    for signal in [Signal::INT, Signal::QUIT] {
        match kill_process(pid, signal) {
            Ok(()) => {}
            Err(Errno::SRCH) => return Ok(()),
            Err(error) => return Err(not_stopped(pid, error.to_string())),
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            if !is_alive(pid) {
                return Ok(());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
    Err(not_stopped(
        pid,
        format!("still there after {} s", 2 * STOP_TIMEOUT.as_secs()),
    ))
}

fn not_stopped(pid: Pid, reason: String) -> ClusterError {
    ClusterError::Stop {
        pid: pid.as_raw_nonzero().get(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_is_read_while_it_is_being_written() {
        let text = "4711\n/data/pg\n1790000000\n25001\n\n127.0.0.1\n  1234  5\nready   \n";
        let file = PidFile::parse(text).unwrap();
        assert_eq!((file.port, file.ready), (25001, true));
        assert!(
            !PidFile::parse(text.rsplit_once("ready").unwrap().0)
                .unwrap()
                .ready
        );
        assert_eq!(PidFile::parse("4711\n/data"), None);
        assert_eq!(PidFile::parse(""), None);
    }

    #[test]
    fn the_reason_is_the_last_fatal_line() {
        let log = "2026 [1] LOG:  starting\n2026 [1] FATAL:  data directory is odd\n2026 [1] LOG:  shut down\n";
        assert_eq!(reason_in(log), "data directory is odd");
        assert_eq!(reason_in("just this"), "just this");
        assert_eq!(reason_in(""), "");
    }
}
