//! Whom PostgreSQL runs as. It refuses to run as root, so root drops to an unprivileged user.

use std::{
    fs::{self, Metadata},
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::Path,
    process::Command,
};

use super::ClusterError;

/// The user that owns PGDATA and runs the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerUser {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) name: String,
}

impl ServerUser {
    /// The user to drop to; `None` when this process is not root and PostgreSQL runs as we do.
    ///
    /// An existing PGDATA keeps its owner: a `postgres` account that was installed later changes nothing.
    pub(super) fn choose(pg: &Path) -> Result<Option<Self>, ClusterError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        if let Ok(metadata) = fs::metadata(pg)
            && metadata.uid() != 0
        {
            let (uid, gid) = (metadata.uid(), metadata.gid());
            return Ok(Some(Self {
                uid,
                gid,
                name: format!("with id {uid}"),
            }));
        }
        // initdb looks its user up by id, so the account must exist: one from /etc/passwd.
        let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let user =
            find_account(&accounts, "postgres").or_else(|| find_account(&accounts, "nobody"));
        user.map(Some).ok_or(ClusterError::NoUnprivilegedUser)
    }

    /// Makes `command` run as this user, with no supplementary groups (as std does for a root parent).
    pub(super) fn apply(&self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    pub(super) fn own(&self, path: &Path) -> Result<(), ClusterError> {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
            .map_err(|error| ClusterError::data_dir(path, error))
    }

    /// Whether the directory's mode lets this user pass through it.
    pub(super) fn may_enter(&self, directory: &Metadata) -> bool {
        let needed = if directory.uid() == self.uid {
            0o100
        } else if directory.gid() == self.gid {
            0o010
        } else {
            0o001
        };
        directory.mode() & needed != 0
    }
}

fn find_account(passwd: &str, name: &str) -> Option<ServerUser> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let uid = parse_id(fields.nth(1)?)?;
        let gid = parse_id(fields.next()?)?;
        (uid != 0).then(|| ServerUser {
            uid,
            gid,
            name: name.to_owned(),
        })
    })
}

/// macOS writes `nobody` as -2.
fn parse_id(text: &str) -> Option<u32> {
    text.parse::<u32>()
        .ok()
        .or_else(|| text.parse::<i32>().ok().map(i32::cast_unsigned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_their_whole_name() {
        let passwd =
            "postgresql:x:9:9::/:/bin/sh\npostgres:x:101:104:P,,,:/:/bin/bash\nroot:x:0:0:::\n";
        let user = find_account(passwd, "postgres").unwrap();
        assert_eq!((user.uid, user.gid), (101, 104));
        assert_eq!(find_account(passwd, "nobody"), None);
        assert_eq!(find_account(passwd, "root"), None, "never root");
        let mac = find_account("nobody:*:-2:-2:Unprivileged User:/var/empty:/x", "nobody").unwrap();
        assert_eq!(mac.uid, u32::MAX - 1);
    }
}
