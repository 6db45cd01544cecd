//! A service as a process of this machine: its names for hosts, ports and folders are ours.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rand::RngExt;
use rustix::process::{Pid, Signal, geteuid, kill_process};

use super::compose::{Compose, Service};
use super::image::Image;

/// The unprivileged user that stands for the image's: PostgreSQL refuses root.
const NOBODY: u32 = 65534;

/// Everything below one folder.
pub(super) struct Host<'a> {
    folder: &'a Path,
    compose: &'a Compose,
    image: &'a Image,
    ports: BTreeMap<String, (u16, u16)>,
    running: BTreeMap<String, Child>,
}

impl<'a> Host<'a> {
    pub(super) fn new(folder: &'a Path, compose: &'a Compose, image: &'a Image) -> Self {
        // Held until each has its own.
        let held: Vec<_> = compose
            .services
            .iter()
            .map(|(name, service)| {
                let (listener, ours) = free_port();
                let inside = if service.entrypoint.is_some() {
                    5432
                } else {
                    4000
                };
                (name.clone(), (inside, ours), listener)
            })
            .collect();
        let ports = held
            .into_iter()
            .map(|(name, ports, _)| (name, ports))
            .collect();
        let host = Self {
            folder,
            compose,
            image,
            ports,
            running: BTreeMap::new(),
        };
        host.install();
        host
    }

    /// Programs where the unprivileged user reaches them.
    fn install(&self) {
        let bin = self.folder.join("bin");
        std::fs::create_dir(&bin).unwrap();
        for name in ["ballpoint", "postgres-service"] {
            let to = bin.join(name);
            std::fs::copy(self.image.file(&format!("/usr/local/bin/{name}")), &to).unwrap();
            std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    fn service(&self, name: &str) -> &'a Service {
        &self.compose.services[name]
    }

    /// The port of this machine at which a service listens.
    pub(super) fn port(&self, name: &str) -> u16 {
        self.ports[name].1
    }

    /// A path inside a service's container, on this machine.
    pub(super) fn path(&self, name: &str, inside: &str) -> PathBuf {
        self.local(name, inside).into()
    }

    /// A service's word with its hosts, ports and folders exchanged for ours.
    pub(super) fn local(&self, name: &str, word: &str) -> String {
        let mut word = word.to_owned();
        for (other, (inside, ours)) in &self.ports {
            word = word.replace(
                &format!("@{other}:{inside}/"),
                &format!("@127.0.0.1:{ours}/"),
            );
        }
        let (inside, ours) = self.ports[name];
        word = word.replace(&format!(":{inside}"), &format!(":{ours}"));
        let bin = self.folder.join("bin");
        word = word.replace("/usr/local/bin", &bin.display().to_string());
        for volume in &self.service(name).volumes {
            let (from, to) = volume.split_once(':').unwrap();
            word = word.replace(to, &self.folder.join(from).display().to_string());
        }
        word
    }

    fn command(&self, name: &str, words: &[String]) -> Command {
        let (program, arguments) = words.split_first().unwrap();
        let mut command = Command::new(self.local(name, program));
        command.args(arguments.iter().map(|argument| self.local(name, argument)));
        #[expect(
            clippy::disallowed_methods,
            reason = "the packages of the image are looked for where this machine has them"
        )]
        let path = std::env::var("PATH").unwrap();
        let bin = self.folder.join("bin");
        command
            .env_clear()
            .env("PATH", format!("{}:{path}", bin.display()))
            .env("PGPORT", self.port(name).to_string())
            .envs(
                self.service(name)
                    .environment
                    .iter()
                    .map(|(key, value)| (key.clone(), self.local(name, value))),
            )
            .current_dir(self.folder);
        if geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// Starts a service as the engine would: entry point and command, its own or the image's.
    pub(super) fn start(&mut self, name: &str) {
        let service = self.service(name);
        for volume in &service.volumes {
            let folder = self.folder.join(volume.split_once(':').unwrap().0);
            std::fs::create_dir_all(&folder).unwrap();
            if geteuid().is_root() {
                chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        let mut words = service
            .entrypoint
            .clone()
            .unwrap_or_else(|| self.image.entrypoint.clone());
        words.extend(
            service
                .command
                .clone()
                .unwrap_or_else(|| self.image.command.clone()),
        );
        let log = std::fs::File::create(self.folder.join(format!("{name}.log"))).unwrap();
        let child = self
            .command(name, &words)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{words:?}: {error}"));
        self.running.insert(name.to_owned(), child);
    }

    /// Runs a service's health check once.
    pub(super) fn is_healthy(&self, name: &str) -> bool {
        let check = &self.service(name).healthcheck.as_ref().unwrap().test;
        assert_eq!(check[0], "CMD", "{name}");
        // A process that has ended has no program any more, waited for or not.
        let pid = self.running[name].id();
        assert!(
            Path::new(&format!("/proc/{pid}/exe")).exists(),
            "{name} has ended: {}",
            std::fs::read_to_string(self.folder.join(format!("{name}.log"))).unwrap()
        );
        self.command(name, &check[1..])
            .output()
            .is_ok_and(|output| output.status.success())
    }

    /// The service's own stop signal; its exit code.
    pub(super) fn stop(&mut self, name: &str) -> Option<i32> {
        let mut child = self.running.remove(name)?;
        let signal = match self.service(name).stop_signal.as_deref() {
            Some("SIGINT") => Signal::INT,
            None => Signal::TERM,
            Some(other) => panic!("{name}: {other}"),
        };
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        child.wait().unwrap().code()
    }
}

/// Below the ports that the system gives to connections: nobody takes it before the service does.
fn free_port() -> (TcpListener, u16) {
    loop {
        let port = rand::rng().random_range(20_000..32_000);
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return (listener, port);
        }
    }
}

impl Drop for Host<'_> {
    fn drop(&mut self) {
        let names: Vec<String> = self.running.keys().cloned().collect();
        for name in names {
            self.stop(&name);
        }
    }
}
