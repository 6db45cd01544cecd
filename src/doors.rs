//! Which keys open this project's doors: the data dir's token, the configured ones, signed claims.

use std::net::SocketAddr;

use ballpoint_runtime::clock::Clock;
use ballpoint_web::{Doors, JwtKey, Keys, Pace, Role};

use crate::config::{Project, RoleName};

/// The doors of a server at `listen`; without a `token` whoever reaches it is the owner.
pub(crate) fn doors(
    project: &Project,
    listen: SocketAddr,
    token: Option<&str>,
    clock: &Clock,
) -> Doors {
    let auth = &project.config.auth;
    let mut keys = token.map_or_else(Keys::none, Keys::owner);
    for (name, configured) in &auth.tokens {
        keys = keys.with_token(name, role(configured.role), &configured.token.0);
    }
    if let Some(secret) = &auth.jwt_secret {
        let clock = clock.clone();
        let now = move || clock.real_now();
        keys = keys.with_jwt(JwtKey::new(&secret.0, &auth.groups_claim, now));
    }
    let pace = Pace::new(auth.requests_per_second);
    Doors::new(listen, keys, pace, &project.config.server.allowed_origins)
}

fn role(name: RoleName) -> Role {
    match name {
        RoleName::Viewer => Role::Viewer,
        RoleName::Operator => Role::Operator,
        RoleName::Admin => Role::Admin,
    }
}
