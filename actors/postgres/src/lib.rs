//! Everything that touches PostgreSQL itself: the embedded cluster, pools, COPY streams and quoting.
//!
//! Reading order: [`ident`] (names into SQL), [`pool`] (connections), [`copy`] (rows as bytes),
//! [`dependents`] (views around a swap), [`roles`] (who may only read), [`lock`] (one owner per data
//! dir), [`cluster`] (Ballpoint's own PostgreSQL). Depends on no other crate of ours.

pub mod cluster;
pub mod copy;
pub mod dependents;
pub mod ident;
pub mod lock;
mod nodelay;
pub mod pool;
pub mod roles;
#[cfg(feature = "testing")]
pub mod testing;
