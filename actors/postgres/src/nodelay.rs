//! No segment waits for the acknowledgement of the one before it.
//!
//! sqlx 0.9.0 leaves Nagle's algorithm on (transact-rs/sqlx#4335; mended after that release), and offers
//! no way to its sockets. Whatever is written in two parts, as the rows of a COPY and their end are, then
//! waits until the server's delayed acknowledgement: 40 ms for each copy, on any network. So the option is
//! set from beside, on a duplicate of each TCP socket that this process has open. To be deleted with the
//! first release of sqlx that sets it.

/// Sets `TCP_NODELAY` on every TCP socket of this process; to be called after one was connected. Where
/// the system offers no duplicates (Linux before 5.6, a strict container, another system) nothing
/// happens: connections are slower, not wrong.
pub(crate) fn ensure() {
    #[cfg(target_os = "linux")]
    if let Err(error) = linux::ensure() {
        static SAID: std::sync::Once = std::sync::Once::new();
        SAID.call_once(|| {
            tracing::debug!(%error, "TCP_NODELAY cannot be set: each copy takes 40 ms more");
        });
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::os::fd::{AsFd, BorrowedFd, RawFd};

    use rustix::net::sockopt;
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

    pub(super) fn ensure() -> io::Result<()> {
        let this = pidfd_open(getpid(), PidfdFlags::empty())?;
        for entry in std::fs::read_dir("/proc/self/fd")?.flatten() {
            let number = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            // Sockets alone: to close a duplicate of a file would drop the process's locks on it.
            let is_socket = || {
                let opened = std::fs::read_link(entry.path());
                opened.is_ok_and(|what| what.to_string_lossy().starts_with("socket:"))
            };
            if let Some(number) = number.filter(|_| is_socket()) {
                set(this.as_fd(), number)?;
            }
        }
        Ok(())
    }

    fn set(this: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
        let socket = match pidfd_getfd(this, number, PidfdGetfdFlags::empty()) {
            Ok(socket) => socket,
            // Closed meanwhile.
            Err(rustix::io::Errno::BADF) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        // Others than TCP's do not know the option.
        if let Ok(false) = sockopt::tcp_nodelay(&socket) {
            let _ = sockopt::set_tcp_nodelay(&socket, true);
        }
        Ok(())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn sockets_that_are_open_do_not_wait() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(!stream.nodelay().unwrap());
        super::ensure();
        assert!(stream.nodelay().unwrap());
    }
}
